//! The node's side of its lease: asks the leader for more, and knows until when this run may act.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use pelago_core::{
    id::{Holder, Name},
    lease::{Beat, Config, Lease},
    link::{Lane, Role},
    time::Time,
};
use pelago_net::Links;
use pelago_wire::mesh::{self as wire, kind};
use tokio::sync::{Notify, watch};

use super::{
    answer,
    grants::{self, Heartbeat, Verdict},
};
use crate::{clock, raft::Consensus};

/// How long a heartbeat waits for its answer: the next ones are on their way meanwhile.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// How often it is looked whether a run has its first lease.
const GRANTED_LOOK: Duration = Duration::from_millis(5);

/// How often it is looked whether a run has its lease.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What the rest of the node knows of its lease. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Held(Arc<Shared>);

#[derive(Default)]
struct Shared {
    until_micros: AtomicU64,
    draining: AtomicBool,
    now: Notify,
    over: watch::Sender<Option<End>>,
}

/// Why a run is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    /// It was not heard for too long.
    Expired,
    /// Another process registered as this node, and is reached there.
    Displaced { by: String },
}

/// The loop that asks.
pub(crate) struct Loop {
    pub(crate) name: Name,
    pub(crate) holder: Holder,
    /// When the run's registration was first proposed.
    pub(crate) proposed: Time,
    pub(crate) consensus: Arc<Consensus>,
    pub(crate) links: Links,
    pub(crate) grants: grants::Handle,
    pub(crate) held: Held,
}

impl Held {
    /// Whether the run may begin anything.
    pub(crate) fn is_valid(&self) -> bool {
        clock::now().as_micros() < self.0.until_micros.load(Ordering::Acquire)
    }

    /// Resolves once the run has its lease.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub(crate) async fn granted(&self) {
        while !self.is_valid() {
            tokio::time::sleep(GRANTED_LOOK).await;
        }
    }

    /// Whether the leader has given the run up.
    pub(crate) fn is_over(&self) -> bool {
        self.0.over.borrow().is_some()
    }

    /// Resolves once the run has had no lease for `max`.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub(crate) async fn missing(&self, max: Duration) {
        let mut without_since = None;
        loop {
            match without_since {
                _ if self.is_valid() => without_since = None,
                Some(since) if clock::now() - since >= max => return,
                Some(_) => {}
                None => without_since = Some(clock::now()),
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Tells the leader at once that the node takes no more work.
    pub(crate) fn drain(&self) {
        self.0.draining.store(true, Ordering::Release);
        self.0.now.notify_one();
    }

    /// Resolves when the leader has given the run up.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub(crate) async fn over(&self) -> End {
        let mut over = self.0.over.subscribe();
        let told = over.wait_for(Option::is_some).await;
        told.ok().and_then(|end| end.clone()).expect("the sender is in self, and something was sent")
    }

    fn ends(&self, end: End) {
        self.lasts_until(Time::ZERO);
        self.0.over.send_replace(Some(end));
    }

    /// The run begins: its registration was first proposed at `proposed`.
    pub(crate) fn begin(&self, proposed: Time) {
        self.lasts_until(Lease::new(Config::default(), proposed).deadline());
    }

    fn lasts_until(&self, until: Time) {
        self.0.until_micros.store(until.as_micros(), Ordering::Release);
    }
}

impl Loop {
    /// Asks until it is dropped.
    pub(crate) async fn run(self) {
        let config = Config::default();
        let mut lease = Lease::new(config, self.proposed);
        let mut asked: FuturesUnordered<BoxFuture<'_, (Beat, Verdict)>> = FuturesUnordered::new();
        let mut next = tokio::time::interval(config.heartbeat);
        let mut was_valid = true;
        loop {
            tokio::select! {
                Some((beat, verdict)) = asked.next() => self.answered(&mut lease, beat, verdict),
                _ = next.tick() => {
                    self.tell(&mut was_valid);
                    asked.push(Box::pin(self.ask(lease.beat(clock::now()))));
                }
                () = self.held.0.now.notified() => asked.push(Box::pin(self.ask(lease.beat(clock::now())))),
            }
        }
    }

    /// Tells people when the node loses its lease, and when it has one again.
    fn tell(&self, was_valid: &mut bool) {
        let is_valid = self.held.is_valid();
        match (std::mem::replace(was_valid, is_valid), is_valid) {
            (true, false) => tracing::warn!("no majority of the voters answers: nothing is begun here until one does"),
            (false, true) => tracing::info!("a majority of the voters answers again"),
            (true, true) | (false, false) => {}
        }
    }

    fn answered(&self, lease: &mut Lease, beat: Beat, verdict: Verdict) {
        match verdict {
            Verdict::Granted => {
                lease.granted(beat);
                self.held.lasts_until(lease.deadline());
            }
            Verdict::Over => {
                // One that stops said so itself.
                if !self.held.0.draining.load(Ordering::Acquire) {
                    tracing::warn!(run = %self.holder, "the mesh has given this run up");
                }
                self.held.ends(End::Expired);
            }
            Verdict::Displaced { by } => {
                tracing::error!(run = %self.holder, other = by, "another process runs as this node");
                self.held.ends(End::Displaced { by });
            }
            Verdict::NotNow => {}
        }
    }

    async fn ask(&self, beat: Beat) -> (Beat, Verdict) {
        let draining = self.held.0.draining.load(Ordering::Acquire);
        let heartbeat = Heartbeat { holder: self.holder, beat, draining };
        let answered = tokio::time::timeout(ANSWER_MAX, self.ask_leader(heartbeat)).await;
        (beat, answered.unwrap_or(Verdict::NotNow))
    }

    async fn ask_leader(&self, heartbeat: Heartbeat) -> Verdict {
        let Some(leader) = self.consensus.leader_name() else {
            return Verdict::NotNow;
        };
        if leader == self.name {
            return self.grants.heartbeat(heartbeat).await;
        }
        let Some(link) = self.links.get(&leader, Role::Main) else {
            return Verdict::NotNow;
        };
        let Heartbeat { holder, beat, draining } = heartbeat;
        let payload = wire::encode(&wire::Heartbeat { run: Some(answer::run(holder)), beat: beat.0, draining });
        match link.request(Lane::Control, kind::HEARTBEAT, &payload, ANSWER_MAX).await {
            Ok(reply) => match wire::decode::<wire::Granted>("answer to a heartbeat", reply) {
                Ok(granted) => Verdict::read(granted),
                Err(_) => Verdict::NotNow,
            },
            Err(_) => Verdict::NotNow,
        }
    }
}
