//! The files of a policy, as they are read from a folder or built in.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::bundle::{Bundle, LONGEST_ARCHIVE, Verification};

/// The longest file, in bytes; the engine's own limit on Rego.
pub(crate) const LONGEST_FILE: usize = 1 << 20;

/// The most files: a program has room for few, but each tool's rules can be in another one.
pub(crate) const MOST_FILES: usize = 5_000;

/// How deep folders may nest: a ring of links ends here.
const DEEPEST_FOLDER: usize = 16;

/// What a policy says of itself.
pub(crate) const MANIFEST: &str = ".manifest";

/// One file of a policy.
#[derive(Clone, Debug)]
pub struct Source {
    /// Below the policy's folder: it is named in findings, and says where data goes.
    pub path: PathBuf,
    /// Rego, or JSON/YAML data.
    pub text: String,
}

/// What a file of a policy is, by its name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    /// `*.rego`
    Rules,
    /// `*_test.rego`
    Tests,
    /// `data.json`
    Json,
    /// `data.yaml`
    Yaml,
    /// `samples/*.json`
    Sample,
    /// `.manifest` of the folder or the bundle.
    Manifest,
    /// Anything else is left alone.
    Other,
}

impl Source {
    pub(crate) fn kind(&self) -> Kind {
        kind(&self.path)
    }

    /// The path with `/` between its parts.
    pub(crate) fn name(&self) -> String {
        self.path.to_string_lossy().replace('\\', "/")
    }
}

pub(crate) fn kind(path: &Path) -> Kind {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let folder = path.parent().and_then(Path::file_name);
    if name.ends_with("_test.rego") {
        Kind::Tests
    } else if name.ends_with(".rego") {
        Kind::Rules
    } else if name == MANIFEST {
        Kind::Manifest
    } else if name == "data.json" {
        Kind::Json
    } else if name == "data.yaml" {
        Kind::Yaml
    } else if name.ends_with(".json") && folder.is_some_and(|folder| folder == "samples") {
        Kind::Sample
    } else {
        Kind::Other
    }
}

/// The samples among files: their names and texts.
pub fn samples(sources: &[Source]) -> impl Iterator<Item = (String, &str)> {
    let samples = sources.iter();
    let samples = samples.filter(|source| source.kind() == Kind::Sample);
    samples.map(|source| (source.name(), source.text.as_str()))
}

/// Reads what belongs to a policy below a folder, in the order of paths, or from a bundle without a signature.
/// Hidden files of a folder are left alone, but for its manifest.
pub(crate) fn read(folder: &Path) -> io::Result<Vec<Source>> {
    read_verified(folder, None)
}

/// With a verification nothing but a bundle that it holds for is read.
pub(crate) fn read_verified(
    folder: &Path,
    verification: Option<&Verification>,
) -> io::Result<Vec<Source>> {
    if fs::metadata(folder)?.is_file() {
        return read_bundle(folder, verification);
    }
    if verification.is_some() {
        let message = "a folder has no signature: name a bundle, or take `verify` away";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    let mut sources = Vec::new();
    walk(folder, Path::new(""), 0, &mut sources)?;
    sources.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(sources)
}

/// A signed bundle is refused where nobody said whose signature it should have.
fn read_bundle(path: &Path, verification: Option<&Verification>) -> io::Result<Vec<Source>> {
    let mut archive = Vec::new();
    fs::File::open(path)?
        .take(LONGEST_ARCHIVE as u64 + 1)
        .read_to_end(&mut archive)?;
    Bundle::read(&archive, verification)
        .map(Bundle::into_sources)
        .map_err(|error| {
            let message = format!("{error} ({})", error.code());
            io::Error::new(io::ErrorKind::InvalidData, message)
        })
}

fn walk(folder: &Path, below: &Path, depth: usize, sources: &mut Vec<Source>) -> io::Result<()> {
    for entry in fs::read_dir(folder.join(below))? {
        let name = entry?.file_name();
        let path = below.join(&name);
        let whole = folder.join(&path);
        let is_manifest = depth == 0 && name == MANIFEST;
        let is_hidden = name.to_string_lossy().starts_with('.') && !is_manifest;
        if is_hidden || sources.len() > MOST_FILES {
            continue;
        }
        if fs::metadata(&whole)?.is_dir() {
            if depth >= DEEPEST_FOLDER {
                let message = format!("`{}` nests too deep", path.display());
                return Err(io::Error::new(io::ErrorKind::InvalidData, message));
            }
            walk(folder, &path, depth + 1, sources)?;
        } else if kind(&path) != Kind::Other {
            let text = text(&whole).map_err(|error| {
                io::Error::new(error.kind(), format!("`{}`: {error}", path.display()))
            })?;
            sources.push(Source { path, text });
        }
    }
    Ok(())
}

/// The text of a file, cut one byte after the limit, so that it is found too long later.
fn text(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    fs::File::open(path)?
        .take(LONGEST_FILE as u64 + 1)
        .read_to_end(&mut bytes)?;
    let too_long = bytes.len() > LONGEST_FILE;
    String::from_utf8(bytes).or_else(|error| {
        if too_long {
            Ok(String::from_utf8_lossy(error.as_bytes()).into_owned())
        } else {
            Err(io::Error::new(io::ErrorKind::InvalidData, "not UTF-8"))
        }
    })
}

/// Files built into the program.
macro_rules! embedded {
    ($folder:literal: $($path:literal),+ $(,)?) => {
        vec![$(Source {
            path: PathBuf::from($path),
            text: include_str!(concat!("../../../policies/", $folder, "/", $path)).to_owned(),
        }),+]
    };
}

/// The policy of the examples.
pub(crate) fn example() -> Vec<Source> {
    embedded!["example":
        "admit.rego",
        "admit_test.rego",
        "all.rego",
        "all_test.rego",
        "data.json",
        "desk.rego",
        "desk_test.rego",
        "notes.rego",
        "notes_test.rego",
        "samples/notes_read.json",
        "samples/notes_write.json",
        "samples/desk_refund.json",
    ]
}

/// The rules that compose what authors write.
pub(crate) fn library() -> Vec<Source> {
    embedded!["lib": "decision.rego", "admission.rego", "visible.rego"]
}

/// Who may open tasks where the policy does not say.
pub(crate) fn default_admission() -> Vec<Source> {
    embedded!["lib": "admit.rego"]
}

/// The rules where there is no policy.
pub(crate) fn absent() -> Vec<Source> {
    embedded!["lib": "absent/all.rego", "absent/admit.rego"]
}
