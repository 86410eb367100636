//! What tests of providers have in common.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use identity::{KeyKind, TaskTokens};
use serde_json::{Map, json};

use crate::{LeaseView, Material, Obtained, SecretRef, Wish};

/// What no error may repeat.
pub(crate) const CANARY: &str = "canary-7f3a91c4e2";

const TASK: &str = "0190a2b4-7f00-7000-8000-000000000001";

pub(crate) fn wish() -> Wish {
    Wish {
        agent: "triage".to_owned(),
        task: TASK.parse().unwrap(),
        owner: "alice".to_owned(),
        tool: "notes".parse().unwrap(),
        access: tasks::Access::Read,
        scopes: Vec::new(),
        narrow: Map::new(),
        ttl_seconds: 600,
    }
}

pub(crate) fn view(provider: &str) -> LeaseView {
    serde_json::from_value(json!({
        "id": "lease", "agent": "triage", "task": TASK, "tool": "notes", "access": "read", "scopes": [],
        "provider": provider, "state": "active", "outcome": null, "obtained_at": "2026-01-01T00:00:00Z",
        "expires_at": null, "decision": "decision",
    }))
    .unwrap()
}

#[expect(clippy::disallowed_methods, reason = "to compare it")]
pub(crate) fn text(obtained: &Obtained) -> String {
    let Material::Text(secret) = &obtained.material else {
        panic!("one secret");
    };
    String::from_utf8(secret.expose().to_vec()).unwrap()
}

pub(crate) fn tokens() -> Arc<TaskTokens> {
    let pem = TaskTokens::generate(KeyKind::P256).unwrap();
    Arc::new(TaskTokens::from_pem(pem.as_bytes(), "https://gateway.example").unwrap())
}

/// A folder of secrets.
pub(crate) struct Folder(tempfile::TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    pub(crate) fn secret(&self, name: &str, text: &str) -> SecretRef {
        SecretRef::File(self.file(name, text))
    }
}
