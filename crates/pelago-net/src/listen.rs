//! Takes the connections that other nodes dial.

use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::{driver, links::Links};

/// How long to wait when the process has no file descriptors left: others have to close first.
const PAUSE: Duration = Duration::from_millis(100);

/// Takes connections for a node.
#[derive(Debug)]
pub struct Listener {
    links: Links,
    listener: TcpListener,
    address: SocketAddr,
}

/// Why a node does not listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Beyond loopback anybody could join the mesh.
    #[error("{address} is not a loopback address: links have no TLS and no authentication yet")]
    NotLoopback {
        /// What was asked for.
        address: SocketAddr,
    },
    /// The address cannot be used.
    #[error("cannot listen at {address}")]
    Bind {
        /// What was asked for.
        address: SocketAddr,
        /// Why not.
        #[source]
        cause: io::Error,
    },
}

impl Listener {
    /// Binds `address`; connections wait until [`Self::run`].
    ///
    /// # Errors
    /// See [`ListenError`].
    ///
    /// # Cancel safety
    /// Dropped before it is done, nothing listens.
    pub async fn bind(links: &Links, address: SocketAddr) -> Result<Self, ListenError> {
        if !address.ip().is_loopback() {
            return Err(ListenError::NotLoopback { address });
        }
        let bound = async {
            let listener = TcpListener::bind(address).await?;
            let address = listener.local_addr()?;
            Ok((listener, address))
        };
        let (listener, address) = bound.await.map_err(|cause| ListenError::Bind { address, cause })?;
        Ok(Self { links: links.clone(), listener, address })
    }

    /// Where it listens, the port chosen.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes connections until the links of the node are closed.
    ///
    /// # Cancel safety
    /// It may be dropped at any time: links that are there stay.
    pub async fn run(self) {
        let mut greetings = Greetings::default();
        let take = async {
            loop {
                let stream = self.accept().await;
                let greeting = greetings.begin(self.links.config().handshakes_max);
                driver::accept(&self.links, stream, greeting);
            }
        };
        tokio::select! {
            () = self.links.stop().cancelled() => {}
            () = take => {}
        }
    }

    async fn accept(&self) -> TcpStream {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => return stream,
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be taken");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}

/// Connections that have not said who they are, oldest first. Each is there as long as somebody holds its token.
#[derive(Debug, Default)]
pub struct Greetings(VecDeque<Weak<CancellationToken>>);

impl Greetings {
    /// Begins one. If there are `greetings_max` the oldest is given up, by its token: whoever means it is done in a moment,
    /// and connections that say nothing must not keep others out.
    pub fn begin(&mut self, greetings_max: usize) -> Arc<CancellationToken> {
        self.0.retain(|greeting| greeting.strong_count() > 0);
        if self.0.len() >= greetings_max
            && let Some(oldest) = self.0.pop_front().and_then(|oldest| oldest.upgrade())
        {
            oldest.cancel();
        }
        let greeting = Arc::new(CancellationToken::new());
        self.0.push_back(Arc::downgrade(&greeting));
        greeting
    }
}
