//! What a command line gives an agent: JSON as it stands, any other text as a JSON string. What looks like JSON and is
//! broken is neither, unless `--text` says that it is meant as text.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
    time::Duration,
};

use bytes::Bytes;
use pelago_api::problem::{Code, Problem};
use pelago_core::{
    message::{Content, ContentType, Headers, Priority, TraceContext},
    record::PAYLOAD_BYTES_MAX,
};
use serde_json::value::RawValue;

use crate::{
    output::{Error, Output},
    problem,
};

/// The input of a command that gives an agent something.
#[derive(Debug, clap::Args)]
pub(crate) struct InputArgs {
    /// JSON, any other text (given as a JSON string), @FILE, or - for stdin
    #[arg(value_name = "INPUT", allow_negative_numbers = true)]
    input: Option<String>,
    /// INPUT is text, even if it looks like JSON
    #[arg(long, requires = "input")]
    text: bool,
}

/// What a message says about itself.
#[derive(Debug, clap::Args)]
pub(crate) struct AboutArgs {
    /// The type of the message, a number on which sender and agent agreed
    #[arg(long = "type", value_name = "N", default_value_t = 0, hide_default_value = true)]
    message_type: u32,
    /// What INPUT is, if it is no JSON: it goes as it is
    #[arg(long, value_name = "MEDIA-TYPE", conflicts_with = "text")]
    content_type: Option<ContentType>,
    /// How urgent it is: 0 the most, 9 the least
    #[arg(long, value_name = "N", default_value_t = Priority::DEFAULT)]
    priority: Priority,
    /// Nobody wants it any more after so long: like 500ms or 30s
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    within: Option<Duration>,
    #[command(flatten)]
    trace: TraceArgs,
}

/// Which trace a request belongs to.
#[derive(Debug, clap::Args)]
pub(crate) struct TraceArgs {
    /// The trace it is part of; unless given, the one that TRACEPARENT of the environment names
    #[arg(long, value_name = "TRACEPARENT")]
    traceparent: Option<TraceContext>,
}

impl TraceArgs {
    /// A variable that cannot be read names none, as in W3C Trace Context: whoever set it may not know of us.
    pub(crate) fn context(&self) -> Option<TraceContext> {
        let of_environment = || std::env::var("TRACEPARENT").ok()?.parse().ok();
        self.traceparent.clone().or_else(of_environment)
    }
}

impl AboutArgs {
    fn headers(&self) -> Headers {
        Headers {
            message_type: self.message_type,
            content_type: self.content_type.clone().filter(|content_type| !content_type.is_json()),
            priority: self.priority,
            within: self.within,
            trace: self.trace.context(),
        }
    }
}

impl InputArgs {
    /// The input as it was written.
    pub(crate) fn written(&self) -> Option<&str> {
        self.input.as_deref()
    }

    /// Reads it as the payload of a message that says this about itself: as it is, unless that is JSON.
    pub(crate) fn message(&self, about: &AboutArgs, output: Output) -> Result<Content, Error> {
        let headers = about.headers();
        let is_json = headers.content_type.as_ref().is_none_or(ContentType::is_json);
        let payload = if is_json { Bytes::from(self.read(output)?.get().to_owned()) } else { self.raw()? };
        Ok(headers.of(payload))
    }

    fn raw(&self) -> Result<Bytes, Error> {
        let bytes = match self.written() {
            None => Vec::new(),
            Some("-") => bounded(io::stdin().lock(), Path::new("stdin"))?,
            Some(text) => match text.strip_prefix('@') {
                Some(path) => file(Path::new(path))?,
                None => text.as_bytes().to_vec(),
            },
        };
        Ok(bytes.into())
    }

    /// Reads it, and tells people if it was made a string although nobody said so.
    pub(crate) fn read(&self, output: Output) -> Result<Box<RawValue>, Error> {
        let text = match self.written() {
            None => return Ok(RawValue::NULL.to_owned()),
            Some("-") => text_of(Path::new("-"))?,
            Some(text) => match text.strip_prefix('@') {
                Some(path) => text_of(Path::new(path))?,
                None => text.to_owned(),
            },
        };
        if self.text {
            return Ok(string(&text));
        }
        payload(&text, output)
    }
}

/// What a text gives an agent: JSON as it stands, anything else as a JSON string, which people are told.
pub(crate) fn payload(text: &str, output: Output) -> Result<Box<RawValue>, Error> {
    match serde_json::from_str(text) {
        Ok(json) => Ok(json),
        Err(cause) if text.trim_start().starts_with(['{', '[', '"']) => Err(problem::broken_json(&cause).into()),
        Err(_not_json) => {
            output.note("the input is not JSON, so it goes as a JSON string");
            Ok(string(text))
        }
    }
}

/// The text of a file, or of stdin if it is called `-`.
pub(crate) fn text_of(path: &Path) -> Result<String, Error> {
    let bytes = if path == Path::new("-") { bounded(io::stdin().lock(), Path::new("stdin"))? } else { file(path)? };
    String::from_utf8(bytes).map_err(|_not_text| {
        let cause = io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8");
        problem::unreadable_input(path, &cause).into()
    })
}

pub(crate) fn string(text: &str) -> Box<RawValue> {
    serde_json::value::to_raw_value(text).expect("any text is a JSON string")
}

fn file(path: &Path) -> Result<Vec<u8>, Error> {
    let file = File::open(path).map_err(|cause| problem::unreadable_input(path, &cause))?;
    bounded(file, path)
}

/// Reads no more than an agent may be given, so that a wrong file does not fill the memory.
fn bounded(from: impl Read, name: &Path) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let limit = PAYLOAD_BYTES_MAX as u64 + 1;
    from.take(limit).read_to_end(&mut bytes).map_err(|cause| problem::unreadable_input(name, &cause))?;
    if bytes.len() > PAYLOAD_BYTES_MAX {
        let detail = format!("{} has more than {PAYLOAD_BYTES_MAX} bytes", name.display());
        let hint = "keep large data elsewhere and pass its address";
        return Err(Problem::new(Code::TooLarge, detail, hint).into());
    }
    Ok(bytes)
}

/// Reads a duration: a whole number with `ms`, `s`, `m` or `h`.
pub(crate) fn duration(text: &str) -> Result<Duration, &'static str> {
    const EXPECTED: &str = "a duration is a whole number with ms, s, m or h, like 500ms or 30s";
    let unit_at = text.find(|letter: char| !letter.is_ascii_digit()).ok_or(EXPECTED)?;
    let (number, unit) = text.split_at(unit_at);
    let number: u64 = number.parse().map_err(|_| EXPECTED)?;
    let ms = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(EXPECTED),
    };
    let ms = number.checked_mul(ms).ok_or(EXPECTED)?;
    if ms > DURATION_MS_MAX {
        return Err("a duration is at most 10,000 hours");
    }
    Ok(Duration::from_millis(ms))
}

/// More than anybody waits; less than any clock overflows at.
const DURATION_MS_MAX: u64 = 10_000 * 3_600_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(argument: Option<&str>, text: bool) -> Result<String, Error> {
        let args = InputArgs { input: argument.map(str::to_owned), text };
        let output = Output::new(crate::output::Format::Json, clap::ColorChoice::Never);
        args.read(output).map(|json| json.get().to_owned())
    }

    fn given(argument: &str) -> String {
        read(Some(argument), false).expect("it is an input")
    }

    #[test]
    fn json_stays_as_it_is_and_text_becomes_a_string() {
        assert_eq!(read(None, false).expect("nothing is null"), "null");
        assert_eq!(given("1"), "1");
        assert_eq!(given("{\"a\": [1.0]}"), "{\"a\": [1.0]}");
        assert_eq!(given("\"@a\""), "\"@a\"");
        assert_eq!(given("write a \"poem\""), r#""write a \"poem\"""#);
        assert_eq!(given("12 apples"), "\"12 apples\"");
    }

    #[test]
    fn broken_json_is_refused_unless_it_is_meant_as_text() {
        for broken in ["{broken", "[1, 2", "\"open", " {\"text\":", "{} {}"] {
            assert_eq!(refused(broken), "PLG-3008", "{broken}");
            let text = read(Some(broken), true).expect("any text can be sent");
            assert_eq!(serde_json::from_str::<String>(&text).expect("it is a string"), broken);
        }
        assert_eq!(read(Some("1"), true).expect("any text can be sent"), "\"1\"");
        let Err(Error::Problem(problem)) = read(Some("{\"text\":"), false) else { panic!("broken JSON passed") };
        assert!(problem.detail.contains("line 1 column 8") && problem.hint.contains("--text"), "{problem}");
    }

    #[test]
    fn a_file_is_read_up_to_what_an_agent_may_be_given() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("input.json");
        std::fs::write(&path, "[1, 2]").expect("the folder is ours");
        assert_eq!(given(&format!("@{}", path.display())), "[1, 2]");

        std::fs::write(&path, "x".repeat(PAYLOAD_BYTES_MAX + 1)).expect("the folder is ours");
        assert_eq!(refused(&format!("@{}", path.display())), Code::TooLarge.as_str());
        assert_eq!(refused("@/no/such/file"), "PLG-3002");
    }

    fn refused(argument: &str) -> String {
        match read(Some(argument), false) {
            Err(Error::Problem(problem)) => problem.code.into_owned(),
            other => panic!("{argument} gave {other:?}"),
        }
    }

    #[test]
    fn a_duration_needs_a_unit() {
        for (text, ms) in [("0s", 0), ("500ms", 500), ("30s", 30_000), ("5m", 300_000), ("2h", 7_200_000)] {
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "30", "s", "-1s", "1.5s", "1d", "1 s", "99999999h", "99999999999999999999s"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
