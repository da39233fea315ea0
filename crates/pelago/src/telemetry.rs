//! Where spans of traces go: to an OTLP receiver, in batches, on a thread of the exporter's own.

use std::{io, time::Duration};

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::{
    Resource,
    trace::{Sampler, SdkTracer, SdkTracerProvider},
};

use crate::config::TelemetryConfig;

/// How long the spans of the last moments may take to be sent when the process ends.
const LAST_MAX: Duration = Duration::from_secs(2);
/// How long one batch may take to be sent.
const EXPORT_MAX: Duration = Duration::from_secs(5);

/// Sends spans, if it is configured to.
pub(crate) struct Telemetry(Option<SdkTracerProvider>);

impl Telemetry {
    /// # Errors
    /// The exporter cannot be made: the endpoint is no URL.
    pub(crate) fn start(config: &TelemetryConfig) -> io::Result<Self> {
        let Some(endpoint) = &config.otlp_endpoint else { return Ok(Self(None)) };
        let exporter = SpanExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(endpoint)
            .with_timeout(EXPORT_MAX)
            .build()
            .map_err(|error| io::Error::other(format!("telemetry.otlp_endpoint {endpoint}: {error}")))?;
        let share = f64::from(config.sample_percent) / 100.0;
        let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(share)));
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_sampler(sampler)
            .with_resource(Resource::builder().with_service_name("pelago").build())
            .build();
        Ok(Self(Some(provider)))
    }

    pub(crate) fn tracer(&self) -> Option<SdkTracer> {
        self.0.as_ref().map(|provider| provider.tracer("pelago"))
    }
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        if let Some(Err(error)) = self.0.as_ref().map(|provider| provider.shutdown_with_timeout(LAST_MAX)) {
            tracing::warn!(%error, "some spans of traces were not sent");
        }
    }
}
