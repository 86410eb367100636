//! Asking a person: a link that is followed once, in one browser, and what the authorization server says then.
//!
//! **Invariant.** A link is good once and for ten minutes. What an authorization server answers is taken from the browser
//! that followed it alone (RFC 6749, section 10.12), with the code that was asked for there alone (RFC 7636).

use std::collections::HashMap;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};
use tasks::{StoreError, ToolName};
use tokio::time::Instant;
use url::Url;
use zeroize::Zeroizing;

use super::{ConsentView, Consents, Subject};
use crate::oauth::answer::Answer;
use crate::oauth::{IssuerInAnswers, Server, UserConsent};
use crate::{ProviderError, Secret};

/// How long a link is good, and then an answer is waited for.
const PATIENCE: Duration = Duration::from_mins(10);

/// How many links there are at most, and how many answers are waited for.
const MOST: usize = 10_000;

/// Where the control listener answers to links.
const LINKS: &str = "/v1/consents/links/";

/// Where it takes what authorization servers answer.
const CALLBACK: &str = "/v1/consents/callback";

/// The digest of a secret: what is looked up by it can't be guessed piece by piece.
type Digest = [u8; 32];

/// The links that were given out, and the answers that are waited for.
#[derive(Default)]
pub(super) struct Pending {
    asked: HashMap<Digest, Asked>,
    /// So that a call that is made again is told the link of before.
    links: HashMap<Subject, ConsentLink>,
    flows: HashMap<Digest, Flow>,
}

/// A link to give a consent. Whoever has it can follow it, so it is shown to the agent that asks, and nobody else.
#[derive(Clone, Eq, PartialEq)]
pub struct ConsentLink {
    id: String,
    url: String,
}

/// What a person is asked, before the authorization server asks.
#[derive(Clone, Debug)]
pub struct ConsentQuestion {
    /// Who is asked.
    pub owner: String,
    /// For which tool.
    pub tool: ToolName,
    /// Which agent asked.
    pub agent: String,
    /// The authorization server's host.
    pub server: String,
    /// Where it asks.
    pub authorization_url: Url,
    /// The scopes.
    pub scopes: Vec<String>,
    /// The resources.
    pub resources: Vec<String>,
}

/// What a consent is wanted for.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) subject: Subject,
    pub(crate) agent: String,
}

/// A link that nobody followed yet.
struct Asked {
    wanted: Wanted,
    until: Instant,
}

/// An answer that is waited for.
pub(crate) struct Flow {
    wanted: Wanted,
    until: Instant,
    browser: Digest,
    pub(crate) state: String,
    pub(crate) verifier: Zeroizing<String>,
    pub(crate) nonce: String,
    pub(crate) redirect_uri: String,
}

/// What an authorization server says by way of the browser (RFC 6749, section 4.1.2; RFC 9207).
#[derive(Clone, Copy, Debug, Default)]
pub struct AuthorizationReply<'a> {
    /// Which question it answers.
    pub state: &'a str,
    /// What a token is given for.
    pub code: Option<&'a str>,
    /// Who says so.
    pub issuer: Option<&'a str>,
    /// Why there is none.
    pub error: Option<&'a str>,
}

/// No consent was given.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Unconsented {
    /// Nobody was asked this, or somebody in another browser, or too long ago.
    #[error("nobody waits for this answer in this browser")]
    Unasked,
    /// Another server says so.
    #[error("answer is of another issuer")]
    Issuer,
    /// The person said no, or the server.
    #[error("authorization server refused")]
    Refused,
    /// The person who consented is another.
    #[error("consent was given by somebody else: {0}")]
    Somebody(&'static str),
    /// The server gave no token that can be used.
    #[error(transparent)]
    Provider(#[from] ProviderError),
    /// It could not be written down.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Consents {
    /// The link by which a person consents: that of before, as long as nobody followed it.
    pub(crate) fn ask(&self, wanted: Wanted) -> Result<ConsentLink, ProviderError> {
        let now = Instant::now();
        let mut pending = self.pending.lock();
        pending.forget(now);
        if let Some(link) = pending.links.get(&wanted.subject) {
            return Ok(link.clone());
        }
        if pending.asked.len() >= MOST {
            let cause = "too many people are asked for their consent already";
            return Err(ProviderError::Failed(cause.to_owned()));
        }
        let secret = random()?;
        let digest = digest_of(secret.as_bytes());
        let link = ConsentLink {
            // Tells of it without giving it away.
            id: URL_SAFE_NO_PAD.encode(digest).chars().take(22).collect(),
            url: format!("{}{LINKS}{}", self.base.read(), *secret),
        };
        pending.links.insert(wanted.subject.clone(), link.clone());
        let until = now + PATIENCE;
        pending.asked.insert(digest, Asked { wanted, until });
        Ok(link)
    }

    /// What the person who follows a link is asked. Looking at it does not use it up.
    pub fn question(&self, link: &str) -> Option<ConsentQuestion> {
        let mut pending = self.pending.lock();
        pending.forget(Instant::now());
        let Asked { wanted, .. } = pending.asked.get(&digest_of(link.as_bytes()))?;
        let server = self.server(&wanted.subject)?;
        let (consent, scopes, resources) = server.consent()?;
        Some(ConsentQuestion {
            owner: wanted.subject.owner.clone(),
            tool: wanted.subject.tool.clone(),
            agent: wanted.agent.clone(),
            server: server.host(),
            authorization_url: consent.authorization_url.clone(),
            scopes: scopes.to_vec(),
            resources: resources.to_vec(),
        })
    }

    /// Follows a link, in a browser that shows this secret again: where the person is asked. None if the link is not good.
    pub fn begin(&self, link: &str, browser: &str) -> Option<Url> {
        let now = Instant::now();
        let (state, verifier, nonce) = (random().ok()?, random().ok()?, random().ok()?);
        let mut pending = self.pending.lock();
        pending.forget(now);
        let digest = digest_of(link.as_bytes());
        let subject = &pending.asked.get(&digest)?.wanted.subject.clone();
        // The newest counts, so that nobody who follows link after link leaves no room for others.
        pending
            .flows
            .retain(|_, flow| flow.wanted.subject != *subject);
        if pending.flows.len() >= MOST {
            return None;
        }
        let Asked { wanted, .. } = pending.asked.remove(&digest)?;
        pending.links.remove(&wanted.subject);
        let flow = Flow {
            until: now + PATIENCE,
            browser: digest_of(browser.as_bytes()),
            state: state.to_string(),
            verifier,
            nonce: nonce.to_string(),
            redirect_uri: format!("{}{CALLBACK}", self.base.read()),
            wanted,
        };
        let url = self
            .server(&flow.wanted.subject)?
            .authorization_url(&flow)?;
        pending.flows.insert(digest_of(state.as_bytes()), flow);
        Some(url)
    }

    /// Takes an answer from the browser that shows this secret: the consent, written down. An answer is taken once.
    ///
    /// # Errors
    /// [`Unconsented`]; the person can be asked anew.
    pub async fn finish(
        &self,
        browser: &str,
        reply: AuthorizationReply<'_>,
    ) -> Result<ConsentView, Unconsented> {
        let flow = {
            let mut pending = self.pending.lock();
            pending.forget(Instant::now());
            let state = digest_of(reply.state.as_bytes());
            let browser = digest_of(browser.as_bytes());
            let flow = pending.flows.get(&state);
            // Another browser's does not end it.
            if flow.is_none_or(|flow| flow.browser != browser) {
                return Err(Unconsented::Unasked);
            }
            pending.flows.remove(&state).ok_or(Unconsented::Unasked)?
        };
        let subject = &flow.wanted.subject;
        let server = self.server(subject).ok_or(Unconsented::Unasked)?;
        let (consent, _, _) = server.consent().ok_or(Unconsented::Unasked)?;
        // RFC 9207, section 2.4: before anything else of it is believed.
        let is_named = match (consent.issuer.as_deref(), reply.issuer) {
            (Some(issuer), Some(said)) => said == issuer,
            (Some(_), None) => consent.issuer_in_answers == IssuerInAnswers::Optional,
            (None, _) => true,
        };
        if !is_named {
            return Err(Unconsented::Issuer);
        }
        let (Some(code), None) = (reply.code, reply.error) else {
            return Err(Unconsented::Refused);
        };
        let mut answer = server.redeem(code, &flow).await?;
        if let Err(unconsented) = check(&server, consent, &flow, &answer) {
            server.discard(&answer).await;
            return Err(unconsented);
        }
        let Some(token) = answer.refresh_token.take() else {
            server.discard(&answer).await;
            let cause = "authorization server gave no refresh token; some want the scope `offline_access` for one";
            return Err(ProviderError::Failed(cause.to_owned()).into());
        };
        let scopes = answer.scopes.take().unwrap_or_else(|| server.scopes());
        let kept = self.keep(subject.clone(), scopes, token, &server);
        let kept = kept.await?;
        tracing::info!(consent = %kept.id, owner = %kept.owner, tool = %kept.tool, "consent given");
        Ok(kept)
    }
}

/// Whether the one who consented is the one who was asked, where that is to be made sure of.
fn check(
    server: &Server,
    consent: &UserConsent,
    flow: &Flow,
    answer: &Answer,
) -> Result<(), Unconsented> {
    let Some(claim) = &consent.owner_claim else {
        return Ok(());
    };
    let id_token = answer.id_token.as_ref();
    let id_token = id_token.ok_or(Unconsented::Somebody("there is no ID token"))?;
    let expected = super::id_token::Expected {
        issuer: consent.issuer.as_deref(),
        client_id: server.client_id(),
        nonce: &flow.nonce,
        claim,
        owner: &flow.wanted.subject.owner,
    };
    super::id_token::check(id_token, &expected).map_err(Unconsented::Somebody)
}

impl Pending {
    /// Forgets what is over.
    fn forget(&mut self, now: Instant) {
        self.flows.retain(|_, flow| flow.until > now);
        let links = &mut self.links;
        self.asked.retain(|_, asked| {
            let is_good = asked.until > now;
            if !is_good {
                links.remove(&asked.wanted.subject);
            }
            is_good
        });
    }
}

#[cfg(test)]
impl Pending {
    pub(super) fn waiting(&self) -> usize {
        self.flows.len()
    }

    /// As if its time were over.
    pub(super) fn expire(&mut self) {
        let now = Instant::now();
        self.flows.values_mut().for_each(|flow| flow.until = now);
        self.asked.values_mut().for_each(|asked| asked.until = now);
    }
}

impl ConsentLink {
    /// What tells it from others. No secret.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The link: for the person, and for nobody's log.
    pub fn url(&self) -> &str {
        &self.url
    }
}

impl Flow {
    /// RFC 7636, section 4.2.
    pub(crate) fn challenge(&self) -> String {
        URL_SAFE_NO_PAD.encode(digest_of(self.verifier.as_bytes()))
    }

    /// The code verifier, as a secret of the form.
    pub(crate) fn verifier(&self) -> Result<Secret, ProviderError> {
        Secret::new(self.verifier.as_bytes().to_vec())
    }
}

/// A secret that can't be guessed: 256 bits.
fn random() -> Result<Zeroizing<String>, ProviderError> {
    let mut bytes = Zeroizing::new([0_u8; 32]);
    let filled = SystemRandom::new().fill(&mut *bytes);
    filled.map_err(|_| ProviderError::Failed("no randomness".to_owned()))?;
    Ok(Zeroizing::new(URL_SAFE_NO_PAD.encode(*bytes)))
}

fn digest_of(secret: &[u8]) -> Digest {
    let mut bytes = [0; 32];
    let digest = digest(&SHA256, secret);
    for (byte, of) in bytes.iter_mut().zip(digest.as_ref()) {
        *byte = *of;
    }
    bytes
}

impl std::fmt::Debug for ConsentLink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConsentLink")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}
