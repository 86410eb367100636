//! The door: config in, a running gateway out.
//!
//! [`config`] turns a `remit.yaml` into parsed types, or into the list of all that is wrong with it;
//! [`command`] holds what a person or a script can say.

pub mod command;
pub mod config;
pub mod examples;

mod bundles;
mod explain;
mod fixed;
mod ground;
mod process;
mod promotion;
mod reload;
mod reports;
mod running;
mod secret_servers;
mod setup;
mod signals;
mod state_folder;
mod webhook;
