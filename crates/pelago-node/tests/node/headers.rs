//! What messages say about themselves: it arrives with them, the urgent overtake, and what nobody wants is left out.

use std::time::Duration;

use bytes::Bytes;
use pelago_core::message::{Content, ContentType, Headers, Priority, TraceContext};
use pelago_node::{
    Handle,
    handle::{AskOptions, Error},
};
use tempfile::TempDir;

use crate::{
    several::{stop_all, three},
    world::{ask, open_gate, poll, start, stop, witnessed},
};

const WAIT: Duration = Duration::from_secs(20);

fn about() -> Headers {
    Headers {
        message_type: 7,
        content_type: Some(ContentType::new("text/plain").expect("valid")),
        priority: Priority::new(2).expect("valid"),
        within: None,
        trace: Some(TraceContext { trace: 5, span: 6, sampled: false, state: Some("a=1".into()) }),
    }
}

fn say(headers: Headers, text: &str) -> Content {
    headers.of(Bytes::from(text.to_owned()))
}

fn urgent(priority: u32, text: &str) -> Content {
    say(Headers { priority: Priority::new(priority).expect("valid"), ..Headers::default() }, text)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_message_says_about_itself_arrives_with_it_wherever_the_agent_is() {
    let (_homes, nodes) = three().await;
    let from = nodes[0].handle();
    for (n, node) in nodes.iter().enumerate() {
        for to in [format!("witness:{n}"), format!("{}/witness-here", node.handle().name())] {
            from.tell(&to, say(about(), &format!("told {n}"))).await.expect("there is room");
            from.ask(&to, say(about(), &format!("asked {n}")), WAIT.into()).await.expect("it replies");
        }
    }
    let mut heard = nodes[2].handle().subscribe("about").expect("a pattern");
    from.tell("#about", say(about(), "published")).await.expect("it is a topic");
    let published = tokio::time::timeout(WAIT, heard.next()).await.expect("it comes").expect("the node is there");
    assert_eq!(published.content, say(about(), "published"));
    let reached = from.broadcast("witness-here", say(about(), "broadcast")).await.expect("a name");
    assert_eq!(reached.agents, 3);

    poll(async || witnessed("witness").len() == 15).await;
    let seen = witnessed("witness");
    assert!(seen.iter().all(|(headers, _)| *headers == about()), "{seen:?}");
    assert_eq!(seen.iter().filter(|(_, text)| text == "broadcast").count(), 3);
    stop_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_what_waits_for_an_agent_the_more_urgent_is_handled_first() {
    let home = TempDir::new().expect("a temporary folder");
    let node = start(home.path()).await;
    for to in ["witness:a", "witness-here", "witness-pool"] {
        hold(node.handle(), to).await;
        for (priority, text) in [(4, "a"), (9, "b"), (4, "c"), (0, "d"), (3, "e")] {
            node.handle().tell(to, urgent(priority, text)).await.expect("there is room");
        }
        // What waits for its place has it, since it was told before.
        open_gate(1);
        poll(async || witnessed(to).len() == 6).await;
        let order: String = witnessed(to).into_iter().map(|(_, text)| text).collect();
        // Of a pool what was told last may run first, before the others have their place.
        assert!(order == "holddeacb" || to == "witness-pool" && order.ends_with('b'), "{to}: {order}");
    }
    stop(node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_nobody_wants_any_more_is_left_out_and_counts_as_lost() {
    let (_homes, nodes) = three().await;
    let from = nodes[0].handle();
    for (n, node) in nodes.iter().enumerate() {
        let to = format!("{}/witness-here", node.handle().name());
        hold(from, &to).await;
        let within = |within| Headers { within: Some(within), ..Headers::default() };
        from.tell(&to, say(within(Duration::ZERO), "late")).await.expect("there is room");
        from.tell(&to, say(within(WAIT), "in time")).await.expect("there is room");
        let asked = from.ask(&to, say(within(Duration::ZERO), "late"), WAIT.into()).await;
        assert!(matches!(asked, Err(Error::Timeout { .. })), "{asked:?}");
        open_gate(1);
        poll(async || witnessed("witness-here").len() == 2 * (n + 1)).await;
    }
    assert!(witnessed("witness-here").iter().all(|(_, text)| text != "late"));
    let lost: u64 = nodes.iter().map(|node| node.handle().metrics().told_lost.get()).sum();
    assert_eq!(lost, 3);
    stop_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_whose_asker_has_gone_is_not_put_any_more() {
    let (_homes, nodes) = three().await;
    let from = nodes[0].handle();
    let places = nodes.iter().map(|node| format!("{}/witness-here", node.handle().name()));
    for (n, to) in places.chain(["witness:gone".to_owned()]).enumerate() {
        hold(from, &to).await;
        let options: AskOptions = Duration::from_millis(50).into();
        let asked = from.ask(&to, Bytes::from_static(b"gone"), options).await;
        assert!(matches!(asked, Err(Error::Timeout { .. })), "{asked:?}");
        from.tell(&to, Bytes::from_static(b"after")).await.expect("there is room");
        // What is asked later arrives after the word that nobody waits any more.
        for node in &nodes {
            assert_eq!(ask(from, &format!("{}/here", node.handle().name()), "0").await, Ok("0".into()));
        }
        open_gate(1);
        poll(async || witnessed("witness").len() == 2 * (n + 1)).await;
    }
    assert!(witnessed("witness").iter().all(|(_, text)| text != "gone"));
    stop_all(nodes).await;
}

/// Has an agent hold on in a turn.
async fn hold(node: &Handle, to: &str) {
    let before = witnessed("witness").len();
    node.tell(to, Bytes::from_static(b"hold")).await.expect("there is room");
    poll(async || witnessed("witness").len() > before).await;
}
