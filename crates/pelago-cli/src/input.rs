//! What a command line gives an agent: JSON as it stands, any other text as a JSON string.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
    time::Duration,
};

use pelago_api::problem::{Code, Problem};
use pelago_core::record::PAYLOAD_BYTES_MAX;
use serde_json::value::RawValue;

use crate::{output::Error, problem};

/// An input, ready to be sent.
#[derive(Debug)]
pub(crate) struct Input {
    /// What the agent gets.
    pub(crate) json: Box<RawValue>,
    /// Whether it was no JSON and was made a string.
    pub(crate) is_wrapped: bool,
}

/// What people are told about an input that was made a string.
pub(crate) const WRAPPED: &str = "the input is not JSON, so it goes as a JSON string";

/// Reads `argument`: `-` is stdin, `@FILE` a file, anything else the input itself; no argument is `null`.
pub(crate) fn read(argument: Option<&str>) -> Result<Input, Error> {
    match argument {
        None => Ok(of_text("null")),
        Some("-") => bounded(io::stdin().lock(), Path::new("stdin")).map(|text| of_text(&text)),
        Some(text) => match text.strip_prefix('@') {
            Some(path) => file(Path::new(path)).map(|text| of_text(&text)),
            None => Ok(of_text(text)),
        },
    }
}

fn of_text(text: &str) -> Input {
    match serde_json::from_str(text) {
        Ok(json) => Input { json, is_wrapped: false },
        Err(_not_json) => {
            Input { json: serde_json::value::to_raw_value(text).expect("any text is a JSON string"), is_wrapped: true }
        }
    }
}

fn file(path: &Path) -> Result<String, Error> {
    let file = File::open(path).map_err(|cause| problem::unreadable_input(path, &cause))?;
    bounded(file, path)
}

/// Reads no more than an agent may be given, so that a wrong file does not fill the memory.
fn bounded(from: impl Read, name: &Path) -> Result<String, Error> {
    let mut text = String::new();
    let limit = PAYLOAD_BYTES_MAX as u64 + 1;
    from.take(limit).read_to_string(&mut text).map_err(|cause| problem::unreadable_input(name, &cause))?;
    if text.len() > PAYLOAD_BYTES_MAX {
        let detail = format!("{} has more than {PAYLOAD_BYTES_MAX} bytes", name.display());
        let hint = "keep large data elsewhere and pass its address";
        return Err(Problem::new(Code::TooLarge, detail, hint).into());
    }
    Ok(text)
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

    fn given(argument: &str) -> (String, bool) {
        let input = read(Some(argument)).expect("it reads neither stdin nor a file");
        (input.json.get().to_owned(), input.is_wrapped)
    }

    #[test]
    fn json_stays_as_it_is_and_text_becomes_a_string() {
        assert_eq!(given("1"), ("1".into(), false));
        assert_eq!(given("{\"a\": [1.0]}"), ("{\"a\": [1.0]}".into(), false));
        assert_eq!(given("\"@a\""), ("\"@a\"".into(), false));
        assert_eq!(given("write a \"poem\""), (r#""write a \"poem\"""#.into(), true));
        assert_eq!(given("{broken"), (r#""{broken""#.into(), true));
    }

    #[test]
    fn a_file_is_read_up_to_what_an_agent_may_be_given() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("input.json");
        std::fs::write(&path, "[1, 2]").expect("the folder is ours");
        assert_eq!(given(&format!("@{}", path.display())), ("[1, 2]".into(), false));

        std::fs::write(&path, "x".repeat(PAYLOAD_BYTES_MAX + 1)).expect("the folder is ours");
        assert_eq!(refused(&format!("@{}", path.display())), Code::TooLarge.as_str());
        assert_eq!(refused("@/no/such/file"), "PLG-3002");
    }

    fn refused(argument: &str) -> String {
        match read(Some(argument)) {
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
