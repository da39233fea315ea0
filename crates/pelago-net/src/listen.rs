//! Takes the connections that other nodes dial.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};

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
        let passes = Arc::new(Semaphore::new(self.links.config().handshakes_max));
        let take = async {
            loop {
                let pass = passes.clone().acquire_owned().await.expect("the passes are never closed");
                driver::accept(&self.links, self.accept().await, pass);
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
