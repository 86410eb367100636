//! What came of a signal of an identity provider.

/// What came of a signal of an identity provider.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SignalResult {
    /// Tasks ended for it.
    Ended,
    /// It would end tasks, and there are none of whom it is about.
    Unknown,
    /// It ends nothing.
    Noted,
    /// It was received before.
    Duplicate,
    /// It is not believed.
    Refused,
}

impl SignalResult {
    /// Each of them.
    pub(crate) const ALL: [Self; 5] = [
        Self::Ended,
        Self::Unknown,
        Self::Noted,
        Self::Duplicate,
        Self::Refused,
    ];

    /// The word in logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ended => "ended",
            Self::Unknown => "unknown",
            Self::Noted => "noted",
            Self::Duplicate => "duplicate",
            Self::Refused => "refused",
        }
    }
}
