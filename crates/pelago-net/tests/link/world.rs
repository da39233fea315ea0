//! Nodes that answer, collect or hold back what arrives, and raw connections that break the rules.

use std::{future::Future, net::SocketAddr, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use pelago_core::{
    id::{BootId, Incarnation, MeshId, Name, NodeId},
    link::{self, Bound, Control, Hello, LANE_BYTES_MIN, Lane, Pauses, PerLane, RequestId, Role, Versions, feature},
};
use pelago_net::{Ask, Config, Credit, Deliver, Dial, Handle, Held, Incoming, Links, Listener, State, Window};
use pelago_wire::{
    frame::{self, Cutter, Frame, PREFACE},
    tell::kind as tell,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::{mpsc, watch},
    task::JoinHandle,
    time::timeout,
};

/// What a frame's kind asks the tests' node to do.
pub(crate) const ECHO: u16 = 1;
pub(crate) const HOLD: u16 = 2;
pub(crate) const DROP: u16 = 3;
pub(crate) const COLLECT: u16 = 4;

const PATIENCE: Duration = Duration::from_secs(20);

/// What a node tells the test.
#[derive(Debug)]
pub(crate) enum Seen {
    Held(Ask),
    CalledOff(RequestId),
    Collected(Vec<Bytes>, Arc<Credit>),
    /// The number of a recipient, and its name.
    Bound(u64, Bytes),
    /// The number of a recipient, and what it was told.
    Told(u64, Bytes, Held),
    Gone,
}

pub(crate) struct Node {
    pub(crate) links: Links,
    pub(crate) address: SocketAddr,
    pub(crate) seen: mpsc::UnboundedReceiver<Seen>,
    pub(crate) listener: JoinHandle<()>,
}

struct Receiver {
    seen: mpsc::UnboundedSender<Seen>,
    windows: Bound<Arc<Window>>,
}

impl Deliver for Receiver {
    fn deliver(&mut self, _: Lane, batch: &mut Vec<Incoming>, credit: Credit) {
        let credit = Arc::new(credit);
        let mut collected = Vec::new();
        for Incoming { kind, number, payload, charged, ask } in batch.drain(..) {
            match (kind, ask) {
                (ECHO, Some(ask)) => echo(ask, payload),
                (HOLD, Some(ask)) => self.tell(Seen::Held(ask)),
                (COLLECT, None) => collected.push(payload),
                (tell::BIND, None) => {
                    self.windows.bind(number, |before| credit.window(number, before)).expect("numbers come in order");
                    self.tell(Seen::Bound(number, payload));
                }
                (tell::TELL, None) => {
                    let window = self.windows.get_mut(number).expect("its name came first");
                    let held = window.hold(1, charged, &credit);
                    self.tell(Seen::Told(number, payload, held));
                }
                (kind, ask) => assert!(kind == DROP && ask.is_some(), "nobody sends {kind}"),
            }
        }
        if !collected.is_empty() {
            self.tell(Seen::Collected(collected, credit));
        }
    }

    fn called_off(&mut self, _: Lane, request: RequestId) {
        self.tell(Seen::CalledOff(request));
    }
}

impl Receiver {
    fn new(seen: &mpsc::UnboundedSender<Seen>) -> Self {
        Self { seen: seen.clone(), windows: Bound::default() }
    }

    fn tell(&self, seen: Seen) {
        // A test that has ended listens no more.
        let _ = self.seen.send(seen);
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.tell(Seen::Gone);
    }
}

fn echo(ask: Ask, payload: Bytes) {
    if let Err(ask) = ask.try_reply(&payload) {
        tokio::spawn(async move { ask.reply(&payload).await });
    }
}

pub(crate) fn hello(node: &str) -> Hello {
    let boot = node.bytes().fold(0, |boot, byte| boot << 8 | u128::from(byte));
    Hello {
        versions: Versions::HERE,
        // Its own: a node of another test may dial on at an address that this test has now.
        mesh: Some(MeshId(u128::from(std::process::id()))),
        mesh_name: name("test"),
        node_name: name(node),
        node: NodeId(0),
        boot: BootId(boot),
        incarnation: Incarnation(0),
        role: Role::Main,
        features: feature::HERE,
        credit: PerLane::all(LANE_BYTES_MIN),
        requests_max: 20_000,
    }
}

pub(crate) fn name(text: &str) -> Name {
    Name::new(text).expect("a test's name is valid")
}

pub(crate) fn config() -> Config {
    Config {
        pauses: Pauses {
            first: Duration::from_millis(5),
            max: Duration::from_millis(50),
            stable_after: Duration::from_secs(60),
        },
        ..Config::default()
    }
}

pub(crate) fn impatient() -> Config {
    let link = link::Config {
        ping_after: Duration::from_millis(50),
        dead_after: Duration::from_millis(300),
        stuck_after: Duration::from_millis(300),
        handshake_max: Duration::from_millis(300),
        close_max: Duration::from_millis(300),
    };
    Config { link, ..config() }
}

impl Node {
    pub(crate) async fn start(node: &str) -> Self {
        Self::with(config(), hello(node)).await
    }

    pub(crate) async fn with(config: Config, me: Hello) -> Self {
        Self::at("127.0.0.1:0".parse().expect("an address"), config, me).await
    }

    pub(crate) async fn at(address: SocketAddr, config: Config, me: Hello) -> Self {
        let (sender, seen) = mpsc::unbounded_channel();
        let links = Links::new(config, me, move |_| Box::new(Receiver::new(&sender)));
        let listener = Listener::bind(&links, address).await.expect("loopback can be bound");
        let address = listener.address();
        Self { links, address, seen, listener: tokio::spawn(listener.run()) }
    }

    pub(crate) fn dial(&self, address: SocketAddr) -> Dialled {
        let (dial, state) = Dial::new(&self.links, address, Role::Main);
        Dialled { state, task: tokio::spawn(dial.run()) }
    }

    pub(crate) async fn link_to(&self, other: &Self) -> Handle {
        self.dial(other.address).up().await
    }

    pub(crate) async fn next(&mut self) -> Seen {
        within(self.seen.recv()).await.expect("the node is there")
    }

    pub(crate) async fn held(&mut self) -> Ask {
        match self.next().await {
            Seen::Held(ask) => ask,
            other @ (Seen::CalledOff(_) | Seen::Collected(..) | Seen::Bound(..) | Seen::Told(..) | Seen::Gone) => {
                panic!("{other:?} came first")
            }
        }
    }
}

pub(crate) struct Dialled {
    pub(crate) state: watch::Receiver<State>,
    pub(crate) task: JoinHandle<()>,
}

impl Dialled {
    pub(crate) async fn up(&mut self) -> Handle {
        let state = within(self.state.wait_for(|state| state.up().is_some())).await.expect("the dial goes on");
        state.up().expect("it was waited for").clone()
    }

    pub(crate) async fn ended(&mut self) -> link::Ended {
        let state = within(self.state.wait_for(|state| matches!(state, State::Ended(_)))).await;
        match &*state.expect("the dial goes on") {
            State::Ended(ended) => ended.clone(),
            other @ (State::Dialling | State::Up(_) | State::Unreachable(_)) => panic!("not waited for: {other:?}"),
        }
    }
}

/// Everything here ends well before this.
pub(crate) async fn within<F: Future>(future: F) -> F::Output {
    timeout(PATIENCE, future).await.expect("it takes less than the test's patience")
}

/// Looks again and again, giving way in between.
pub(crate) async fn until(mut what: impl FnMut() -> bool) {
    within(async {
        while !what() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

/// A connection without a driver.
pub(crate) struct Raw {
    pub(crate) stream: TcpStream,
    cutter: Cutter,
    received: BytesMut,
}

impl Raw {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).await.expect("somebody listens"))
    }

    pub(crate) fn over(stream: TcpStream) -> Self {
        Self { stream, cutter: Cutter::new(), received: BytesMut::new() }
    }

    /// A connection whose handshake is done.
    pub(crate) async fn greeted(address: SocketAddr, me: Hello) -> Self {
        let mut raw = Self::connect(address).await;
        raw.greet(me).await;
        let Some(Frame::Control(Control::Hello(_))) = raw.frame().await else { panic!("no hello came") };
        raw.cutter.greeted();
        raw
    }

    pub(crate) async fn greet(&mut self, me: Hello) {
        let mut bytes = BytesMut::from(&PREFACE[..]);
        frame::put_control(&mut bytes, &Control::Hello(Box::new(me)));
        self.write(&bytes).await;
    }

    pub(crate) async fn control(&mut self, control: &Control) {
        let mut bytes = BytesMut::new();
        frame::put_control(&mut bytes, control);
        self.write(&bytes).await;
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.expect("the other end is there");
    }

    /// The next frame; `None` at the end of the connection.
    pub(crate) async fn frame(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.cutter.cut(&mut self.received).expect("a node sends frames") {
                return Some(frame);
            }
            let read = within(self.stream.read_buf(&mut self.received)).await;
            if read.expect("the connection ends in order") == 0 {
                return None;
            }
        }
    }
}
