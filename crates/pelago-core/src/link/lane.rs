//! Lanes of a link, and the credit that bounds what is on its way in each.

use std::ops::{Index, IndexMut};

use super::Flaw;

/// The least credit of a lane, in bytes: so much that the largest frame always goes, even while up to a quarter of the
/// credit is consumed and not yet returned.
pub const LANE_BYTES_MIN: u32 = 2 << 20;

/// What a frame is for. Lanes do not wait for each other; within one, frames arrive as they were sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Heartbeats, membership, consensus: written before all else.
    Control,
    /// Requests and replies.
    Requests,
    /// What may take its time: messages that nobody answers, snapshots, moves. An agent that is slow with what it is
    /// told must not keep the replies waiting that it needs to go on.
    Bulk,
}

impl Lane {
    /// All lanes, the most urgent first.
    pub const ALL: [Self; 3] = [Self::Control, Self::Requests, Self::Bulk];
}

/// One value a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PerLane<T>(pub [T; 3]);

impl<T: Copy> PerLane<T> {
    /// The same value for every lane.
    pub const fn all(value: T) -> Self {
        Self([value; 3])
    }
}

impl<T> Index<Lane> for PerLane<T> {
    type Output = T;

    fn index(&self, lane: Lane) -> &T {
        &self.0[lane as usize]
    }
}

impl<T> IndexMut<Lane> for PerLane<T> {
    fn index_mut(&mut self, lane: Lane) -> &mut T {
        &mut self.0[lane as usize]
    }
}

/// Counts the bytes both ends may still send. Every frame that carries a payload is charged, header included; frames
/// that keep the link itself going are free.
#[derive(Debug)]
pub(super) struct Credit {
    /// What the other end granted in its hello.
    theirs_max: PerLane<u32>,
    /// What this end may still send.
    theirs: PerLane<u32>,
    /// What this end granted in its hello.
    ours_max: PerLane<u32>,
    /// What the other end may still send.
    ours: PerLane<u32>,
    /// What was consumed here and not yet returned.
    consumed: PerLane<u32>,
}

impl Credit {
    pub(super) fn new(ours: PerLane<u32>, theirs: PerLane<u32>) -> Self {
        Self { theirs_max: theirs, theirs, ours_max: ours, ours, consumed: PerLane::all(0) }
    }

    /// Takes `bytes` of what the other end granted; `false`, with nothing taken, if that is not enough.
    pub(super) fn charge(&mut self, lane: Lane, bytes: u32) -> bool {
        match self.theirs[lane].checked_sub(bytes) {
            Some(left) => {
                self.theirs[lane] = left;
                true
            }
            None => false,
        }
    }

    /// The other end returned `bytes`.
    pub(super) fn returned(&mut self, lane: Lane, bytes: u32) -> Result<(), Flaw> {
        let total = self.theirs[lane].checked_add(bytes).filter(|&total| total <= self.theirs_max[lane]);
        self.theirs[lane] = total.ok_or(Flaw::Credit)?;
        Ok(())
    }

    /// A frame of `bytes` arrived.
    pub(super) fn received(&mut self, lane: Lane, bytes: u32) -> Result<(), Flaw> {
        self.ours[lane] = self.ours[lane].checked_sub(bytes).ok_or(Flaw::Credit)?;
        Ok(())
    }

    /// `bytes` that arrived were consumed. Says how much to return, once it is worth a frame.
    pub(super) fn consumed(&mut self, lane: Lane, bytes: u32) -> Option<u32> {
        self.consumed[lane] += bytes;
        if self.consumed[lane] < self.ours_max[lane] / 4 {
            return None;
        }
        let grant = std::mem::take(&mut self.consumed[lane]);
        let grant = if cfg!(planted = "credit_rounded_down") { grant - grant % 4_096 } else { grant };
        self.ours[lane] += grant;
        assert!(self.ours[lane] <= self.ours_max[lane], "more was consumed in {lane:?} than arrived");
        Some(grant)
    }
}
