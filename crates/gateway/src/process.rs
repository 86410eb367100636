//! What the process asks of the system before it holds a secret: no core dumps, and as many descriptors as it may have.

use std::io;

use rustix::process::{
    DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit,
};

/// Switches core dumps of this process off. The limit alone does not stop a kernel that pipes
/// dumps to a program (core(5)), so the process is made undumpable too; that also keeps other
/// processes of the same user from reading its memory.
pub(crate) fn forbid_core_dumps() -> io::Result<()> {
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    setrlimit(Resource::Core, none)?;
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

/// Raises the number of open files to what the system grants. The usual soft limit of 1,024 is for programs that
/// use `select`; each call needs two.
pub(crate) fn raise_descriptors() -> io::Result<()> {
    let granted = getrlimit(Resource::Nofile).maximum;
    let all = Rlimit {
        current: granted,
        maximum: granted,
    };
    Ok(setrlimit(Resource::Nofile, all)?)
}
