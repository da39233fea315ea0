//! What other nodes and clients ask of this one, over their links.

use std::{collections::HashMap, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{FutureExt as _, future::BoxFuture};
use pelago_core::{
    agent::{Failure, Work},
    lease::Beat,
    link::{Lane, NoReply, RequestId, Role},
    message::Content,
    pattern::Pattern,
    record::{Op, Outcome},
};
use pelago_net::{Ask, Credit, Deliver, Handle, Incoming};
use pelago_store::{Propose as _, ProposeError};
use pelago_wire::{
    client, headers,
    mesh::{self as wire, kind},
    record,
    tell::kind as tell,
};
use prometheus_client::metrics::counter::Counter;
use tokio::{sync::watch, task::JoinHandle, time::Instant};
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use super::{
    answer::{self, Applied},
    at_once::{self, AtOnce, Budget},
    clients,
    forward::Forward,
    grants::{self, Heartbeat, Verdict},
    passing,
    removal::Removal,
    sessions::{Conversing, decode_conversing},
    subscriptions::Subscriptions,
    taken,
    tells::{Source, Tells},
};
use crate::{Handle as NodeHandle, agents::Agents, committer, gossip, raft::Consensus, signals::Signals};

/// From how many signals and questions of one link on those are let go of that have ended.
const UNDER_WAY_TIDY_MIN: usize = 64;

/// Answers requests, once the node is put together.
#[derive(Clone)]
pub(crate) struct Receiver {
    node: watch::Sender<Option<Answers>>,
    loops: TaskTracker,
    told_lost: Counter,
}

/// What requests are answered with.
#[derive(Clone)]
pub(crate) struct Answers {
    pub(crate) consensus: Arc<Consensus>,
    pub(crate) committer: committer::Handle,
    pub(crate) forward: Forward,
    pub(crate) removal: Removal,
    pub(crate) agents: Arc<Agents>,
    pub(crate) leases: grants::Handle,
    pub(crate) gossip: gossip::Handle,
    pub(crate) handle: NodeHandle,
    pub(crate) signals: Arc<Signals>,
}

/// Takes what arrives over one link.
struct FromNode {
    receiver: Receiver,
    /// A client is no member: it may not write into the log, nor keep a lease. It has requests of its own.
    is_node: bool,
    link: Handle,
    tells: Tells,
    subscriptions: Subscriptions,
    under_way: UnderWay,
}

/// Signals and questions that are under way here for the other end: called off with the request, or with the link.
#[derive(Default)]
struct UnderWay {
    of: HashMap<RequestId, AbortOnDropHandle<()>>,
    /// With so many, those are let go of that have ended.
    tidy_at: usize,
}

impl Receiver {
    pub(crate) fn new(told_lost: Counter) -> Self {
        Self { node: watch::Sender::default(), loops: TaskTracker::new(), told_lost }
    }

    /// From here on requests are answered. Before, they are refused as if the node were busy.
    pub(crate) fn open(&self, answers: Answers) {
        self.node.send_replace(Some(answers));
    }

    /// From here on they are refused. What answered them reaches back to the links, and is let go of.
    pub(crate) fn shut(&self) {
        self.node.send_replace(None);
    }

    /// Whom the frames of a link go to.
    pub(crate) fn of(&self, link: &Handle) -> Box<dyn Deliver> {
        let is_node = link.terms().other.role == Role::Main;
        let tells = Tells::new(Source {
            from_node: is_node,
            link: link.clone(),
            node: self.node.subscribe(),
            loops: self.loops.clone(),
            lost: self.told_lost.clone(),
        });
        let subscriptions = Subscriptions::default();
        let (link, under_way) = (link.clone(), UnderWay::default());
        Box::new(FromNode { receiver: self.clone(), is_node, link, tells, subscriptions, under_way })
    }
}

impl Deliver for FromNode {
    fn deliver(&mut self, lane: Lane, batch: &mut Vec<Incoming>, credit: Credit) {
        let credit = Arc::new(credit);
        let node = self.receiver.node.borrow().clone();
        let budget = Budget::new();
        let handle = node.as_ref().map(|node| &node.handle);
        for mut incoming in batch.drain(..) {
            let Some(ask) = incoming.ask.take() else {
                if self.is_node && incoming.kind == tell::GOSSIP {
                    if let Some(node) = &node {
                        let from = self.link.terms().other.node_name.clone();
                        node.gossip.packet(from, &incoming.payload);
                    }
                    // Before there is anybody to take it, it is lost, as on its way.
                    continue;
                }
                if incoming.kind == tell::UNSUBSCRIBE {
                    self.subscriptions.end(incoming.number);
                    continue;
                }
                if !self.tells.take(lane, incoming, &credit, handle) {
                    tracing::debug!("a frame without a meaning was dropped");
                }
                continue;
            };
            let Incoming { kind, payload, .. } = incoming;
            let Some(node) = &node else {
                ask.refuse(NoReply::Busy);
                continue;
            };
            let of_signal = if self.is_node { node.of_signal(kind, &payload, ask.wait()) } else { None };
            if let Some(answer) = of_signal {
                let id = ask.id();
                self.under_way.insert(id, self.receiver.loops.spawn(reply(ask, answer, None)));
                continue;
            }
            let at_once = if budget.is_spent() { None } else { at_once(self.is_node, node, kind, &payload, &ask) };
            let (ask, answer) = match at_once {
                Some(AtOnce::Answered(answer)) => match ask.try_reply(&answer) {
                    Ok(()) => continue,
                    Err(ask) => (ask, Some(std::future::ready(answer).boxed())),
                },
                Some(AtOnce::Waits(answer)) => (ask, Some(answer)),
                None if self.is_node => (ask, node.clone().answer(kind, payload)),
                None if kind == client::kind::SUBSCRIBE => {
                    let Self { receiver, link, subscriptions, .. } = self;
                    let begun = subscriptions.begin(&node.handle, link, payload, &receiver.loops);
                    (ask, Some(std::future::ready(clients::encoded(begun)).boxed()))
                }
                None => {
                    let answer = clients::answer(node.handle.clone(), kind, payload, ask.wait());
                    (ask, answer)
                }
            };
            let Some(answer) = answer else {
                ask.refuse(NoReply::UnknownKind);
                continue;
            };
            let questions: &[u16] = if self.is_node {
                &[kind::ASK, kind::CONVERSE]
            } else {
                &[client::kind::ASK, client::kind::CONVERSE, client::kind::SIGNAL]
            };
            let (id, is_question) = (ask.id(), questions.contains(&kind));
            let answering = self.receiver.loops.spawn(reply(ask, answer, Some(Arc::clone(&credit))));
            if is_question && lane == Lane::Requests {
                self.under_way.insert(id, answering);
            }
        }
        self.tells.hand_over(&credit, handle);
    }

    /// A signal goes on no further, and a question is not put any more, if its turn has not begun; a pool's turn ends. All
    /// else that was begun is done all the same: only its reply goes nowhere.
    fn called_off(&mut self, lane: Lane, request: RequestId) {
        if lane == Lane::Requests {
            self.under_way.of.remove(&request);
        }
    }
}

fn at_once(is_node: bool, node: &Answers, kind: u16, payload: &Bytes, ask: &Ask) -> Option<AtOnce> {
    match (is_node, kind) {
        (true, kind::ASK) => node.ask_at_once(payload),
        (false, client::kind::ASK) => clients::ask_at_once(&node.handle, payload, ask.wait()),
        (true | false, _) => None,
    }
}

impl UnderWay {
    fn insert(&mut self, request: RequestId, answering: JoinHandle<()>) {
        if self.of.len() >= self.tidy_at {
            self.of.retain(|_, answering| !answering.is_finished());
            self.tidy_at = (2 * self.of.len()).max(UNDER_WAY_TIDY_MIN);
        }
        self.of.insert(request, AbortOnDropHandle::new(answering));
    }
}

async fn reply(ask: Ask, answer: BoxFuture<'static, Bytes>, credit: Option<Arc<Credit>>) {
    let answer = answer.await;
    // The link may have ended: nobody waits any more.
    let _gone = ask.reply(&answer).await;
    drop(credit);
}

impl Answers {
    /// What this node answers to a request of another. `None` if it knows none of its kind.
    fn answer(self, kind: u16, payload: Bytes) -> Option<BoxFuture<'static, Bytes>> {
        Some(match kind {
            kind::ASK => Box::pin(self.ask(payload)),
            kind::CONVERSE => Box::pin(self.converse(payload)),
            kind::PROPOSE => Box::pin(self.propose(payload)),
            kind::JOIN => Box::pin(self.join(payload)),
            kind::READ_INDEX => Box::pin(self.read_index()),
            kind::BROADCAST => Box::pin(async move { self.broadcast(payload) }),
            kind::HEARTBEAT => Box::pin(self.heartbeat(payload)),
            kind::REMOVE => Box::pin(async move { answer::encode_proposed(self.removal.asked(payload).await) }),
            _unknown => return None,
        })
    }

    async fn propose(self, payload: Bytes) -> Bytes {
        let outcomes = match decode(payload) {
            Ok(batch) => self.committer.propose_for_other(batch).await,
            Err(error) => Err(error),
        };
        answer::encode_proposed(outcomes.map(|outcomes| self.applied(outcomes)))
    }

    /// What was decided here is seen by whoever has applied as much as this node has.
    fn applied(&self, outcomes: Vec<Outcome>) -> Applied {
        Applied { outcomes, index: self.consensus.progress().index() }
    }

    async fn read_index(self) -> Bytes {
        let index = self.consensus.read_index().await;
        let applied = index.map(|index| Applied { outcomes: Vec::new(), index });
        answer::encode_proposed(applied)
    }

    /// Admits a node: registers it and lets it follow the log. Any node is asked; the leader decides.
    async fn join(self, payload: Bytes) -> Bytes {
        let admitted = match self.admit(payload.clone()).await {
            Err(ProposeError::NotLeader) => self.forward.at_leader(kind::JOIN, &payload).await,
            here => here,
        };
        answer::encode_proposed(admitted)
    }

    async fn admit(&self, payload: Bytes) -> Result<Applied, ProposeError> {
        let batch = decode(payload)?;
        let [Op::Register(register)] = batch.as_slice() else {
            return Err(ProposeError::Malformed { why: "a node joins by its registration alone".into() });
        };
        let name = register.name.clone();
        // Not among others: the index of its entry becomes the id.
        let outcomes = self.consensus.propose(&batch).await?;
        if let [Outcome::Registered { holder, .. }] = outcomes.as_slice() {
            self.consensus.admit(holder.node.0, &name).await?;
        }
        Ok(self.applied(outcomes))
    }

    /// Puts a question to its agent where it is read, if that is here and known to be quick.
    fn ask_at_once(&self, payload: &Bytes) -> Option<AtOnce> {
        let answer::Question { agent, content, remember: None } = answer::decode_question(payload.clone())? else {
            return None;
        };
        let (agents, name) = (Arc::clone(&self.agents), agent.name.clone());
        let turn = Arc::clone(&self.agents).quick_turn(agent, content)?;
        let encoded = move |reply| answer::encode_asked(reply, agents.in_flight(&name));
        Some(match at_once::begin(turn) {
            Ok(reply) => AtOnce::Answered(encoded(reply)),
            Err(turn) => AtOnce::Waits(turn.map(encoded).boxed()),
        })
    }

    async fn ask(self, payload: Bytes) -> Bytes {
        let asked = match answer::decode_question(payload) {
            Some(answer::Question { agent, content, remember }) => {
                let asked = self.agents.run(&agent, Work::Ask { remember, session: None }, content).await;
                (asked, self.agents.in_flight(&agent.name))
            }
            None => (Err(Failure::Hopeless("the question cannot be read".into())), None),
        };
        answer::encode_asked(asked.0, asked.1)
    }

    async fn converse(self, payload: Bytes) -> Bytes {
        let asked = match decode_conversing(payload) {
            Some(Conversing { question: answer::Question { agent, content, remember }, within }) => {
                let asked = self.agents.converse(&agent, &within, remember, content).await;
                (asked, self.agents.in_flight(&agent.name))
            }
            None => (Err(Failure::Hopeless("the question cannot be read".into())), None),
        };
        answer::encode_asked(asked.0, asked.1)
    }

    fn broadcast(&self, payload: Bytes) -> Bytes {
        let wire::Broadcast { to, payload, headers } = wire::decode("broadcast", payload).unwrap_or_default();
        // Whoever sent something else reached nobody.
        let agents = match (Pattern::new(&to), headers::of_field(headers)) {
            (Ok(to), Ok(headers)) => self.agents.broadcast(&to, &Content { headers, payload }),
            (Err(_), _) | (_, Err(_)) => 0,
        };
        wire::encode(&wire::Reached { agents })
    }

    /// What is answered to a signal, or to a question for one. It may wait for others, who may wait for this link: it
    /// takes no room of that, and is bounded where it is handled. `None` if it is neither.
    fn of_signal(&self, kind: u16, payload: &Bytes, wait: Duration) -> Option<BoxFuture<'static, Bytes>> {
        match kind {
            kind::SIGNAL => Some(self.clone().signal(payload.clone(), wait)),
            kind::TRACE => {
                let (signals, payload) = (Arc::clone(&self.signals), payload.clone());
                Some(Box::pin(async move { taken::answer(&signals, payload).await }))
            }
            _other => None,
        }
    }

    fn signal(self, payload: Bytes, wait: Duration) -> BoxFuture<'static, Bytes> {
        let deadline = Instant::now() + wait;
        Box::pin(async move {
            let (handled, in_flight) = match passing::decode_passing(payload) {
                Some(passing) => {
                    let name = passing.agent.name.clone();
                    (self.signals.handle(passing, deadline).await, self.agents.in_flight(&name))
                }
                None => (Err(Failure::Hopeless("the signal cannot be read".into())), None),
            };
            passing::encode_handled(handled, in_flight)
        })
    }

    async fn heartbeat(self, payload: Bytes) -> Bytes {
        let verdict = match wire::decode::<wire::Heartbeat>("heartbeat", payload) {
            Ok(wire::Heartbeat { run: Some(run), beat, draining }) => {
                self.leases.heartbeat(Heartbeat { holder: answer::holder(run), beat: Beat(beat), draining }).await
            }
            Ok(wire::Heartbeat { run: None, .. }) | Err(_) => Verdict::NotNow,
        };
        wire::encode(&wire::Granted::from(verdict))
    }
}

fn decode(batch: Bytes) -> Result<Vec<Op>, ProposeError> {
    record::decode_batch(batch).map_err(|error| ProposeError::Malformed { why: error.to_string() })
}
