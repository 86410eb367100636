//! What a bundle says of itself: its revision, and the names that it may define.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{BadBundle, MANIFEST};
use crate::source::{Kind, Source};

/// `.manifest`. Keys that are not known are left alone, as OPA does.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Manifest {
    /// The author's name of this state of the policy.
    #[serde(default)]
    pub revision: String,
    /// What the bundle owns, as paths with `/`; `[""]`, everything, unless given.
    #[serde(default = "everything")]
    pub roots: Vec<String>,
    /// 1, or absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rego_version: Option<i64>,
    /// Versions by file; each must be 1.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub file_rego_versions: BTreeMap<String, i64>,
    /// Whatever the author adds.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, Value>,
}

fn everything() -> Vec<String> {
    vec![String::new()]
}

impl Default for Manifest {
    fn default() -> Self {
        Self {
            revision: String::new(),
            roots: everything(),
            rego_version: Some(1),
            file_rego_versions: BTreeMap::new(),
            metadata: BTreeMap::new(),
        }
    }
}

impl Manifest {
    /// The `.manifest` of a folder; one that claims everything where there is none.
    pub fn of_folder(folder: &Path) -> Result<Self, BadBundle> {
        match std::fs::read(folder.join(MANIFEST)) {
            Ok(bytes) => Self::parse(&bytes),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(BadBundle::Malformed(
                folder.join(MANIFEST).display().to_string(),
                error.to_string(),
            )),
        }
    }

    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, BadBundle> {
        let manifest: Self = serde_json::from_slice(bytes)
            .map_err(|error| BadBundle::Malformed(MANIFEST.to_owned(), error.to_string()))?;
        let mut versions = manifest
            .rego_version
            .iter()
            .chain(manifest.file_rego_versions.values());
        match versions.find(|version| **version != 1) {
            Some(version) => Err(BadBundle::RegoVersion(*version)),
            None => Ok(manifest),
        }
    }

    pub(super) fn to_json(&self) -> Vec<u8> {
        // Maps with texts as keys can always be written.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Whether all rules that the gateway asks are its own.
    pub(crate) fn owns_remit(&self) -> bool {
        self.roots
            .iter()
            .any(|root| matches!(*parts(root), [] | ["remit"]))
    }

    /// Every package and every value of the data lies below a root.
    pub(super) fn check_roots(&self, sources: &[Source]) -> Result<(), BadBundle> {
        let roots: Vec<Vec<&str>> = self.roots.iter().map(|root| parts(root)).collect();
        if roots.iter().any(Vec::is_empty) {
            return Ok(());
        }
        for source in sources {
            let outside = match source.kind() {
                Kind::Rules | Kind::Tests => outside_rules(&roots, &source.text),
                Kind::Json => outside_data(&roots, source, serde_json::from_str(&source.text))?,
                Kind::Yaml => outside_data(&roots, source, serde_yaml::from_str(&source.text))?,
                Kind::Sample | Kind::Manifest | Kind::Other => None,
            };
            if let Some(outside) = outside {
                return Err(BadBundle::OutsideRoots(source.name(), outside));
            }
        }
        Ok(())
    }
}

/// The words of a path.
pub(super) fn parts(path: &str) -> Vec<&str> {
    path.split('/').filter(|part| !part.is_empty()).collect()
}

/// The package, if it is below no root. One that is not written plainly is taken to be outside.
fn outside_rules(roots: &[Vec<&str>], text: &str) -> Option<String> {
    let mut lines = text.lines().map(str::trim);
    let first = lines.find(|line| !line.is_empty() && !line.starts_with('#'));
    let package = first
        .and_then(|line| line.strip_prefix("package"))
        .filter(|rest| rest.starts_with([' ', '\t']))
        .map(|rest| rest.split('#').next().unwrap_or_default().trim())
        .unwrap_or_default();
    let path: Vec<&str> = package.split('.').collect();
    let is_word = |part: &&str| {
        !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    let inside = path.iter().all(is_word) && roots.iter().any(|root| path.starts_with(root));
    (!inside).then(|| format!("package {package}"))
}

fn outside_data<E: ToString>(
    roots: &[Vec<&str>],
    source: &Source,
    value: Result<Value, E>,
) -> Result<Option<String>, BadBundle> {
    let value = value.map_err(|error| BadBundle::Malformed(source.name(), error.to_string()))?;
    let folder = source.name();
    let mut path = parts(&folder);
    path.pop();
    Ok(stray(roots, &path, &value))
}

/// The path of the first value below no root.
fn stray(roots: &[Vec<&str>], path: &[&str], value: &Value) -> Option<String> {
    if roots.iter().any(|root| path.starts_with(root)) {
        return None;
    }
    match value.as_object() {
        Some(object) => object.iter().find_map(|(key, value)| {
            let mut below = path.to_vec();
            below.push(key);
            stray(roots, &below, value)
        }),
        None => Some(format!("data.{}", path.join("."))),
    }
}
