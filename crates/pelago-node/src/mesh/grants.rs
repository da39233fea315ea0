//! The leader's side of node leases: a thin driver of `core::lease`, for as long as this node leads.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures_util::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use pelago_core::{
    id::{Holder, Name},
    lease::{Beat, Config, Confirmation, Effect, Grants, Input},
    link::Role,
    record::{Expire, Node, NodeState, Op},
    time::Time,
};
use pelago_net::Links;
use pelago_store::{ProposeError, sqlite::Reader};
use pelago_wire::mesh as wire;
use tokio::sync::{mpsc, oneshot};

use crate::{clock, committer, raft::Consensus, scheduler, view};

/// Heartbeats that wait to be looked at.
const HEARTBEATS_MAX: usize = 1_024;
/// How often it is looked whether a node's link has ended.
const LINKS_EVERY: Duration = Duration::from_millis(250);
/// The pause before an expiry is proposed again after the control log did not answer.
const PROPOSE_AGAIN: Duration = Duration::from_millis(200);

/// A sign of life of a node.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Heartbeat {
    pub(crate) holder: Holder,
    pub(crate) beat: Beat,
    /// It takes no more work.
    pub(crate) draining: bool,
}

/// What the leader says to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// This node does not lead, or no majority answers it.
    NotNow,
    Granted,
    /// The run was given up.
    Over,
    /// Another process has registered as this node, and is reached there.
    Displaced {
        by: String,
    },
}

/// Reaches the loop. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Handle(mpsc::Sender<(Heartbeat, oneshot::Sender<Verdict>)>);

pub(crate) struct Loop {
    /// This node: it needs no link to itself.
    pub(crate) me: Name,
    pub(crate) consensus: Arc<Consensus>,
    pub(crate) committer: committer::Handle,
    pub(crate) reader: Arc<Reader>,
    pub(crate) links: Links,
    pub(crate) scheduler: scheduler::Handle,
    pub(crate) heartbeats: Heartbeats,
}

/// Where heartbeats come from.
pub(crate) struct Heartbeats(mpsc::Receiver<(Heartbeat, oneshot::Sender<Verdict>)>);

/// What one term knows.
struct Term {
    core: Grants,
    /// The runs that are up, as last read.
    up: BTreeMap<Holder, Node>,
    waiting: BTreeMap<Holder, Vec<(Beat, oneshot::Sender<Verdict>)>>,
    asked: FuturesUnordered<BoxFuture<'static, Answer>>,
    effects: Vec<Effect>,
}

enum Answer {
    /// The confirmation, and the nodes as they were read after it.
    Confirmed(Confirmation, Option<Vec<Node>>),
    Proposed,
}

impl Handle {
    /// Asks for a lease.
    pub(crate) async fn heartbeat(&self, heartbeat: Heartbeat) -> Verdict {
        let (answer, verdict) = oneshot::channel();
        if self.0.send((heartbeat, answer)).await.is_err() {
            return Verdict::NotNow;
        }
        verdict.await.unwrap_or(Verdict::NotNow)
    }
}

pub(crate) fn channel() -> (Handle, Heartbeats) {
    let (sender, receiver) = mpsc::channel(HEARTBEATS_MAX);
    (Handle(sender), Heartbeats(receiver))
}

impl Loop {
    /// Grants leases and gives runs up whenever this node leads. Runs until it is dropped.
    pub(crate) async fn run(mut self) {
        loop {
            tokio::select! {
                () = self.consensus.until_leading(true) => self.lead().await,
                // Dropped without an answer: this node does not lead.
                Some(_refused) = self.heartbeats.0.recv() => {}
            }
        }
    }

    async fn lead(&mut self) {
        // All that was committed before this term is to be known.
        let Ok(()) = self.consensus.catch_up().await else {
            return tokio::time::sleep(PROPOSE_AGAIN).await;
        };
        let Some(nodes) = read_nodes(Arc::clone(&self.reader)).await else {
            tracing::error!("the nodes cannot be read, so this leader grants no leases");
            return tokio::time::sleep(PROPOSE_AGAIN).await;
        };
        let mut term = Term::new(clock::now(), nodes);
        let consensus = Arc::clone(&self.consensus);
        let mut links = tokio::time::interval(LINKS_EVERY);
        loop {
            tokio::select! {
                biased;
                () = consensus.until_leading(false) => return,
                Some(answer) = term.asked.next() => term.answered(answer),
                Some((heartbeat, answer)) = self.heartbeats.0.recv() => {
                    if heartbeat.draining {
                        self.scheduler.node_gone(heartbeat.holder).await;
                    }
                    term.heartbeat(heartbeat, answer);
                }
                _ = links.tick() => term.look_for_links(&self.me, &self.links),
                () = clock::until(term.core.deadline()) => term.core.expire(clock::now(), &mut term.effects),
            }
            for effect in std::mem::take(&mut term.effects) {
                self.carry_out(&mut term, effect);
            }
        }
    }

    fn carry_out(&self, term: &mut Term, effect: Effect) {
        match effect {
            Effect::Confirm(confirmation) => {
                let (consensus, reader) = (Arc::clone(&self.consensus), Arc::clone(&self.reader));
                term.asked.push(Box::pin(async move {
                    let nodes = match consensus.catch_up().await {
                        Ok(()) => read_nodes(reader).await,
                        Err(_) => None,
                    };
                    Answer::Confirmed(confirmation, nodes)
                }));
            }
            Effect::Grant { holder, beat } => term.tell(holder, |waiting| waiting <= beat, Verdict::Granted),
            Effect::Refuse(holder) => {
                let verdict = term.verdict_over(holder);
                term.tell(holder, |_any| true, verdict);
            }
            Effect::Expire(holder) => {
                let name = term.up.get(&holder).map(|node| node.name.to_string()).unwrap_or_default();
                tracing::warn!(node = name, run = %holder, "a node was not heard any more and is given up");
                let committer = self.committer.clone();
                term.asked.push(Box::pin(async move {
                    expire(&committer, holder).await;
                    Answer::Proposed
                }));
            }
        }
    }
}

impl Term {
    fn new(now: Time, nodes: Vec<Node>) -> Self {
        let up = runs_of(nodes);
        Self {
            core: Grants::new(Config::default(), now, up.keys().copied()),
            up,
            waiting: BTreeMap::new(),
            asked: FuturesUnordered::new(),
            effects: Vec::new(),
        }
    }

    fn heartbeat(&mut self, heartbeat: Heartbeat, answer: oneshot::Sender<Verdict>) {
        let Heartbeat { holder, beat, draining: _ } = heartbeat;
        self.waiting.entry(holder).or_default().push((beat, answer));
        self.handle(Input::Heartbeat { holder, beat });
    }

    fn answered(&mut self, answer: Answer) {
        match answer {
            Answer::Confirmed(confirmation, Some(nodes)) => {
                self.compare(nodes);
                self.handle(Input::Confirmed(confirmation));
            }
            Answer::Confirmed(confirmation, None) => self.handle(Input::NotConfirmed(confirmation)),
            Answer::Proposed => {}
        }
    }

    /// Tells which runs began and ended since the rows were read last.
    fn compare(&mut self, nodes: Vec<Node>) {
        let up = runs_of(nodes);
        let gone: BTreeSet<_> = self.up.keys().filter(|holder| !up.contains_key(holder)).copied().collect();
        let new: BTreeSet<_> = up.keys().filter(|holder| !self.up.contains_key(holder)).copied().collect();
        gone.into_iter().for_each(|holder| self.handle(Input::Gone(holder)));
        new.into_iter().for_each(|holder| self.handle(Input::Up(holder)));
        self.up = up;
    }

    fn look_for_links(&mut self, me: &Name, links: &Links) {
        let is_lost = |node: &Node| node.name != *me && links.get(&node.name, Role::Main).is_none();
        let without: Vec<_> = self.up.iter().filter(|(_, node)| is_lost(node)).map(|(holder, _)| *holder).collect();
        without.into_iter().for_each(|holder| self.handle(Input::LinkLost(holder)));
    }

    fn handle(&mut self, input: Input) {
        self.core.handle(clock::now(), input, &mut self.effects);
    }

    /// What a run is told that is over. A process begins again as often as it likes, but it never has two runs at a
    /// time: if another is up while this one asks, there are two processes.
    fn verdict_over(&self, over: Holder) -> Verdict {
        let other = self.up.values().find(|node| node.id == over.node && node.incarnation > over.incarnation);
        other.map_or(Verdict::Over, |node| Verdict::Displaced { by: view::place(node) })
    }

    fn tell(&mut self, holder: Holder, which: impl Fn(Beat) -> bool, verdict: Verdict) {
        let waiting = self.waiting.remove(&holder).unwrap_or_default();
        let (told, left): (Vec<_>, Vec<_>) = waiting.into_iter().partition(|(beat, _)| which(*beat));
        for (_, answer) in told {
            // It may have given up waiting.
            let _gone = answer.send(verdict.clone());
        }
        if !left.is_empty() {
            self.waiting.insert(holder, left);
        }
    }
}

async fn expire(committer: &committer::Handle, holder: Holder) {
    loop {
        match committer.propose(Op::Expire(Expire { holder, left: false })).await {
            Ok(_) | Err(ProposeError::Stopped | ProposeError::Malformed { .. }) => return,
            Err(ProposeError::NotLeader | ProposeError::Unknown | ProposeError::DiskFull) => {
                tokio::time::sleep(PROPOSE_AGAIN).await;
            }
        }
    }
}

async fn read_nodes(reader: Arc<Reader>) -> Option<Vec<Node>> {
    let read = tokio::task::spawn_blocking(move || reader.view(|view| view.nodes())).await;
    read.ok()?.ok()
}

fn runs_of(nodes: Vec<Node>) -> BTreeMap<Holder, Node> {
    let up = nodes.into_iter().filter(|node| node.state == NodeState::Up);
    up.map(|node| (node.holder(), node)).collect()
}

impl From<Verdict> for wire::Granted {
    fn from(verdict: Verdict) -> Self {
        let (verdict, displaced_by) = match verdict {
            Verdict::NotNow => (wire::Verdict::Unspecified, String::new()),
            Verdict::Granted => (wire::Verdict::Granted, String::new()),
            Verdict::Over => (wire::Verdict::Over, String::new()),
            Verdict::Displaced { by } => (wire::Verdict::Over, by),
        };
        Self { verdict: verdict.into(), displaced_by }
    }
}

impl Verdict {
    pub(super) fn read(wire::Granted { verdict, displaced_by }: wire::Granted) -> Self {
        match wire::Verdict::try_from(verdict) {
            Ok(wire::Verdict::Granted) => Self::Granted,
            Ok(wire::Verdict::Over) if displaced_by.is_empty() => Self::Over,
            Ok(wire::Verdict::Over) => Self::Displaced { by: displaced_by },
            Ok(wire::Verdict::Unspecified) | Err(_) => Self::NotNow,
        }
    }
}
