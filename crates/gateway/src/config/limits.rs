//! `limits`: what one gateway takes on at once.

use std::time::Duration;

use proxy::Limits;

use super::scalar::{Count, Size};
use super::shape::section;

section! {
    /// What one gateway takes on at once.
    struct RawLimits {
        /// How many connections may be open; more wait in the system's queue.
        connections: Count = default(10240);
        /// How long a connection may take to bring a whole head, idle time included.
        idle: Duration = default("60s");
        /// How long a body may take that is read before the decision.
        body: Duration = default("60s");
        /// How long an agent may take to receive what is written to it.
        write: Duration = default("60s");
        /// How much of bodies may wait for a decision, over all calls.
        buffered: Size = default("256MiB");
        /// How long calls in flight may take to finish when the gateway stops.
        drain: Duration = default("30s");
    }
}

impl RawLimits {
    pub(super) fn parse(self) -> Option<Limits> {
        Some(Limits {
            connections: self.connections?.value.0,
            idle: self.idle?.value,
            body: self.body?.value,
            write: self.write?.value,
            buffered: self.buffered?.value.0,
            drain: self.drain?.value,
        })
    }
}
