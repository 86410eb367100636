//! Runs work that a policy author could make deep or endless: on a thread of its own, under a deadline.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

/// The stack that evaluation needs, in bytes: what is recursive in a policy is recursive in the engine. 64 MiB of
/// address space, of which only what is used takes memory; debug builds have frames of three times the size.
pub const STACK: usize = if cfg!(debug_assertions) {
    256 << 20
} else {
    64 << 20
};

/// Why bounded work gave no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Overrun {
    #[error("took longer than {} s", .0.as_secs())]
    Deadline(Duration),
    #[error("panicked")]
    Panic,
    #[error("no thread could be started")]
    Thread,
}

/// Runs `work` and waits for it. Past the deadline its thread is left to itself, and its answer is dropped.
pub(crate) fn run<T: Send + 'static>(
    deadline: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Overrun> {
    let (sender, receiver) = channel();
    std::thread::Builder::new()
        .name("policy".to_owned())
        .stack_size(STACK)
        .spawn(move || {
            // Nobody waits any more past the deadline.
            drop(sender.send(work()));
        })
        .map_err(|_| Overrun::Thread)?;
    receiver
        .recv_timeout(deadline)
        .map_err(|error| match error {
            RecvTimeoutError::Timeout => Overrun::Deadline(deadline),
            RecvTimeoutError::Disconnected => Overrun::Panic,
        })
}
