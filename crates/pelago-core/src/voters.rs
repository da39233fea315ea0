//! Who votes in the control log.
//!
//! A mesh begins with one voter. As soon as three members can vote it has three, by one change, so that it never grows
//! to two: two can lose no more than one, and stop twice as often. A failure takes nobody's vote; only after
//! [`REPLACED_AFTER`], and only if another is ready, does a vote pass on. One that is removed for good loses it at
//! once.

use std::{collections::BTreeSet, time::Duration};

/// How many vote, once so many can.
pub const VOTERS: usize = 3;
/// How long a voter may be away before another takes its place.
pub const REPLACED_AFTER: Duration = Duration::from_secs(600);

/// How the members of the control log stand, as its leader knows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// The Raft ids of those who vote.
    pub voters: BTreeSet<u64>,
    /// All members that the leader knows something of, voters included.
    pub members: Vec<Member>,
}

/// One who keeps the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its Raft id.
    pub id: u64,
    /// Where it is; members of one zone may fail together.
    pub zone: Option<String>,
    /// Whether it has all of the log but the last bit.
    pub is_caught_up: bool,
    /// For how long it has been away; zero if it is there.
    pub away: Duration,
}

impl Member {
    fn is_ready(&self) -> bool {
        self.is_caught_up && self.away.is_zero()
    }
}

/// Who should vote next. `None` if nothing should change.
#[must_use]
pub fn next(standing: &Standing) -> Option<BTreeSet<u64>> {
    let mut voters = standing.voters.clone();
    if voters.len() >= VOTERS {
        let is_lost = |member: &&Member| voters.contains(&member.id) && member.away >= REPLACED_AFTER;
        let lost = standing.members.iter().filter(is_lost).max_by_key(|member| member.away)?.id;
        voters.remove(&lost);
        voters.insert(pick(standing, &voters)?);
        return Some(voters);
    }
    while voters.len() < VOTERS {
        voters.insert(pick(standing, &voters)?);
    }
    Some(voters)
}

/// Who votes once `id` is gone for good: another in its place if one is ready, else one less. Whoever decides this has
/// a majority of those who vote; without one that is away, the others still have theirs.
#[must_use]
pub fn without(standing: &Standing, id: u64) -> BTreeSet<u64> {
    let mut voters = standing.voters.clone();
    if voters.remove(&id) {
        voters.extend(pick(standing, &voters));
    }
    voters
}

/// The best to vote beside `voters`: in a zone of its own if possible, and the eldest of those.
fn pick(standing: &Standing, voters: &BTreeSet<u64>) -> Option<u64> {
    let zones: BTreeSet<_> =
        standing.members.iter().filter(|member| voters.contains(&member.id)).map(|member| &member.zone).collect();
    let ready = standing.members.iter().filter(|member| member.is_ready() && !standing.voters.contains(&member.id));
    let free = ready.filter(|member| !voters.contains(&member.id));
    free.min_by_key(|member| (zones.contains(&member.zone), member.id)).map(|member| member.id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_voter_stays_alone_until_three_can_vote() {
        check(&[1], &[here(1, "a"), here(9, "b")], None);
        check(&[1], &[here(1, "a"), here(9, "b"), behind(12)], None);
        check(&[1], &[here(1, "a"), here(9, "b"), away(12, 1)], None);
        check(&[1], &[here(1, "a"), here(9, "b"), here(12, "c")], Some(&[1, 9, 12]));
    }

    #[test]
    fn zones_are_spread_and_the_eldest_vote() {
        let members = [here(1, "a"), here(5, "a"), here(6, "b"), here(7, "b"), here(8, "c")];
        check(&[1], &members, Some(&[1, 6, 8]));
        check(&[1], &members[..4], Some(&[1, 5, 6]));
    }

    #[test]
    fn a_failure_takes_nobodys_vote() {
        let soon = REPLACED_AFTER.as_secs() - 1;
        check(&[1, 5, 6], &[here(1, "a"), here(5, "b"), away(6, soon), here(7, "c")], None);
        check(&[1, 5, 6], &[here(1, "a"), here(5, "b"), away(6, soon + 1)], None);
        check(&[1, 5, 6], &[here(1, "a"), here(5, "b"), away(6, soon + 1), behind(7)], None);
        check(&[1, 5, 6], &[here(1, "a"), here(5, "b"), away(6, soon + 1), away(7, 1)], None);
    }

    #[test]
    fn a_voter_long_away_is_replaced_by_one_who_is_ready() {
        let long = REPLACED_AFTER.as_secs();
        check(&[1, 5, 6], &[here(1, "a"), here(5, "b"), away(6, long), behind(7), here(8, "a")], Some(&[1, 5, 8]));
        let members = [here(1, "a"), away(5, long + 1), away(6, long), here(7, "a"), here(8, "b")];
        check(&[1, 5, 6], &members, Some(&[1, 6, 8]));
    }

    #[test]
    fn a_voter_nobody_knows_of_keeps_its_vote() {
        check(&[1, 5, 6], &[here(1, "a"), here(5, "b"), here(8, "c")], None);
    }

    #[test]
    fn the_vote_of_one_that_is_removed_passes_on_if_somebody_is_ready() {
        let long = REPLACED_AFTER.as_secs();
        let without = |members: &[Member], id| {
            let standing = Standing { voters: BTreeSet::from([1, 5, 6]), members: members.to_vec() };
            without(&standing, id).into_iter().collect::<Vec<_>>()
        };
        let gone = [here(1, "a"), here(5, "b"), away(6, 1)];
        assert_eq!(without(&gone, 6), [1, 5]);
        assert_eq!(without(&[&gone[..], &[here(7, "c"), here(8, "d")]].concat(), 6), [1, 5, 7]);
        assert_eq!(without(&[&gone[..], &[behind(7), away(8, long)]].concat(), 6), [1, 5]);
        assert_eq!(without(&[&gone[..], &[away(7, long)]].concat(), 7), [1, 5, 6], "it had no vote");
    }

    fn check(voters: &[u64], members: &[Member], expected: Option<&[u64]>) {
        let standing = Standing { voters: voters.iter().copied().collect(), members: members.to_vec() };
        assert_eq!(next(&standing), expected.map(|voters| voters.iter().copied().collect()), "{standing:?}");
    }

    fn here(id: u64, zone: &str) -> Member {
        Member { id, zone: Some(zone.into()), is_caught_up: true, away: Duration::ZERO }
    }

    fn behind(id: u64) -> Member {
        Member { is_caught_up: false, ..here(id, "behind") }
    }

    fn away(id: u64, seconds: u64) -> Member {
        Member { away: Duration::from_secs(seconds), ..here(id, "away") }
    }
}
