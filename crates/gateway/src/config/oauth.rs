//! `provider: oauth` and `provider: jwt`: tokens of an authorization server, and of the gateway itself.

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Duration;

use credentials::{
    ClientAuthentication, Grant, IdJag, IssuerInAnswers, KeyRef, OAuthConfig, SecretRef, Signer,
    Statement, Subject, SubjectToken, TokenEnd, TokenKind,
};
use serde_json::{Value, json};
use url::Url;

use super::binding::{ProviderConfig, RawInject};
use super::certificate::RawCertificate;
use super::collection::OneOrMore;
use super::mistake::{At, Notes, Place};
use super::scalar::parse_said;
use super::shape::{Here, Shape, section, words};
use super::tools::{ToolConfig, is_loopback};

/// An authorization server that is asked for tokens.
#[derive(Clone, Debug)]
pub struct OAuthAsked {
    /// How, without the authorities of the server.
    pub oauth: OAuthConfig,
    /// These, PEM; the system's, unless given.
    pub ca: Option<PathBuf>,
    /// The same of the identity provider.
    pub identity_provider_ca: Option<PathBuf>,
    /// How owners are asked for consent, in the place of the grant.
    pub consent: Option<ConsentAsked>,
}

/// How the owner of a task is asked for consent.
#[derive(Clone, Debug)]
pub struct ConsentAsked {
    /// Where that is said.
    place: Place,
    /// The authorization endpoint.
    pub authorization_url: Url,
    /// The server's issuer.
    pub issuer: Option<String>,
    /// Whether answers have to name it.
    pub issuer_in_answers: IssuerInAnswers,
    /// The claim that has to be the owner.
    pub owner_claim: Option<String>,
    /// What becomes of the access tokens of a task that ended.
    pub access_tokens: TokenEnd,
}

/// How a token is asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum GrantKind {
    ClientCredentials,
    TokenExchange,
    JwtBearer,
    RefreshToken,
    UserConsent,
    IdJag,
}

words! {
    GrantKind {
        "client_credentials" => Self::ClientCredentials, "token_exchange" => Self::TokenExchange,
        "jwt_bearer" => Self::JwtBearer, "refresh_token" => Self::RefreshToken,
        "user_consent" => Self::UserConsent, "id_jag" => Self::IdJag,
    }
}

/// What is exchanged.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum SubjectKind {
    Statement,
    AgentToken,
}

words! { IssuerInAnswers { "required" => Self::Required, "optional" => Self::Optional } }

words! { TokenEnd { "expire" => Self::Expire, "revoke" => Self::Revoke } }

words! { SubjectKind { "statement" => Self::Statement, "agent_token" => Self::AgentToken } }

words! {
    TokenKind {
        "access_token" => Self::AccessToken, "id_token" => Self::IdToken, "jwt" => Self::Jwt,
    }
}

/// How a client shows who it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum AuthKind {
    Basic,
    Post,
    PrivateKeyJwt,
    Certificate,
    SelfSignedCertificate,
    None,
}

words! {
    AuthKind {
        "client_secret_basic" => Self::Basic, "client_secret_post" => Self::Post,
        "private_key_jwt" => Self::PrivateKeyJwt, "tls_client_auth" => Self::Certificate,
        "self_signed_tls_client_auth" => Self::SelfSignedCertificate, "none" => Self::None,
    }
}

section! {
    /// A token of an OAuth 2.0 authorization server.
    struct RawOAuth (provider: "oauth") {
        /// The token endpoint: `https://`, or `http://` on loopback.
        token_url: Url = required;
        /// The revocation endpoint (RFC 7009). Without one, tokens of a task that ended live on until they expire.
        revocation_url: Url = optional;
        /// What there is to show for a token: that the client is who it is (RFC 6749 section 4.4), a `statement` to exchange (RFC 8693) or as a grant (RFC 7523 section 2.1), or a `refresh_token`, or that the owner of the task consented in a browser (`user_consent`), or an assertion that an `identity_provider` gives for it (`id_jag`, draft-ietf-oauth-identity-assertion-authz-grant).
        grant: GrantKind = default("client_credentials");
        /// The gateway's name there.
        client_id: String = optional;
        /// How it shows that it is the one. `none` is for servers that believe a statement or refresh token by itself.
        auth: AuthKind = default("client_secret_basic");
        /// The client's secret, with `client_secret_basic` or `client_secret_post`.
        client_secret: SecretRef = optional;
        /// The client's key, with `private_key_jwt`.
        client_key: RawKey = optional;
        /// The client's certificate, with `tls_client_auth` or `self_signed_tls_client_auth` (RFC 8705); both URLs are those that the server has for it (`mtls_endpoint_aliases`). Where the server binds tokens to it, the tool is shown it too: beside this credential, by another one of `provider: spiffe`.
        client_certificate: RawCertificate = optional;
        /// What is exchanged, with `token_exchange` or `id_jag`: the gateway's `statement`, or the token that the agent showed the gateway (`agent_token`), if that is of `issuer` and bound to no key; then the `statement`, if there is one, says who acts (`actor_token`). Whoever has an agent's token can be the agent, so it is shown to nobody but its issuer.
        subject: SubjectKind = default("statement");
        /// What kind of token the agent has there (RFC 8693 section 3), with `subject: agent_token`.
        subject_token_type: TokenKind = default("access_token");
        /// Who gives the assertion, with `id_jag`; all keys beside it are those of the resource's own authorization server.
        identity_provider: RawIdentityProvider = optional;
        /// What the gateway signs for the server, with `token_exchange`, `jwt_bearer` or `id_jag`.
        statement: RawStatement = optional;
        /// The file with the refresh token, with `refresh_token`. The gateway replaces it when the server gives another, so it is this gateway's alone, in a folder that it may write.
        refresh_token: PathBuf = optional;
        /// Where the owner of a task is asked for consent, with `user_consent`: the authorization endpoint, with such parameters of the server's own as `?prompt=consent`. The server has to know the redirect URI `/v1/consents/callback` beneath `control.url`.
        authorization_url: Url = optional;
        /// The server's issuer. With `user_consent` an answer that names another (`iss`, RFC 9207) is refused; tools that ask people at different servers need it each. With `subject: agent_token` it is whose tokens are exchanged.
        issuer: String = optional;
        /// Whether answers that name no issuer are refused, too, with `user_consent`: `optional` is for servers that never name it in the browser, as Entra ID does not, and needs `owner_claim`, so that the ID token names it.
        issuer_in_answers: IssuerInAnswers = default("required");
        /// The claim of the server's ID token that has to be the owner of the task, such as `email` (which counts with `email_verified` alone) or `sub`, with `user_consent`; it needs `issuer`, and `openid` among `scopes`. Unless given, whoever opens the link in time is believed to be the owner.
        owner_claim: String = optional;
        /// What becomes of the access tokens of a task that ended, with `user_consent`: they `expire`, or are taken back (`revoke`) where the server does not end the whole consent by that, as it may (RFC 7009 section 2.1).
        access_tokens: TokenEnd = default("expire");
        /// The most that is asked for. A decision's `credential.scopes` must be among them; where it names none, all are asked for.
        scopes: Vec<At<Scope>> = default([]);
        /// For whom tokens are, where the server takes `audience`.
        audience: String = optional;
        /// For which resources tokens are, at most (RFC 8707); a decision's `credential.narrow.resource` must be among them.
        resources: Vec<At<String>> = default([]);
        /// The authorities that vouch for the server, PEM. The system's roots unless given.
        ca: PathBuf = optional;
        /// How long a token lives whose answer does not say. Unless given, such a token is refused.
        ttl: Duration = optional;
        /// How long obtaining one may take, waiting included where the server asks for patience; at most `30s`.
        timeout: Duration = default("10s");
        /// Where the secret enters a request, or a list where its fields go to several places; as the tool says unless given.
        inject: OneOrMore<RawInject> = optional;
    }
}

section! {
    /// A JWT that the gateway signs, for an upstream that trusts it.
    struct RawJwt (provider: "jwt") {
        /// Whom it is for (`aud`); never the gateway itself.
        audience: String = required;
        /// Whom it is about (`sub`): `agent`, `owner`, or an account as `name:ACCOUNT`. `act`, `owner` and `task` are there in any case.
        subject: Subject = default("agent");
        /// The most that its `scope` may hold. A decision's `credential.scopes` must be among them; where it names none, it holds all.
        scopes: Vec<At<Scope>> = default([]);
        /// The longest that it lives; at most `1h`, and never longer than the task.
        ttl: Duration = default("5m");
        /// The `iss`, where it is signed by `key`; the gateway's issuer unless given.
        issuer: String = optional;
        /// The key that signs it; that of task tokens unless given, which `/.well-known/jwks.json` publishes.
        key: RawKey = optional;
        /// Where the secret enters a request, or a list where its fields go to several places; as the tool says unless given.
        inject: OneOrMore<RawInject> = optional;
    }
}

section! {
    /// What the gateway signs for an authorization server: a JWT about agent, owner and task that lives for a minute.
    struct RawStatement {
        /// Whom it is for (`aud`), as the server wants it; never the gateway itself.
        audience: String = required;
        /// Whom it is about (`sub`): `agent`, `owner`, or an account as `name:ACCOUNT`.
        subject: Subject = default("agent");
        /// The `iss`, where it is signed by `key`; the gateway's issuer unless given.
        issuer: String = optional;
        /// The key that signs it; that of task tokens unless given, which `/.well-known/jwks.json` publishes.
        key: RawKey = optional;
    }
}

section! {
    /// The identity provider that gives assertions (ID-JAG) for other authorization servers.
    struct RawIdentityProvider {
        /// Its token endpoint: `https://`, or `http://` on loopback.
        token_url: Url = required;
        /// The issuer of the resource's authorization server, which an assertion is for.
        audience: String = required;
        /// The gateway's name there.
        client_id: String = optional;
        /// How it shows that it is the one.
        auth: AuthKind = default("client_secret_basic");
        /// The client's secret, with `client_secret_basic` or `client_secret_post`.
        client_secret: SecretRef = optional;
        /// The client's key, with `private_key_jwt`.
        client_key: RawKey = optional;
        /// The client's certificate, with `tls_client_auth` or `self_signed_tls_client_auth`.
        client_certificate: RawCertificate = optional;
        /// The authorities that vouch for it, PEM. The system's roots unless given.
        ca: PathBuf = optional;
    }
}

section! {
    /// A private key.
    struct RawKey {
        /// Where it is kept, PEM: P-256 for ES256, RSA for RS256, Ed25519 for `EdDSA`.
        secret: SecretRef = required;
        /// The `kid` that goes with it.
        key_id: String = optional;
        /// Whom a client's assertion is for (`aud`), such as the server's issuer; its token endpoint unless given.
        audience: String = optional;
    }
}

/// RFC 6749, section 3.3.
#[derive(Clone, Debug)]
pub(super) struct Scope(pub(super) String);

impl Shape for Scope {
    fn schema() -> Value {
        json!({ "type": "string", "title": "scope", "pattern": "^[!#-\\[\\]-~]+$" })
    }
    fn read(here: &Here<'_>, notes: &mut Notes) -> Option<Self> {
        let scope = String::read(here, notes)?;
        let is_scope = |byte| matches!(byte, b'!' | b'#'..=b'[' | b']'..=b'~');
        if !scope.bytes().all(is_scope) {
            return here.wrong_value("expected one scope, without spaces", notes);
        }
        Some(Self(scope))
    }
}

impl Shape for Subject {
    fn schema() -> Value {
        json!({ "type": "string", "title": "subject", "examples": ["agent", "owner", "name:svc@project.example"] })
    }
    fn read(here: &Here<'_>, notes: &mut Notes) -> Option<Self> {
        parse_said(here, "whom it is about, such as `agent`", notes)
    }
}

/// With the time for taking back what is not believed, still less than the minute a provider has.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(30);

/// What can't be taken back does not live long.
const LONGEST_JWT: Duration = Duration::from_secs(3600);

impl RawOAuth {
    pub(super) fn parse(
        self,
        notes: &mut Notes,
    ) -> (Option<ProviderConfig>, Option<At<OneOrMore<RawInject>>>) {
        let place = self.token_url.as_ref().map(|url| url.place.clone());
        let inject = self.inject.clone();
        let parsed = place.and_then(|place| self.asked(&place, notes));
        (
            parsed.map(|asked| ProviderConfig::OAuth(Box::new(asked))),
            inject,
        )
    }

    /// `place` is where keys are found to be missing.
    fn asked(self, place: &Place, notes: &mut Notes) -> Option<OAuthAsked> {
        for url in [
            &self.token_url,
            &self.revocation_url,
            &self.authorization_url,
        ]
        .into_iter()
        .flatten()
        {
            if url.value.scheme() == "http" && !is_loopback(&url.value) {
                let message = "secrets are sent over `https://`; `http://` is for loopback";
                notes.mistake(&url.place, "plaintext_token_url", message);
            }
        }
        if let Some(timeout) = &self.timeout
            && timeout.value > LONGEST_TIMEOUT
        {
            notes.mistake(&timeout.place, "wrong_value", "it is at most `30s`");
        }
        let kind = self.grant?.value;
        let auth = self.auth?.value;
        if kind == GrantKind::ClientCredentials && auth == AuthKind::None {
            let message = "with `client_credentials` the client shows who it is";
            notes.mistake(place, "wrong_auth", message);
        }
        let client = RawClient {
            id: self.client_id,
            secret: self.client_secret,
            key: self.client_key,
            certificate: self.client_certificate,
        };
        let scopes = texts(self.scopes?.value);
        let subject = self.subject?;
        let exchange = RawExchange {
            takes_token: subject.value == SubjectKind::AgentToken,
            kind: self.subject_token_type?.value,
            issuer: self.issuer.as_ref().map(|issuer| issuer.value.clone()),
            provider: self.identity_provider,
        };
        let consent = RawConsent {
            authorization_url: self.authorization_url,
            issuer: self.issuer.filter(|_| !exchange.takes_token),
            issuer_in_answers: self.issuer_in_answers?,
            owner_claim: self.owner_claim,
            access_tokens: self.access_tokens?.value,
        };
        let is_named = client.id.is_some();
        let consent = if kind == GrantKind::UserConsent {
            let consent = consent.parse((is_named, &scopes), place, notes);
            consent.map(Some)
        } else {
            consent.note_misplaced(notes);
            Some(None)
        };
        exchange.check(kind, &subject.place, notes);
        let identity_provider_ca = exchange.ca();
        let shown = Shown {
            statement: self.statement,
            refresh_token: self.refresh_token,
            exchange,
        };
        let grant = grant(kind, shown, (place, notes));
        let (client_id, authentication) = client.parse(auth, place, notes)?;
        Some(OAuthAsked {
            oauth: OAuthConfig {
                token_url: self.token_url?.value,
                revocation_url: self.revocation_url.map(|url| url.value),
                authorities: Vec::new(),
                client_id,
                authentication,
                grant: grant?,
                scopes,
                audience: self.audience.map(|audience| audience.value),
                resources: self
                    .resources?
                    .value
                    .into_iter()
                    .map(|at| at.value)
                    .collect(),
                ttl: self.ttl.map(|ttl| ttl.value),
                timeout: self.timeout?.value,
            },
            ca: self.ca.map(|ca| ca.value),
            identity_provider_ca,
            consent: consent?,
        })
    }
}

pub(super) fn texts(scopes: Vec<At<Scope>>) -> Vec<String> {
    scopes.into_iter().map(|scope| scope.value.0).collect()
}

/// What there is to show, of whatever grant.
struct Shown {
    statement: Option<At<RawStatement>>,
    refresh_token: Option<At<PathBuf>>,
    exchange: RawExchange,
}

/// What there is to show; keys of another grant are mistakes, since somebody believes that they count.
fn grant(kind: GrantKind, shown: Shown, (place, notes): (&Place, &mut Notes)) -> Option<Grant> {
    let Shown {
        statement,
        refresh_token,
        exchange,
    } = shown;
    let states = matches!(
        kind,
        GrantKind::TokenExchange | GrantKind::JwtBearer | GrantKind::IdJag
    );
    if let Some(statement) = statement.as_ref().filter(|_| !states) {
        let message = "`statement` goes with `token_exchange`, `jwt_bearer` or `id_jag`";
        notes.mistake(&statement.place, "wrong_grant", message);
    }
    if let Some(token) = &refresh_token
        && kind != GrantKind::RefreshToken
    {
        let message = "`refresh_token` goes with `grant: refresh_token`";
        notes.mistake(&token.place, "wrong_grant", message);
    }
    let mut missing = |key: &str| {
        let message = format!("this grant needs `{key}`");
        notes.mistake(place, "missing_key", message);
    };
    match kind {
        // Consents are kept where configs don't reach; it takes the place of this.
        GrantKind::ClientCredentials | GrantKind::UserConsent => Some(Grant::ClientCredentials),
        GrantKind::RefreshToken => {
            if refresh_token.is_none() {
                missing("refresh_token");
            }
            Some(Grant::RefreshToken(refresh_token?.value))
        }
        GrantKind::JwtBearer => {
            if statement.is_none() {
                missing("statement");
            }
            Some(Grant::JwtBearer(statement?.value.parse(notes)?))
        }
        GrantKind::TokenExchange | GrantKind::IdJag => {
            if statement.is_none() && !exchange.takes_token {
                missing("statement");
            }
            if exchange.issuer.is_none() && exchange.takes_token {
                missing("issuer");
            }
            if exchange.provider.is_none() && kind == GrantKind::IdJag {
                missing("identity_provider");
            }
            let statement = match statement {
                Some(statement) => Some(statement.value.parse(notes)?),
                None => None,
            };
            let subject = if exchange.takes_token {
                SubjectToken::Agent {
                    issuer: exchange.issuer?,
                    kind: exchange.kind,
                    actor: statement,
                }
            } else {
                SubjectToken::Statement(statement?)
            };
            match (kind, exchange.provider) {
                (GrantKind::IdJag, provider) => {
                    let At { value, place } = provider?;
                    Some(Grant::IdJag(Box::new(value.parse(subject, &place, notes)?)))
                }
                _ => Some(Grant::TokenExchange(subject)),
            }
        }
    }
}

/// The keys that say what is exchanged.
struct RawExchange {
    takes_token: bool,
    kind: TokenKind,
    issuer: Option<String>,
    provider: Option<At<RawIdentityProvider>>,
}

impl RawExchange {
    fn check(&self, kind: GrantKind, subject: &Place, notes: &mut Notes) {
        if self.takes_token && !matches!(kind, GrantKind::TokenExchange | GrantKind::IdJag) {
            let message = "`agent_token` goes with `token_exchange` or `id_jag`";
            notes.mistake(subject, "wrong_grant", message);
        }
        if let Some(provider) = self.provider.as_ref().filter(|_| kind != GrantKind::IdJag) {
            let message = "`identity_provider` goes with `id_jag`";
            notes.mistake(&provider.place, "wrong_grant", message);
        }
    }

    fn ca(&self) -> Option<PathBuf> {
        let ca = self.provider.as_ref()?.value.ca.as_ref()?;
        Some(ca.value.clone())
    }
}

impl RawIdentityProvider {
    fn parse(self, subject: SubjectToken, place: &Place, notes: &mut Notes) -> Option<IdJag> {
        let url = self.token_url?;
        if url.value.scheme() == "http" && !is_loopback(&url.value) {
            let message = "secrets are sent over `https://`; `http://` is for loopback";
            notes.mistake(&url.place, "plaintext_token_url", message);
        }
        let client = RawClient {
            id: self.client_id,
            secret: self.client_secret,
            key: self.client_key,
            certificate: self.client_certificate,
        };
        let (client_id, authentication) = client.parse(self.auth?.value, place, notes)?;
        Some(IdJag {
            token_url: url.value,
            authorities: Vec::new(),
            client_id,
            authentication,
            audience: self.audience?.value,
            subject,
        })
    }
}

/// The keys that say how the owner of a task is asked.
struct RawConsent {
    authorization_url: Option<At<Url>>,
    issuer: Option<At<String>>,
    issuer_in_answers: At<IssuerInAnswers>,
    owner_claim: Option<At<String>>,
    access_tokens: TokenEnd,
}

/// Parameters of the question that are the gateway's own (RFC 6749, section 4.1.1; RFC 7636; OpenID Connect Core 1.0).
const OWN: [&str; 11] = [
    "response_type",
    "response_mode",
    "client_id",
    "redirect_uri",
    "state",
    "scope",
    "nonce",
    "code_challenge",
    "code_challenge_method",
    "request",
    "request_uri",
];

impl RawConsent {
    /// No owner is asked: keys that say how are mistakes.
    fn note_misplaced(self, notes: &mut Notes) {
        let optional = Some(self.issuer_in_answers);
        let optional = optional.filter(|it| it.value == IssuerInAnswers::Optional);
        let places = [
            optional.map(|it| it.place),
            self.authorization_url.map(|it| it.place),
            self.issuer.map(|it| it.place),
            self.owner_claim.map(|it| it.place),
        ];
        for place in places.iter().flatten() {
            let message = "it goes with `grant: user_consent`";
            notes.mistake(place, "wrong_grant", message);
        }
    }

    /// None if something is missing.
    fn parse(
        self,
        (has_client, scopes): (bool, &[String]),
        place: &Place,
        notes: &mut Notes,
    ) -> Option<ConsentAsked> {
        if let Some(claim) = &self.owner_claim
            && (self.issuer.is_none() || !scopes.iter().any(|scope| scope == "openid"))
        {
            let message =
                "it needs `issuer`, and `openid` among `scopes`: the ID token has the claim";
            notes.mistake(&claim.place, "wrong_grant", message);
        }
        if self.issuer_in_answers.value == IssuerInAnswers::Optional && self.owner_claim.is_none() {
            let message = "`optional` needs `owner_claim`: the ID token names the issuer";
            notes.mistake(&self.issuer_in_answers.place, "wrong_grant", message);
        }
        if !has_client {
            notes.mistake(place, "missing_key", "this grant needs `client_id`");
        }
        let Some(url) = self.authorization_url else {
            notes.mistake(place, "missing_key", "this grant needs `authorization_url`");
            return None;
        };
        let own = url
            .value
            .query_pairs()
            .find(|(name, _)| OWN.contains(&name.as_ref()));
        if let Some((name, _)) = own {
            let message = format!("`{name}` is the gateway's own parameter");
            notes.mistake(&url.place, "wrong_value", message);
        }
        Some(ConsentAsked {
            place: url.place,
            authorization_url: url.value,
            issuer: self.issuer.map(|issuer| issuer.value),
            issuer_in_answers: self.issuer_in_answers.value,
            owner_claim: self.owner_claim.map(|claim| claim.value),
            access_tokens: self.access_tokens,
        })
    }
}

/// All servers send people back to one place: where there are several, an answer has to tell whose it is (RFC 9700,
/// section 4.4.2).
pub(super) fn check_issuers(tools: &[ToolConfig], notes: &mut Notes) {
    let bindings = tools.iter().flat_map(|tool| &tool.bindings);
    let asked: Vec<_> = bindings
        .filter_map(|binding| match &binding.provider {
            ProviderConfig::OAuth(asked) => asked.consent.as_ref().map(|it| (asked, it)),
            _ => None,
        })
        .collect();
    let servers: HashSet<_> = asked
        .iter()
        .map(|(asked, consent)| {
            let mut authorization_url = consent.authorization_url.clone();
            authorization_url.set_query(None);
            (authorization_url, &asked.oauth.token_url)
        })
        .collect();
    if servers.len() < 2 {
        return;
    }
    for (_, consent) in asked.iter().filter(|(_, it)| it.issuer.is_none()) {
        let message = "people are asked at several servers: each needs its `issuer`";
        notes.mistake(&consent.place, "no_issuer", message);
    }
}

/// The keys that say who the client is.
struct RawClient {
    id: Option<At<String>>,
    secret: Option<At<SecretRef>>,
    key: Option<At<RawKey>>,
    certificate: Option<At<RawCertificate>>,
}

impl RawClient {
    fn parse(
        self,
        auth: AuthKind,
        place: &Place,
        notes: &mut Notes,
    ) -> Option<(Option<String>, ClientAuthentication)> {
        let takes_secret = matches!(auth, AuthKind::Basic | AuthKind::Post);
        if let Some(secret) = self.secret.as_ref().filter(|_| !takes_secret) {
            let message = "`client_secret` goes with `client_secret_basic` or `client_secret_post`";
            notes.mistake(&secret.place, "wrong_auth", message);
        }
        if let Some(key) = self
            .key
            .as_ref()
            .filter(|_| auth != AuthKind::PrivateKeyJwt)
        {
            let message = "`client_key` goes with `private_key_jwt`";
            notes.mistake(&key.place, "wrong_auth", message);
        }
        let takes_certificate = matches!(
            auth,
            AuthKind::Certificate | AuthKind::SelfSignedCertificate
        );
        if let Some(certificate) = self.certificate.as_ref().filter(|_| !takes_certificate) {
            let message =
                "`client_certificate` goes with `tls_client_auth` or `self_signed_tls_client_auth`";
            notes.mistake(&certificate.place, "wrong_auth", message);
        }
        let lacks = [
            (
                "client_certificate",
                takes_certificate && self.certificate.is_none(),
            ),
            ("client_id", auth != AuthKind::None && self.id.is_none()),
            ("client_secret", takes_secret && self.secret.is_none()),
            (
                "client_key",
                auth == AuthKind::PrivateKeyJwt && self.key.is_none(),
            ),
        ];
        for (key, _) in lacks.into_iter().filter(|(_, lacks)| *lacks) {
            let message = format!("this `auth` needs `{key}`");
            notes.mistake(place, "missing_key", message);
        }
        let authentication = match auth {
            AuthKind::None => ClientAuthentication::None,
            AuthKind::Basic => ClientAuthentication::SecretBasic(self.secret?.value),
            AuthKind::Post => ClientAuthentication::SecretPost(self.secret?.value),
            AuthKind::PrivateKeyJwt => {
                let key = self.key?.value;
                ClientAuthentication::PrivateKeyJwt {
                    audience: key.audience.clone().map(|audience| audience.value),
                    key: key.parse()?,
                }
            }
            AuthKind::Certificate | AuthKind::SelfSignedCertificate => {
                let At { value, place } = self.certificate?;
                ClientAuthentication::Certificate(value.parse(&place, notes)?)
            }
        };
        Some((self.id.map(|id| id.value), authentication))
    }
}

impl RawKey {
    fn parse(self) -> Option<KeyRef> {
        Some(KeyRef {
            key: self.secret?.value,
            key_id: self.key_id.map(|key_id| key_id.value),
        })
    }
}

impl RawStatement {
    pub(super) fn parse(self, notes: &mut Notes) -> Option<Statement> {
        Some(Statement {
            signer: signer(self.issuer, self.key, notes)?,
            audience: self.audience?.value,
            subject: self.subject?.value,
        })
    }
}

impl RawJwt {
    pub(super) fn parse(
        self,
        notes: &mut Notes,
    ) -> (Option<ProviderConfig>, Option<At<OneOrMore<RawInject>>>) {
        let inject = self.inject.clone();
        (self.provider(notes), inject)
    }

    fn provider(self, notes: &mut Notes) -> Option<ProviderConfig> {
        let ttl = self.ttl?;
        if ttl.value > LONGEST_JWT || ttl.value < Duration::from_secs(1) {
            notes.mistake(&ttl.place, "wrong_value", "it is from `1s` to `1h`");
        }
        Some(ProviderConfig::Jwt {
            statement: Statement {
                signer: signer(self.issuer, self.key, notes)?,
                audience: self.audience?.value,
                subject: self.subject?.value,
            },
            scopes: texts(self.scopes?.value),
            ttl: ttl.value,
        })
    }
}

/// Who says it: the gateway, or somebody with a name and a key of its own.
pub(super) fn signer(
    issuer: Option<At<String>>,
    key: Option<At<RawKey>>,
    notes: &mut Notes,
) -> Option<Signer> {
    if let Some(audience) = key.as_ref().and_then(|key| key.value.audience.as_ref()) {
        let message = "`audience` is beside `key` here: it is whom the JWT is for";
        notes.mistake(&audience.place, "unknown_key", message);
    }
    match (issuer, key) {
        (None, None) => Some(Signer::Gateway),
        (Some(issuer), Some(key)) => Some(Signer::Own {
            issuer: issuer.value,
            key: key.value.parse()?,
        }),
        (Some(At { place, .. }), None) | (None, Some(At { place, .. })) => {
            let message = "`issuer` and `key` go together";
            notes.mistake(&place, "wrong_issuer", message);
            None
        }
    }
}
