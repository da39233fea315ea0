//! Signals between nodes: core's types to the wire's and back.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use pelago_core::{
    agent::Failure,
    connection::{BRANCHES_MAX, Branch, Cut, HOPS_MAX, Hop, Outcome, Signal},
    id::{Address, AgentId, Name},
    message::Content,
};
use pelago_wire::mesh::{self as wire, Nothing, branch};

use super::answer::{self, Question};

/// A signal on its way to an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Passing {
    pub(crate) agent: AgentId,
    pub(crate) signal: Arc<Signal>,
    pub(crate) content: Content,
}

impl Passing {
    /// The frame that has another node's agent take it.
    pub(crate) fn encode(&self) -> Bytes {
        encode_passing(self)
    }

    /// What became of it at another node. What cannot be read may have had its effect.
    pub(crate) fn decode_answer(&self, answer: Bytes) -> (Result<Branch, Failure>, Option<u32>) {
        let (answer, in_flight) = answer::decode_asked(answer);
        let branch = |answer| decode_branch(&self.agent.namespace, answer).ok_or(Failure::Unknown);
        (answer.and_then(branch), in_flight)
    }
}

fn encode_passing(passing: &Passing) -> Bytes {
    let Passing { agent, signal, content } = passing;
    let Signal { id, from, hops_max, branches_max, path } = &**signal;
    let question = Question { agent: agent.clone(), content: content.clone(), remember: None };
    let hop = |Hop { agent, node }: &Hop| wire::Hop { agent: agent.to_string(), node: node.to_string() };
    wire::encode(&wire::Signal {
        ask: Some(answer::ask_of(&question)),
        id: wire::signal_bytes(*id),
        from: from.clone(),
        hops_max: *hops_max,
        branches_max: *branches_max,
        path: path.iter().map(hop).collect(),
    })
}

/// Decodes a signal. `None` if it is none, or goes beyond what any may.
pub(super) fn decode_passing(bytes: Bytes) -> Option<Passing> {
    let form = wire::decode::<wire::Signal>("signal", bytes).ok()?;
    let wire::Signal { ask, id, from, hops_max, branches_max, path } = form;
    let Question { agent, content, remember: _ } = answer::question_of(ask?)?;
    if hops_max > HOPS_MAX || path.len() >= hops_max as usize || branches_max > BRANCHES_MAX {
        return None;
    }
    let hop = |wire::Hop { agent: text, node }: wire::Hop| {
        let Address { node: None, agent } = Address::parse(&agent.namespace, &text).ok()? else { return None };
        Some(Hop { agent, node: Name::new(&node).ok()? })
    };
    let path = path.into_iter().map(hop).collect::<Option<_>>()?;
    let id = wire::signal_of(&id)?;
    let signal = Arc::new(Signal { id, from, hops_max, branches_max, path });
    // It is kept for longer than the buffer it came in should be.
    let content = Content { payload: Bytes::copy_from_slice(&content.payload), ..content };
    Some(Passing { agent, signal, content })
}

/// Encodes what became of a signal.
pub(super) fn encode_handled(handled: Result<Branch, Failure>, in_flight: Option<u32>) -> Bytes {
    answer::encode_asked(handled.map(encode_branch), in_flight)
}

fn encode_branch(branch: Branch) -> Bytes {
    wire::encode(&form(branch))
}

fn decode_branch(namespace: &Name, bytes: Bytes) -> Option<Branch> {
    value(namespace, wire::decode::<wire::Branch>("branch of a signal", bytes).ok()?)
}

pub(super) fn form(branch: Branch) -> wire::Branch {
    use branch::Outcome as Form;
    let Branch { to, node, outcome, stopped, took, branches, left_out } = branch;
    let outcome = match outcome {
        Outcome::Replied { reply: Some(reply) } => Form::Replied(reply),
        Outcome::Replied { reply: None } => Form::RepliedAtLength(Nothing {}),
        Outcome::Failed { reason, hopeless: false } => Form::Failed(reason),
        Outcome::Failed { reason, hopeless: true } => Form::Hopeless(reason),
        Outcome::NotTaken { reason, unknown: false } => Form::NotTaken(reason),
        Outcome::NotTaken { reason, unknown: true } => Form::UnknownAgent(reason),
        Outcome::BreakerOpen => Form::BreakerOpen(Nothing {}),
        Outcome::TimedOut => Form::TimedOut(Nothing {}),
        Outcome::InDoubt => Form::InDoubt(Nothing {}),
        Outcome::Cut(Cut::Cycle) => Form::Cycle(Nothing {}),
        Outcome::Cut(Cut::HopLimit) => Form::HopLimit(Nothing {}),
    };
    wire::Branch {
        to: to.to_string(),
        node: node.as_ref().map(Name::to_string),
        stopped,
        took_us: u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
        branches: branches.into_iter().map(form).collect(),
        left_out,
        outcome: Some(outcome),
    }
}

pub(super) fn value(namespace: &Name, form: wire::Branch) -> Option<Branch> {
    use branch::Outcome as Form;
    let wire::Branch { to, node, stopped, took_us, branches, left_out, outcome } = form;
    let outcome = match outcome? {
        Form::Replied(reply) => Outcome::Replied { reply: Some(reply) },
        Form::RepliedAtLength(Nothing {}) => Outcome::Replied { reply: None },
        Form::Failed(reason) => Outcome::Failed { reason, hopeless: false },
        Form::Hopeless(reason) => Outcome::Failed { reason, hopeless: true },
        Form::NotTaken(reason) => Outcome::NotTaken { reason, unknown: false },
        Form::UnknownAgent(reason) => Outcome::NotTaken { reason, unknown: true },
        Form::BreakerOpen(Nothing {}) => Outcome::BreakerOpen,
        Form::TimedOut(Nothing {}) => Outcome::TimedOut,
        Form::InDoubt(Nothing {}) => Outcome::InDoubt,
        Form::Cycle(Nothing {}) => Outcome::Cut(Cut::Cycle),
        Form::HopLimit(Nothing {}) => Outcome::Cut(Cut::HopLimit),
    };
    Some(Branch {
        to: Address::parse(namespace, &to).ok()?,
        node: node.map(|node| Name::new(&node)).transpose().ok()?,
        outcome,
        stopped,
        took: Duration::from_micros(took_us),
        branches: branches.into_iter().map(|branch| value(namespace, branch)).collect::<Option<_>>()?,
        left_out,
    })
}

#[cfg(test)]
mod tests {
    use pelago_core::{
        connection::{REASON_BYTES_MAX, REPLIES_BYTES_MAX},
        id::{Key, SignalId},
        link::PAYLOAD_BYTES_MAX,
    };

    use super::*;

    fn to(text: &str) -> Address {
        Address::parse(&Name::default_namespace(), text).expect("valid")
    }

    #[test]
    fn a_signal_arrives_as_it_was_sent() {
        let hop = |agent: &str| Hop { agent: to(agent).agent, node: Name::new("n1").expect("valid") };
        let path = vec![hop("main"), hop("cart:k/1")];
        let signal = Signal { id: SignalId(7), from: "client".into(), hops_max: 3, branches_max: 9, path };
        let passing = Passing {
            agent: to("impl").agent,
            signal: Arc::new(signal.clone()),
            content: Bytes::from_static(b"1").into(),
        };
        assert_eq!(decode_passing(encode_passing(&passing)), Some(passing.clone()));
        for beyond in [
            Signal { hops_max: 2, ..signal.clone() },
            Signal { hops_max: HOPS_MAX + 1, ..signal.clone() },
            Signal { branches_max: BRANCHES_MAX + 1, ..signal },
        ] {
            let passing = Passing { signal: Arc::new(beyond), ..passing.clone() };
            assert_eq!(decode_passing(encode_passing(&passing)), None);
        }
        assert_eq!(decode_passing(Bytes::from_static(b"\xff")), None);
    }

    #[test]
    fn the_largest_tree_fits_a_frame() {
        let name = Name::new(&"n".repeat(Name::BYTES_MAX)).expect("valid");
        let to = to(&format!("{name}/{name}:{}", "k".repeat(Key::BYTES_MAX)));
        let leaf = |outcome| Branch::leaf(to.clone(), Some(name.clone()), outcome, Duration::MAX);
        let failed = Outcome::from(Failure::Failed("x".repeat(2 * REASON_BYTES_MAX)));
        let replied = Outcome::Replied { reply: Some(Bytes::from(vec![0; REPLIES_BYTES_MAX])) };
        let branches: Vec<Branch> = (1..BRANCHES_MAX).map(|_| leaf(failed.clone())).collect();
        let mut tree = Branch { branches, left_out: u32::MAX, ..leaf(replied) };
        assert_eq!(tree.fit(), REPLIES_BYTES_MAX);
        let bytes = encode_handled(Ok(tree), None).len();
        assert!(bytes <= PAYLOAD_BYTES_MAX as usize, "{bytes} bytes");
    }

    #[test]
    fn a_tree_arrives_as_it_grew_however_deep_it_is() {
        let text = |text: &str| text.to_owned();
        let outcomes = [
            Outcome::Replied { reply: Some(Bytes::from_static(b"{}")) },
            Outcome::Replied { reply: None },
            Outcome::Failed { reason: text("no"), hopeless: false },
            Outcome::Failed { reason: text("never"), hopeless: true },
            Outcome::NotTaken { reason: text("busy"), unknown: false },
            Outcome::NotTaken { reason: text("who?"), unknown: true },
            Outcome::BreakerOpen,
            Outcome::TimedOut,
            Outcome::InDoubt,
            Outcome::Cut(Cut::Cycle),
            Outcome::Cut(Cut::HopLimit),
        ];
        let took = Duration::from_micros(1_500);
        let leaf = |outcome| Branch::leaf(to("n1/cart:a"), Some(Name::new("n1").expect("valid")), outcome, took);
        let mut tree = leaf(Outcome::Replied { reply: None });
        tree.branches = outcomes.into_iter().map(leaf).collect();
        for _ in 0..=HOPS_MAX {
            let branches = vec![tree];
            tree = Branch { branches, stopped: true, left_out: 3, ..leaf(Outcome::TimedOut) };
        }
        let namespace = Name::default_namespace();
        assert_eq!(decode_branch(&namespace, encode_branch(tree.clone())), Some(tree));
        assert_eq!(decode_branch(&namespace, Bytes::from_static(b"\xff")), None);
    }
}
