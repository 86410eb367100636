//! `provider: google`: access tokens of Google Cloud.

use std::path::PathBuf;
use std::time::Duration;

use credentials::{BoundaryRule, GoogleConfig, GoogleIdentity, Impersonation, SecretRef};
use url::Url;

use super::binding::{ProviderConfig, RawInject};
use super::collection::{NonEmpty, OneOrMore};
use super::endpoint::{Asked, check_goes, check_timeout, check_url};
use super::federated::{RawFederated, federated};
use super::mistake::{At, Notes, Place};
use super::oauth::{Scope, texts};
use super::shape::section;

section! {
    /// An access token of Google Cloud: by the `key` of a service account, or by the provider of a workload identity pool (`audience`).
    struct RawGoogle (provider: "google") {
        /// The most scopes. A decision's `credential.scopes` must be among them; where it names none, all are asked for.
        scopes: NonEmpty<Scope> = required;
        /// The key file of a service account, JSON.
        key: SecretRef = optional;
        /// The person of the domain that the account acts for, where an administrator delegated that to it; with `key`.
        subject: String = optional;
        /// The pool's provider: `//iam.googleapis.com/projects/NUMBER/locations/global/workloadIdentityPools/POOL/providers/NAME`.
        audience: String = optional;
        /// What the gateway signs for the provider, for `https:` and its name unless that says otherwise; with `audience`.
        statement: RawFederated = optional;
        /// A token that somebody puts there for the provider and replaces in time; with `audience`.
        token: SecretRef = optional;
        /// The service account that the gateway goes on as, by its address. Its tokens live no longer than the task.
        impersonate: String = optional;
        /// The service accounts in between, in their order; with `impersonate`.
        delegates: Vec<At<String>> = default([]);
        /// On what a token may be used, at most: a credential access boundary, of at most ten. A decision's `credential.narrow.access_boundary` must be within.
        access_boundary: Vec<At<RawBoundary>> = default([]);
        /// The token endpoint, with `key`; a key file that names another is refused.
        token_url: Url = default("https://oauth2.googleapis.com/token");
        /// The security token service.
        sts_url: Url = default("https://sts.googleapis.com/v1/token");
        /// The IAM credentials API.
        iam_url: Url = default("https://iamcredentials.googleapis.com");
        /// The authorities that vouch for these, PEM. The system's roots unless given.
        ca: PathBuf = optional;
        /// How long obtaining one may take, waiting included where Google asks for patience; at most `30s`.
        timeout: Duration = default("10s");
        /// Where the secret enters a request; as the tool says unless given.
        inject: OneOrMore<RawInject> = optional;
    }
}

section! {
    /// One resource on which a token may be used.
    struct RawBoundary {
        /// The resource, such as `//storage.googleapis.com/projects/_/buckets/BUCKET`.
        resource: String = required;
        /// For what, such as `inRole:roles/storage.objectViewer`.
        permissions: NonEmpty<String> = required;
        /// On what condition (CEL). A decision can't bring another.
        condition: String = optional;
    }
}

/// How many resources a boundary has, as Google has it.
const MOST_RULES: usize = 10;

impl RawGoogle {
    pub(super) fn parse(
        self,
        notes: &mut Notes,
    ) -> (Option<ProviderConfig>, Option<At<OneOrMore<RawInject>>>) {
        let place = self.scopes.as_ref().map(|scopes| scopes.place.clone());
        let inject = self.inject.clone();
        let parsed = place.and_then(|place| self.asked(&place, notes));
        (
            parsed.map(|asked| ProviderConfig::Google(Box::new(asked))),
            inject,
        )
    }

    /// `place` is where keys are found to be missing.
    fn asked(self, place: &Place, notes: &mut Notes) -> Option<Asked<GoogleConfig>> {
        for url in [&self.token_url, &self.sts_url, &self.iam_url] {
            check_url(url.as_ref(), notes);
        }
        check_timeout(self.timeout.as_ref(), notes);
        if self.impersonate.is_some() {
            let message = "who acts for a person impersonates nobody";
            check_goes(self.subject.as_ref(), "wrong_auth", message, notes);
        }
        let impersonation = impersonation(self.impersonate, self.delegates?, notes);
        let boundary = self.access_boundary?;
        if boundary.value.len() > MOST_RULES {
            let message = "expected at most ten";
            notes.mistake(&boundary.place, "wrong_value", message);
        }
        let boundary = boundary.value.into_iter().map(|rule| rule.value.parse());
        let boundary = boundary.collect::<Option<Vec<_>>>();
        let identity = RawIdentity {
            key: self.key,
            subject: self.subject,
            audience: self.audience,
            statement: self.statement,
            token: self.token,
        };
        let identity = identity.parse(self.token_url?.value, (place, notes));
        Some(Asked {
            config: GoogleConfig {
                identity: identity?,
                impersonation,
                scopes: texts(self.scopes?.value.0),
                access_boundary: boundary?,
                sts_url: self.sts_url?.value,
                iam_url: self.iam_url?.value,
                authorities: Vec::new(),
                timeout: self.timeout?.value,
            },
            ca: self.ca.map(|ca| ca.value),
        })
    }
}

/// The keys that say as whom the gateway comes.
struct RawIdentity {
    key: Option<At<SecretRef>>,
    subject: Option<At<String>>,
    audience: Option<At<String>>,
    statement: Option<At<RawFederated>>,
    token: Option<At<SecretRef>>,
}

impl RawIdentity {
    fn parse(self, token_url: Url, (place, notes): (&Place, &mut Notes)) -> Option<GoogleIdentity> {
        match (self.key, self.audience) {
            (Some(key), None) => {
                let message = "it goes with `audience`";
                check_goes(self.statement.as_ref(), "wrong_auth", message, notes);
                check_goes(self.token.as_ref(), "wrong_auth", message, notes);
                Some(GoogleIdentity::ServiceAccount {
                    key: key.value,
                    token_url,
                    subject: self.subject.map(|subject| subject.value),
                })
            }
            (None, Some(audience)) => {
                let message = "it goes with `key`";
                check_goes(self.subject.as_ref(), "wrong_auth", message, notes);
                if !audience.value.starts_with("//") {
                    let message = "expected the full name of a provider, such as `//iam.googleapis.com/projects/…/providers/NAME`";
                    notes.mistake(&audience.place, "wrong_value", message);
                }
                let usual = format!("https:{}", audience.value);
                let shown = (self.statement, self.token);
                let shown = federated(shown, &usual, (place, notes))?;
                Some(GoogleIdentity::Federated {
                    audience: audience.value,
                    shown,
                })
            }
            (Some(_), Some(audience)) => {
                let message = "`key` or `audience`: one of both says as whom the gateway comes";
                notes.mistake(&audience.place, "wrong_auth", message);
                None
            }
            (None, None) => {
                let message =
                    "it needs the `key` of a service account, or the `audience` of a federation";
                notes.mistake(place, "missing_key", message);
                None
            }
        }
    }
}

fn impersonation(
    account: Option<At<String>>,
    delegates: At<Vec<At<String>>>,
    notes: &mut Notes,
) -> Option<Impersonation> {
    for one in account.iter().chain(&delegates.value) {
        let is_in_address = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.@".contains(&byte);
        if !one.value.contains('@') || !one.value.bytes().all(is_in_address) {
            let message = "expected the address of a service account";
            notes.mistake(&one.place, "wrong_value", message);
        }
    }
    let Some(account) = account else {
        if !delegates.value.is_empty() {
            let message = "it goes with `impersonate`";
            notes.mistake(&delegates.place, "wrong_auth", message);
        }
        return None;
    };
    let delegates = delegates.value.into_iter().map(|one| one.value);
    Some(Impersonation {
        account: account.value,
        delegates: delegates.collect(),
    })
}

impl RawBoundary {
    fn parse(self) -> Option<BoundaryRule> {
        let permissions = self.permissions?.value.0.into_iter();
        Some(BoundaryRule {
            resource: self.resource?.value,
            permissions: permissions.map(|one| one.value).collect(),
            condition: self.condition.map(|condition| condition.value),
        })
    }
}
