//! Where a secret is kept: named, never contained.

use std::io::Read;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::program::Program;
use crate::{ProviderError, Secret, VaultRef};

/// Where a secret is kept: named, never contained.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SecretRef {
    /// `env:NAME`.
    Env(String),
    /// `file:/path`.
    File(PathBuf),
    /// `cmd:program args…`, split at spaces.
    Cmd(Vec<String>),
    /// `vault:mount/path#field`.
    Vault(VaultRef),
}

/// A text that names no secret.
#[derive(Debug, thiserror::Error)]
#[error(
    "not a secret reference: write `env:NAME`, `file:/path`, `cmd:program args` or `vault:mount/path#field`"
)]
pub struct InvalidSecretRef;

impl FromStr for SecretRef {
    type Err = InvalidSecretRef;

    fn from_str(text: &str) -> Result<Self, InvalidSecretRef> {
        let (kind, rest) = text.split_once(':').ok_or(InvalidSecretRef)?;
        match kind {
            "env" if is_name(rest) => Ok(Self::Env(rest.to_owned())),
            "file" if !rest.is_empty() && !rest.contains('\0') => Ok(Self::File(rest.into())),
            "cmd" if !rest.contains('\0') => {
                let argv: Vec<_> = rest.split_ascii_whitespace().map(String::from).collect();
                if argv.is_empty() {
                    return Err(InvalidSecretRef);
                }
                Ok(Self::Cmd(argv))
            }
            "vault" => rest.parse().map(Self::Vault),
            _ => Err(InvalidSecretRef),
        }
    }
}

/// Names of environment variables, as POSIX.1-2017, section 8.1 has them.
fn is_name(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with(|first: char| first.is_ascii_digit())
        && text
            .bytes()
            .all(|byte| byte == b'_' || byte.is_ascii_alphanumeric())
}

/// The longest secret read, in bytes: more than any key, less than a file named by mistake.
const LONGEST: usize = 64 * 1024;

/// How long a `cmd:` may take.
const PATIENCE: Duration = Duration::from_secs(10);

impl SecretRef {
    /// Reads the secret; one line break at its end is taken off.
    ///
    /// A file that everybody on the machine can reach (`mode & 0o007`) is refused, as is one that is no regular file.
    pub async fn read(&self) -> Result<Secret, ProviderError> {
        Secret::from_wiped(trim(self.read_bytes().await?))
    }

    /// Reads a document of many lines, such as a PEM key, under the same rules.
    pub async fn read_document(&self) -> Result<Zeroizing<Vec<u8>>, ProviderError> {
        self.read_bytes().await
    }

    async fn read_bytes(&self) -> Result<Zeroizing<Vec<u8>>, ProviderError> {
        match self {
            Self::Env(name) => {
                let value = std::env::var_os(name)
                    .ok_or_else(|| failed(format!("environment variable `{name}` is not set")))?;
                Ok(Zeroizing::new(value.into_vec()))
            }
            Self::File(path) => {
                let path = path.clone();
                tokio::task::spawn_blocking(move || read_file(&path))
                    .await
                    .map_err(|_| failed("file was not read".into()))?
            }
            Self::Cmd(argv) => Program::new(argv.clone(), PATIENCE).run(&[]).await,
            // A login may need a secret of its own.
            Self::Vault(reference) => Box::pin(reference.read()).await,
        }
    }
}

/// The reference as it is written; it names the secret and does not contain it.
impl std::fmt::Display for SecretRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Env(name) => write!(f, "env:{name}"),
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Cmd(argv) => write!(f, "cmd:{}", argv.join(" ")),
            Self::Vault(reference) => write!(f, "{reference}"),
        }
    }
}

fn read_file(path: &Path) -> Result<Zeroizing<Vec<u8>>, ProviderError> {
    let problem =
        |problem: &dyn std::fmt::Display| failed(format!("file `{}`: {problem}", path.display()));
    // Asked before it is opened: opening a pipe would wait for its writer.
    if !std::fs::metadata(path)
        .map_err(|error| problem(&error))?
        .is_file()
    {
        return Err(problem(&"is no regular file"));
    }
    let file = std::fs::File::open(path).map_err(|error| problem(&error))?;
    let metadata = file.metadata().map_err(|error| problem(&error))?;
    if metadata.mode() & 0o007 != 0 {
        return Err(problem(&"everybody can reach it; `chmod o=` it"));
    }
    // All the room at once: a buffer that grows leaves copies behind.
    let mut text = Zeroizing::new(Vec::with_capacity(LONGEST + 1));
    let limit = u64::try_from(LONGEST + 1).unwrap_or(u64::MAX);
    file.take(limit)
        .read_to_end(&mut text)
        .map_err(|error| problem(&error))?;
    if text.len() > LONGEST {
        return Err(problem(&"is longer than 64 KiB"));
    }
    Ok(text)
}

fn trim(mut text: Zeroizing<Vec<u8>>) -> Zeroizing<Vec<u8>> {
    if text.last() == Some(&b'\n') {
        text.pop();
        if text.last() == Some(&b'\r') {
            text.pop();
        }
    }
    text
}

fn failed(cause: String) -> ProviderError {
    ProviderError::Failed(cause)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[track_caller]
    fn check(text: &str, expect: Option<&SecretRef>) {
        assert_eq!(text.parse().ok().as_ref(), expect);
    }

    #[track_caller]
    fn check_file(contents: &[u8], mode: u32, expect: Option<&[u8]>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        std::fs::write(&path, contents).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        check_read(&SecretRef::File(path), expect);
    }

    #[track_caller]
    #[expect(clippy::disallowed_methods, reason = "to compare it")]
    fn check_read(reference: &SecretRef, expect: Option<&[u8]>) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let read = runtime.block_on(reference.read());
        assert_eq!(read.as_ref().ok().map(Secret::expose), expect, "{read:?}");
    }

    #[test]
    fn env_names_a_variable() {
        check("env:GITHUB_KEY", Some(&SecretRef::Env("GITHUB_KEY".into())));
    }
    #[test]
    fn file_names_a_path() {
        check("file:/etc/key", Some(&SecretRef::File("/etc/key".into())));
    }
    #[test]
    fn cmd_is_split_at_spaces() {
        check(
            "cmd:pass show  key",
            Some(&SecretRef::Cmd(vec![
                "pass".into(),
                "show".into(),
                "key".into(),
            ])),
        );
    }
    #[test]
    fn vault_names_a_field() {
        let text = "vault:secret/shop#key";
        check(
            text,
            Some(&SecretRef::Vault("secret/shop#key".parse().unwrap())),
        );
        let reference: SecretRef = text.parse().unwrap();
        assert_eq!(reference.to_string(), text);
    }
    #[test]
    fn a_vaults_path_leads_nowhere_else() {
        for wrong in [
            "",
            "secret/shop",
            "secret#key",
            "secret/shop#",
            "/secret#k",
            "secret/../sys/x#k",
            "secret//x#k",
            "secret/a?list=true#k",
            "secret/%2e%2e#k",
            "secret/\n#k",
        ] {
            check(&format!("vault:{wrong}"), None);
        }
    }
    #[test]
    fn a_vault_that_is_not_there_gives_nothing() {
        check_read(&"vault:secret/shop#key".parse().unwrap(), None);
    }
    #[test]
    fn a_literal_is_refused() {
        check("sk-1234", None);
    }
    #[test]
    fn a_literal_with_a_colon_is_refused() {
        check("sk:1234", None);
    }
    #[test]
    fn an_empty_name_is_refused() {
        check("env:", None);
        check("file:", None);
        check("cmd: ", None);
    }
    #[test]
    fn a_variables_name_is_one_word() {
        check("env:MY KEY", None);
        check("env:MY=KEY", None);
    }
    #[test]
    fn its_refusal_does_not_repeat_it() {
        let refusal = "sk-1234".parse::<SecretRef>().unwrap_err();
        assert!(!format!("{refusal} {refusal:?}").contains("sk-1234"));
    }
    #[test]
    fn a_file_is_read() {
        check_file(b"s3cr3t", 0o600, Some(b"s3cr3t"));
    }
    #[test]
    fn one_line_break_comes_off() {
        check_file(b"s3cr3t\n", 0o600, Some(b"s3cr3t"));
        check_file(b"s3cr3t\r\n", 0o600, Some(b"s3cr3t"));
    }
    #[test]
    fn two_line_breaks_are_refused() {
        check_file(b"s3cr3t\n\n", 0o600, None);
    }
    #[test]
    fn an_empty_file_is_refused() {
        check_file(b"\n", 0o600, None);
    }
    #[test]
    fn a_long_file_is_refused() {
        check_file(&vec![b'x'; LONGEST + 1], 0o600, None);
    }
    #[test]
    fn a_group_may_read_it() {
        check_file(b"s3cr3t", 0o640, Some(b"s3cr3t"));
    }
    #[test]
    fn everybody_may_not() {
        check_file(b"s3cr3t", 0o644, None);
    }
    #[test]
    fn a_folder_is_no_secret() {
        check_read(&SecretRef::File("/tmp".into()), None);
    }
    #[test]
    fn an_unset_variable_is_no_secret() {
        check_read(&SecretRef::Env("REMIT_TEST_UNSET".into()), None);
    }
    #[test]
    fn a_command_answers_with_its_output() {
        check_read(&"cmd:echo s3cr3t".parse().unwrap(), Some(b"s3cr3t"));
    }
    #[test]
    fn a_command_that_fails_answers_nothing() {
        check_read(&"cmd:false".parse().unwrap(), None);
    }
}
