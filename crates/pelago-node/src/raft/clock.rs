//! What time it is when a term begins, as a quorum sees it.
//!
//! The log's time is for people and for what is due: no rule trusts it. All the same, one wrong clock must not move it
//! by an hour only because its node was elected. So a new leader asks the others, and begins with the middle of the
//! answers and its own, or with the log's last time if that is later. After that it counts its steady clock.

use std::{sync::PoisonError, time::Duration};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use openraft::async_runtime::watch::WatchReceiver as _;
use pelago_core::{
    id::Name,
    link::{Lane, Role},
    time::LogTime,
};
use pelago_store::ProposeError;
use pelago_wire::raft::{self as wire, Kind};
use tokio::time::{Instant, timeout_at};

use super::Consensus;
use crate::clock::LogClock;

/// How long a voter may take to say what time it is.
const ANSWER_MAX: Duration = Duration::from_millis(500);
/// How long a quorum waits for the rest: more clocks make a better middle.
const REST_MAX: Duration = Duration::from_millis(100);

impl Consensus {
    /// The log's time for an entry that this node appends. In a new term the others are asked first.
    ///
    /// # Errors
    /// [`ProposeError::NotLeader`], also while no quorum says what time it is: nothing was appended.
    pub(super) async fn stamp(&self) -> Result<LogTime, ProposeError> {
        let term = self.leading_term()?;
        if let Some(time) = self.time_in(term) {
            return Ok(time);
        }
        let base = self.progress.time().max(self.median_wall().await?);
        if self.leading_term()? != term {
            return Err(ProposeError::NotLeader);
        }
        let mut clock = self.clock.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever asked at the same time and was faster has begun it.
        if clock.is_none_or(|(of, _)| of < term) {
            *clock = Some((term, LogClock::starting_at(base)));
        }
        drop(clock);
        self.time_in(term).ok_or(ProposeError::NotLeader)
    }

    /// The log's time in a term whose clock has begun.
    pub(super) fn time_in(&self, term: u64) -> Option<LogTime> {
        let clock = *self.clock.lock().unwrap_or_else(PoisonError::into_inner);
        clock.filter(|(of, _)| *of == term).map(|(_, clock)| clock.now())
    }

    pub(super) fn leading_term(&self) -> Result<u64, ProposeError> {
        let leading = self.raft.as_leader().map_err(|_| ProposeError::NotLeader)?;
        Ok(leading.to_committed_leader_id().term)
    }

    async fn median_wall(&self) -> Result<LogTime, ProposeError> {
        let me = *self.raft.node_id();
        let metrics = self.raft.metrics().borrow_watched().clone();
        let membership = metrics.membership_config.membership();
        let voters: Vec<u64> = membership.voter_ids().collect();
        let others = voters.iter().filter(|id| **id != me).filter_map(|id| membership.get_node(id));
        let mut asked: FuturesUnordered<_> =
            others.filter_map(|member| Name::new(&member.0).ok()).map(|name| self.wall_of(name)).collect();
        let quorum = voters.len() / 2 + 1;
        let mut walls = vec![(self.wall)()];
        let enough = Instant::now() + REST_MAX;
        loop {
            let next = match walls.len() >= quorum {
                true => timeout_at(enough, asked.next()).await.ok().flatten(),
                false => asked.next().await,
            };
            match next {
                Some(wall) => walls.extend(wall),
                None if walls.len() >= quorum => return Ok(median(walls)),
                None => return Err(ProposeError::NotLeader),
            }
        }
    }

    async fn wall_of(&self, node: Name) -> Option<LogTime> {
        let link = self.links.get(&node, Role::Consensus)?;
        let reply = link.request(Lane::Control, Kind::Clock.number(), &[], ANSWER_MAX).await.ok()?;
        let wire::ClockReply { time_ms } = wire::decode("answer to what time it is", reply).ok()?;
        Some(LogTime::from_millis(time_ms))
    }
}

/// The middle one; of two the earlier, since the log's time never goes back.
fn median(mut walls: Vec<LogTime>) -> LogTime {
    walls.sort_unstable();
    walls[(walls.len() - 1) / 2]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_wrong_clock_among_three_does_not_count_and_of_two_the_earlier_does() {
        let median_of = |walls: &[u64]| median(walls.iter().copied().map(LogTime::from_millis).collect()).as_millis();
        assert_eq!(median_of(&[3_600_100, 100, 101]), 101);
        assert_eq!(median_of(&[0, 100, 101]), 100);
        assert_eq!(median_of(&[3_600_100, 100]), 100);
        assert_eq!(median_of(&[7]), 7);
    }
}
