//! No core dump of a gateway is ever written: its memory holds secrets.

use std::io;

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// Switches core dumps of this process off. The limit alone does not stop a kernel that pipes
/// dumps to a program (core(5)), so the process is made undumpable too; that also keeps other
/// processes of the same user from reading its memory.
pub(crate) fn forbid() -> io::Result<()> {
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    setrlimit(Resource::Core, none)?;
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}
