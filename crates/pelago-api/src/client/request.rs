//! A request before it is sent, so that it can be sent to one node or to another.

use std::time::Duration;

use bytes::Bytes;
use pelago_core::message::{Content, ContentType, Headers, Priority, TraceContext};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Method, RequestBuilder, header::CONTENT_TYPE};
use serde::Serialize;

use crate::http::headers;

/// How long an answer may take, beyond what the request itself waits for.
const ANSWER_MAX: Duration = Duration::from_secs(15);
/// How long a node waits for an agent's reply when it is not told.
const REPLY_MAX: Duration = Duration::from_secs(30);
/// What stands for itself in one segment of a path. `/` does not: an address is one segment.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b':');

pub(super) struct Request {
    method: Method,
    path: String,
    query: Vec<(&'static str, String)>,
    body: Option<Bytes>,
    idempotency_key: Option<String>,
    about: Headers,
    answer_max: Duration,
}

impl Request {
    pub(super) fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path.into())
    }

    pub(super) fn post(path: impl Into<String>) -> Self {
        Self::new(Method::POST, path.into())
    }

    pub(super) fn delete(path: impl Into<String>) -> Self {
        Self::new(Method::DELETE, path.into())
    }

    fn new(method: Method, path: String) -> Self {
        Self {
            method,
            path,
            query: Vec::new(),
            body: None,
            idempotency_key: None,
            about: Headers::NONE,
            answer_max: ANSWER_MAX,
        }
    }

    /// A segment of its path that a URL does not keep, so that the request would be another one.
    pub(super) fn lost_segment(&self) -> Option<&str> {
        self.path.split('/').skip(1).find(|segment| matches!(*segment, "" | "." | ".."))
    }

    /// With a parameter, if it has a value.
    pub(super) fn with(mut self, name: &'static str, value: Option<impl ToString>) -> Self {
        self.query.extend(value.map(|value| (name, value.to_string())));
        self
    }

    /// With a body that is JSON already.
    pub(super) fn body(self, json: Bytes) -> Self {
        Self { body: Some(json), ..self }
    }

    /// With a body that is a message, and what it says about itself.
    pub(super) fn message(self, content: Content) -> Self {
        let Content { headers, payload } = content;
        Self { about: headers.map_or(Headers::NONE, |about| *about), ..self.body(payload) }
    }

    pub(super) fn json(self, body: &impl Serialize) -> Self {
        self.body(serde_json::to_vec(body).expect("a request is JSON").into())
    }

    pub(super) fn keyed(self, idempotency_key: Option<&str>) -> Self {
        Self { idempotency_key: idempotency_key.map(str::to_owned), ..self }
    }

    /// Lets the node wait for what is asked.
    pub(super) fn waiting(self, wait: Option<Duration>) -> Self {
        let Some(wait) = wait else { return self };
        let waiting = Self { answer_max: wait + ANSWER_MAX, ..self };
        waiting.with("wait", Some(format!("{}ms", wait.as_millis())))
    }

    /// The same for an ask, which waits even when it is not told how long.
    pub(super) fn waiting_for_reply(self, wait: Option<Duration>) -> Self {
        Self { answer_max: REPLY_MAX + ANSWER_MAX, ..self }.waiting(wait)
    }

    /// Whether it does no more when two nodes get it than when one does.
    pub(super) fn is_repeatable(&self) -> bool {
        self.method == Method::GET || self.idempotency_key.is_some()
    }

    /// As it is sent to the node at `base`, as part of `trace` unless its message says of which.
    pub(super) fn to(&self, http: &reqwest::Client, base: &str, trace: Option<&TraceContext>) -> RequestBuilder {
        let Self { method, path, query, body, idempotency_key, about, answer_max } = self;
        let mut request = http.request(method.clone(), format!("{base}{path}")).timeout(*answer_max).query(query);
        if let Some(body) = body {
            let content_type = about.content_type.as_ref().map_or("application/json", ContentType::as_str);
            request = said(request.header(CONTENT_TYPE, content_type), about).body(body.clone());
        }
        if let Some(trace) = about.trace.as_ref().or(trace) {
            request = traced(request, trace);
        }
        match idempotency_key {
            Some(key) => request.header("idempotency-key", key),
            None => request,
        }
    }
}

fn traced(request: RequestBuilder, trace: &TraceContext) -> RequestBuilder {
    let request = request.header(headers::TRACE_PARENT, trace.to_string());
    match &trace.state {
        Some(state) => request.header(headers::TRACE_STATE, &**state),
        None => request,
    }
}

/// With what a message says about itself, but for its type of content and its trace.
fn said(mut request: RequestBuilder, about: &Headers) -> RequestBuilder {
    let Headers { message_type, content_type, priority, within, trace: _ } = about;
    // A content type that pages may send too is taken with one of these.
    if *message_type != 0 || content_type.is_some() {
        request = request.header(headers::MESSAGE_TYPE, *message_type);
    }
    if *priority != Priority::DEFAULT {
        request = request.header(headers::PRIORITY, u16::from(priority.get()));
    }
    match within {
        Some(within) => request.header(headers::WITHIN, format!("{}ms", within.as_millis())),
        None => request,
    }
}

/// The path of an agent, or of something that is done with it.
pub(super) fn agent_path(address: &str, action: &str) -> String {
    format!("/api/v1/agents/{}{action}", utf8_percent_encode(address, SEGMENT))
}

/// The path of a session.
pub(super) fn session_path(agent: &str, session: &str) -> String {
    format!("/api/v1/sessions/{}/{}", utf8_percent_encode(agent, SEGMENT), utf8_percent_encode(session, SEGMENT))
}

/// The path of a topic.
pub(super) fn topic_path(topic: &str) -> String {
    format!("/api/v1/topics/{}", utf8_percent_encode(topic, SEGMENT))
}

/// The path of a node.
pub(super) fn node_path(name: &str) -> String {
    format!("/api/v1/nodes/{}", utf8_percent_encode(name, SEGMENT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_one_segment_of_a_path() {
        assert_eq!(agent_path("n1/section:src/a b.rs", "/ask"), "/api/v1/agents/n1%2Fsection:src%2Fa%20b.rs/ask");
    }

    #[test]
    fn a_segment_that_a_url_does_not_keep_is_found() {
        for (path, lost) in [
            (session_path("chat", "."), Some(".")),
            (session_path("..", "s1"), Some("..")),
            (agent_path("", "/ask"), Some("")),
            (node_path(".n"), None),
            (agent_path("cart:.", "/ask"), None),
        ] {
            assert_eq!(Request::get(path).lost_segment(), lost);
        }
    }

    #[test]
    fn only_what_reads_or_has_a_key_is_repeatable() {
        assert!(Request::get("/api/v1/status").is_repeatable());
        assert!(!Request::post("/api/v1/tasks").is_repeatable());
        assert!(Request::post("/api/v1/tasks").keyed(Some("order-17")).is_repeatable());
    }
}
