//! DPoP: what shows that a request comes from the holder of a key (RFC 9449).

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderName;
use jsonwebtoken::crypto;
use serde_json::{Map, Value};
use url::Origin;

use crate::clock::LEEWAY;
use crate::digest::Digest;
use crate::key::Key;
use crate::nonce::Nonces;
use crate::replay::Replay;
use crate::target::is_target;
use crate::unverified::{looks_compact, media_type, seconds};
use crate::{Algorithm, Presented, Unauthenticated, clock, strict_json};

/// Carries the proof (RFC 9449 section 4.1).
pub(crate) static DPOP: HeaderName = HeaderName::from_static("dpop");

/// The `typ` of a proof (RFC 9449 section 4.2).
const KIND: &str = "dpop+jwt";

/// The longest proof that is looked at, in bytes: the largest RSA key and signature take less than 4 KiB.
const MAX_PROOF_BYTES: usize = 8 * 1024;

/// Header parameters that bring a key from elsewhere or change what is signed.
const REFUSED: [&str; 5] = ["crit", "b64", "jku", "x5u", "x5c"];

/// The members of a JWK that no public key has (RFC 7518 sections 6.2.2, 6.3.2 and 6.4, RFC 8037 section 2).
pub(crate) const PRIVATE: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

/// What is asked of DPoP proofs.
#[derive(Clone, Debug)]
pub struct DpopConfig {
    /// Whether a proof must hold a nonce of ours; optional unless given.
    pub nonce: NonceRule,
    /// The origins that agents know the gateway by; the one that a request names, unless given.
    pub origins: Vec<Origin>,
    /// How old a proof may be; 60 s unless given.
    pub max_age: Duration,
}

/// Whether a proof must hold a nonce of ours.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NonceRule {
    /// Always.
    Required,
    /// Only while the gateway can't know what was used before it started.
    Optional,
}

impl Default for DpopConfig {
    fn default() -> Self {
        Self {
            nonce: NonceRule::Optional,
            origins: Vec::new(),
            max_age: Duration::from_secs(60),
        }
    }
}

/// Checks proofs.
#[derive(Debug)]
pub(crate) struct Dpop {
    config: DpopConfig,
    /// Seconds.
    max_age: i64,
    /// Outlives a config. `None` where the system has no randomness: then every proof is refused.
    memory: Option<Arc<Memory>>,
}

/// What is known of proofs that were used.
#[derive(Debug)]
struct Memory {
    /// Seconds since the epoch. What was used before is not known. Where it takes the place of another one, proofs are
    /// used up there until it is first asked.
    since: OnceLock<i64>,
    /// The largest `max_age` that it remembers enough for.
    max_age: i64,
    nonces: Nonces,
    replay: Replay,
}

/// The token that a proof must be made for.
pub(crate) struct Bound<'b> {
    /// Of the whole token.
    pub(crate) token: &'b Digest,
    /// Of the key that it is bound to.
    pub(crate) thumbprint: &'b Digest,
}

impl Dpop {
    /// Makes one that remembers what `previous` does, if that is enough for its `max_age`.
    pub(crate) fn new(config: DpopConfig, previous: Option<&Self>) -> Self {
        Self::at(config, previous, clock::now())
    }

    /// Makes one at this time, in seconds since the epoch.
    pub(crate) fn at(config: DpopConfig, previous: Option<&Self>, now: i64) -> Self {
        let max_age = i64::try_from(config.max_age.as_secs()).unwrap_or(i64::MAX);
        let known = previous.and_then(|previous| previous.memory.as_ref());
        let known = known.filter(|memory| memory.max_age >= max_age);
        let memory = match known {
            Some(memory) => Some(Arc::clone(memory)),
            None => {
                let since = previous.is_none().then_some(now);
                Memory::new(max_age, since, now).map(Arc::new)
            }
        };
        Self {
            config,
            max_age,
            memory,
        }
    }

    /// The origins that agents know the gateway by; the one that a request names, if none are given.
    pub(crate) fn origins(&self) -> &[Origin] {
        &self.config.origins
    }

    /// Checks the proof of a request for a bound token, and uses it up.
    pub(crate) fn check(
        &self,
        presented: &Presented<'_>,
        bound: &Bound<'_>,
    ) -> Result<(), Unauthenticated> {
        let invalid = Unauthenticated::InvalidDpopProof;
        let mut proofs = presented.headers.get_all(&DPOP).iter();
        let proof = proofs.next().ok_or(Unauthenticated::ProofRequired)?;
        if proofs.next().is_some() {
            return Err(invalid("there is more than one"));
        }
        let proof = proof.to_str().map_err(|_| invalid("it is no JWT"))?;
        let (_, claims) = signed_by(proof, Some(bound.thumbprint))?;
        let jti = self.aimed(&claims, presented)?;
        let text = |name| claims.get(name).and_then(Value::as_str);
        if text("ath").and_then(Digest::read).as_ref() != Some(bound.token) {
            return Err(invalid("its `ath` is not the hash of the token"));
        }
        self.use_up(&claims, bound.thumbprint, jti)
    }

    /// Checks the proof of a request for a token, if it has one, and uses it up: the thumbprint of its key. Such a
    /// proof is made for no token yet (RFC 9449 section 5).
    pub(crate) fn key_of(
        &self,
        presented: &Presented<'_>,
    ) -> Result<Option<Digest>, Unauthenticated> {
        let invalid = Unauthenticated::InvalidDpopProof;
        let mut proofs = presented.headers.get_all(&DPOP).iter();
        let Some(proof) = proofs.next() else {
            return Ok(None);
        };
        if proofs.next().is_some() {
            return Err(invalid("there is more than one"));
        }
        let proof = proof.to_str().map_err(|_| invalid("it is no JWT"))?;
        let (key, claims) = signed_by(proof, None)?;
        let jti = self.aimed(&claims, presented)?;
        self.use_up(&claims, &key, jti)?;
        Ok(Some(key))
    }

    /// The `jti` of a proof that was made for this request.
    fn aimed<'c>(
        &self,
        claims: &'c Map<String, Value>,
        presented: &Presented<'_>,
    ) -> Result<&'c str, Unauthenticated> {
        let invalid = Unauthenticated::InvalidDpopProof;
        let text = |name| claims.get(name).and_then(Value::as_str);
        if text("htm") != Some(presented.method.as_str()) {
            return Err(invalid("its `htm` is not the method of the request"));
        }
        let origins = &self.config.origins;
        if !text("htu").is_some_and(|htu| is_target(htu, presented, origins)) {
            return Err(invalid("its `htu` is not the target of the request"));
        }
        let jti = text("jti").filter(|jti| !jti.is_empty());
        jti.ok_or_else(|| invalid("it has no `jti`"))
    }

    /// Checks when a proof was made, and that it is used for the first time.
    fn use_up(
        &self,
        claims: &Map<String, Value>,
        key: &Digest,
        jti: &str,
    ) -> Result<(), Unauthenticated> {
        let invalid = Unauthenticated::InvalidDpopProof;
        let memory = self.memory.as_ref().ok_or(Unauthenticated::Busy)?;
        let now = clock::now();
        let made = seconds(claims, "iat").ok().flatten();
        let made = made.ok_or_else(|| invalid("it has no `iat`"))?;
        if made > now.saturating_add(LEEWAY) {
            return Err(invalid("its `iat` is in the future"));
        }
        if made < now.saturating_sub(self.max_age) {
            return Err(invalid("its `iat` is too long ago"));
        }
        // By a clock that is ahead, a proof from before may look like one from after.
        let since = *memory.since.get_or_init(|| now);
        let is_of_our_time = made > since.saturating_add(LEEWAY);
        let is_fresh = match claims.get("nonce") {
            Some(nonce) => nonce
                .as_str()
                .is_some_and(|nonce| memory.nonces.knows(nonce, now)),
            None => self.config.nonce == NonceRule::Optional && is_of_our_time,
        };
        if !is_fresh {
            return Err(Unauthenticated::UseDpopNonce(memory.nonces.current(now)));
        }
        memory.replay.note(key, jti, now)
    }
}

impl Memory {
    fn new(max_age: i64, since: Option<i64>, now: i64) -> Option<Self> {
        // A proof may be used from a little before the second that it names until `max_age` after it.
        let window = max_age.saturating_add(LEEWAY).saturating_add(1);
        Some(Self {
            since: since.map(OnceLock::from).unwrap_or_default(),
            max_age,
            nonces: Nonces::new()?,
            replay: Replay::new(window, now),
        })
    }
}

/// The thumbprint of the key that signed a proof, and the claims. A key that is expected must be it.
fn signed_by(
    proof: &str,
    expected: Option<&Digest>,
) -> Result<(Digest, Map<String, Value>), Unauthenticated> {
    let invalid = Unauthenticated::InvalidDpopProof;
    let malformed = || invalid("it is no JWT");
    if proof.len() > MAX_PROOF_BYTES || !looks_compact(proof) {
        return Err(malformed());
    }
    let (message, signature) = proof.rsplit_once('.').ok_or_else(malformed)?;
    let (header, claims) = message.split_once('.').ok_or_else(malformed)?;
    let header = object(header).ok_or_else(malformed)?;
    let text = |name| header.get(name).and_then(Value::as_str);
    if text("typ").map(media_type).as_deref() != Some(KIND) {
        return Err(invalid("its `typ` is not that of a DPoP proof"));
    }
    if REFUSED.iter().any(|name| header.contains_key(*name)) {
        return Err(invalid("its header has a parameter that is not allowed"));
    }
    let algorithm = text("alg").and_then(|alg| alg.parse::<Algorithm>().ok());
    let algorithm = algorithm.ok_or_else(|| invalid("its signature algorithm is not allowed"))?;
    let key = public_key(header.get("jwk"))?;
    if expected.is_some_and(|expected| key.thumbprint() != expected) {
        return Err(invalid("its key is not the one that the token is bound to"));
    }
    if !key.fits(algorithm) {
        return Err(invalid("its signature algorithm is not that of its key"));
    }
    let verified = crypto::verify(
        signature,
        message.as_bytes(),
        key.verifying(),
        algorithm.into(),
    );
    if !verified.unwrap_or(false) {
        return Err(invalid("its signature is wrong"));
    }
    let claims = object(claims).ok_or_else(malformed)?;
    Ok((*key.thumbprint(), claims))
}

fn public_key(jwk: Option<&Value>) -> Result<Key, Unauthenticated> {
    let invalid = Unauthenticated::InvalidDpopProof;
    let members = jwk.and_then(Value::as_object);
    let members = members.ok_or_else(|| invalid("it has no `jwk`"))?;
    if PRIVATE.iter().any(|name| members.contains_key(*name)) {
        return Err(invalid("its `jwk` is not a public key alone"));
    }
    jwk.and_then(Key::read)
        .ok_or_else(|| invalid("its `jwk` is no key that verifies signatures"))
}

fn object(part: &str) -> Option<Map<String, Value>> {
    strict_json::object(&URL_SAFE_NO_PAD.decode(part).ok()?)
}
