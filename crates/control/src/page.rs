//! Lists are answered in pages, newest first.

use credentials::{ConsentView, LeaseView, RevokedConsent};
use serde::{Deserialize, Serialize};
use tasks::{ApprovalView, RevocationView, TaskView};
use telemetry::KeyView;

/// The most entries of one answer.
pub(crate) const PAGE: usize = 1000;

/// The answer of `GET /v1/tasks`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TaskPage {
    /// Newest first, at most 1,000.
    pub tasks: Vec<TaskView>,
    /// Whether there are older ones: ask again with `?before=` the last id.
    pub more: bool,
}

/// The answer of `GET /v1/approvals`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ApprovalPage {
    /// Newest first, at most 100: each shows a whole call.
    pub approvals: Vec<ApprovalView>,
    /// Whether there are older ones: ask again with `?before=` the last id.
    pub more: bool,
}

/// The answer of `GET /v1/leases`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LeasePage {
    /// Newest first, at most 1,000.
    pub leases: Vec<LeaseView>,
    /// Whether there are older ones: ask again with `?before=` the last id.
    pub more: bool,
}

/// The answer of `GET /v1/consents`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ConsentPage {
    /// Newest first, at most 1,000.
    pub consents: Vec<ConsentView>,
    /// Whether there are older ones: ask again with `?before=` the last id.
    pub more: bool,
}

/// The answer of `DELETE /v1/consents/{id}`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WithdrawnConsent {
    /// The consent.
    #[serde(flatten)]
    pub revoked: RevokedConsent,
    /// What became of the leases that were obtained by it.
    pub leases: Vec<LeaseView>,
}

/// The answer of `GET /v1/keys`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct KeyPage {
    /// Those last seen first, at most 1,000.
    pub keys: Vec<KeyView>,
    /// Whether there are others: ask again with `?before=` the last fingerprint.
    pub more: bool,
    /// How many more there were since the start, which are forgotten.
    pub forgotten: u64,
}

/// The answer of `GET /v1/revocations`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RevocationPage {
    /// Those that stand, newest first, at most 1,000.
    pub revocations: Vec<RevocationView>,
    /// Whether there are older ones: ask again with `?before=` the last id.
    pub more: bool,
}

/// Takes at most `limit` of what comes after the entry named `before`, and tells whether more is left.
pub(crate) fn page<T>(
    all: impl IntoIterator<Item = T>,
    id: impl Fn(&T) -> &str,
    before: Option<&str>,
    limit: usize,
) -> (Vec<T>, bool) {
    let mut rest = all.into_iter();
    if let Some(before) = before {
        // Not found: nothing is left, rather than everything again.
        rest.by_ref().find(|entry| id(entry) == before);
    }
    let entries = rest.by_ref().take(limit).collect();
    (entries, rest.next().is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(before: Option<&str>, limit: usize, expect: (&[&str], bool)) {
        let (entries, more) = page(["c", "b", "a"], |entry| *entry, before, limit);
        assert_eq!((entries.as_slice(), more), expect);
    }

    #[test]
    fn all_fit() {
        check(None, 3, (&["c", "b", "a"], false));
    }

    #[test]
    fn the_newest_come_first() {
        check(None, 2, (&["c", "b"], true));
    }

    #[test]
    fn the_next_page_begins_after_the_last_entry() {
        check(Some("b"), 2, (&["a"], false));
    }

    #[test]
    fn after_the_oldest_there_is_nothing() {
        check(Some("a"), 2, (&[], false));
    }

    #[test]
    fn after_an_unknown_entry_there_is_nothing() {
        check(Some("x"), 2, (&[], false));
    }
}
