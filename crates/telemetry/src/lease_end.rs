//! What came of taking a lease back.

/// What came of taking a lease back.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LeaseEnd {
    /// The upstream took it back.
    Revoked,
    /// It dies by itself.
    ExpiresAt,
    /// It was dropped; the upstream still takes it.
    DropOnly,
    /// It could not be taken back this time.
    Failed,
    /// It could not be taken back for so long that it is not tried any more.
    Orphaned,
}

impl LeaseEnd {
    /// Each of them.
    pub(crate) const ALL: [Self; 5] = [
        Self::Revoked,
        Self::ExpiresAt,
        Self::DropOnly,
        Self::Failed,
        Self::Orphaned,
    ];

    /// The word in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Revoked => "revoked",
            Self::ExpiresAt => "expires_at",
            Self::DropOnly => "drop_only",
            Self::Failed => "failed",
            Self::Orphaned => "orphaned",
        }
    }
}
