//! Spans: what became of a message that is part of a trace, on this node, for whoever collects traces.
//!
//! *Is:* beginning spans as parts of the trace that a message brings, or of a new one, and handing on their context, so
//! that one trace follows a message over all nodes (W3C Trace Context). *Is not:* an exporter: the program decides where
//! spans go, by the tracer that it gives a node. Without one, or for a trace that is not recorded, nothing is done.

use opentelemetry::{
    Context, KeyValue, SpanId, TraceFlags, TraceId, Value,
    trace::{Span as _, SpanBuilder, SpanContext, SpanKind, Status, TraceContextExt as _, TraceState, Tracer as _},
};
use opentelemetry_sdk::trace::{SdkTracer, Span};
use pelago_core::{
    id::Name,
    message::{Content, Headers, TraceContext},
};

use crate::host::TaskRequest;

/// Begins spans. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Traces {
    tracer: Option<SdkTracer>,
    node: Name,
}

/// A span under way, which ends when it is dropped.
#[derive(Debug)]
pub struct Recorded {
    span: Span,
    context: TraceContext,
}

impl Traces {
    pub(crate) fn new(tracer: Option<SdkTracer>, node: Name) -> Self {
        Self { tracer, node }
    }

    /// A span of the trace that a message is part of. `None` if that is not recorded.
    pub(crate) fn follow(&self, of: Option<&TraceContext>, name: impl FnOnce() -> String) -> Option<Recorded> {
        let of = of.filter(|of| of.sampled)?;
        self.record(Some(of), SpanKind::Consumer, name)
    }

    /// A span of the trace that a message is part of, or of a new one that begins here, if it is recorded. What is sent
    /// on with `content` follows from it.
    pub(crate) fn begin(&self, content: &mut Content, name: impl FnOnce() -> String) -> Option<Recorded> {
        let recorded = self.begin_in(content.headers().trace.as_ref(), name)?;
        content.headers.get_or_insert_with(|| Box::new(Headers::NONE)).trace = Some(recorded.context.clone());
        Some(recorded)
    }

    /// The same of a task that is to be.
    pub(crate) fn begin_task(&self, request: &mut TaskRequest, name: impl FnOnce() -> String) -> Option<Recorded> {
        let recorded = self.begin_in(request.trace.as_ref(), name)?;
        request.trace = Some(recorded.context.clone());
        Some(recorded)
    }

    fn begin_in(&self, of: Option<&TraceContext>, name: impl FnOnce() -> String) -> Option<Recorded> {
        if of.is_some_and(|of| !of.sampled) {
            return None;
        }
        self.record(of, SpanKind::Producer, name)
    }

    fn record(&self, of: Option<&TraceContext>, kind: SpanKind, name: impl FnOnce() -> String) -> Option<Recorded> {
        let tracer = self.tracer.as_ref()?;
        let node = KeyValue::new("pelago.node", self.node.to_string());
        let builder = SpanBuilder::from_name(name()).with_kind(kind).with_attributes([node]);
        let parent = of.map_or_else(Context::new, |of| Context::new().with_remote_span_context(foreign(of)));
        let span = tracer.build_with_context(builder, &parent);
        let here = span.span_context();
        let context = TraceContext {
            trace: u128::from_be_bytes(here.trace_id().to_bytes()),
            span: u64::from_be_bytes(here.span_id().to_bytes()),
            sampled: here.is_sampled(),
            state: of.and_then(|of| of.state.clone()),
        };
        context.sampled.then_some(Recorded { span, context })
    }
}

impl Recorded {
    /// What follows from it is part of.
    pub(crate) fn context(&self) -> &TraceContext {
        &self.context
    }

    /// Says more about it.
    pub(crate) fn say(&mut self, what: &'static str, value: impl Into<Value>) {
        self.span.set_attribute(KeyValue::new(what, value));
    }

    /// It came to nothing.
    pub fn fail(&mut self, why: impl ToString) {
        self.span.set_status(Status::error(why.to_string()));
    }
}

fn foreign(of: &TraceContext) -> SpanContext {
    let TraceContext { trace, span, sampled, state } = of;
    let flags = if *sampled { TraceFlags::SAMPLED } else { TraceFlags::default() };
    // A state that another system would not take is left out.
    let state = state.as_deref().and_then(|state| state.parse().ok()).unwrap_or(TraceState::NONE);
    let (trace, span) = (TraceId::from_bytes(trace.to_be_bytes()), SpanId::from_bytes(span.to_be_bytes()));
    SpanContext::new(trace, span, flags, true, state)
}
