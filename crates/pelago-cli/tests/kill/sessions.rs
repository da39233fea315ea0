//! A conversation outlives the node that it was on.

use pelago_api::client::AskQuery;

use super::{
    mesh::{Mesh, PATIENCE},
    say,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_session_goes_on_with_its_whole_history_when_its_node_is_killed() {
    let mut mesh = Mesh::start(3).await;
    let said = ["\"one\"", "\"two\"", "\"three\"", "\"four\""];
    let within = AskQuery { session: Some("talk".into()), wait: Some(PATIENCE), ..AskQuery::default() };
    for (heard, text) in (1..).zip(&said[..3]) {
        let client = mesh.nodes[heard % 3].client();
        let reply = client.ask_as("chat", *text, &within).await.expect("it answers");
        assert_eq!(reply.json(), format!("{{\"heard\":{heard},\"first\":\"one\"}}"));
    }
    let before = mesh.nodes[0].client().session("chat", "talk", 0, 10).await.expect("it is there").items;
    assert!(before.iter().all(|turn| turn.node == before[0].node), "it is on one node: {before:?}");
    let place = mesh.nodes.iter().position(|node| node.name == before[0].node).expect("it is one of them");
    mesh.kill(place);
    let client = mesh.nodes[(place + 1) % 3].client();
    let reply = client.ask_as("chat", said[3], &within).await.expect("another node answers");
    assert_eq!(reply.json(), r#"{"heard":4,"first":"one"}"#);
    let after = client.session("chat", "talk", 0, 10).await.expect("it is there").items;
    assert_eq!(after.iter().map(|turn| turn.said.json()).collect::<Vec<_>>(), said);
    assert_eq!(after[..3], before);
    assert_ne!(after[3].node, before[0].node);
    say(&format!("a session of {} was killed there and went on at {}", before[0].node, after[3].node));
}
