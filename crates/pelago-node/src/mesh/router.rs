//! Finds the node that an agent is on, and asks there.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use bytes::Bytes;
use pelago_core::{
    agent::{Failure, Work},
    id::{Address, AgentId, Destination, Holder, Name},
    link::{Lane, NoReply, Role},
    message::Content,
    record::{BodyHash, IdempotencyKey, Placement},
    route::{self, NoChoice},
};
use pelago_net::{Links, Recipient, RequestError, SendError};
use pelago_store::sqlite::Reader;
use pelago_wire::mesh::kind;
use tokio::time::{Instant, timeout_at};
use tokio_util::task::TaskTracker;

use super::{
    answer::{self, Question},
    balance::{Balance, Begun},
    encoded::Encoded,
    homes::Homes,
    places::Places,
    sessions::{Conversing, Stick},
};
use crate::{
    agents::{Agents, AskedTurn, Told},
    handle::Error,
    sessions::{InSession, TTL_MAX, TTL_MIN},
    topics::Topics,
};

/// The pause before an agent whose node cannot be reached is looked for again.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// How long an agent that is to be told something is looked for, and whoever tells it waits for room.
pub(crate) const TELL_MAX: Duration = Duration::from_secs(5);

/// The longest affinity, in bytes.
const AFFINITY_BYTES_MAX: usize = 256;

/// Asks agents wherever they are, and tells them things.
pub(crate) struct Router {
    pub(crate) homes: Homes,
    pub(crate) balance: Balance,
    pub(crate) links: Links,
    pub(crate) reader: Arc<Reader>,
    pub(crate) agents: Weak<Agents>,
    pub(crate) places: Places,
    pub(crate) topics: Topics,
    /// Questions that somebody waits for here, whoever answers them.
    pub(crate) questions: TaskTracker,
}

/// Whom something is to be told.
#[derive(Debug, Clone)]
pub(crate) enum Whom {
    /// An agent, and how agents of its name are placed.
    Agent(Address, Placement),
    /// All who subscribe to a topic.
    Topic(Name),
}

impl From<Whom> for Destination {
    fn from(whom: Whom) -> Self {
        match whom {
            Whom::Agent(address, _) => Self::Agent(address),
            Whom::Topic(topic) => Self::Topic(topic),
        }
    }
}

/// What a question belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Among {
    /// Nothing: any host of the agent will do.
    Any,
    /// Questions with the same text, which go to the same host.
    Alike(String),
    /// A session.
    Session(InSession),
}

impl Among {
    /// What a request belongs to.
    ///
    /// # Errors
    /// [`Error::BadOption`].
    pub(crate) fn of(session: Option<InSession>, affinity: Option<String>) -> Result<Self, Error> {
        match (session, affinity) {
            (Some(_), Some(_)) => {
                Err(Error::BadOption("a session has a place of its own: give a session or an affinity".into()))
            }
            (Some(InSession { ttl: Some(ttl), .. }), None) if !(TTL_MIN..=TTL_MAX).contains(&ttl) => {
                Err(Error::BadOption("a session is kept for 1 s to 30 days (720h) without being used".into()))
            }
            (Some(session), None) => Ok(Self::Session(session)),
            (None, Some(text)) if text.is_empty() || text.len() > AFFINITY_BYTES_MAX => Err(Error::BadOption(format!(
                "an affinity has 1 to {AFFINITY_BYTES_MAX} bytes, and not {}",
                text.len()
            ))),
            (None, Some(text)) => Ok(Self::Alike(text)),
            (None, None) => Ok(Self::Any),
        }
    }

    /// Hash of a request, to tell it from another under the same key.
    pub(crate) fn hash(&self, agent: &AgentId, payload: &[u8]) -> BodyHash {
        let session = match self {
            Self::Any | Self::Alike(_) => None,
            Self::Session(within) => Some(route::key_of(within.name.as_str().as_bytes())),
        };
        BodyHash::of(agent, payload).with_options(&[session])
    }
}

/// Something that an agent is to do wherever it is, and that is answered.
pub(crate) trait Wish: Sync {
    /// What it is answered with.
    type Answer: Send;
    /// Its kind among frames.
    const KIND: u16;

    /// Who is to do it.
    fn agent(&self) -> &AgentId;
    /// What it is given.
    fn payload(&self) -> &Bytes;
    /// The frame that asks another node for it.
    fn encode(&self) -> Bytes;
    /// What the other node answered, and how many turns of the agent it has in flight, if it is a pool.
    fn decode(&self, answer: Bytes) -> (Result<Self::Answer, Failure>, Option<u32>);
    /// Does it here.
    fn here(
        &self,
        agents: Arc<Agents>,
        deadline: Instant,
    ) -> impl Future<Output = Result<Self::Answer, Failure>> + Send;
    /// Whether it is done by another node if nobody knows what became of it at the first.
    fn may_be_repeated(&self) -> bool;
    /// Whether the answer says that the agent failed.
    fn tells_of_failure(_answer: &Self::Answer) -> bool {
        false
    }
}

impl Wish for Question {
    type Answer = Bytes;
    const KIND: u16 = kind::ASK;

    fn agent(&self) -> &AgentId {
        &self.agent
    }

    fn payload(&self) -> &Bytes {
        &self.content.payload
    }

    fn encode(&self) -> Bytes {
        answer::encode_question(self)
    }

    fn decode(&self, answer: Bytes) -> (Result<Bytes, Failure>, Option<u32>) {
        answer::decode_asked(answer)
    }

    async fn here(&self, agents: Arc<Agents>, _deadline: Instant) -> Result<Bytes, Failure> {
        let Self { agent, content, remember } = self;
        agents.run(agent, Work::Ask { remember: remember.clone(), session: None }, content.clone()).await
    }

    fn may_be_repeated(&self) -> bool {
        false
    }
}

/// What could not be told at once, and to whom it goes if that is chosen.
pub(crate) struct Untold {
    told: Told,
    /// Boxed, since most need none.
    begun: Option<Box<Begun>>,
}

/// Why what an agent was to do came to nothing.
#[derive(Debug)]
pub(crate) enum Undone {
    /// It was answered with a failure, or by nobody.
    Failed(Failure),
    /// The pool failed too often of late wherever it is hosted.
    BreakerOpen(Name),
    /// Nobody is left who could be meant, as the error says.
    Gone(Box<Error>),
}

impl From<Failure> for Undone {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<Undone> for Error {
    fn from(undone: Undone) -> Self {
        match undone {
            Undone::Failed(failure) => failure.into(),
            Undone::BreakerOpen(name) => Self::BreakerOpen(name),
            Undone::Gone(error) => *error,
        }
    }
}

/// Why a question was not answered by the node it went to.
enum Missed {
    /// It had no effect there. Whoever holds the agent may be known.
    Elsewhere(Option<Holder>),
    /// It was answered with a failure.
    Failed(Failure),
}

impl Router {
    /// Runs one turn of an agent, here or on the node that holds it, and returns its reply once it counts. Looks again
    /// as long as nothing has happened yet, until `deadline`.
    ///
    /// # Errors
    /// [`Error`] says what became of it.
    pub(crate) async fn ask(
        &self,
        to: &Address,
        placement: Placement,
        content: Content,
        remember: Option<(IdempotencyKey, BodyHash)>,
        among: &Among,
        deadline: Instant,
    ) -> Result<Bytes, Error> {
        let _under_way = self.questions.token();
        let question = Question { agent: to.agent.clone(), content, remember };
        Ok(match among {
            Among::Any => self.fulfil(to, placement, &question, deadline).await?,
            Among::Alike(text) => {
                let stick = Stick::to(&to.agent, text);
                Box::pin(self.fulfil_sticking(to, placement, &question, Some(stick), deadline)).await?
            }
            Among::Session(within) => {
                let stick = match placement {
                    Placement::Pool | Placement::Resident => Some(self.session_stick(&to.agent, within).await),
                    // It is where the agent is.
                    Placement::Keyed => None,
                };
                let conversing = Conversing { question, within: within.clone() };
                // Boxed: most questions are of no session, and their futures should not be as large.
                Box::pin(self.fulfil_sticking(to, placement, &conversing, stick, deadline)).await?
            }
        })
    }

    /// Lets questions end until `deadline` that were put here.
    pub(crate) async fn drain(&self, deadline: Instant) {
        self.questions.close();
        if timeout_at(deadline, self.questions.wait()).await.is_err() {
            tracing::warn!(questions = self.questions.len(), "some questions were not answered in time");
        }
    }

    /// Has an agent do something, here or on the node that holds it. Looks again as long as nothing has happened yet,
    /// until `deadline`. What may be repeated is done by another host if the first is lost; who holds state is asked
    /// once.
    ///
    /// # Errors
    /// [`Undone`] says what became of it.
    pub(crate) async fn fulfil<W: Wish>(
        &self,
        to: &Address,
        placement: Placement,
        wish: &W,
        deadline: Instant,
    ) -> Result<W::Answer, Undone> {
        self.fulfil_sticking(to, placement, wish, None, deadline).await
    }

    /// The same; what sticks goes to the host that it sticks to, if there is a choice.
    async fn fulfil_sticking<W: Wish>(
        &self,
        to: &Address,
        placement: Placement,
        wish: &W,
        stick: Option<Stick>,
        deadline: Instant,
    ) -> Result<W::Answer, Undone> {
        if to.node.is_none() && placement == Placement::Pool {
            return self.fulfil_by_pool(to, wish, stick, deadline).await;
        }
        let may_be_repeated = wish.may_be_repeated() && placement != Placement::Keyed && to.node.is_none();
        let (mut hint, mut hinted) = (None, false);
        let mut lost: Vec<Holder> = Vec::new();
        loop {
            let place = match (hint.take(), &to.node) {
                (Some(holder), _) => Some(holder),
                (None, Some(node)) => self.homes.run_of(node),
                (None, None) => match stick.filter(|_| placement == Placement::Resident) {
                    Some(stick) => self.homes.sticking_host(&to.agent, stick, &lost),
                    None => self.place(&to.agent, placement, &lost).await,
                },
            };
            match self.ask_at(place, wish, deadline).await.0 {
                Ok(answer) => return Ok(answer),
                Err(Missed::Failed(Failure::Unknown | Failure::Stopped))
                    if may_be_repeated && self.has_other(wish, place, &lost) =>
                {
                    lost.extend(place);
                    continue;
                }
                Err(Missed::Failed(failure)) => return Err(failure.into()),
                // Without a link, it is lost for this signal too.
                Err(Missed::Elsewhere(None)) if may_be_repeated && self.has_other(wish, place, &lost) => {
                    lost.extend(place);
                    continue;
                }
                // A hint may be as wrong as what it replaces: the pause comes with the second one.
                Err(Missed::Elsewhere(Some(holder))) if place != Some(holder) => {
                    hint = Some(holder);
                    if !std::mem::replace(&mut hinted, true) {
                        continue;
                    }
                }
                Err(Missed::Elsewhere(_)) => {}
            }
            self.look_again(to, deadline).await?;
        }
    }

    /// Has a pool do something, on the node that the balance chooses. A node that took nothing is followed by another, as
    /// long as there is one that may; so is one that was lost, if it may be repeated.
    async fn fulfil_by_pool<W: Wish>(
        &self,
        to: &Address,
        wish: &W,
        stick: Option<Stick>,
        deadline: Instant,
    ) -> Result<W::Answer, Undone> {
        let name = &wish.agent().name;
        loop {
            let mut is_last = true;
            let begun = match stick {
                Some(stick) => self.balance.begin_sticking(name, stick),
                None => self.balance.begin(name, wish.payload()),
            };
            match begun {
                Ok(begun) => {
                    is_last = begun.is_last_resort();
                    let (asked, in_flight) = self.ask_at(Some(begun.holder()), wish, deadline).await;
                    match asked {
                        Ok(answer) => {
                            if W::tells_of_failure(&answer) {
                                begun.failed();
                            } else {
                                begun.answered(in_flight);
                            }
                            return Ok(answer);
                        }
                        Err(Missed::Elsewhere(_)) => begun.away(),
                        Err(Missed::Failed(failure)) => {
                            let may_follow = matches!(failure, Failure::Busy | Failure::Stopped)
                                || failure == Failure::Unknown && wish.may_be_repeated() && Instant::now() < deadline;
                            ended(begun, &failure);
                            if !may_follow || is_last {
                                return Err(failure.into());
                            }
                        }
                    }
                }
                Err(NoChoice::AllOpen { .. }) => return Err(Undone::BreakerOpen(name.clone())),
                // The log knows nobody; gossip may.
                Err(NoChoice::Nobody) => {
                    let place = match stick {
                        Some(stick) => self.homes.sticking_host(wish.agent(), stick, &[]),
                        None => self.homes.any_host(wish.agent()),
                    };
                    match self.ask_at(place, wish, deadline).await.0 {
                        Ok(answer) => return Ok(answer),
                        Err(Missed::Failed(failure)) => return Err(failure.into()),
                        Err(Missed::Elsewhere(_)) => {}
                    }
                }
            }
            if is_last {
                self.look_again(to, deadline).await?;
            } else if Instant::now() >= deadline {
                return Err(Failure::Busy.into());
            }
        }
    }

    /// Checks that a node can be asked.
    ///
    /// # Errors
    /// [`Error::UnknownNode`], [`Error::WrongState`].
    pub(crate) fn find_node(&self, node: &Name) -> Result<(), Error> {
        self.homes.find_node(node, self.links.get(node, Role::Main).is_some())
    }

    /// Waits a moment for another look, unless it is too late for one or nobody is left who could be meant.
    async fn look_again(&self, to: &Address, deadline: Instant) -> Result<(), Undone> {
        let is_there = match &to.node {
            Some(node) => self.find_node(node),
            None => self.homes.placement(&to.agent.name).map(drop),
        };
        if let Err(error) = is_there {
            return Err(Undone::Gone(Box::new(error)));
        }
        if Instant::now() >= deadline {
            return Err(Failure::Busy.into());
        }
        tokio::time::sleep(LOOK_AGAIN).await;
        Ok(())
    }

    /// A turn of a pool of this node whose code is known to be quick, if that is who is meant.
    pub(crate) fn quick_turn(&self, to: Address, content: Content) -> Option<AskedTurn> {
        let Address { node, agent, .. } = to;
        let agents = self.agents.upgrade()?;
        if let Some(node) = node {
            return agents.quick_turn(agent, content).filter(|_| self.homes.run_of(&node) == Some(self.homes.me()));
        }
        let name = agent.name.clone();
        let turn = Arc::clone(&agents).quick_turn(agent, content)?;
        let begun = self.balance.begin_here(&name)?;
        if begun.is_only() {
            return Some(turn);
        }
        Some(Box::pin(async move {
            let asked = turn.await;
            match &asked {
                Ok(_) => begun.answered(agents.in_flight(&name)),
                Err(failure) => ended(begun, failure),
            }
            asked
        }))
    }

    /// Tells an agent something, here or on the node that holds it, as soon as there is room. An agent that cannot be
    /// reached is looked for until `deadline`. Nobody hears what becomes of it there.
    ///
    /// # Errors
    /// [`Error`]: what was not told yet is lost.
    pub(crate) async fn tell(&self, to: &Whom, untold: Untold, deadline: Instant) -> Result<(), Error> {
        let Untold { mut told, begun } = untold;
        let mut begun = begun.map(|begun| *begun);
        let (to, placement) = match to {
            Whom::Agent(address, placement) => (address, placement),
            Whom::Topic(topic) => {
                self.publish(topic, told).await;
                return Ok(());
            }
        };
        loop {
            let mut may_be_others = false;
            let place = match (&to.node, placement) {
                (Some(node), _) => self.homes.run_of(node),
                (None, Placement::Keyed) if self.is_here(&to.agent) => Some(self.homes.me()),
                // Nobody would say that a place from memory is out of date.
                (None, Placement::Keyed) => self.place_by_row(&to.agent).await,
                (None, Placement::Resident) => self.homes.any_host(&to.agent),
                (None, Placement::Pool) => {
                    let chosen = begun.take().map_or_else(|| self.choose_to_tell(&to.agent.name, &mut told), Ok);
                    let nobody = matches!(chosen, Err(NoChoice::Nobody));
                    begun = match chosen {
                        Err(NoChoice::AllOpen { again }) if Instant::now() + again >= deadline => {
                            return Err(Error::BreakerOpen(to.agent.name.clone()));
                        }
                        chosen => chosen.ok(),
                    };
                    may_be_others = begun.as_ref().is_some_and(|begun| !begun.is_last_resort());
                    // The log knows nobody; gossip may.
                    let seen = || if nobody { self.homes.any_host(&to.agent) } else { None };
                    begun.as_ref().map(Begun::holder).or_else(seen)
                }
            };
            if place == Some(self.homes.me()) {
                if !may_be_others {
                    return Ok(self.tell_here(&to.agent, told).await?);
                }
                match self.try_tell_here(&to.agent, told) {
                    Ok(()) => return Ok(()),
                    Err(back) => told = back,
                }
            }
            let node = place.filter(|holder| *holder != self.homes.me()).and_then(|holder| self.homes.node(holder));
            let link = node.as_ref().and_then(|node| self.links.get(node, Role::Main));
            let has_link = link.is_some();
            if let Some(link) = link {
                let name = Bytes::from(to.agent.to_string());
                if tell_over(link.recipient(Lane::Bulk, name), &mut told).await.is_ok() {
                    return Ok(());
                }
            }
            if let Some(begun) = begun.take() {
                begun.away();
            }
            if may_be_others && Instant::now() < deadline {
                continue;
            }
            let is_last_look = Instant::now() + LOOK_AGAIN >= deadline;
            if let Some(node) = node.filter(|_| is_last_look && !has_link) {
                return Err(Error::Busy(format!("node {node} cannot be reached")));
            }
            self.look_again(to, deadline).await?;
        }
    }

    /// Tells an agent something on this node, as soon as there is room.
    ///
    /// # Errors
    /// [`Failure`]: it is lost.
    pub(crate) async fn tell_here(&self, to: &AgentId, told: Told) -> Result<(), Failure> {
        self.agents.upgrade().ok_or(Failure::Stopped)?.tell(to, told).await
    }

    /// Tells an agent something at once, if it is known to be here and has room.
    ///
    /// # Errors
    /// What it was to be told: give it to [`Self::tell`].
    pub(crate) fn try_tell(&self, to: &Whom, mut told: Told) -> Result<(), Untold> {
        let (to, placement) = match to {
            Whom::Agent(address, placement) => (address, placement),
            Whom::Topic(topic) => return Ok(self.try_publish(topic, told)?),
        };
        let me = self.homes.me();
        let mut begun = None;
        let is_here = match (&to.node, placement) {
            (Some(node), _) => self.homes.run_of(node) == Some(me),
            (None, Placement::Keyed) => self.is_here(&to.agent),
            (None, Placement::Resident) => self.homes.any_host(&to.agent) == Some(me),
            (None, Placement::Pool) => {
                begun = self.choose_to_tell(&to.agent.name, &mut told).ok();
                begun.as_ref().is_some_and(|begun| begun.holder() == me)
            }
        };
        if !is_here {
            return Err(Untold { told, begun: begun.map(Box::new) });
        }
        self.try_tell_here(&to.agent, told).map_err(|told| Untold { told, begun: begun.map(Box::new) })
    }

    /// Tells an agent something at once, if it is here and has room.
    ///
    /// # Errors
    /// What it was to be told.
    pub(crate) fn try_tell_here(&self, to: &AgentId, told: Told) -> Result<(), Told> {
        match self.agents.upgrade() {
            Some(agents) => agents.try_tell(to, told),
            None => Err(told),
        }
    }

    /// What is told together goes to one node.
    fn choose_to_tell(&self, name: &Name, told: &mut Told) -> Result<Begun, NoChoice> {
        self.balance.begin_to_tell(name, told.first().map_or(&[], |(message, _)| &message.payload))
    }

    /// Whether another host is left than those that were lost, `place` among them.
    fn has_other<W: Wish>(&self, wish: &W, place: Option<Holder>, lost: &[Holder]) -> bool {
        let gone: Vec<Holder> = lost.iter().copied().chain(place).collect();
        place.is_some() && self.homes.any_host_but(wish.agent(), &gone).is_some()
    }

    /// Where an agent is to be found, as far as this node knows, that is not among the lost.
    async fn place(&self, agent: &AgentId, placement: Placement, lost: &[Holder]) -> Option<Holder> {
        match placement {
            Placement::Pool | Placement::Resident => self.homes.any_host_but(agent, lost),
            Placement::Keyed if self.is_here(agent) => Some(self.homes.me()),
            Placement::Keyed => match self.places.get(agent).filter(|holder| self.homes.is_live(*holder)) {
                Some(holder) => Some(holder),
                None => self.place_by_row(agent).await,
            },
        }
    }

    /// Where a keyed agent is to be found, as its row says here.
    async fn place_by_row(&self, agent: &AgentId) -> Option<Holder> {
        let (reader, id) = (Arc::clone(&self.reader), agent.clone());
        let read = tokio::task::spawn_blocking(move || reader.view(|view| view.agent_row(&id))).await;
        self.homes.place(agent, read.ok()?.ok()?.as_ref())
    }

    fn is_here(&self, agent: &AgentId) -> bool {
        self.homes.is_only_host(&agent.name) || self.agents.upgrade().is_some_and(|agents| agents.is_active(agent))
    }

    /// Asks there. Says too how many turns of the agent, if it is a pool, are still in flight there.
    async fn ask_at<W: Wish>(
        &self,
        place: Option<Holder>,
        wish: &W,
        deadline: Instant,
    ) -> (Result<W::Answer, Missed>, Option<u32>) {
        let Some(holder) = place else {
            return (Err(Missed::Elsewhere(None)), None);
        };
        let (asked, in_flight) = if holder == self.homes.me() {
            let Some(agents) = self.agents.upgrade() else { return (Err(Missed::Failed(Failure::Stopped)), None) };
            let asked = wish.here(Arc::clone(&agents), deadline).await;
            (asked, agents.in_flight(&wish.agent().name))
        } else {
            let asked = match self.homes.node(holder) {
                Some(node) => self.ask_over_link(&node, wish, deadline).await,
                None => Err(Missed::Elsewhere(None)),
            };
            match &asked {
                Ok((Ok(_), _)) => self.places.found(wish.agent(), holder),
                // It is there, whatever it made of the question.
                Ok((
                    Err(
                        Failure::Failed(_)
                        | Failure::Hopeless(_)
                        | Failure::Unreadable(_)
                        | Failure::Busy
                        | Failure::SessionBusy
                        | Failure::SessionFull { .. }
                        | Failure::Interrupted
                        | Failure::DiskFull
                        | Failure::TimedOut { .. },
                    ),
                    _,
                )) => {}
                Ok((Err(_), _)) | Err(_) => self.places.missed(wish.agent()),
            }
            match asked {
                Ok(asked) => asked,
                Err(missed) => return (Err(missed), None),
            }
        };
        let asked = asked.map_err(|failure| match failure {
            Failure::Elsewhere(holder) => Missed::Elsewhere(Some(holder)),
            Failure::Stopped if holder != self.homes.me() => Missed::Elsewhere(None),
            Failure::Failed(_)
            | Failure::Hopeless(_)
            | Failure::Unreadable(_)
            | Failure::Busy
            | Failure::SessionBusy
            | Failure::SessionFull { .. }
            | Failure::Interrupted
            | Failure::TimedOut { .. }
            | Failure::Refused(_)
            | Failure::Stopped
            | Failure::DiskFull
            | Failure::Lapsed
            | Failure::Unknown => Missed::Failed(failure),
        });
        (asked, in_flight)
    }

    async fn ask_over_link<W: Wish>(
        &self,
        node: &Name,
        wish: &W,
        deadline: Instant,
    ) -> Result<(Result<W::Answer, Failure>, Option<u32>), Missed> {
        let link = self.links.get(node, Role::Main).ok_or(Missed::Elsewhere(None))?;
        let wait = deadline.saturating_duration_since(Instant::now());
        match link.request(Lane::Requests, W::KIND, &wish.encode(), wait).await {
            Ok(answer) => Ok(wish.decode(answer)),
            Err(RequestError::NotSent(SendError::TooLarge { bytes })) => {
                Ok((Err(Failure::Hopeless(format!("a question of {bytes} bytes does not fit a frame"))), None))
            }
            Err(RequestError::NotSent(_) | RequestError::NoReply(NoReply::Busy | NoReply::UnknownKind)) => {
                Err(Missed::Elsewhere(None))
            }
            // Whoever asked waited until then and no longer. That is no failure of the node, and says nothing about it.
            Err(RequestError::Deadline) => std::future::pending().await,
            Err(RequestError::Unknown | RequestError::NoReply(NoReply::Dropped)) => Ok((Err(Failure::Unknown), None)),
        }
    }
}

/// Tells the balance what came of a question that was not answered.
fn ended(begun: Begun, failure: &Failure) {
    match failure {
        Failure::Hopeless(_)
        | Failure::Unreadable(_)
        | Failure::Refused(_)
        | Failure::SessionBusy
        | Failure::SessionFull { .. }
        | Failure::Interrupted
        | Failure::DiskFull => begun.refused(),
        Failure::Failed(_) | Failure::TimedOut { .. } | Failure::Unknown => begun.failed(),
        Failure::Busy | Failure::Elsewhere(_) | Failure::Stopped | Failure::Lapsed => begun.away(),
    }
}

impl From<Told> for Untold {
    fn from(told: Told) -> Self {
        Self { told, begun: None }
    }
}

impl Untold {
    /// For whoever knows where it belongs.
    pub(super) fn into_told(self) -> Told {
        self.told
    }
}

/// Tells somebody on another node something. What was not told when the link ended is left in `told`.
async fn tell_over(mut recipient: Recipient, told: &mut Told) -> Result<(), SendError> {
    while let Some((message, here)) = told.first() {
        let encoded = Encoded::new(message, here);
        match recipient.tell(encoded.message()).await {
            Ok(()) => drop(told.next()),
            // No other link takes it either.
            Err(SendError::TooLarge { .. }) => told.lose_first(),
            Err(error @ (SendError::Down | SendError::Busy)) => return Err(error),
        }
    }
    Ok(())
}
