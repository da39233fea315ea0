//! What a client may do wrong, and what it is told.

use std::time::Duration;

use pelago_api::{
    client::{Client, Error},
    model::NewTask,
};

use crate::world::World;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_body_is_told_what_is_wrong_with_it() {
    let world = World::start().await;
    for (body, code, detail, hint) in [
        ("", "PLG-2002", "EOF", "double quotes"),
        ("{\"agent\": echo}", "PLG-2002", "line 1 column 11", "double quotes"),
        ("{\"agent\": \"echo\"} x", "PLG-2002", "trailing", "double quotes"),
        ("[]", "PLG-2003", "", "agent"),
        ("{}", "PLG-2003", "missing field `agent`", "agent, input"),
        (r#"{"agnet": "echo"}"#, "PLG-2003", "field `agnet` is unknown", "did you mean `agent`?"),
        (r#"{"agent": "echo", "colour": 1}"#, "PLG-2003", "field `colour` is unknown", "agent, input"),
        (r#"{"agent": 5}"#, "PLG-2003", "field `agent`: invalid type: integer `5`", "agent"),
        (r#"{"agent": "echo", "priority": 256}"#, "PLG-2003", "field `priority`", "priority"),
        (r#"{"agent": "echo", "priority": 10}"#, "PLG-2003", "field `priority` may not be 10", "from 0 to 9"),
        (r#"{"agent": "echo", "prompt": 5}"#, "PLG-2003", "field `prompt`", "prompt"),
        (r#"{"agent": "echo", "delay_ms": -1}"#, "PLG-2003", "field `delay_ms`", "delay_ms"),
        (r#"{"agent": "echo", "attempts_max": 0}"#, "PLG-2003", "may not be 0", "from 1 to 1000"),
        (r#"{"agent": "echo", "attempt_ms_max": 86400001}"#, "PLG-2003", "may not be 86400001", "86400000"),
        (r#"{"agent": "echo", "input": 1, "prompt": "x"}"#, "PLG-2003", "both", "one of them"),
        (r#"{"agent": "echo", "agent": "echo"}"#, "PLG-2003", "duplicate field", "agent"),
        (r#"{"agent": "e cho"}"#, "PLG-2001", "e cho", "name:key"),
        (r#"{"agent": "counter"}"#, "PLG-2008", "", "name:key"),
        (r#"{"agent": "echo:k"}"#, "PLG-2008", "", "name:key"),
    ] {
        let answer = world.post("/api/v1/tasks", body).await;
        let (found_detail, found_hint) = answer.problem(400, code);
        assert!(found_detail.contains(detail), "{body}: {found_detail}");
        assert!(found_hint.contains(hint), "{body}: {found_hint}");
    }
    let unknown = "x".repeat(100_000);
    let answer = world.post("/api/v1/tasks", &format!("{{\"{unknown}\": 1}}")).await;
    answer.problem(400, "PLG-2003");
    assert!(answer.body.len() < 1_000, "a long name comes back whole");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_query_is_told_what_is_wrong_with_it() {
    let world = World::start().await;
    let id = "0".repeat(32);
    for (target, detail, hint) in [
        (format!("/api/v1/tasks/{id}?wait=1.5s"), "1.5s", "seconds"),
        (format!("/api/v1/tasks/{id}?wait=-1"), "`wait` must be a time", "seconds"),
        (format!("/api/v1/tasks/{id}?wait=1d"), "like 30s, 500ms or 2m", "seconds"),
        (format!("/api/v1/tasks/{id}?wiat=1s"), "`wiat` is unknown", "did you mean `wait`?"),
        (format!("/api/v1/tasks/{id}?wait=1&wait=2"), "twice", "once"),
        (format!("/api/v1/tasks/{id}?wait=%FF"), "UTF-8", "%"),
        (format!("/api/v1/tasks/{id}/events?after=x"), "`after` must be a whole number", "sign"),
        ("/api/v1/tasks?state=Done".into(), "queued, running, done", "lower case"),
        ("/api/v1/tasks?agent=cart:alice".into(), "`agent` must be a name", "no key"),
        ("/api/v1/tasks?limit=0".into(), "from 1 to 1000", "next"),
        ("/api/v1/tasks?limit=1001".into(), "from 1 to 1000", "next"),
        ("/api/v1/tasks?stale=maybe".into(), "`stale` must be true or false", "true"),
        ("/api/v1/status?stale=true".into(), "unknown", "no parameters"),
    ] {
        let answer = world.get(&target, "Host: localhost\r\n").await;
        let (found_detail, found_hint) = answer.problem(400, "PLG-2009");
        assert!(found_detail.contains(detail) && found_hint.contains(hint), "{target}: {found_detail} {found_hint}");
    }
    for target in ["/api/v1/tasks?cursor=zzz", "/api/v1/agents?cursor=%20"] {
        world.get(target, "Host: localhost\r\n").await.problem(400, "PLG-2010");
    }
    let next = async |list: &str| {
        let part = world.get(list, "Host: localhost\r\n").await.json();
        part["next"].as_str().unwrap_or_else(|| panic!("{list} has another part")).to_owned()
    };
    for n in 0..2 {
        world.client.ask(&format!("counter:{n}"), "1", None, None).await.expect("it replies");
        let task = NewTask { agent: "echo".into(), ..NewTask::default() };
        world.client.enqueue(&task, None).await.expect("the agent is declared");
    }
    let (tasks, agents) = (next("/api/v1/tasks?limit=1").await, next("/api/v1/agents?limit=1").await);
    for target in [
        format!("/api/v1/agents?cursor={tasks}"),
        format!("/api/v1/tasks?cursor={agents}"),
        format!("/api/v1/agents?name=gate&cursor={agents}"),
    ] {
        world.get(&target, "Host: localhost\r\n").await.problem(400, "PLG-2010");
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_there_is_named() {
    let world = World::start().await;
    let id = "0".repeat(32);
    let here = world.client.status().await.expect("it answers").node;
    for (method, target, status, code) in [
        ("GET", "/api/v1/tasks/12", 400, "PLG-2011"),
        ("GET", "/api/v1/tasks/%FF", 400, "PLG-2001"),
        ("GET", &format!("/api/v1/tasks/{id}"), 404, "PLG-2005"),
        ("GET", &format!("/api/v1/tasks/{id}/events?wait=30s"), 404, "PLG-2005"),
        ("POST", &format!("/api/v1/tasks/{id}/cancel"), 404, "PLG-2005"),
        ("POST", &format!("/api/v1/tasks/{id}/retry"), 404, "PLG-2005"),
        ("GET", "/api/v1/agents/counter:nobody", 404, "PLG-2007"),
        ("GET", "/api/v1/agents/conter:nobody", 404, "PLG-2004"),
        ("POST", "/api/v1/agents/n9%2Fcounter:a/ask", 404, "PLG-2006"),
        ("DELETE", "/api/v1/nodes/n9", 404, "PLG-2006"),
        ("DELETE", &format!("/api/v1/nodes/{here}"), 409, "PLG-2034"),
        ("GET", "/api/v1/nodes/n9", 405, "PLG-2013"),
        ("GET", "/api/v1/agents/n1/counter:a", 404, "PLG-2012"),
        ("GET", "/", 404, "PLG-2012"),
        ("GET", "/api/v1/tasks/", 404, "PLG-2012"),
        ("DELETE", "/api/v1/tasks", 405, "PLG-2013"),
        ("GET", "/api/tasks", 405, "PLG-2013"),
    ] {
        let answer = world.request(method, target, "", "").await;
        answer.problem(status, code);
        if status == 405 {
            assert!(answer.head.contains("allow: "), "{answer:?}");
        }
    }
    let slash = world.request("GET", "/api/v1/agents/n1/counter:a", "", "").await;
    assert!(slash.problem(404, "PLG-2012").1.contains("%2F"));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_must_be_json_and_not_huge() {
    let world = World::start().await;
    let form = "Content-Type: application/x-www-form-urlencoded\r\n";
    let (detail, hint) = world.request("POST", "/api/v1/agents/echo/ask", form, "1").await.problem(415, "PLG-2015");
    assert!(detail.contains("x-www-form-urlencoded") && hint.contains("application/json"), "{detail} {hint}");
    world.request("POST", "/api/v1/agents/echo/ask", "", "1").await.problem(415, "PLG-2015");
    let charset = "Content-Type: Application/JSON; charset=utf-8\r\n";
    assert_eq!(world.request("POST", "/api/v1/agents/echo/ask", charset, "1").await.body, "1");
    world.post("/api/v1/agents/echo/ask", "{").await.problem(400, "PLG-2002");

    let largest = format!("\"{}\"", "x".repeat((512 << 10) - 2));
    assert_eq!(world.post("/api/v1/agents/echo/ask", &largest).await.body.len(), 512 << 10);
    let larger = format!("{{\"agent\": \"echo\", \"prompt\": \"{}\"}}", "x".repeat(600 << 10));
    world.post("/api/v1/tasks", &larger).await.problem(413, "PLG-2021");
    // Too large for the log itself, and just below what is read of a body.
    let nearly_all = format!("\"{}\"", "x".repeat((1020 << 10) - 2));
    for target in ["/api/v1/agents/echo/ask", "/api/v1/agents/counter:a/ask", "/api/v1/agents/counter:a/send"] {
        let (detail, _) = world.post(target, &nearly_all).await.problem(413, "PLG-2021");
        assert!(detail.contains("1044480 bytes, more than 524288"), "{target}: {detail}");
    }
    let task = format!("{{\"agent\": \"echo\", \"input\": {nearly_all}}}");
    let (detail, _) = world.post("/api/v1/tasks", &task).await.problem(413, "PLG-2021");
    assert!(detail.contains("more than 524288"), "{detail}");
    let huge = format!("\"{}\"", "x".repeat(8 << 20));
    world.post("/api/v1/tasks", &huge).await.problem(413, "PLG-2014");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idempotency_key_is_one_short_visible_text() {
    let world = World::start().await;
    let json = "Content-Type: application/json\r\n";
    for key in ["", "\"\"", &"k".repeat(256), "ü"] {
        let head = format!("{json}Idempotency-Key: {key}\r\n");
        world.request("POST", "/api/v1/agents/counter:a/ask", &head, "1").await.problem(400, "PLG-2018");
    }
    let twice = format!("{json}Idempotency-Key: a\r\nIdempotency-Key: a\r\n");
    world.request("POST", "/api/v1/agents/counter:a/ask", &twice, "1").await.problem(400, "PLG-2018");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agents_own_failure_is_told_with_its_reason() {
    let world = World::start().await;
    let (detail, _) = world.post("/api/v1/agents/counter:a/ask", "0").await.problem(422, "PLG-2024");
    assert!(detail.contains("nothing to add"), "{detail}");
    let (detail, _) = world.post("/api/v1/agents/counter:a/ask", "\"five\"").await.problem(422, "PLG-2024");
    assert!(detail.contains("does not fit"), "{detail}");
    let late = world.post("/api/v1/agents/gate:closed/ask?wait=20ms", "1").await;
    let (detail, hint) = late.problem(504, "PLG-2025");
    assert!(detail.contains("20 ms") && hint.contains("idempotency key"), "{detail} {hint}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_tells_silence_from_a_foreign_voice() {
    let nobody = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let port = nobody.local_addr().expect("it is bound").port();
    drop(nobody);
    let error = Client::new(&format!("http://127.0.0.1:{port}")).status().await.expect_err("nobody is there");
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
    assert_eq!(error.into_problem().code, "PLG-2031");

    let foreign =
        crate::guarded::answering("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello").await;
    let error = Client::new(&format!("http://{foreign}")).status().await.expect_err("that is no node");
    assert!(matches!(error, Error::BadAnswer { status: 200, .. }), "{error:?}");

    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let address = silent.local_addr().expect("it is bound");
    let broken = tokio::spawn(async move { drop(silent.accept().await.expect("the client comes").0) });
    let error = Client::new(&format!("http://{address}")).status().await.expect_err("it hung up");
    assert!(matches!(error, Error::NoAnswer { .. }), "{error:?}");
    tokio::time::timeout(Duration::from_secs(5), broken).await.expect("it hung up").expect("without a panic");
}
