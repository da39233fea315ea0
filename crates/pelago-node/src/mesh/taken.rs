//! Signals that another node took: it is asked what became of them.

use std::time::Duration;

use bytes::Bytes;
use pelago_core::{
    id::{Address, Name, SignalId},
    link::{Lane, NoReply, Role},
    time::LogTime,
};
use pelago_net::{Links, RequestError};
use pelago_wire::mesh::{self as wire, kind, signal_bytes, signal_of};

use super::passing;
use crate::signals::{Signals, Trace};

/// How much longer the node has to answer than it waits.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// The node that took a signal did not say what became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NoAnswer;

/// Asks a node what became of a signal that it took, and waits so long for its end. `None` if it does not know it.
///
/// # Errors
/// [`NoAnswer`]: there is no link with it, or it was lost.
pub(crate) async fn ask(links: &Links, node: &Name, id: SignalId, wait: Duration) -> Result<Option<Trace>, NoAnswer> {
    let link = links.get(node, Role::Main).ok_or(NoAnswer)?;
    let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
    let question = wire::encode(&wire::Trace { id: signal_bytes(id), wait_ms });
    match link.request(Lane::Requests, kind::TRACE, &question, wait + ANSWER_MAX).await {
        Ok(answer) => match wire::decode::<wire::Traced>("what became of a signal", answer) {
            Ok(wire::Traced { taken }) => taken.map(|taken| value(taken).ok_or(NoAnswer)).transpose(),
            Err(_) => Err(NoAnswer),
        },
        Err(
            RequestError::NotSent(_)
            | RequestError::Deadline
            | RequestError::Unknown
            | RequestError::NoReply(NoReply::Busy | NoReply::Dropped | NoReply::UnknownKind),
        ) => Err(NoAnswer),
    }
}

/// Answers a node that asks so.
pub(super) async fn answer(signals: &Signals, question: Bytes) -> Bytes {
    let taken = match decode(question) {
        Some((id, wait)) => signals.trace(id, wait).await,
        // No signal has such an id.
        None => None,
    };
    wire::encode(&wire::Traced { taken: taken.map(form) })
}

impl Trace {
    /// Its bytes, as nodes send them to each other and to clients.
    #[must_use]
    pub fn encode(self) -> Bytes {
        wire::encode(&form(self))
    }

    /// What [`Self::encode`] has written. `None` if it is something else.
    #[must_use]
    pub fn decode(bytes: Bytes) -> Option<Self> {
        value(wire::decode("signal", bytes).ok()?)
    }
}

fn decode(question: Bytes) -> Option<(SignalId, Duration)> {
    let wire::Trace { id, wait_ms } = wire::decode("question for a signal", question).ok()?;
    Some((signal_of(&id)?, Duration::from_millis(wait_ms)))
}

fn form(trace: Trace) -> wire::Taken {
    let Trace { id, node, from, to, hops_max, started, tree } = trace;
    wire::Taken {
        id: signal_bytes(id),
        node: node.to_string(),
        from,
        namespace: to.agent.namespace.to_string(),
        to: to.to_string(),
        hops_max,
        started_ms: started.as_millis(),
        tree: tree.map(passing::form),
    }
}

fn value(taken: wire::Taken) -> Option<Trace> {
    let wire::Taken { id, node, from, namespace, to, hops_max, started_ms, tree } = taken;
    let namespace = Name::new(&namespace).ok()?;
    Some(Trace {
        id: signal_of(&id)?,
        node: Name::new(&node).ok()?,
        from,
        to: Address::parse(&namespace, &to).ok()?,
        hops_max,
        started: LogTime::from_millis(started_ms),
        tree: match tree {
            Some(tree) => Some(passing::value(&namespace, tree)?),
            None => None,
        },
    })
}

#[cfg(test)]
mod tests {
    use pelago_core::connection::{Branch, Outcome};

    use super::*;

    #[test]
    fn what_became_of_a_signal_arrives_as_it_was_told() {
        let name = |text| Name::new(text).expect("valid");
        let to = Address::parse(&name("shop"), "n2/cart:a/b").expect("valid");
        let tree = Branch::leaf(to.clone(), Some(name("n2")), Outcome::TimedOut, Duration::from_micros(7));
        for tree in [None, Some(tree)] {
            let (id, started) = (SignalId(3 << 96 | 5), LogTime::from_millis(9));
            let trace = Trace { id, node: name("n1"), from: "me".into(), to: to.clone(), hops_max: 3, started, tree };
            assert_eq!(Trace::decode(trace.clone().encode()), Some(trace));
        }
        assert_eq!(value(wire::Taken::default()), None);
        assert_eq!(decode(wire::encode(&wire::Trace { id: Bytes::from_static(b"short"), wait_ms: 1 })), None);
    }
}
