//! Takes connections off a listener, whatever the system says meanwhile.

use std::{io, time::Duration};

use tokio::net::{TcpListener, TcpStream};

/// The pause after the system refuses a connection (out of file descriptors, mostly).
const REFUSED_PAUSE: Duration = Duration::from_millis(100);
/// After so many refusals in a row the listener is broken.
const REFUSALS_MAX: u32 = 100;

/// A listener that outlives what is wrong with a single connection.
pub(crate) struct Acceptor {
    listener: TcpListener,
    refusals: u32,
}

impl Acceptor {
    pub(crate) fn new(listener: TcpListener) -> Self {
        Self { listener, refusals: 0 }
    }

    /// The next connection. Cancel safe: one that is not returned was not taken.
    ///
    /// # Errors
    /// When the listener is broken.
    pub(crate) async fn next(&mut self) -> io::Result<TcpStream> {
        loop {
            match self.listener.accept().await {
                Ok((stream, _from)) => {
                    self.refusals = 0;
                    return Ok(stream);
                }
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => self.refused(error).await?,
            }
        }
    }

    async fn refused(&mut self, error: io::Error) -> io::Result<()> {
        self.refusals += 1;
        if self.refusals == 1 {
            tracing::warn!(%error, "connections are refused by the system");
        }
        if self.refusals > REFUSALS_MAX {
            return Err(error);
        }
        tokio::time::sleep(REFUSED_PAUSE).await;
        Ok(())
    }
}

/// The client was gone before it was let in.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    [ConnectionAborted, ConnectionRefused, ConnectionReset].contains(&error.kind())
}
