//! Sessions as spans of OpenTelemetry, sent to a collector by OTLP over HTTP.
//!
//! Its own variables say where to and how: `OTEL_EXPORTER_OTLP_ENDPOINT` or `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`, without which nothing is sent,
//! `OTEL_SERVICE_NAME`, `OTEL_TRACES_SAMPLER` and the others. What is sent does not depend on what is logged: each connection of a client is a span with
//! the door, the dialect and the peer, and what is told of it at `debug` are its events.

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, SpanExporter};
use opentelemetry_sdk::{Resource, trace::SdkTracerProvider};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::{Layer as _, filter::Targets};

use crate::logging::AnyLayer;

/// Sends what is left when dropped.
pub struct Spans(SdkTracerProvider);

impl Drop for Spans {
    fn drop(&mut self) {
        // A collector that is gone is no reason not to end.
        let _ = self.0.shutdown();
    }
}

/// What sends spans, if anybody wants them; and what has to be kept for as long.
pub fn layer() -> anyhow::Result<Option<(AnyLayer, Spans)>> {
    let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    if ![OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT].into_iter().any(is_set) {
        return Ok(None);
    }
    // For a collector at `https:`. It is there already where somebody was faster.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let exporter = SpanExporter::builder().with_http().build()?;
    let resource = match is_set("OTEL_SERVICE_NAME") {
        true => Resource::builder().build(),
        false => Resource::builder().with_service_name(env!("CARGO_PKG_NAME")).build(),
    };
    let provider = SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build();
    let spans =
        tracing_opentelemetry::layer().with_tracer(provider.tracer(env!("CARGO_PKG_NAME"))).with_location(false).with_threads(false);
    let of_ours = Targets::new().with_target("switchboard", LevelFilter::DEBUG);
    Ok(Some((spans.with_filter(of_ours).boxed(), Spans(provider))))
}
