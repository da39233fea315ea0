//! Where a page of a list ended.

use std::{fmt, str::FromStr};

use super::error::Error;

/// The key of the last row of a page, opaque to whoever carries it. It stays valid whatever is written meanwhile: the
/// next page begins with the first row after that key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor(Vec<u8>);

impl Cursor {
    pub(super) fn of(parts: &[&[u8]]) -> Self {
        // No part of a key holds a control character, and a part that may hold anything stands alone.
        Self(parts.join(&0))
    }

    pub(super) fn texts<const N: usize>(&self) -> Result<[&str; N], Error> {
        let text = std::str::from_utf8(&self.0).map_err(|_| self.refused())?;
        let parts: Vec<_> = text.split('\0').collect();
        parts.try_into().map_err(|_| self.refused())
    }

    pub(super) fn id(&self) -> Result<[u8; 16], Error> {
        self.0.as_slice().try_into().map_err(|_| self.refused())
    }

    pub(super) fn refused(&self) -> Error {
        Error::Cursor(self.to_string())
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for Cursor {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let refused = || Error::Cursor(text.chars().take(80).collect());
        let digit = |byte: u8| char::from(byte).to_digit(16);
        let byte = |pair: &[u8]| u8::try_from(digit(pair[0])? << 4 | digit(pair[1])?).ok();
        if !text.len().is_multiple_of(2) {
            return Err(refused());
        }
        let bytes: Option<Vec<_>> = text.as_bytes().chunks_exact(2).map(byte).collect();
        bytes.map(Self).ok_or_else(refused)
    }
}
