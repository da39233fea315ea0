//! All links of a node: who it is, whom it has links with, and whom their frames go to.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use pelago_core::{
    id::{MeshId, Name},
    link::{self, Goodbye, Hello, LinkId, Pauses, Refusal, Role, Table, Terms},
};
use tokio::{net::TcpStream, runtime};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{deliver::Deliver, handle::Handle};

/// What links do and how many there may be.
#[derive(Debug, Clone)]
pub struct Config {
    /// Times of each link.
    pub link: link::Config,
    /// Pauses between dials.
    pub pauses: Pauses,
    /// The most links, both sockets of a voter counted; more are refused with an error that the other side reports. Some
    /// are for nodes only ([`link::PLACES_OF_NODES`]).
    pub links_max: u32,
    /// The most connections whose handshake is not done; beyond it the oldest is given up.
    pub handshakes_max: usize,
    /// Where links of consensus are driven when they are accepted; where the listener runs if it is not given.
    pub consensus: Option<runtime::Handle>,
    /// On which links frames are made smaller.
    pub packing: Packing,
}

/// On which links large frames are packed by LZ4. It takes this end about a millisecond for each MiB.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Packing {
    /// On none.
    Never,
    /// On those that leave this machine: within it, memory is faster than LZ4.
    #[default]
    Remote,
    /// On all.
    Always,
}

impl Packing {
    pub(crate) fn is_for(self, stream: &TcpStream) -> bool {
        match self {
            Self::Never => false,
            Self::Remote => stream.peer_addr().is_ok_and(|there| !there.ip().is_loopback()),
            Self::Always => true,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            link: link::Config::default(),
            pauses: Pauses::default(),
            links_max: 256,
            handshakes_max: 64,
            consensus: None,
            packing: Packing::default(),
        }
    }
}

/// All links of one node. Cheap to clone.
#[derive(Clone)]
pub struct Links {
    shared: Arc<Shared>,
}

type MakeDeliver = dyn Fn(&Handle) -> Box<dyn Deliver> + Send + Sync;
type Objection = dyn Fn(&Hello) -> Option<Refusal> + Send + Sync;

struct Shared {
    config: Config,
    deliver: Box<MakeDeliver>,
    objection: OnceLock<Box<Objection>>,
    state: Mutex<State>,
    ids: AtomicU64,
    bytes_sent: AtomicU64,
    bytes_received: AtomicU64,
    stop: CancellationToken,
    loops: TaskTracker,
}

struct State {
    me: Hello,
    table: Table,
    up: BTreeMap<LinkId, Handle>,
}

impl Links {
    /// No links yet, for the node that introduces itself as `me`. For each link that comes up, `deliver` makes whom its
    /// frames go to; it is called on the link's loop before the first frame and must not block.
    pub fn new(
        config: Config,
        me: Hello,
        deliver: impl Fn(&Handle) -> Box<dyn Deliver> + Send + Sync + 'static,
    ) -> Self {
        let table = Table::new(config.links_max);
        let shared = Shared {
            config,
            deliver: Box::new(deliver),
            objection: OnceLock::new(),
            state: Mutex::new(State { me, table, up: BTreeMap::new() }),
            ids: AtomicU64::new(0),
            bytes_sent: AtomicU64::new(0),
            bytes_received: AtomicU64::new(0),
            stop: CancellationToken::new(),
            loops: TaskTracker::new(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Changes how this node introduces itself over connections to come, once it was admitted or registered. Nodes
    /// without a mesh that met it before it belonged to one cannot know that it does: they meet anew.
    pub fn introduce(&self, change: impl FnOnce(&mut Hello)) {
        let mut state = self.lock();
        let had_mesh = state.me.mesh.is_some();
        change(&mut state.me);
        let joined = !had_mesh && state.me.mesh.is_some();
        let strangers: Vec<Handle> = state.up.values().filter(|link| joined && is_stranger(link)).cloned().collect();
        drop(state);
        strangers.iter().for_each(|link| link.close(Goodbye::Replaced));
    }

    /// From here on, links are refused to which there is an `objection`; it must not block.
    ///
    /// # Panics
    /// When it was told before.
    pub fn refuse(&self, objection: impl Fn(&Hello) -> Option<Refusal> + Send + Sync + 'static) {
        let told = self.shared.objection.set(Box::new(objection));
        assert!(told.is_ok(), "links are told once whom to refuse");
    }

    /// The link with a node, whoever dialled.
    #[must_use]
    pub fn get(&self, node: &Name, role: Role) -> Option<Handle> {
        let state = self.lock();
        let id = state.table.find(node, role)?;
        state.up.get(&id).cloned()
    }

    /// All links that are up, by name of the node and role.
    #[must_use]
    pub fn all(&self) -> Vec<Handle> {
        let state = self.lock();
        state.table.iter().filter_map(|(_, _, id)| state.up.get(&id).cloned()).collect()
    }

    /// How many connections there are: links, and clients that have none.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.lock().table.taken()
    }

    /// How many bytes were sent over links, and how many received, since this was asked last.
    #[must_use]
    pub fn take_traffic(&self) -> (u64, u64) {
        let Shared { bytes_sent, bytes_received, .. } = &*self.shared;
        (bytes_sent.swap(0, Ordering::Relaxed), bytes_received.swap(0, Ordering::Relaxed))
    }

    /// A place for a client that has no link but speaks otherwise: it counts like one that has.
    ///
    /// # Errors
    /// Why there is none.
    pub fn guest(&self) -> Result<Guest, Refusal> {
        self.lock().table.seat_guest()?;
        Ok(Guest { links: self.clone() })
    }

    /// Says goodbye on all links after what was sent, and waits until they have ended, within `close_max`. Listeners
    /// and dials end too; connections that come are refused.
    ///
    /// # Cancel safety
    /// Dropped before it is done, the links end all the same.
    pub async fn close(&self, why: Goodbye) {
        self.lock().table.stop();
        self.shared.stop.cancel();
        for link in self.all() {
            link.close(why);
        }
        self.shared.loops.close();
        self.shared.loops.wait().await;
    }

    pub(crate) fn config(&self) -> &Config {
        &self.shared.config
    }

    pub(crate) fn stop(&self) -> &CancellationToken {
        &self.shared.stop
    }

    pub(crate) fn loops(&self) -> &TaskTracker {
        &self.shared.loops
    }

    /// How this node introduces itself over a connection.
    pub(crate) fn me(&self, role: Role) -> Hello {
        Hello { role, ..self.lock().me.clone() }
    }

    pub(crate) fn count_sent(&self, bytes: usize) {
        self.shared.bytes_sent.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn count_received(&self, bytes: usize) {
        self.shared.bytes_received.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn next_id(&self) -> LinkId {
        LinkId(self.shared.ids.fetch_add(1, Ordering::Relaxed))
    }

    /// Judges a connection whose ends agree. One that it takes the place of is closed.
    pub(crate) fn judge(&self, terms: &Terms, id: LinkId) -> Result<(), Refusal> {
        if let Some(refusal) = self.shared.objection.get().and_then(|objection| objection(&terms.other)) {
            return Err(refusal);
        }
        let mut state = self.lock();
        let State { me, table, up } = &mut *state;
        let replaced = table.enter(me, terms, id)?.and_then(|old| up.remove(&old));
        drop(state);
        if let Some(link) = replaced {
            link.close(Goodbye::Replaced);
        }
        Ok(())
    }

    /// A link is up, over which this node said that it belongs to `mesh`. Whoever gets its frames is made before anybody
    /// can find it.
    pub(crate) fn up(&self, id: LinkId, link: &Handle, mesh: Option<MeshId>) -> Box<dyn Deliver> {
        let deliver = (self.shared.deliver)(link);
        let mut state = self.lock();
        // It may have been replaced in this moment …
        let is_entered = state.table.iter().any(|(_, _, entered)| entered == id);
        // … or this node may belong to a mesh by now.
        let is_outdated = mesh.is_none() && state.me.mesh.is_some() && is_stranger(link);
        if is_entered {
            state.up.insert(id, link.clone());
        }
        drop(state);
        if !is_entered || is_outdated {
            link.close(Goodbye::Replaced);
        } else if self.shared.stop.is_cancelled() {
            link.close(Goodbye::Stopping);
        }
        deliver
    }

    /// A connection has ended.
    pub(crate) fn leave(&self, id: LinkId) {
        let mut state = self.lock();
        state.table.leave(id);
        state.up.remove(&id);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics between two changes that belong together.
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the other end is a node that belongs to no mesh.
fn is_stranger(link: &Handle) -> bool {
    let other = &link.terms().other;
    other.role != Role::Client && other.mesh.is_none()
}

/// The place of a client without a link, free again once it is dropped.
#[derive(Debug)]
pub struct Guest {
    links: Links,
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.links.lock().table.unseat_guest();
    }
}

impl fmt::Debug for Links {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.lock().table.iter()).finish()
    }
}
