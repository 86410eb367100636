//! One OpenID issuer whose workload tokens are believed.

use std::sync::{Arc, OnceLock};

use serde_json::{Map, Value};
use url::Url;

use crate::confirmation::Confirmation;
use crate::digest::Digest;
use crate::key_set::KeySet;
use crate::key_source::{KeySource, NoKey, Pace};
use crate::owner::Owner;
use crate::unverified::Checked;
use crate::unverified::{Expected, Unverified, media_type};
use crate::verified::{Verified, Voucher, issued_at};
use crate::{AgentId, AgentTemplate, Algorithm, Unauthenticated, clock};

/// One OpenID issuer whose workload tokens are believed.
#[derive(Clone, Debug)]
pub struct IssuerConfig {
    /// The `iss` claim, and where discovery starts. Keys come over `https`, or from loopback.
    pub issuer: Url,
    /// The `aud` that must be among the token's.
    pub audience: String,
    /// The signature algorithms accepted; never `none`, never symmetric.
    pub algorithms: Vec<Algorithm>,
    /// For whom its tokens speak.
    pub vouches_for: Vouching,
    /// How the agent id is made of claims, such as `{sub}`.
    pub agent: AgentTemplate,
    /// How an owner's name is made of claims, such as `{email}`.
    pub owner: AgentTemplate,
    /// The key set, where discovery is not wanted.
    pub jwks_uri: Option<Url>,
    /// The `typ` header values accepted, lower case; `jwt`, `at+jwt` and none at all unless given.
    /// `application/` before a value makes no difference. A list that is given makes `typ` required.
    pub types: Vec<String>,
}

/// For whom the tokens of an issuer speak.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Vouching {
    /// For workloads; the default.
    #[default]
    Agents,
    /// For people on whose behalf tasks are opened. Its tokens authenticate no agent.
    Owners,
    /// For both: each of its tokens names an agent and an owner.
    Both,
}

/// The types accepted unless the config says otherwise: what OpenID providers put on access tokens.
const DEFAULT_TYPES: [&str; 2] = ["jwt", "at+jwt"];

/// An issuer with its keys.
#[derive(Debug)]
pub(crate) struct Issuer {
    config: IssuerConfig,
    keys: Arc<KeySource>,
}

/// Whether `name` is the `iss` of `issuer`, letter by letter.
///
/// A URL without a path is kept with `/` by [`Url`], so an issuer at a root goes by both spellings.
pub(crate) fn is_name_of(issuer: &Url, name: &str) -> bool {
    let spelled = issuer.as_str();
    let is_root = issuer.path() == "/" && issuer.query().is_none() && issuer.fragment().is_none();
    name == spelled || is_root && spelled.strip_suffix('/') == Some(name)
}

/// How an issuer is spelled: without a `/` at the end where it is at a root.
pub(crate) fn name_of(issuer: &Url) -> &str {
    let spelled = issuer.as_str();
    let short = spelled.strip_suffix('/');
    short
        .filter(|short| is_name_of(issuer, short))
        .unwrap_or(spelled)
}

impl Issuer {
    /// Makes an issuer with the keys of one in `known`, if one is fetched from the same place.
    pub(crate) fn new(mut config: IssuerConfig, known: &[Arc<Self>], pace: Pace) -> Self {
        for kind in &mut config.types {
            *kind = media_type(kind);
        }
        let jwks_uri = config.jwks_uri.as_ref();
        let same = known
            .iter()
            .find(|issuer| issuer.keys.is_for(&config.issuer, jwks_uri));
        let keys = same.map_or_else(
            || Arc::new(KeySource::new(&config.issuer, jwks_uri, pace)),
            |same| Arc::clone(&same.keys),
        );
        Self { config, keys }
    }

    /// Whether `name` is its `iss`.
    pub(crate) fn is_named(&self, name: &str) -> bool {
        is_name_of(&self.config.issuer, name)
    }

    /// Its name, in one spelling.
    pub(crate) fn name(&self) -> &str {
        name_of(&self.config.issuer)
    }

    pub(crate) fn keys(&self) -> &Arc<KeySource> {
        &self.keys
    }

    /// The agent that claims name.
    pub(crate) fn agent(&self, claims: &Map<String, Value>) -> Result<AgentId, Unauthenticated> {
        self.config.agent.resolve(claims)
    }

    /// Verifies a token that claims to be of this issuer, and to name an agent.
    pub(crate) async fn verify(
        &self,
        token: Unverified<'_>,
        digest: Digest,
    ) -> Result<Verified, Unauthenticated> {
        if self.config.vouches_for == Vouching::Owners {
            let problem = "its issuer vouches for no agents";
            return Err(Unauthenticated::Invalid(problem));
        }
        let (checked, keys) = self.check(token).await?;
        Ok(Verified {
            digest,
            issued_at: Some(issued_at(&checked.claims)),
            confirmations: Confirmation::all(&checked.claims)?,
            agent: self.agent(&checked.claims)?,
            issuer: checked.issuer,
            claims: checked.claims,
            expires_at: checked.expires_at,
            voucher: Voucher::Issuer {
                source: Arc::clone(&self.keys),
                keys,
            },
            prepared: OnceLock::new(),
        })
    }

    /// Verifies a token that claims to be of this issuer, and to name an owner.
    pub(crate) async fn verify_owner(
        &self,
        token: Unverified<'_>,
    ) -> Result<Owner, Unauthenticated> {
        if self.config.vouches_for == Vouching::Agents {
            let problem = "its issuer vouches for no owners";
            return Err(Unauthenticated::Invalid(problem));
        }
        let (checked, _) = self.check(token).await?;
        Owner::new(&self.config.owner, checked)
    }

    /// Checks header, signature, audience and time.
    pub(crate) async fn check(
        &self,
        token: Unverified<'_>,
    ) -> Result<(Checked, Arc<KeySet>), Unauthenticated> {
        let invalid = Unauthenticated::Invalid;
        let header = token.header()?;
        if !self.config.algorithms.contains(&header.algorithm) {
            return Err(invalid("its signature algorithm is not allowed"));
        }
        if !self.accepts(header.kind.as_deref()) {
            return Err(invalid("its `typ` is not accepted"));
        }
        let found = self
            .keys
            .find(header.key_id.as_deref(), header.algorithm)
            .await;
        let (keys, key) = found.map_err(|missing| match missing {
            NoKey::Unknown => invalid("it was signed by a key that its issuer does not publish"),
            NoKey::Unavailable => Unauthenticated::KeysUnavailable(self.config.issuer.to_string()),
        })?;
        let checked = token.check(&Expected {
            algorithm: header.algorithm,
            key: &key,
            audience: Some(&self.config.audience),
            now: clock::now(),
        })?;
        Ok((checked, keys))
    }

    fn accepts(&self, kind: Option<&str>) -> bool {
        if self.config.types.is_empty() {
            return kind.is_none_or(|kind| DEFAULT_TYPES.contains(&kind));
        }
        kind.is_some_and(|kind| self.config.types.iter().any(|accepted| accepted == kind))
    }
}

#[cfg(test)]
mod tests {
    use super::{is_name_of, name_of};

    #[track_caller]
    fn check(issuer: &str, name: &str, expect: bool) {
        assert_eq!(is_name_of(&issuer.parse().unwrap(), name), expect, "{name}");
    }

    #[test]
    fn a_root_goes_by_two_spellings() {
        check("https://idp.example", "https://idp.example", true);
        check("https://idp.example", "https://idp.example/", true);
        check("https://idp.example", "https://idp.example//", false);
    }
    #[test]
    fn both_are_one_name() {
        let name = |issuer: &str| name_of(&issuer.parse().unwrap()).to_owned();
        assert_eq!(name("https://idp.example/"), "https://idp.example");
        assert_eq!(name("https://idp.example"), "https://idp.example");
        assert_eq!(name("https://idp.example/a/"), "https://idp.example/a/");
    }
    #[test]
    fn a_path_goes_by_one() {
        check("https://idp.example/a", "https://idp.example/a", true);
        check("https://idp.example/a", "https://idp.example/a/", false);
        check("https://idp.example/a/", "https://idp.example/a", false);
    }
    #[test]
    fn letters_count() {
        check("https://idp.example", "https://IDP.example", false);
        check("https://idp.example", "http://idp.example", false);
        check("https://idp.example", "https://idp.example:443", false);
        check("https://idp.example", "https://idp.example.evil", false);
    }
}
