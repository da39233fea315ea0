//! Which contents a connection takes.

use std::{fmt, str::FromStr};

/// The longest filter, as text, in bytes.
const BYTES_MAX: usize = 256;

/// Takes some contents and not others. Written `urgent*` for texts that begin so, or `kind=plan` for objects whose field
/// `kind` is the text, number or truth value `plan`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Filter {
    /// The content is a text that begins so.
    Begins(String),
    /// The content is an object in which a field has this value.
    Field {
        /// The field's name.
        name: String,
        /// Its value, a text without its quotes.
        value: String,
    },
}

/// What a filter looks at.
pub trait Readable {
    /// The content, if it is a text.
    fn text(&self) -> Option<&str>;
    /// A field's value, a text without its quotes, if the content is an object that has it as text, number or truth
    /// value.
    fn field(&self, name: &str) -> Option<String>;
}

/// A text that is no filter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a filter is `beginning*` for texts or `field=value` for objects, with at most 256 bytes")]
pub struct NoFilter;

impl Filter {
    /// Whether it takes `content`.
    #[must_use]
    pub fn takes(&self, content: &impl Readable) -> bool {
        match self {
            Self::Begins(beginning) => content.text().is_some_and(|text| text.starts_with(beginning)),
            Self::Field { name, value } => content.field(name).as_ref() == Some(value),
        }
    }
}

impl FromStr for Filter {
    type Err = NoFilter;

    fn from_str(text: &str) -> Result<Self, NoFilter> {
        if text.len() > BYTES_MAX || text.contains(char::is_control) {
            return Err(NoFilter);
        }
        match (text.split_once('='), text.strip_suffix('*')) {
            // A field's value may end with a star, and a beginning may not hold `=`: each text has one meaning.
            (Some((name, value)), _) if !name.is_empty() => {
                Ok(Self::Field { name: name.to_owned(), value: value.to_owned() })
            }
            (None, Some(beginning)) if !beginning.is_empty() => Ok(Self::Begins(beginning.to_owned())),
            (Some(_) | None, _) => Err(NoFilter),
        }
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Begins(beginning) => write!(f, "{beginning}*"),
            Self::Field { name, value } => write!(f, "{name}={value}"),
        }
    }
}
