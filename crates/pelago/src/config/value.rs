//! How a value becomes a number, a name, a duration, an address …, and what is said when it cannot.

use std::{fmt, num::NonZeroU32, ops::RangeInclusive, path::PathBuf, str::FromStr, time::Duration};

use pelago_core::id::Name;

use super::{
    address::{Error as AddressError, HostPort, LoopbackAddr, LoopbackHost},
    problem::Code,
    tree::Value,
};

/// Why a value is not what its key needs.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) code: Code,
    /// Completes the key to a sentence.
    pub(super) message: String,
    pub(super) hint: Option<String>,
}

impl Refusal {
    pub(super) fn expected(what: &str, found: &Value) -> Self {
        Self { code: Code::InvalidValue, message: format!("must be {what}, found {found}"), hint: None }
    }

    /// The value will be possible in a later version.
    pub(super) fn not_yet(found: &Value, hint: &str) -> Self {
        Self {
            code: Code::NotSupported,
            message: format!("= {found} is not supported yet"),
            hint: Some(hint.to_owned()),
        }
    }

    pub(super) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Boolean(yes) => yes.fmt(f),
            Self::Integer(number) => number.fmt(f),
            Self::Text(text) | Self::Written(text) => write!(f, "{text:?}"),
            Self::List(_) => f.write_str("a list"),
            Self::Table(_) => f.write_str("a table"),
            Self::Other(what) => f.write_str(what),
        }
    }
}

impl Value {
    pub(super) fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) | Self::Written(text) => Some(text),
            Self::Boolean(_) | Self::Integer(_) | Self::List(_) | Self::Table(_) | Self::Other(_) => None,
        }
    }

    fn as_integer(&self) -> Option<i128> {
        match self {
            Self::Integer(number) => Some(*number),
            Self::Written(text) => text.parse().ok(),
            Self::Text(_) | Self::Boolean(_) | Self::List(_) | Self::Table(_) | Self::Other(_) => None,
        }
    }

    fn as_boolean(&self) -> Option<bool> {
        match self {
            Self::Boolean(yes) => Some(*yes),
            Self::Written(text) => text.parse().ok(),
            Self::Text(_) | Self::Integer(_) | Self::List(_) | Self::Table(_) | Self::Other(_) => None,
        }
    }

    /// True for a string of the file that would be right without its quotes.
    fn is_right_unquoted<T>(&self, read: impl Fn(&Self) -> Option<T>) -> bool {
        matches!(self, Self::Text(text) if read(&Self::Written(text.clone())).is_some())
    }
}

/// The value that `read` finds, or a refusal that knows of needless quotes.
fn scalar<T>(value: &Value, what: &str, read: impl Fn(&Value) -> Option<T>) -> Result<T, Refusal> {
    read(value).ok_or_else(|| {
        let refusal = Refusal::expected(what, value);
        if value.is_right_unquoted(&read) { refusal.hint("write it without quotes") } else { refusal }
    })
}

pub(super) fn boolean(value: &Value) -> Result<bool, Refusal> {
    scalar(value, "true or false", Value::as_boolean)
}

/// A whole number within `range`.
pub(super) fn number<T>(range: RangeInclusive<T>) -> impl Fn(&Value) -> Result<T, Refusal>
where
    T: TryFrom<i128> + PartialOrd + fmt::Display,
{
    move |value| {
        let what = format!("a whole number from {} to {}", range.start(), range.end());
        scalar(value, &what, |value| {
            let number = T::try_from(value.as_integer()?).ok()?;
            range.contains(&number).then_some(number)
        })
    }
}

/// A whole number from 1 to `max`.
pub(super) fn count(max: u32) -> impl Fn(&Value) -> Result<NonZeroU32, Refusal> {
    move |value| {
        let number = number(1..=max)(value)?;
        Ok(NonZeroU32::new(number).expect("the range begins with 1"))
    }
}

/// A time in milliseconds within `range`.
pub(super) fn millis(range: RangeInclusive<u64>) -> impl Fn(&Value) -> Result<Duration, Refusal> {
    move |value| number(range.clone())(value).map(Duration::from_millis)
}

/// One of a few words.
pub(super) fn word<T: Copy + 'static>(words: &'static [(&'static str, T)]) -> impl Fn(&Value) -> Result<T, Refusal> {
    move |value| {
        let given = value.as_text();
        match words.iter().find(|(word, _)| Some(*word) == given) {
            Some((_, meaning)) => Ok(*meaning),
            None => {
                let words: Vec<_> = words.iter().map(|(word, _)| *word).collect();
                Err(Refusal::expected(&format!("one of {}", words.join(", ")), value))
            }
        }
    }
}

pub(super) fn name(value: &Value) -> Result<Name, Refusal> {
    let text = value.as_text().ok_or_else(|| Refusal::expected("a name", value))?;
    Name::new(text).map_err(|invalid| Refusal::expected("a name", value).hint(invalid.why))
}

/// A key that the user chose.
pub(super) fn key(text: &str) -> Result<Name, Refusal> {
    Name::new(text).map_err(|invalid| Refusal {
        code: Code::InvalidValue,
        message: format!("has the bad name {text:?}"),
        hint: Some(invalid.why.to_owned()),
    })
}

/// The value of a label.
pub(super) fn label(value: &Value) -> Result<String, Refusal> {
    let what = "a text of 1 to 128 bytes without control characters";
    scalar(value, what, |value| label_text(value.as_text()?)).map_err(|refusal| match value {
        Value::Integer(_) | Value::Boolean(_) => refusal.hint("write it in quotes"),
        Value::Text(_) | Value::Written(_) | Value::List(_) | Value::Table(_) | Value::Other(_) => refusal,
    })
}

/// The text of a label's value, if it is one.
pub(super) fn label_text(text: &str) -> Option<String> {
    let right = (1..=128).contains(&text.len()) && !text.contains(char::is_control);
    right.then(|| text.to_owned())
}

pub(super) fn path(value: &Value) -> Result<PathBuf, Refusal> {
    scalar(value, "a path", |value| value.as_text().filter(|text| !text.is_empty()).map(PathBuf::from))
}

pub(super) fn loopback_host(value: &Value) -> Result<LoopbackHost, Refusal> {
    let hint = "use 127.0.0.1, ::1 or localhost, and reach it from elsewhere by `ssh -L`";
    address(value, "an address of this machine", hint)
}

/// An address to listen on; `hint` says which is right.
pub(super) fn loopback_addr(hint: &'static str) -> impl Fn(&Value) -> Result<LoopbackAddr, Refusal> {
    move |value| address(value, "HOST:PORT on this machine", hint)
}

pub(super) fn host_port(value: &Value) -> Result<HostPort, Refusal> {
    address(value, "HOST:PORT", "write it like 127.0.0.1:50051 or [::1]:50051")
}

fn address<T: FromStr<Err = AddressError>>(value: &Value, what: &str, hint: &str) -> Result<T, Refusal> {
    let text = value.as_text().ok_or_else(|| Refusal::expected(what, value).hint(hint))?;
    text.parse().map_err(|error| match error {
        AddressError::NotLoopback { .. } => Refusal {
            code: Code::NotLoopback,
            message: format!("may not be {text}: {error}"),
            hint: Some(hint.to_owned()),
        },
        AddressError::NotHostPort | AddressError::NotNumeric => {
            Refusal::expected(&format!("{what} ({error})"), value).hint(hint)
        }
    })
}
