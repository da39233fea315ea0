//! Where a keyed agent belongs while nobody holds it.

use super::bits::mix;
use crate::id::{AgentId, Holder};

/// The candidate that a keyed agent belongs to while nobody holds it: highest random weight ("rendezvous") hashing, so
/// every node chooses alike, and a node that leaves takes only its own agents with it.
#[must_use]
pub fn rendezvous(agent: &AgentId, candidates: impl IntoIterator<Item = Holder>) -> Option<Holder> {
    sticking(hash(agent), candidates)
}

/// The candidate that whatever has this key goes to, by the same hashing.
#[must_use]
pub fn sticking(key: u64, candidates: impl IntoIterator<Item = Holder>) -> Option<Holder> {
    candidates.into_iter().max_by_key(|holder| (mix(key ^ mix(holder.node.0)), *holder))
}

/// The key of what is said to an agent under one text: a session's name, or an affinity.
#[must_use]
pub fn key_among(agent: &AgentId, text: &str) -> u64 {
    key_of(format!("{}/{agent}/{text}", agent.namespace).as_bytes())
}

/// What a request is told apart by that goes to the same candidate as others like it.
#[must_use]
pub fn key_of(payload: &[u8]) -> u64 {
    fnv(payload.iter().copied())
}

fn hash(agent: &AgentId) -> u64 {
    let parts = [agent.namespace.as_str(), agent.name.as_str(), agent.key_str()];
    fnv(parts.into_iter().flat_map(|part| part.bytes().chain([0])))
}

/// FNV-1a.
fn fnv(bytes: impl Iterator<Item = u8>) -> u64 {
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{Incarnation, Key, Name, NodeId};

    fn agent(n: u32) -> AgentId {
        let key = Key::new(&format!("k{n}")).expect("a short key is valid");
        AgentId { namespace: Name::default_namespace(), name: Name::new("cart").expect("valid"), key: Some(key) }
    }

    fn holders(nodes: impl IntoIterator<Item = u64>) -> Vec<Holder> {
        nodes.into_iter().map(|n| Holder { node: NodeId(n), incarnation: Incarnation(n + 100) }).collect()
    }

    #[test]
    fn keys_spread_evenly_and_a_lost_node_moves_only_its_own() {
        let (all, left) = (holders([1, 2, 3, 4]), holders([1, 2, 4]));
        let mut counts = [0; 5];
        for n in 0..4_000 {
            let before = rendezvous(&agent(n), all.iter().copied()).expect("there are candidates");
            let after = rendezvous(&agent(n), left.iter().copied()).expect("there are candidates");
            counts[usize::try_from(before.node.0).expect("small")] += 1;
            assert!(before == after || before.node == NodeId(3));
        }
        assert!(counts[1..].iter().all(|n| (800..1_200).contains(n)), "{counts:?}");
    }

    #[test]
    fn without_candidates_there_is_no_choice() {
        assert_eq!(rendezvous(&agent(1), []), None);
    }
}
