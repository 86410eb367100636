//! `provider: azure`: access tokens of Microsoft Entra ID.

use std::path::PathBuf;
use std::time::Duration;

use credentials::{AzureConfig, AzureIdentity, SecretRef};
use url::Url;

use super::binding::{ProviderConfig, RawInject};
use super::collection::OneOrMore;
use super::endpoint::{Asked, check_goes, check_timeout, check_url};
use super::federated::{RawFederated, federated};
use super::mistake::{At, Notes, Place};
use super::oauth::Scope;
use super::shape::section;

section! {
    /// An access token of Microsoft Entra ID: by the `key` of an application's certificate, or by a federated credential (`statement` or `token`).
    struct RawAzure (provider: "azure") {
        /// The directory, by its id or domain.
        tenant: String = required;
        /// The application, by its id.
        client_id: String = required;
        /// What a token is for: `RESOURCE/.default`, all that the application was granted there.
        scope: Scope = required;
        /// The certificate that the application has, PEM; with `key`.
        certificate: PathBuf = optional;
        /// Its key: RSA, PEM.
        key: SecretRef = optional;
        /// What the gateway signs for a federated credential, for `api://AzureADTokenExchange` unless that says otherwise. Entra ID takes RS256 only, so it needs an `issuer` with an RSA `key`.
        statement: RawFederated = optional;
        /// A token that somebody puts there for a federated credential and replaces in time.
        token: SecretRef = optional;
        /// Where Entra ID is; that of another cloud, such as `https://login.microsoftonline.us`.
        authority: Url = default("https://login.microsoftonline.com");
        /// The authorities that vouch for it, PEM. The system's roots unless given.
        ca: PathBuf = optional;
        /// How long obtaining one may take, waiting included where Entra ID asks for patience; at most `30s`.
        timeout: Duration = default("10s");
        /// Where the secret enters a request; as the tool says unless given.
        inject: OneOrMore<RawInject> = optional;
    }
}

/// Whom a statement is for, in Azure's public cloud.
const AUDIENCE: &str = "api://AzureADTokenExchange";

impl RawAzure {
    pub(super) fn parse(
        self,
        notes: &mut Notes,
    ) -> (Option<ProviderConfig>, Option<At<OneOrMore<RawInject>>>) {
        let place = self.client_id.as_ref().map(|client| client.place.clone());
        let inject = self.inject.clone();
        let parsed = place.and_then(|place| self.asked(&place, notes));
        (
            parsed.map(|asked| ProviderConfig::Azure(Box::new(asked))),
            inject,
        )
    }

    /// `place` is where keys are found to be missing.
    fn asked(self, place: &Place, notes: &mut Notes) -> Option<Asked<AzureConfig>> {
        check_url(self.authority.as_ref(), notes);
        check_timeout(self.timeout.as_ref(), notes);
        if let Some(tenant) = &self.tenant {
            check_tenant(tenant, notes);
        }
        if let Some(scope) = &self.scope
            && !scope.value.0.ends_with("/.default")
        {
            let message = "an application asks for all that it was granted: `RESOURCE/.default`";
            notes.mistake(&scope.place, "wrong_value", message);
        }
        let shown = (self.statement, self.token);
        let shown = match (self.certificate, self.key) {
            (Some(certificate), Some(key)) => {
                let message =
                    "`certificate`, `statement` or `token`: one of them shows who the gateway is";
                check_goes(shown.0.as_ref(), "wrong_auth", message, notes);
                check_goes(shown.1.as_ref(), "wrong_auth", message, notes);
                Some(AzureIdentity::Certificate {
                    certificate: certificate.value,
                    key: key.value,
                })
            }
            (None, None) => {
                warn_of_gateways_key(shown.0.as_ref(), notes);
                federated(shown, AUDIENCE, (place, notes)).map(AzureIdentity::Federated)
            }
            (Some(At { place, .. }), None) | (None, Some(At { place, .. })) => {
                let message = "`certificate` and `key` go together";
                notes.mistake(&place, "missing_key", message);
                None
            }
        };
        Some(Asked {
            config: AzureConfig {
                authority: self.authority?.value,
                authorities: Vec::new(),
                tenant: self.tenant?.value,
                client_id: self.client_id?.value,
                shown: shown?,
                scope: self.scope?.value.0,
                timeout: self.timeout?.value,
            },
            ca: self.ca.map(|ca| ca.value),
        })
    }
}

fn check_tenant(tenant: &At<String>, notes: &mut Notes) {
    let is_in_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-.".contains(&byte);
    let several = ["common", "organizations", "consumers", ".", ".."];
    if !tenant.value.bytes().all(is_in_name) || several.contains(&tenant.value.as_str()) {
        let message = "expected one directory, by its id or domain";
        notes.mistake(&tenant.place, "wrong_value", message);
    }
}

/// The gateway's own key is P-256 or Ed25519.
fn warn_of_gateways_key(statement: Option<&At<RawFederated>>, notes: &mut Notes) {
    if let Some(statement) = statement
        && statement.value.key.is_none()
    {
        let message = "Entra ID takes RS256 only, which the gateway does not sign with: give it an `issuer` and an RSA `key`";
        notes.warning(&statement.place, "wrong_auth", message);
    }
}
