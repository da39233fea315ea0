//! What a message says, and what it says about itself.
//!
//! Most messages say nothing about themselves, and cost nothing for what they could: [`Content::headers`] is a null
//! pointer then. Headers are for whoever sends and whoever handles a message; a node looks only at how urgent it is and
//! how long it is wanted.

mod to_tell;

use std::{fmt, str::FromStr, sync::Arc, time::Duration};

use bytes::Bytes;

pub use self::to_tell::ToTell;
use crate::id::Invalid;

/// A payload, and what it says about itself, if anything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Content {
    /// What it says about itself. `None` is the same as [`Headers::default`].
    pub headers: Option<Box<Headers>>,
    /// What it says.
    pub payload: Bytes,
}

/// What a message says about itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Headers {
    /// Its type, as those who send and those who handle it agreed; 0 if it has none.
    pub message_type: u32,
    /// What its payload is; JSON unless said.
    pub content_type: Option<ContentType>,
    /// How urgent it is: of what waits for an agent, the more urgent is handled first.
    pub priority: Priority,
    /// How long it is wanted, from when it was told. What nobody wants any more is not handled, and counts as lost. A
    /// question is wanted as long as its asker waits.
    pub within: Option<Duration>,
    /// The trace that it is part of.
    pub trace: Option<TraceContext>,
}

/// How urgent something is: 0 is the most urgent, [`Priority::MAX`] the least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Priority(u8);

/// A media type, such as `text/plain; charset=utf-8`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentType(Arc<str>);

/// A trace, and the span in it that something follows from, after W3C Trace Context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace; never 0.
    pub trace: u128,
    /// The span; never 0.
    pub span: u64,
    /// Whether its spans are recorded.
    pub sampled: bool,
    /// What vendors of tracing systems add, as it came: `tracestate`.
    pub state: Option<Arc<str>>,
}

impl Content {
    /// What it says about itself.
    #[must_use]
    pub fn headers(&self) -> &Headers {
        self.headers.as_deref().unwrap_or(&Headers::NONE)
    }

    /// How urgent it is.
    #[must_use]
    pub fn priority(&self) -> Priority {
        self.headers().priority
    }

    /// Whether nobody wants it any more, so long after it was told.
    #[must_use]
    pub fn is_late(&self, after: Duration) -> bool {
        self.headers().within.is_some_and(|within| after >= within)
    }
}

impl From<Bytes> for Content {
    fn from(payload: Bytes) -> Self {
        Self { headers: None, payload }
    }
}

impl From<String> for Content {
    fn from(text: String) -> Self {
        Bytes::from(text).into()
    }
}

impl From<&'static str> for Content {
    fn from(text: &'static str) -> Self {
        Bytes::from_static(text.as_bytes()).into()
    }
}

impl From<Vec<u8>> for Content {
    fn from(payload: Vec<u8>) -> Self {
        Bytes::from(payload).into()
    }
}

impl Headers {
    /// What a message says that says nothing about itself.
    pub const NONE: Self =
        Self { message_type: 0, content_type: None, priority: Priority::DEFAULT, within: None, trace: None };

    /// What goes along with what follows from a message: how urgent it is, and its trace.
    #[must_use]
    pub fn onward(&self) -> Self {
        Self { priority: self.priority, trace: self.trace.clone(), ..Self::NONE }
    }

    /// A payload that says this about itself.
    #[must_use]
    pub fn of(self, payload: Bytes) -> Content {
        let headers = if self == Self::NONE { None } else { Some(Box::new(self)) };
        Content { headers, payload }
    }
}

impl Priority {
    /// What everything else comes before.
    pub const MAX: u8 = 9;

    /// The priority of what names none.
    pub const DEFAULT: Self = Self(4);

    /// Checks that there is such a priority.
    ///
    /// # Errors
    /// [`Invalid`] if `number` is more than [`Self::MAX`].
    pub fn new(number: u32) -> Result<Self, Invalid> {
        let rule = "a priority is a number from 0, the most urgent, to 9";
        let allowed = u8::try_from(number).ok().filter(|number| *number <= Self::MAX);
        allowed.map(Self).ok_or_else(|| Invalid::new(&number.to_string(), rule))
    }

    /// Its number.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0
    }
}

impl Default for Priority {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Priority {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let number =
            text.parse().map_err(|_| Invalid::new(text, "a priority is a number from 0, the most urgent, to 9"));
        Self::new(number?)
    }
}

impl ContentType {
    /// The longest, in bytes.
    pub const BYTES_MAX: usize = 128;

    /// Checks `text`.
    ///
    /// # Errors
    /// [`Invalid`] names the rule that `text` breaks.
    pub fn new(text: &str) -> Result<Self, Invalid> {
        let essence = text.split(';').next().unwrap_or(text).trim_end();
        let is_token = |part: &str| {
            let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte);
            !part.is_empty() && part.bytes().all(is_allowed)
        };
        let is_type = essence.split_once('/').is_some_and(|(kind, of)| is_token(kind) && is_token(of));
        let is_printable = text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
        if !is_type || !is_printable || text.len() > Self::BYTES_MAX {
            let rule = "a content type is a media type such as text/plain, of 128 bytes at most";
            return Err(Invalid::new(text, rule));
        }
        Ok(Self(text.into()))
    }

    /// It as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether payloads of this type are JSON.
    #[must_use]
    pub fn is_json(&self) -> bool {
        let essence = self.0.split(';').next().unwrap_or(&self.0).trim_end().to_ascii_lowercase();
        essence == "application/json" || essence.ends_with("+json")
    }
}

impl fmt::Display for ContentType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ContentType {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        Self::new(text)
    }
}

impl TraceContext {
    /// The longest `tracestate`, in bytes: as much as everybody must pass on.
    pub const STATE_BYTES_MAX: usize = 512;

    /// The same trace, from another span on.
    #[must_use]
    pub fn at(&self, span: u64) -> Self {
        Self { span, ..self.clone() }
    }

    /// With what a `tracestate` says; one that is too long or unreadable is left out, as the standard has it.
    #[must_use]
    pub fn with_state(self, state: &str) -> Self {
        let is_kept = !state.is_empty()
            && state.len() <= Self::STATE_BYTES_MAX
            && state.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
        Self { state: is_kept.then(|| state.into()), ..self }
    }
}

/// As `traceparent` says it.
impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace, self.span, u8::from(self.sampled))
    }
}

/// From a `traceparent`. Later versions may add parts at the end.
impl FromStr for TraceContext {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let rule = "a traceparent looks like 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let read = || {
            let mut parts = text.split('-');
            let mut part = |digits: usize| {
                let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
                parts.next().filter(|part| part.len() == digits && part.bytes().all(is_hex))
            };
            let (version, trace, span, flags) = (part(2)?, part(32)?, part(16)?, part(2)?);
            if version == "ff" || version == "00" && parts.next().is_some() {
                return None;
            }
            let trace = u128::from_str_radix(trace, 16).ok().filter(|trace| *trace != 0)?;
            let span = u64::from_str_radix(span, 16).ok().filter(|span| *span != 0)?;
            let sampled = u8::from_str_radix(flags, 16).ok()? & 1 == 1;
            Some(Self { trace, span, sampled, state: None })
        };
        read().ok_or_else(|| Invalid::new(text, rule))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_that_says_nothing_about_itself_is_a_payload() {
        let plain = Headers::default().of(Bytes::from_static(b"1"));
        assert_eq!(plain, Content::from(Bytes::from_static(b"1")));
        assert_eq!(plain.headers(), &Headers::default());
        let urgent = Headers { priority: Priority::new(0).expect("valid"), ..Headers::default() };
        assert_eq!(urgent.clone().of(Bytes::new()).headers(), &urgent);
    }

    #[test]
    fn a_message_is_late_once_its_time_has_passed() {
        let within = |within| Headers { within, ..Headers::default() }.of(Bytes::new());
        let second = Duration::from_secs(1);
        assert!(!within(None).is_late(Duration::MAX));
        assert!(!within(Some(second)).is_late(Duration::from_millis(999)));
        assert!(within(Some(second)).is_late(second));
    }

    #[test]
    fn a_traceparent_is_read_as_the_standard_has_it() {
        let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let trace: TraceContext = text.parse().expect("it is the standard's own");
        assert_eq!((trace.span, trace.sampled, trace.to_string()), (0x00f0_67aa_0ba9_02b7, true, text.to_owned()));
        for (bad, why) in [
            ("", "nothing"),
            ("ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "the version that is none"),
            ("00-00000000000000000000000000000000-00f067aa0ba902b7-01", "no trace"),
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", "no span"),
            ("00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01", "capitals"),
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x", "more than version 00 has"),
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7", "no flags"),
        ] {
            assert!(bad.parse::<TraceContext>().is_err(), "{why}");
        }
        let later = "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-02-more";
        assert_eq!(later.parse::<TraceContext>().map(|trace| trace.sampled), Ok(false));
        assert_eq!(trace.clone().with_state("a=1,b=2").state.as_deref(), Some("a=1,b=2"));
        assert_eq!(trace.with_state(&"x".repeat(513)).state, None);
    }

    #[test]
    fn priorities_and_content_types_are_checked() {
        assert_eq!("0".parse::<Priority>().map(Priority::get), Ok(0));
        assert!(["10", "-1", "", "high"].iter().all(|bad| bad.parse::<Priority>().is_err()));
        for good in ["text/plain", "application/json; charset=utf-8", "image/svg+xml"] {
            assert_eq!(ContentType::new(good).as_ref().map(ContentType::as_str), Ok(good));
        }
        let long = format!("text/{}", "x".repeat(ContentType::BYTES_MAX));
        for bad in ["", "text", "/plain", "text/", "te xt/plain", "text/pl\u{e4}in", "text/plain\n", &long] {
            assert!(ContentType::new(bad).is_err(), "{bad:?}");
        }
        let is_json = |text| ContentType::new(text).expect("valid").is_json();
        assert!(is_json("application/JSON;x") && is_json("application/problem+json") && !is_json("text/plain"));
    }
}
