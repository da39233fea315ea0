//! `[telemetry]`

use super::super::{
    section::Section,
    tree::Value,
    value::{self, Refusal},
};

/// What the node tells systems that watch it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TelemetryConfig {
    /// Where spans of traces go, by OTLP over HTTP (`http://localhost:4318/v1/traces`). None records no traces.
    pub otlp_endpoint: Option<String>,
    /// How many of a hundred requests that come over HTTP without a trace begin one. A request that brings a trace says
    /// itself whether it is recorded.
    pub sample_percent: u32,
}

impl Default for TelemetryConfig {
    fn default() -> Self {
        Self { otlp_endpoint: None, sample_percent: 100 }
    }
}

impl TelemetryConfig {
    pub(in super::super) fn read(section: &mut Section<'_>) -> Self {
        let otlp_endpoint = section.optional("otlp_endpoint", endpoint);
        let sample_percent = section.optional("sample_percent", value::number(0..=100));
        if otlp_endpoint.is_none() && sample_percent.is_some() {
            section.contradiction(
                ["sample_percent", "otlp_endpoint"],
                "has no effect: no traces go anywhere without telemetry.otlp_endpoint",
            );
        }
        Self { otlp_endpoint, sample_percent: sample_percent.unwrap_or(Self::default().sample_percent) }
    }
}

/// There is no TLS yet for what the node sends.
fn endpoint(value: &Value) -> Result<String, Refusal> {
    let hint = "like \"http://localhost:4318/v1/traces\"; a collector beside the node passes spans on by TLS";
    let text = value.as_text().unwrap_or_default();
    let rest = text.strip_prefix("http://").filter(|rest| !rest.is_empty() && !rest.starts_with('/'));
    let is_printable = text.bytes().all(|byte| byte.is_ascii_graphic());
    match rest {
        // The path is a part of the standard that nobody remembers.
        Some(rest) if is_printable && !rest.contains('/') => Ok(format!("{text}/v1/traces")),
        Some(_) if is_printable => Ok(text.to_owned()),
        Some(_) | None => Err(Refusal::expected("the URL of an OTLP receiver over HTTP", value).hint(hint)),
    }
}
