//! The variable part of a path.

use axum::{
    extract::{FromRequestParts, Path},
    http::request::Parts,
};

use super::Failure;
use crate::problem::Code;

/// The one variable segment of a path, decoded.
pub(super) struct Segment(pub(super) String);

/// The variable segments of a path, decoded.
pub(super) struct Segments<const N: usize>(pub(super) [String; N]);

impl<S: Send + Sync> FromRequestParts<S> for Segment {
    type Rejection = Failure;

    async fn from_request_parts(head: &mut Parts, state: &S) -> Result<Self, Failure> {
        Segments::<1>::from_request_parts(head, state).await.map(|Segments([text])| Self(text))
    }
}

impl<S: Send + Sync, const N: usize> FromRequestParts<S> for Segments<N> {
    type Rejection = Failure;

    async fn from_request_parts(head: &mut Parts, state: &S) -> Result<Self, Failure> {
        let read = Path::<Vec<String>>::from_request_parts(head, state).await;
        match read.map(|Path(texts)| <[String; N]>::try_from(texts)) {
            Ok(Ok(texts)) => Ok(Self(texts)),
            // The route has as many: what is not text is left.
            Ok(Err(_)) | Err(_) => {
                let hint = "encode it as UTF-8, then each byte that is no letter or digit with %";
                Err(Failure::new(Code::BadAddress, "the path is not UTF-8", hint))
            }
        }
    }
}
