//! Security Event Tokens (RFC 8417): what a transmitter says happened to somebody. They prove nobody's identity.

use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::Validation;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};
use url::Url;

use crate::key_source::{KeySource, NoKey, Pace};
use crate::unverified::{MAX_TOKEN_BYTES, Unverified, looks_compact, seconds};
use crate::{AgentTemplate, Algorithm, Unauthenticated, clock, strict_json};

/// How far ahead a transmitter's clock may be, in seconds: what it tells is lost if it is refused.
const AHEAD: i64 = 60;

/// RFC 8417 section 2.3.
const TYPE: &str = "secevent+jwt";

/// Whose events are believed, and of whom they may be.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TransmitterConfig {
    /// The `iss` of its tokens, letter by letter.
    pub issuer: String,
    /// The `aud` that must be among a token's.
    pub audience: String,
    /// The signature algorithms accepted; never `none`, never symmetric.
    pub algorithms: Vec<Algorithm>,
    /// Its key set, over `https`, or from loopback.
    pub jwks_uri: Url,
    /// How old an event may be.
    pub max_age: Duration,
    /// How an owner's name is made of a subject identifier (RFC 9493), such as `{email}`.
    pub owner: Option<AgentTemplate>,
    /// How an agent's id is made of one.
    pub agent: Option<AgentTemplate>,
    /// The `iss` of the subjects that it may speak of, where they have one.
    pub subject_issuer: String,
}

/// A transmitter of security events, with its keys.
#[derive(Debug)]
pub struct Transmitter {
    config: TransmitterConfig,
    keys: Arc<KeySource>,
}

/// Somebody whom an event is about, by the names that tasks know.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum EventSubject {
    /// An owner of tasks.
    Owner(String),
    /// An agent.
    Agent(String),
}

/// A token whose signature, issuer, audience and time were right.
#[derive(Debug)]
#[must_use]
pub struct SecurityEvents {
    jti: String,
    issued_at: i64,
    subjects: Vec<EventSubject>,
    events: Map<String, Value>,
}

/// Why a token tells nothing.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidSet {
    /// It is not what RFC 8417 and the Shared Signals Framework say.
    #[error("{0}")]
    Malformed(&'static str),
    /// Its signature is wrong, or by a key that the transmitter doesn't publish.
    #[error("{0}")]
    Key(&'static str),
    /// It is of somebody else.
    #[error("its `iss` is not that of the transmitter")]
    Issuer,
    /// It is for somebody else.
    #[error("it is meant for another audience")]
    Audience,
    /// The transmitter's keys can't be had: it may be right.
    #[error("keys of `{0}` can't be had")]
    KeysUnavailable(String),
}

impl Transmitter {
    /// Makes one. Nothing is fetched here: its keys are when its first token comes.
    pub fn new(config: TransmitterConfig) -> Self {
        crate::crypto::install();
        let keys = KeySource::new(&config.jwks_uri, Some(&config.jwks_uri), Pace::default());
        Self {
            config,
            keys: Arc::new(keys),
        }
    }

    /// What it was made of.
    pub fn config(&self) -> &TransmitterConfig {
        &self.config
    }

    /// Whether a token claims to be of this transmitter. Nothing of that is believed.
    pub fn is_claimed_by(&self, token: &str) -> bool {
        let token = (token.len() <= MAX_TOKEN_BYTES && looks_compact(token))
            .then(|| Unverified::read(token))
            .flatten();
        token.is_some_and(|token| token.issuer() == Some(&self.config.issuer))
    }

    /// Verifies a token of this transmitter.
    pub async fn verify(&self, token: &str) -> Result<SecurityEvents, InvalidSet> {
        let malformed = InvalidSet::Malformed;
        if token.len() > MAX_TOKEN_BYTES {
            return Err(malformed("it is longer than 16 KiB"));
        }
        let unverified = looks_compact(token).then(|| Unverified::read(token));
        let unverified = unverified
            .flatten()
            .ok_or(InvalidSet::Malformed("it is no JWT"))?;
        let header = unverified.header().map_err(|cause| told(&cause))?;
        if header.kind.as_deref() != Some(TYPE) {
            return Err(malformed("its `typ` is not `secevent+jwt`"));
        }
        if !self.config.algorithms.contains(&header.algorithm) {
            return Err(malformed("its signature algorithm is not allowed"));
        }
        if unverified.issuer() != Some(&self.config.issuer) {
            return Err(InvalidSet::Issuer);
        }
        let found = self
            .keys
            .find(header.key_id.as_deref(), header.algorithm)
            .await;
        let (_, key) = found.map_err(|missing| match missing {
            NoKey::Unknown => {
                InvalidSet::Key("it was signed by a key that its issuer does not publish")
            }
            NoKey::Unavailable => InvalidSet::KeysUnavailable(self.config.jwks_uri.to_string()),
        })?;
        let mut validation = Validation::new(header.algorithm.into());
        // All claims are judged below: each has its own word for whoever sent it.
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_aud = false;
        jsonwebtoken::decode::<IgnoredAny>(token, &key, &validation)
            .map_err(|_| InvalidSet::Key("its signature is wrong"))?;
        let claims = strict_json::object(unverified.payload());
        self.read(claims.ok_or(InvalidSet::Malformed("a claim stands twice"))?)
    }

    /// Reads claims that the transmitter signed.
    fn read(&self, mut claims: Map<String, Value>) -> Result<SecurityEvents, InvalidSet> {
        let malformed = InvalidSet::Malformed;
        if !is_for(&claims, &self.config.audience) {
            return Err(InvalidSet::Audience);
        }
        // What has one of these may be a token of another kind (Shared Signals Framework 1.0).
        if ["sub", "exp"].iter().any(|name| claims.contains_key(*name)) {
            return Err(malformed(
                "it has a `sub` or `exp`, as no security event has",
            ));
        }
        let issued_at = seconds(&claims, "iat").map_err(|cause| told(&cause))?;
        let issued_at = issued_at.ok_or(InvalidSet::Malformed("it has no `iat`"))?;
        let now = clock::now();
        if issued_at > now.saturating_add(AHEAD) {
            return Err(malformed("it is not valid yet"));
        }
        let max_age = i64::try_from(self.config.max_age.as_secs()).unwrap_or(i64::MAX);
        if issued_at < now.saturating_sub(max_age) {
            return Err(malformed("it is too old"));
        }
        let jti = claims.get("jti").and_then(Value::as_str);
        let jti = jti.filter(|jti| !jti.is_empty());
        let jti = jti
            .ok_or(InvalidSet::Malformed("it has no `jti`"))?
            .to_owned();
        let Some(Value::Object(events)) = claims.remove("events") else {
            return Err(malformed("its `events` is no object"));
        };
        if events.is_empty() || events.values().any(|event| !event.is_object()) {
            return Err(malformed("its `events` holds no event"));
        }
        let subjects = match claims.get("sub_id") {
            Some(Value::Object(subject)) => self.subjects(subject),
            Some(_) => return Err(malformed("its `sub_id` is no object")),
            None => Vec::new(),
        };
        Ok(SecurityEvents {
            jti,
            issued_at,
            subjects,
            events,
        })
    }

    /// Whom a subject identifier (RFC 9493) names; nobody where it is of another issuer, or has not what names are made of.
    fn subjects(&self, subject: &Map<String, Value>) -> Vec<EventSubject> {
        let identifiers: Vec<&Map<String, Value>> = match subject.get("format") {
            Some(format) if format == "aliases" => {
                let all = subject.get("identifiers").and_then(Value::as_array);
                let all = all.map(Vec::as_slice).unwrap_or_default().iter();
                all.filter_map(Value::as_object).collect()
            }
            // The user of a complex subject: a device or a session of it is its, whole (SSF 1.0).
            Some(format) if format == "complex" => {
                let user = subject.get("user").and_then(Value::as_object);
                user.into_iter().collect()
            }
            Some(_) | None => vec![subject],
        };
        let mut named = Vec::new();
        for identifier in identifiers {
            let issuer = identifier.get("iss").and_then(Value::as_str);
            if issuer.is_some_and(|issuer| issuer != self.config.subject_issuer) {
                continue;
            }
            let owner = self.config.owner.as_ref();
            let owner = owner.and_then(|template| template.fill_in(identifier).ok());
            named.extend(owner.map(EventSubject::Owner));
            let agent = self.config.agent.as_ref();
            let agent = agent.and_then(|template| template.resolve(identifier).ok());
            named.extend(agent.map(|agent| EventSubject::Agent(agent.as_str().to_owned())));
        }
        named
    }
}

impl SecurityEvents {
    /// Its id, unique to its transmitter.
    pub fn jti(&self) -> &str {
        &self.jti
    }

    /// When it was issued, in seconds since the epoch.
    pub fn issued_at(&self) -> i64 {
        self.issued_at
    }

    /// Whom it is about.
    pub fn subjects(&self) -> &[EventSubject] {
        &self.subjects
    }

    /// The events by their URI.
    pub fn events(&self) -> impl Iterator<Item = (&str, &Map<String, Value>)> {
        let events = self.events.iter();
        events.filter_map(|(uri, event)| Some((uri.as_str(), event.as_object()?)))
    }
}

fn told(cause: &Unauthenticated) -> InvalidSet {
    InvalidSet::Malformed(match cause {
        Unauthenticated::Invalid(problem) => problem,
        _ => "it is malformed",
    })
}

fn is_for(claims: &Map<String, Value>, audience: &str) -> bool {
    match claims.get("aud") {
        Some(Value::String(one)) => one == audience,
        Some(Value::Array(all)) => all.iter().any(|one| one == audience),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn transmitter() -> Transmitter {
        Transmitter::new(TransmitterConfig {
            issuer: "https://idp.example".to_owned(),
            audience: "https://remit.example".to_owned(),
            algorithms: vec![Algorithm::ES256],
            jwks_uri: "https://idp.example/jwks".parse().unwrap(),
            max_age: Duration::from_secs(3600),
            owner: Some("{email}".parse().unwrap()),
            agent: Some("{sub}".parse().unwrap()),
            subject_issuer: "https://idp.example".to_owned(),
        })
    }

    fn claims() -> Value {
        json!({
            "iss": "https://idp.example", "aud": "https://remit.example", "iat": clock::now(), "jti": "1",
            "sub_id": {"format": "email", "email": "anna@example.org"},
            "events": {"https://example.org/happened": {}},
        })
    }

    #[track_caller]
    #[expect(
        clippy::needless_pass_by_value,
        reason = "tests read better without `&`"
    )]
    fn check(change: Value, expect: Result<(), &str>) {
        let mut all = claims();
        for (name, value) in change.as_object().unwrap() {
            all[name] = value.clone();
        }
        all.as_object_mut()
            .unwrap()
            .retain(|_, value| !value.is_null());
        let read = transmitter().read(all.as_object().unwrap().clone());
        let read = read.map(drop).map_err(|error| error.to_string());
        assert_eq!(read, expect.map_err(str::to_owned));
    }

    #[test]
    fn a_plain_event_is_read() {
        check(json!({}), Ok(()));
        check(json!({"aud": ["other", "https://remit.example"]}), Ok(()));
        check(json!({"sub_id": null}), Ok(()));
    }

    #[test]
    fn it_is_for_us() {
        let other = Err("it is meant for another audience");
        check(json!({"aud": "https://other.example"}), other);
        check(json!({"aud": []}), other);
        check(json!({"aud": null}), other);
    }

    #[test]
    fn what_may_be_another_token_is_none() {
        let other = Err("it has a `sub` or `exp`, as no security event has");
        check(json!({"sub": "anna"}), other);
        check(json!({"exp": clock::now() + 60}), other);
    }

    #[test]
    fn its_time_is_now_or_not_long_ago() {
        check(json!({"iat": null}), Err("it has no `iat`"));
        // A clock that is a little ahead loses no revocation.
        check(json!({"iat": clock::now() + AHEAD - 5}), Ok(()));
        check(
            json!({"iat": clock::now() + AHEAD + 60}),
            Err("it is not valid yet"),
        );
        check(json!({"iat": clock::now() - 3500}), Ok(()));
        check(json!({"iat": clock::now() - 3700}), Err("it is too old"));
        check(
            json!({"iat": "now"}),
            Err("a time in it is no number of seconds"),
        );
    }

    #[test]
    fn it_has_an_id_and_events() {
        check(json!({"jti": null}), Err("it has no `jti`"));
        check(json!({"jti": ""}), Err("it has no `jti`"));
        check(json!({"events": null}), Err("its `events` is no object"));
        check(json!({"events": {}}), Err("its `events` holds no event"));
        check(
            json!({"events": {"a": 1}}),
            Err("its `events` holds no event"),
        );
        check(json!({"sub_id": "anna"}), Err("its `sub_id` is no object"));
    }

    #[track_caller]
    #[expect(
        clippy::needless_pass_by_value,
        reason = "tests read better without `&`"
    )]
    fn names(subject: Value, expect: &[EventSubject]) {
        let named = transmitter().subjects(subject.as_object().unwrap());
        assert_eq!(named, expect);
    }

    #[test]
    fn a_subject_is_named_by_what_it_has() {
        let anna = EventSubject::Owner("anna@example.org".to_owned());
        let job = EventSubject::Agent("job".to_owned());
        let email = json!({"format": "email", "email": "anna@example.org"});
        names(email.clone(), std::slice::from_ref(&anna));
        let known = json!({"format": "iss_sub", "iss": "https://idp.example", "sub": "job"});
        names(known.clone(), std::slice::from_ref(&job));
        let foreign = json!({"format": "iss_sub", "iss": "https://other.example", "sub": "job"});
        names(foreign, &[]);
        names(json!({"format": "opaque", "id": "7"}), &[]);
        let all = json!({"format": "aliases", "identifiers": [email, known]});
        names(all, &[anna.clone(), job]);
        let user = json!({
            "format": "complex", "user": email, "session": {"format": "opaque", "id": "7"},
        });
        names(user, &[anna]);
        names(json!({"format": "complex", "session": email}), &[]);
    }
}
