//! How a value of core and its generated form become each other.

use bytes::Bytes;
use pelago_core::time::LogTime;

use super::{DecodeError, Fault};

/// A value of core that has a form on the wire.
///
/// Implementations take both sides apart field by field, so that a field added to either does not compile until it is
/// converted both ways.
pub(super) trait Convert: Sized {
    /// The form.
    type Form;

    /// The form of this value. It cannot fail: values of core are valid.
    fn form(&self) -> Self::Form;

    /// The lowest format in which this value can be written.
    fn format(&self) -> u8 {
        1
    }

    /// The value of a form that came from outside.
    fn value(form: Self::Form) -> Result<Self, DecodeError>;
}

/// The value of a field.
pub(super) fn field<T: Convert>(name: &str, form: T::Form) -> Result<T, DecodeError> {
    T::value(form).map_err(|e| e.within(name))
}

/// The value of a field that may be absent.
pub(super) fn maybe<T: Convert>(name: &str, form: Option<T::Form>) -> Result<Option<T>, DecodeError> {
    form.map(|form| field(name, form)).transpose()
}

/// The value of a field that may not be absent, although protobuf lets it.
pub(super) fn present<T: Convert>(name: &str, form: Option<T::Form>) -> Result<T, DecodeError> {
    match form {
        Some(form) => field(name, form),
        None => Err(missing(name)),
    }
}

/// The values of a repeated field.
pub(super) fn each<T: Convert>(name: &str, forms: Vec<T::Form>) -> Result<Vec<T>, DecodeError> {
    let at = |n: usize, e: DecodeError| e.within(&format!("[{n}]")).within(name);
    forms.into_iter().enumerate().map(|(n, form)| T::value(form).map_err(|e| at(n, e))).collect()
}

/// The forms of a repeated field.
pub(super) fn forms<T: Convert>(values: &[T]) -> Vec<T::Form> {
    values.iter().map(T::form).collect()
}

/// The lowest format in which all of these can be written.
pub(super) fn newest<T: Convert>(values: &[T]) -> u8 {
    values.iter().map(T::format).max().unwrap_or(1)
}

/// The error for a field that may not be absent.
pub(super) fn missing(name: &str) -> DecodeError {
    DecodeError::from(Fault::Missing).within(name)
}

/// The store keeps whole numbers as signed 64-bit integers, and rules add to them without looking.
impl Convert for u64 {
    type Form = u64;

    fn form(&self) -> u64 {
        *self
    }

    fn value(form: u64) -> Result<Self, DecodeError> {
        if i64::try_from(form).is_err() { Err(Fault::Range(form).into()) } else { Ok(form) }
    }
}

impl Convert for u8 {
    type Form = u32;

    fn form(&self) -> u32 {
        (*self).into()
    }

    fn value(form: u32) -> Result<Self, DecodeError> {
        Self::try_from(form).map_err(|_| Fault::Range(form.into()).into())
    }
}

impl Convert for [u8; 16] {
    type Form = Bytes;

    fn form(&self) -> Bytes {
        Bytes::copy_from_slice(self)
    }

    fn value(form: Bytes) -> Result<Self, DecodeError> {
        Self::try_from(&form[..]).map_err(|_| Fault::Id { bytes: form.len() }.into())
    }
}

impl Convert for u128 {
    type Form = Bytes;

    fn form(&self) -> Bytes {
        self.to_be_bytes().form()
    }

    fn value(form: Bytes) -> Result<Self, DecodeError> {
        Convert::value(form).map(Self::from_be_bytes)
    }
}

impl Convert for LogTime {
    type Form = u64;

    fn form(&self) -> u64 {
        self.as_millis()
    }

    fn value(form: u64) -> Result<Self, DecodeError> {
        Convert::value(form).map(Self::from_millis)
    }
}
