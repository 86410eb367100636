//! What is counted and timed, for Prometheus and for OTLP.
//!
//! Counted on the call's own way and not from the queues, so that no call is missing when an output is
//! slow: one look-up of the series, a few atomic additions and short locks. Labels come from the config and
//! from closed sets; no agent, task, path or other text of a peer's ever is one.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::Meter;
use parking_lot::RwLock;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::{CallRecord, KeyNote, LeaseEnd, PolicyFailure, SignalResult, names};

mod otlp;

use otlp::Durations;

/// **Invariant.** A number is here once; both outputs read it, except for histograms, which each keeps.
pub(crate) struct Metrics {
    registry: Registry,
    series: Arc<RwLock<HashMap<CallLabels, Arc<Series>>>>,
    calls: Family<CallLabels, Counter>,
    whole: Family<ToolLabels, Histogram, fn() -> Histogram>,
    gateway: Family<ToolLabels, Histogram, fn() -> Histogram>,
    upstream: Family<ToolLabels, Histogram, fn() -> Histogram>,
    policy: Histogram,
    policy_failures: Arc<Failures>,
    keys: Arc<Keys>,
    secrets_scrubbed: Counter,
    dropped: [Counter; 5],
    audit_failures: Counter,
    reloads: [Counter; 2],
    revocations: [Counter; 4],
    signals: [Counter; 5],
    lease_ends: [Counter; 5],
    config: Family<RevisionLabels, Gauge>,
    bundles: Family<BundleLabels, Gauge>,
    durations: OnceLock<Durations>,
}

/// The numbers of one combination of labels, found by one look-up.
#[derive(Debug)]
struct Series {
    calls: Counter,
    whole: Histogram,
    gateway: Histogram,
    upstream: Histogram,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct CallLabels {
    tool: Arc<str>,
    access: &'static str,
    verdict: &'static str,
    code: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct ToolLabels {
    tool: Arc<str>,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct BundleLabels {
    bundle: String,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct FailureLabels {
    rule: Arc<str>,
    reason: &'static str,
}

/// Decisions that failed. Rules come from policies, and go with them: only so many are told apart.
#[derive(Default)]
struct Failures {
    family: Family<FailureLabels, Counter>,
    known: RwLock<HashMap<FailureLabels, Counter>>,
}

/// How many ways of failing are told apart by their rule.
const MOST_FAILURES: usize = 500;

impl Failures {
    fn count(&self, failure: &PolicyFailure) {
        let mut labels = FailureLabels {
            rule: failure.rule.clone().unwrap_or_else(|| "".into()),
            reason: failure.reason,
        };
        let mut known = self.known.write();
        if known.len() >= MOST_FAILURES && !known.contains_key(&labels) {
            labels.rule = "".into();
        }
        let counter = known
            .entry(labels)
            .or_insert_with_key(|labels| self.family.get_or_create_owned(labels));
        counter.inc();
    }
}

impl FailureLabels {
    fn attributes(&self) -> [KeyValue; 2] {
        [
            KeyValue::new(names::POLICY_RULE, Arc::clone(&self.rule)),
            KeyValue::new(names::POLICY_FAILURE, self.reason),
        ]
    }
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct KeyLabels {
    kind: &'static str,
    place: &'static str,
    action: &'static str,
}

/// Keys that agents brought. Kinds are as many as there are known formats.
#[derive(Default)]
struct Keys {
    family: Family<KeyLabels, Counter>,
    known: RwLock<HashMap<KeyLabels, Counter>>,
}

impl Keys {
    fn count(&self, key: &KeyNote) {
        let labels = KeyLabels {
            kind: key.kind,
            place: key.part(),
            action: key.action,
        };
        if let Some(counter) = self.known.read().get(&labels) {
            counter.inc();
            return;
        }
        let mut known = self.known.write();
        let counter = known
            .entry(labels)
            .or_insert_with_key(|labels| self.family.get_or_create_owned(labels));
        counter.inc();
    }
}

impl KeyLabels {
    fn attributes(&self) -> [KeyValue; 3] {
        [
            KeyValue::new(names::KEY_KIND, self.kind),
            KeyValue::new(names::KEY_PLACE, self.place),
            KeyValue::new(names::KEY_ACTION, self.action),
        ]
    }
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct RevisionLabels {
    revision: String,
}

/// An output that can lose records.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Signal {
    Traces,
    Logs,
    Metrics,
    Stderr,
    /// The decision log of a control plane.
    Decisions,
}

/// In the order of [`Metrics::dropped`].
const SIGNALS: [(Signal, &str); 5] = [
    (Signal::Traces, "traces"),
    (Signal::Logs, "logs"),
    (Signal::Metrics, "metrics"),
    (Signal::Stderr, "stderr"),
    (Signal::Decisions, "decisions"),
];

/// In the order of [`Metrics::reloads`].
const RESULTS: [&str; 2] = ["applied", "failed"];

/// In the order of [`Metrics::revocations`].
const SUBJECTS: [&str; 4] = ["agent", "issuer", "tool", "owner"];

/// Seconds. The gateway's own share: from 10 µs, where a call without policy lies, to 1 s.
const GATEWAY_BUCKETS: [f64; 16] = [
    0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025,
    0.05, 0.1, 0.25, 0.5, 1.0,
];
/// Seconds, as HTTP's semantic conventions advise, and on to MCP's 300 s for long tools.
const CALL_BUCKETS: [f64; 18] = [
    0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 10.0,
    30.0, 120.0, 300.0,
];

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("remit"),
            series: Arc::default(),
            calls: Family::default(),
            whole: Family::new_with_constructor(call_histogram),
            gateway: Family::new_with_constructor(gateway_histogram),
            upstream: Family::new_with_constructor(call_histogram),
            policy: gateway_histogram(),
            policy_failures: Arc::default(),
            keys: Arc::default(),
            secrets_scrubbed: Counter::default(),
            dropped: Default::default(),
            audit_failures: Counter::default(),
            reloads: Default::default(),
            revocations: Default::default(),
            signals: Default::default(),
            lease_ends: Default::default(),
            config: Family::default(),
            bundles: Family::default(),
            durations: OnceLock::new(),
        };
        metrics.register();
        metrics.register_signals();
        metrics.register_lease_ends();
        metrics
    }

    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register("calls", "Calls, by how they were ruled", self.calls.clone());
        let mut seconds =
            |name: &str, help: &str, family: &Family<ToolLabels, Histogram, fn() -> Histogram>| {
                registry.register_with_unit(name, help, Unit::Seconds, family.clone());
            };
        seconds(
            "call_duration",
            "From the head in to the last byte out",
            &self.whole,
        );
        seconds(
            "gateway_duration",
            "From the head in to forwarding or refusing",
            &self.gateway,
        );
        seconds(
            "upstream_duration",
            "From forwarding to the first byte of the answer",
            &self.upstream,
        );
        registry.register_with_unit(
            "policy_duration",
            "What decisions took",
            Unit::Seconds,
            self.policy.clone(),
        );
        registry.register(
            "policy_failures",
            "Decisions that failed, by the rule and how",
            self.policy_failures.family.clone(),
        );
        registry.register(
            "keys_found",
            "Keys that agents brought, by kind, place and what became of them",
            self.keys.family.clone(),
        );
        registry.register(
            "secrets_scrubbed",
            "Injected secrets that were masked in answers",
            self.secrets_scrubbed.clone(),
        );
        let dropped = Family::<[(&str, &str); 1], Counter>::default();
        for ((_, name), counter) in SIGNALS.iter().zip(&mut self.dropped) {
            *counter = dropped.get_or_create_owned(&[("signal", *name)]);
        }
        registry.register("telemetry_dropped", "Records that an output lost", dropped);
        registry.register(
            "audit_failures",
            "Audit lines that couldn't be written",
            self.audit_failures.clone(),
        );
        let reloads = Family::<[(&str, &str); 1], Counter>::default();
        for (name, counter) in RESULTS.iter().zip(&mut self.reloads) {
            *counter = reloads.get_or_create_owned(&[("result", *name)]);
        }
        registry.register("reload", "Reloads of the config", reloads);
        let revocations = Family::<[(&str, &str); 1], Counter>::default();
        for (name, counter) in SUBJECTS.iter().zip(&mut self.revocations) {
            *counter = revocations.get_or_create_owned(&[("subject", *name)]);
        }
        registry.register(
            "revocations",
            "Agents, issuers, tools and owners that were revoked",
            revocations,
        );
        registry.register(
            "config_info",
            "The config revision that is applied",
            self.config.clone(),
        );
        registry.register(
            "bundle_healthy",
            "1 where nothing is wrong with a bundle of the policy and its server, else 0",
            self.bundles.clone(),
        );
    }

    fn register_signals(&mut self) {
        let signals = Family::<[(&str, &str); 1], Counter>::default();
        for (result, counter) in SignalResult::ALL.iter().zip(&mut self.signals) {
            *counter = signals.get_or_create_owned(&[("result", result.as_str())]);
        }
        let about = "Signals of identity providers, by what came of them";
        self.registry.register("signals", about, signals);
    }

    fn register_lease_ends(&mut self) {
        let ends = Family::<[(&str, &str); 1], Counter>::default();
        for (result, counter) in LeaseEnd::ALL.iter().zip(&mut self.lease_ends) {
            *counter = ends.get_or_create_owned(&[("result", result.as_str())]);
        }
        let about = "Attempts to take leases back, by what came of them";
        self.registry.register("lease_ends", about, ends);
    }

    /// Counts the end of a lease.
    pub(crate) fn lease_ended(&self, end: LeaseEnd) {
        let mut counters = LeaseEnd::ALL.iter().zip(&self.lease_ends);
        if let Some((_, counter)) = counters.find(|(known, _)| **known == end) {
            counter.inc();
        }
    }

    /// Counts a signal.
    pub(crate) fn signal(&self, result: SignalResult) {
        let mut counters = SignalResult::ALL.iter().zip(&self.signals);
        if let Some((_, counter)) = counters.find(|(known, _)| **known == result) {
            counter.inc();
        }
    }

    /// Tells whether nothing is wrong with a bundle.
    pub(crate) fn bundle(&self, name: &str, is_healthy: bool) {
        let labels = BundleLabels {
            bundle: name.to_owned(),
        };
        let gauge = self.bundles.get_or_create_owned(&labels);
        gauge.set(i64::from(is_healthy));
    }

    /// Forgets the bundles of a config before.
    pub(crate) fn forget_bundles(&self) {
        self.bundles.clear();
    }

    /// Counts and times one closed call.
    pub(crate) fn closed(&self, record: &CallRecord) {
        let series = self.series_of(record);
        series.calls.inc();
        series.whole.observe(record.total_time.as_secs_f64());
        series.gateway.observe(record.gateway_time().as_secs_f64());
        if let Some(time) = record.upstream_time {
            series.upstream.observe(time.as_secs_f64());
        }
        if !record.policy_time.is_zero() {
            self.policy.observe(record.policy_time.as_secs_f64());
        }
        if let Some(failure) = &record.policy_failure {
            self.policy_failures.count(failure);
        }
        for key in &record.keys {
            self.keys.count(key);
        }
        if record.scrubbed > 0 {
            self.secrets_scrubbed.inc_by(count(record.scrubbed));
        }
        if let Some(durations) = self.durations.get() {
            durations.record(record);
        }
    }

    /// Counts records that an output lost.
    pub(crate) fn dropped(&self, signal: Signal, records: usize) {
        let mut counters = SIGNALS.iter().zip(&self.dropped);
        if let Some((_, counter)) = counters.find(|((named, _), _)| *named == signal) {
            counter.inc_by(count(records));
        }
    }

    /// Counts audit lines that couldn't be written.
    pub(crate) fn audit_failed(&self, lines: usize) {
        self.audit_failures.inc_by(count(lines));
    }

    /// Counts a reload that put `revision` to work.
    pub(crate) fn applied(&self, revision: &str) {
        let [applied, _] = &self.reloads;
        applied.inc();
        self.config.clear();
        self.config
            .get_or_create(&RevisionLabels {
                revision: revision.to_owned(),
            })
            .set(1);
    }

    /// Counts an agent, issuer, tool or owner that was revoked.
    pub(crate) fn revoked(&self, subject: &str) {
        let mut counters = SUBJECTS.iter().zip(&self.revocations);
        if let Some((_, counter)) = counters.find(|(named, _)| **named == subject) {
            counter.inc();
        }
    }

    /// Counts a reload that changed nothing.
    pub(crate) fn reload_failed(&self) {
        let [_, failed] = &self.reloads;
        failed.inc();
    }

    /// Prometheus' text format (`OpenMetrics` 1.0).
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        // Writing into a string can't fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        text
    }

    /// Begins to tell the same over OTLP.
    pub(crate) fn observe_with(&self, meter: &Meter) {
        let series = Arc::clone(&self.series);
        otlp::counter(meter, names::METRIC_CALLS, "{call}", move |tell| {
            for (labels, series) in series.read().iter() {
                tell(series.calls.get(), &labels.attributes());
            }
        });
        let keys = Arc::clone(&self.keys);
        otlp::counter(meter, names::METRIC_KEYS_FOUND, "{key}", move |tell| {
            for (labels, counter) in keys.known.read().iter() {
                tell(counter.get(), &labels.attributes());
            }
        });
        let secrets = self.secrets_scrubbed.clone();
        let name = names::METRIC_SECRETS_SCRUBBED;
        otlp::counter(meter, name, "{secret}", move |tell| {
            tell(secrets.get(), &[]);
        });
        let failures = self.audit_failures.clone();
        otlp::counter(meter, names::METRIC_AUDIT_FAILURES, "{line}", move |tell| {
            tell(failures.get(), &[]);
        });
        let dropped = self.dropped.clone();
        otlp::counter(meter, names::METRIC_DROPPED, "{record}", move |tell| {
            for ((_, name), counter) in SIGNALS.iter().zip(&dropped) {
                tell(counter.get(), &[KeyValue::new(names::SIGNAL, *name)]);
            }
        });
        let failures = Arc::clone(&self.policy_failures);
        let name = names::METRIC_POLICY_FAILURES;
        otlp::counter(meter, name, "{decision}", move |tell| {
            for (labels, counter) in failures.known.read().iter() {
                tell(counter.get(), &labels.attributes());
            }
        });
        let reloads = self.reloads.clone();
        otlp::counter(meter, names::METRIC_RELOADS, "{reload}", move |tell| {
            for (name, counter) in RESULTS.iter().zip(&reloads) {
                tell(counter.get(), &[KeyValue::new(names::RESULT, *name)]);
            }
        });
        let revocations = self.revocations.clone();
        let name = names::METRIC_REVOCATIONS;
        otlp::counter(meter, name, "{revocation}", move |tell| {
            for (name, counter) in SUBJECTS.iter().zip(&revocations) {
                let subject = KeyValue::new(names::REVOCATION_SUBJECT, *name);
                tell(counter.get(), &[subject]);
            }
        });
        let signals = self.signals.clone();
        otlp::counter(meter, names::METRIC_SIGNALS, "{signal}", move |tell| {
            for (result, counter) in SignalResult::ALL.iter().zip(&signals) {
                let result = KeyValue::new(names::RESULT, result.as_str());
                tell(counter.get(), &[result]);
            }
        });
        let ends = self.lease_ends.clone();
        otlp::counter(meter, names::METRIC_LEASE_ENDS, "{lease}", move |tell| {
            for (result, counter) in LeaseEnd::ALL.iter().zip(&ends) {
                let result = KeyValue::new(names::RESULT, result.as_str());
                tell(counter.get(), &[result]);
            }
        });
        self.durations
            .get_or_init(|| Durations::new(meter, &CALL_BUCKETS, &GATEWAY_BUCKETS));
    }

    fn series_of(&self, record: &CallRecord) -> Arc<Series> {
        let labels = CallLabels::of(record);
        if let Some(series) = self.series.read().get(&labels) {
            return Arc::clone(series);
        }
        let tool = ToolLabels {
            tool: Arc::clone(&labels.tool),
        };
        let series = Series {
            calls: self.calls.get_or_create_owned(&labels),
            whole: self.whole.get_or_create_owned(&tool),
            gateway: self.gateway.get_or_create_owned(&tool),
            upstream: self.upstream.get_or_create_owned(&tool),
        };
        Arc::clone(
            self.series
                .write()
                .entry(labels)
                .or_insert_with(|| Arc::new(series)),
        )
    }
}

impl CallLabels {
    fn of(record: &CallRecord) -> Self {
        Self {
            tool: tool_label(record),
            access: record.access.unwrap_or_default(),
            verdict: record.verdict.as_str(),
            code: record.code.unwrap_or_default(),
        }
    }

    fn attributes(&self) -> [KeyValue; 4] {
        [
            KeyValue::new(names::TOOL_NAME, Arc::clone(&self.tool)),
            KeyValue::new(names::TOOL_ACCESS, self.access),
            KeyValue::new(names::VERDICT, self.verdict),
            KeyValue::new(names::REFUSAL_CODE, self.code),
        ]
    }
}

/// The tool; an empty text where the call was routed to none.
fn tool_label(record: &CallRecord) -> Arc<str> {
    static NONE: OnceLock<Arc<str>> = OnceLock::new();
    Arc::clone(
        record
            .tool
            .as_ref()
            .unwrap_or_else(|| NONE.get_or_init(|| "".into())),
    )
}

fn call_histogram() -> Histogram {
    Histogram::new(CALL_BUCKETS)
}

fn gateway_histogram() -> Histogram {
    Histogram::new(GATEWAY_BUCKETS)
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

/// How long an output may be silent before its numbers are sent again.
pub(crate) const EVERY: Duration = Duration::from_secs(10);

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
