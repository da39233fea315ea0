//! What a message says about itself, as bytes: core's type to the wire's and back.
//!
//! The type is generated from `proto/pelago/message/v1/message.proto`; questions, broadcasts and published messages have
//! it as a field, and a message that is told has its bytes before it (see [`crate::tell`]).

use std::time::Duration;

use bytes::Bytes;
use pelago_core::message::{ContentType, Headers, Priority, TraceContext};
use prost::Message as _;

pub use proto::{Headers as Form, Trace};

pub(crate) mod proto {
    include!(concat!(env!("OUT_DIR"), "/pelago.message.v1.rs"));
}

/// Encodes headers: at most a few hundred bytes.
#[must_use]
pub fn encode(headers: &Headers) -> Bytes {
    Bytes::from(form(headers).encode_to_vec())
}

/// Decodes headers. `None` if they are none, or say what none can: whoever sent them is wrong.
#[must_use]
pub fn decode(bytes: &[u8]) -> Option<Headers> {
    value(Form::decode(bytes).ok()?)
}

/// How many bytes headers have. Those that came over a link had no fewer.
#[must_use]
pub fn bytes(headers: &Headers) -> usize {
    form(headers).encoded_len()
}

/// Headers as a field. `None` if they say nothing.
#[must_use]
pub fn field(headers: Option<&Headers>) -> Option<Form> {
    headers.map(form)
}

/// A field as headers.
///
/// # Errors
/// It says what no headers can.
pub fn of_field(form: Option<Form>) -> Result<Option<Box<Headers>>, NotHeaders> {
    form.map(|form| value(form).map(Box::new).ok_or(NotHeaders)).transpose()
}

/// A field that says what no headers can.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the headers are none that a message can have")]
pub struct NotHeaders;

fn form(headers: &Headers) -> Form {
    let Headers { message_type, content_type, priority, within, trace } = headers;
    Form {
        message_type: *message_type,
        content_type: content_type.as_ref().map(ContentType::to_string),
        priority: (*priority != Priority::DEFAULT).then(|| priority.get().into()),
        within_ms: within.map(|within| u64::try_from(within.as_millis()).unwrap_or(u64::MAX)),
        trace: trace.as_ref().map(trace_form),
    }
}

fn value(form: Form) -> Option<Headers> {
    let Form { message_type, content_type, priority, within_ms, trace } = form;
    Some(Headers {
        message_type,
        content_type: content_type.map(|text| ContentType::new(&text)).transpose().ok()?,
        priority: priority.map(Priority::new).transpose().ok()?.unwrap_or_default(),
        within: within_ms.map(Duration::from_millis),
        trace: match trace {
            Some(trace) => Some(trace_value(trace)?),
            None => None,
        },
    })
}

/// A trace as a field of its own.
#[must_use]
pub fn trace_form(TraceContext { trace, span, sampled, state }: &TraceContext) -> Trace {
    Trace {
        trace: Bytes::copy_from_slice(&trace.to_be_bytes()),
        span: *span,
        sampled: *sampled,
        state: state.as_deref().map(str::to_owned),
    }
}

/// Such a field as a trace. `None` if it is none.
#[must_use]
pub fn trace_value(Trace { trace, span, sampled, state }: Trace) -> Option<TraceContext> {
    let trace = u128::from_be_bytes(trace.as_ref().try_into().ok()?);
    if trace == 0 || span == 0 {
        return None;
    }
    let context = TraceContext { trace, span, sampled, state: None };
    Some(match state {
        Some(state) => context.with_state(&state),
        None => context,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Headers {
        let trace = TraceContext { trace: 7, span: 9, sampled: true, state: Some("a=1".into()) };
        Headers {
            message_type: 300,
            content_type: Some(ContentType::new("text/plain").expect("valid")),
            priority: Priority::new(0).expect("valid"),
            within: Some(Duration::from_millis(1_500)),
            trace: Some(trace),
        }
    }

    /// Bytes written by the first release that had headers. They must decode for ever.
    const FULL: &[u8] = b"\x08\xac\x02\x12\x0atext/plain\x18\0\x20\xdc\x0b\x2a\x22\x0a\x10\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x07\x11\x09\0\0\0\0\0\0\0\x18\x01\x22\x03a=1";

    #[test]
    fn headers_arrive_as_they_were_sent() {
        assert_eq!(encode(&full())[..], *FULL);
        assert_eq!(decode(FULL), Some(full()));
        assert_eq!(decode(b""), Some(Headers::default()));
        assert_eq!(of_field(field(Some(&full()))), Ok(Some(Box::new(full()))));
        assert_eq!(of_field(field(None)), Ok(None));
    }

    #[test]
    fn what_no_headers_say_is_refused() {
        for cut in 1..FULL.len() {
            // Never a panic; what a cut leaves whole may be headers.
            let _ = decode(&FULL[..cut]);
        }
        assert_eq!(decode(b"\xff"), None);
        let bad = |form: Form| assert_eq!(of_field(Some(form)), Err(NotHeaders));
        bad(Form { priority: Some(10), ..Form::default() });
        bad(Form { content_type: Some("text".into()), ..Form::default() });
        bad(Form { trace: Some(Trace::default()), ..Form::default() });
    }
}
