//! A signal's content as filters see it: JSON, read once and only if a filter asks.

use std::cell::OnceCell;

use bytes::Bytes;
use pelago_core::connection::Readable;
use serde_json::Value;

pub(super) struct Seen<'c> {
    content: &'c Bytes,
    value: OnceCell<Value>,
}

impl<'c> Seen<'c> {
    pub(super) fn new(content: &'c Bytes) -> Self {
        Self { content, value: OnceCell::new() }
    }

    /// What is no JSON is neither a text nor an object.
    fn value(&self) -> &Value {
        self.value.get_or_init(|| serde_json::from_slice(self.content).unwrap_or(Value::Null))
    }
}

impl Readable for Seen<'_> {
    fn text(&self) -> Option<&str> {
        self.value().as_str()
    }

    fn field(&self, name: &str) -> Option<String> {
        match self.value().get(name)? {
            Value::String(text) => Some(text.clone()),
            value @ (Value::Number(_) | Value::Bool(_)) => Some(value.to_string()),
            Value::Null | Value::Array(_) | Value::Object(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_sees_texts_and_the_plain_fields_of_objects() {
        let json = Bytes::from_static(br#"{"kind": "plan", "urgent": true, "size": 3, "parts": []}"#);
        let seen = Seen::new(&json);
        let field = |name: &str| seen.field(name);
        assert_eq!(
            [field("kind"), field("urgent"), field("size")],
            ["plan", "true", "3"].map(|text| Some(text.into()))
        );
        assert_eq!([field("parts"), field("none")], [None, None]);
        assert_eq!(seen.text(), None);
        assert_eq!(Seen::new(&Bytes::from_static(b"\"to do\"")).text(), Some("to do"));
        assert_eq!(Seen::new(&Bytes::from_static(b"\xff")).text(), None);
    }
}
