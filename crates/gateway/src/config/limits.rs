//! `limits`: what one gateway takes on at once.

use std::time::Duration;

use super::scalar::{Count, Size};
use super::shape::section;

/// What one gateway takes on at once.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// How long an agent may take to send a request's head.
    pub head_timeout: Duration,
    /// How long an agent may stay silent within a request's body.
    pub body_timeout: Duration,
    /// How long a connection may stay open between requests.
    pub idle_timeout: Duration,
    /// How many connections may be open; more wait to be accepted.
    pub max_connections: usize,
    /// How many bytes of bodies may be held in memory at once, over all calls.
    pub buffered_bytes: usize,
}

section! {
    /// What one gateway takes on at once.
    struct RawLimits {
        /// How long an agent may take to send a request's head.
        head_timeout: Duration = default("10s");
        /// How long an agent may stay silent within a request's body.
        body_timeout: Duration = default("30s");
        /// How long a connection may stay open between requests.
        idle_timeout: Duration = default("60s");
        /// How many connections may be open.
        max_connections: Count = default(10000);
        /// How much of bodies may be held in memory at once, over all calls.
        buffered_bytes: Size = default("256MiB");
    }
}

impl RawLimits {
    pub(super) fn parse(self) -> Option<Limits> {
        Some(Limits {
            head_timeout: self.head_timeout?.value,
            body_timeout: self.body_timeout?.value,
            idle_timeout: self.idle_timeout?.value,
            max_connections: self.max_connections?.value.0,
            buffered_bytes: self.buffered_bytes?.value.0,
        })
    }
}
