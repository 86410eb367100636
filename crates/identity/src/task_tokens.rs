//! The task tokens of this gateway.

use std::sync::OnceLock;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::jwk::{Jwk, PublicKeyUse, ThumbprintHash};
use jsonwebtoken::{DecodingKey, EncodingKey};
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use crate::confirmation::Confirmation;
use crate::digest::Digest;
use crate::unverified::{Expected, MAX_TOKEN_BYTES, Unverified, looks_compact};
use crate::verified::{Verified, Voucher};
use crate::{AgentId, Algorithm, Binding, Unauthenticated, clock, crypto, transaction_tokens};

/// The `typ` of an access token, without `application/` (RFC 9068 section 2.1).
const KIND: &str = "at+jwt";

/// Mints and verifies the task tokens of this gateway (RFC 9068, `typ: at+jwt`), and publishes their keys.
///
/// The header has `kid`, the RFC 7638 thumbprint of the key. The claims are `iss` and `aud` (both the
/// gateway's issuer), `iat`, `exp`, `jti`, `sub` (the owner), `act` and `client_id` (the agent), `txn`
/// (the task), `scope` and `authorization_details`; `cnf` where it is bound.
pub struct TaskTokens {
    issuer: String,
    algorithm: Algorithm,
    signing: EncodingKey,
    verifying: DecodingKey,
    published: Jwk,
    key_id: String,
}

/// A signing key of ours that can't be used.
#[derive(Debug, thiserror::Error)]
#[error("task signing key is not a PKCS#8 PEM of a P-256 or Ed25519 key: {0}")]
pub struct InvalidKey(pub String);

/// Which kind of signing key to make.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum KeyKind {
    /// ECDSA P-256, for ES256.
    P256,
    /// Ed25519, for `EdDSA`.
    Ed25519,
}

/// What a task token says.
#[derive(Clone, Debug)]
pub struct TaskClaims {
    /// The task (`txn`).
    pub txn: String,
    /// The task's owner (`sub`).
    pub owner: String,
    /// The agent (`act.sub` and `client_id`).
    pub agent: AgentId,
    /// The agents that delegated the task to it, the first of all first: `act` within `act` (RFC 8693 section 4.1).
    pub chain: Vec<String>,
    /// Space separated scope.
    pub scope: String,
    /// RFC 9396 details.
    pub authorization_details: Value,
    /// Seconds since the epoch.
    pub expires_at: i64,
}

impl TaskTokens {
    /// Makes a new signing key, as PKCS#8 PEM.
    ///
    /// # Errors
    /// Where the system has no randomness to give.
    pub fn generate(kind: KeyKind) -> Result<Zeroizing<String>, InvalidKey> {
        let random = SystemRandom::new();
        let der = match kind {
            KeyKind::P256 => {
                EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random)
            }
            KeyKind::Ed25519 => Ed25519KeyPair::generate_pkcs8(&random),
        };
        let der = der.map_err(|_| InvalidKey("no randomness".to_owned()))?;
        Ok(pem(der.as_ref()))
    }

    /// Reads the signing key; `issuer` becomes `iss` and `aud`.
    ///
    /// # Errors
    /// [`InvalidKey`] for anything but one PKCS#8 P-256 or Ed25519 private key.
    pub fn from_pem(pem: &[u8], issuer: &str) -> Result<Self, InvalidKey> {
        crypto::install();
        let (algorithm, signing, verifying) = read(pem).map_err(|error| blame(&error))?;
        let mut published = Jwk::from_decoding_key(&verifying, Some(algorithm.into()))
            .map_err(|error| blame(&error))?;
        let key_id = published
            .thumbprint(ThumbprintHash::SHA256)
            .map_err(|error| blame(&error))?;
        published.common.key_id = Some(key_id.clone());
        published.common.public_key_use = Some(PublicKeyUse::Signature);
        Ok(Self {
            issuer: issuer.to_owned(),
            algorithm,
            signing,
            verifying,
            published,
            key_id,
        })
    }

    /// Signs a task token.
    ///
    /// # Errors
    /// Where the system has no randomness to give.
    pub fn mint(&self, claims: &TaskClaims) -> Result<String, InvalidKey> {
        self.sign(KIND, &self.claims(claims)?)
    }

    /// Signs a task token that is worth nothing without what it is bound to (`cnf`).
    ///
    /// # Errors
    /// Where the system has no randomness to give.
    pub fn mint_bound(&self, claims: &TaskClaims, to: Binding) -> Result<String, InvalidKey> {
        let mut claims = self.claims(claims)?;
        claims.insert("cnf".to_owned(), to.into_cnf());
        self.sign(KIND, &claims)
    }

    pub(crate) fn sign(
        &self,
        kind: &str,
        claims: &Map<String, Value>,
    ) -> Result<String, InvalidKey> {
        let mut header = jsonwebtoken::Header::new(self.algorithm.into());
        header.typ = Some(kind.to_owned());
        header.kid = Some(self.key_id.clone());
        jsonwebtoken::encode(&header, claims, &self.signing).map_err(|error| blame(&error))
    }

    /// The signing key, for keys that are derived from it.
    pub(crate) fn signing_bytes(&self) -> &[u8] {
        self.signing.as_bytes()
    }

    fn claims(&self, claims: &TaskClaims) -> Result<Map<String, Value>, InvalidKey> {
        let claims = [
            ("iss", json!(self.issuer)),
            ("aud", json!(self.issuer)),
            ("iat", json!(clock::now())),
            ("exp", json!(claims.expires_at)),
            ("jti", json!(unique()?)),
            ("sub", json!(claims.owner)),
            ("act", actors(&claims.agent, &claims.chain)),
            ("client_id", json!(claims.agent.as_str())),
            ("txn", json!(claims.txn)),
            ("scope", json!(claims.scope)),
            (
                "authorization_details",
                claims.authorization_details.clone(),
            ),
        ];
        let claims = claims.into_iter();
        Ok(claims
            .map(|(name, value)| (name.to_owned(), value))
            .collect())
    }

    /// The public keys, as a JWK Set (RFC 7517 section 5).
    pub fn jwks(&self) -> Value {
        json!({ "keys": [self.published] })
    }

    /// The `iss` of our tokens.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The claims of a token of ours that is in order. Whatever it may be bound to is not asked for: this tells of a
    /// token, and authenticates nobody.
    pub fn claims_of(&self, token: &str) -> Option<Map<String, Value>> {
        if token.len() > MAX_TOKEN_BYTES || !looks_compact(token) {
            return None;
        }
        let unverified =
            Unverified::read(token).filter(|token| token.issuer() == Some(self.issuer.as_str()))?;
        let verified = self.verify(unverified, Digest::of(token.as_bytes()));
        verified.ok().map(|verified| verified.claims)
    }

    /// Verifies a token that claims to be ours.
    pub(crate) fn verify(
        &self,
        token: Unverified<'_>,
        digest: Digest,
    ) -> Result<Verified, Unauthenticated> {
        let invalid = Unauthenticated::Invalid;
        if token.header()?.kind.as_deref() != Some(KIND) {
            return Err(invalid("its `typ` is not that of a task token"));
        }
        let lacks = "it lacks one of `txn`, `jti`, `sub`, `act`, `iat`";
        self.verify_claims(token, digest, (&["txn", "jti", "sub"], lacks))
    }

    /// Verifies a transaction token that claims to be ours.
    pub(crate) fn verify_transaction(
        &self,
        token: Unverified<'_>,
        digest: Digest,
    ) -> Result<Verified, Unauthenticated> {
        let invalid = Unauthenticated::Invalid;
        if token.header()?.kind.as_deref() != Some(transaction_tokens::KIND) {
            return Err(invalid("its `typ` is not that of a transaction token"));
        }
        let lacks = "it lacks one of `txn`, `sub`, `scope`, `req_wl`, `act`, `iat`";
        self.verify_claims(token, digest, (&["txn", "sub", "scope", "req_wl"], lacks))
    }

    fn verify_claims(
        &self,
        token: Unverified<'_>,
        digest: Digest,
        (texts, lacks): (&[&str], &'static str),
    ) -> Result<Verified, Unauthenticated> {
        let invalid = |why| Err(Unauthenticated::Invalid(why));
        let header = token.header()?;
        if header.algorithm != self.algorithm || header.key_id.as_deref() != Some(&self.key_id) {
            return invalid("it was signed by a key that is not ours");
        }
        let checked = token.check(&Expected {
            algorithm: self.algorithm,
            key: &self.verifying,
            audience: Some(&self.issuer),
            now: clock::now(),
        })?;
        let Some(agent) = actor(&checked.claims, texts) else {
            return invalid(lacks);
        };
        Ok(Verified {
            digest,
            confirmations: Confirmation::all(&checked.claims)?,
            agent,
            issuer: checked.issuer,
            claims: checked.claims,
            expires_at: checked.expires_at,
            voucher: Voucher::Ourselves,
            issued_at: None,
            prepared: OnceLock::new(),
        })
    }
}

// By hand, so that no later field can bring a key into a log.
impl std::fmt::Debug for TaskTokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TaskTokens")
            .field("issuer", &self.issuer)
            .field("algorithm", &self.algorithm)
            .field("key_id", &self.key_id)
            .finish_non_exhaustive()
    }
}

/// The agent, and within it the one that delegated to it, and so on.
pub(crate) fn actors(agent: &AgentId, chain: &[String]) -> Value {
    let chain = chain.iter().map(String::as_str);
    let all = chain.chain([agent.as_str()]);
    all.fold(Value::Null, |within, agent| match within {
        Value::Null => json!({ "sub": agent }),
        within => json!({ "sub": agent, "act": within }),
    })
}

/// The agent of a token that is whole, these texts of it included. Only the outermost `act` counts (RFC 8693 section 4.1).
fn actor(claims: &Map<String, Value>, texts: &[&str]) -> Option<AgentId> {
    for name in texts {
        claims
            .get(*name)?
            .as_str()
            .filter(|text| !text.is_empty())?;
    }
    claims.get("iat")?;
    claims
        .get("act")?
        .as_object()?
        .get("sub")?
        .as_str()?
        .parse()
        .ok()
}

fn read(pem: &[u8]) -> jsonwebtoken::errors::Result<(Algorithm, EncodingKey, DecodingKey)> {
    if let Ok(key) = EncodingKey::from_ec_pem(pem) {
        let public = DecodingKey::from_ec_der(crypto::p256(key.as_bytes())?.public_key().as_ref());
        return Ok((Algorithm::ES256, key, public));
    }
    let key = EncodingKey::from_ed_pem(pem)?;
    let public = DecodingKey::from_ed_der(crypto::ed25519(key.as_bytes())?.public_key().as_ref());
    Ok((Algorithm::EdDSA, key, public))
}

fn blame(error: &jsonwebtoken::errors::Error) -> InvalidKey {
    InvalidKey(error.to_string())
}

/// PKCS#8 DER as PEM (RFC 7468 section 10).
fn pem(der: &[u8]) -> Zeroizing<String> {
    let base64 = Zeroizing::new(STANDARD.encode(der));
    // With room for all of it, since a string that grows leaves copies behind.
    let mut pem = Zeroizing::new(String::with_capacity(base64.len() * 2 + 100));
    pem.push_str("-----BEGIN PRIVATE KEY-----\n");
    for (position, character) in base64.chars().enumerate() {
        if position > 0 && position % 64 == 0 {
            pem.push('\n');
        }
        pem.push(character);
    }
    pem.push_str("\n-----END PRIVATE KEY-----\n");
    pem
}

/// 128 random bits as text.
pub(crate) fn unique() -> Result<String, InvalidKey> {
    let mut bytes = [0; 16];
    let filled = SystemRandom::new().fill(&mut bytes);
    filled.map_err(|_| InvalidKey("no randomness".to_owned()))?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}
