//! `vault:mount/path#field`: a secret that is named in a config and kept in a Vault.

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, OnceLock};

use zeroize::Zeroizing;

use super::server::Vault;
use crate::{InvalidSecretRef, ProviderError};

/// The Vault that the references of one config are read from: known once its section has been read.
#[derive(Clone, Debug, Default)]
pub struct VaultLink(Arc<OnceLock<Arc<Vault>>>);

impl VaultLink {
    /// Says which it is. The first one counts.
    pub fn connect(&self, vault: Arc<Vault>) {
        drop(self.0.set(vault));
    }

    /// Which it is, if that is known.
    pub fn vault(&self) -> Option<&Arc<Vault>> {
        self.0.get()
    }
}

/// A field of a KV secret, by its path: the mount and the secret's own, as the server's command line has them.
#[derive(Clone, Debug)]
pub struct VaultRef {
    path: String,
    field: String,
    link: VaultLink,
}

impl VaultRef {
    /// The same, to be read from this Vault.
    #[must_use]
    pub fn linked(self, link: &VaultLink) -> Self {
        Self {
            link: link.clone(),
            ..self
        }
    }

    pub(crate) async fn read(&self) -> Result<Zeroizing<Vec<u8>>, ProviderError> {
        let Some(vault) = self.link.vault() else {
            let cause = format!("`{self}` can't be read: there is no section `vault`");
            return Err(ProviderError::Failed(cause));
        };
        let read = vault.field(&self.path, &self.field).await;
        let text = read.map_err(|error| ProviderError::Failed(format!("`{self}`: {error}")))?;
        Ok(Zeroizing::new(text.as_bytes().to_vec()))
    }
}

/// Whether a path can be asked for: segments without what would lead elsewhere or make a query.
pub fn is_vault_path(path: &str) -> bool {
    !path.is_empty()
        && path.split('/').all(|segment| {
            !matches!(segment, "" | "." | "..")
                && !segment.contains(['?', '#', '%', '\\'])
                && !segment.chars().any(char::is_control)
        })
}

/// After `vault:`.
impl FromStr for VaultRef {
    type Err = InvalidSecretRef;

    fn from_str(text: &str) -> Result<Self, InvalidSecretRef> {
        let (path, field) = text.split_once('#').ok_or(InvalidSecretRef)?;
        if !is_vault_path(path)
            || !path.contains('/')
            || field.is_empty()
            || field.chars().any(char::is_control)
        {
            return Err(InvalidSecretRef);
        }
        Ok(Self {
            path: path.to_owned(),
            field: field.to_owned(),
            link: VaultLink::default(),
        })
    }
}

/// The reference as it is written; it names the secret and does not contain it.
impl fmt::Display for VaultRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "vault:{}#{}", self.path, self.field)
    }
}

/// What is named, wherever that is read from.
impl PartialEq for VaultRef {
    fn eq(&self, other: &Self) -> bool {
        (&self.path, &self.field) == (&other.path, &other.field)
    }
}

impl Eq for VaultRef {}
