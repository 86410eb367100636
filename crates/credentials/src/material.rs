//! What a provider gave: one secret, several, or a certificate.

use std::sync::Arc;

use rustls_pki_types::CertificateDer;
use zeroize::Zeroizing;

use crate::{ProviderError, Secret, Uninjectable};

/// What a provider gave.
#[derive(Debug)]
pub enum Material {
    /// One secret.
    Text(Secret),
    /// Several, by name.
    Fields(Fields),
    /// What is shown on the connection.
    Certificate(Arc<ClientIdentity>),
}

/// Several secrets by name, such as `username` and `password`.
///
/// **Invariant.** There is one at least, and no two have one name.
#[derive(Debug)]
pub struct Fields(Vec<Field>);

/// One of several secrets.
#[derive(Debug)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// Itself.
    pub secret: Secret,
    /// Whether an answer may show it: a user's name is no secret.
    pub is_public: bool,
}

/// A certificate chain, and the key that goes with it.
pub struct ClientIdentity {
    chain: Vec<CertificateDer<'static>>,
    key: Zeroizing<Vec<u8>>,
}

impl From<Secret> for Material {
    fn from(secret: Secret) -> Self {
        Self::Text(secret)
    }
}

impl Material {
    /// The secret that a tool asks for: the one there is, unless it says which.
    pub(crate) fn secret(&self, field: Option<&str>) -> Result<&Secret, Uninjectable> {
        match (self, field) {
            (Self::Text(secret), None) => Ok(secret),
            (Self::Text(_), Some(_)) => Err(Uninjectable("a field: it has none")),
            (Self::Fields(Fields(fields)), None) => match fields.as_slice() {
                [only] => Ok(&only.secret),
                _ => Err(Uninjectable("one place: it has several fields")),
            },
            (Self::Fields(fields), Some(name)) => {
                let field = fields.get(name);
                field.ok_or(Uninjectable("a field: it has none of that name"))
            }
            (Self::Certificate(_), _) => Err(Uninjectable("a request: it is a certificate")),
        }
    }

    /// What no answer may show.
    pub(crate) fn secrets(&self) -> impl Iterator<Item = &Secret> {
        let (one, several) = match self {
            Self::Text(secret) => (Some(secret), [].as_slice()),
            Self::Fields(Fields(fields)) => (None, fields.as_slice()),
            Self::Certificate(_) => (None, [].as_slice()),
        };
        let several = several.iter().filter(|field| !field.is_public);
        one.into_iter().chain(several.map(|field| &field.secret))
    }
}

impl Fields {
    /// Gathers them. Refuses none at all, and two of one name.
    pub fn new(fields: Vec<Field>) -> Result<Self, ProviderError> {
        if fields.is_empty() {
            return Err(ProviderError::Failed("there is no field".to_owned()));
        }
        for (place, field) in fields.iter().enumerate() {
            let twice = fields.iter().skip(place + 1);
            if twice.into_iter().any(|other| other.name == field.name) {
                let problem = format!("field `{}` is there twice", field.name);
                return Err(ProviderError::Failed(problem));
            }
        }
        Ok(Self(fields))
    }

    /// The secret of a name.
    pub fn get(&self, name: &str) -> Option<&Secret> {
        let field = self.0.iter().find(|field| field.name == name)?;
        Some(&field.secret)
    }
}

impl Field {
    /// What must not be seen.
    pub fn new(name: impl Into<String>, secret: Secret) -> Self {
        Self {
            name: name.into(),
            secret,
            is_public: false,
        }
    }

    /// What an answer may show.
    pub fn public(name: impl Into<String>, secret: Secret) -> Self {
        Self {
            is_public: true,
            ..Self::new(name, secret)
        }
    }
}

impl ClientIdentity {
    /// Takes a chain, its own certificate first, and the key: PKCS#8, SEC1 or PKCS#1, DER.
    pub fn new(
        chain: Vec<CertificateDer<'static>>,
        key: Zeroizing<Vec<u8>>,
    ) -> Result<Self, ProviderError> {
        if chain.is_empty() || key.is_empty() {
            let problem = "there is no certificate, or no key".to_owned();
            return Err(ProviderError::Failed(problem));
        }
        Ok(Self { chain, key })
    }

    /// The chain, its own certificate first.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// The key; it must not be logged.
    pub fn key(&self) -> &[u8] {
        &self.key
    }
}

/// The key is left out.
impl std::fmt::Debug for ClientIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientIdentity")
            .field("certificates", &self.chain.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Secret {
        Secret::new(text.into()).unwrap()
    }

    fn fields(names: &[&str]) -> Result<Fields, ProviderError> {
        let fields = names.iter().map(|name| Field::new(*name, secret(name)));
        Fields::new(fields.collect())
    }

    #[track_caller]
    #[expect(clippy::disallowed_methods, reason = "to compare it")]
    fn check(material: &Material, field: Option<&str>, expect: Option<&str>) {
        let found = material.secret(field);
        let text = found.as_ref().ok().map(|secret| secret.expose());
        assert_eq!(text, expect.map(str::as_bytes), "{found:?}");
    }

    #[test]
    fn one_secret_has_no_field() {
        check(&secret("one").into(), None, Some("one"));
        check(&secret("one").into(), Some("one"), None);
    }
    #[test]
    fn of_several_it_must_be_said_which() {
        let several = Material::Fields(fields(&["user", "password"]).unwrap());
        check(&several, Some("password"), Some("password"));
        check(&several, Some("Password"), None);
        check(&several, None, None);
    }
    #[test]
    fn the_only_field_need_not_be_named() {
        check(
            &Material::Fields(fields(&["token"]).unwrap()),
            None,
            Some("token"),
        );
    }
    #[test]
    fn fields_are_told_apart_by_name() {
        assert!(fields(&[]).is_err());
        assert!(fields(&["a", "b", "a"]).is_err());
    }
    #[test]
    fn what_is_public_may_be_shown() {
        let fields = vec![
            Field::public("user", secret("alice")),
            Field::new("password", secret("s3cr3t")),
        ];
        let material = Material::Fields(Fields::new(fields).unwrap());
        assert_eq!(material.secrets().count(), 1);
    }
    #[test]
    fn a_certificate_enters_no_request() {
        let chain = vec![CertificateDer::from(vec![1])];
        let identity = ClientIdentity::new(chain, Zeroizing::new(b"key".to_vec())).unwrap();
        assert!(!format!("{identity:?}").contains("key"));
        check(&Material::Certificate(Arc::new(identity)), None, None);
    }
    #[test]
    fn a_certificate_has_a_key() {
        let chain = vec![CertificateDer::from(vec![1])];
        assert!(ClientIdentity::new(chain, Zeroizing::default()).is_err());
        assert!(ClientIdentity::new(vec![], Zeroizing::new(vec![1])).is_err());
    }
}
