//! What stands between clients and a node, and cuts all of them off at once.

use std::net::SocketAddr;

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::broadcast,
    task::{AbortHandle, JoinSet},
};

/// Passes everything on to one address.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    cuts: broadcast::Sender<()>,
    accepting: AbortHandle,
}

impl Proxy {
    pub(crate) async fn start(to: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it listens");
        let (cuts, _) = broadcast::channel(1);
        let cutting = cuts.clone();
        let accepting = tokio::spawn(async move {
            let mut passing = JoinSet::new();
            loop {
                let (from, _) = listener.accept().await.expect("it listens");
                passing.spawn(pass(from, to.clone(), cutting.subscribe()));
                while passing.try_join_next().is_some() {}
            }
        });
        Self { address, cuts, accepting: accepting.abort_handle() }
    }

    /// Ends every connection.
    pub(crate) fn cut(&self) {
        // There may be none.
        let _nobody = self.cuts.send(());
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn pass(mut from: TcpStream, to: String, mut cut: broadcast::Receiver<()>) {
    let Ok(mut to) = TcpStream::connect(to).await else { return };
    tokio::select! {
        _ = cut.recv() => {}
        // Either end may go first.
        _ended = copy_bidirectional(&mut from, &mut to) => {}
    }
}
