//! Workload identity tokens: each is bound to a key, and goes with a proof by that key for the request.
//!
//! draft-ietf-wimse-workload-creds-03 and draft-ietf-wimse-wpt-02. **Invariant.** A workload identity token is no bearer:
//! without a proof it authenticates nobody, whatever header it is sent in.

use std::sync::{Arc, OnceLock};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, HeaderName, HeaderValue};
use jsonwebtoken::crypto;
use serde_json::{Map, Value};
use url::{Origin, Url};

use crate::cache::{Cache, Place};
use crate::clock::LEEWAY;
use crate::digest::Digest;
use crate::dpop::PRIVATE;
use crate::issuer::is_name_of;
use crate::key::Key;
use crate::key_source::{KeySource, NoKey, Pace};
use crate::replay::Replay;
use crate::slot::{self, Slot};
use crate::spiffe_id::TrustDomain;
use crate::target::is_target;
use crate::transaction_tokens::TXN_TOKEN;
use crate::unverified::{
    Expected, MAX_TOKEN_BYTES, REFUSED, Unverified, looks_compact, media_type, seconds,
};
use crate::verified::{Verified, Voucher, issued_at};
use crate::{AgentId, Algorithm, Presented, Unauthenticated, clock, strict_json};

/// Carries the token.
pub(crate) static WORKLOAD_IDENTITY_TOKEN: HeaderName =
    HeaderName::from_static("workload-identity-token");

/// Carries the proof.
pub(crate) static WORKLOAD_PROOF_TOKEN: HeaderName =
    HeaderName::from_static("workload-proof-token");

/// For how long a proof may be good at most, in seconds. Each that was used is remembered for as long.
const LIFETIME: i64 = 300;

/// Who issues the workload identity tokens of a trust domain.
#[derive(Clone, Debug)]
pub struct WitIssuerConfig {
    /// The trust domain whose workloads it names; nobody else names them.
    pub trust_domain: TrustDomain,
    /// The `iss` of its tokens, if they have one, and where discovery starts.
    pub issuer: Url,
    /// The signature algorithms of its tokens.
    pub algorithms: Vec<Algorithm>,
    /// Its key set, where discovery is not wanted.
    pub jwks_uri: Option<Url>,
}

/// The issuers that are believed, and the proofs that were used.
#[derive(Debug)]
pub(crate) struct Wimse {
    issuers: Vec<WitIssuer>,
    /// Outlives a config.
    memory: Arc<Memory>,
}

#[derive(Debug)]
struct WitIssuer {
    config: WitIssuerConfig,
    keys: Arc<KeySource>,
}

#[derive(Debug)]
struct Memory {
    /// Seconds since the epoch. What was used before is not known.
    since: i64,
    used: Replay,
}

/// A workload identity token of a request.
pub(crate) struct Wit<'h> {
    pub(crate) value: &'h HeaderValue,
    pub(crate) verified: Arc<Verified>,
}

/// A token of a request that authenticates somebody, and so has to be covered by the proof beside it.
pub(crate) struct Beside {
    /// The header that it stands in; none where it stands in the query, which `oth` has no name for.
    pub(crate) header: Option<Slot>,
    pub(crate) digest: Digest,
}

impl Wimse {
    /// Makes the issuers, with the keys of those in `known` that are at the same place, and remembers what that does.
    pub(crate) fn new(issuers: Vec<WitIssuerConfig>, known: Option<&Self>, pace: Pace) -> Self {
        Self::at(issuers, known, pace, clock::now())
    }

    /// Makes them at this time, in seconds since the epoch.
    pub(crate) fn at(
        issuers: Vec<WitIssuerConfig>,
        known: Option<&Self>,
        pace: Pace,
        now: i64,
    ) -> Self {
        let sources = known.map_or(&[][..], |known| &known.issuers);
        let issuer = |config: WitIssuerConfig| {
            let jwks_uri = config.jwks_uri.as_ref();
            let mut same = sources.iter();
            let same = same.find(|known| known.keys.is_for(&config.issuer, jwks_uri));
            let keys = same.map_or_else(
                || Arc::new(KeySource::new(&config.issuer, jwks_uri, pace)),
                |same| Arc::clone(&same.keys),
            );
            WitIssuer { config, keys }
        };
        let fresh = || {
            Arc::new(Memory {
                since: now,
                used: Replay::new(LIFETIME.saturating_add(LEEWAY), now),
            })
        };
        Self {
            issuers: issuers.into_iter().map(issuer).collect(),
            memory: known.map_or_else(fresh, |known| Arc::clone(&known.memory)),
        }
    }

    /// The workload identity token of a request, if it has one. Nobody is authenticated by it alone.
    pub(crate) async fn token<'h>(
        &self,
        headers: &'h HeaderMap,
        cache: &Cache,
    ) -> Result<Option<Wit<'h>>, Unauthenticated> {
        let invalid = Unauthenticated::InvalidWit;
        let Some(value) = only(headers, &WORKLOAD_IDENTITY_TOKEN).map_err(invalid)? else {
            if headers.contains_key(&WORKLOAD_PROOF_TOKEN) {
                return Err(invalid("there is a proof and no token"));
            }
            return Ok(None);
        };
        let text = value.to_str().unwrap_or_default();
        if !looks_compact(text) {
            return Err(invalid("it is no JWT"));
        }
        if text.len() > MAX_TOKEN_BYTES {
            return Err(invalid("it is longer than 16 KiB"));
        }
        let digest = Digest::of(text.as_bytes());
        if let Some(verified) = cache.find(Place::WorkloadIdentity, &digest) {
            return Ok(Some(Wit { value, verified }));
        }
        let verified = self.verify(text, digest).await.map_err(blame)?;
        let verified = Arc::new(verified);
        cache.keep(Place::WorkloadIdentity, &verified);
        Ok(Some(Wit { value, verified }))
    }

    async fn verify(&self, text: &str, digest: Digest) -> Result<Verified, Unauthenticated> {
        let invalid = Unauthenticated::Invalid;
        let token = Unverified::read(text).ok_or_else(|| invalid("it is no JWT"))?;
        let subject = token.subject().unwrap_or_default();
        let (domain, agent) = workload(subject)
            .ok_or_else(|| invalid("its `sub` is no URI of a workload in a trust domain"))?;
        let mut issuers = self.issuers.iter();
        let issuer = issuers.find(|issuer| issuer.config.trust_domain.as_str() == domain);
        let issuer =
            issuer.ok_or_else(|| Unauthenticated::UnknownTrustDomain(domain.to_owned()))?;
        issuer.verify(token, agent, digest).await
    }

    /// Whether an agent is a workload of a trust domain whose issuer is configured here: nobody else names those.
    pub(crate) fn names(&self, agent: &str) -> bool {
        let rest = agent
            .strip_prefix("spiffe://")
            .or_else(|| agent.strip_prefix("wimse://"));
        let domain = rest.and_then(|rest| rest.split('/').next());
        domain.is_some_and(|domain| {
            let mut issuers = self.issuers.iter();
            issuers.any(|issuer| {
                issuer
                    .config
                    .trust_domain
                    .as_str()
                    .eq_ignore_ascii_case(domain)
            })
        })
    }

    /// Checks the proof that goes with a token, and uses it up: its header value.
    pub(crate) fn prove<'h>(
        &self,
        wit: &Wit<'_>,
        presented: &Presented<'h>,
        origins: &[Origin],
        beside: &[Beside],
    ) -> Result<&'h HeaderValue, Unauthenticated> {
        let invalid = Unauthenticated::InvalidWpt;
        let value = only(presented.headers, &WORKLOAD_PROOF_TOKEN).map_err(invalid)?;
        let value = value.ok_or_else(|| invalid("there is none"))?;
        let Voucher::WitIssuer { key, .. } = &wit.verified.voucher else {
            return Err(invalid("there is no key to check it by"));
        };
        let claims = signed_by(value.to_str().unwrap_or_default(), key).map_err(invalid)?;
        let text = |name| claims.get(name).and_then(Value::as_str);
        if !text("aud").is_some_and(|aud| is_target(aud, presented, origins)) {
            return Err(invalid("its `aud` is not the target of the request"));
        }
        let digest = |name| text(name).and_then(Digest::read);
        if digest("wth") != Some(Digest::of(wit.value.as_bytes())) {
            return Err(invalid("its `wth` is not the hash of the token"));
        }
        covers(&claims, presented.headers, beside).map_err(invalid)?;
        self.use_up(&claims, key.thumbprint())?;
        Ok(value)
    }

    /// Checks the time of a proof, and that it is used for the first time. Last, since one that is refused for something
    /// else is not used up.
    fn use_up(&self, claims: &Map<String, Value>, key: &Digest) -> Result<(), Unauthenticated> {
        let invalid = Unauthenticated::InvalidWpt;
        let now = clock::now();
        let time = |name| seconds(claims, name).map_err(|_| invalid("a time in it is malformed"));
        let expires_at = time("exp")?.ok_or_else(|| invalid("it has no `exp`"))?;
        if expires_at <= now {
            return Err(invalid("it has expired"));
        }
        if expires_at > now.saturating_add(LIFETIME) {
            return Err(invalid("its `exp` is more than 5 minutes ahead"));
        }
        let made = time("iat")?;
        for from in [made, time("nbf")?].into_iter().flatten() {
            if from > now.saturating_add(LEEWAY) {
                return Err(invalid("it is not valid yet"));
            }
        }
        // Whatever was used before the start was made before it, and expires no later than a lifetime after it.
        let since = self.memory.since.saturating_add(LEEWAY);
        let is_of_our_time =
            made.is_some_and(|made| made > since) || expires_at > since.saturating_add(LIFETIME);
        if !is_of_our_time {
            return Err(invalid("it may have been used before the gateway started"));
        }
        let jti = claims.get("jti").and_then(Value::as_str);
        let jti = jti.filter(|jti| !jti.is_empty());
        let jti = jti.ok_or_else(|| invalid("it has no `jti`"))?;
        self.memory
            .used
            .note(key, jti, now)
            .map_err(|error| match error {
                Unauthenticated::ProofReplayed => Unauthenticated::WptReplayed,
                other => other,
            })
    }
}

impl WitIssuer {
    async fn verify(
        &self,
        token: Unverified<'_>,
        agent: AgentId,
        digest: Digest,
    ) -> Result<Verified, Unauthenticated> {
        let invalid = Unauthenticated::Invalid;
        let header = token.header()?;
        if header.kind.as_deref() != Some("wit+jwt") {
            return Err(invalid(
                "its `typ` is not that of a workload identity token",
            ));
        }
        if !self.config.algorithms.contains(&header.algorithm) {
            return Err(invalid("its signature algorithm is not allowed"));
        }
        let issuer = &self.config.issuer;
        if token.issuer().is_some_and(|name| !is_name_of(issuer, name)) {
            return Err(invalid("its `iss` is not that of its trust domain"));
        }
        let found = self.keys.find(header.key_id.as_deref(), header.algorithm);
        let (keys, key) = found.await.map_err(|missing| match missing {
            NoKey::Unknown => invalid("it was signed by a key that its issuer does not publish"),
            NoKey::Unavailable => Unauthenticated::KeysUnavailable(issuer.to_string()),
        })?;
        let expected = Expected {
            algorithm: header.algorithm,
            key: &key,
            audience: None,
            now: clock::now(),
        };
        let checked = token.check_as_of(issuer.to_string(), &expected)?;
        Ok(Verified {
            digest,
            confirmations: Vec::new(),
            agent,
            issuer: checked.issuer,
            expires_at: checked.expires_at,
            issued_at: Some(issued_at(&checked.claims)),
            voucher: Voucher::WitIssuer {
                key: Box::new(holder(&checked.claims).map_err(invalid)?),
                source: Arc::clone(&self.keys),
                keys,
            },
            claims: checked.claims,
            prepared: OnceLock::new(),
        })
    }
}

/// The trust domain and the agent of a `sub`: a `spiffe` or `wimse` URI in its one spelling.
fn workload(subject: &str) -> Option<(&str, AgentId)> {
    let rest = subject
        .strip_prefix("spiffe://")
        .or_else(|| subject.strip_prefix("wimse://"))?;
    let (domain, _) = rest.split_once('/')?;
    // The rules of a SPIFFE ID are those of one spelling, whatever the scheme.
    crate::spiffe_id::workload(&format!("spiffe://{rest}")).ok()?;
    Some((domain, subject.parse().ok()?))
}

/// The key that a token is bound to: `cnf` holds it, with its algorithm, and nothing else.
fn holder(claims: &Map<String, Value>) -> Result<Key, &'static str> {
    let cnf = claims.get("cnf").and_then(Value::as_object);
    let cnf = cnf.ok_or("it has no `cnf`")?;
    let jwk = cnf.get("jwk").filter(|_| cnf.len() == 1);
    let jwk = jwk.ok_or("its `cnf` is not a `jwk` alone")?;
    let is_private = PRIVATE.iter().any(|name| jwk.get(name).is_some());
    let algorithm = jwk.get("alg").and_then(Value::as_str);
    let algorithm = algorithm.and_then(|alg| alg.parse::<Algorithm>().ok());
    let key = Key::read(jwk).filter(|key| algorithm.is_some_and(|alg| key.fits(alg)));
    key.filter(|_| !is_private)
        .ok_or("its `jwk` is no public key with its `alg`")
}

/// The claims of a proof that this key signed.
fn signed_by(proof: &str, key: &Key) -> Result<Map<String, Value>, &'static str> {
    let malformed = "it is no JWT";
    if proof.len() > MAX_TOKEN_BYTES || !looks_compact(proof) {
        return Err(malformed);
    }
    let (message, signature) = proof.rsplit_once('.').ok_or(malformed)?;
    let (header, claims) = message.split_once('.').ok_or(malformed)?;
    let header = object(header).ok_or(malformed)?;
    let text = |name| header.get(name).and_then(Value::as_str);
    if text("typ").map(media_type).as_deref() != Some("wpt+jwt") {
        return Err("its `typ` is not that of a workload proof token");
    }
    if REFUSED.iter().any(|name| header.contains_key(*name)) {
        return Err("its header has a parameter that is not allowed");
    }
    let algorithm = text("alg").and_then(|alg| alg.parse::<Algorithm>().ok());
    let algorithm = algorithm.filter(|algorithm| key.fits(*algorithm));
    let algorithm = algorithm.ok_or("its signature algorithm is not that of the token's key")?;
    let message = message.as_bytes();
    let verified = crypto::verify(signature, message, key.verifying(), algorithm.into());
    if !verified.unwrap_or(false) {
        return Err("its signature is not by the token's key");
    }
    object(claims).ok_or(malformed)
}

/// Whether a proof is for just the tokens of its request: for an access token by `ath`, for a transaction token by `tth`,
/// for what stands in another header by `oth`.
fn covers(
    claims: &Map<String, Value>,
    headers: &HeaderMap,
    beside: &[Beside],
) -> Result<(), &'static str> {
    let digest = |value: &Value| value.as_str().and_then(Digest::read);
    let hash = |name| match claims.get(name) {
        Some(value) => digest(value).map(Some).ok_or("a hash in it is malformed"),
        None => Ok(None),
    };
    let ath = hash("ath")?;
    let is_hash = |(slot, value): (Slot, &HeaderValue)| {
        let token = slot.token(value);
        token.is_some_and(|(_, token)| Some(Digest::of(token.as_bytes())) == ath)
    };
    let is_beside = |token: &Beside| Some(token.digest) == ath;
    if ath.is_some() && !slot::filled(headers).any(is_hash) && !beside.iter().any(is_beside) {
        return Err("its `ath` is not the hash of an access token beside it");
    }
    let mut named = Vec::new();
    if let Some(others) = claims.get("oth") {
        let others = others.as_object().ok_or("a hash in it is malformed")?;
        for (name, hash) in others {
            let slot = Slot::of(name).ok_or("its `oth` has an entry that is not known here")?;
            let value = only(headers, slot.name())?;
            let is_hash = value.is_some_and(|v| digest(hash) == Some(Digest::of(v.as_bytes())));
            if !is_hash {
                return Err("its `oth` has an entry that is not the hash of its header");
            }
            named.push(slot);
        }
    }
    let is_named = |token: &Beside| token.header.is_some_and(|slot| named.contains(&slot));
    let is_covered = |token: &Beside| ath == Some(token.digest) || is_named(token);
    if !beside.iter().all(is_covered) {
        return Err("it does not cover a token beside it (`ath`, `oth`)");
    }
    let transaction = only(headers, &TXN_TOKEN)?;
    if hash("tth")? != transaction.map(|value| Digest::of(value.as_bytes())) {
        return Err("its `tth` is not the hash of the transaction token");
    }
    Ok(())
}

/// The one value of a header, if it is there.
fn only<'h>(
    headers: &'h HeaderMap,
    name: &HeaderName,
) -> Result<Option<&'h HeaderValue>, &'static str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next();
    match values.next() {
        Some(_) => Err("a header stands twice"),
        None => Ok(value),
    }
}

fn object(part: &str) -> Option<Map<String, Value>> {
    strict_json::object(&URL_SAFE_NO_PAD.decode(part).ok()?)
}

/// What is wrong with a token, told as that of this kind.
fn blame(error: Unauthenticated) -> Unauthenticated {
    match error {
        Unauthenticated::Invalid(why) => Unauthenticated::InvalidWit(why),
        Unauthenticated::Expired => Unauthenticated::InvalidWit("it has expired"),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn b8_what_covers_a_header_does_not_cover_the_query() {
        let hash = |text: &str| {
            URL_SAFE_NO_PAD.encode(ring::digest::digest(&ring::digest::SHA256, text.as_bytes()))
        };
        let slot = Slot::XAmzSecurityToken;
        let mut headers = HeaderMap::new();
        headers.insert(slot.name(), HeaderValue::from_static("in-header"));
        let beside = |header, text: &str| Beside {
            header,
            digest: Digest::of(text.as_bytes()),
        };
        let tokens = [beside(Some(slot), "in-header"), beside(None, "in-query")];
        let mut claims = Map::new();
        let oth = json!({ slot.name().as_str(): hash("in-header") });
        claims.insert("oth".to_owned(), oth);
        let [in_header, _] = &tokens;
        assert_eq!(
            covers(&claims, &headers, std::slice::from_ref(in_header)),
            Ok(())
        );
        assert!(covers(&claims, &headers, &tokens).is_err());
        claims.insert("ath".to_owned(), hash("in-query").into());
        assert_eq!(covers(&claims, &headers, &tokens), Ok(()));
    }
}
