//! Reads JSON from strangers: what does not fit is told with its field, and what was probably meant.

use std::collections::BTreeMap;

use pelago_core::nearest::nearest;
use serde::{Deserialize, de::IgnoredAny};

use crate::problem::{Code, Problem};

/// Reads `bytes` as `T`, whose fields are `fields`; `what` it is called in the problem.
pub(crate) fn parse<'b, T: Deserialize<'b>>(what: &str, bytes: &'b [u8], fields: &[&str]) -> Result<T, Box<Problem>> {
    let hint = || format!("the {what} is an object with {}", fields.join(", "));
    read(what, bytes, hint, || match unknown_field(bytes, fields) {
        Some(given) => unknown("field", &given, fields),
        None => misfit::<T>(what, bytes, hint()),
    })
}

/// Reads of `bytes` what `T` has, whatever else they hold.
pub(crate) fn parse_head<'b, T: Deserialize<'b>>(what: &str, bytes: &'b [u8], hint: &str) -> Result<T, Box<Problem>> {
    read(what, bytes, || hint.to_owned(), || misfit::<T>(what, bytes, hint.to_owned()))
}

fn read<'b, T: Deserialize<'b>>(
    what: &str,
    bytes: &'b [u8],
    hint: impl FnOnce() -> String,
    misfit: impl FnOnce() -> Box<Problem>,
) -> Result<T, Box<Problem>> {
    match serde_json::from_slice(bytes) {
        Err(error) if !error.is_data() => Err(not_json(what, &error)),
        // The reader takes the items of a list for fields in order, which nobody means.
        _ if bytes.trim_ascii_start().starts_with(b"[") => {
            Err(Box::new(Problem::new(Code::BadField, format!("the {what} is a list, not an object"), hint())))
        }
        Ok(value) => Ok(value),
        Err(_misfit) => Err(misfit()),
    }
}

/// What is said of bytes that are no JSON.
pub(crate) fn not_json(what: &str, error: &serde_json::Error) -> Box<Problem> {
    let detail = format!("the {what} is not JSON: {error}");
    Box::new(Problem::new(Code::BadJson, detail, "a text in JSON stands in double quotes"))
}

/// What is said of a word that is not among those that it may be.
pub(crate) fn unknown(what: &str, given: &str, known: &[&str]) -> Box<Problem> {
    let given = excerpt(given);
    let hint = match nearest(&given, known.iter().copied()) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None => format!("the {what}s are {}", known.join(", ")),
    };
    Box::new(Problem::new(Code::BadField, format!("{what} `{given}` is unknown"), hint))
}

/// So much of a stranger's text as a message can bear.
pub(crate) fn excerpt(text: &str) -> String {
    const CHARS_MAX: usize = 80;
    match text.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

fn misfit<'b, T: Deserialize<'b>>(what: &str, bytes: &'b [u8], hint: String) -> Box<Problem> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let detail = match serde_path_to_error::deserialize::<_, T>(&mut reader) {
        Err(error) if error.path().iter().next().is_some() => format!("field `{}`: {}", error.path(), error.inner()),
        Err(error) => error.inner().to_string(),
        Ok(_) => format!("the {what} does not fit"),
    };
    Box::new(Problem::new(Code::BadField, excerpt_long(&detail), hint))
}

fn unknown_field(bytes: &[u8], fields: &[&str]) -> Option<String> {
    let given: BTreeMap<String, IgnoredAny> = serde_json::from_slice(bytes).ok()?;
    given.into_keys().find(|name| !fields.contains(&name.as_str()))
}

/// The reader's messages quote what they found, which may be long.
fn excerpt_long(detail: &str) -> String {
    const CHARS_MAX: usize = 300;
    detail.chars().take(CHARS_MAX).collect()
}
