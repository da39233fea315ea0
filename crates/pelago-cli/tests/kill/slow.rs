//! Clients that read nothing of what they asked for and subscribe to.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use pelago::mesh::{Error, Subscription};
use tokio::{task::JoinSet, time::timeout};

use super::{
    mesh::{Mesh, PATIENCE},
    say,
};

const TOPIC: &str = "slow.reader";
const MESSAGE_BYTES: usize = 1 << 10;
/// 96 MiB: many times what may wait for any subscriber.
const MESSAGES: usize = 96 << 10;
/// How far whoever publishes is ahead of the one who hears all.
const AHEAD_MAX: usize = 1_000;
/// Questions whose answers are not read, and how large these are.
const QUESTIONS: usize = 64;
const ANSWER_BYTES: usize = 400 << 10;
/// How often a client gives way to its link after it has asked.
const YIELDS: usize = 100;
/// What a node may hold for the two who read nothing, in KiB.
const GROWN_KIB_MAX: u64 = 128 << 10;
/// How much of that after the first half of the messages.
const GROWN_LATER_KIB_MAX: u64 = 16 << 10;

#[tokio::test(flavor = "multi_thread")]
async fn who_reads_nothing_costs_little_slows_nobody_and_is_let_go() {
    let mesh = Mesh::start(1).await;
    let node = &mesh.nodes[0];
    let connect = async || pelago::Mesh::connect(&node.mesh_address()).await.expect("the node is there");
    let (publisher, hearing, steady) = (connect().await, connect().await, connect().await);
    let mut fast = hearing.subscribe(TOPIC).await.expect("the node is there");
    steady.ask("echo", "1", PATIENCE).await.expect("it answers");
    let without = (node.descriptors(), node.memory_kib());
    let deaf = Deaf::start(node.mesh_address());
    let mut stream = follow(node.http);

    let mut topic = publisher.recipient(&format!("#{TOPIC}")).await.expect("a topic");
    let payload = vec![b'1'; MESSAGE_BYTES];
    let (mut heard, mut most, mut early, mut slowest) = (0, 0, 0, Duration::ZERO);
    let begun = Instant::now();
    for n in 1..=MESSAGES {
        topic.tell(&payload).await.expect("there is room");
        while heard + AHEAD_MAX < n || n == MESSAGES && heard < MESSAGES {
            let published = timeout(PATIENCE, fast.next()).await.expect("it comes").expect("the node is there");
            assert_eq!(published.missed, 0, "who reads all misses nothing, after {heard}");
            heard += 1;
        }
        if n % 1_000 == 0 {
            let asked = Instant::now();
            steady.ask("echo", "1", PATIENCE).await.expect("it answers");
            slowest = slowest.max(asked.elapsed());
            most = most.max(node.memory_kib());
        }
        if n == MESSAGES / 2 {
            early = most;
        }
    }
    let took = begun.elapsed();
    let (grown, later) = (early.saturating_sub(without.1), most - early);
    say(&format!("{} KiB, {early} KiB after half, {most} KiB at most", without.1));
    assert!(grown < GROWN_KIB_MAX, "it has grown from {} KiB by {grown} KiB", without.1);
    assert!(later < GROWN_LATER_KIB_MAX, "it goes on to grow, from {early} KiB by {later} KiB");
    assert!(slowest < Duration::from_secs(1), "somebody waited for {slowest:?}");

    // The one over a link is let go: its connection is not there any more. That of HTTP stays.
    let deadline = Instant::now() + PATIENCE;
    while node.descriptors() > without.0 + 1 {
        assert!(Instant::now() < deadline, "{} descriptors, {} before", node.descriptors(), without.0);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let let_go = begun.elapsed();
    let (answered, lost) = deaf
        .wake(async || {
            topic.tell(b"again").await.expect("there is room");
        })
        .await;
    assert!(answered + lost == QUESTIONS && lost > 0, "{answered} answered, {lost} lost");

    // Who reads on hears how much it missed.
    let text = thread::spawn(move || until_missed(&mut stream)).join().expect("it is told");
    say(&format!(
        "{MESSAGES} messages of {MESSAGE_BYTES} bytes in {} ms beside two who read nothing: grown by {grown} KiB, others \
         waited {} ms at most; let go {} ms after the first; {answered} of its {QUESTIONS} questions answered; {text}",
        took.as_millis(),
        slowest.as_millis(),
        let_go.as_millis()
    ));
}

/// A client whose runtime nobody drives, so that it reads nothing until it is woken.
struct Deaf {
    wake: mpsc::Sender<()>,
    woken: thread::JoinHandle<(usize, usize)>,
    heard: tokio::sync::oneshot::Receiver<()>,
}

impl Deaf {
    fn start(address: String) -> Self {
        let (wake, waiting) = mpsc::channel();
        let (ready, is_ready) = mpsc::channel();
        let (hears, heard) = tokio::sync::oneshot::channel();
        let woken = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            let (mut asking, mut subscription) = runtime.block_on(ask_much(address));
            ready.send(()).expect("the test waits");
            waiting.recv().expect("the test wakes it");
            runtime.block_on(async {
                let (mut answered, mut lost) = (0, 0);
                while let Some(asked) = asking.join_next().await {
                    match asked.expect("it does not panic") {
                        Ok(_) => answered += 1,
                        Err(Error::Unknown | Error::Timeout { .. } | Error::Unreachable { .. }) => lost += 1,
                        Err(error) => panic!("{error}"),
                    }
                }
                // What came before it was let go; then it is told so, and goes on.
                loop {
                    match subscription.next().await {
                        Ok(published) if published.content.payload == "again" => break,
                        Ok(_) | Err(Error::Parted { .. }) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
                let _gone = hears.send(());
                (answered, lost)
            })
        });
        is_ready.recv().expect("it asks");
        Self { wake, woken, heard }
    }

    /// Lets it read on. Says how many of its questions were answered, and how many lost.
    async fn wake(self, mut publish: impl AsyncFnMut()) -> (usize, usize) {
        let Self { wake, woken, mut heard } = self;
        wake.send(()).expect("it waits");
        let deadline = Instant::now() + PATIENCE;
        while heard.try_recv().is_err() {
            assert!(Instant::now() < deadline, "it does not hear anything again");
            publish().await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        woken.join().expect("all its questions ended")
    }
}

/// Subscribes, and asks so much that most answers are not read.
async fn ask_much(address: String) -> (JoinSet<Result<(), Error>>, Subscription) {
    let mesh = pelago::Mesh::connect(&address).await.expect("the node is there");
    let subscription = mesh.subscribe(TOPIC).await.expect("the node is there");
    let question = format!("\"{}\"", "1".repeat(ANSWER_BYTES));
    mesh.ask("echo", "1", PATIENCE).await.expect("it answers");
    let mut asking = JoinSet::new();
    for _ in 0..QUESTIONS {
        let (mesh, question) = (mesh.clone(), question.clone());
        asking.spawn(async move { mesh.ask("echo", question, PATIENCE).await.map(drop) });
    }
    // They leave as far as there is room for them.
    for _ in 0..YIELDS {
        tokio::task::yield_now().await;
    }
    (asking, subscription)
}

/// Subscribes over HTTP, and reads nothing.
fn follow(node: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(node).expect("the node listens");
    let request = format!("GET /api/v1/topics/{TOPIC} HTTP/1.1\r\nhost: {node}\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("it is read");
    let mut first = [0; 12];
    stream.read_exact(&mut first).expect("it is answered");
    assert_eq!(&first, b"HTTP/1.1 200");
    stream
}

/// Reads until a message says how many before it were missed.
fn until_missed(stream: &mut TcpStream) -> String {
    stream.set_read_timeout(Some(PATIENCE)).expect("a time");
    let (mut all, mut buffer) = (Vec::new(), vec![0; 1 << 20]);
    loop {
        let read = stream.read(&mut buffer).expect("there is more");
        assert!(read > 0, "the stream ended, and nothing was missed");
        all.extend_from_slice(&buffer[..read]);
        let text = String::from_utf8_lossy(&all);
        let missed = text.split("\"missed\":").skip(1).filter_map(|rest| rest.split([',', '}']).next());
        if let Some(missed) = missed.map(str::trim).find(|missed| !missed.is_empty() && *missed != "0") {
            return format!("the one over HTTP missed {missed}");
        }
    }
}
