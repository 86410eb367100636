//! What is asked?
//!
//! [`Head::canonical`] gives a request one spelling; [`Tools::route`] finds the tool it is for;
//! [`Call::observe`] reads operation, access class and arguments from it, takes the agent's keys
//! off, and refuses what the task does not cover.
//!
//! **Invariant.** A [`Call`] carries no key, unless its tool is one whose keys are only reported, and is never changed
//! once made. What policy judges is
//! what leaves the gateway, byte for byte.

mod body;
mod call;
mod canonical;
mod exact;
mod found_key;
mod head;
mod json;
mod keys;
mod mcp;
mod meter;
mod observed;
mod operation;
mod phantom;
mod placeholder;
mod request;
mod strip;
mod tools;
mod watch;

pub use body::Body;
pub use call::{Call, Unobservable};
pub use exact::{CallDigest, Indistinct};
pub use found_key::{FoundKey, KeyFate};
pub use head::{Head, Malformed};
pub use keys::{Fingerprints, masked};
pub use mcp::McpCall;
pub use meter::{InvalidPathStart, Meter, MeterSource, PathStart, ResourceRule};
pub use phantom::{phantom, phantom_of_claims};
pub use placeholder::{KeyPlace, Placed, Placeholder, Spot};
pub use request::{Headers, Request};
pub use tools::{
    Ambiguous, BodyMode, BodyPlan, Mark, NoRoute, Protocol, Route, StripMode, Tool, Tools,
};
pub use watch::Watch;
