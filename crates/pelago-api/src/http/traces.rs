//! Spans of what clients ask for over HTTP.

use pelago_node::handle::{Error, Recorded};

/// What a span is called: no key of an agent, so that there are few names.
pub(super) fn name(what: &str, to: &str) -> String {
    let (agent, _key) = to.split_once(':').unwrap_or((to, ""));
    format!("{what} {agent}")
}

/// Ends the span of something that was done.
pub(super) fn ended<T>(recorded: Option<Recorded>, result: Result<T, Error>) -> Result<T, Error> {
    if let (Some(mut recorded), Err(error)) = (recorded, &result) {
        recorded.fail(error);
    }
    result
}
