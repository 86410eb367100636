//! `tasks.transaction_issuers`: whose transaction tokens open tasks, and what these may touch.

use std::collections::BTreeMap;
use std::time::Duration;

use identity::{AgentTemplate, Algorithm, TransactionIssuerConfig};
use serde_json::{Value, json};
use tasks::{
    Access, AdoptionRules, ClaimPath, Grant, GrantsFrom, OperationPattern, ToolName, is_label,
};
use url::Url;

use super::collection::{NonEmpty, Table};
use super::mistake::{At, Notes, Place};
use super::scalar::{Count, parse_said};
use super::shape::{Here, Shape, section};
use super::tools::is_loopback;

section! {
    /// An issuer whose transaction tokens (draft-ietf-oauth-transaction-tokens) open tasks.
    struct RawTransactionIssuer {
        /// The `iss` of its tokens, and where discovery starts.
        issuer: Url = required;
        /// The trust domain: what must be among a token's `aud`.
        audience: String = required;
        /// The signature algorithms that are accepted.
        algorithms: NonEmpty<Algorithm> = default(["ES256"]);
        /// Its key set, where discovery is not wanted.
        jwks_uri: Url = optional;
        /// How the id of the agent that may use a token is made of claims.
        agent: AgentTemplate = default("{req_wl}");
        /// What claims say of the task.
        map: RawMap = required;
        /// The longest life of a token, from `iat` to `exp`; at most `24h`. No task outlives its token, or `tasks.ttl.max`.
        ttl_max: Duration = default("15m");
        /// How many of its tasks may be open at once.
        open: Count = default(1000);
    }
}

section! {
    /// What claims say of a task. Grants come of `authorization_details` or of `scopes`.
    struct RawMap {
        /// How the owner's name is made.
        owner: AgentTemplate = default("{sub}");
        /// How the purpose is made; there is none unless given.
        purpose: AgentTemplate = optional;
        /// The claim whose authorization details (RFC 9396) of type `remit_grant` are the grants, such as `tctx.authorization_details`.
        authorization_details: ClaimPath = optional;
        /// The grants that each scope of the `scope` claim stands for, by its name. Others stand for nothing.
        scopes: Table<Vec<At<RawGrant>>> = default({});
        /// The labels of all of its tasks.
        labels: Vec<At<String>> = default([]);
        /// Attributes, by name: each is what a claim such as `tctx.ticket` says. What a token does not have the task does not have.
        attributes: Table<ClaimPath> = default({});
        /// The claim that is the task's limits, as the control API takes them. A token that does not have it limits nothing.
        limits: ClaimPath = optional;
    }
}

section! {
    /// What a scope lets a task touch.
    struct RawGrant {
        /// The tool.
        tool: ToolName = required;
        /// The access classes.
        access: NonEmpty<Access> = required;
        /// The operations; all of the access classes unless given.
        operations: Vec<At<OperationPattern>> = default([]);
        /// The tool's environment; any unless given.
        environment: String = optional;
    }
}

impl Shape for ClaimPath {
    fn schema() -> Value {
        json!({ "type": "string", "title": "claim", "examples": ["tctx.ticket"] })
    }
    fn read(here: &Here<'_>, notes: &mut Notes) -> Option<Self> {
        parse_said(here, "a claim such as `tctx.ticket`", notes)
    }
}

impl Shape for ToolName {
    fn schema() -> Value {
        json!({ "type": "string", "title": "tool", "examples": ["github"] })
    }
    fn read(here: &Here<'_>, notes: &mut Notes) -> Option<Self> {
        parse_said(here, "the name of a tool", notes)
    }
}

/// Ended tasks are remembered for as long as their tokens might live.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// As many labels as a task may be opened with.
const MAX_LABELS: usize = 32;

/// What is believed, and what is made of it; each issuer once.
pub(super) fn parse(
    raw: Vec<At<RawTransactionIssuer>>,
    ours: Option<&Url>,
    notes: &mut Notes,
) -> (Vec<TransactionIssuerConfig>, Vec<AdoptionRules>) {
    let mut believed: Vec<TransactionIssuerConfig> = Vec::new();
    let mut rules = Vec::new();
    for issuer in raw {
        let place = issuer.place;
        let Some((config, rule)) = issuer.value.parse(&place, notes) else {
            continue;
        };
        if ours == Some(&config.issuer) {
            let message = "it is the gateway's own issuer, `tasks.issuer`";
            notes.mistake(&place, "own_issuer", message);
        }
        if believed.iter().any(|other| other.issuer == config.issuer) {
            let message = "this issuer is already there";
            notes.mistake(&place, "duplicate_issuer", message);
        }
        believed.push(config);
        rules.push(rule);
    }
    (believed, rules)
}

impl RawTransactionIssuer {
    fn parse(
        self,
        place: &Place,
        notes: &mut Notes,
    ) -> Option<(TransactionIssuerConfig, AdoptionRules)> {
        for url in [&self.issuer, &self.jwks_uri].into_iter().flatten() {
            if url.value.scheme() == "http" && !is_loopback(&url.value) {
                let message = "keys are fetched over `https://`; `http://` is for loopback";
                notes.mistake(&url.place, "plaintext_issuer", message);
            }
        }
        if let Some(ttl_max) = self.ttl_max.as_ref().filter(|ttl| ttl.value > LONGEST) {
            notes.mistake(&ttl_max.place, "wrong_value", "it is at most `24h`");
        }
        let map = self.map.and_then(|map| map.value.parse(place, notes));
        let algorithms = self.algorithms?.value.0.into_iter();
        let ttl_max = self.ttl_max?.value;
        let config = TransactionIssuerConfig {
            issuer: self.issuer?.value,
            audience: self.audience?.value,
            algorithms: algorithms.map(|at| at.value).collect(),
            jwks_uri: self.jwks_uri.map(|url| url.value),
            agent: self.agent?.value,
            ttl_max,
        };
        let map = map?;
        let rules = AdoptionRules {
            issuer: config.name().to_owned(),
            owner: map.owner,
            purpose: map.purpose,
            grants: map.grants,
            labels: map.labels,
            attributes: map.attributes,
            limits: map.limits,
            ttl_max,
            open: self.open?.value.0,
        };
        Some((config, rules))
    }
}

struct Map {
    owner: AgentTemplate,
    purpose: Option<AgentTemplate>,
    grants: GrantsFrom,
    labels: Vec<String>,
    attributes: BTreeMap<String, ClaimPath>,
    limits: Option<ClaimPath>,
}

impl RawMap {
    fn parse(self, place: &Place, notes: &mut Notes) -> Option<Map> {
        let labels = self.labels?.value;
        for label in labels.iter().filter(|label| !is_label(&label.value)) {
            let message = "a label is 1 to 64 of `a-z`, `0-9`, `_` and `-`";
            notes.mistake(&label.place, "wrong_value", message);
        }
        let mut labels: Vec<String> = labels.into_iter().map(|label| label.value).collect();
        labels.sort_unstable();
        labels.dedup();
        if labels.len() > MAX_LABELS {
            let message = format!("a task has {MAX_LABELS} labels at most");
            notes.mistake(place, "wrong_value", message);
        }
        let scopes = self.scopes?.value.0;
        let grants = match (self.authorization_details, scopes) {
            (Some(claim), scopes) if scopes.is_empty() => GrantsFrom::Details(claim.value),
            (Some(claim), _) => {
                let message = "grants come of `authorization_details` or of `scopes`, not of both";
                notes.mistake(&claim.place, "wrong_value", message);
                return None;
            }
            (None, scopes) if scopes.is_empty() => {
                let message = "its tasks would have no grants: say `map.authorization_details` or \
                               `map.scopes`";
                notes.mistake(place, "no_grants", message);
                return None;
            }
            (None, scopes) => GrantsFrom::Scopes(table(scopes, notes)?),
        };
        let attributes = self.attributes?.value.0.into_iter();
        Some(Map {
            owner: self.owner?.value,
            purpose: self.purpose.map(|purpose| purpose.value),
            grants,
            labels,
            attributes: attributes.map(|(name, path)| (name.value, path)).collect(),
            limits: self.limits.map(|limits| limits.value),
        })
    }
}

/// The grants of each scope. A name with a space would never be found.
fn table(
    scopes: Vec<(At<String>, Vec<At<RawGrant>>)>,
    notes: &mut Notes,
) -> Option<BTreeMap<String, Vec<Grant>>> {
    let mut table = BTreeMap::new();
    for (scope, grants) in scopes {
        if scope.value.is_empty() || !scope.value.bytes().all(|byte| byte.is_ascii_graphic()) {
            let message = "a scope is printable ASCII without spaces";
            notes.mistake(&scope.place, "wrong_value", message);
        }
        let grants = grants.into_iter().map(|grant| grant.value.parse());
        table.insert(scope.value, grants.collect::<Option<_>>()?);
    }
    Some(table)
}

impl RawGrant {
    fn parse(self) -> Option<Grant> {
        let access = self.access?.value.0.into_iter();
        let operations = self.operations?.value.into_iter();
        Some(Grant {
            tool: self.tool?.value,
            environment: self.environment.map(|environment| environment.value),
            access: access.map(|access| access.value).collect(),
            operations: operations.map(|operation| operation.value).collect(),
            arguments: BTreeMap::new(),
            unless_labels: Vec::new(),
        })
    }
}
