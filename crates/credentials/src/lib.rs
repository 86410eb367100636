//! With what?
//!
//! [`Credentials::issue`] turns a [`Permit`](policy::Permit) into a [`Credential`];
//! [`Credential::inject`] turns that into an [`Outbound`] request.
//!
//! **Invariant.** Nothing leaves the gateway but an [`Outbound`], and there is no other way to make
//! one. A lease belongs to one agent, task, tool, access class and scope, and does not outlive the task.
//!
//! A permit buys one credential:
//!
//! ```compile_fail,E0382
//! async fn twice(credentials: credentials::Credentials, permit: policy::Permit) {
//!     let first = credentials.issue(permit).await;
//!     let second = credentials.issue(permit).await;
//! }
//! ```

mod azure;
mod certificate;
mod cmd;
mod consents;
mod context;
mod credential;
mod credentials;
mod endpoint;
mod federated;
mod github_app;
mod google;
mod injection;
mod jwt;
mod kubernetes;
mod lease;
mod leases;
mod material;
mod narrowing;
mod oauth;
mod outbound;
mod phantoms;
mod program;
mod provider;
mod reference;
mod scrubber;
mod seal;
mod sealed_store;
mod secret;
mod sigv4;
mod spiffe;
mod statement;
mod static_key;
mod sts;
#[cfg(test)]
mod testing;
mod vault;

pub use azure::{Azure, AzureConfig, AzureIdentity};
pub use certificate::CertificateSource;
pub use cmd::Cmd;
pub use consents::{
    AuthorizationReply, ConsentLink, ConsentQuestion, ConsentView, Consents, RevokedConsent,
    Unconsented,
};
pub use context::{Context, ContextRule, Network, NetworkRule};
pub use credential::{Credential, Uninjectable};
pub use credentials::{Binding, Credentials, Unavailable};
pub use federated::Federated;
pub use github_app::{GithubApp, GithubAppConfig, Installation, InvalidLevel, Level};
pub use google::{BoundaryRule, Google, GoogleConfig, GoogleIdentity, Impersonation};
pub use injection::{Injection, Place, User};
pub use jwt::Jwt;
pub use kubernetes::{KubernetesConfig, KubernetesSecret, KubernetesToken};
pub use lease::{LeaseDetail, LeaseView};
pub use leases::Leases;
pub use material::{ClientIdentity, Field, Fields, Material};
pub use oauth::{
    ClientAuthentication, Grant, IdJag, IssuerInAnswers, OAuth, OAuthConfig, SubjectToken,
    TokenEnd, TokenKind, UserConsent,
};
pub use outbound::Outbound;
pub use phantoms::{Keeper, Phantoms, Unkept, UnknownPhantom};
pub use provider::{Obtained, Provider, ProviderError, Revocation, Wish};
pub use reference::{InvalidSecretRef, SecretRef};
pub use scrubber::{Flow, Scrubber};
pub use seal::{Opened, Seal, Unopened};
pub use sealed_store::SealedStore;
pub use secret::Secret;
pub use sigv4::{Chunks, InvalidChunks, SigV4, SigV4Location};
pub use spiffe::Spiffe;
pub use statement::{InvalidSubject, KeyRef, Signer, Statement, Subject};
pub use static_key::{Kept, KeptField, Static};
pub use sts::{LONGEST_POLICY, SessionTag, Sts, StsBase, StsConfig};
pub use vault::{
    Vault, VaultConfig, VaultDynamic, VaultEngine, VaultJwt, VaultLink, VaultLogin, VaultRef,
    VaultSecret, VaultSecrets, is_vault_path,
};
