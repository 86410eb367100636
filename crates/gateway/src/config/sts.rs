//! `provider: sts` and `inject: { sigv4: … }`: sessions of AWS roles, and the signatures that are made with AWS keys.

use std::path::PathBuf;
use std::time::Duration;

use credentials::{
    Injection, LONGEST_POLICY, Place as Where, SecretRef, SessionTag, SigV4, SigV4Location,
    StsBase, StsConfig,
};
use http::HeaderName;
use serde_json::{Map, Value, json};
use url::Url;

use super::binding::{ProviderConfig, RawInject};
use super::collection::OneOrMore;
use super::endpoint::{Asked, check_timeout, check_url};
use super::mistake::{At, Notes, Place};
use super::oauth::RawStatement;
use super::shape::{Here, Shape, section, words};

words! { SessionTag { "task" => Self::Task, "agent" => Self::Agent, "owner" => Self::Owner } }
words! { SigV4Location { "header" => Self::Header, "query" => Self::Query } }

section! {
    /// A session of an AWS role, by AWS's Security Token Service or who speaks its protocol.
    struct RawSts (provider: "sts") {
        /// The region of STS, such as `eu-west-1`.
        region: Word = required;
        /// The role.
        role_arn: Arn = required;
        /// By what it is assumed: keys of the account (`AssumeRole`), or one of the next two.
        keys: RawKeys = optional;
        /// What the gateway signs about the task (`AssumeRoleWithWebIdentity`): the account trusts the gateway as an identity provider. AWS takes no `EdDSA`.
        statement: RawStatement = optional;
        /// A token of somebody else whom the account trusts, such as the cluster's (`AssumeRoleWithWebIdentity`); read for each session.
        token: SecretRef = optional;
        /// Roles that a decision may ask for instead, by `credential.narrow.role_arn`.
        other_role_arns: Vec<At<Arn>> = default([]);
        /// The external id that the role's trust policy asks for; with `keys`.
        external_id: String = optional;
        /// What a session tells of its task. The role's trust policy must allow `sts:TagSession`, or there are none: `[]`. With `token` there are none.
        tags: Vec<At<SessionTag>> = default(["task", "agent", "owner"]);
        /// Which of these stay where a session assumes another role.
        transitive_tags: Vec<At<SessionTag>> = default([]);
        /// The most that a session may do, of what the role may. A decision narrows it by `credential.narrow.policy`; of both at once only what both allow is allowed, for which this has one statement, with `Effect`, `Action` and `Resource` alone.
        policy: Map<String, Value> = optional;
        /// The longest that a session lives: from `15m` to `12h`, and no longer than the role says. Tasks that are shorter have one of `15m`, which is used no longer than the task.
        ttl: Duration = default("1h");
        /// Where STS is: `https://`, or `http://` on loopback. That of the region unless given.
        endpoint: Url = optional;
        /// The authorities that vouch for it, PEM. The system's roots unless given.
        ca: PathBuf = optional;
        /// How long obtaining one may take; at most `30s`.
        timeout: Duration = default("10s");
        /// Where its keys enter a request: `sigv4`, unless the tool says so already.
        inject: OneOrMore<RawInject> = optional;
    }
}

section! {
    /// Keys of AWS.
    struct RawKeys {
        /// The access key id.
        access_key_id: SecretRef = required;
        /// The secret access key.
        secret_access_key: SecretRef = required;
        /// The session token, where they are a session's.
        session_token: SecretRef = optional;
    }
}

section! {
    /// A signature of AWS, version 4.
    struct RawSigV4 {
        /// The service's name in signatures, such as `s3`.
        service: Word = required;
        /// Its region, such as `eu-west-1`.
        region: Word = required;
        /// Where the signature stands: in headers, or in the query as in a presigned URL.
        location: SigV4Location = default("header");
        /// Headers of S3 that agents may send though they reach further than the path that is judged, such as `x-amz-copy-source`: another object is read, or others may read this one. Calls with one that is not listed are refused with `header_not_signed`. Policy sees them in `request.headers`.
        allow_headers: Vec<At<HeaderName>> = default([]);
    }
}

/// A service or a region.
#[derive(Clone, Debug)]
pub(super) struct Word(String);

impl Shape for Word {
    fn schema() -> Value {
        json!({ "type": "string", "title": "service or region", "pattern": "^[a-z0-9-]+$", "examples": ["s3", "eu-west-1"] })
    }
    fn read(here: &Here<'_>, notes: &mut Notes) -> Option<Self> {
        let word = String::read(here, notes)?;
        let fits = |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
        if !word.bytes().all(fits) || word.is_empty() {
            return here.wrong_value("expected lower-case letters, digits and hyphens", notes);
        }
        Some(Self(word))
    }
}

/// The name of a role.
#[derive(Clone, Debug)]
pub(super) struct Arn(String);

impl Shape for Arn {
    fn schema() -> Value {
        json!({ "type": "string", "title": "ARN", "pattern": "^arn:", "minLength": 20, "maxLength": 2048,
                "examples": ["arn:aws:iam::123456789012:role/agents"] })
    }
    fn read(here: &Here<'_>, notes: &mut Notes) -> Option<Self> {
        let arn = String::read(here, notes)?;
        // AWS STS API reference, `RoleArn`.
        let is_arn = arn.starts_with("arn:") && (20..=2048).contains(&arn.len());
        if !is_arn || !arn.bytes().all(|byte| byte.is_ascii_graphic()) {
            let expects =
                "expected the ARN of a role, such as `arn:aws:iam::123456789012:role/agents`";
            return here.wrong_value(expects, notes);
        }
        Some(Self(arn))
    }
}

/// AWS STS API reference, `DurationSeconds`.
const LIVES: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(900)..=Duration::from_secs(12 * 3600);

impl RawSts {
    pub(super) fn parse(
        self,
        notes: &mut Notes,
    ) -> (Option<ProviderConfig>, Option<At<OneOrMore<RawInject>>>) {
        let inject = self.inject.clone();
        let place = self.role_arn.as_ref().map(|arn| arn.place.clone());
        let asked = place.and_then(|place| self.asked(&place, notes));
        let provider = asked.map(|asked| ProviderConfig::Sts(Box::new(asked)));
        (provider, inject)
    }

    /// `place` is where keys are found to be missing.
    fn asked(self, place: &Place, notes: &mut Notes) -> Option<Asked<StsConfig>> {
        self.check(notes);
        let region = self.region?.value.0;
        let endpoint = match self.endpoint {
            Some(endpoint) => endpoint.value,
            None => regional(&region)?,
        };
        let with_token = self.token.is_some();
        let given = Given {
            keys: self.keys,
            statement: self.statement,
            token: self.token,
        };
        let base = base(given, place, notes);
        let tags = values(self.tags?.value);
        Some(Asked {
            config: StsConfig {
                endpoint,
                region,
                authorities: Vec::new(),
                base: base?,
                role_arn: self.role_arn?.value.0,
                other_role_arns: values(self.other_role_arns?.value)
                    .into_iter()
                    .map(|arn| arn.0)
                    .collect(),
                external_id: self.external_id.map(|id| id.value),
                tags: if with_token { Vec::new() } else { tags },
                transitive_tags: values(self.transitive_tags?.value),
                policy: self.policy.map(|policy| policy.value),
                ttl: self.ttl?.value,
                timeout: self.timeout?.value,
            },
            ca: self.ca.map(|ca| ca.value),
        })
    }

    fn check(&self, notes: &mut Notes) {
        check_url(self.endpoint.as_ref(), notes);
        check_timeout(self.timeout.as_ref(), notes);
        if let Some(ttl) = &self.ttl
            && !LIVES.contains(&ttl.value)
        {
            notes.mistake(&ttl.place, "wrong_value", "it is from `15m` to `12h`");
        }
        if let Some(policy) = &self.policy {
            let length = json!(policy.value).to_string().chars().count();
            if length > LONGEST_POLICY {
                let message =
                    format!("AWS takes policies of {LONGEST_POLICY} characters; this has {length}");
                notes.mistake(&policy.place, "wrong_value", message);
            }
            if !policy.value.contains_key("Statement") {
                notes.mistake(&policy.place, "wrong_value", "a policy has a `Statement`");
            }
        }
        if let Some(id) = &self.external_id
            && self.keys.is_none()
        {
            notes.mistake(&id.place, "wrong_base", "`external_id` goes with `keys`");
        }
        let tags = self.tags.iter().flat_map(|tags| &tags.value);
        let tags: Vec<SessionTag> = tags.map(|tag| tag.value).collect();
        for tag in self.transitive_tags.iter().flat_map(|tags| &tags.value) {
            if !tags.contains(&tag.value) || self.token.is_some() {
                let message = "only a tag that there is can stay: name it in `tags` too";
                notes.mistake(&tag.place, "wrong_value", message);
            }
        }
    }
}

fn values<T>(list: Vec<At<T>>) -> Vec<T> {
    list.into_iter().map(|at| at.value).collect()
}

/// AWS STS endpoints and quotas, AWS General Reference.
fn regional(region: &str) -> Option<Url> {
    let china = if region.starts_with("cn-") { ".cn" } else { "" };
    format!("https://sts.{region}.amazonaws.com{china}/")
        .parse()
        .ok()
}

/// By what a role may be assumed.
struct Given {
    keys: Option<At<RawKeys>>,
    statement: Option<At<RawStatement>>,
    token: Option<At<SecretRef>>,
}

/// By what a role is assumed: one of the three.
fn base(given: Given, place: &Place, notes: &mut Notes) -> Option<StsBase> {
    match (given.keys, given.statement, given.token) {
        (Some(keys), None, None) => {
            let keys = keys.value;
            Some(StsBase::Keys {
                access_key_id: keys.access_key_id?.value,
                secret_access_key: keys.secret_access_key?.value,
                session_token: keys.session_token.map(|token| token.value),
            })
        }
        (None, Some(statement), None) => statement.value.parse(notes).map(StsBase::Statement),
        (None, None, Some(token)) => Some(StsBase::Token(token.value)),
        _ => {
            let message = "a role is assumed by one of `keys`, `statement` and `token`";
            notes.mistake(place, "wrong_base", message);
            None
        }
    }
}

impl RawSigV4 {
    pub(super) fn parse(self) -> Option<Where> {
        Some(Where::SigV4(SigV4 {
            service: self.service?.value.0,
            region: self.region?.value.0,
            location: self.location?.value,
            allow_headers: values(self.allow_headers?.value),
        }))
    }
}

/// Keys of AWS sign: as a bearer they would leave the gateway.
pub(super) fn check_injections(
    provider: &ProviderConfig,
    injections: &[Injection],
    (place, notes): (&Place, &mut Notes),
) {
    let is_sts = matches!(provider, ProviderConfig::Sts(_));
    let signs = |one: &Injection| matches!(one.place, Where::SigV4(_)) || one.field.is_some();
    if is_sts && !injections.iter().all(signs) {
        let message = "keys of AWS sign: `inject: { sigv4: { service: s3, region: eu-west-1 } }`";
        notes.mistake(place, "wrong_injection", message);
    }
}
