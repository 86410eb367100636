//! A fake Microsoft Entra ID, as far as an application meets it: tokens for the key of a certificate, or for a statement.
#![expect(
    clippy::indexing_slicing,
    reason = "of JSON: what is not there is null"
)]

use std::collections::VecDeque;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::StatusCode;
use parking_lot::Mutex;
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};

use crate::authorization_server::{Posted, verified};
use crate::google::posted;
use crate::{Answer, Received, Upstream, rsa};

/// The directory.
pub const TENANT: &str = "11111111-2222-3333-4444-555555555555";
/// The application.
pub const CLIENT: &str = "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee";
/// What it was granted something on.
pub const SCOPE: &str = "https://graph.example/.default";
/// Whom the statement of a federated credential is for.
pub const AUDIENCE: &str = "api://AzureADTokenExchange";

/// A fake Entra ID.
#[derive(Debug)]
pub struct Azure {
    upstream: Upstream,
    state: Arc<Mutex<State>>,
    certificate: String,
}

#[derive(Debug)]
struct State {
    url: String,
    /// The thumbprint of the application's certificate.
    thumbprint: String,
    /// The key of a federated credential's issuer (JWK), and the subject that it names.
    federated: Option<(Value, String)>,
    posted: Vec<Posted>,
    next: VecDeque<Answer>,
    issued: usize,
}

impl Azure {
    /// Starts one.
    pub async fn start() -> Self {
        let certificate = rsa::certified();
        let upstream = Upstream::start(Answer::json(json!({}))).await;
        let state = Arc::new(Mutex::new(State {
            url: upstream.url(),
            thumbprint: URL_SAFE_NO_PAD.encode(digest(&SHA256, certificate.der())),
            federated: None,
            posted: Vec::new(),
            next: VecDeque::new(),
            issued: 0,
        }));
        let answering = Arc::clone(&state);
        upstream.answer(Answer::by(move |received| {
            answering.lock().answer(received)
        }));
        Self {
            upstream,
            state,
            certificate: certificate.pem(),
        }
    }

    /// Where it is.
    pub fn url(&self) -> String {
        self.upstream.url()
    }

    /// The application's certificate, PEM; its key is [`rsa::pem`].
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// The application has a federated credential: what is signed by this key (JWK) for this subject is believed.
    pub fn trust(&self, key: Value, subject: &str) {
        self.state.lock().federated = Some((key, subject.to_owned()));
    }

    /// Answers the next request like this.
    pub fn next(&self, answer: Answer) {
        self.state.lock().next.push_back(answer);
    }

    /// What was posted.
    pub fn posted(&self) -> Vec<Posted> {
        self.state.lock().posted.clone()
    }
}

impl State {
    fn answer(&mut self, received: &Received) -> Answer {
        let posted = posted(received);
        self.posted.push(posted.clone());
        if let Some(answer) = self.next.pop_front() {
            return answer;
        }
        if posted.path != format!("/{TENANT}/oauth2/v2.0/token") {
            return no("invalid_request", 90_002);
        }
        let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
        if posted.field("grant_type") != Some("client_credentials")
            || posted.field("client_id") != Some(CLIENT)
            || posted.field("client_assertion_type") != Some(kind)
        {
            return no("unauthorized_client", 700_016);
        }
        if posted.field("scope") != Some(SCOPE) {
            return no("invalid_scope", 70_011);
        }
        let assertion = posted.field("client_assertion").unwrap_or_default();
        if !self.is_certified(assertion) && !self.is_federated(assertion) {
            return no("invalid_client", 700_027);
        }
        self.issued += 1;
        Answer::json(json!({
            "access_token": format!("eyJ.token-{}", self.issued), "token_type": "Bearer",
            "expires_in": 3599, "ext_expires_in": 3599,
        }))
    }

    fn is_certified(&self, assertion: &str) -> bool {
        let Some((header, claims)) = verified(assertion, &rsa::public()) else {
            return false;
        };
        header["alg"] == "PS256"
            && header["x5t#S256"] == self.thumbprint.as_str()
            && claims["iss"] == CLIENT
            && claims["sub"] == CLIENT
            && claims["aud"] == format!("{}/{TENANT}/oauth2/v2.0/token", self.url)
            && claims["jti"].is_string()
            && claims["nbf"].as_i64() < claims["exp"].as_i64()
    }

    /// Entra ID takes RS256 and no other.
    fn is_federated(&self, assertion: &str) -> bool {
        let Some((key, subject)) = &self.federated else {
            return false;
        };
        let Some((header, claims)) = verified(assertion, key) else {
            return false;
        };
        header["alg"] == "RS256" && claims["aud"] == AUDIENCE && claims["sub"] == subject.as_str()
    }
}

fn no(code: &str, number: u32) -> Answer {
    let described = format!("AADSTS{number}: no. Trace ID: 0");
    Answer::Json(
        StatusCode::BAD_REQUEST,
        json!({ "error": code, "error_description": described, "error_codes": [number] }),
    )
}
