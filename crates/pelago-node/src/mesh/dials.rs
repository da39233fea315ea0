//! Keeps a link with every other node: the loop that knows whom to dial.
//!
//! Every node dials every other, and whichever connection came first stays. Two sockets a node: lanes cannot overtake
//! bytes that are already in a socket's buffer, and consensus must not wait behind them.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::Duration,
};

use pelago_core::{
    link::{Ended, Goodbye, Refusal, Role},
    record,
};
use pelago_net::{Dial, Links, State};
use tokio::{runtime, sync::watch, task::AbortHandle};

use crate::{gossip, view};

/// How often addresses that could not be resolved are tried again.
const RESOLVE_AGAIN: Duration = Duration::from_secs(2);

/// Dials the nodes that were named at the start, and those the mesh knows.
pub(crate) struct Dials {
    links: Links,
    /// `host:port`, as configured.
    known: Vec<String>,
    /// Where this node listens.
    here: SocketAddr,
    view: view::Reader,
    sights: gossip::Reader,
    consensus: runtime::Handle,
    refused: watch::Sender<Option<Ended>>,
    resolved: BTreeMap<String, SocketAddr>,
    running: BTreeMap<SocketAddr, [Running; 2]>,
}

/// One dial, which ends when nobody wants it any more.
struct Running(AbortHandle);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Dials {
    /// The dials, and where the last refusal is seen that dialling on will not mend.
    pub(crate) fn new(
        links: Links,
        known: Vec<String>,
        here: SocketAddr,
        (view, sights): (view::Reader, gossip::Reader),
        consensus: runtime::Handle,
    ) -> (Self, watch::Receiver<Option<Ended>>) {
        let (refused, seen) = watch::channel(None);
        let (resolved, running) = Default::default();
        (Self { links, known, here, view, sights, consensus, refused, resolved, running }, seen)
    }

    /// Runs until it is dropped, and the dials with it.
    pub(crate) async fn run(mut self) {
        loop {
            self.resolve().await;
            let wanted = self.wanted();
            self.running.retain(|address, _| wanted.contains(address));
            for address in wanted {
                if !self.running.contains_key(&address) {
                    let dials = [self.dial(address, Role::Main), self.dial(address, Role::Consensus)];
                    self.running.insert(address, dials);
                }
            }
            let unresolved = self.resolved.len() < self.known.len();
            tokio::select! {
                () = self.moved() => {}
                () = tokio::time::sleep(RESOLVE_AGAIN), if unresolved => {}
            }
        }
    }

    /// Resolves when there are other addresses to dial than those that are dialled.
    async fn moved(&mut self) {
        while self.running.keys().copied().eq(self.wanted()) {
            tokio::select! {
                () = self.view.changed() => {}
                () = self.sights.changed() => {}
            }
        }
    }

    async fn resolve(&mut self) {
        for known in &self.known {
            if self.resolved.contains_key(known) {
                continue;
            }
            match tokio::net::lookup_host(known).await.map(|mut found| found.next()) {
                Ok(Some(address)) => {
                    self.resolved.insert(known.clone(), address);
                }
                Ok(None) => tracing::warn!(address = known, "the name of a node to join has no address"),
                Err(error) => tracing::warn!(address = known, %error, "a node to join cannot be found"),
            }
        }
    }

    /// The addresses of all other nodes, as far as they are known. Those that were given up too: when all were stopped,
    /// somebody has to find the others.
    fn wanted(&self) -> BTreeSet<SocketAddr> {
        let (view, sights) = (self.view.get(), self.sights.get());
        let registered = view.nodes().map(|node| sights.address(node).unwrap_or(&node.mesh_address));
        // The log may not have come this far.
        let seen = sights.nodes().filter(|sight| sight.state.is_there() && view.name_of(sight.holder.node).is_none());
        let addresses = registered.chain(seen.map(|sight| sight.mesh_address.as_str()));
        let addresses = addresses.filter_map(|address| address.parse().ok());
        let mut wanted: BTreeSet<SocketAddr> = addresses.chain(self.resolved.values().copied()).collect();
        wanted.remove(&self.here);
        wanted
    }

    fn dial(&self, address: SocketAddr, role: Role) -> Running {
        let (dial, state) = Dial::new(&self.links, address, role);
        let (view, sights, listens_at) = (self.view.clone(), self.sights.clone(), address.to_string());
        let dial = dial.expecting(move || {
            let (view, sights) = (view.get(), sights.get());
            let is_there = |node: &&record::Node| sights.address(node).unwrap_or(&node.mesh_address) == listens_at;
            view.nodes().find(is_there).map(|node| node.name.clone())
        });
        let running = match role {
            Role::Consensus => self.consensus.spawn(dial.run()),
            Role::Main | Role::Client => tokio::spawn(dial.run()),
        };
        if role == Role::Main {
            // Ends with its dial.
            tokio::spawn(tell(address, state, self.refused.clone()));
        }
        Running(running.abort_handle())
    }
}

/// Tells people what becomes of a dial, each thing once.
async fn tell(address: SocketAddr, mut state: watch::Receiver<State>, refused: watch::Sender<Option<Ended>>) {
    let mut told = String::new();
    while state.changed().await.is_ok() {
        let state = state.borrow_and_update().clone();
        let text = match &state {
            State::Dialling => continue,
            State::Up(link) => {
                tracing::info!(%address, node = %link.terms().other.node_name, "a link is up");
                told.clear();
                // Those of an earlier run had still been there.
                refused.send_if_modified(|last| last.take_if(|ended| is_of_another_process(ended)).is_some());
                continue;
            }
            State::Unreachable(error) => error.to_string(),
            State::Ended(ended) if is_doubled(ended) => continue,
            State::Ended(ended) => {
                if is_for_good(ended) {
                    refused.send_replace(Some(ended.clone()));
                }
                ended.to_string()
            }
        };
        if text != told {
            tracing::warn!(%address, "no link: {text}; dialling on");
            told = text;
        }
    }
}

/// Whether both nodes had dialled, and the other connection stays.
fn is_doubled(ended: &Ended) -> bool {
    matches!(
        ended,
        Ended::RefusedHere(Refusal::Duplicate { .. })
            | Ended::RefusedThere(Refusal::Duplicate { .. })
            | Ended::ClosedHere(Goodbye::Replaced)
            | Ended::ClosedThere(Goodbye::Replaced)
    )
}

/// Why the mesh wants this run no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unwanted {
    /// The node was removed.
    Removed,
    /// Another process registered as this node later. Where it is, if that was said.
    Displaced { at: String },
}

/// Resolves once another node has refused this run because the log says that it is no more.
///
/// # Cancel safety
/// Dropping the future loses nothing.
pub(crate) async fn unwanted(refused: &mut watch::Receiver<Option<Ended>>) -> Unwanted {
    loop {
        match &*refused.borrow_and_update() {
            Some(Ended::RefusedThere(Refusal::Removed)) => return Unwanted::Removed,
            Some(Ended::RefusedThere(Refusal::OldRun { at })) => return Unwanted::Displaced { at: at.clone() },
            Some(_) | None => {}
        }
        if refused.changed().await.is_err() {
            // Nobody dials any more.
            std::future::pending::<()>().await;
        }
    }
}

/// Ends the links that are up with nodes to which there is an objection by now: when all nodes of a mesh start at once,
/// links come before the log that says who was removed. Such a node dials again, and is told why it is refused.
pub(crate) fn part_with_unwanted(links: &Links, view: &view::Reader) {
    let all = links.all();
    let unwanted = all.iter().filter(|link| view.objection(&link.terms().other).is_some());
    unwanted.for_each(|link| link.close(Goodbye::Replaced));
}

/// Resolves once the last that another node had to say was that another process runs as this node, or it was that
/// process. Not before `patience` is over: the links of an earlier run may still be there.
///
/// # Cancel safety
/// Dropping the future loses nothing.
pub(crate) async fn doubled(mut refused: watch::Receiver<Option<Ended>>, patience: Duration) {
    tokio::time::sleep(patience).await;
    if refused.wait_for(|last| last.as_ref().is_some_and(is_of_another_process)).await.is_err() {
        // Nobody dials any more.
        std::future::pending::<()>().await;
    }
}

/// Whether another process has the links of this node, or its name.
fn is_of_another_process(ended: &Ended) -> bool {
    matches!(ended, Ended::RefusedThere(Refusal::Running | Refusal::NameTaken { .. }))
}

/// Whether it would be refused again: another mesh, a name that is taken, a node or run that is no more, or no node at
/// all.
fn is_for_good(ended: &Ended) -> bool {
    match ended {
        Ended::RefusedHere(refusal) | Ended::RefusedThere(refusal) => matches!(
            refusal,
            Refusal::OtherMesh { .. }
                | Refusal::NameTaken { .. }
                | Refusal::UnknownVersion { .. }
                | Refusal::Removed
                | Refusal::Running
                | Refusal::OldRun { .. }
                | Refusal::NotTheProtocol
        ),
        Ended::Broken(_) => true,
        Ended::ClosedHere(_)
        | Ended::ClosedThere(_)
        | Ended::NoHandshake
        | Ended::Silent
        | Ended::Stuck
        | Ended::Lost => false,
    }
}
