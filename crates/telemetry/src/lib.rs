//! What happened?
//!
//! One [`CallRecord`] per call: a plain struct, filled on the way and sent once. It becomes a span
//! tree, a log event, metrics and two audit lines, all under one [`DecisionId`].
//!
//! **Invariant.** Nothing here waits for a collector: a slow one costs counted records, never calls.
//! Only the audit's `decided` line is waited for, since a call that can't be audited isn't made.

mod attributes;
mod audit;
mod config;
mod decision;
mod digits;
mod endpoint;
mod envelope;
mod export;
mod json;
mod key_book;
mod lease_end;
mod logs;
mod metrics;
pub mod names;
mod protobuf;
mod queue;
mod record;
mod recorder;
mod revocation_event;
mod signal_result;
mod spans;
mod stderr;
mod task_event;
mod trace;
mod wire;

pub use audit::{Broken, Verified, verify};
pub use config::{Audit, AuditFailure, Config, Otlp, OtlpProtocol};
pub use decision::DecisionId;
pub use endpoint::{Endpoint, NotAnEndpoint};
pub use key_book::{KeyView, KeysSeen};
pub use lease_end::LeaseEnd;
pub use record::{CallRecord, Delegated, Ending, KeyNote, LeaseNote, Mcp, PolicyFailure, Verdict};
pub use recorder::{AuditUnavailable, Recorder, StartError, Telemetry};
pub use revocation_event::{RevocationEvent, RevocationEventKind};
pub use signal_result::SignalResult;
pub use stderr::{LogFormat, LogGuard, init_logs};
pub use task_event::{EndedLease, TaskEvent, TaskEventKind};
pub use trace::Trace;
