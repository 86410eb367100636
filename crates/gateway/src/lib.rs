//! How is a gateway made?
//!
//! [`config`] turns a `remit.yaml` into parsed types, or into the list of all that is wrong with it.

pub mod config;
