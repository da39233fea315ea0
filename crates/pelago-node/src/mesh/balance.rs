//! Which node a pool is asked on: this node's own [`route::Balance`] for each pool that it asks.
//!
//! What it knows comes from its own requests: how many are in flight, how long answers took, who failed, and what the
//! answers say to be in flight from others. Who the candidates are is the view's; how busy their machines are, and which
//! of them are down, is gossip's. If this node alone hosts an agent there is nothing to choose, and nothing is kept.

use std::{
    collections::{BTreeMap, HashMap},
    num::{NonZeroU16, NonZeroU32},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use pelago_core::{
    id::{Holder, Name},
    membership,
    record::Node,
    route::{self, Candidate, Change, Choice, Distance, Load, NoChoice, Outcome, Prefer, Reason, Strategy},
};

use super::sessions::Stick;
use crate::{
    clock,
    gossip::{self, Sights},
    ids,
    metrics::{Metrics, RouteCounters},
    view::{self, View},
};

/// How long a candidate is left alone that took nothing, being full, draining or out of reach.
const AWAY_FOR: Duration = Duration::from_millis(250);

/// How requests to pools are spread over the nodes that host them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Balancing {
    /// For agents of which nothing else is said.
    pub rule: Rule,
    /// For agents that have rules of their own.
    pub agents: BTreeMap<Name, Rule>,
    /// Of nodes, for [`Strategy::Weighted`]; 1 where nothing is said.
    pub weights: BTreeMap<Name, NonZeroU16>,
}

/// How one agent is balanced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rule {
    /// How a node is chosen among those that are preferred.
    pub strategy: Strategy,
    /// Which nodes are preferred.
    pub prefer: Prefer,
}

/// Chooses. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Balance(Arc<Shared>);

struct Shared {
    me: Holder,
    view: view::Reader,
    sights: gossip::Reader,
    config: Balancing,
    metrics: Arc<Metrics>,
    counters: RouteCounters,
    /// A short-lived lock: nothing is awaited under it.
    groups: Mutex<Groups>,
}

/// What is known of the candidates for each agent that was asked for.
struct Groups {
    /// What they were taken from.
    view: Arc<View>,
    sights: Arc<Sights>,
    by_name: HashMap<Name, route::Balance>,
}

/// A request that was given to a candidate. Dropped without an end, nobody waits for its answer any longer.
pub(crate) struct Begun {
    holder: Holder,
    /// Boxed, since what is told is moved about with it.
    chosen: Option<Box<Chosen>>,
}

struct Chosen {
    balance: Balance,
    name: Name,
    choice: Choice,
    at: pelago_core::time::Time,
    /// What it means if nothing else is said.
    unsaid: Unsaid,
}

/// Which candidate a request wants.
enum Wanted<'a> {
    /// The one that the strategy chooses for this payload.
    Any(&'a [u8]),
    /// The one that it sticks to.
    Same(Stick),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unsaid {
    GivenUp,
    HandedOver,
}

impl Balance {
    pub(crate) fn new(
        me: Holder,
        (view, sights): (view::Reader, gossip::Reader),
        config: Balancing,
        metrics: Arc<Metrics>,
    ) -> Self {
        let counters = metrics.route_counters();
        let groups = Mutex::new(Groups { view: view.get(), sights: sights.get(), by_name: HashMap::new() });
        Self(Arc::new(Shared { me, view, sights, config, metrics, counters, groups }))
    }

    /// Chooses a node for a question.
    ///
    /// # Errors
    /// [`NoChoice`] says why there is none.
    pub(super) fn begin(&self, name: &Name, payload: &[u8]) -> Result<Begun, NoChoice> {
        self.begin_if(name, &Wanted::Any(payload), |_any| true).map(|begun| begun.expect("any will do"))
    }

    /// Chooses a node for a question that sticks.
    ///
    /// # Errors
    /// [`NoChoice`] says why there is none.
    pub(super) fn begin_sticking(&self, name: &Name, stick: Stick) -> Result<Begun, NoChoice> {
        self.begin_if(name, &Wanted::Same(stick), |_any| true).map(|begun| begun.expect("any will do"))
    }

    /// Chooses a node for what nobody answers.
    ///
    /// # Errors
    /// [`NoChoice`] says why there is none.
    pub(super) fn begin_to_tell(&self, name: &Name, payload: &[u8]) -> Result<Begun, NoChoice> {
        let mut begun = self.begin(name, payload)?;
        if let Some(chosen) = &mut begun.chosen {
            chosen.unsaid = Unsaid::HandedOver;
        }
        Ok(begun)
    }

    /// Chooses this node for a question, if it comes first for this agent and would be chosen.
    pub(super) fn begin_here(&self, name: &Name) -> Option<Begun> {
        if self.rule(name).prefer != Prefer::Node {
            return None;
        }
        self.begin_if(name, &Wanted::Any(&[]), |holder| holder == self.0.me).ok()?
    }

    /// Chooses, and leaves it at that if the candidate will not do.
    fn begin_if(
        &self,
        name: &Name,
        wanted: &Wanted<'_>,
        will_do: impl FnOnce(Holder) -> bool,
    ) -> Result<Option<Begun>, NoChoice> {
        let (me, view, sights) = (self.0.me, self.0.view.get(), self.0.sights.get());
        let mut groups = self.groups();
        if !Arc::ptr_eq(&groups.view, &view) || !Arc::ptr_eq(&groups.sights, &sights) {
            let changed = |name: &Name, balance: &mut route::Balance| {
                balance.set_candidates(self.candidates(&view, &sights, name));
                balance.candidates().next().is_some()
            };
            groups.by_name.retain(changed);
            (groups.view, groups.sights) = (Arc::clone(&view), Arc::clone(&sights));
        }
        if !groups.by_name.contains_key(name) {
            let Rule { strategy, prefer } = self.rule(name);
            let mut balance = route::Balance::new(strategy, prefer);
            balance.set_candidates(self.candidates(&view, &sights, name));
            if balance.candidates().next().is_none() {
                return Err(NoChoice::Nobody);
            }
            groups.by_name.insert(name.clone(), balance);
        }
        let Some(balance) = groups.by_name.get_mut(name) else { return Err(NoChoice::Nobody) };
        let mut candidates = balance.candidates().map(|candidate| candidate.holder);
        if candidates.next() == Some(me) && candidates.next().is_none() {
            return Ok(will_do(me).then_some(Begun { holder: me, chosen: None }));
        }
        drop(candidates);
        let now = clock::now();
        let choice = match wanted {
            Wanted::Same(Stick { key, held }) => balance.choose_sticking(now, *key, *held)?,
            Wanted::Any(payload) => balance.choose(now, key(balance.strategy(), payload), ids::bits())?,
        };
        if !will_do(choice.holder) {
            return Ok(None);
        }
        balance.begin(now, &choice);
        self.0.counters.chosen(balance.strategy(), choice.reason);
        drop(groups);
        let (balance, name) = (self.clone(), name.clone());
        let chosen = Chosen { balance, name, choice, at: now, unsaid: Unsaid::GivenUp };
        Ok(Some(Begun { holder: choice.holder, chosen: Some(Box::new(chosen)) }))
    }

    fn end(&self, name: &Name, choice: &Choice, outcome: Outcome) {
        let mut groups = self.groups();
        let Some(balance) = groups.by_name.get_mut(name) else { return };
        let change = balance.end(clock::now(), choice, outcome);
        drop(groups);
        let node = || self.0.view.get().name_of(choice.holder.node).map(|name| name.to_string());
        match change {
            Some(Change::Opened) => {
                self.0.metrics.route_breaker_openings.inc();
                tracing::warn!(agent = %name, node = node(), "it failed too often there: that node is left out for a while");
            }
            Some(Change::Closed) => {
                self.0.metrics.route_breaker_closings.inc();
                tracing::info!(agent = %name, node = node(), "it works there again");
            }
            None => {}
        }
    }

    fn rule(&self, name: &Name) -> Rule {
        self.0.config.agents.get(name).copied().unwrap_or(self.0.config.rule)
    }

    /// Those that the log has as live, but not who is down or has left as far as gossip has heard.
    fn candidates(&self, view: &View, sights: &Sights, name: &Name) -> Vec<Candidate> {
        let here = view.nodes().find(|node| node.id == self.0.me.node);
        let candidate = |node: &Node| {
            let offer = node.offers.get(name)?;
            // Of an earlier run than the log's it says nothing of this one.
            let sight = sights.get(node.id).filter(|sight| sight.holder.incarnation >= node.incarnation);
            if sight.is_some_and(|sight| !sight.state.is_there()) {
                return None;
            }
            let capacity = NonZeroU32::new(offer.tasks_max).unwrap_or(NonZeroU32::MIN);
            Some(Candidate {
                holder: node.holder(),
                distance: distance(here, node),
                weight: self.0.config.weights.get(&node.name).copied().unwrap_or(NonZeroU16::MIN),
                capacity,
                load: sight.and_then(|sight| sight.load).map_or_else(Load::default, |load| busy(load, capacity)),
            })
        };
        view.live().filter_map(candidate).collect()
    }

    fn groups(&self) -> MutexGuard<'_, Groups> {
        // What a panic may leave behind is a choice that does not count.
        self.0.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Begun {
    /// Where the request goes.
    pub(super) fn holder(&self) -> Holder {
        self.holder
    }

    /// Whether there was nothing to choose.
    pub(super) fn is_only(&self) -> bool {
        self.chosen.is_none()
    }

    /// Whether no other candidate has room, or takes anything for the moment.
    pub(super) fn is_last_resort(&self) -> bool {
        self.chosen.as_ref().is_none_or(|chosen| chosen.choice.reason == Reason::LastResort)
    }

    /// It was answered, and the candidate still had so many requests in flight.
    pub(super) fn answered(self, in_flight: Option<u32>) {
        self.end(|took| Outcome::Answered { took, in_flight });
    }

    /// The agent answered that the request cannot be done.
    pub(super) fn refused(self) {
        self.end(|_took| Outcome::Refused);
    }

    /// The agent, or its node, failed.
    pub(super) fn failed(self) {
        self.end(|_took| Outcome::Failed);
    }

    /// The candidate took nothing.
    pub(super) fn away(self) {
        self.end(|_took| Outcome::Away(AWAY_FOR));
    }

    fn end(mut self, outcome: impl FnOnce(Duration) -> Outcome) {
        if let Some(chosen) = self.chosen.take() {
            let Chosen { balance, name, choice, at, unsaid: _ } = *chosen;
            balance.end(&name, &choice, outcome(clock::now() - at));
        }
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        if let Some(chosen) = self.chosen.take() {
            let Chosen { balance, name, choice, at, unsaid } = *chosen;
            let outcome = match unsaid {
                Unsaid::GivenUp => Outcome::GivenUp(clock::now() - at),
                Unsaid::HandedOver => Outcome::HandedOver,
            };
            balance.end(&name, &choice, outcome);
        }
    }
}

/// What tells a request apart for this strategy.
fn key(strategy: Strategy, payload: &[u8]) -> u64 {
    match strategy {
        Strategy::ConsistentHash => route::key_of(payload),
        Strategy::RoundRobin
        | Strategy::Weighted
        | Strategy::LeastConnections
        | Strategy::LeastLoaded
        | Strategy::Latency
        | Strategy::Adaptive => 0,
    }
}

/// How busy a machine is, as its node says. What waits there is measured by what the agent works on at a time.
fn busy(load: membership::Load, capacity: NonZeroU32) -> Load {
    let membership::Load { cpu, memory, network, network_bytes: _, queued, messages: _ } = load;
    let queue = u16::try_from(queued.saturating_mul(1_000) / u64::from(capacity.get())).unwrap_or(u16::MAX);
    Load { cpu, memory, network, queue }
}

/// By the labels `zone` and `region`. A zone's name counts within its region only.
fn distance(here: Option<&Node>, there: &Node) -> Distance {
    let Some(here) = here else { return Distance::Far };
    let [same_zone, same_region] = ["zone", "region"].map(|label| (here.labels.get(label), there.labels.get(label)));
    let is_same = |labels: (Option<&String>, Option<&String>)| labels.0 == labels.1;
    match () {
        () if here.id == there.id => Distance::Here,
        () if same_zone.0.is_some() && is_same(same_zone) && is_same(same_region) => Distance::Zone,
        () if same_region.0.is_some() && is_same(same_region) => Distance::Region,
        () => Distance::Far,
    }
}

#[cfg(test)]
mod tests {
    use pelago_core::{
        id::{BootId, DirectoryId, Incarnation, NodeId},
        membership::{Identity, State},
        record::{NodeState, Offer, Placement},
        time::{LogTime, Time},
    };

    use super::*;

    #[test]
    fn candidates_are_as_busy_as_gossip_says_and_none_is_down() {
        let (mut view_writer, view) = view::new();
        view_writer.replace([1, 2, 3, 4].map(row).to_vec(), Vec::new());
        let (sights_writer, sights) = gossip::sights();
        let seen = |sights: &[(u64, u64, State, u64)]| {
            let sights = sights.iter().map(|(node, run, state, queued)| {
                let identity = Identity {
                    holder: holder(*node, *run),
                    renewal: 0,
                    name: name(*node),
                    mesh_address: String::new(),
                };
                (identity, *state, membership::Load { cpu: Some(7), queued: *queued, ..membership::Load::default() })
            });
            let sights: Vec<(Identity, State, membership::Load)> = sights.collect();
            let nodes = sights.iter().map(|(identity, state, load)| membership::Node {
                identity,
                state: *state,
                since: Time::ZERO,
                record: None,
                load: Some(load),
            });
            Arc::new(Sights::of(nodes))
        };
        let metrics = Arc::new(Metrics::default());
        let balance = Balance::new(holder(1, 1), (view, sights), Balancing::default(), metrics);
        let known = || {
            balance.begin(&name(9), &[]).expect("somebody hosts it").answered(None);
            let groups = balance.groups();
            let candidates =
                groups.by_name[&name(9)].candidates().map(|candidate| (candidate.holder.node.0, candidate.load));
            candidates.collect::<Vec<_>>()
        };
        let unknown = Load::default();
        assert_eq!(known(), [(1, unknown), (2, unknown), (3, unknown), (4, unknown)]);
        let gossip =
            seen(&[(1, 1, State::Up, 2), (2, 2, State::Down, 0), (3, 2, State::Up, 0), (4, 4, State::Suspect, 6)]);
        sights_writer.send_replace(gossip);
        let busy = |queue| Load { cpu: Some(7), queue, ..unknown };
        assert_eq!(known(), [(1, busy(500)), (3, unknown), (4, busy(1_500))], "of 3 an earlier run was seen");
        sights_writer.send_replace(seen(&[(2, 20, State::Left, 0), (3, 2, State::Down, 0)]));
        assert_eq!(known(), [(1, unknown), (3, unknown), (4, unknown)], "a later run of 2 has left too");
    }

    fn row(node: u64) -> Node {
        Node {
            id: NodeId(node),
            name: name(node),
            directory: DirectoryId(u128::from(node)),
            incarnation: Incarnation(node),
            boot: BootId(u128::from(node)),
            state: NodeState::Up,
            mesh_address: String::new(),
            http_address: String::new(),
            labels: BTreeMap::new(),
            offers: BTreeMap::from([(name(9), Offer::new(Placement::Pool, 4))]),
            registered: LogTime::ZERO,
        }
    }

    fn holder(node: u64, run: u64) -> Holder {
        Holder { node: NodeId(node), incarnation: Incarnation(run) }
    }

    fn name(of: u64) -> Name {
        Name::new(&format!("n{of}")).expect("valid")
    }
}
