//! `remit policy bundle`: makes, signs, verifies and shows policies as one file, in OPA's format.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use policy::{BadBundle, Bundle, Manifest, Policy, PublicKey, Severity, SigningKey, Verification};
use serde_json::{Value, json};

use crate::command::outcome::{Failure, Screen};
use crate::command::policy::{broken, read};

#[derive(Debug, Subcommand)]
pub(crate) enum PolicyBundle {
    /// Check a policy and make one file of it.
    Build {
        /// The folder of Rego and data.
        folder: PathBuf,
        /// The file to write.
        #[arg(long, short, default_value = "bundle.tar.gz")]
        output: PathBuf,
        /// The author's name of this state of the policy.
        #[arg(long, default_value = "")]
        revision: String,
        /// What the bundle owns, such as `remit/tools/shop`; everything unless given. May be repeated.
        #[arg(long = "root", value_name = "PATH")]
        roots: Vec<String>,
        #[command(flatten)]
        signer: Signer,
    },
    /// Sign a bundle, in place of any signature that it has.
    Sign {
        /// The bundle.
        bundle: PathBuf,
        /// The file to write; the bundle itself unless given.
        #[arg(long, short)]
        output: Option<PathBuf>,
        #[command(flatten)]
        signer: Signer,
    },
    /// Verify a bundle's signature, and every file against it.
    Verify {
        /// The bundle.
        bundle: PathBuf,
        /// The public key, PEM: ECDSA P-256, Ed25519 or RSA.
        #[arg(long)]
        key: PathBuf,
        /// The `kid` that the signature must name.
        #[arg(long)]
        key_id: Option<String>,
        /// The scope that the signature must be of.
        #[arg(long)]
        scope: Option<String>,
    },
    /// Show what is in a bundle. Its signature is not verified.
    Inspect {
        /// The bundle.
        bundle: PathBuf,
    },
}

/// With what a bundle is signed.
#[derive(Args, Debug)]
pub(crate) struct Signer {
    /// The private key, PEM (PKCS #8): ECDSA P-256, Ed25519 or RSA.
    #[arg(long)]
    key: Option<PathBuf>,
    /// The `kid` to name in the signature.
    #[arg(long, requires = "key")]
    key_id: Option<String>,
    /// The scope of the signature.
    #[arg(long, requires = "key")]
    scope: Option<String>,
}

impl PolicyBundle {
    pub(crate) fn run(self, screen: &Screen) -> Result<ExitCode, Failure> {
        match self {
            Self::Build {
                folder,
                output,
                revision,
                roots,
                signer,
            } => {
                let sources = checked(&folder, screen)?;
                // What the folder's own manifest says stands, unless a flag says otherwise.
                let base = Manifest::of_folder(&folder);
                let mut manifest = base.map_err(|bad| refused(&folder, &bad))?;
                if !revision.is_empty() {
                    manifest.revision = revision;
                }
                if !roots.is_empty() {
                    manifest.roots = roots;
                }
                let bundle =
                    Bundle::new(&manifest, sources).map_err(|bad| refused(&folder, &bad))?;
                write(&bundle, &output, &signer, screen)
            }
            Self::Sign {
                bundle: path,
                output,
                signer,
            } => {
                if signer.key.is_none() {
                    return Err(Failure::new(
                        "key_missing",
                        "name the private key: `--key FILE`",
                    ));
                }
                let archive = bytes(&path)?;
                let bundle =
                    Bundle::read_unverified(&archive).map_err(|bad| refused(&path, &bad))?;
                write(&bundle, output.as_deref().unwrap_or(&path), &signer, screen)
            }
            Self::Verify {
                bundle,
                key,
                key_id,
                scope,
            } => {
                let verification = verification(&key, key_id, scope)?;
                let archive = bytes(&bundle)?;
                let read = Bundle::read(&archive, Some(&verification));
                let read = read.map_err(|bad| refused(&bundle, &bad))?;
                let told = shown(&read);
                screen.show(&told, |screen| {
                    screen.good("the signature holds for every file")
                })?;
                Ok(ExitCode::SUCCESS)
            }
            Self::Inspect { bundle } => {
                let archive = bytes(&bundle)?;
                let read =
                    Bundle::read_unverified(&archive).map_err(|bad| refused(&bundle, &bad))?;
                screen.show(&shown(&read), |screen| listing(&read, screen))?;
                Ok(ExitCode::SUCCESS)
            }
        }
    }
}

/// A policy that the gateway would take.
fn checked(folder: &Path, screen: &Screen) -> Result<Vec<policy::Source>, Failure> {
    let sources = read(folder)?;
    let findings = Policy::check(sources.clone());
    let is_broken = |finding: &policy::Finding| finding.severity == Severity::Error;
    if findings.iter().any(is_broken) {
        return Err(broken(&findings, screen));
    }
    Ok(sources)
}

fn write(
    bundle: &Bundle,
    path: &Path,
    signer: &Signer,
    screen: &Screen,
) -> Result<ExitCode, Failure> {
    let key = signer.key.as_deref().map(|path| {
        let key = SigningKey::from_pem(&text(path)?, signer.key_id.clone(), signer.scope.clone());
        key.map_err(|error| Failure::new("key", format!("`{}`: {error}", path.display())))
    });
    let key = key.transpose()?;
    let archive = bundle.write(key.as_ref());
    let archive = archive.map_err(|bad| refused(path, &bad))?;
    fs::write(path, &archive).map_err(|error| unusable(path, &error))?;
    let signed = key.is_some();
    let told = json!({ "file": path, "bytes": archive.len(), "signed": signed });
    screen.show(&told, |screen| {
        let signed = if signed { "signed" } else { "not signed" };
        screen.good(&format!(
            "{}: {} bytes, {signed}",
            path.display(),
            archive.len()
        ))
    })?;
    Ok(ExitCode::SUCCESS)
}

/// By which key a bundle is verified.
pub(crate) fn verification(
    key: &Path,
    key_id: Option<String>,
    scope: Option<String>,
) -> Result<Verification, Failure> {
    let read = PublicKey::from_pem(&text(key)?);
    let read =
        read.map_err(|error| Failure::new("key", format!("`{}`: {error}", key.display())))?;
    Ok(Verification {
        key: read,
        key_id,
        scope,
    })
}

fn shown(bundle: &Bundle) -> Value {
    let files: Vec<Value> = bundle
        .sources()
        .iter()
        .map(|source| json!({ "path": source.path, "bytes": source.text.len() }))
        .collect();
    json!({ "manifest": bundle.manifest(), "signed": bundle.is_signed(), "files": files })
}

fn listing(bundle: &Bundle, screen: &Screen) -> String {
    let manifest = bundle.manifest();
    let signed = if bundle.is_signed() {
        "yes, not verified here"
    } else {
        "no"
    };
    let mut text = format!(
        "revision  {}\nroots     {}\nsigned    {signed}\n",
        manifest.revision,
        manifest.roots.join(", ")
    );
    let heading = ["BYTES", "FILE"].map(str::to_owned);
    let mut rows = vec![heading.to_vec()];
    rows.extend(bundle.sources().iter().map(|source| {
        let name = source.path.display().to_string();
        vec![source.text.len().to_string(), name]
    }));
    text.push_str(&screen.table(&rows));
    text
}

fn bytes(path: &Path) -> Result<Vec<u8>, Failure> {
    let length = fs::metadata(path)
        .map_err(|error| unusable(path, &error))?
        .len();
    if length > policy::LONGEST_ARCHIVE as u64 {
        let most = policy::LONGEST_ARCHIVE;
        return Err(Failure::new(
            "bundle-too-large",
            format!("`{}` has more than {most} bytes", path.display()),
        ));
    }
    fs::read(path).map_err(|error| unusable(path, &error))
}

fn text(path: &Path) -> Result<String, Failure> {
    fs::read_to_string(path).map_err(|error| unusable(path, &error))
}

fn unusable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new("unreadable", format!("`{}`: {error}", path.display()))
}

fn refused(path: &Path, bad: &BadBundle) -> Failure {
    Failure::new(bad.code(), format!("`{}`: {bad}", path.display()))
}
