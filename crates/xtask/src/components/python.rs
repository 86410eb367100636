//! The parts that are Python packages, in an environment of their own.

use std::process::{Command, Stdio};

use super::{debian, make, text};
use crate::house::House;
use crate::process::{Failed, read, run};

pub(super) fn fetch(house: &House) -> Result<(), Failed> {
    let requirements = house.fixtures().join("requirements.txt");
    let folder = house.components().join("python");
    let version = read(
        Command::new("python3").args(["-c", "import sys; print('%d.%d' % sys.version_info[:2])"]),
    )?;
    let manifest = format!("python {version}{}", text(&requirements)?);
    make("python", &folder, &manifest, || {
        run(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
        // Wheels only: nothing is compiled, and no package runs code of its own while it is installed.
        let mut pip = Command::new(folder.join("bin/pip"));
        pip.args([
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--only-binary",
            ":all:",
            "--requirement",
        ]);
        run(pip.arg(&requirements))?;
        let mut collector = Command::new(folder.join("bin/python"));
        collector
            .arg(house.fixtures().join("collector.py"))
            .arg("--version");
        // The collector is linked against the shared library of Python, which a system's Python may lack.
        if collector
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
        {
            return Ok(());
        }
        debian::install(&[format!("libpython{}", version.trim())])
    })
}
