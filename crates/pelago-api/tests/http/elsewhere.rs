//! A client of several nodes: who is asked next when one does not answer, and when nobody may be.

use pelago_api::client::{Client, Error};

use crate::{guarded::answering, world::World};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_never_sent_goes_to_the_next_node_whatever_it_is() {
    let world = World::start().await;
    let client = Client::of([nobody().await.as_str(), &url(&world)]);
    client.status().await.expect("the other answers");
    let client = Client::of([nobody().await.as_str(), &url(&world)]);
    assert_eq!(client.ask("counter:a", "1", None, None).await.expect("the other answers").json(), "1");

    let (one, other) = (nobody().await, nobody().await);
    let error = Client::of([one.as_str(), &other]).status().await.expect_err("nobody is there");
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
    for node in [one, other] {
        let told = format!("{node} (Connection refused");
        assert!(error.to_string().contains(&told), "{told} is not in: {error}");
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_may_have_taken_effect_is_asked_again_only_if_that_does_no_more() {
    let world = World::start().await;
    client_that_is_hung_up_on(&world).await.status().await.expect("a question does no more");
    let keyed = client_that_is_hung_up_on(&world).await.send("counter:a", "1", Some("k")).await;
    assert!(!keyed.expect("a key makes it count once").existing);

    let client = client_that_is_hung_up_on(&world).await;
    let error = client.send("counter:a", "1", None).await.expect_err("it might be counted twice");
    assert!(matches!(error, Error::NoAnswer { .. }), "{error:?}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_is_an_answer_and_the_node_that_gave_it_is_asked_again() {
    let world = World::start().await;
    let stranger = format!("http://{}", answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi").await);
    let client = Client::of([nobody().await.as_str(), &url(&world), &stranger]);
    for _ in 0..2 {
        let error = client.ask("nobody:a", "1", None, None).await.expect_err("there is no such agent");
        assert!(matches!(error, Error::Problem(_)), "{error:?}");
    }
    world.end().await;
}

fn url(world: &World) -> String {
    format!("http://127.0.0.1:{}", world.port)
}

/// An address where nobody listens.
async fn nobody() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    format!("http://{}", listener.local_addr().expect("it is bound"))
}

/// A client whose first node reads the request and says nothing.
async fn client_that_is_hung_up_on(world: &World) -> Client {
    Client::of([format!("http://{}", answering("").await).as_str(), &url(world)])
}
