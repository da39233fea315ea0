//! Answers that are not refusals.

use axum::{
    http::{HeaderName, HeaderValue, StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use serde::Serialize;

use super::Failure;

/// What a resource answers with.
pub(super) type Answer = Result<Response, Failure>;

/// Says that an earlier request with the same idempotency key did the work.
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// A document.
pub(super) fn document(document: &impl Serialize) -> Response {
    with_status(StatusCode::OK, document)
}

/// A document with a status of its own.
pub(super) fn with_status(status: StatusCode, document: &impl Serialize) -> Response {
    let text = serde_json::to_vec(document).expect("a document is JSON");
    json(status, text.into())
}

/// What was accepted just now (202), or by an earlier request with the same key (200).
pub(super) fn accepted(existing: bool, document: &impl Serialize) -> Response {
    if !existing {
        return with_status(StatusCode::ACCEPTED, document);
    }
    let mut response = with_status(StatusCode::OK, document);
    response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    response
}

/// Text that is JSON already.
pub(super) fn json(status: StatusCode, text: Bytes) -> Response {
    let mut response = (status, text).into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
