//! Conversations as HTTP shows them.

use std::time::Duration;

use serde_json::json;

use crate::world::World;

const HEAD: &str = "Host: localhost\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_listed_shown_and_ended() {
    let world = World::start().await;
    let here = world.node.handle().name().to_string();
    for (session, turns) in [("s1", 3), ("s2", 1)] {
        for seen in 0..turns {
            let target = format!("/api/v1/agents/talk/ask?session={session}&session_ttl=1h");
            let asked = world.post(&target, &format!("\"turn {seen}\"")).await;
            assert_eq!((asked.status, asked.json()), (200, json!(seen)), "{asked:?}");
        }
    }
    let keyed = world.post("/api/v1/agents/counter:a/ask?session=s1", "5").await;
    assert_eq!(keyed.json(), json!(5));

    let list = async |query: &str| world.get(&format!("/api/v1/sessions{query}"), HEAD).await.json();
    let named = |list: &serde_json::Value| -> Vec<String> {
        let items = list["items"].as_array().expect("a list");
        items.iter().map(|item| format!("{} {}", item["agent"], item["session"]).replace('"', "")).collect()
    };
    assert_eq!(named(&list("").await), ["counter:a s1", "talk s1", "talk s2"]);
    assert_eq!(named(&list("?agent=talk").await), ["talk s1", "talk s2"]);
    let first = list("?limit=2").await;
    let rest = list(&format!("?limit=2&cursor={}", first["next"].as_str().expect("there is more"))).await;
    assert_eq!((named(&first).len(), named(&rest), &rest["next"]), (2, vec!["talk s2".into()], &json!(null)));
    let item = &list("?agent=talk&stale=true").await["items"][0];
    assert_eq!((&item["node"], &item["entries"], &item["kept"]), (&json!(here), &json!(3), &json!(3)));

    let shown = world.get("/api/v1/sessions/talk/s1?after=1&limit=1", HEAD).await.json();
    let turn = &shown["items"][0];
    assert_eq!((&turn["n"], &turn["said"], &turn["replied"]), (&json!(2), &json!("turn 1"), &json!(1)));
    assert_eq!((&shown["next"], &turn["node"], &shown["entries"]), (&json!(2), &json!(here), &json!(3)));
    let rest = world.get("/api/v1/sessions/talk/s1?after=2", HEAD).await.json();
    assert_eq!((rest["items"].as_array().map(Vec::len), &rest["next"]), (Some(1), &json!(null)));

    let ended = world.request("DELETE", "/api/v1/sessions/talk/s1", "", "").await;
    assert_eq!((ended.status, ended.json()), (200, json!({ "agent": "talk", "session": "s1" })));
    world.get("/api/v1/sessions/talk/s1", HEAD).await.problem(404, "PLG-2044");
    world.request("DELETE", "/api/v1/sessions/talk/s1", "", "").await.problem(404, "PLG-2044");
    assert_eq!(named(&list("").await), ["counter:a s1", "talk s2"]);
    let anew = world.post("/api/v1/agents/talk/ask?session=s1", "1").await;
    assert_eq!(anew.json(), json!(0), "it begins anew");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_nobody_uses_within_its_time_is_not_there_any_more() {
    let world = World::start().await;
    let asked = world.post("/api/v1/agents/talk/ask?session=brief&session_ttl=1s", "1").await;
    assert_eq!(asked.status, 200, "{asked:?}");
    let gone = async {
        while world.get("/api/v1/sessions/talk/brief", HEAD).await.status == 200 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), gone).await.expect("its time is over");
    world.get("/api/v1/sessions/talk/brief", HEAD).await.problem(404, "PLG-2044");
    assert_eq!(world.get("/api/v1/sessions", HEAD).await.json()["items"], json!([]));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_makes_no_sense_of_a_session_is_refused() {
    let world = World::start().await;
    for (query, said) in [
        ("session=a%20b", "parameter `session` must be a name"),
        ("session=s&session_busy=wait", "parameter `session_busy` must be queue, reject or interrupt"),
        ("session=s&session_ttl=soon", "parameter `session_ttl` must be a time"),
        ("session=s&session_ttl=999ms", "1 s to 30 days"),
        ("session=s&session_ttl=721h", "1 s to 30 days"),
        ("session=s&affinity=a", "give a session or an affinity"),
        ("session_ttl=1h", "parameter `session` is missing"),
    ] {
        let refused = world.post(&format!("/api/v1/agents/talk/ask?{query}"), "1").await;
        let (detail, _) = refused.problem(400, "PLG-2009");
        assert!(detail.contains(said), "{query}: {detail}");
    }
    let long = world.post(&format!("/api/v1/agents/talk/ask?affinity={}", "a".repeat(257)), "1").await;
    long.problem(400, "PLG-2009");
    world.get("/api/v1/sessions/talk/a%20b", HEAD).await.problem(400, "PLG-2001");
    world.get("/api/v1/sessions/tlak/s1", HEAD).await.problem(404, "PLG-2004");
    world.get("/api/v1/sessions?cursor=zz", HEAD).await.problem(400, "PLG-2010");
    world.get("/api/v1/sessions?colour=red", HEAD).await.problem(400, "PLG-2009");
    world.end().await;
}
