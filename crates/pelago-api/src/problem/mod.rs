//! What is said when a request comes to nothing: the same words over HTTP (`application/problem+json`, RFC 9457) and
//! in a terminal.
//!
//! [`Code`] is the table of all codes; `of_node` gives every error of a node its code, hint and next command.
//! `PLG-2xxx` are problems of requests, `PLG-1xxx` those of the configuration.

mod code;
mod of_node;

use std::{borrow::Cow, fmt};

use serde::{Deserialize, Serialize};

pub use code::Code;

/// Why a request came to nothing, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// The code as a URI, for software that knows only the RFC.
    #[serde(rename = "type")]
    pub uri: Cow<'static, str>,
    /// The stable code, like `PLG-2004`.
    pub code: Cow<'static, str>,
    /// What kind of problem it is.
    pub title: Cow<'static, str>,
    /// The HTTP status.
    pub status: u16,
    /// What happened this time.
    pub detail: String,
    /// What to know or to change.
    pub hint: String,
    /// The command to run next.
    #[serde(rename = "try", default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// Whether the same request may succeed later. Give it an idempotency key, so that it takes effect once.
    pub retryable: bool,
}

impl Problem {
    /// A problem without a next command.
    pub fn new(code: Code, detail: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            uri: Cow::Borrowed(code.uri()),
            code: Cow::Borrowed(code.as_str()),
            title: Cow::Borrowed(code.title()),
            status: code.status(),
            detail: detail.into(),
            hint: hint.into(),
            next: None,
            retryable: code.is_retryable(),
        }
    }

    /// The same with the command to run next.
    #[must_use]
    pub fn with_next(self, command: impl Into<String>) -> Self {
        Self { next: Some(command.into()), ..self }
    }

    /// Its code; `None` for one that this version does not know.
    #[must_use]
    pub fn code(&self) -> Option<Code> {
        Code::ALL.iter().copied().find(|code| code.as_str() == self.code)
    }
}

/// As a terminal shows it, without a line break at the end.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error[{}]: {}\n  hint: {}", self.code, self.detail, self.hint)?;
        match &self.next {
            Some(command) => write!(f, "\n  try:  {command}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_shows_code_hint_and_next_command() {
        let problem = Problem::new(Code::UnknownAgent, "agent cart:alic not found", "did you mean cart:alice?")
            .with_next("pelago agent ls");
        assert_eq!(
            problem.to_string(),
            "error[PLG-2004]: agent cart:alic not found\n  hint: did you mean cart:alice?\n  try:  pelago agent ls"
        );
    }

    #[test]
    fn a_problem_survives_its_json_and_keeps_its_code() {
        let problem = Problem::new(Code::Busy, "the mailbox is full", "try again");
        let text = serde_json::to_string(&problem).expect("a problem is JSON");
        assert!(text.starts_with(r#"{"type":"urn:pelago:PLG-2022","code":"PLG-2022","title":"#), "{text}");
        let back: Problem = serde_json::from_str(&text).expect("it reads what it wrote");
        assert_eq!((back.code(), &back), (Some(Code::Busy), &problem));
    }
}
