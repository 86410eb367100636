//! Tasks are opened and delegated by token exchange (RFC 8693).

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use http::HeaderMap;
use http::request::Parts;
use identity::{Binding, Handover, Presented, TransactionClaims, Transport, Unauthenticated};
use jiff::Timestamp;
use policy::Opener;
use serde_json::{Value, json};
use tasks::{DelegationRequest, Issued, Opening, OpeningRequest};
use url::Url;

use super::detached;
use crate::body::Form;
use crate::door::{self, OAuth};
use crate::exchange::{ACCESS_TOKEN, Exchange, Issue, TXN_TOKEN, Target, Transaction, may_act};
use crate::oauth_refusal::OAuthRefusal;
use crate::parameters::Parameters;
use crate::refusal::Refusal;
use crate::{Control, OpenedTask, opening};

/// `POST /oauth2/token`: whoever holds the tokens asks, so there is no other client to authenticate.
pub(super) async fn exchange(
    State(control): State<Arc<Control>>,
    OAuth(issuer): OAuth,
    request: Request,
) -> Result<Json<Value>, OAuthRefusal> {
    let (parts, body) = request.into_parts();
    let Form(form) = Form::read(&parts.headers, body).await?;
    let answer = detached(exchanged(control, issuer, parts, form)).await?;
    Ok(Json(answer))
}

async fn exchanged(
    control: Arc<Control>,
    issuer: Url,
    parts: Parts,
    form: Parameters,
) -> Result<Value, OAuthRefusal> {
    let live = control.live.load_full();
    let target = Target {
        issuer: &issuer,
        resources: &live.resources,
    };
    let issue = Issue::read(&form)?;
    let authority = door::named_authority(&parts.uri, &parts.headers)?;
    let presented = Presented {
        headers: &parts.headers,
        method: &parts.method,
        host: authority.host(),
        port: authority.port_u16(),
        path: parts.uri.path(),
        query_token: None,
        // The control API speaks no TLS itself.
        transport: &Transport::Plain,
    };
    let tokens = live.identity.handover(&presented);
    let tokens = tokens.map_err(|cause| token("DPoP", cause))?;
    if issue == Issue::TransactionToken {
        return transaction(&control, &tokens, Transaction::read(&form, &target)?).await;
    }
    let exchange = Exchange::read(&form, &target)?;
    // The token is bound to the key of the proof that came along (RFC 9449 section 5).
    let cnf = tokens.binding().map(Binding::into_cnf);
    let kind = if cnf.is_some() { "DPoP" } else { "Bearer" };
    let wish = if tokens.claims_ours(&exchange.subject) {
        delegated(&control, &tokens, exchange, cnf).await?
    } else if exchange.actor.is_some() {
        on_behalf(&control, &tokens, exchange, cnf).await?
    } else {
        for_itself(&control, &tokens, exchange, cnf).await?
    };
    let (opening, opener) = wish;
    let opened = opening::issue(&control, opening, (&opener, None)).await?;
    Ok(answer(&opened, kind))
}

/// How long a transaction token lives at most, in seconds: the draft has it live for minutes or less.
const TRANSACTION: i64 = 5 * 60;

/// The subject is an open task: what its agent shows beside a workload credential. Nothing is opened.
async fn transaction(
    control: &Control,
    tokens: &Handover<'_>,
    wish: Transaction,
) -> Result<Value, OAuthRefusal> {
    let worker = tokens.worker(&wish.subject).await;
    let worker = worker.map_err(|cause| token("subject_token", cause))?;
    let scope = wish.scope_within(worker.claims())?;
    let agent = worker.id().clone();
    let expiry = worker.claims().get("exp").and_then(Value::as_i64);
    let task = control.tasks.bind(worker, &HeaderMap::new());
    let task = task.map_err(Refusal::Unbound)?;
    let now = Timestamp::now().as_second();
    let expires_at = expiry.unwrap_or(now).min(now.saturating_add(TRANSACTION));
    let minted = control
        .live
        .load()
        .tokens
        .mint_transaction(&TransactionClaims {
            txn: task.id().to_string(),
            owner: task.owner().to_owned(),
            agent,
            chain: task.chain().to_vec(),
            scope: scope.clone(),
            details: wish.details,
            context: wish.context,
            expires_at,
        });
    let minted = minted.map_err(|error| Refusal::Internal(error.to_string()))?;
    Ok(json!({
        "access_token": minted,
        "issued_token_type": TXN_TOKEN,
        "token_type": "N_A",
        "expires_in": expires_at.saturating_sub(now),
        "scope": scope,
    }))
}

/// A wish, and whose it is.
type Wish = (Opening, Opener);

/// The subject is a task: a part of it for the actor.
async fn delegated(
    control: &Control,
    tokens: &Handover<'_>,
    exchange: Exchange,
    cnf: Option<Value>,
) -> Result<Wish, OAuthRefusal> {
    let Some(actor) = &exchange.actor else {
        let problem =
            "is missing: beside a task token it tells which agent is to work on a part of the task";
        return Err(OAuthRefusal::parameter("actor_token", problem));
    };
    if let Some(name) = exchange.attributes.keys().next() {
        let name = if name == "request_details" {
            "request_details"
        } else {
            "request_context"
        };
        let problem = "is for tasks of their own: a part of a task has the attributes of the task";
        return Err(OAuthRefusal::parameter(name, problem));
    }
    let parent = tokens.worker(&exchange.subject).await;
    let parent = parent.map_err(|cause| token("subject_token", cause))?;
    let child = tokens.workload(actor).await;
    let child = child.map_err(|cause| token("actor_token", cause))?;
    control
        .tasks
        .check_proof(&child)
        .map_err(Refusal::Unbound)?;
    let parent = control.tasks.bind(parent, &HeaderMap::new());
    let parent = parent.map_err(Refusal::Unbound)?;
    let request = DelegationRequest {
        agent: child.id().as_str().to_owned(),
        purpose: exchange.task.purpose,
        grants: exchange.grants,
        ttl_seconds: exchange.task.ttl_seconds,
        limits: exchange.task.limits,
        cnf,
        opener: None,
        issuers: vec![child.issuer().to_owned()],
        issued_at: child.issued_at(),
    };
    let opening = control.tasks.delegation(parent.id(), request);
    let opening = opening.ok_or_else(|| Refusal::UnknownTask(parent.id().clone()))?;
    let opening = opening.map_err(Refusal::Opening)?;
    Ok((opening, Opener::agent(parent.agent())))
}

/// The subject is a person: a task for the actor, on that person's behalf.
async fn on_behalf(
    control: &Control,
    tokens: &Handover<'_>,
    exchange: Exchange,
    cnf: Option<Value>,
) -> Result<Wish, OAuthRefusal> {
    let owner = tokens.owner(&exchange.subject).await;
    let owner = owner.map_err(|cause| token("subject_token", cause))?;
    let actor = exchange.actor.as_deref().unwrap_or_default();
    let agent = tokens.workload(actor).await;
    let agent = agent.map_err(|cause| token("actor_token", cause))?;
    control
        .tasks
        .check_owner(&owner)
        .map_err(Refusal::Unbound)?;
    control
        .tasks
        .check_proof(&agent)
        .map_err(Refusal::Unbound)?;
    if !may_act(owner.claims(), agent.claims()) {
        return Err(OAuthRefusal::MayNotAct);
    }
    let mut request = request(agent.id().as_str(), owner.name(), exchange, cnf);
    request.issuers = vec![owner.issuer().to_owned(), agent.issuer().to_owned()];
    request.issuers.dedup();
    request.issued = Issued {
        owner: Some(owner.issued_at()),
        agent: agent.issued_at(),
    };
    let opening = control.tasks.opening_of_agent(request);
    let opening = opening.map_err(Refusal::Opening)?;
    Ok((opening, Opener::owner(&owner, &agent)))
}

/// The subject is an agent, and nobody acts for it: a task for itself, which somebody answers for.
async fn for_itself(
    control: &Control,
    tokens: &Handover<'_>,
    exchange: Exchange,
    cnf: Option<Value>,
) -> Result<Wish, OAuthRefusal> {
    let agent = tokens.workload(&exchange.subject).await;
    let agent = agent.map_err(|cause| token("subject_token", cause))?;
    control
        .tasks
        .check_proof(&agent)
        .map_err(Refusal::Unbound)?;
    let id = agent.id().as_str();
    let live = control.live.load();
    let owner = live.owners_of_record.of(id);
    let owner = owner.ok_or_else(|| OAuthRefusal::NoOwner(id.to_owned()))?;
    let mut request = request(id, owner, exchange, cnf);
    request.issuers = vec![agent.issuer().to_owned()];
    request.issued.agent = agent.issued_at();
    let opening = control.tasks.opening_of_agent(request);
    let opening = opening.map_err(Refusal::Opening)?;
    Ok((opening, Opener::agent(&agent)))
}

fn request(agent: &str, owner: &str, exchange: Exchange, cnf: Option<Value>) -> OpeningRequest {
    OpeningRequest {
        agent: agent.to_owned(),
        owner: owner.to_owned(),
        opener: None,
        issuers: Vec::new(),
        issued: Issued::default(),
        cnf,
        purpose: exchange.task.purpose.unwrap_or_default(),
        grants: exchange.grants,
        ttl_seconds: exchange.task.ttl_seconds,
        limits: exchange.task.limits,
        attributes: exchange.attributes,
        labels: Vec::new(),
    }
}

fn token(parameter: &'static str, cause: Unauthenticated) -> OAuthRefusal {
    OAuthRefusal::Token { parameter, cause }
}

/// RFC 8693 section 2.2.1, RFC 9396 section 7, and the id of the task.
fn answer(opened: &OpenedTask, kind: &str) -> Value {
    let expires_at: Option<Timestamp> = opened.expires_at.parse().ok();
    let left = expires_at.map(|at| at.as_second().saturating_sub(Timestamp::now().as_second()));
    json!({
        "access_token": opened.token,
        "issued_token_type": ACCESS_TOKEN,
        "token_type": kind,
        "expires_in": left.unwrap_or_default().max(0),
        "scope": opening::scope(&opened.task.grants),
        "authorization_details": opening::authorization_details(&opened.task.grants),
        "task": opened.id,
    })
}
