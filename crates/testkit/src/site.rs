//! Where a gateway stands in a test: a folder with its config and policy, and the runtime of the fakes around it.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tokio::runtime::{Builder, Runtime};

use crate::remit::Remit;

/// A folder with config, policy and state, and the runtime that the fakes around the gateway live on.
#[derive(Debug)]
pub struct Site {
    program: PathBuf,
    folder: tempfile::TempDir,
    runtime: Runtime,
}

/// What each config begins with.
const HEAD: &str =
    "listen: { calls: 127.0.0.1:0, control: 127.0.0.1:0 }\npolicy: { path: policy }\n";

impl Site {
    /// Makes an empty one for the binary at `program`.
    pub fn new(program: &str) -> Self {
        // Set already, if another test of this process was first.
        rustls::crypto::ring::default_provider()
            .install_default()
            .ok();
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build();
        Self {
            program: program.into(),
            folder: tempfile::tempdir().unwrap(),
            runtime: runtime.unwrap(),
        }
    }

    /// Runs a future, such as the start of a fake, to its end.
    pub fn run<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(future)
    }

    /// Where a file of it is.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file; answers with where it is.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    /// Writes a file at once, so that nobody ever reads a part of it.
    pub fn replace(&self, name: &str, text: &str) {
        let draft = self.write("draft", text);
        fs::rename(draft, self.path(name)).unwrap();
    }

    /// Writes a file that only its owner may read.
    pub fn secret(&self, name: &str, text: &str) -> PathBuf {
        self.write_as(0o600, name, text)
    }

    /// Writes a shell script that can be run.
    pub fn script(&self, name: &str, text: &str) -> PathBuf {
        self.write_as(0o700, name, &format!("#!/bin/sh\n{text}"))
    }

    fn write_as(&self, mode: u32, name: &str, text: &str) -> PathBuf {
        let path = self.write(name, text);
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        path
    }

    /// Writes `remit.yaml`: listeners at ports that the system chooses, the policy in `policy`, and `rest`.
    pub fn config(&self, rest: &str) -> PathBuf {
        self.write("remit.yaml", &format!("{HEAD}{rest}"))
    }

    /// Serves the config.
    pub fn serve(&self) -> Remit {
        self.serve_with(&[])
    }

    /// Serves the config with more in the environment.
    pub fn serve_with(&self, environment: &[(&str, &str)]) -> Remit {
        Remit::serve_with(
            self.program.to_str().unwrap(),
            &self.path("state"),
            &self.path("remit.yaml"),
            environment,
        )
    }

    /// Runs a command of the binary, in the folder, until it ends.
    pub fn command(&self, arguments: &[&str]) -> Output {
        Command::new(&self.program)
            .args(arguments)
            .current_dir(self.folder.path())
            .output()
            .unwrap()
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}
