//! How fast a mesh notices who is gone.

use std::{
    num::{NonZeroU8, NonZeroUsize},
    time::Duration,
};

/// The largest packet of SWIM, in bytes: a few hundred identities.
const SWIM_BYTES_MAX: NonZeroUsize = NonZeroUsize::new(16 << 10).expect("not zero");

/// How long a node that is down or left is remembered. Whoever hears of it later takes it for a new one, so it must be
/// longer than any old news of it is on its way.
const REMEMBERED: Duration = Duration::from_hours(1);

/// What lies between the nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Profile {
    /// Nothing: they share one machine. A dead node is seen within about three seconds.
    Local,
    /// One data centre. A dead node is seen in 5 to 15 seconds.
    #[default]
    Lan,
    /// The world. A dead node is seen within about a minute.
    Wan,
}

/// The times of the protocol. All nodes of a mesh should have the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// How often one other node is asked for a sign of life. Whoever gave none, to nobody, until the next one is asked
    /// is suspect.
    pub probe_every: Duration,
    /// How long a sign of life may take before others are asked for it too. Less than half of `probe_every`, so that
    /// their answers have time to come.
    pub answer_max: Duration,
    /// How long a suspect node has to contradict before it is down.
    pub suspect_max: Duration,
    /// How many other nodes are asked, or told something, at a time.
    pub fan_out: NonZeroUsize,
    /// How often news is told, as long as there is any.
    pub spread_every: Duration,
    /// How many times a node tells the same news.
    pub tellings: NonZeroU8,
    /// How often all that is known is compared with one other node's.
    pub compare_every: Duration,
    /// How often nodes that are down are told where to find this one, if a link with them is there.
    pub revive_every: Duration,
}

impl Profile {
    /// The times that suit it.
    #[must_use]
    pub const fn config(self) -> Config {
        let [probe_ms, answer_ms, suspect_ms, spread_ms, compare_ms, revive_ms] = match self {
            Self::Local => [250, 100, 1_000, 100, 5_000, 5_000],
            Self::Lan => [1_000, 400, 4_500, 200, 15_000, 10_000],
            Self::Wan => [5_000, 2_000, 30_000, 500, 60_000, 60_000],
        };
        Config {
            probe_every: Duration::from_millis(probe_ms),
            answer_max: Duration::from_millis(answer_ms),
            suspect_max: Duration::from_millis(suspect_ms),
            fan_out: NonZeroUsize::new(3).expect("not zero"),
            spread_every: Duration::from_millis(spread_ms),
            tellings: NonZeroU8::new(8).expect("not zero"),
            compare_every: Duration::from_millis(compare_ms),
            revive_every: Duration::from_millis(revive_ms),
        }
    }
}

impl Config {
    /// The same as the library wants it. What it would do at random intervals by itself, and this machine does, is off.
    pub(super) fn swim(&self) -> foca::Config {
        foca::Config {
            probe_period: self.probe_every,
            probe_rtt: self.answer_max,
            num_indirect_probes: self.fan_out,
            max_transmissions: self.tellings,
            suspect_to_down_after: self.suspect_max,
            remove_down_after: Some(REMEMBERED),
            max_packet_size: SWIM_BYTES_MAX,
            notify_down_members: true,
            periodic_announce: None,
            periodic_announce_to_down_members: Some(foca::PeriodicParams {
                frequency: self.revive_every,
                num_members: NonZeroUsize::new(2).expect("not zero"),
            }),
            periodic_gossip: None,
        }
    }
}
