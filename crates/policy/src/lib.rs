//! May it?
//!
//! [`Policy::decide`] turns a [`call::Call`] into a [`Permit`], or says why not; [`Policy::admit`] says
//! whether a task may be opened.
//!
//! **Invariant.** A [`Permit`] is made in this crate and nowhere else, and stands for one call: it
//! can be neither forged nor copied. Undefined, error, timeout, wrong shape: no. A policy is loaded
//! whole, after every check and test of its own passed, or not at all.
//!
//! [`Policy::decide`] evaluates on the caller's thread: give the threads that call it a stack of
//! [`STACK`] bytes. That is the second line against recursion, after the check at load.

mod admission;
mod bounded;
mod builtins;
mod bundle;
mod capabilities;
mod check;
mod closest;
mod compile;
mod compose;
#[cfg(feature = "conformance")]
#[doc(hidden)]
pub mod conformance;
mod coverage;
mod decision;
mod decision_point;
mod der;
mod explanation;
mod failing;
mod fields;
mod finding;
mod input;
mod interpreted;
mod load;
mod log;
mod machine;
mod matrix;
mod nesting;
mod permit;
mod policy;
mod recording;
mod reference;
mod schema;
mod shadow;
mod source;
mod steps;
mod timing;
mod vm;
mod wanted_engine;

pub use admission::{Actor, Admitted, Opener};
pub use bounded::STACK;
pub use bundle::{
    BadBundle, Bundle, InvalidKey, LONGEST_ARCHIVE, Manifest, PublicKey, Rank, SigningKey,
    Verification,
};
pub use capabilities::capabilities;
pub use coverage::{FileCoverage, percent};
pub use decision::{Judgement, Terms};
pub use decision_point::{DecisionPoint, Mode, RecordingConfig, Trial};
pub use explanation::Explanation;
pub use finding::{Finding, Severity};
pub use log::{Batch, DecisionLog, DecisionLogConfig, without_input};
pub use matrix::Row;
pub use permit::{Denial, DenialKind, Narrowing, Pending, Permit, Ruling, Unaskable};
pub use policy::Policy;
pub use recording::Recorded;
pub use reference::TestResult;
pub use schema::Document;
pub use shadow::{Difference, Said, ShadowReport};
pub use source::{Source, samples};
pub use steps::Condition;
pub use timing::Timing;
