//! Patterns over dotted names: which agents a broadcast is for, which topics a subscriber hears of.
//!
//! `prod.*.training` has any part in the middle, `prod.**` one part or more at the end; a pattern without a star is
//! met by that name alone.

use std::{fmt, str::FromStr, sync::Arc};

use crate::id::{Invalid, Name};

/// A pattern that names meet or do not.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pattern(Arc<str>);

const ANY_PART: &str = "*";
const ANY_END: &str = "**";

impl Pattern {
    /// Checks `text`.
    ///
    /// # Errors
    /// [`Invalid`] names the rule that `text` breaks.
    pub fn new(text: &str) -> Result<Self, Invalid> {
        let is_part = |part: &str| part == ANY_PART || Name::new(part).is_ok();
        let mut parts = text.split('.');
        let is_end = parts.next_back().is_some_and(|last| last == ANY_END || is_part(last));
        if text.len() > Name::BYTES_MAX || !is_end || !parts.all(is_part) {
            return Err(Invalid::new(text, "a pattern is a dotted name whose parts may be `*`, and the last one `**`"));
        }
        Ok(Self(text.into()))
    }

    /// Whether a name meets the pattern.
    #[must_use]
    pub fn is_met_by(&self, name: &Name) -> bool {
        let mut parts = name.as_str().split('.');
        for wanted in self.0.split('.') {
            match (wanted, parts.next()) {
                (_, None) => return false,
                (ANY_END, Some(_)) => return true,
                (wanted, Some(part)) if wanted == ANY_PART || wanted == part => {}
                (_, Some(_)) => return false,
            }
        }
        parts.next().is_none()
    }

    /// The one name that meets the pattern, if it has no star.
    #[must_use]
    pub fn as_name(&self) -> Option<Name> {
        Name::new(&self.0).ok()
    }

    /// The pattern as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Pattern {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        Self::new(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meets(name: &str, pattern: &str) -> bool {
        let name = Name::new(name).expect("a name");
        Pattern::new(pattern).unwrap_or_else(|error| panic!("{pattern}: {error}")).is_met_by(&name)
    }

    #[test]
    fn stars_stand_for_parts() {
        for pattern in ["prod.ml.training", "prod.*.training", "*.*.*", "prod.**", "**", "prod.ml.**", "*.**"] {
            assert!(meets("prod.ml.training", pattern), "{pattern}");
        }
        for pattern in
            ["prod", "prod.*", "*", "prod.ml", "prod.ml.training.**", "*.training", "dev.**", "prod.m*", "*.*.*.*"]
        {
            let is_pattern = Pattern::new(pattern).is_ok();
            assert!(!is_pattern || !meets("prod.ml.training", pattern), "{pattern}");
        }
        assert!(meets("prod", "*") && meets("prod", "**") && meets("prod", "prod") && !meets("prod", "prod.**"));
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        let long = "a".repeat(Name::BYTES_MAX + 1);
        for text in ["", ".", "a.", ".a", "a..b", "a*", "**.a", "a.**.b", "***", "a**", "a b", "ä", "a.***", &long] {
            assert!(Pattern::new(text).is_err(), "{text}");
        }
    }
}
