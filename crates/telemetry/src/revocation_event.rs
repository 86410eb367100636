//! What was revoked as a whole, and what came of it.

use jiff::Timestamp;

use crate::EndedLease;

/// An agent, issuer, tool or owner was revoked, or that was lifted. Texts hold no secret.
#[derive(Clone, Debug)]
pub struct RevocationEvent {
    /// Which of both.
    pub kind: RevocationEventKind,
    /// When.
    pub at: Timestamp,
    /// The revocation's id.
    pub id: String,
    /// `agent`, `issuer`, `tool`, `owner`.
    pub subject: &'static str,
    /// Its name.
    pub name: String,
    /// Who did it.
    pub by: String,
    /// Why.
    pub reason: String,
    /// Whether nothing of it may begin from now on.
    pub block: bool,
    /// Until when, RFC 3339, if it lapses.
    pub until: Option<String>,
    /// How many tasks ended, those below others too.
    pub tasks: usize,
    /// The first 1,000 of them.
    pub task_ids: Vec<String>,
    /// How many calls were cut.
    pub calls_cut: usize,
    /// How many of them were not over after a second.
    pub calls_left: usize,
    /// What became of leases, the first 1,000.
    pub leases: Vec<EndedLease>,
}

/// What can happen to a revocation.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RevocationEventKind {
    /// It holds from now on.
    Revoked,
    /// It holds no more; what ended for it stays ended.
    Lifted,
}

impl RevocationEventKind {
    /// The word in every output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Revoked => "revoked",
            Self::Lifted => "lifted",
        }
    }
}

impl RevocationEvent {
    /// The ids of leases that were revoked, or could not be.
    pub(crate) fn lease_ids(&self, is_revoked: bool) -> impl Iterator<Item = &str> {
        let leases = self.leases.iter();
        let leases = leases.filter(move |lease| lease.is_revoked() == is_revoked);
        leases.map(|lease| &*lease.id)
    }
}
