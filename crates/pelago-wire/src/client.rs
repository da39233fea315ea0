//! What a client asks of a node over its link, as bytes: questions, durable messages, tasks, their results and
//! that they are called off.
//!
//! The types are those generated from `proto/pelago/client/v1/client.proto`; `node::mesh` answers them and
//! `pelago::mesh` asks them.

use bytes::Bytes;
use pelago_core::id::TaskId;

pub use crate::message::{Malformed, decode, encode};
pub use proto::{
    Answer, Ask, Broadcast, Cancel, Cancelled, Converse, Ended, Enqueue, Enqueued, Failed, Find, Found, Published,
    Reached, Result as TaskResult, Send, Sent, Signal, Subscribe, Subscribed, Trace, Why, answer, ended,
};

mod proto {
    include!(concat!(env!("OUT_DIR"), "/pelago.client.v1.rs"));
}

/// What a frame from a client is about: its kind in `wire::frame`. Numbers below 64 are for nodes among themselves (see
/// `wire::mesh`). Every one is answered with an [`Answer`]. Numbers are never given another meaning.
pub mod kind {
    /// [`Ask`](super::Ask).
    pub const ASK: u16 = 64;
    /// [`Send`](super::Send).
    pub const SEND: u16 = 65;
    /// [`Enqueue`](super::Enqueue).
    pub const ENQUEUE: u16 = 66;
    /// [`TaskResult`](super::TaskResult).
    pub const RESULT: u16 = 67;
    /// [`Enqueue`](super::Enqueue), whose result is waited for too.
    pub const RUN: u16 = 68;
    /// [`Cancel`](super::Cancel).
    pub const CANCEL: u16 = 69;
    /// [`Find`](super::Find).
    pub const FIND: u16 = 70;
    /// [`Broadcast`](super::Broadcast).
    pub const BROADCAST: u16 = 71;
    /// [`Subscribe`](super::Subscribe).
    pub const SUBSCRIBE: u16 = 72;
    /// [`Converse`](super::Converse).
    pub const CONVERSE: u16 = 73;
    /// [`Signal`](super::Signal).
    pub const SIGNAL: u16 = 74;
    /// [`Trace`](super::Trace).
    pub const TRACE: u16 = 75;
}

/// The most subscriptions that a client has over one link.
pub const SUBSCRIPTIONS_MAX: usize = 1_024;

/// Writes a task's id.
#[must_use]
pub fn task_bytes(task: TaskId) -> Bytes {
    Bytes::copy_from_slice(&task.0.to_be_bytes())
}

/// Reads a task's id. `None` if it is not 16 bytes.
#[must_use]
pub fn task_of(bytes: &[u8]) -> Option<TaskId> {
    Some(TaskId(u128::from_be_bytes(bytes.try_into().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes written by the first release. They must decode for ever.
    const ASK: &[u8] = b"\x0a\x03a:b\x12\x01?\x1a\x01k";
    const SEND: &[u8] = b"\x0a\x03a:b\x12\x01!";
    const ENQUEUE: &[u8] = b"\x0a\x01a\x12\x01i\x18\x07\x20\xe8\x07\x28\x03\x30\x09\x38\x0a\x42\x01k";
    const RESULT: &[u8] = b"\x0a\x10\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x02";
    const CANCEL: &[u8] = b"\x0a\x10\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x02\x12\x01w";
    const FAILED: &[u8] = b"\x2a\x06\x08\x0c\x12\x02no";

    fn check<M: prost::Message + Default + PartialEq + std::fmt::Debug>(message: &M, bytes: &'static [u8]) {
        assert_eq!(encode(message)[..], *bytes, "{message:?}");
        assert_eq!(decode::<M>("message", Bytes::from_static(bytes)).as_ref(), Ok(message));
    }

    #[test]
    fn what_the_first_release_asked_is_read_and_written_alike() {
        let payload = Bytes::from_static;
        let (to, idempotency) = ("a:b".into(), Some("k".into()));
        check(&Ask { to, payload: payload(b"?"), idempotency, headers: None, affinity: None }, ASK);
        check(&Send { to: "a:b".into(), payload: payload(b"!"), idempotency: None }, SEND);
        let enqueue = Enqueue {
            to: "a".into(),
            input: payload(b"i"),
            priority: Some(7),
            delay_ms: 1_000,
            attempts_max: Some(3),
            attempt_ms_max: Some(9),
            backoff_ms: Some(10),
            idempotency: Some("k".into()),
            trace: None,
            session: None,
            session_ttl_ms: None,
            affinity: None,
        };
        check(&enqueue, ENQUEUE);
        check(&TaskResult { task: task_bytes(TaskId(0x0102)) }, RESULT);
        check(&Find { to: "a:b".into() }, b"\x0a\x03a:b");
        check(&Cancel { task: task_bytes(TaskId(0x0102)), reason: Some("w".into()) }, CANCEL);
    }

    #[test]
    fn what_the_first_release_answered_is_read_and_written_alike() {
        let answer = |answer| Answer { answer: Some(answer) };
        check(&answer(answer::Answer::Reply(Bytes::from_static(b"r"))), b"\x0a\x01r");
        check(&answer(answer::Answer::Sent(Sent { duplicate: true })), b"\x12\x02\x08\x01");
        let enqueued = Enqueued { task: Bytes::from_static(b"t"), existing: true };
        check(&answer(answer::Answer::Enqueued(enqueued)), b"\x1a\x05\x0a\x01t\x10\x01");
        let ended = |how| answer(answer::Answer::Ended(Ended { how: Some(how) }));
        check(&ended(ended::How::Done(Bytes::from_static(b"d"))), b"\x22\x03\x0a\x01d");
        check(&ended(ended::How::Dead("d".into())), b"\x22\x03\x12\x01d");
        check(&ended(ended::How::Cancelled("c".into())), b"\x22\x03\x1a\x01c");
        check(&answer(answer::Answer::Cancelled(Cancelled {})), b"\x32\0");
        check(&answer(answer::Answer::Found(Found {})), b"\x3a\0");
        check(&answer(answer::Answer::Failed(Failed { why: Why::Busy.into(), text: "no".into() })), FAILED);
    }

    #[test]
    fn cut_bytes_and_short_ids_are_refused() {
        assert!(decode::<Answer>("answer", Bytes::from_static(&FAILED[..5])).is_err());
        assert_eq!(task_of(b"short"), None);
        assert_eq!(task_of(&task_bytes(TaskId(7))), Some(TaskId(7)));
    }
}
