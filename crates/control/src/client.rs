//! The other end of the control API, typed; the command line speaks through it.

use std::net::IpAddr;
use std::time::Duration;

use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Method};
use policy::ShadowReport;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tasks::{ApprovalState, ApprovalView, RevocationView, TaskId, TaskView};
use telemetry::KeyView;
use url::{Host, Url};
use zeroize::Zeroizing;

use credentials::{ConsentView, LeaseDetail, LeaseView};

use crate::{
    ApprovalPage, ConsentPage, DelegateRequest, EndRequest, EndedTask, ExplainAnswer,
    ExplainRequest, KeyPage, LeasePage, OpenRequest, OpenedTask, Problem, Reloaded, RevocationPage,
    RevokeRequest, RevokedSubject, StatusView, TaskPage, VoteRequest, WithdrawnConsent,
};

/// How long an answer may take: a little longer than the gateway takes to give up.
const PATIENCE: Duration = Duration::from_secs(70);

/// Speaks to the control API of one gateway, as one operator.
pub struct Client {
    base: Url,
    authorization: HeaderValue,
    http: reqwest::Client,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("base", &self.base.as_str())
            .finish_non_exhaustive()
    }
}

/// Which leases to list: all, unless something is named.
#[derive(Clone, Debug, Default)]
pub struct LeaseFilter {
    /// Of this task.
    pub task: Option<TaskId>,
    /// For this tool.
    pub tool: Option<String>,
    /// Of this agent.
    pub agent: Option<String>,
    /// In this state: `active`, `ending`, `orphaned`, `ended`.
    pub state: Option<&'static str>,
}

/// Why the control API did not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// No gateway can be at such an address.
    #[error("control address `{0}` is not http:// or https:// with a host")]
    Address(String),
    /// The token would cross the network readably.
    #[error(
        "operator token is not sent to `{0}` over plain HTTP: use https://, or a loopback address"
    )]
    Plaintext(String),
    /// The token can't be sent in a header.
    #[error("operator token holds characters that no header can carry")]
    Token,
    /// No TLS, no sockets.
    #[error("http client can't be made: {0}")]
    Setup(String),
    /// Nobody answers.
    #[error("no gateway answers at `{url}`: {cause}")]
    Unreachable {
        /// Where.
        url: String,
        /// Why.
        cause: String,
    },
    /// The gateway says no.
    #[error("{} ({})", .0.detail, .0.code)]
    Refused(Box<Problem>),
    /// Something answers that is no control API.
    #[error("answer of `{url}` can't be read (status {status}): {cause}")]
    Unreadable {
        /// Where.
        url: String,
        /// The HTTP status.
        status: u16,
        /// Why.
        cause: String,
    },
}

impl ClientError {
    /// The gateway's problem document, if it said no: `code` for scripts, `hint` for people.
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            Self::Refused(problem) => Some(problem),
            Self::Address(_)
            | Self::Plaintext(_)
            | Self::Token
            | Self::Setup(_)
            | Self::Unreachable { .. }
            | Self::Unreadable { .. } => None,
        }
    }
}

impl Client {
    /// Speaks to the gateway at `base`, such as `http://127.0.0.1:4190`. Over plain HTTP only to a loopback address.
    pub fn new(base: Url, token: &str) -> Result<Self, ClientError> {
        if base.scheme() == "http" && !is_loopback(&base) {
            return Err(ClientError::Plaintext(base.to_string()));
        }
        Self::new_over_trusted_network(base, token)
    }

    /// Like [`Client::new`], over plain HTTP to anywhere: somebody said that the network is trusted.
    pub fn new_over_trusted_network(base: Url, token: &str) -> Result<Self, ClientError> {
        if !matches!(base.scheme(), "http" | "https") || base.cannot_be_a_base() {
            return Err(ClientError::Address(base.to_string()));
        }
        let bearer = Zeroizing::new(format!("Bearer {token}"));
        let mut authorization = HeaderValue::from_str(&bearer).map_err(|_| ClientError::Token)?;
        authorization.set_sensitive(true);
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            // Fails only if somebody was quicker, which is as good.
            drop(rustls::crypto::ring::default_provider().install_default());
        }
        // No proxy: HTTPS_PROXY may well be the gateway itself, and a token goes nowhere else.
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(PATIENCE)
            .build()
            .map_err(|error| ClientError::Setup(error.to_string()))?;
        Ok(Self {
            base,
            authorization,
            http,
        })
    }

    /// Opens a task.
    pub async fn open(&self, request: &OpenRequest) -> Result<OpenedTask, ClientError> {
        self.post(&["v1", "tasks"], request).await
    }

    /// Delegates a part of a task.
    pub async fn delegate(
        &self,
        id: &TaskId,
        request: &DelegateRequest,
    ) -> Result<OpenedTask, ClientError> {
        let path = ["v1", "tasks", id.as_str(), "delegate"];
        self.post(&path, request).await
    }

    /// A new token of an open task.
    pub async fn token(&self, id: &TaskId) -> Result<OpenedTask, ClientError> {
        let path = ["v1", "tasks", id.as_str(), "token"];
        self.post(&path, &serde_json::Map::new()).await
    }

    /// Lets no more calls of a task through until it is resumed.
    pub async fn pause(&self, id: &TaskId) -> Result<TaskView, ClientError> {
        let path = ["v1", "tasks", id.as_str(), "pause"];
        self.post(&path, &serde_json::Map::new()).await
    }

    /// Lets calls of a task through again.
    pub async fn resume(&self, id: &TaskId) -> Result<TaskView, ClientError> {
        let path = ["v1", "tasks", id.as_str(), "resume"];
        self.post(&path, &serde_json::Map::new()).await
    }

    /// One task.
    pub async fn show(&self, id: &TaskId) -> Result<TaskView, ClientError> {
        self.get(&["v1", "tasks", id.as_str()], &[]).await
    }

    /// All tasks, newest first; only those in a state (`open`, `paused`, `ended`) if one is named.
    pub async fn list(&self, state: Option<&str>) -> Result<Vec<TaskView>, ClientError> {
        let mut tasks: Vec<TaskView> = Vec::new();
        loop {
            let before = tasks.last().map(|task| task.id.as_str());
            let query = [("state", state), ("before", before)];
            let page: TaskPage = self.get(&["v1", "tasks"], &query).await?;
            let more = page.more && !page.tasks.is_empty();
            tasks.extend(page.tasks);
            if !more {
                return Ok(tasks);
            }
        }
    }

    /// Ends a task. Ending twice answers the same.
    pub async fn end(&self, id: &TaskId, request: EndRequest) -> Result<EndedTask, ClientError> {
        self.post(&["v1", "tasks", id.as_str(), "end"], &request)
            .await
    }

    /// All approvals, newest first; only those in a state, or of a task, if one is named.
    pub async fn approvals(
        &self,
        state: Option<ApprovalState>,
        task: Option<&TaskId>,
    ) -> Result<Vec<ApprovalView>, ClientError> {
        let mut approvals: Vec<ApprovalView> = Vec::new();
        loop {
            let before = approvals.last().map(|approval| approval.id.as_str());
            let query = [
                ("state", state.map(ApprovalState::as_str)),
                ("task", task.map(TaskId::as_str)),
                ("before", before),
            ];
            let page: ApprovalPage = self.get(&["v1", "approvals"], &query).await?;
            let more = page.more && !page.approvals.is_empty();
            approvals.extend(page.approvals);
            if !more {
                return Ok(approvals);
            }
        }
    }

    /// One approval.
    pub async fn approval(&self, id: &str) -> Result<ApprovalView, ClientError> {
        self.get(&["v1", "approvals", id], &[]).await
    }

    /// Approves a call.
    pub async fn grant(&self, id: &str, vote: &VoteRequest) -> Result<ApprovalView, ClientError> {
        self.post(&["v1", "approvals", id, "grant"], vote).await
    }

    /// Refuses a call.
    pub async fn refuse(&self, id: &str, vote: &VoteRequest) -> Result<ApprovalView, ClientError> {
        self.post(&["v1", "approvals", id, "refuse"], vote).await
    }

    /// All leases that are wanted, newest first.
    pub async fn leases(&self, wanted: &LeaseFilter) -> Result<Vec<LeaseView>, ClientError> {
        let mut leases: Vec<LeaseView> = Vec::new();
        loop {
            let before = leases.last().map(|lease| lease.id.as_str());
            let query = [
                ("task", wanted.task.as_ref().map(TaskId::as_str)),
                ("tool", wanted.tool.as_deref()),
                ("agent", wanted.agent.as_deref()),
                ("state", wanted.state),
                ("before", before),
            ];
            let page: LeasePage = self.get(&["v1", "leases"], &query).await?;
            let more = page.more && !page.leases.is_empty();
            leases.extend(page.leases);
            if !more {
                return Ok(leases);
            }
        }
    }

    /// All consents, newest first; only those of an owner if one is named.
    pub async fn consents(&self, owner: Option<&str>) -> Result<Vec<ConsentView>, ClientError> {
        let mut consents: Vec<ConsentView> = Vec::new();
        loop {
            let before = consents.last().map(|consent| consent.id.as_str());
            let query = [("owner", owner), ("before", before)];
            let page: ConsentPage = self.get(&["v1", "consents"], &query).await?;
            let more = page.more && !page.consents.is_empty();
            consents.extend(page.consents);
            if !more {
                return Ok(consents);
            }
        }
    }

    /// The keys that agents brought since the start, those last seen first, and how many more are forgotten; only those that
    /// several agents brought, or only the others, if it is said.
    pub async fn keys(&self, reused: Option<bool>) -> Result<(Vec<KeyView>, u64), ClientError> {
        let reused = reused.map(|reused| reused.to_string());
        let mut keys: Vec<KeyView> = Vec::new();
        loop {
            let before = keys.last().map(|key| key.fingerprint.as_str());
            let query = [("reused", reused.as_deref()), ("before", before)];
            let page: KeyPage = self.get(&["v1", "keys"], &query).await?;
            let more = page.more && !page.keys.is_empty();
            keys.extend(page.keys);
            if !more {
                return Ok((keys, page.forgotten));
            }
        }
    }

    /// Takes a consent back.
    pub async fn withdraw(&self, id: &str) -> Result<WithdrawnConsent, ClientError> {
        let url = self.url(&["v1", "consents", id])?;
        let request = self.http.request(Method::DELETE, url.clone());
        self.send(url, request).await
    }

    /// One lease, with everything that is known of it but its secret.
    pub async fn lease(&self, id: &str) -> Result<LeaseDetail, ClientError> {
        self.get(&["v1", "leases", id], &[]).await
    }

    /// Takes one lease back, or tries to once more.
    pub async fn revoke_lease(&self, id: &str) -> Result<LeaseDetail, ClientError> {
        self.post(&["v1", "leases", id, "revoke"], &()).await
    }

    /// Revokes everything of an agent, an issuer, a tool or an owner.
    pub async fn revoke(&self, request: &RevokeRequest) -> Result<RevokedSubject, ClientError> {
        self.post(&["v1", "revocations"], request).await
    }

    /// All revocations that stand, newest first.
    pub async fn revocations(&self) -> Result<Vec<RevocationView>, ClientError> {
        let mut revocations: Vec<RevocationView> = Vec::new();
        loop {
            let before = revocations.last().map(|each| each.id.as_str());
            let query = [("before", before)];
            let page: RevocationPage = self.get(&["v1", "revocations"], &query).await?;
            let more = page.more && !page.revocations.is_empty();
            revocations.extend(page.revocations);
            if !more {
                return Ok(revocations);
            }
        }
    }

    /// Lifts a revocation.
    pub async fn lift(&self, id: &str) -> Result<RevocationView, ClientError> {
        let url = self.url(&["v1", "revocations", id])?;
        let request = self.http.request(Method::DELETE, url.clone());
        self.send(url, request).await
    }

    /// What would be decided for a call.
    pub async fn explain(&self, request: &ExplainRequest) -> Result<ExplainAnswer, ClientError> {
        self.post(&["v1", "explain"], request).await
    }

    /// What the gateway tells of itself.
    pub async fn status(&self) -> Result<StatusView, ClientError> {
        self.get(&["v1", "status"], &[]).await
    }

    /// Applies the configuration anew.
    pub async fn reload(&self) -> Result<Reloaded, ClientError> {
        self.post(&["v1", "reload"], &serde_json::Map::new()).await
    }

    /// Where the policy that is tried differs from the one that counts.
    pub async fn shadow(&self) -> Result<ShadowReport, ClientError> {
        self.get(&["v1", "policy", "shadow"], &[]).await
    }

    /// Puts the candidate policy in the place of the one that counts.
    pub async fn promote(&self) -> Result<Reloaded, ClientError> {
        let path = ["v1", "policy", "promote"];
        self.post(&path, &serde_json::Map::new()).await
    }

    async fn get<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &[(&str, Option<&str>)],
    ) -> Result<T, ClientError> {
        let mut url = self.url(path)?;
        for (key, value) in query {
            if let Some(value) = value {
                url.query_pairs_mut().append_pair(key, value);
            }
        }
        let request = self.http.request(Method::GET, url.clone());
        self.send(url, request).await
    }

    async fn post<T: DeserializeOwned>(
        &self,
        path: &[&str],
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        let url = self.url(path)?;
        let body =
            serde_json::to_vec(body).map_err(|error| ClientError::Setup(error.to_string()))?;
        let request = self
            .http
            .request(Method::POST, url.clone())
            .header(CONTENT_TYPE, "application/json")
            .body(body);
        self.send(url, request).await
    }

    async fn send<T: DeserializeOwned>(
        &self,
        url: Url,
        request: reqwest::RequestBuilder,
    ) -> Result<T, ClientError> {
        let unreachable = |error: reqwest::Error| ClientError::Unreachable {
            url: url.to_string(),
            cause: innermost(&error),
        };
        let request = request.header(AUTHORIZATION, self.authorization.clone());
        let response = request.send().await.map_err(unreachable)?;
        let status = response.status();
        let body = Zeroizing::new(response.bytes().await.map_err(unreachable)?.to_vec());
        let unreadable = |error: serde_json::Error| ClientError::Unreadable {
            url: url.to_string(),
            status: status.as_u16(),
            cause: error.to_string(),
        };
        if status.is_success() {
            return serde_json::from_slice(&body).map_err(unreadable);
        }
        let problem = serde_json::from_slice(&body).map_err(unreadable)?;
        Err(ClientError::Refused(problem))
    }

    fn url(&self, path: &[&str]) -> Result<Url, ClientError> {
        let mut url = self.base.clone();
        url.path_segments_mut()
            .map_err(|()| ClientError::Address(self.base.to_string()))?
            .pop_if_empty()
            .extend(path);
        Ok(url)
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::from(address).to_canonical().is_loopback(),
        None => false,
    }
}

/// reqwest's own text says only that a request failed; the innermost error says why.
fn innermost(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(base: &str) -> Result<Client, ClientError> {
        Client::new(base.parse().unwrap(), "operator-token-0123456789")
    }

    #[track_caller]
    fn check(base: &str, expect: &str) {
        let url = client(base).unwrap().url(&["v1", "tasks", "a/b"]).unwrap();
        assert_eq!(url.as_str(), expect);
    }

    #[test]
    fn the_path_comes_after_the_base() {
        check(
            "http://127.0.0.1:4190",
            "http://127.0.0.1:4190/v1/tasks/a%2Fb",
        );
        check(
            "https://gw.example/remit/",
            "https://gw.example/remit/v1/tasks/a%2Fb",
        );
    }

    #[test]
    fn a_token_crosses_the_network_over_tls_only() {
        assert!(client("https://gw.example").is_ok());
        assert!(client("http://localhost:4190").is_ok());
        assert!(client("http://[::1]:4190").is_ok());
        let refused = client("http://gw.example:4190").unwrap_err();
        assert!(matches!(refused, ClientError::Plaintext(_)));
    }

    #[test]
    fn another_scheme_is_no_gateway() {
        let refused = client("ftp://localhost").unwrap_err();
        assert!(matches!(refused, ClientError::Address(_)));
    }

    #[test]
    fn no_token_shows_itself() {
        let client = client("http://127.0.0.1:4190").unwrap();
        assert!(!format!("{client:?} {:?}", client.authorization).contains("0123456789"));
    }

    #[tokio::test]
    async fn nobody_there_is_told_with_the_address() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let error = client(&format!("http://{address}"))
            .unwrap()
            .status()
            .await
            .unwrap_err();
        let told = error.to_string();
        assert!(told.contains(&address.to_string()), "{told}");
        assert!(told.contains("refused"), "{told}");
    }
}
