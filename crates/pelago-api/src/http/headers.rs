//! What a message says about itself, as headers of its HTTP request.

use std::str::FromStr;

use axum::http::{HeaderMap, header::CONTENT_TYPE};
use pelago_core::message::{ContentType, Headers, TraceContext};

use super::{Failure, failure::excerpt, query};
use crate::problem::Code;

pub(crate) const MESSAGE_TYPE: &str = "pelago-message-type";
pub(crate) const PRIORITY: &str = "pelago-priority";
pub(crate) const WITHIN: &str = "pelago-within";
pub(crate) const TRACE_PARENT: &str = "traceparent";
pub(crate) const TRACE_STATE: &str = "tracestate";

/// Reads them. A trace that cannot be read is none, as W3C Trace Context has it: it comes from elsewhere, and is no
/// reason to refuse a request.
pub(super) fn read(given: &HeaderMap) -> Result<Headers, Failure> {
    let content_type = content_type(given)?;
    Ok(Headers {
        message_type: parse(given, MESSAGE_TYPE, "a whole number below 4294967296", |text| text.parse().ok())?
            .unwrap_or_default(),
        content_type: content_type.filter(|content_type| !content_type.is_json()),
        priority: parse(given, PRIORITY, "a number from 0, the most urgent, to 9", |text| text.parse().ok())?
            .unwrap_or_default(),
        within: parse(given, WITHIN, "a time like 30s, 500ms or 2m", query::duration)?,
        trace: trace(given),
    })
}

/// A header of the request that is ours.
pub(super) fn own(given: &HeaderMap) -> Option<&'static str> {
    [MESSAGE_TYPE, PRIORITY, WITHIN].into_iter().find(|own| given.contains_key(*own))
}

/// Refuses headers that would go nowhere: what is durable, and a signal, carries none.
pub(super) fn refuse_own(given: &HeaderMap) -> Result<(), Failure> {
    let Some(own) = own(given) else { return Ok(()) };
    let hint =
        "questions, broadcasts, and what agents and topics are told carry it; a task has its priority in its body";
    Err(refused(format!("the header {own} goes nowhere with this request"), hint))
}

/// The trace that a request is part of.
pub(super) fn trace(given: &HeaderMap) -> Option<TraceContext> {
    let text = |name| given.get(name)?.to_str().ok();
    let trace = TraceContext::from_str(text(TRACE_PARENT)?).ok()?;
    Some(match text(TRACE_STATE) {
        Some(state) => trace.with_state(state),
        None => trace,
    })
}

fn content_type(given: &HeaderMap) -> Result<Option<ContentType>, Failure> {
    let Some(value) = given.get(CONTENT_TYPE) else { return Ok(None) };
    let text = value.to_str().unwrap_or("unreadable");
    let content_type = ContentType::new(text).map_err(|_invalid| {
        let detail = format!("the body is {}", excerpt(text));
        Failure::new(Code::WrongMediaType, detail, "a media type looks like application/json")
    })?;
    Ok(Some(content_type))
}

fn parse<T>(
    given: &HeaderMap,
    name: &str,
    what: &str,
    read: impl FnOnce(&str) -> Option<T>,
) -> Result<Option<T>, Failure> {
    let mut values = given.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let text = value.to_str().unwrap_or("unreadable").trim();
    if values.next().is_some() {
        return Err(refused(format!("the header {name} is given twice"), "give it once"));
    }
    match read(text) {
        Some(value) => Ok(Some(value)),
        None => Err(refused(format!("the header {name} is {}", excerpt(text)), &format!("it is {what}"))),
    }
}

fn refused(detail: String, hint: &str) -> Failure {
    Failure::new(Code::BadHeader, detail, hint)
}
