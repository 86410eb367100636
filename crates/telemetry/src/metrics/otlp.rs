//! The same numbers as instruments of OpenTelemetry.

use std::sync::Arc;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Histogram, Meter};

use crate::{CallRecord, names, spans};

/// The histograms, which can't be read off Prometheus' ones and so are kept a second time.
#[derive(Debug)]
pub(crate) struct Durations {
    server: Histogram<f64>,
    gateway: Histogram<f64>,
    upstream: Histogram<f64>,
    policy: Histogram<f64>,
}

impl Durations {
    pub(crate) fn new(meter: &Meter, call: &[f64], gateway: &[f64]) -> Self {
        let histogram = |name: &'static str, buckets: &[f64]| {
            meter
                .f64_histogram(name)
                .with_unit("s")
                .with_boundaries(buckets.to_vec())
                .build()
        };
        Self {
            server: histogram(names::METRIC_SERVER_DURATION, call),
            gateway: histogram(names::METRIC_GATEWAY_DURATION, gateway),
            upstream: histogram(names::METRIC_UPSTREAM_DURATION, call),
            policy: histogram(names::METRIC_POLICY_DURATION, gateway),
        }
    }

    pub(crate) fn record(&self, record: &CallRecord) {
        let tool = [KeyValue::new(names::TOOL_NAME, super::tool_label(record))];
        self.server
            .record(record.total_time.as_secs_f64(), &server_attributes(record));
        self.gateway
            .record(record.gateway_time().as_secs_f64(), &tool);
        if let Some(time) = record.upstream_time {
            self.upstream.record(time.as_secs_f64(), &tool);
        }
        if !record.policy_time.is_zero() {
            self.policy.record(record.policy_time.as_secs_f64(), &[]);
        }
    }
}

/// What HTTP's conventions want on `http.server.request.duration`, and the tool.
fn server_attributes(record: &CallRecord) -> Vec<KeyValue> {
    let method = names::known_method(&record.method).unwrap_or(names::OTHER_METHOD);
    let mut attributes = vec![
        KeyValue::new(names::TOOL_NAME, super::tool_label(record)),
        KeyValue::new(names::HTTP_REQUEST_METHOD, method),
        KeyValue::new(names::URL_SCHEME, record.scheme),
    ];
    if let Some(status) = record.status {
        attributes.push(KeyValue::new(
            names::HTTP_RESPONSE_STATUS_CODE,
            i64::from(status),
        ));
    }
    if let Some(error) = spans::error_type(record) {
        attributes.push(KeyValue::new(names::ERROR_TYPE, error));
    }
    attributes
}

/// A counter that is read when it is sent.
pub(crate) fn counter<F>(meter: &Meter, name: &'static str, unit: &'static str, read: F)
where
    F: Fn(&dyn Fn(u64, &[KeyValue])) + Send + Sync + 'static,
{
    let read = Arc::new(read);
    meter
        .u64_observable_counter(name)
        .with_unit(unit)
        .with_callback(move |observer| {
            read(&|value, attributes| observer.observe(value, attributes));
        })
        .build();
}
