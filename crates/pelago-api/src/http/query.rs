//! Parameters of a query: each known, given once, and read strictly.

use std::{borrow::Cow, str::FromStr, time::Duration};

use pelago_core::{id::Name, nearest::nearest};
use percent_encoding::percent_decode_str;

use super::{Failure, failure::excerpt};
use crate::problem::Code;

/// How long a list is unless its reader says.
const LIMIT: usize = 100;
/// How long a list may be.
const LIMIT_MAX: usize = 1_000;

/// The parameters of one request.
pub(super) struct Query<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Query<'a> {
    /// Reads `text`, whose parameters must be among `known`.
    pub(super) fn parse(text: Option<&'a str>, known: &[&str]) -> Result<Self, Failure> {
        let mut pairs: Vec<(Cow<'_, str>, Cow<'_, str>)> = Vec::new();
        for part in text.unwrap_or("").split('&').filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let (name, value) = (decode(name)?, decode(value)?);
            if !known.contains(&name.as_ref()) {
                return Err(unknown(&name, known));
            }
            if pairs.iter().any(|(earlier, _)| *earlier == name) {
                return Err(refused(&format!("parameter `{name}` is given twice"), "give it once"));
            }
            pairs.push((name, value));
        }
        Ok(Self(pairs))
    }

    /// The same rules for what was given otherwise than in a query.
    pub(super) fn of(given: impl IntoIterator<Item = (&'a str, Option<&'a str>)>) -> Self {
        let pair = |(name, value): (&'a str, Option<&'a str>)| Some((Cow::Borrowed(name), Cow::Borrowed(value?)));
        Self(given.into_iter().filter_map(pair).collect())
    }

    /// A parameter as it was given; an empty one is as good as none.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        let (_, value) = self.0.iter().find(|(given, _)| given == name)?;
        (!value.is_empty()).then_some(value.as_ref())
    }

    /// Whether a parameter is given, other than as `false` or `0`.
    pub(super) fn flag(&self, name: &str) -> Result<bool, Failure> {
        let said = |text: &str| match text {
            "true" | "1" => Some(true),
            "false" | "0" => Some(false),
            _other => None,
        };
        let is_given = self.0.iter().any(|(given, _)| given == name);
        Ok(self.read(name, said, "true or false", "without a value it is true")?.unwrap_or(is_given))
    }

    pub(super) fn duration(&self, name: &str) -> Result<Option<Duration>, Failure> {
        self.read(
            name,
            duration,
            "a time like 30s, 500ms or 2m",
            "a plain number counts seconds; at most a minute is waited",
        )
    }

    pub(super) fn number<T: FromStr>(&self, name: &str) -> Result<Option<T>, Failure> {
        self.read(
            name,
            |text| text.parse().ok(),
            "a whole number",
            "it is not negative and has no sign, unit or fraction",
        )
    }

    pub(super) fn name(&self, name: &str) -> Result<Option<Name>, Failure> {
        self.read(
            name,
            |text| Name::new(text).ok(),
            "a name",
            "a name has letters, digits, `.`, `_` and `-`, but no key",
        )
    }

    pub(super) fn limit(&self) -> Result<usize, Failure> {
        let in_range = |text: &str| text.parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit));
        let limit =
            self.read("limit", in_range, "a whole number from 1 to 1000", "follow `next` for the rest of a list")?;
        Ok(limit.unwrap_or(LIMIT))
    }

    /// What `read` makes of a parameter; refused, if it is given, when that is nothing.
    pub(super) fn read<T>(
        &self,
        name: &str,
        read: impl Fn(&str) -> Option<T>,
        what: &str,
        hint: &str,
    ) -> Result<Option<T>, Failure> {
        let Some(text) = self.text(name) else { return Ok(None) };
        match read(text) {
            Some(value) => Ok(Some(value)),
            None => Err(refused(&format!("parameter `{name}` must be {what}, not {:?}", excerpt(text)), hint)),
        }
    }
}

/// `30s`, `500ms`, `2m`, `1h`, or seconds without a unit.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let millis: u64 = match unit {
        "ms" => 1,
        "" | "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    number.checked_mul(millis).map(Duration::from_millis)
}

fn decode(text: &str) -> Result<Cow<'_, str>, Failure> {
    if !text.contains(['%', '+']) {
        return Ok(Cow::Borrowed(text));
    }
    let spaced = text.replace('+', " ");
    let decoded = percent_decode_str(&spaced).decode_utf8();
    let decoded = decoded.map_err(|_not_text| refused("the query is not UTF-8", "encode it as UTF-8, then with %"))?;
    Ok(Cow::Owned(decoded.into_owned()))
}

fn unknown(name: &str, known: &[&str]) -> Failure {
    let name = excerpt(name);
    let hint = match (nearest(&name, known.iter().copied()), known) {
        (Some(meant), _) => format!("did you mean `{meant}`?"),
        (None, []) => "this resource has no parameters".to_owned(),
        (None, _) => format!("the parameters are {}", known.join(", ")),
    };
    refused(&format!("parameter `{name}` is unknown"), &hint)
}

fn refused(detail: &str, hint: &str) -> Failure {
    Failure::new(Code::BadParameter, detail, hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_has_a_whole_number_and_a_unit() {
        let ms = |text| duration(text).map(|time| time.as_millis());
        assert_eq!(
            [ms("500ms"), ms("30s"), ms("2m"), ms("1h")],
            [Some(500), Some(30_000), Some(120_000), Some(3_600_000)]
        );
        assert_eq!([ms("7"), ms("0")], [Some(7_000), Some(0)]);
        for text in ["", "s", "1.5s", "-1s", "+1s", "1 s", "1d", "1S", "99999999999999999999", "18446744073709551615h"]
        {
            assert_eq!(ms(text), None, "{text:?}");
        }
    }

    #[test]
    fn parameters_are_decoded_once() {
        let query = Query::parse(Some("cursor=a%2Bb+c%2541&limit="), &["cursor", "limit"]).expect("both are known");
        assert_eq!((query.text("cursor"), query.text("limit")), (Some("a+b c%41"), None));
    }
}
