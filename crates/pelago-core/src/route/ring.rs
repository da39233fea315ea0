//! Consistent hashing with bounded load (Mirrokni, Thorup and Zadimoghaddam, 2017): a key belongs to the candidate that
//! follows it on a ring; one that has more than its part in flight is passed over.

use super::bits::mix;
use crate::id::NodeId;

/// Places on the ring of each candidate. With 100 the most loaded of a few candidates has about a quarter more keys than
/// the mean.
const PLACES: u64 = 100;

#[derive(Debug, Clone, Default)]
pub(super) struct Ring {
    /// Where each begins, and whose it is (the index in the list that the ring was made of), in order.
    points: Vec<(u64, u32)>,
    /// For the upper bits of a key, the first point that may follow it: saves most of the search.
    begins: Vec<u32>,
    shift: u32,
}

impl Ring {
    /// A ring of these nodes. By node and not by run, so that a node that starts again has its keys again.
    pub(super) fn new(nodes: impl Iterator<Item = NodeId>) -> Self {
        let mut points: Vec<(u64, u32)> = Vec::new();
        for (index, node) in (0..).zip(nodes) {
            points.extend((1..=PLACES).map(|place| (mix(mix(node.0) ^ place), index)));
        }
        points.sort_unstable();
        let buckets = points.len().next_power_of_two().max(2);
        let shift = u64::BITS - buckets.trailing_zeros();
        let first = |bucket: usize| points.partition_point(|(at, _)| (at >> shift) < bucket as u64);
        let begins = (0..buckets).map(|bucket| u32::try_from(first(bucket)).expect("a ring is small")).collect();
        Self { points, begins, shift }
    }

    /// The first owner that `admits`, from the one that the key belongs to on.
    pub(super) fn owner(&self, key: u64, admits: impl Fn(usize) -> bool) -> Option<usize> {
        let key = mix(key);
        let bucket = usize::try_from(key >> self.shift).ok()?;
        let mut first = *self.begins.get(bucket)? as usize;
        while self.points.get(first).is_some_and(|(at, _)| *at < key) {
            first += 1;
        }
        let (before, after) = self.points.split_at(first);
        let owners = after.iter().chain(before).map(|(_, owner)| *owner as usize);
        let mut passed = usize::MAX;
        owners.into_iter().find(|owner| {
            // Neighbours on the ring are often the same one.
            let is_new = std::mem::replace(&mut passed, *owner) != *owner;
            is_new && admits(*owner)
        })
    }
}
