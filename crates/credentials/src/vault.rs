//! Secrets of HashiCorp Vault or OpenBao: those that it keeps, and those that it makes for a task.

mod answer;
mod login;
mod reference;
mod server;

use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Map, Value, json};
use tokio::time::Instant;
use zeroize::Zeroizing;

use self::answer::{Answer, Lease};
use self::login::Session;
use self::server::Question;
use crate::{
    ClientIdentity, Field, Fields, LeaseView, Material, Obtained, Provider, ProviderError,
    Revocation, Secret, Wish, narrowing,
};

pub(crate) use answer::{Data, Datum, Wiped};
pub(crate) use login::read_token;
pub use login::{VaultJwt, VaultLogin};
pub use reference::{VaultLink, VaultRef, is_vault_path};
pub use server::{Vault, VaultConfig};

/// Which secret is had of a Vault.
#[derive(Clone, Debug)]
pub struct VaultSecret {
    /// What kind of engine has it.
    pub engine: VaultEngine,
    /// Its path, such as `secret/shop` or `database/creds/{role}`; names in braces are those of `choices`.
    pub path: String,
    /// What a decision may choose, by name: the first unless it says otherwise, in `narrow`.
    pub choices: Vec<(String, Vec<String>)>,
    /// Its fields that are taken; all that are texts of one line, if none are named.
    pub fields: Vec<String>,
}

/// What kind of engine has it.
#[derive(Clone, Debug)]
pub enum VaultEngine {
    /// It keeps the secret (`kv`, version 1 or 2).
    Kv,
    /// It makes one.
    Dynamic(VaultDynamic),
}

/// How an engine is asked to make a secret.
#[derive(Clone, Debug)]
pub struct VaultDynamic {
    /// Whether by POST, as for `pki/issue`, or by GET, as for `database/creds`.
    pub is_post: bool,
    /// What is said with it; names in braces are those of the choices.
    pub parameters: Vec<(String, String)>,
    /// The parameter that takes the wanted life in seconds, such as `ttl`.
    pub ttl_parameter: Option<String>,
    /// How long a secret lives that comes without a lease.
    pub ttl: Option<Duration>,
}

/// Secrets of HashiCorp Vault or OpenBao.
///
/// One that was made has a lease: it is set to the task's time where the server lets it, and taken back by its id
/// (`revoked`), after a crash too. One that is kept stays there (`drop_only`).
#[derive(Debug)]
pub struct VaultSecrets {
    vault: Arc<Vault>,
    secret: VaultSecret,
}

/// How long taking a lease back may take: a little less than the end of a task waits for it.
const REVOKE_PATIENCE: Duration = Duration::from_secs(8);

impl VaultSecrets {
    /// A secret of a Vault.
    pub fn new(vault: Arc<Vault>, secret: VaultSecret) -> Self {
        Self { vault, secret }
    }
}

#[async_trait::async_trait]
impl Provider for VaultSecrets {
    fn name(&self) -> &'static str {
        "vault"
    }

    fn digest(&self) -> String {
        let VaultSecret {
            engine,
            path,
            choices,
            fields,
        } = &self.secret;
        let mut texts = self.vault.texts();
        texts.extend([path.clone(), format!("{choices:?}"), fields.join(" ")]);
        texts.push(match engine {
            VaultEngine::Kv => "kv".to_owned(),
            VaultEngine::Dynamic(dynamic) => format!("{dynamic:?}"),
        });
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        crate::provider::digest(&texts)
    }

    fn rereads(&self) -> bool {
        matches!(self.secret.engine, VaultEngine::Kv)
    }

    async fn obtain(&self, wish: &Wish) -> Result<Obtained, ProviderError> {
        narrowing::scopes(wish, &[])?;
        let chosen = narrowing::choices(wish, &self.secret.choices)?;
        let path = filled(&self.secret.path, &chosen);
        match &self.secret.engine {
            VaultEngine::Kv => self.kept(&path).await,
            VaultEngine::Dynamic(dynamic) => {
                let question = dynamic.question(path, &chosen, wish);
                self.made(dynamic, &question, wish).await
            }
        }
    }

    async fn revoke(&self, _lease: &LeaseView) -> Revocation {
        match &self.secret.engine {
            VaultEngine::Kv => Revocation::DropOnly,
            // None came with a lease, or none is known.
            VaultEngine::Dynamic(_) => Revocation::ExpiresAt,
        }
    }

    async fn revoke_by_handle(&self, lease: &LeaseView, handle: &str) -> Revocation {
        if matches!(self.secret.engine, VaultEngine::Kv) {
            return Revocation::DropOnly;
        }
        match self.take_back(handle).await {
            Ok(()) => Revocation::Revoked,
            Err(error) => {
                tracing::warn!(lease = %lease.id, %error, "vault's lease could not be revoked");
                Revocation::Failed
            }
        }
    }
}

impl VaultSecrets {
    /// Reads what a KV engine keeps. Without a handle: there is nothing to take back.
    async fn kept(&self, path: &str) -> Result<Obtained, ProviderError> {
        let data = self.vault.kv(self.vault.deadline(), path).await?;
        Ok(Obtained {
            material: self.material(path, data)?,
            ttl_seconds: None,
            handle: None,
        })
    }

    /// Has a secret made; one that may not be used is taken back.
    async fn made(
        &self,
        dynamic: &VaultDynamic,
        question: &Question,
        wish: &Wish,
    ) -> Result<Obtained, ProviderError> {
        let deadline = self.vault.deadline();
        let wanted = Duration::from_secs(wish.ttl_seconds);
        let asked = self.vault.read::<Data>(deadline, wanted, question).await;
        let (Answer { data, lease, .. }, session) = asked?;
        let material = match data {
            Some(data) => self.material(&question.path, aws_names(data)),
            None => Err(self
                .vault
                .failed(&question.path, "is answered with nothing")),
        };
        let Some(lease) = lease else {
            return Ok(Obtained {
                material: material.map_err(ProviderError::lost)?,
                ttl_seconds: dynamic.ttl.map(|ttl| ttl.as_secs()),
                handle: None,
            });
        };
        let material = match material {
            Ok(_) if lease.seconds == 0 => Err(self
                .vault
                .failed(&question.path, "is answered with a lease that is over")),
            material => material,
        };
        match material {
            Ok(material) => {
                let seconds = self.set_to(deadline, wish.ttl_seconds, &lease).await;
                Ok(Obtained {
                    material,
                    ttl_seconds: Some(no_longer_than(&session, seconds)),
                    handle: Some(lease.id),
                })
            }
            Err(error) => match self.take_back(&lease.id).await {
                Ok(()) => Err(error),
                Err(failure) => {
                    tracing::warn!(error = %failure, "lease that was not taken lives on");
                    Err(error.lost())
                }
            },
        }
    }

    /// Sets a lease to the wanted time: longer, so that it lasts as long as its task, or shorter, so that it ends with it
    /// even if nobody revokes it. Answers how long it lives then.
    async fn set_to(&self, deadline: Instant, wanted: u64, lease: &Lease) -> u64 {
        if !lease.renewable || lease.seconds == wanted {
            return lease.seconds;
        }
        let question = Question {
            method: Method::POST,
            path: "sys/leases/renew".to_owned(),
            query: Vec::new(),
            body: Some(json!({ "lease_id": lease.id, "increment": wanted })),
        };
        let renewing = self.vault.read::<Data>(deadline, Duration::ZERO, &question);
        match renewing.await {
            Ok((answer, _)) => answer
                .lease
                .map_or(lease.seconds, |renewed| renewed.seconds),
            Err(error) => {
                tracing::warn!(%error, "lease could not be renewed");
                lease.seconds
            }
        }
    }

    /// Takes a lease back. It is over when the server says so, not when it says that it will be.
    async fn take_back(&self, id: &str) -> Result<(), ProviderError> {
        let question = Question {
            method: Method::POST,
            path: "sys/leases/revoke".to_owned(),
            query: Vec::new(),
            body: Some(json!({ "lease_id": id, "sync": true })),
        };
        let deadline = self.vault.deadline().min(Instant::now() + REVOKE_PATIENCE);
        let asked = self.vault.ask(deadline, Duration::ZERO, &question).await;
        let (answered, _) = asked?;
        match answered.status {
            StatusCode::NO_CONTENT => Ok(()),
            status => {
                let cause = answer::refusal(status, &answered.document);
                Err(self.vault.failed(&question.path, &cause))
            }
        }
    }

    /// The fields that are taken; a certificate with its key is one of its own kind.
    fn material(&self, path: &str, mut data: Data) -> Result<Material, ProviderError> {
        let failed = |problem: &str| self.vault.failed(path, problem);
        if self.secret.fields.is_empty() {
            if is_certificate(&data) {
                return identity(data)
                    .map(|identity| Material::Certificate(Arc::new(identity)))
                    .ok_or_else(|| failed("is answered with a certificate that is none"));
            }
            let texts = data.0.into_iter().filter_map(|(name, datum)| match datum {
                Datum::Text(text) => field(&name, &text).ok(),
                Datum::Other => None,
            });
            let fields = Fields::new(texts.collect());
            return fields
                .map(Material::Fields)
                .map_err(|_| failed("has no field that is a text of one line"));
        }
        let take = |name: &String| match data.take(name) {
            Some(Datum::Text(text)) => field(name, &text).map_err(|error| {
                failed(&format!("has a field `{name}` that can't be used: {error}"))
            }),
            Some(Datum::Other) => Err(failed(&format!("has a field `{name}` that is no text"))),
            None => Err(failed(&format!("has no field `{name}`"))),
        };
        let fields: Result<Vec<_>, _> = self.secret.fields.iter().map(take).collect();
        Fields::new(fields?).map(Material::Fields)
    }
}

impl VaultDynamic {
    fn question(&self, path: String, chosen: &[(&str, &str)], wish: &Wish) -> Question {
        let parameters = self.parameters.iter();
        let parameters = parameters.map(|(name, value)| (name.clone(), filled(value, chosen)));
        let life = self.ttl_parameter.iter();
        let life = life.map(|name| (name.clone(), format!("{}s", wish.ttl_seconds)));
        let parameters: Vec<(String, String)> = parameters.chain(life).collect();
        if !self.is_post {
            return Question {
                query: parameters,
                ..Question::get(path)
            };
        }
        let body: Map<String, Value> = parameters
            .into_iter()
            .map(|(name, value)| (name, value.into()))
            .collect();
        Question {
            method: Method::POST,
            path,
            query: Vec::new(),
            body: Some(Value::Object(body)),
        }
    }
}

/// What is leased by a login ends with the login.
fn no_longer_than(session: &Session, seconds: u64) -> u64 {
    session
        .left()
        .map_or(seconds, |left| seconds.min(left.as_secs()))
}

/// A text with the choices in it. What is chosen is of the config, so no path leads elsewhere.
fn filled(template: &str, chosen: &[(&str, &str)]) -> String {
    chosen
        .iter()
        .fold(template.to_owned(), |text, (name, value)| {
            text.replace(&format!("{{{name}}}"), value)
        })
}

/// Names that say who, and open nothing by themselves.
const PUBLIC: [&str; 4] = ["access_key_id", "arn", "username", "serial_number"];

fn field(name: &str, text: &Wiped) -> Result<Field, ProviderError> {
    let secret = Secret::new(text.0.as_bytes().to_vec())?;
    Ok(if PUBLIC.contains(&name) {
        Field::public(name, secret)
    } else {
        Field::new(name, secret)
    })
}

/// Keys of the AWS engine, by the names that AWS has for them.
fn aws_names(mut data: Data) -> Data {
    const NAMES: [(&str, &str); 3] = [
        ("access_key", "access_key_id"),
        ("secret_key", "secret_access_key"),
        ("security_token", "session_token"),
    ];
    let has = |data: &Data, wanted: &str| data.0.iter().any(|(name, _)| name == wanted);
    if !has(&data, "access_key") || !has(&data, "secret_key") {
        return data;
    }
    for (theirs, ours) in NAMES {
        // Newer servers say `session_token` themselves, beside the old name.
        match data.take(theirs) {
            Some(datum) if !has(&data, ours) => data.0.push((ours.to_owned(), datum)),
            Some(_) | None => {}
        }
    }
    data
}

/// Whether a PKI engine issued a certificate.
fn is_certificate(data: &Data) -> bool {
    let is_pem = |name: &str| {
        data.0.iter().any(|(known, datum)| {
            known == name && matches!(datum, Datum::Text(text) if text.0.starts_with("-----BEGIN "))
        })
    };
    is_pem("certificate") && is_pem("private_key")
}

/// The certificate that a PKI engine issued, with that of its issuer; none where it can't be read.
fn identity(mut data: Data) -> Option<ClientIdentity> {
    let mut take = |name: &str| match data.take(name) {
        Some(Datum::Text(text)) => Some(text.0),
        Some(Datum::Other) | None => None,
    };
    let (certificate, key) = (take("certificate")?, take("private_key")?);
    let issuer = take("issuing_ca").unwrap_or_default();
    let chain = CertificateDer::pem_slice_iter(certificate.as_bytes())
        .chain(CertificateDer::pem_slice_iter(issuer.as_bytes()))
        .collect::<Result<Vec<_>, _>>()
        .ok()?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).ok()?;
    let key = Zeroizing::new(key.secret_der().to_vec());
    ClientIdentity::new(chain, key).ok()
}

#[cfg(test)]
mod tests;
