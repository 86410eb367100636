//! What telemetry is made of, parsed.

use std::path::PathBuf;

use crate::Endpoint;

/// What telemetry is made of, parsed.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where OTLP goes; nowhere unless given.
    pub otlp: Option<Otlp>,
    /// The audit file; none unless given.
    pub audit: Option<Audit>,
    /// How many records may wait for export.
    pub queue: usize,
    /// `service.name`.
    pub service_name: String,
}

/// An OTLP collector.
#[derive(Clone, Debug)]
pub struct Otlp {
    /// `http://…:4318` or `http://…:4317`.
    pub endpoint: Endpoint,
    /// The wire.
    pub protocol: OtlpProtocol,
}

/// The wires of OTLP.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OtlpProtocol {
    /// HTTP with protobuf bodies.
    HttpProtobuf,
    /// gRPC.
    Grpc,
}

/// The audit file.
#[derive(Clone, Debug)]
pub struct Audit {
    /// Its path. Beside it stand `<path>.head`, the last line known to be on the disk, and, after a
    /// crash, `<path>.torn`.
    pub path: PathBuf,
    /// What a full disk means.
    pub on_failure: AuditFailure,
}

/// What happens to calls that can't be audited.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AuditFailure {
    /// They are refused; the default.
    Refuse,
    /// They go on, and are counted.
    Continue,
}
