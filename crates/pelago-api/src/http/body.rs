//! Bodies of requests, and what else comes with one.

use std::{future::poll_fn, pin::Pin, time::Duration};

use axum::{
    body::Body,
    extract::Request,
    http::{HeaderMap, header::CONTENT_TYPE},
};
use bytes::{Bytes, BytesMut};
use hyper::body::Body as _;
use pelago_core::message::Content;
use serde::{Deserialize, de::IgnoredAny};

use super::{Failure, failure::excerpt, headers, query::Query};
use crate::{json, problem::Code};

/// The longest body that is read. Above what the node takes, so that its own, clearer words come first.
const BODY_BYTES_MAX: usize = 1 << 20;
/// How much more is taken off the connection before an answer, since many clients read none while they still write.
const DISCARD_BYTES_MAX: usize = 16 << 20;
/// How long a body may take to arrive.
const BODY_MAX: Duration = Duration::from_secs(30);
/// The longest idempotency key.
const KEY_BYTES_MAX: usize = 255;

/// Reads a body that is JSON or absent, and says nothing more about itself.
pub(super) async fn read(headers: &HeaderMap, body: Body) -> Result<Bytes, Failure> {
    headers::refuse_own(headers)?;
    let bytes = received(body).await?;
    if !bytes.is_empty() {
        check_type(headers)?;
    }
    Ok(bytes)
}

async fn received(body: Body) -> Result<Bytes, Failure> {
    let read = tokio::time::timeout(BODY_MAX, collect(body)).await;
    read.unwrap_or_else(|_elapsed| Err(not_received("the body took longer than 30 s")))
}

/// The key under which a request takes effect once.
pub(super) fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Failure> {
    let mut given = headers.get_all("idempotency-key").iter();
    let (Some(key), None) = (given.next(), given.next()) else {
        return if headers.contains_key("idempotency-key") { Err(bad_key("it is given twice")) } else { Ok(None) };
    };
    let key = key.to_str().map_err(|_not_ascii| bad_key("it has characters other than visible ASCII"))?;
    // The draft of the header writes the key as a quoted string, most clients as it is.
    let key = key.strip_prefix('"').and_then(|key| key.strip_suffix('"')).unwrap_or(key);
    match key.len() {
        1..=KEY_BYTES_MAX => Ok(Some(key.to_owned())),
        0 => Err(bad_key("it is empty")),
        _ => Err(bad_key("it is too long")),
    }
}

/// Reads the body of a request without parameters: a message, which is JSON or absent unless it says what it is.
pub(super) async fn message(query: Option<&str>, request: Request) -> Result<Content, Failure> {
    Query::parse(query, &[])?;
    let (head, body) = request.into_parts();
    content(&head.headers, body).await
}

/// Reads a message, and what it says about itself.
pub(super) async fn content(headers: &HeaderMap, body: Body) -> Result<Content, Failure> {
    let about = headers::read(headers)?;
    let payload = received(body).await?;
    if !payload.is_empty() && (about.content_type.is_none() || is_from_anywhere(headers)) {
        check_type(headers)?;
        check_json(&payload)?;
    }
    Ok(about.of(payload))
}

/// Reads a body as `T`, whose fields are `fields`.
pub(super) fn parse<'b, T: Deserialize<'b>>(body: &'b [u8], fields: &[&str]) -> Result<T, Failure> {
    json::parse("body", body, fields).map_err(Failure::from)
}

/// Checks that a body is JSON, or absent.
pub(super) fn check_json(body: &[u8]) -> Result<(), Failure> {
    if body.is_empty() {
        return Ok(());
    }
    // Within a string that it ignores, serde takes any bytes.
    let text = std::str::from_utf8(body)
        .map_err(|error| Failure::new(Code::BadJson, format!("the body is not UTF-8: {error}"), "JSON is UTF-8"))?;
    serde_json::from_str::<IgnoredAny>(text).map(drop).map_err(|error| json::not_json("body", &error).into())
}

/// A field that is JSON of the right type, but not right.
pub(super) fn bad_field(detail: &str, hint: &str) -> Failure {
    Failure::new(Code::BadField, detail, hint)
}

async fn collect(mut body: Body) -> Result<Bytes, Failure> {
    let Some(first) = next(&mut body).await? else {
        return Ok(Bytes::new());
    };
    // Nearly every body arrives in one piece, which needs no copy.
    let Some(second) = next(&mut body).await? else {
        return within_limit(first);
    };
    let mut whole = BytesMut::with_capacity(first.len() + second.len());
    whole.extend_from_slice(&first);
    whole.extend_from_slice(&second);
    while let Some(chunk) = next(&mut body).await? {
        if whole.len() + chunk.len() > BODY_BYTES_MAX {
            discard(body).await?;
            return Err(too_large());
        }
        whole.extend_from_slice(&chunk);
    }
    within_limit(whole.freeze())
}

/// The next piece of data; `None` at the end.
async fn next(body: &mut Body) -> Result<Option<Bytes>, Failure> {
    loop {
        let frame = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await;
        match frame.transpose().map_err(|error| not_received(&format!("the body broke off: {error}")))? {
            Some(frame) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
            None => return Ok(None),
        }
    }
}

async fn discard(mut body: Body) -> Result<(), Failure> {
    let mut discarded = 0;
    while let Some(chunk) = next(&mut body).await? {
        discarded += chunk.len();
        if discarded > DISCARD_BYTES_MAX {
            break;
        }
    }
    Ok(())
}

fn within_limit(bytes: Bytes) -> Result<Bytes, Failure> {
    if bytes.len() > BODY_BYTES_MAX { Err(too_large()) } else { Ok(bytes) }
}

/// Whether a page in a browser could have sent it without asking first: text and forms, and no header of ours.
fn is_from_anywhere(headers: &HeaderMap) -> bool {
    let essence = essence(headers).unwrap_or_default();
    let is_simple = ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"]
        .iter()
        .any(|simple| essence.eq_ignore_ascii_case(simple));
    is_simple && headers::own(headers).is_none()
}

fn essence(headers: &HeaderMap) -> Option<&str> {
    let given = headers.get(CONTENT_TYPE).map(|value| value.to_str().unwrap_or("unreadable"))?;
    Some(given.split(';').next().unwrap_or(given).trim())
}

/// A page in a browser can send text and forms anywhere without asking first, but not JSON.
fn check_type(headers: &HeaderMap) -> Result<(), Failure> {
    match essence(headers) {
        Some(essence) if essence.eq_ignore_ascii_case("application/json") => Ok(()),
        Some(other) => Err(wrong_type(&format!("the body is {}", excerpt(other)))),
        None => Err(wrong_type("the body has no type")),
    }
}

fn too_large() -> Failure {
    Failure::new(Code::BodyTooLarge, "the body has more than 1 MiB", "keep large data elsewhere and pass its address")
}

fn wrong_type(detail: &str) -> Failure {
    Failure::new(Code::WrongMediaType, detail, "send the header `Content-Type: application/json`")
}

fn not_received(detail: &str) -> Failure {
    Failure::new(Code::BodyNotReceived, detail, "nothing was done; send the request again")
}

fn bad_key(detail: &str) -> Failure {
    let detail = format!("the header Idempotency-Key is not valid: {detail}");
    Failure::new(Code::BadIdempotencyKey, detail, "a key has 1 to 255 visible ASCII characters, like a UUID")
}
