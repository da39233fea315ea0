//! What an agent was given or made: JSON as JSON, anything else as `{"base64":"…"}`.

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::value::RawValue;

/// A value that the mesh carries without looking into it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Payload(Box<RawValue>);

impl Payload {
    /// Its JSON text, as it was written.
    #[must_use]
    pub fn json(&self) -> &str {
        self.0.get()
    }

    /// Reads it as `T`.
    ///
    /// # Errors
    /// When the value is not a `T`.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_str(self.json())
    }
}

/// No bytes at all read as `null`, as they do for an agent.
impl From<Bytes> for Payload {
    fn from(bytes: Bytes) -> Self {
        if bytes.is_empty() {
            return Self(raw("null".to_owned()));
        }
        match serde_json::from_slice(&bytes) {
            Ok(json) => Self(json),
            Err(_not_json) => Self(raw(format!(r#"{{"base64":"{}"}}"#, STANDARD.encode(&bytes)))),
        }
    }
}

impl PartialEq for Payload {
    fn eq(&self, other: &Self) -> bool {
        self.json() == other.json()
    }
}

impl Eq for Payload {}

fn raw(json: String) -> Box<RawValue> {
    RawValue::from_string(json).expect("the text was written as JSON")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_stays_as_it_was_written_and_the_rest_becomes_base64() {
        for (bytes, json) in [
            (&b"{\"a\": 1.0}"[..], "{\"a\": 1.0}"),
            (b"", "null"),
            (b"plain", r#"{"base64":"cGxhaW4="}"#),
            (b"\xff", r#"{"base64":"/w=="}"#),
        ] {
            assert_eq!(Payload::from(Bytes::copy_from_slice(bytes)).json(), json);
        }
    }
}
