//! SPIRE, the reference implementation of SPIFFE: a Go module, built here.

use std::path::Path;
use std::process::Command;

use super::make;
use crate::house::House;
use crate::process::{Failed, run};

const VERSION: &str = "v1.13.3";

/// Each is a program below `cmd` of the module.
const PROGRAMS: [&str; 2] = ["spire-server", "spire-agent"];

pub(super) fn fetch(house: &House) -> Result<(), Failed> {
    let folder = house.components().join("spire");
    // Made with the environment of Python, which pins it.
    let program = house.components().join("python/bin/go");
    let go = |arguments: &[&str]| go(&program, &folder, arguments);
    make("spire", &folder, VERSION, || {
        run(&mut go(&["mod", "init", "spire"]))?;
        let packages = PROGRAMS.map(|program| format!("github.com/spiffe/spire/cmd/{program}"));
        // A module of its own, since one that lists no versions is taken as a tool of another alone.
        for package in &packages {
            let pinned = format!("{package}@{VERSION}");
            run(&mut go(&["get", "-tool", &pinned]))?;
        }
        let mut install = go(&["install", "-trimpath", "-ldflags=-s -w"]);
        run(install.args(packages).env("GOBIN", folder.join("bin")))
    })
}

fn go(program: &Path, folder: &Path, arguments: &[&str]) -> Command {
    let mut go = Command::new(program);
    // The store of its server is C. Another Go on the machine has no say.
    go.args(arguments)
        .current_dir(folder)
        .env("CGO_ENABLED", "1")
        .env("GOTOOLCHAIN", "local")
        .env_remove("GOROOT");
    go
}
