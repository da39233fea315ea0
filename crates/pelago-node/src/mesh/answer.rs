//! Answers between nodes: core's types to the wire's and back.

use bytes::Bytes;
use pelago_core::{
    agent::Failure,
    id::{AgentId, Holder, Incarnation, Key, Name, NodeId},
    message::Content,
    record::{BodyHash, IdempotencyKey, Outcome, Refusal},
};
use pelago_store::ProposeError;
use pelago_wire::{
    headers,
    mesh::{self as wire, Nothing, asked, proposed},
    record,
};

/// The outcomes of a batch, and how far the log must be applied to see them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Applied {
    pub(super) outcomes: Vec<Outcome>,
    pub(super) index: u64,
}

/// A question that came over a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) agent: AgentId,
    pub(super) content: Content,
    pub(super) remember: Option<(IdempotencyKey, BodyHash)>,
}

/// Encodes what became of a batch.
pub(super) fn encode_proposed(result: Result<Applied, ProposeError>) -> Bytes {
    let answer = match result {
        Ok(Applied { outcomes, index }) => {
            proposed::Answer::Applied(wire::Applied { outcomes: record::encode_outcomes(&outcomes), index })
        }
        Err(ProposeError::NotLeader) => proposed::Answer::NotLeader(Nothing {}),
        Err(ProposeError::Unknown) => proposed::Answer::Unknown(Nothing {}),
        Err(ProposeError::DiskFull) => proposed::Answer::DiskFull(Nothing {}),
        Err(ProposeError::Malformed { why }) => proposed::Answer::Malformed(why),
        Err(ProposeError::Stopped) => proposed::Answer::Stopped(Nothing {}),
    };
    wire::encode(&wire::Proposed { answer: Some(answer) })
}

/// Decodes what became of a batch. What cannot be read may have had its effect.
pub(super) fn decode_proposed(bytes: Bytes) -> Result<Applied, ProposeError> {
    let read = wire::decode::<wire::Proposed>("answer to a batch", bytes);
    match read.ok().and_then(|proposed| proposed.answer) {
        Some(proposed::Answer::Applied(wire::Applied { outcomes, index })) => match record::decode_outcomes(outcomes) {
            Ok(outcomes) => Ok(Applied { outcomes, index }),
            Err(error) => {
                tracing::error!(%error, "the leader's outcomes cannot be read");
                Err(ProposeError::Unknown)
            }
        },
        Some(proposed::Answer::NotLeader(_)) => Err(ProposeError::NotLeader),
        Some(proposed::Answer::DiskFull(_)) => Err(ProposeError::DiskFull),
        Some(proposed::Answer::Malformed(why)) => Err(ProposeError::Malformed { why }),
        // The leader stops, this node does not: another leader will know.
        Some(proposed::Answer::Unknown(_) | proposed::Answer::Stopped(_)) | None => Err(ProposeError::Unknown),
    }
}

pub(super) fn encode_question(question: &Question) -> Bytes {
    wire::encode(&ask_of(question))
}

pub(super) fn ask_of(question: &Question) -> wire::Ask {
    let Question { agent, content, remember } = question;
    let (idempotency, request) = match remember {
        Some((key, hash)) => (Some(key.key.clone()), Bytes::copy_from_slice(&hash.0)),
        None => (None, Bytes::new()),
    };
    wire::Ask {
        namespace: agent.namespace.to_string(),
        name: agent.name.to_string(),
        key: agent.key.as_ref().map(ToString::to_string),
        payload: content.payload.clone(),
        idempotency,
        request,
        headers: headers::field(content.headers.as_deref()),
    }
}

/// Decodes a question. `None` if it is none.
pub(super) fn decode_question(bytes: Bytes) -> Option<Question> {
    question_of(wire::decode::<wire::Ask>("question", bytes).ok()?)
}

pub(super) fn question_of(ask: wire::Ask) -> Option<Question> {
    let namespace = Name::new(&ask.namespace).ok()?;
    let key = ask.key.map(|key| Key::new(&key)).transpose().ok()?;
    let remember = match ask.idempotency {
        Some(key) => {
            let hash = BodyHash(ask.request.as_ref().try_into().ok()?);
            Some((IdempotencyKey { namespace: namespace.clone(), key }, hash))
        }
        None => None,
    };
    let agent = AgentId { namespace, name: Name::new(&ask.name).ok()?, key };
    let content = Content { headers: headers::of_field(ask.headers).ok()?, payload: ask.payload };
    Some(Question { agent, content, remember })
}

/// Encodes what became of a question, with how many turns the agent's pool still has in flight.
pub(super) fn encode_asked(result: Result<Bytes, Failure>, in_flight: Option<u32>) -> Bytes {
    let answer = match result {
        Ok(reply) => asked::Answer::Reply(reply),
        Err(Failure::Failed(reason)) => asked::Answer::Failed(reason),
        Err(failure @ Failure::Unreadable(_)) => asked::Answer::Failed(failure.to_string()),
        Err(Failure::Hopeless(reason)) => asked::Answer::Hopeless(reason),
        Err(Failure::Busy) => asked::Answer::Busy(Nothing {}),
        Err(Failure::SessionBusy) => asked::Answer::SessionBusy(Nothing {}),
        Err(Failure::SessionFull { waiting }) => asked::Answer::SessionFull(waiting),
        Err(Failure::Interrupted) => asked::Answer::Interrupted(Nothing {}),
        Err(Failure::DiskFull) => asked::Answer::DiskFull(Nothing {}),
        Err(Failure::TimedOut { limit_ms }) => asked::Answer::TimedOutMs(limit_ms),
        Err(Failure::Refused(refusal)) => asked::Answer::Refused(record::encode_outcomes(&[Outcome::Refused(refusal)])),
        Err(Failure::Elsewhere(holder)) => asked::Answer::Elsewhere(run(holder)),
        Err(Failure::Stopped | Failure::Lapsed) => asked::Answer::Stopped(Nothing {}),
        Err(Failure::Unknown) => asked::Answer::Unknown(Nothing {}),
    };
    wire::encode(&wire::Asked { answer: Some(answer), in_flight })
}

/// Decodes the answer to a question, and what it says to be in flight.
pub(super) fn decode_asked(bytes: Bytes) -> (Result<Bytes, Failure>, Option<u32>) {
    let read = wire::decode::<wire::Asked>("answer to a question", bytes);
    let in_flight = read.as_ref().ok().and_then(|asked| asked.in_flight);
    (asked(read.ok().and_then(|asked| asked.answer)), in_flight)
}

/// What cannot be read may have had its effect.
fn asked(answer: Option<asked::Answer>) -> Result<Bytes, Failure> {
    Err(match answer {
        Some(asked::Answer::Reply(reply)) => return Ok(reply),
        Some(asked::Answer::Failed(reason)) => Failure::Failed(reason),
        Some(asked::Answer::Hopeless(reason)) => Failure::Hopeless(reason),
        Some(asked::Answer::Busy(_)) => Failure::Busy,
        Some(asked::Answer::SessionBusy(_)) => Failure::SessionBusy,
        Some(asked::Answer::SessionFull(waiting)) => Failure::SessionFull { waiting },
        Some(asked::Answer::Interrupted(_)) => Failure::Interrupted,
        Some(asked::Answer::DiskFull(_)) => Failure::DiskFull,
        Some(asked::Answer::TimedOutMs(limit_ms)) => Failure::TimedOut { limit_ms },
        Some(asked::Answer::Refused(outcomes)) => refusal(outcomes).map_or(Failure::Unknown, Failure::Refused),
        Some(asked::Answer::Elsewhere(run)) => Failure::Elsewhere(holder(run)),
        Some(asked::Answer::Stopped(_)) => Failure::Stopped,
        Some(asked::Answer::Unknown(_)) | None => Failure::Unknown,
    })
}

fn refusal(outcomes: Bytes) -> Option<Refusal> {
    let outcome = record::decode_outcomes(outcomes).ok()?.pop()?;
    if let Outcome::Refused(refusal) = outcome { Some(refusal) } else { None }
}

pub(super) fn run(holder: Holder) -> wire::Run {
    wire::Run { node: holder.node.0, incarnation: holder.incarnation.0 }
}

pub(super) fn holder(run: wire::Run) -> Holder {
    Holder { node: NodeId(run.node), incarnation: Incarnation(run.incarnation) }
}

#[cfg(test)]
mod tests {
    use pelago_core::message::Headers;

    use super::*;

    #[test]
    fn a_question_arrives_as_it_was_asked() {
        let agent = AgentId {
            namespace: Name::default_namespace(),
            name: Name::new("cart").expect("valid"),
            key: Some(Key::new("k/1").expect("valid")),
        };
        let key = IdempotencyKey { namespace: Name::default_namespace(), key: "once".into() };
        let remember = Some((key, BodyHash([7; 16])));
        let headers = Headers { message_type: 7, ..Headers::default() };
        let question = Question { agent, content: headers.of(Bytes::from_static(b"?")), remember };
        assert_eq!(decode_question(encode_question(&question)), Some(question));
        assert_eq!(decode_question(Bytes::from_static(b"\xff")), None);
    }

    #[test]
    fn every_failure_arrives_as_it_was() {
        let holder = Holder { node: NodeId(3), incarnation: Incarnation(9) };
        for failure in [
            Failure::Failed("no".into()),
            Failure::Hopeless("never".into()),
            Failure::Busy,
            Failure::SessionBusy,
            Failure::SessionFull { waiting: 32 },
            Failure::Interrupted,
            Failure::DiskFull,
            Failure::Refused(Refusal::Overtaken { position: 0 }),
            Failure::TimedOut { limit_ms: 5 },
            Failure::Refused(Refusal::TooEarly),
            Failure::Elsewhere(holder),
            Failure::Stopped,
            Failure::Unknown,
        ] {
            assert_eq!(decode_asked(encode_asked(Err(failure.clone()), None)), (Err(failure), None));
        }
        let yes = Ok(Bytes::from_static(b"yes"));
        assert_eq!(decode_asked(encode_asked(yes.clone(), Some(7))), (yes, Some(7)));
        assert_eq!(decode_asked(Bytes::from_static(b"\xff")), (Err(Failure::Unknown), None));
    }

    #[test]
    fn what_became_of_a_batch_arrives_as_it_was() {
        let applied = Applied { outcomes: vec![Outcome::Committed], index: 9 };
        assert_eq!(decode_proposed(encode_proposed(Ok(applied.clone()))), Ok(applied));
        for error in [
            ProposeError::NotLeader,
            ProposeError::Unknown,
            ProposeError::DiskFull,
            ProposeError::Malformed { why: "it is".into() },
        ] {
            assert_eq!(decode_proposed(encode_proposed(Err(error.clone()))), Err(error));
        }
        assert_eq!(decode_proposed(Bytes::from_static(b"\xff")), Err(ProposeError::Unknown));
    }
}
