//! How a node begins, step by step: its name, its links, the mesh it belongs to, and how this run of it is registered.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::Duration,
};

use pelago_core::{
    id::{BootId, DirectoryId, Holder, Incarnation, MeshId, Name, NodeId},
    link::{Ended, Hello, LANE_BYTES_MIN, PerLane, Role, Versions, feature},
    record::{Offer, Op, Outcome, Register},
};
use pelago_net::{Links, ListenError, Listener};
use pelago_store::{
    ProposeError,
    directory::{Directory, Identity},
};
use tokio::sync::{mpsc, watch};

use super::{Config, Error, LEADER_MAX};
use crate::{
    committer,
    host::Kind,
    ids,
    mesh::{self, Receiver},
    raft::{self, Consensus},
};

/// After how long a node that waits for a majority says so, and again after twice as long …
const MAJORITY_TOLD: Duration = Duration::from_secs(5);
/// … up to this.
const MAJORITY_TOLD_MAX: Duration = Duration::from_mins(5);
/// How long a node that may found a mesh looks for one first.
const MEET_MAX: Duration = Duration::from_secs(5);
/// What a link takes in each lane before any of it is consumed, in bytes.
const LANE_BYTES: u32 = 4 * LANE_BYTES_MIN;
/// How many unanswered requests a link takes in each lane.
const REQUESTS_MAX: u32 = 16_384;

/// The host's name and four letters, as far as a name may hold them.
pub(super) fn made_up_name() -> Name {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let allowed = |c: &char| c.is_ascii_alphanumeric() || *c == '-';
    let host: String = host.chars().filter(allowed).take(32).collect();
    let host = if host.is_empty() { "node".to_owned() } else { host };
    let letters: String = ids::random().to_le_bytes()[..4].iter().map(|byte| char::from(b'a' + byte % 26)).collect();
    Name::new(&format!("{host}-{letters}")).expect("made of allowed characters")
}

pub(super) fn links(
    config: &Config,
    name: &Name,
    boot: BootId,
    runtime: &raft::Runtime,
    (receiver, voice): (Receiver, raft::Receiver),
) -> Links {
    let me = Hello {
        versions: Versions::HERE,
        mesh: None,
        mesh_name: config.mesh_name.clone(),
        node_name: name.clone(),
        node: NodeId(0),
        boot,
        incarnation: Incarnation(0),
        role: Role::Main,
        features: feature::HERE,
        credit: PerLane::all(LANE_BYTES),
        requests_max: REQUESTS_MAX,
    };
    let links = pelago_net::Config {
        consensus: Some(runtime.handle().clone()),
        links_max: config.connections_max,
        packing: config.packing,
        ..pelago_net::Config::default()
    };
    Links::new(links, me, move |link| match link.terms().other.role {
        Role::Consensus => voice.deliver(link),
        Role::Main | Role::Client => receiver.of(link),
    })
}

/// Listens for links. A port that the system may choose is the one of last time, if it is free: the others look for the
/// node there.
pub(super) async fn listen(links: &Links, at: SocketAddr, last: Option<u16>) -> Result<Listener, ListenError> {
    if at.port() == 0
        && let Some(port) = last
        && let Ok(listener) = Listener::bind(links, SocketAddr::new(at.ip(), port)).await
    {
        return Ok(listener);
    }
    Listener::bind(links, at).await
}

/// From here on others know whose links these are, and refuse them if that node is no more. Before the first dial, or
/// it would be a stranger's.
pub(super) fn introduce(links: &Links, identity: &Identity) {
    links.introduce(|me| {
        me.mesh = Some(identity.mesh);
        me.node = identity.node_id.unwrap_or(NodeId(0));
    });
}

/// Makes the data directory of a new node: of the mesh that is met, or of a new one if it may found one.
pub(super) async fn make_directory(
    config: &Config,
    links: &Links,
    refused: &watch::Receiver<Option<Ended>>,
    node: Name,
) -> Result<Directory, Error> {
    let wait = if config.found { MEET_MAX } else { LEADER_MAX };
    let met = if config.known.is_empty() { None } else { mesh::mesh_of(links, refused, wait).await? };
    let (mesh, raft_id) = match met {
        Some(mesh) => (mesh, None),
        None if config.found => (MeshId(ids::random()), Some(raft::FOUNDER)),
        None if config.known.is_empty() => return Err(Error::NoMesh { path: config.directory.clone() }),
        None => {
            let (mesh, addresses) = (config.mesh_name.clone(), config.known.clone());
            return Err(mesh::JoinError::NobodyMet { mesh, addresses, after: wait }.into());
        }
    };
    let directory = DirectoryId(ids::random());
    let identity =
        Identity { mesh, directory, node, raft_id, node_id: None, log_begun: false, left: None, mesh_port: None };
    Ok(Directory::create(&config.directory, identity)?)
}

pub(super) fn registration(
    config: &Config,
    identity: &Identity,
    boot: BootId,
    mesh_address: SocketAddr,
    kinds: &[Kind],
) -> Register {
    let offers: BTreeMap<Name, Offer> = kinds.iter().map(|kind| (kind.name.clone(), kind.offer())).collect();
    Register {
        name: identity.node.clone(),
        directory: identity.directory,
        boot,
        mesh_address: mesh_address.to_string(),
        http_address: config.http_address.clone(),
        labels: config.labels.clone(),
        offers,
        node: identity.node_id,
        left: identity.left,
    }
}

/// Registers this run of the node; returns once the rows here know it. Waits for a majority as long as it takes: the
/// nodes of a mesh may start minutes apart.
pub(super) async fn register(
    consensus: &Consensus,
    committer: &committer::Handle,
    registration: Register,
    links: &Links,
) -> Result<Holder, Error> {
    let me = registration.name.clone();
    let op = Op::Register(registration);
    let mut registering = std::pin::pin!(try_to_register(consensus, committer, &op));
    let mut pause = MAJORITY_TOLD;
    loop {
        match tokio::time::timeout(pause, registering.as_mut()).await {
            Ok(registered) => return registered,
            Err(_not_yet) => tell_who_is_missing(&me, consensus, links),
        }
        pause = MAJORITY_TOLD_MAX.min(2 * pause);
    }
}

async fn try_to_register(consensus: &Consensus, committer: &committer::Handle, op: &Op) -> Result<Holder, Error> {
    loop {
        let registered = match consensus.led(LEADER_MAX).await {
            Ok(()) => committer.propose(op.clone()).await,
            Err(nobody_leads) => Err(nobody_leads),
        };
        match registered {
            Ok(Outcome::Registered { holder, .. }) => {
                if consensus.applied(holder.incarnation.0, LEADER_MAX).await {
                    return Ok(holder);
                }
            }
            Ok(Outcome::Refused(refusal)) => return Err(Error::Refused(refusal)),
            Ok(outcome) => unreachable!("a registration is answered with {outcome:?}"),
            Err(ProposeError::Stopped) => return Err(Error::ConsensusStopped("while the node started".into())),
            // Whoever was elected has not committed its first entry yet. The boot id makes it one registration.
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

fn tell_who_is_missing(me: &Name, consensus: &Consensus, links: &Links) {
    let linked = links.all().into_iter().map(|link| link.terms().other.node_name.clone());
    let there: BTreeSet<Name> = linked.chain([me.clone()]).collect();
    let mut voters = consensus.standing().voters;
    voters.retain(|voter| there.iter().all(|name| name.as_str() != voter));
    let without_link = voters.join(", ");
    tracing::warn!(without_link, "this node waits until it hears from a majority of the voters, and who leads them");
}

/// Awaits `future` while entries of before are applied: what they say is read from the rows afterwards.
pub(super) async fn while_discarding<T>(told: &mut mpsc::Receiver<raft::Told>, future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    loop {
        tokio::select! {
            biased;
            done = &mut future => return done,
            Some(_told_by_the_rows) = told.recv() => {}
        }
    }
}
