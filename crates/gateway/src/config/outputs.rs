//! `telemetry` and `audit`: where records go.

use std::path::PathBuf;

use telemetry::{Audit, AuditFailure, Otlp, OtlpProtocol};
use telemetry::{Endpoint, NotAnEndpoint};
use url::Url;

use super::mistake::{At, Notes};
use super::scalar::Count;
use super::shape::{section, words};

words! { OtlpProtocol { "http/protobuf" => Self::HttpProtobuf, "grpc" => Self::Grpc } }
words! { AuditFailure { "refuse" => Self::Refuse, "continue" => Self::Continue } }

section! {
    /// Where traces, metrics and logs go.
    struct RawTelemetry {
        /// An OTLP collector, such as `http://127.0.0.1:4318`. Nothing is exported unless given.
        otlp: Url = optional;
        /// How it is spoken to; the names are OpenTelemetry's.
        protocol: OtlpProtocol = default("http/protobuf");
        /// `service.name`.
        service_name: String = default("remit");
        /// How many records may wait for export; more are dropped, and counted.
        queue: Count = default(8192);
    }
}

section! {
    /// The audit file: two lines for each call, hash-chained.
    struct RawAudit {
        /// The file.
        path: PathBuf = required;
        /// What happens to calls that can't be audited: they are refused (`refuse`), or go on and are counted (`continue`).
        on_failure: AuditFailure = default("refuse");
    }
}

impl RawTelemetry {
    pub(super) fn parse(
        self,
        audit: Option<Audit>,
        notes: &mut Notes,
    ) -> Option<telemetry::Config> {
        let protocol = self.protocol?.value;
        let otlp = match self.otlp {
            Some(url) => Some(Otlp {
                endpoint: endpoint(&url, notes)?,
                protocol,
            }),
            None => None,
        };
        Some(telemetry::Config {
            otlp,
            audit,
            queue: self.queue?.value.0,
            service_name: self.service_name?.value,
        })
    }
}

/// A collector's address; a key in its query would be a secret.
fn endpoint(url: &At<Url>, notes: &mut Notes) -> Option<Endpoint> {
    if url.value.query().is_some() {
        notes.mistake(
            &url.place,
            "wrong_value",
            "a collector's address has no query",
        );
        return None;
    }
    let parsed = url.value.as_str().trim_end_matches('/').parse();
    parsed
        .map_err(|error: NotAnEndpoint| notes.mistake(&url.place, "wrong_value", error.to_string()))
        .ok()
}

impl RawAudit {
    pub(super) fn parse(self) -> Option<Audit> {
        Some(Audit {
            path: self.path?.value,
            on_failure: self.on_failure?.value,
        })
    }
}
