//! A problem as the answer to a request.

use axum::{
    http::{
        HeaderValue, StatusCode,
        header::{CONTENT_TYPE, RETRY_AFTER},
    },
    response::{IntoResponse, Response},
};

pub(super) use crate::json::excerpt;
use crate::problem::{Code, Problem};

/// Why a resource has no answer. Small, since every `Result` carries it.
#[derive(Debug)]
pub(super) struct Failure(Box<Problem>);

impl Failure {
    pub(super) fn new(code: Code, detail: impl Into<String>, hint: impl Into<String>) -> Self {
        Problem::new(code, detail, hint).into()
    }

    /// The same, with another next command.
    pub(super) fn with_next(self, command: impl Into<String>) -> Self {
        Self(Box::new(self.0.with_next(command)))
    }

    pub(super) fn into_problem(self) -> Problem {
        *self.0
    }

    pub(super) fn is(&self, code: Code) -> bool {
        self.0.code() == Some(code)
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self(Box::new(problem))
    }
}

impl From<Box<Problem>> for Failure {
    fn from(problem: Box<Problem>) -> Self {
        Self(problem)
    }
}

impl From<pelago_node::handle::Error> for Failure {
    fn from(error: pelago_node::handle::Error) -> Self {
        Problem::from(error).into()
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let problem = self.into_problem();
        if problem.status == 500 {
            tracing::warn!(code = %problem.code, detail = %problem.detail, "a request failed");
        }
        let text = serde_json::to_vec(&problem).expect("a problem is JSON");
        let status = StatusCode::from_u16(problem.status).expect("the table of codes has only statuses");
        let mut response = (status, text).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = problem.code().and_then(Code::retry_after_s) {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        response
    }
}
