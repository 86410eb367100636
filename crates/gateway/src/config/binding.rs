//! `credentials` of a tool: which secret it takes for an access class, and where that enters a request.

use std::time::Duration;

use call::{Placeholder, Spot};
use credentials::{
    AzureConfig, CertificateSource, GithubAppConfig, GoogleConfig, Injection, Kept, KeptField,
    Place as Where, SecretRef, Statement, StsConfig, User,
};
use http::HeaderName;
use jiff::civil::Date;
use serde_json::{Value, json};
use tasks::Access;

use super::azure::RawAzure;
use super::certificate::RawSpiffeProvider;
use super::collection::{NonEmpty, OneOrMore, Table};
use super::endpoint::Asked;
use super::github_app::RawGithubApp;
use super::google::RawGoogle;
use super::kubernetes::{KubernetesAsked, RawKubernetesSecret, RawKubernetesToken};
use super::mistake::{At, Notes, Place};
use super::node::Kind;
use super::oauth::{OAuthAsked, RawJwt, RawOAuth};
use super::shape::{Here, Shape, not_a_choice, section};
use super::sts::{self, RawSigV4, RawSts};
use super::usage::Pointer;
use super::vault::{RawVaultSecret, VaultSecretAsked};

/// The credential that a tool takes for an access class.
#[derive(Clone, Debug)]
pub struct BindingConfig {
    /// The access class.
    pub access: Access,
    /// Who obtains it.
    pub provider: ProviderConfig,
    /// Where it goes.
    pub injections: Vec<Injection>,
}

/// Who obtains a secret.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ProviderConfig {
    /// A bridge to a legacy key.
    Static {
        /// Where the key is kept.
        kept: Kept,
        /// The last day on which it is used.
        until: Date,
    },
    /// A command that prints a secret.
    Cmd {
        /// The program and its arguments; at least the program.
        argv: Vec<String>,
        /// How long it may run.
        timeout: Duration,
        /// How long its secrets live, where it doesn't say.
        ttl: Option<Duration>,
    },
    /// A Vault.
    Vault(Box<VaultSecretAsked>),
    /// A Kubernetes cluster, for a secret that it keeps.
    KubernetesSecret {
        /// Which.
        asked: KubernetesAsked,
        /// Its keys that are taken; all, if none are named.
        keys: Vec<String>,
    },
    /// A Kubernetes cluster, for a token of a service account.
    KubernetesToken {
        /// Of which.
        asked: KubernetesAsked,
        /// Whom it is for; the API server, if nobody is named.
        audiences: Vec<String>,
    },
    /// An authorization server.
    OAuth(Box<OAuthAsked>),
    /// A certificate of the gateway's own.
    Spiffe(CertificateSource),
    /// The STS of AWS.
    Sts(Box<Asked<StsConfig>>),
    /// A GitHub App.
    GithubApp(Box<Asked<GithubAppConfig>>),
    /// Google Cloud.
    Google(Box<Asked<GoogleConfig>>),
    /// Microsoft Entra ID.
    Azure(Box<Asked<AzureConfig>>),
    /// The gateway itself, by its signature.
    Jwt {
        /// What it signs.
        statement: Statement,
        /// The most that the `scope` may hold.
        scopes: Vec<String>,
        /// The longest life.
        ttl: Duration,
    },
}

section! {
    /// Credentials by access class.
    struct RawBindings {
        /// For operations that look: one, or a list where a call takes several.
        read: OneOrMore<RawBinding> = optional;
        /// For operations that change.
        write: OneOrMore<RawBinding> = optional;
        /// For operations that make something run.
        execute: OneOrMore<RawBinding> = optional;
    }
}

/// A credential; its other keys are those of its provider.
#[derive(Clone, Debug)]
pub(super) enum RawBinding {
    Static(Box<RawStatic>),
    Cmd(Box<RawCmd>),
    OAuth(Box<RawOAuth>),
    Jwt(Box<RawJwt>),
    Spiffe(Box<RawSpiffeProvider>, Place),
    Sts(Box<RawSts>),
    GithubApp(Box<RawGithubApp>),
    Google(Box<RawGoogle>),
    Azure(Box<RawAzure>),
    Vault(Box<RawVaultSecret>),
    KubernetesSecret(Box<RawKubernetesSecret>),
    KubernetesToken(Box<RawKubernetesToken>),
}

section! {
    /// A bridge to a legacy key, until a date.
    struct RawStatic (provider: "static") {
        /// Where the key is kept.
        secret: SecretRef = optional;
        /// In its stead, several keys that go together, by name: where each is kept.
        fields: Table<SecretRef> = optional;
        /// The fields that answers may show, such as a user's name; the others are kept out of them.
        public: Vec<At<String>> = default([]);
        /// The last day on which it is used; after it calls are refused.
        bridge_until: Date = required;
        /// Where the secret enters a request, or a list where its fields go to several places; as the tool says unless given.
        inject: OneOrMore<RawInject> = optional;
    }
}

section! {
    /// A command that prints a secret.
    struct RawCmd (provider: "cmd") {
        /// The program and its arguments; the wish comes on its standard input, as JSON.
        command: NonEmpty<String> = required;
        /// How long it may run.
        timeout: Duration = default("10s");
        /// How long its secrets live, where it doesn't say.
        ttl: Duration = optional;
        /// Where the secret enters a request, or a list where its fields go to several places; as the tool says unless given.
        inject: OneOrMore<RawInject> = optional;
    }
}

section! {
    /// Where a secret enters a request: one of `header`, `query`, `basic`, `basic_field`, `cookie`, `json`, `form`, `placeholder` and `sigv4`.
    struct RawInject {
        /// A header.
        header: HeaderName = optional;
        /// What stands before the secret in the header, such as `"Bearer "`.
        prefix: String = optional;
        /// A key of the query.
        query: String = optional;
        /// The user of HTTP basic authentication; the secret is the password.
        basic: String = optional;
        /// The field that holds the user of HTTP basic authentication; the secret is the password.
        basic_field: String = optional;
        /// A cookie; those that agents send come off in any case.
        cookie: String = optional;
        /// A place in a JSON body, as a JSON pointer: `/api_key`, on MCP `/params/arguments/api_key`. Objects on the way to it are made.
        json: Pointer = optional;
        /// A field of a form in the body.
        form: String = optional;
        /// A text that agents write where the key goes, such as `REMIT_SECRET_KEY`: once, in one of `places`. A call without it is refused.
        placeholder: String = optional;
        /// Where a placeholder may stand: `header NAME` (alone, after a scheme or as password of basic), `query KEY`, `json POINTER`, `form FIELD`.
        places: Vec<At<RawSpot>> = optional;
        /// A signature of AWS, version 4, by the credential's `access_key_id`, `secret_access_key` and `session_token`.
        sigv4: RawSigV4 = optional;
        /// Which field of the credential goes there, where it has several, such as `username` and `password`.
        field: String = optional;
    }
}

const PROVIDERS: [&str; 12] = [
    "static",
    "cmd",
    "oauth",
    "jwt",
    "spiffe",
    "github_app",
    "google",
    "azure",
    "vault",
    "kubernetes_secret",
    "kubernetes_token",
    "sts",
];

impl Shape for RawBinding {
    fn schema() -> Value {
        json!({ "oneOf": [RawStatic::schema(), RawCmd::schema(), RawOAuth::schema(), RawJwt::schema(),
            RawGithubApp::schema(), RawGoogle::schema(), RawAzure::schema(), RawSpiffeProvider::schema(),
            RawVaultSecret::schema(), RawKubernetesSecret::schema(), RawKubernetesToken::schema(), RawSts::schema(),
        ] })
    }

    fn read(here: &Here<'_>, notes: &mut Notes) -> Option<Self> {
        let Kind::Map(pairs) = &here.node.kind else {
            return here.wrong_type("a mapping", notes);
        };
        let Some(pair) = pairs.iter().find(|pair| pair.key == "provider") else {
            let message = "key `provider` is missing: `provider: oauth`, `jwt`, `spiffe`, `cmd` or `static`, \
                           its keys beside it";
            notes.mistake(&here.section_place(), "missing_key", message);
            return None;
        };
        let provider = here.at_key("provider", pair.mark, &pair.node);
        match provider.text("the name of a provider", notes)? {
            "static" => RawStatic::read(here, notes).map(|raw| Self::Static(Box::new(raw))),
            "cmd" => RawCmd::read(here, notes).map(|raw| Self::Cmd(Box::new(raw))),
            "oauth" => RawOAuth::read(here, notes).map(|raw| Self::OAuth(Box::new(raw))),
            "sts" => RawSts::read(here, notes).map(|raw| Self::Sts(Box::new(raw))),
            "jwt" => RawJwt::read(here, notes).map(|raw| Self::Jwt(Box::new(raw))),
            "spiffe" => {
                let raw = RawSpiffeProvider::read(here, notes)?;
                Some(Self::Spiffe(Box::new(raw), here.section_place()))
            }
            "github_app" => {
                RawGithubApp::read(here, notes).map(|raw| Self::GithubApp(Box::new(raw)))
            }
            "google" => RawGoogle::read(here, notes).map(|raw| Self::Google(Box::new(raw))),
            "azure" => RawAzure::read(here, notes).map(|raw| Self::Azure(Box::new(raw))),
            "vault" => RawVaultSecret::read(here, notes).map(|raw| Self::Vault(Box::new(raw))),
            "kubernetes_secret" => RawKubernetesSecret::read(here, notes)
                .map(|raw| Self::KubernetesSecret(Box::new(raw))),
            "kubernetes_token" => RawKubernetesToken::read(here, notes)
                .map(|raw| Self::KubernetesToken(Box::new(raw))),
            other => provider.wrong_value(not_a_choice(other, &PROVIDERS), notes),
        }
    }
}

impl RawBindings {
    /// Parses all; `inject` is the tool's own, none if that is wrong.
    pub(super) fn parse(
        self,
        inject: Option<&[Injection]>,
        notes: &mut Notes,
    ) -> Option<Vec<BindingConfig>> {
        let classes = [
            (Access::Read, self.read),
            (Access::Write, self.write),
            (Access::Execute, self.execute),
        ];
        let mut parsed = Vec::new();
        for (access, raw) in classes {
            let mut taken: Vec<Injection> = Vec::new();
            for At { value, place } in raw.into_iter().flat_map(|raw| raw.value.0) {
                let (provider, own) = value.parse(notes);
                let injections = match own {
                    // It is shown on the connection, wherever the tool has its secrets.
                    _ if matches!(provider, Some(ProviderConfig::Spiffe(_))) => {
                        Some(vec![Where::Certificate.into()])
                    }
                    Some(own) => own.value.parse(notes),
                    None => inject.map(<[Injection]>::to_vec),
                };
                if let (Some(provider), Some(injections)) = (&provider, &injections) {
                    sts::check_injections(provider, injections, (&place, notes));
                }
                for injection in injections.iter().flatten() {
                    if taken.iter().any(|other| other.meets(injection)) {
                        let message = "another secret goes to this place already: say where this one goes with `inject`";
                        notes.mistake(&place, "injected_twice", message);
                    }
                    taken.push(injection.clone());
                }
                parsed.push(
                    provider
                        .zip(injections)
                        .map(|(provider, injections)| BindingConfig {
                            access,
                            provider,
                            injections,
                        }),
                );
            }
        }
        parsed.into_iter().collect()
    }
}

impl OneOrMore<RawInject> {
    /// Parses all; each notes its own mistakes.
    pub(super) fn parse(self, notes: &mut Notes) -> Option<Vec<Injection>> {
        let parsed = self
            .0
            .into_iter()
            .map(|one| one.value.parse(&one.place, notes));
        let parsed: Vec<Option<Injection>> = parsed.collect();
        parsed.into_iter().collect()
    }
}

impl RawBinding {
    fn parse(
        self,
        notes: &mut Notes,
    ) -> (Option<ProviderConfig>, Option<At<OneOrMore<RawInject>>>) {
        match self {
            Self::Static(raw) => {
                let inject = raw.inject.clone();
                (raw.parse(notes), inject)
            }
            Self::Cmd(raw) => {
                let RawCmd {
                    command,
                    timeout,
                    ttl,
                    inject,
                } = *raw;
                (parse_cmd(command, timeout, ttl), inject)
            }
            Self::OAuth(raw) => raw.parse(notes),
            Self::Jwt(raw) => raw.parse(notes),
            Self::Spiffe(raw, place) => (raw.parse(&place, notes), None),
            Self::Sts(raw) => raw.parse(notes),
            Self::GithubApp(raw) => raw.parse(notes),
            Self::Google(raw) => raw.parse(notes),
            Self::Azure(raw) => raw.parse(notes),
            Self::Vault(raw) => {
                let inject = raw.inject.clone();
                (raw.provider(notes), inject)
            }
            Self::KubernetesSecret(raw) => {
                let inject = raw.inject.clone();
                (raw.provider(notes), inject)
            }
            Self::KubernetesToken(raw) => {
                let inject = raw.inject.clone();
                (raw.provider(notes), inject)
            }
        }
    }
}

impl RawStatic {
    fn parse(self, notes: &mut Notes) -> Option<ProviderConfig> {
        let until = self.bridge_until?;
        let today = jiff::tz::TimeZone::UTC.to_datetime(jiff::Timestamp::now());
        if until.value < today.date() {
            let message = format!(
                "the bridge ended on {}: calls that need it are refused",
                until.value
            );
            notes.warning(&until.place, "bridge_expired", message);
        }
        let public = self.public?.value;
        let kept = match (self.secret, self.fields) {
            (Some(secret), None) => Kept::One(secret.value),
            (None, Some(fields)) if !fields.value.0.is_empty() => {
                let fields = fields.value.0.into_iter();
                let kept = fields.map(|(name, secret)| KeptField {
                    is_public: public.iter().any(|public| public.value == name.value),
                    name: name.value,
                    secret,
                });
                Kept::Fields(kept.collect())
            }
            (Some(_) | None, Some(fields)) => {
                let message = "expected either `secret`, or one at least in `fields`";
                notes.mistake(&fields.place, "wrong_value", message);
                return None;
            }
            (None, None) => {
                if !notes.is_wrong("secret", &until.place) {
                    let message = "expected `secret`, or several in `fields`";
                    notes.mistake(&until.place, "missing_key", message);
                }
                return None;
            }
        };
        for name in &public {
            let is_field = matches!(&kept, Kept::Fields(kept) if kept.iter().any(|field| field.name == name.value));
            if !is_field {
                let message = "it is none of the `fields`";
                notes.mistake(&name.place, "wrong_value", message);
            }
        }
        Some(ProviderConfig::Static {
            kept,
            until: until.value,
        })
    }
}

fn parse_cmd(
    command: Option<At<NonEmpty<String>>>,
    timeout: Option<At<Duration>>,
    ttl: Option<At<Duration>>,
) -> Option<ProviderConfig> {
    let argv = command?.value.0.into_iter();
    Some(ProviderConfig::Cmd {
        argv: argv.map(|word| word.value).collect(),
        timeout: timeout?.value,
        ttl: ttl.map(|ttl| ttl.value),
    })
}

impl RawInject {
    /// RFC 6750, section 2.1.
    pub(super) fn bearer() -> Injection {
        let name = http::header::AUTHORIZATION;
        let prefix = "Bearer ".to_owned();
        Where::Header { name, prefix }.into()
    }

    pub(super) fn parse(self, place: &Place, notes: &mut Notes) -> Option<Injection> {
        if let Some(prefix) = &self.prefix {
            check_prefix(prefix, self.header.is_some(), notes);
        }
        let header = self.header.map(|header| {
            if NOT_INJECTABLE.contains(&header.value.as_str()) {
                let message = format!("`{}` is the gateway's own header", header.value);
                notes.mistake(&header.place, "header_taken", message);
            }
            let prefix = self.prefix.map(|prefix| prefix.value).unwrap_or_default();
            let name = header.value;
            Where::Header { name, prefix }
        });
        let basic = self.basic.map(|basic| {
            // RFC 7617, section 2.
            if basic.value.contains(':') {
                let message = "a user has no colon: the secret is the password";
                notes.mistake(&basic.place, "wrong_value", message);
            }
            let user = User::Named(basic.value);
            Where::Basic { user }
        });
        let basic_field = self.basic_field.map(|field| Where::Basic {
            user: User::Field(field.value),
        });
        let query = self.query.map(|key| Where::Query { key: key.value });
        let cookie = self.cookie.map(|name| {
            // RFC 6265, section 4.1.1: a token, as the names of headers are.
            if name.value.parse::<HeaderName>().is_err() {
                notes.mistake(&name.place, "wrong_value", "expected the name of a cookie");
            }
            Where::Cookie { name: name.value }
        });
        let form = self.form.map(|key| Where::Form { key: key.value });
        let json = self.json.map(|pointer| Where::Json {
            pointer: pointer.value.0,
        });
        let sigv4 = match self.sigv4 {
            Some(sigv4) => {
                if let Some(field) = &self.field {
                    let message = "`sigv4` is made of all fields";
                    notes.mistake(&field.place, "wrong_injection", message);
                }
                Some(sigv4.value.parse()?)
            }
            None => None,
        };
        let placeholder = parse_placeholder(self.placeholder, self.places, notes);
        let all = [
            header,
            query,
            basic,
            basic_field,
            cookie,
            json,
            form,
            placeholder,
            sigv4,
        ];
        let mut all = all.into_iter().flatten();
        let (Some(where_to), None) = (all.next(), all.next()) else {
            let message = "expected one of `header`, `query`, `basic`, `basic_field`, `cookie`, `json`, `form`, `placeholder` and `sigv4`";
            notes.mistake(place, "wrong_injection", message);
            return None;
        };
        Some(Injection {
            place: where_to,
            field: self.field.map(|field| field.value),
        })
    }
}

/// A placeholder that is long enough not to stand there by chance, and where it may.
fn parse_placeholder(
    placeholder: Option<At<String>>,
    places: Option<At<Vec<At<RawSpot>>>>,
    notes: &mut Notes,
) -> Option<Where> {
    let Some(placeholder) = placeholder else {
        if let Some(places) = places {
            let message = "`places` goes with `placeholder`";
            notes.mistake(&places.place, "wrong_injection", message);
        }
        return None;
    };
    let text = placeholder.value;
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if text.len() < 8 || !text.bytes().all(is_word) {
        let message =
            "expected at least 8 letters, digits, `-` and `_`, such as `REMIT_SECRET_KEY`";
        notes.mistake(&placeholder.place, "wrong_value", message);
    }
    let mut spots = Vec::new();
    for place in places.into_iter().flat_map(|places| places.value) {
        if let Spot::Header(name) = &place.value.0
            && NOT_INJECTABLE.contains(&name.as_str())
        {
            let message = format!("`{name}` is the gateway's own header");
            notes.mistake(&place.place, "header_taken", message);
        }
        spots.push(place.value.0);
    }
    if spots.is_empty() {
        let message = "`places` says where it may stand, such as `places: [header authorization]`";
        notes.mistake(&placeholder.place, "wrong_injection", message);
    }
    Some(Where::Placeholder(Placeholder { text, spots }))
}

/// Where a placeholder may stand.
#[derive(Clone, Debug)]
pub(super) struct RawSpot(Spot);

impl Shape for RawSpot {
    fn schema() -> Value {
        json!({ "type": "string", "title": "place", "pattern": "^(header|query|json|form) .+$",
                "examples": ["header authorization", "json /api_key"] })
    }

    fn read(here: &Here<'_>, notes: &mut Notes) -> Option<Self> {
        let expects = "`header NAME`, `query KEY`, `json POINTER` or `form FIELD`";
        let spot = here.text(expects, notes)?.split_once(' ');
        let spot = spot.and_then(|(kind, name)| match (kind, name.trim()) {
            (_, "") => None,
            ("header", name) => name.parse().ok().map(Spot::Header),
            ("query", key) => Some(Spot::Query(key.to_owned())),
            ("json", pointer) => pointer.parse().ok().map(Spot::Json),
            ("form", key) => Some(Spot::Form(key.to_owned())),
            _ => None,
        });
        match spot {
            Some(spot) => Some(Self(spot)),
            None => here.wrong_value(format!("expected {expects}"), notes),
        }
    }
}

/// A prefix is a scheme, not a key: 32 bytes hold every one in IANA's registry.
fn check_prefix(prefix: &At<String>, header: bool, notes: &mut Notes) {
    if !header {
        notes.mistake(
            &prefix.place,
            "wrong_injection",
            "`prefix` goes with `header`",
        );
    }
    if prefix.value.len() > 32 {
        let message =
            "a prefix is short, such as `Bearer `: the secret itself is named in `secret`";
        notes.mistake(&prefix.place, "literal_secret", message);
    } else if !prefix
        .value
        .bytes()
        .all(|byte| byte == b' ' || byte.is_ascii_graphic())
    {
        notes.mistake(&prefix.place, "wrong_value", "expected printable ASCII");
    }
}

/// Headers that frame or route a request (RFC 9110, sections 7.6.1 and 7.2), or are set by the gateway.
const NOT_INJECTABLE: [&str; 15] = [
    "host",
    "connection",
    "content-length",
    "content-type",
    "content-encoding",
    "transfer-encoding",
    "te",
    "trailer",
    "upgrade",
    "expect",
    "keep-alive",
    "proxy-connection",
    "proxy-authorization",
    "traceparent",
    "tracestate",
];
