//! The wall clock that tasks live by.

use jiff::Timestamp;

/// The wall clock that tasks live by.
#[derive(Clone, Debug)]
pub(crate) enum Clock {
    /// The machine's.
    System,
    /// The machine's, moved by this many milliseconds, so that a test can travel in time.
    #[cfg(test)]
    Shifted(std::sync::Arc<std::sync::atomic::AtomicI64>),
}

impl Clock {
    /// Milliseconds since the epoch.
    pub(crate) fn now(&self) -> i64 {
        let now = Timestamp::now().as_millisecond();
        match self {
            Self::System => now,
            #[cfg(test)]
            Self::Shifted(by) => now + by.load(std::sync::atomic::Ordering::SeqCst),
        }
    }
}
