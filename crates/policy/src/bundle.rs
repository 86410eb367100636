//! A policy as one file, in the bundle format of OPA: what it holds, and how it is read, signed and written.
//!
//! **Invariant.** A [`Bundle`] was read whole, within the limits, and, where it is signed, against a key:
//! every file is listed in the signature with its digest, and nothing else is in it.

mod archive;
mod canonical;
mod join;
mod key;
mod manifest;
mod rank;
mod signature;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub(crate) use join::join;
pub use key::{InvalidKey, PublicKey, SigningKey};
pub use manifest::Manifest;
pub use rank::Rank;
use ring::digest;
pub use signature::Verification;

use crate::source::{self, Kind, MANIFEST, Source};

/// The longest archive, in bytes as it is sent.
pub const LONGEST_ARCHIVE: usize = 16 << 20;

const SIGNATURES: &str = ".signatures.json";

/// The files of an archive by their names, without a leading slash.
pub(crate) type Files = BTreeMap<String, Vec<u8>>;

/// A policy as one file.
#[derive(Clone, Debug)]
pub struct Bundle {
    manifest: Manifest,
    sources: Vec<Source>,
    signed: bool,
}

/// Why a bundle is refused.
#[derive(Debug, thiserror::Error)]
pub enum BadBundle {
    /// Not a gzipped tar, or cut off.
    #[error("not a whole gzipped tar archive: {0}")]
    Archive(#[source] std::io::Error),
    /// More than the limits.
    #[error("the archive has more than {0}")]
    TooMuch(&'static str),
    /// A name that leaves the bundle, or can be read in two ways.
    #[error("the name `{0}` is not a plain path inside the bundle")]
    Name(String),
    /// A link or a special file.
    #[error("`{0}` is neither a file nor a folder")]
    Special(String),
    /// Two entries of one name.
    #[error("`{0}` is there twice")]
    Duplicate(String),
    /// Something that OPA would obey and this engine can't.
    #[error("`{0}` is not supported: {1}")]
    Unsupported(String, &'static str),
    /// A file that can't be understood.
    #[error("`{0}` can't be read: {1}")]
    Malformed(String, String),
    /// Rules or data outside what the manifest claims.
    #[error("`{0}` has `{1}`, which is outside the roots of the manifest")]
    OutsideRoots(String, String),
    /// Two bundles claim the same names.
    #[error(
        "the root `{root}` of the bundle `{bundle}` meets `{other}` of `{owner}`; each bundle owns names of its own, as `roots` in its manifest"
    )]
    Overlap {
        /// What it claims.
        root: String,
        /// Who claims it.
        bundle: String,
        /// What was claimed before.
        other: String,
        /// By whom.
        owner: String,
    },
    /// A version of Rego before 1.
    #[error("the manifest names Rego version {0}; only version 1 is understood")]
    RegoVersion(i64),
    /// A key is configured, and the bundle has no signature.
    #[error("the bundle is not signed")]
    Unsigned,
    /// The bundle is signed, and no key is configured.
    #[error("the bundle is signed, but there is no key to verify it with")]
    Unverified,
    /// The signature does not hold.
    #[error("the signature is not valid: {0}")]
    Signature(String),
    /// The signature does not cover the files as they are.
    #[error("the signature does not match the files: {0}")]
    Contents(String),
}

impl BadBundle {
    /// Stable, kebab case.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Archive(_) => "bundle-archive",
            Self::TooMuch(_) => "bundle-too-large",
            Self::Name(_) => "bundle-name",
            Self::Special(_) => "bundle-special-file",
            Self::Duplicate(_) => "bundle-duplicate",
            Self::Unsupported(..) => "bundle-unsupported",
            Self::Malformed(..) => "bundle-malformed",
            Self::OutsideRoots(..) => "bundle-outside-roots",
            Self::Overlap { .. } => "bundle-overlapping-roots",
            Self::RegoVersion(_) => "bundle-rego-version",
            Self::Unsigned => "bundle-unsigned",
            Self::Unverified => "bundle-unverified",
            Self::Signature(_) => "bundle-signature",
            Self::Contents(_) => "bundle-contents",
        }
    }
}

impl Bundle {
    /// Reads a bundle; a signed one needs a key, and with a key it must be signed.
    pub fn read(archive: &[u8], verification: Option<&Verification>) -> Result<Self, BadBundle> {
        let mut files = archive::read(archive)?;
        let signatures = files.remove(SIGNATURES);
        match (&signatures, verification) {
            (Some(signatures), Some(verification)) => verification.verify(signatures, &files)?,
            (Some(_), None) => return Err(BadBundle::Unverified),
            (None, Some(_)) => return Err(BadBundle::Unsigned),
            (None, None) => {}
        }
        let signed = signatures.is_some();
        Self::of_files(files, signed)
    }

    /// Reads a bundle whose signature, if any, is not looked at: to show it or to sign it, never to obey it.
    pub fn read_unverified(archive: &[u8]) -> Result<Self, BadBundle> {
        let mut files = archive::read(archive)?;
        let signed = files.remove(SIGNATURES).is_some();
        Self::of_files(files, signed)
    }

    /// A bundle of a folder's files.
    pub fn new(manifest: &Manifest, sources: Vec<Source>) -> Result<Self, BadBundle> {
        let mut files = Files::new();
        for source in sources {
            // It is given.
            if source.kind() == Kind::Manifest {
                continue;
            }
            let name = source.name();
            archive::check_name(&name)?;
            if files
                .insert(name.clone(), source.text.into_bytes())
                .is_some()
            {
                return Err(BadBundle::Duplicate(name));
            }
        }
        files.insert(MANIFEST.to_owned(), manifest.to_json());
        Self::of_files(files, false)
    }

    /// A bundle of a folder's files as they are, with its `.manifest` if it has one. Nobody signed it.
    pub fn of_folder(folder: &Path) -> Result<Self, BadBundle> {
        let manifest = Manifest::of_folder(folder)?;
        let sources = source::read(folder);
        let sources = sources.map_err(|error| {
            BadBundle::Malformed(folder.display().to_string(), error.to_string())
        })?;
        Self::new(&manifest, sources)
    }

    fn of_files(mut files: Files, signed: bool) -> Result<Self, BadBundle> {
        let manifest = match files.remove(MANIFEST) {
            Some(bytes) => Manifest::parse(&bytes)?,
            None => Manifest::default(),
        };
        let mut sources = Vec::new();
        for (name, bytes) in files {
            refuse_unsupported(&name)?;
            let path = PathBuf::from(&name);
            if source::kind(&path) == Kind::Other {
                continue;
            }
            let text = String::from_utf8(bytes)
                .map_err(|_| BadBundle::Malformed(name, "not UTF-8".to_owned()))?;
            sources.push(Source { path, text });
        }
        manifest.check_roots(&sources)?;
        Ok(Self {
            manifest,
            sources,
            signed,
        })
    }

    /// What the bundle says of itself.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Whether it came with a signature.
    pub fn is_signed(&self) -> bool {
        self.signed
    }

    /// The files that a policy is made of.
    pub fn sources(&self) -> &[Source] {
        &self.sources
    }

    /// The SHA-256 of what it holds, in hex: the same for the same files, however they are packed and signed.
    pub fn digest(&self) -> String {
        let mut all = digest::Context::new(&digest::SHA256);
        let mut add = |bytes: &[u8]| {
            all.update(&(bytes.len() as u64).to_be_bytes());
            all.update(bytes);
        };
        add(&self.manifest.to_json());
        for source in &self.sources {
            add(source.name().as_bytes());
            add(source.text.as_bytes());
        }
        hex::encode(all.finish())
    }

    /// The files that a policy is made of; with the manifest, where it says something to the gateway.
    pub fn into_sources(mut self) -> Vec<Source> {
        if self.manifest.metadata.contains_key("remit") {
            self.sources.push(Source {
                path: MANIFEST.into(),
                text: String::from_utf8_lossy(&self.manifest.to_json()).into_owned(),
            });
        }
        self.sources
    }

    /// The archive, the same bytes for the same files; signed if there is a key.
    pub fn write(&self, key: Option<&SigningKey>) -> Result<Vec<u8>, BadBundle> {
        let mut files: Files = self
            .sources
            .iter()
            .map(|source| (source.name(), source.text.clone().into_bytes()))
            .collect();
        files.insert(MANIFEST.to_owned(), self.manifest.to_json());
        if let Some(key) = key {
            let signatures = signature::sign(&files, key)?;
            files.insert(SIGNATURES.to_owned(), signatures);
        }
        archive::write(&files)
    }
}

/// What OPA would take into account and this engine would not is refused, never left out in silence.
fn refuse_unsupported(name: &str) -> Result<(), BadBundle> {
    let base = name.rsplit('/').next().unwrap_or(name);
    let why = match base {
        "policy.wasm" => "rules come as Rego",
        "data.yml" => "name it `data.yaml`",
        ".manifest.pb" => "the manifest is JSON, in `.manifest`",
        "patch.json" if name == base => "delta bundles are not applied",
        MANIFEST | SIGNATURES => "it stands at the root of a bundle only",
        _ => return Ok(()),
    };
    Err(BadBundle::Unsupported(name.to_owned(), why))
}

#[cfg(test)]
mod tests;
