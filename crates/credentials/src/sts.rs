//! Sessions of AWS roles, each as narrow as its decision.

mod answer;
mod session;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use http::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use http::{Method, StatusCode};
use identity::TaskTokens;
use percent_encoding::percent_encode;
use rustls_pki_types::CertificateDer;
use serde_json::{Map, Value, json};
use tokio::time::Instant;
use url::Url;
use zeroize::Zeroizing;

use self::session::Session;
use crate::endpoint::{Endpoint, Request};
use crate::sigv4::{self, ACCESS_KEY_ID, SECRET_ACCESS_KEY, SESSION_TOKEN, UNRESERVED};
use crate::{
    Field, Fields, LeaseView, Material, Obtained, Provider, ProviderError, Revocation, SecretRef,
    SigV4, SigV4Location, Statement, Wish, narrowing,
};

pub use session::{LONGEST_POLICY, SessionTag};

/// How sessions of a role are had of AWS's Security Token Service, or of who speaks its protocol.
#[derive(Clone, Debug)]
pub struct StsConfig {
    /// Where it is; over https, or on this machine.
    pub endpoint: Url,
    /// The region that requests to it are signed for.
    pub region: String,
    /// Who vouches for it; the system's roots, if none are given.
    pub authorities: Vec<CertificateDer<'static>>,
    /// By what the role is assumed.
    pub base: StsBase,
    /// The role, unless a decision names another.
    pub role_arn: String,
    /// Those that a decision may name.
    pub other_role_arns: Vec<String>,
    /// What the role's trust policy asks for, where others assume roles by the same keys.
    pub external_id: Option<String>,
    /// What a session tells of its task, for policies of AWS.
    pub tags: Vec<SessionTag>,
    /// Which of these stay where a session assumes another role.
    pub transitive_tags: Vec<SessionTag>,
    /// The most that a session may do, besides what the role may.
    pub policy: Option<Map<String, Value>>,
    /// The longest life of a session.
    pub ttl: Duration,
    /// How long obtaining one may take.
    pub timeout: Duration,
}

/// By what a role is assumed.
#[derive(Clone, Debug)]
pub enum StsBase {
    /// Keys of the account (`AssumeRole`).
    Keys {
        /// The access key id.
        access_key_id: SecretRef,
        /// The secret access key.
        secret_access_key: SecretRef,
        /// The session token, where they are keys of a session themselves.
        session_token: Option<SecretRef>,
    },
    /// A statement of the gateway's about the task (`AssumeRoleWithWebIdentity`).
    Statement(Statement),
    /// A token of somebody else's, such as the cluster's (`AssumeRoleWithWebIdentity`); it carries no tags.
    Token(SecretRef),
}

/// Sessions of AWS roles: `AssumeRole` and `AssumeRoleWithWebIdentity`.
///
/// AWS takes no session back by itself: leases end with `expires_at`.
#[derive(Debug)]
pub struct Sts {
    config: StsConfig,
    endpoint: Endpoint,
    sigv4: SigV4,
    /// By which the gateway's own statements are signed.
    tokens: Arc<TaskTokens>,
}

/// AWS's version of the protocol.
const VERSION: &str = "2011-06-15";

/// The least life that AWS gives a session, in seconds.
const SHORTEST_LIFE: u64 = 900;

/// How long a statement to AWS lives, in seconds: it is used at once.
const STATEMENT_LIFE: u64 = 60;

/// The claim in which a statement has session tags ("Pass session tags in AWS STS", AWS IAM user guide).
const TAGS: &str = "https://aws.amazon.com/tags";

/// A body, while it is written.
struct Form(Zeroizing<String>);

impl Sts {
    /// Makes one; statements are signed as `tokens` are.
    ///
    /// # Errors
    /// What is wrong with the address or the authorities.
    pub fn new(config: StsConfig, tokens: Arc<TaskTokens>) -> Result<Self, String> {
        let endpoint = Endpoint::new(config.endpoint.clone(), &config.authorities)?;
        Ok(Self {
            endpoint: endpoint.with_reason(reason),
            sigv4: SigV4 {
                service: "sts".to_owned(),
                region: config.region.clone(),
                location: SigV4Location::Header,
                allow_headers: Vec::new(),
            },
            config,
            tokens,
        })
    }

    async fn request(&self, wish: &Wish, session: &Session) -> Result<Request, ProviderError> {
        let mut form = Form(Zeroizing::new(String::with_capacity(32 * 1024)));
        let action = match &self.config.base {
            StsBase::Keys { .. } => "AssumeRole",
            StsBase::Statement(_) | StsBase::Token(_) => "AssumeRoleWithWebIdentity",
        };
        form.put("Action", action);
        form.put("Version", VERSION);
        form.put("RoleArn", &session.role_arn);
        form.put("RoleSessionName", &session.name);
        form.put("DurationSeconds", &session.life.to_string());
        if let Some(policy) = &session.policy {
            form.put("Policy", policy);
        }
        match &self.config.base {
            StsBase::Keys {
                access_key_id,
                secret_access_key,
                session_token,
            } => {
                if let Some(external_id) = &self.config.external_id {
                    form.put("ExternalId", external_id);
                }
                form.put_tags(session);
                let mut keys = vec![
                    Field::new(ACCESS_KEY_ID, access_key_id.read().await?),
                    Field::new(SECRET_ACCESS_KEY, secret_access_key.read().await?),
                ];
                if let Some(token) = session_token {
                    keys.push(Field::new(SESSION_TOKEN, token.read().await?));
                }
                self.signed(&form, &Fields::new(keys)?)
            }
            StsBase::Statement(statement) => {
                let mut claims = Statement::claims(wish, &[]);
                if !session.tags.is_empty() {
                    claims.insert(TAGS.to_owned(), session.tags_claim());
                }
                let token = statement.sign_claims(&self.tokens, wish, claims, STATEMENT_LIFE);
                form.put("WebIdentityToken", &token.await?);
                Ok(form.request())
            }
            StsBase::Token(token) => {
                let token = token.read().await?;
                form.put_secret("WebIdentityToken", &token);
                Ok(form.request())
            }
        }
    }

    fn signed(&self, form: &Form, keys: &Fields) -> Result<Request, ProviderError> {
        let misfit = || {
            self.endpoint
                .failed("can't be asked: its keys make no signature")
        };
        let head = http::Request::builder()
            .method(Method::POST)
            .uri(self.endpoint.url().as_str())
            .header(CONTENT_TYPE, FORM);
        let (mut head, ()) = head.body(()).map_err(|_| misfit())?.into_parts();
        let signed = sigv4::sign_own(&self.sigv4, &mut head, form.0.as_bytes(), keys);
        signed.map_err(|_| misfit())?;
        let mut request = form.request();
        for (name, value) in &head.headers {
            request = request.header(name.clone(), value.clone());
        }
        Ok(request)
    }
}

const FORM: HeaderValue = HeaderValue::from_static("application/x-www-form-urlencoded");

impl Form {
    /// As AWS's SDKs write it: some verify a signature against the fields, written anew.
    fn put(&mut self, name: &str, value: &str) {
        if !self.0.is_empty() {
            self.0.push('&');
        }
        self.0.push_str(name);
        self.0.push('=');
        for piece in percent_encode(value.as_bytes(), UNRESERVED) {
            self.0.push_str(if piece == "%20" { "+" } else { piece });
        }
    }

    #[expect(clippy::disallowed_methods, reason = "to show it to STS")]
    fn put_secret(&mut self, name: &str, secret: &crate::Secret) {
        self.put(name, &String::from_utf8_lossy(secret.expose()));
    }

    fn put_tags(&mut self, session: &Session) {
        for (number, (tag, value)) in (1..).zip(&session.tags) {
            self.put(&format!("Tags.member.{number}.Key"), tag.as_str());
            self.put(&format!("Tags.member.{number}.Value"), value);
        }
        for (number, tag) in (1..).zip(&session.transitive_tags) {
            self.put(&format!("TransitiveTagKeys.member.{number}"), tag.as_str());
        }
    }

    fn request(&self) -> Request {
        // AWS answers in XML, whatever is asked for; others may not.
        Request::new(Method::POST)
            .form(&self.0)
            .header(ACCEPT, HeaderValue::from_static("application/xml"))
    }
}

#[async_trait::async_trait]
impl Provider for Sts {
    fn name(&self) -> &'static str {
        "sts"
    }

    /// Of what decides which sessions come: patience and authorities don't.
    fn digest(&self) -> String {
        let config = &self.config;
        let mut texts = vec![
            config.endpoint.to_string(),
            config.region.clone(),
            config.role_arn.clone(),
            config.other_role_arns.join(" "),
            config.external_id.clone().unwrap_or_default(),
            names(&config.tags),
            names(&config.transitive_tags),
            json!(config.policy).to_string(),
            config.ttl.as_secs().to_string(),
        ];
        match &config.base {
            StsBase::Keys {
                access_key_id,
                secret_access_key,
                session_token,
            } => {
                texts.push("keys".to_owned());
                texts.extend([access_key_id, secret_access_key].map(ToString::to_string));
                texts.extend(session_token.as_ref().map(ToString::to_string));
            }
            StsBase::Statement(statement) => {
                texts.push("statement".to_owned());
                texts.extend(statement.texts());
            }
            StsBase::Token(token) => texts.extend(["token".to_owned(), token.to_string()]),
        }
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        crate::provider::digest(&texts)
    }

    async fn obtain(&self, wish: &Wish) -> Result<Obtained, ProviderError> {
        narrowing::only(&wish.narrow, &["policy", "role_arn"])?;
        narrowing::scopes(wish, &[])?;
        let session = Session::new(&self.config, wish)?;
        let deadline = Instant::now() + self.config.timeout;
        let request = async || self.request(wish, &session).await;
        let answered = self.endpoint.ask(deadline, request).await?;
        let document = self.endpoint.accept(answered, &[StatusCode::OK])?;
        let read = answer::read(&document, jiff::Timestamp::now(), session.life);
        let (keys, life) = read.map_err(|problem| self.endpoint.failed(problem).lost())?;
        Ok(Obtained {
            material: Material::Fields(keys),
            ttl_seconds: Some(life),
            handle: None,
        })
    }

    async fn revoke(&self, _lease: &LeaseView) -> Revocation {
        Revocation::ExpiresAt
    }
}

fn names(tags: &[SessionTag]) -> String {
    let names: Vec<&str> = tags.iter().map(|tag| tag.as_str()).collect();
    names.join(" ")
}

/// Why AWS says no, by its code alone: its messages repeat what it was sent.
fn reason(document: &[u8]) -> Option<Cow<'static, str>> {
    // "Common errors", and the errors of both actions, AWS STS API reference; the last two are how some spell it.
    const KNOWN: [&str; 24] = [
        "AccessDenied",
        "AccessDeniedException",
        "ExpiredToken",
        "ExpiredTokenException",
        "IDPCommunicationError",
        "IDPRejectedClaim",
        "IncompleteSignature",
        "InternalFailure",
        "InvalidAction",
        "InvalidClientTokenId",
        "InvalidIdentityToken",
        "MalformedPolicyDocument",
        "MissingAuthenticationToken",
        "NotAuthorized",
        "OptInRequired",
        "PackedPolicyTooLarge",
        "RegionDisabledException",
        "RequestExpired",
        "ServiceUnavailable",
        "SignatureDoesNotMatch",
        "Throttling",
        "ThrottlingException",
        "ValidationError",
        "InvalidParameterValue",
    ];
    let code = answer::error_code(document)?;
    let known = KNOWN.into_iter().find(|known| *known == code)?;
    Some(Cow::Borrowed(known))
}

#[cfg(test)]
mod tests;
