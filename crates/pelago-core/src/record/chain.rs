//! The hash chain over an agent's commits: each link names its predecessor, so a fork or a gap shows.

use std::fmt;

use super::op::{MessageBody, SetTimer, TimerChange, Turn, Verdict};

/// One link: H(previous link, version, turn, H(effects)). State is not part of it, since it may be large.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Chain(pub [u8; 16]);

impl Chain {
    /// The link before an agent's first commit.
    pub const START: Self = Self([0; 16]);

    /// The link that follows when `turn` commits.
    #[must_use]
    pub(super) fn next(self, turn: &Turn) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.0);
        hasher.update(&turn.version.0.to_le_bytes());
        hasher.update(&turn.turns.to_le_bytes());
        hasher.update(&turn.turn.0.to_le_bytes());
        hasher.update(&effects(turn));
        let mut link = [0; 16];
        link.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        Self(link)
    }
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

fn effects(turn: &Turn) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    for id in turn.consumed.iter().chain(turn.buried.iter().map(|(id, _)| id)) {
        hasher.update(&id.generation.to_le_bytes());
        hasher.update(&id.seq.to_le_bytes());
    }
    for reply in &turn.replies {
        part(&mut hasher, &reply.reply);
    }
    for finish in &turn.finishes {
        hasher.update(&finish.task.0.to_le_bytes());
        if let Verdict::Done(result) = &finish.verdict {
            part(&mut hasher, result);
        }
    }
    for MessageBody { to, payload } in &turn.sends {
        part(&mut hasher, to.name.as_str().as_bytes());
        part(&mut hasher, to.key_str().as_bytes());
        part(&mut hasher, payload);
    }
    for task in &turn.enqueues {
        hasher.update(&task.id.0.to_le_bytes());
    }
    for append in &turn.appends {
        hasher.update(&append.turn.id.0.to_le_bytes());
    }
    for TimerChange { name, set } in &turn.timers {
        part(&mut hasher, name.as_str().as_bytes());
        hasher.update(&[u8::from(set.is_some())]);
        if let Some(SetTimer { after_ms, payload }) = set {
            hasher.update(&after_ms.to_le_bytes());
            part(&mut hasher, payload);
        }
    }
    *hasher.finalize().as_bytes()
}

fn part(hasher: &mut blake3::Hasher, bytes: &[u8]) {
    hasher.update(&(bytes.len() as u64).to_le_bytes());
    hasher.update(bytes);
}
