//! People consent to tools in their own browsers; operators list consents and take them back.
//!
//! A link is a secret of the call that lacked a consent: whoever has it is asked, and nothing else is told by it. What an
//! authorization server answers counts in the browser alone in which the person was asked: a cookie tells it.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, RawQuery, State};
use axum::response::{IntoResponse, Response};
use credentials::{AuthorizationReply, ConsentQuestion, ConsentView, LeaseView, Unconsented};
use http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, COOKIE, LOCATION, SET_COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use ring::rand::{SecureRandom, SystemRandom};
use serde::Deserialize;
use tasks::TaskId;

use super::{asked, detached};
use crate::door::{self, Peer};
use crate::page::{ConsentPage, PAGE, page};
use crate::parameters::Parameters;
use crate::refusal::Refusal;
use crate::{Caller, Control, WithdrawnConsent};

/// Which browser it is.
const BROWSER: &str = "remit_consent";

/// The same over TLS: no other host of the domain can set it, and nobody over plain HTTP (RFC 6265bis, section 4.1.3.2).
const BROWSER_OVER_TLS: &str = "__Host-remit_consent";

/// How browsers tell who made a page that sends something (Fetch Metadata).
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// How long the end of leases is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// What consents to list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    owner: Option<String>,
    before: Option<String>,
    limit: Option<usize>,
}

/// `GET /v1/consents`
pub(super) async fn list(
    State(control): State<Arc<Control>>,
    _caller: Caller,
    query: Result<Query<Wanted>, QueryRejection>,
) -> Result<Json<ConsentPage>, Refusal> {
    let wanted = asked(query)?;
    let owner = wanted.owner.as_deref();
    let all = control.consents.list().into_iter();
    let all = all.filter(|consent| owner.is_none_or(|owner| consent.owner == owner));
    let limit = wanted.limit.unwrap_or(PAGE).min(PAGE);
    let (consents, more) = page(all, |consent| &consent.id, wanted.before.as_deref(), limit);
    Ok(Json(ConsentPage { consents, more }))
}

/// `DELETE /v1/consents/{id}`
pub(super) async fn revoke(
    State(control): State<Arc<Control>>,
    caller: Caller,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<WithdrawnConsent>, Refusal> {
    let Path(id) = id.map_err(|rejection| Refusal::UnknownConsent(rejection.body_text()))?;
    let withdrawn = detached(async move {
        let Some(consent) = control.consents.view(&id) else {
            return Err(Refusal::UnknownConsent(id));
        };
        let revoked = control.consents.revoke(&id).await;
        // Also where the store fails: what came by the consent is not used any more.
        let leases = end_leases(&control, &consent).await;
        let revoked = revoked.map_err(|error| Refusal::Store(error.to_string()))?;
        let revoked = revoked.ok_or(Refusal::UnknownConsent(id))?;
        tracing::info!(consent = %revoked.consent.id, operator = caller.name(), "consent taken back");
        Ok(WithdrawnConsent { leases, revoked })
    });
    Ok(Json(withdrawn.await?))
}

/// Ends the leases of the owner's tasks for the tool.
async fn end_leases(control: &Control, consent: &ConsentView) -> Vec<LeaseView> {
    let tasks = control.tasks.list();
    let tasks: HashSet<TaskId> = tasks
        .into_iter()
        .filter(|task| task.owner == consent.owner)
        .map(|task| task.id)
        .collect();
    let live = control.live.load_full();
    let leases = live.credentials.leases();
    let is_meant = |task: &TaskId| tasks.contains(task);
    let leases = leases.conclude_of(&consent.tool, is_meant, PATIENCE);
    leases.await
}

/// `GET /v1/consents/links/{link}`: what the person is asked. Looking at it changes nothing.
pub(super) async fn show(
    State(control): State<Arc<Control>>,
    peer: Peer,
    headers: HeaderMap,
    link: Result<Path<String>, PathRejection>,
) -> Result<Response, Refusal> {
    door::check_plaintext(peer, control.options.plaintext)?;
    let question = link
        .ok()
        .and_then(|Path(link)| control.consents.question(&link));
    let Some(question) = question else {
        return Ok(gone());
    };
    let mut response = html(StatusCode::OK, &ask(&question));
    let from = question.authorization_url.origin().ascii_serialization();
    // A server that leaves people to another sends them on, and some browsers look at that, too.
    let policy = format!(
        "default-src 'none'; base-uri 'none'; frame-ancestors 'none'; form-action 'self' https: {from}"
    );
    let policy = HeaderValue::try_from(policy).map_err(|error| internal(&error))?;
    let headers_out = response.headers_mut();
    headers_out.insert(CONTENT_SECURITY_POLICY, policy);
    // One browser may be asked several things at once.
    if browser(&headers, control.options.is_secure()).is_none() {
        headers_out.insert(SET_COOKIE, cookie(control.options.is_secure())?);
    }
    Ok(response)
}

/// `POST /v1/consents/links/{link}`: the person goes on to the authorization server. The link is used up.
pub(super) async fn follow(
    State(control): State<Arc<Control>>,
    peer: Peer,
    headers: HeaderMap,
    link: Result<Path<String>, PathRejection>,
) -> Result<Response, Refusal> {
    door::check_plaintext(peer, control.options.plaintext)?;
    // A page of somebody else's sends nobody on: the question was to be seen first.
    let site = headers.get(SEC_FETCH_SITE);
    let is_own = site.is_none_or(|site| site == "same-origin");
    let browser = browser(&headers, control.options.is_secure());
    let (Some(browser), true) = (browser, is_own) else {
        let problem = "Open the link in this browser, and go on from the page that it shows. \
                       Cookies have to be allowed for it.";
        return Ok(html(StatusCode::FORBIDDEN, &told("Not from here", problem)));
    };
    let url = link.ok();
    let url = url.and_then(|Path(link)| control.consents.begin(&link, browser));
    let Some(url) = url else {
        return Ok(gone());
    };
    let url = HeaderValue::try_from(url.as_str()).map_err(|error| internal(&error))?;
    let mut response = StatusCode::SEE_OTHER.into_response();
    response.headers_mut().insert(LOCATION, url);
    Ok(response)
}

/// `GET /v1/consents/callback`: what the authorization server says.
pub(super) async fn answered(
    State(control): State<Arc<Control>>,
    peer: Peer,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    door::check_plaintext(peer, control.options.plaintext)?;
    let finished = detached::<_, Refusal>(async move {
        let Some(browser) = browser(&headers, control.options.is_secure()) else {
            return Ok(Err(Unconsented::Unasked));
        };
        let query = query.unwrap_or_default();
        // Said twice, it is not known which counts (RFC 6749, section 3.1).
        let Ok(said) = Parameters::read(query.as_bytes()) else {
            return Ok(Err(Unconsented::Unasked));
        };
        let one = |name| said.one(name);
        let (Ok(Some(state)), Ok(code), Ok(issuer), Ok(error)) =
            (one("state"), one("code"), one("iss"), one("error"))
        else {
            return Ok(Err(Unconsented::Unasked));
        };
        let reply = AuthorizationReply {
            state,
            code,
            issuer,
            error,
        };
        Ok(control.consents.finish(browser, reply).await)
    });
    let problem = match finished.await? {
        Ok(given) => {
            let text = format!(
                "Agents that work for {} can use {} now, until you or an operator take it back. Let the agent try again; you can close this page.",
                given.owner, given.tool
            );
            return Ok(html(StatusCode::OK, &told("Thank you", &text)));
        }
        Err(problem) => problem,
    };
    tracing::warn!(%problem, "consent not given");
    let text = match problem {
        Unconsented::Refused => {
            "The authorization server says that it was refused. Nothing has changed."
        }
        Unconsented::Unasked => {
            "Nobody waits for this answer in this browser, or no longer. Let the agent make its call again, and open the new link."
        }
        Unconsented::Somebody(_) => {
            "You are signed in there as somebody else than whom the agent works for. Nothing has changed."
        }
        _ => "Something went wrong; the gateway's log says what. Nothing has changed.",
    };
    Ok(html(StatusCode::BAD_REQUEST, &told("No consent", text)))
}

fn gone() -> Response {
    let text = "This link was used already, or its time is over. Let the agent make its call again, and open the new link.";
    html(
        StatusCode::NOT_FOUND,
        &told("This link is not good any more", text),
    )
}

/// The question, as a page.
fn ask(question: &ConsentQuestion) -> String {
    let items = |values: &[String]| {
        let items = values.iter();
        let items = items.map(|value| format!("<li><code>{}</code></li>", escaped(value)));
        items.collect::<String>()
    };
    let may = if question.scopes.is_empty() {
        "<p>The server says what that allows.</p>".to_owned()
    } else {
        format!("<p>They ask for:</p><ul>{}</ul>", items(&question.scopes))
    };
    let at = if question.resources.is_empty() {
        String::new()
    } else {
        format!("<p>At:</p><ul>{}</ul>", items(&question.resources))
    };
    document(
        "Your consent is asked for",
        &format!(
            "<p>The agent <b>{agent}</b> works for <b>{owner}</b>. It asks that agents which work for <b>{owner}</b> may use <b>{tool}</b> in your name.</p>{may}{at}\
             <p>It holds until it is taken back. Go on only if you are <b>{owner}</b>, and know of this work: what these agents do there is done as you.</p>\
             <form method=\"post\"><button>Go on to {server}</button></form><p>Else close this page. Nothing has happened yet.</p>",
            agent = escaped(&question.agent),
            owner = escaped(&question.owner),
            tool = escaped(question.tool.as_str()),
            server = escaped(&question.server),
        ),
    )
}

fn told(title: &str, text: &str) -> String {
    document(title, &format!("<p>{}</p>", escaped(text)))
}

/// `title` is ours.
fn document(title: &str, body: &str) -> String {
    format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\"><title>{title}</title><h1>{title}</h1>{body}"
    )
}

fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

fn html(status: StatusCode, document: &str) -> Response {
    let mut response = (status, document.to_owned()).into_response();
    let kind = HeaderValue::from_static("text/html; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

/// The browser's own secret, if it has one.
fn browser(headers: &HeaderMap, is_secure: bool) -> Option<&str> {
    let cookies = headers.get_all(COOKIE).iter();
    let mut pairs = cookies
        .filter_map(|cookies| cookies.to_str().ok())
        .flat_map(|cookies| cookies.split(';'))
        .filter_map(|pair| pair.trim().split_once('='));
    let (_, value) = pairs.find(|(name, _)| *name == named(is_secure))?;
    let is_ours = value.len() == 64 && value.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_ours.then_some(value)
}

fn named(is_secure: bool) -> &'static str {
    if is_secure { BROWSER_OVER_TLS } else { BROWSER }
}

/// A new secret for a browser, 256 bits. It comes back when the authorization server sends the person here, and from no
/// form of another site.
fn cookie(is_secure: bool) -> Result<HeaderValue, Refusal> {
    let mut bytes = [0_u8; 32];
    let filled = SystemRandom::new().fill(&mut bytes);
    filled.map_err(|error| internal(&error))?;
    let secret: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let name = named(is_secure);
    let place = if is_secure {
        "Path=/; Secure"
    } else {
        "Path=/v1/consents"
    };
    let cookie = format!("{name}={secret}; {place}; Max-Age=1800; HttpOnly; SameSite=Lax");
    HeaderValue::try_from(cookie).map_err(|error| internal(&error))
}

fn internal(error: &dyn std::fmt::Display) -> Refusal {
    Refusal::Internal(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_name_says_is_no_markup() {
        let question = ConsentQuestion {
            owner: "<script>alert(1)</script>".to_owned(),
            tool: "notes".parse().unwrap(),
            agent: "\"'><b>".to_owned(),
            server: "idp.example&".to_owned(),
            authorization_url: "https://idp.example/".parse().unwrap(),
            scopes: vec!["<i>".to_owned()],
            resources: vec!["<u>".to_owned()],
        };
        let page = ask(&question);
        for markup in ["<script", "<i>", "<u>", "\"'>"] {
            assert!(!page.contains(markup), "{page}");
        }
    }

    #[track_caller]
    fn check(cookie: &str, is_secure: bool, expect: Option<&str>) {
        let mut headers = HeaderMap::new();
        headers.insert(COOKIE, cookie.parse().unwrap());
        assert_eq!(browser(&headers, is_secure), expect);
    }

    #[test]
    fn a_browser_shows_its_secret_again() {
        let secret = "0123456789abcdef".repeat(4);
        let some = format!("a=b; remit_consent={secret}; c=d");
        check(&some, false, Some(&secret));
        check("remit_consent=short", false, None);
        check("other=1", false, None);
        for is_secure in [false, true] {
            let made = cookie(is_secure).unwrap();
            let made = made.to_str().unwrap().split_once(';').unwrap().0;
            check(made, is_secure, made.split_once('=').map(|it| it.1));
        }
    }
    #[test]
    fn over_tls_no_other_host_sets_it() {
        let secret = "0123456789abcdef".repeat(4);
        check(&format!("remit_consent={secret}"), true, None);
        let made = cookie(true).unwrap();
        let made = made.to_str().unwrap();
        assert!(made.starts_with("__Host-remit_consent="), "{made}");
        assert!(made.contains("; Path=/; Secure;"), "{made}");
        assert!(!made.contains("Domain"), "{made}");
    }
}
