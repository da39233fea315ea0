//! The documents of the line of sight: what a client may say, and what it hears.
//!
//! A frame's `type` says what it is. Whatever a client gives as `id`, any whole number, is repeated in the answer.

use std::{borrow::Cow, collections::BTreeMap, time::Duration};

use bytes::Bytes;
use pelago_core::id::SignalId;
use serde::{Deserialize, Serialize, de::IgnoredAny};
use serde_json::{Number, value::RawValue};

use crate::{
    http, json,
    model::{Branch, Load, NewSignal, Node, Offer, Signal},
    problem::{Code, Problem},
    text,
};

/// The version of the line of sight that this release speaks.
pub const VERSION: u32 = 1;
/// What a client may say.
const TYPES: &[&str] = &["Hello", "Signal", "Ping", "Metrics", "Discovery"];
/// How long a signal is waited for unless told.
const SIGNAL_WAIT: Duration = Duration::from_secs(30);
/// The longest name of a client, in bytes.
const NAME_BYTES_MAX: usize = 128;
const HINT: &str = r#"a frame is one JSON object, like {"type": "Ping", "id": 1}"#;

/// What a client says.
#[derive(Debug)]
pub enum Request<'a> {
    /// The first frame: who it is. The versions are the same.
    Hello {
        /// What it calls itself: signals are started in this name.
        name: Cow<'a, str>,
    },
    /// It starts a signal.
    Signal {
        /// The signal.
        signal: NewSignal<'a>,
        /// How long to wait for its end.
        wait: Duration,
    },
    /// It wants a sign of life.
    Ping,
    /// It wants the node's figures.
    Metrics,
    /// It wants to know which nodes there are.
    Discovery,
}

/// A frame that means nothing.
#[derive(Debug)]
pub struct Refused {
    /// Its id, if it has one that can be read.
    pub id: Option<u64>,
    /// Why.
    pub problem: Box<Problem>,
}

#[derive(Deserialize)]
#[serde(expecting = "an object with a `type`")]
struct Head<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(default)]
    id: Option<u64>,
}

#[derive(Deserialize)]
#[serde(expecting = "an object", deny_unknown_fields)]
struct Bare {
    #[serde(rename = "type")]
    _kind: IgnoredAny,
    #[serde(rename = "id")]
    _id: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(expecting = "an object", deny_unknown_fields)]
struct Hello<'a> {
    #[serde(rename = "type")]
    _kind: IgnoredAny,
    #[serde(rename = "id")]
    _id: Option<IgnoredAny>,
    #[serde(borrow)]
    name: Cow<'a, str>,
    version: u32,
}

#[derive(Deserialize)]
#[serde(expecting = "an object", deny_unknown_fields)]
struct SignalFrame<'a> {
    #[serde(rename = "type")]
    _kind: IgnoredAny,
    #[serde(rename = "id")]
    _id: Option<IgnoredAny>,
    #[serde(borrow)]
    from: Option<Cow<'a, str>>,
    #[serde(borrow)]
    to: Cow<'a, str>,
    #[serde(borrow)]
    content: Option<&'a RawValue>,
    timeout_ms: Option<u64>,
    hops_max: Option<u32>,
    #[serde(borrow)]
    wait: Option<Cow<'a, str>>,
}

impl<'a> Request<'a> {
    /// Reads the document of a frame. The id that its answer repeats, and what is said.
    ///
    /// # Errors
    /// [`Refused`] says what is wrong with it.
    pub fn read(document: &'a [u8]) -> Result<(Option<u64>, Self), Refused> {
        let head: Head<'_> =
            json::parse_head("frame", document, HINT).map_err(|problem| Refused { id: None, problem })?;
        let request = Self::of_type(&head.kind, document);
        request.map(|request| (head.id, request)).map_err(|problem| Refused { id: head.id, problem })
    }

    fn of_type(kind: &str, document: &'a [u8]) -> Result<Self, Box<Problem>> {
        let bare = |request| json::parse("frame", document, &["type", "id"]).map(|_: Bare| request);
        match kind {
            "Hello" => hello(json::parse("frame", document, &["type", "id", "name", "version"])?),
            "Signal" => {
                let fields = &["type", "id", "from", "to", "content", "timeout_ms", "hops_max", "wait"];
                signal(json::parse("frame", document, fields)?)
            }
            "Ping" => bare(Self::Ping),
            "Metrics" => bare(Self::Metrics),
            "Discovery" => bare(Self::Discovery),
            _ => Err(json::unknown("type", kind, TYPES)),
        }
    }
}

fn hello(hello: Hello<'_>) -> Result<Request<'_>, Box<Problem>> {
    let Hello { name, version, .. } = hello;
    if version != VERSION {
        let detail = format!("field `version`: this node speaks version {VERSION} of the line of sight, not {version}");
        return Err(bad_field(detail, &format!("say \"version\": {VERSION}")));
    }
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        let detail = format!("field `name`: it has {} bytes", name.len());
        return Err(bad_field(detail, &format!("a name has 1 to {NAME_BYTES_MAX} bytes")));
    }
    if name.contains(char::is_control) {
        return Err(bad_field("field `name`: it has control characters".to_owned(), "a name is a text on one line"));
    }
    Ok(Request::Hello { name })
}

fn signal(frame: SignalFrame<'_>) -> Result<Request<'_>, Box<Problem>> {
    let SignalFrame { _kind, _id, from, to, content, timeout_ms, hops_max, wait } = frame;
    let wait = match wait {
        Some(text) => http::duration(&text).ok_or_else(|| {
            let detail = format!("field `wait`: it must be a time, not {:?}", json::excerpt(&text));
            bad_field(detail, "like 500ms or 30s; \"0s\" does not wait")
        })?,
        None => SIGNAL_WAIT,
    };
    let signal = NewSignal { from, to, content, timeout_ms, hops_max };
    Ok(Request::Signal { signal, wait: wait.min(http::WAIT_MAX) })
}

fn bad_field(detail: String, hint: &str) -> Box<Problem> {
    Box::new(Problem::new(Code::BadField, detail, hint))
}

/// What a client hears.
#[derive(Debug, Serialize)]
#[serde(tag = "type")]
pub(super) enum Answer {
    /// Who the node is.
    Hello {
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<u64>,
        version: u32,
        release: &'static str,
        mesh: String,
        node: String,
        /// What the node hosts.
        agents: BTreeMap<String, Offer>,
    },
    /// What became of a signal.
    Signal {
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<u64>,
        #[serde(with = "text")]
        signal_id: SignalId,
        metadata: Metadata,
        signal: Box<Signal>,
    },
    Pong {
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<u64>,
    },
    Metrics {
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<u64>,
        node: String,
        /// What `/metrics` says of this node, by name and labels.
        figures: BTreeMap<String, Number>,
        /// How much other nodes have to do, as they said last.
        loads: BTreeMap<String, Load>,
    },
    Discovery {
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<u64>,
        nodes: Vec<Node>,
    },
    Error {
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<u64>,
        problem: Box<Problem>,
    },
}

/// Where a signal went, on the longest of its paths.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Metadata {
    /// How many hops it made.
    hop_count: String,
    /// The node that took it.
    #[serde(rename = "from_server")]
    from: String,
    /// The node that passed it on to the last agent; none as long as it has not ended.
    #[serde(rename = "via_server", skip_serializing_if = "Option::is_none")]
    via: Option<String>,
}

impl Answer {
    /// A signal, for the request `id`.
    pub(super) fn of_signal(id: Option<u64>, signal: Signal) -> Self {
        let path = signal.tree.as_ref().map(longest_path).unwrap_or_default();
        // The first agent was passed the signal by the node that took it.
        let via = path.iter().rev().nth(1).map_or(signal.node.as_str(), |node| *node);
        let metadata = Metadata {
            hop_count: path.len().to_string(),
            from: signal.node.clone(),
            via: signal.ended.then(|| via.to_owned()),
        };
        Self::Signal { id, signal_id: signal.id, metadata, signal: Box::new(signal) }
    }

    /// A frame with it. One that is too long says so instead.
    pub(super) fn frame(&self) -> Vec<u8> {
        let document = serde_json::to_vec(self).expect("an answer is JSON");
        super::frame::frame(&document).unwrap_or_else(|| {
            let detail = format!("the answer has {} bytes, more than a frame may have", document.len());
            let problem = Problem::new(Code::TooLarge, detail, "what was asked for was done; HTTP has no such limit");
            let (Self::Hello { id, .. }
            | Self::Signal { id, .. }
            | Self::Pong { id }
            | Self::Metrics { id, .. }
            | Self::Discovery { id, .. }
            | Self::Error { id, .. }) = self;
            Self::Error { id: *id, problem: Box::new(problem) }.frame()
        })
    }
}

/// The nodes of the longest path along which agents handled a signal. Trees are as deep as signals have hops.
fn longest_path(tree: &Branch) -> Vec<&str> {
    let Some(node) = &tree.node else { return Vec::new() };
    let mut path = tree.branches.iter().map(longest_path).max_by_key(Vec::len).unwrap_or_default();
    path.insert(0, node);
    path
}

/// What a page of metrics says, by name and labels.
pub(super) fn figures(page: &str) -> BTreeMap<String, Number> {
    let lines = page.lines().filter(|line| !line.starts_with('#'));
    let figure = |line: &str| {
        let (name, value) = line.rsplit_once(' ')?;
        let number = value.parse::<u64>().map(Number::from).ok().or_else(|| Number::from_f64(value.parse().ok()?))?;
        Some((name.to_owned(), number))
    };
    lines.filter_map(figure).collect()
}

/// The content of a signal, without a copy.
pub(super) fn content(document: &Bytes, signal: &NewSignal<'_>) -> Bytes {
    signal.content.map_or(Bytes::new(), |content| document.slice_ref(content.get().as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn branch(node: Option<&str>, branches: Vec<Branch>) -> Branch {
        let (to, outcome) = ("a".to_owned(), Cow::Borrowed("replied"));
        let (node, code, reason, reply) = (node.map(str::to_owned), None, None, None);
        Branch { to, node, outcome, code, reason, reply, stopped: false, took_us: 1, branches, left_out: 0 }
    }

    #[test]
    fn metadata_tell_of_the_longest_path() {
        let deep = branch(Some("b"), vec![branch(Some("c"), vec![branch(None, vec![])])]);
        let tree = branch(Some("a"), vec![branch(Some("d"), vec![]), deep]);
        assert_eq!(longest_path(&tree), ["a", "b", "c"]);
        assert_eq!(longest_path(&branch(None, vec![])), [""; 0]);
    }

    #[test]
    fn a_page_of_metrics_becomes_figures() {
        let read = figures("# HELP a_total A.\na_total 3\nb{le=\"1.0\"} 4\nc_sum 0.5\nd NaN\n# EOF\n");
        let read: Vec<_> = read.iter().map(|(name, number)| format!("{name}={number}")).collect();
        assert_eq!(read, ["a_total=3", "b{le=\"1.0\"}=4", "c_sum=0.5"]);
    }

    #[test]
    fn what_is_wrong_with_a_frame_is_told_with_its_field() {
        for (frame, code, said) in [
            ("", "PLG-2002", "the frame is not JSON"),
            ("[1]", "PLG-2003", "not an object"),
            (r#"["Ping", 1]"#, "PLG-2003", "not an object"),
            ("1", "PLG-2003", "an object with a `type`"),
            ("{}", "PLG-2003", "missing field `type`"),
            (r#"{"type": "Signl", "id": 7}"#, "PLG-2003", "did you mean `Signal`?"),
            (r#"{"type": 1}"#, "PLG-2003", "field `type`"),
            (r#"{"type": "Ping", "id": "a"}"#, "PLG-2003", "field `id`"),
            (r#"{"type": "Ping", "no": 1}"#, "PLG-2003", "field `no` is unknown"),
            (r#"{"type": "Signal"}"#, "PLG-2003", "missing field `to`"),
            (r#"{"type": "Signal", "to": "a", "wiat": "1s"}"#, "PLG-2003", "did you mean `wait`?"),
            (r#"{"type": "Signal", "to": "a", "wait": "soon"}"#, "PLG-2003", "field `wait`"),
            (r#"{"type": "Hello", "name": "a", "version": 2}"#, "PLG-2003", "say \"version\": 1"),
            (r#"{"type": "Hello", "name": "", "version": 1}"#, "PLG-2003", "field `name`"),
        ] {
            let Refused { id, problem } = Request::read(frame.as_bytes()).expect_err("it means nothing");
            let text = problem.to_string();
            assert!(problem.code == code && text.contains(said), "{frame}: {text}");
            assert_eq!(id, frame.contains("7").then_some(7), "{frame}");
        }
    }
}
