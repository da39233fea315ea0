//! The variable part of a path.

use axum::{
    extract::{FromRequestParts, Path},
    http::request::Parts,
};

use super::Failure;
use crate::problem::Code;

/// The one variable segment of a path, decoded.
pub(super) struct Segment(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for Segment {
    type Rejection = Failure;

    async fn from_request_parts(head: &mut Parts, state: &S) -> Result<Self, Failure> {
        match Path::<String>::from_request_parts(head, state).await {
            Ok(Path(text)) => Ok(Self(text)),
            Err(_not_text) => {
                let hint = "encode it as UTF-8, then each byte that is no letter or digit with %";
                Err(Failure::new(Code::BadAddress, "the path is not UTF-8", hint))
            }
        }
    }
}
