//! Requests in flight, in both directions. Each ends exactly once: by its reply, its deadline, its caller, or with the
//! link.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Flaw,
    lane::{Lane, PerLane},
};
use crate::time::Time;

/// Names a request within its lane and direction. Ids are given in sending order, without end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// Names whoever waits for a reply, as the driver chose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u32);

#[derive(Debug, Default)]
pub(super) struct Requests {
    sent_max: u32,
    latest_sent: PerLane<u64>,
    sent: PerLane<BTreeMap<RequestId, Waiting>>,
    deadlines: BTreeSet<(Time, Lane, RequestId)>,
    received_max: u32,
    latest_received: PerLane<u64>,
    open: PerLane<BTreeSet<RequestId>>,
}

#[derive(Debug, Clone, Copy)]
struct Waiting {
    ticket: Ticket,
    deadline: Time,
}

impl Requests {
    /// `received_max` is what this end takes, `sent_max` what the other does, each a lane.
    pub(super) fn new(received_max: u32, sent_max: u32) -> Self {
        Self { sent_max, received_max, ..Self::default() }
    }

    /// The name of the next request; `None` if the other end takes no more in this lane.
    pub(super) fn next(&self, lane: Lane) -> Option<RequestId> {
        // 0 is no request's.
        (self.sent[lane].len() < self.sent_max as usize).then(|| RequestId(self.latest_sent[lane] + 1))
    }

    /// The next request is sent.
    pub(super) fn ask(&mut self, lane: Lane, ticket: Ticket, deadline: Time) {
        self.latest_sent[lane] += 1;
        let id = RequestId(self.latest_sent[lane]);
        self.sent[lane].insert(id, Waiting { ticket, deadline });
        self.deadlines.insert((deadline, lane, id));
    }

    /// A reply came, or the caller gave up. `None` if the request has ended already.
    pub(super) fn end(&mut self, lane: Lane, id: RequestId) -> Option<Ticket> {
        let Waiting { ticket, deadline } = self.sent[lane].remove(&id)?;
        self.deadlines.remove(&(deadline, lane, id));
        Some(ticket)
    }

    /// Whether a request of this id was ever sent.
    pub(super) fn was_sent(&self, lane: Lane, id: RequestId) -> bool {
        (1..=self.latest_sent[lane]).contains(&id.0)
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        self.deadlines.first().map(|&(deadline, ..)| deadline)
    }

    /// Ends one request whose deadline has passed.
    pub(super) fn expire(&mut self, now: Time) -> Option<(Lane, RequestId, Ticket)> {
        let &(_, lane, id) = self.deadlines.first().filter(|&&(deadline, ..)| deadline <= now)?;
        if cfg!(planted = "late_ask_ends_again") {
            self.deadlines.pop_first();
            return Some((lane, id, self.sent[lane][&id].ticket));
        }
        let ticket = self.end(lane, id).expect("a deadline belongs to a request in flight");
        Some((lane, id, ticket))
    }

    /// Ends all that were sent, in sending order a lane.
    pub(super) fn end_all(&mut self) -> Vec<Ticket> {
        self.deadlines.clear();
        let sent = std::mem::take(&mut self.sent);
        sent.0.into_iter().flatten().map(|(_, waiting)| waiting.ticket).collect()
    }

    /// A request came.
    pub(super) fn asked(&mut self, lane: Lane, id: RequestId) -> Result<(), Flaw> {
        if id.0 <= self.latest_received[lane] {
            return Err(Flaw::Order);
        }
        if self.open[lane].len() >= self.received_max as usize {
            return Err(Flaw::TooManyRequests);
        }
        self.latest_received[lane] = id.0;
        self.open[lane].insert(id);
        Ok(())
    }

    /// Closes a request that came: it is answered here, or called off there. `false` if it was closed before.
    pub(super) fn close(&mut self, lane: Lane, id: RequestId) -> bool {
        self.open[lane].remove(&id)
    }

    pub(super) fn is_open(&self, lane: Lane, id: RequestId) -> bool {
        self.open[lane].contains(&id)
    }

    /// Whether none is unanswered, either way.
    pub(super) fn are_over(&self) -> bool {
        self.sent.0.iter().all(BTreeMap::is_empty) && self.open.0.iter().all(BTreeSet::is_empty)
    }

    /// Whether a request of this id ever came.
    pub(super) fn has_come(&self, lane: Lane, id: RequestId) -> bool {
        (1..=self.latest_received[lane]).contains(&id.0)
    }
}
