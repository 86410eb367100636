//! Programs of the system: what the build needs, servers and load generators.

use std::process::Command;

use crate::process::{Failed, has, read, run};

/// A program, and the Debian package that has it.
const PROGRAMS: [(&str, &str); 10] = [
    // zlib-ng, below the proxy engine, is built by cmake and a C compiler; the allocator by make.
    ("cc", "gcc"),
    ("cmake", "cmake"),
    ("make", "make"),
    ("nginx", "nginx"),
    ("curl", "curl"),
    ("h2load", "nghttp2-client"),
    ("wrk", "wrk"),
    ("python3", "python3"),
    ("npm", "npm"),
    // What OpenBao makes users of.
    ("redis-server", "redis-server"),
];

pub(crate) fn fetch() -> Result<(), Failed> {
    let lacking = PROGRAMS.into_iter().filter(|(program, _)| !has(program));
    let mut packages: Vec<_> = lacking.map(|(_, package)| package.to_owned()).collect();
    // Debian splits what makes an environment from Python itself.
    if !Command::new("python3")
        .args(["-c", "import ensurepip, venv"])
        .status()
        .is_ok_and(|status| status.success())
    {
        packages.push("python3-venv".to_owned());
    }
    if packages.is_empty() {
        println!("system programs: there");
        return Ok(());
    }
    install(&packages)
}

/// Installs packages, where this user may; otherwise says which are wanted.
pub(super) fn install(packages: &[String]) -> Result<(), Failed> {
    let names = packages.join(" ");
    if !has("apt-get") || read(Command::new("id").arg("-u"))?.trim() != "0" {
        return Err(Failed::Lacks(format!(
            "install first: `apt-get install {names}`"
        )));
    }
    println!("system programs: fetching {names}");
    run(Command::new("apt-get").args(["update", "-qq"]))?;
    let mut install = Command::new("apt-get");
    install
        .args(["install", "-qq", "-y", "--no-install-recommends"])
        .args(packages);
    // In runlevel 1 the servers in the packages are not started.
    run(install
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("RUNLEVEL", "1"))
}
