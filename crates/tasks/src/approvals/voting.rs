//! People answer.

use std::sync::Arc;

use super::record::{Closed, Record, Vote};
use super::{ApprovalState, ApprovalView, Approvals, deadline};
use crate::{StoreError, Voter};

/// The longest comment, in characters.
pub(super) const LONGEST_COMMENT: usize = 1_000;

/// Why somebody's answer does not count.
#[derive(Debug, thiserror::Error)]
pub enum VoteError {
    /// No such approval.
    #[error("no approval `{0}`")]
    Unknown(String),
    /// It does not wait for answers any more.
    #[error("approval is {} already", .0.as_str())]
    NotWaiting(ApprovalState),
    /// Its task is the voter's own.
    #[error("nobody approves a call of a task that is its own")]
    OwnTask,
    /// The voter is none of those who were asked.
    #[error("`{0}` is not among those who were asked")]
    NotNamed(String),
    /// The comment is too long, or no text.
    #[error("a comment has at most {LONGEST_COMMENT} printable characters")]
    Comment,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What somebody answers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Answer {
    Grant,
    Refuse,
}

impl Approvals {
    /// Approves a call. Who approves twice approves once.
    pub async fn grant(
        &self,
        id: &str,
        voter: &Voter,
        comment: Option<&str>,
    ) -> Result<ApprovalView, VoteError> {
        self.vote(id, voter, Answer::Grant, comment).await
    }

    /// Refuses a call: one no is enough, also after others approved.
    pub async fn refuse(
        &self,
        id: &str,
        voter: &Voter,
        comment: Option<&str>,
    ) -> Result<ApprovalView, VoteError> {
        self.vote(id, voter, Answer::Refuse, comment).await
    }

    async fn vote(
        &self,
        id: &str,
        voter: &Voter,
        answer: Answer,
        comment: Option<&str>,
    ) -> Result<ApprovalView, VoteError> {
        let comment = comment.map(str::trim).filter(|comment| !comment.is_empty());
        if comment.is_some_and(|comment| !is_comment(comment)) {
            return Err(VoteError::Comment);
        }
        let unknown = || VoteError::Unknown(id.to_owned());
        let entry = self.book.lock().by_id.get(id).map(Arc::clone);
        let entry = entry.ok_or_else(unknown)?;
        let _writing = entry.writing.lock().await;
        let record = {
            let kept = entry.kept.lock();
            let state = self.state(&kept);
            let mut record = kept.record.clone();
            if !kept.is_stored {
                return Err(unknown());
            }
            if record.is_own(&voter.name) {
                return Err(VoteError::OwnTask);
            }
            if !record
                .demands
                .iter()
                .any(|demand| demand.counts(&voter.name, &voter.role))
            {
                return Err(VoteError::NotNamed(voter.name.clone()));
            }
            match (state, answer) {
                (ApprovalState::Waiting | ApprovalState::Granted, Answer::Grant)
                    if record.has_granted(&voter.name) =>
                {
                    return Ok(self.view(&entry.id, &kept));
                }
                (ApprovalState::Waiting, Answer::Grant | Answer::Refuse)
                | (ApprovalState::Granted, Answer::Refuse) => {}
                (state, _) => return Err(VoteError::NotWaiting(state)),
            }
            let now = self.clock.now();
            record.votes.push(Vote {
                by: voter.name.clone(),
                role: voter.role.clone(),
                granted: answer == Answer::Grant,
                at: now,
                comment: comment.map(str::to_owned),
            });
            match answer {
                Answer::Refuse => record.close(Closed::Refused, now),
                // Whoever approved at the last moment left the agent no time to call.
                Answer::Grant if record.is_met(&record.demands) => {
                    record.expires_at = record.expires_at.max(self.expiry(now));
                }
                Answer::Grant => {}
            }
            record
        };
        let write = entry.put(&record)?;
        let take = |record: Record| {
            let mut kept = entry.kept.lock();
            kept.deadline = deadline(record.expires_at, self.clock.now());
            kept.record = record;
        };
        match answer {
            // A no holds from the first moment, whether it could be written or not.
            Answer::Refuse => {
                take(record);
                entry.answered.notify_waiters();
                self.store.commit(vec![write]).await?;
            }
            Answer::Grant => {
                self.store.commit(vec![write]).await?;
                take(record);
            }
        }
        entry.answered.notify_waiters();
        let kept = entry.kept.lock();
        self.tell(&entry.id, &kept);
        Ok(self.view(&entry.id, &kept))
    }
}

fn is_comment(comment: &str) -> bool {
    comment.chars().count() <= LONGEST_COMMENT
        && !comment
            .chars()
            .any(|char| char.is_control() && char != '\n' && char != '\t')
}
