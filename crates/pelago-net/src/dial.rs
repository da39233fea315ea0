//! Makes a link, and makes it again when it was lost.

use std::{fmt, io, net::SocketAddr, sync::Arc, time::Duration};

use pelago_core::{
    id::Name,
    link::{Dialer, Ended, Refusal, Role},
    time::Time,
};
use tokio::{
    net::TcpStream,
    sync::watch,
    time::{Instant, sleep, timeout},
};

use crate::{driver, handle::Handle, links::Links};

/// A loop that keeps a link with the node at one address.
pub struct Dial {
    links: Links,
    address: SocketAddr,
    /// Who is there, as others know.
    who: Box<dyn Fn() -> Option<Name> + Send + Sync>,
    /// Who was there.
    node: Option<Name>,
    role: Role,
    state: watch::Sender<State>,
}

/// What became of a dial.
#[derive(Debug, Clone)]
pub enum State {
    /// It has not been answered yet.
    Dialling,
    /// There is a link with the node, whoever dialled.
    Up(Handle),
    /// The address cannot be reached. It is dialled again.
    Unreachable(Arc<io::Error>),
    /// The link has ended. It is dialled again.
    Ended(Ended),
}

impl State {
    /// The link, if there is one.
    #[must_use]
    pub fn up(&self) -> Option<&Handle> {
        match self {
            Self::Up(link) => Some(link),
            Self::Dialling | Self::Unreachable(_) | Self::Ended(_) => None,
        }
    }
}

impl Dial {
    /// A loop that dials `address`, and where its state is seen.
    #[must_use]
    pub fn new(links: &Links, address: SocketAddr, role: Role) -> (Self, watch::Receiver<State>) {
        let (state, seen) = watch::channel(State::Dialling);
        (Self { links: links.clone(), address, who: Box::new(|| None), node: None, role, state }, seen)
    }

    /// From here on `who`, which must not block, is asked who is at the address: a link that the node has dialled is
    /// waited for. One dialled beside it might take its place, and what is on its way over it would be in doubt.
    #[must_use]
    pub fn expecting(self, who: impl Fn() -> Option<Name> + Send + Sync + 'static) -> Self {
        Self { who: Box::new(who), ..self }
    }

    /// Dials, and again after a pause whenever the link was lost, until the links of the node are closed. A link that
    /// the other node dialled meanwhile is as good: it is waited for.
    ///
    /// # Cancel safety
    /// Dropped, the link that it drives is lost.
    pub async fn run(mut self) {
        let stop = self.links.stop().clone();
        let started = Instant::now();
        let now = || Time::ZERO + started.elapsed();
        let mut dialer = Dialer::new(self.links.config().pauses);
        while !stop.is_cancelled() {
            let state = match self.there() {
                Some(link) => self.wait_for(&link).await,
                None => self.dial(|| dialer.up(now())).await,
            };
            self.state.send_replace(state);
            let pause = dialer.down(now(), rand::random());
            tokio::select! {
                () = stop.cancelled() => {}
                () = sleep(pause) => {}
            }
        }
    }

    /// The link that the other node dialled.
    fn there(&self) -> Option<Handle> {
        let known = [(self.who)(), self.node.clone()];
        known.iter().flatten().find_map(|node| self.links.get(node, self.role))
    }

    async fn wait_for(&self, link: &Handle) -> State {
        self.state.send_replace(State::Up(link.clone()));
        State::Ended(link.ended().await)
    }

    async fn dial(&mut self, up: impl FnOnce()) -> State {
        let handshake_max = self.links.config().link.handshake_max;
        let stream = match connect(self.address, handshake_max).await {
            Ok(stream) => stream,
            Err(error) => return State::Unreachable(Arc::new(error)),
        };
        let ended = driver::dialled(&self.links, stream, self.role, |link| {
            up();
            self.node = Some(link.terms().other.node_name.clone());
            self.state.send_replace(State::Up(link));
        });
        let ended = ended.await;
        if let Ended::RefusedHere(Refusal::Duplicate { there: other, .. })
        | Ended::RefusedThere(Refusal::Duplicate { here: other, .. }) = &ended
        {
            self.node = Some(other.clone());
        }
        State::Ended(ended)
    }
}

impl fmt::Debug for Dial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, node, role, .. } = self;
        write!(f, "Dial({address}, {role:?}, {node:?})")
    }
}

async fn connect(address: SocketAddr, max: Duration) -> io::Result<TcpStream> {
    match timeout(max, TcpStream::connect(address)).await {
        // Where nobody listens, the system may have chosen the very port that is dialled for this end: it met itself.
        Ok(Ok(stream)) if stream.local_addr()? == address => Err(io::ErrorKind::ConnectionRefused.into()),
        Ok(connected) => connected,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}
