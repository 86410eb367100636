//! The parts from npm, and a Node that is new enough to run them.

use std::env;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{make, text};
use crate::house::House;
use crate::process::{Failed, read, run};

/// The first release line that the OpenID provider supports.
const OLDEST: u32 = 22;
/// The Node that is fetched where the system's is older.
const FETCHED: &str = "24.21.0";

pub(super) fn fetch(house: &House) -> Result<(), Failed> {
    let runtime = runtime(house)?;
    let bin = house.components().join("bin");
    fs::create_dir_all(&bin).map_err(Failed::file(&bin))?;
    link(&runtime, &bin.join("node"))?;

    let manifests = ["package.json", "package-lock.json"].map(|name| house.fixtures().join(name));
    let [package, lock] = &manifests;
    let manifest = format!("{}{}", text(package)?, text(lock)?);
    let folder = house.components().join("node");
    make("node", &folder, &manifest, || {
        for manifest in &manifests {
            let copy = folder.join(manifest.file_name().unwrap_or_default());
            fs::copy(manifest, &copy).map_err(Failed::file(&copy))?;
        }
        run(npm(&["ci"]).current_dir(&folder))
    })?;
    // A module is looked for beside the file that imports it.
    link(
        &folder.join("node_modules"),
        &house.fixtures().join("node_modules"),
    )
}

/// The system's Node, or one from npm.
fn runtime(house: &House) -> Result<PathBuf, Failed> {
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path)
        .map(|folder| folder.join("node"))
        .find(|node| node.is_file());
    if let Some(node) = found.filter(|node| is_new_enough(node)) {
        return Ok(node);
    }
    let machine = match env::consts::ARCH {
        "x86_64" => "x64",
        "aarch64" => "arm64",
        other => {
            return Err(Failed::Lacks(format!(
                "install Node {OLDEST} or newer: npm has none for `{other}`"
            )));
        }
    };
    let folder = house.components().join("node-runtime");
    let package = format!("node-linux-{machine}@{FETCHED}");
    make("node itself", &folder, &package, || {
        run(npm(&["install"]).arg("--prefix").arg(&folder).arg(&package))
    })?;
    Ok(folder.join(format!("node_modules/node-linux-{machine}/bin/node")))
}

fn is_new_enough(node: &Path) -> bool {
    // Such as `v24.21.0`.
    let version = read(Command::new(node).arg("--version")).unwrap_or_default();
    let major = version
        .trim_start_matches('v')
        .split('.')
        .next()
        .and_then(|major| major.parse().ok());
    major.is_some_and(|major: u32| major >= OLDEST)
}

/// npm that runs no code of the packages it installs.
fn npm(arguments: &[&str]) -> Command {
    let mut npm = Command::new("npm");
    npm.args(arguments).args([
        "--ignore-scripts",
        "--no-audit",
        "--no-fund",
        "--loglevel=error",
    ]);
    npm
}

fn link(to: &Path, at: &Path) -> Result<(), Failed> {
    if fs::read_link(at).is_ok_and(|target| target == to) {
        return Ok(());
    }
    if at.symlink_metadata().is_ok() {
        fs::remove_file(at).map_err(Failed::file(at))?;
    }
    symlink(to, at).map_err(Failed::file(at))
}
