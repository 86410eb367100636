//! What for?
//!
//! [`Tasks::bind`] binds an authenticated agent to the open task it works on.
//!
//! **Invariant.** A [`Task`] stands for one call of an agent on an open task of its own. It is made
//! in this crate and nowhere else. A limit is never passed, and never counted lower than used.

mod access;
mod adopted;
mod adoption;
mod amount;
mod approvals;
mod children;
mod clock;
mod condition;
mod counters;
mod cover;
mod cutoffs;
mod declared;
mod delegation;
mod demand;
mod desk;
mod embedded;
mod entry;
mod facts;
mod gates;
mod grant;
mod history;
mod limits;
mod marks;
mod open_calls;
mod opening;
mod pattern;
mod pointer;
mod purse;
mod quota;
mod revocation;
mod revocations;
mod revoked;
mod spending;
mod store;
mod task;
mod task_id;
mod tasks;
#[cfg(test)]
mod testing;
mod tool_name;
mod view;

pub use access::Access;
pub use adopted::Turn;
pub use adoption::{Adoption, AdoptionRules, ClaimPath, GrantsFrom, InvalidClaimPath, Unadoptable};
pub use amount::{Amount, InvalidAmount, InvalidUnit, Unit};
pub use approvals::{
    ApprovalState, ApprovalView, Approvals, ApprovalsConfig, Approved, DemandView, Escalated,
    Granted, NotAsked, Question, Unspent, VoteError, VoteView,
};
pub use condition::Condition;
pub use counters::Exhausted;
pub use cover::{Arguments, Cover, Unmet, Wanted, WantedOperation};
pub use declared::{DeclarationHeaders, Declared};
pub use delegation::{DelegationBounds, DelegationRequest};
pub use demand::{Demand, Voter};
pub use embedded::Embedded;
pub use facts::{Facts, Issued};
pub use gates::{GateBounds, Limited, Rate, Slot};
pub use grant::Grant;
pub use history::Done;
pub use limits::{Limits, Usage};
pub use open_calls::Reach;
pub use opening::{InvalidOpening, Opening, OpeningRequest, is_label};
pub use pattern::{Asked, InvalidPattern, OperationPattern};
pub use pointer::{ArgumentPointer, Found, InvalidPointer, folded};
pub use revocation::{Blocked, RevocationRequest, RevocationView, Subject};
pub use spending::{Costs, Spending};
pub use store::{Store, StoreError, Table, Write};
pub use task::Task;
pub use task_id::{InvalidTaskId, TaskId};
pub use tasks::{
    Config, EndError, Ended, OpenError, PauseError, RevocationOutcome, Tasks, Unbound, Undurable,
};
pub use tool_name::{InvalidToolName, ToolName};
pub use view::{Ending, Origin, TaskView};
