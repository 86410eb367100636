//! What a token exchange asks for (RFC 8693 section 2.1).

use std::collections::BTreeSet;

use identity::strict_json;
use serde::Deserialize;
use serde_json::{Map, Value};
use tasks::{Grant, Limits};
use url::{Origin, Url};

use crate::issuer_name;
use crate::oauth_refusal::OAuthRefusal;
use crate::opening;
use crate::parameters::Parameters;

/// RFC 8693 section 2.1.
pub(crate) const TOKEN_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";

/// RFC 8693 section 3.
pub(crate) const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";
/// draft-ietf-oauth-transaction-tokens-10.
pub(crate) const TXN_TOKEN: &str = "urn:ietf:params:oauth:token-type:txn_token";
const ID_TOKEN: &str = "urn:ietf:params:oauth:token-type:id_token";

/// The type of the authorization details that are grants (RFC 9396 section 2).
pub(crate) const REMIT_GRANT: &str = "remit_grant";

/// The type of the one authorization detail that says the rest of a task.
pub(crate) const REMIT_TASK: &str = "remit_task";

/// What a task is to be besides its grants.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TaskDetail {
    #[serde(default)]
    pub(crate) purpose: Option<String>,
    #[serde(default)]
    pub(crate) ttl_seconds: Option<u64>,
    #[serde(default)]
    pub(crate) limits: Limits,
}

/// What asks for tokens may be for: this gateway.
pub(crate) struct Target<'t> {
    /// The issuer of task tokens.
    pub(crate) issuer: &'t Url,
    /// Where agents call.
    pub(crate) resources: &'t [Origin],
}

/// What a token exchange asks for: well formed, nothing of it believed yet.
pub(crate) struct Exchange {
    pub(crate) subject: String,
    pub(crate) actor: Option<String>,
    pub(crate) grants: Vec<Grant>,
    pub(crate) task: TaskDetail,
    /// The details and the context of the request, by their names.
    pub(crate) attributes: Map<String, Value>,
}

impl Exchange {
    /// Reads the form of a request to this gateway.
    pub(crate) fn read(form: &Parameters, target: &Target<'_>) -> Result<Self, OAuthRefusal> {
        target.check(form)?;
        let subject = form.required("subject_token")?;
        check_type(form.required("subject_token_type")?, "subject_token_type")?;
        let actor = form.one("actor_token")?;
        match (actor, form.one("actor_token_type")?) {
            (Some(_), Some(kind)) => check_type(kind, "actor_token_type")?,
            (None, None) => {}
            (Some(_), None) => {
                return Err(OAuthRefusal::parameter("actor_token_type", "is missing"));
            }
            (None, Some(_)) => {
                let problem = "is there without `actor_token`";
                return Err(OAuthRefusal::parameter("actor_token_type", problem));
            }
        }
        if actor == Some(subject) {
            let problem = "is the subject's token: nobody acts for itself";
            return Err(OAuthRefusal::parameter("actor_token", problem));
        }
        let (grants, task) = details(form.required("authorization_details")?)?;
        check_scope(form.one("scope")?, &grants)?;
        let mut attributes = Map::new();
        for name in ["request_details", "request_context"] {
            if let Some(object) = object(form, name)? {
                attributes.insert(name.to_owned(), Value::Object(object));
            }
        }
        Ok(Self {
            subject: subject.to_owned(),
            actor: actor.map(str::to_owned),
            grants,
            task,
            attributes,
        })
    }
}

/// What is to be issued.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Issue {
    /// A task token, of a task that is opened.
    TaskToken,
    /// A transaction token, of a task that is open.
    TransactionToken,
}

impl Issue {
    /// Reads what a token exchange is for.
    pub(crate) fn read(form: &Parameters) -> Result<Self, OAuthRefusal> {
        let grant_type = form.required("grant_type")?;
        if grant_type != TOKEN_EXCHANGE {
            return Err(OAuthRefusal::GrantType(grant_type.to_owned()));
        }
        match form.one("requested_token_type")?.unwrap_or(ACCESS_TOKEN) {
            ACCESS_TOKEN => Ok(Self::TaskToken),
            TXN_TOKEN => Ok(Self::TransactionToken),
            _ => {
                let problem = format!("must be `{ACCESS_TOKEN}` or `{TXN_TOKEN}`");
                Err(OAuthRefusal::parameter("requested_token_type", problem))
            }
        }
    }
}

/// A wish for a transaction token (draft-ietf-oauth-transaction-tokens-10): well formed, nothing of it believed yet.
pub(crate) struct Transaction {
    pub(crate) subject: String,
    pub(crate) scope: Vec<String>,
    pub(crate) details: Map<String, Value>,
    pub(crate) context: Map<String, Value>,
}

impl Transaction {
    /// Reads the form of a request to this gateway.
    pub(crate) fn read(form: &Parameters, target: &Target<'_>) -> Result<Self, OAuthRefusal> {
        form.required("audience")?;
        target.check(form)?;
        let subject = form.required("subject_token")?;
        let kind = form.required("subject_token_type")?;
        if ![ACCESS_TOKEN, JWT].contains(&kind) {
            let problem = format!("must be `{ACCESS_TOKEN}` or `{JWT}`: a task token's");
            return Err(OAuthRefusal::parameter("subject_token_type", problem));
        }
        for name in ["actor_token", "actor_token_type", "authorization_details"] {
            if form.one(name)?.is_some() {
                let problem = "is for tasks that are opened, not for one that is open";
                return Err(OAuthRefusal::parameter(name, problem));
            }
        }
        let scope = form.required("scope")?.split(' ').map(str::to_owned);
        Ok(Self {
            subject: subject.to_owned(),
            scope: scope.filter(|scope| !scope.is_empty()).collect(),
            details: object(form, "request_details")?.unwrap_or_default(),
            context: object(form, "request_context")?.unwrap_or_default(),
        })
    }

    /// The scope, if it is no more than that of the subject's claims. Where that is not told, nothing is within it.
    pub(crate) fn scope_within(&self, claims: &Map<String, Value>) -> Result<String, OAuthRefusal> {
        let held = claims.get("scope").and_then(Value::as_str);
        let held: BTreeSet<&str> = held.unwrap_or_default().split(' ').collect();
        match self
            .scope
            .iter()
            .find(|scope| !held.contains(scope.as_str()))
        {
            Some(scope) => Err(OAuthRefusal::Scope(scope.clone())),
            None => Ok(self.scope.join(" ")),
        }
    }
}

fn object(
    form: &Parameters,
    name: &'static str,
) -> Result<Option<Map<String, Value>>, OAuthRefusal> {
    let Some(text) = form.one(name)? else {
        return Ok(None);
    };
    let object = strict_json::object(text.as_bytes());
    let problem = "must be a JSON object without a key twice";
    object
        .map(Some)
        .ok_or_else(|| OAuthRefusal::parameter(name, problem))
}

impl Target<'_> {
    /// A token for somebody else is none that this gateway could issue.
    fn check(&self, form: &Parameters) -> Result<(), OAuthRefusal> {
        for audience in form.all("audience") {
            if !self.is_issuer(audience) {
                return Err(OAuthRefusal::Target(audience.to_owned()));
            }
        }
        for resource in form.all("resource") {
            let url = Url::parse(resource).ok();
            // RFC 8707 section 2: an absolute URI without a fragment.
            let url = url.filter(|url| url.fragment().is_none());
            let is_called = url.is_some_and(|url| self.resources.contains(&url.origin()));
            if !is_called && !self.is_issuer(resource) {
                return Err(OAuthRefusal::Target(resource.to_owned()));
            }
        }
        Ok(())
    }

    fn is_issuer(&self, name: &str) -> bool {
        name == self.issuer.as_str() || name == issuer_name(self.issuer)
    }
}

/// Every token that is taken is a JWT; which one it is its `iss` says.
fn check_type(kind: &str, name: &'static str) -> Result<(), OAuthRefusal> {
    if [ACCESS_TOKEN, JWT, ID_TOKEN].contains(&kind) {
        return Ok(());
    }
    let problem = format!("must be `{ACCESS_TOKEN}`, `{JWT}` or `{ID_TOKEN}`");
    Err(OAuthRefusal::parameter(name, problem))
}

/// The grants of RFC 9396 details, and what one of them says of the task.
fn details(text: &str) -> Result<(Vec<Grant>, TaskDetail), OAuthRefusal> {
    let wrong = |problem: String| OAuthRefusal::Details(problem);
    let Some(Value::Array(items)) = strict_json::value(text.as_bytes()) else {
        let problem = "must be a JSON array without a key twice";
        return Err(wrong(problem.to_owned()));
    };
    let (mut grants, mut task) = (Vec::new(), None);
    for (place, item) in items.into_iter().enumerate() {
        let Value::Object(mut item) = item else {
            return Err(wrong(format!("[{place}] is no object")));
        };
        let kind = item.remove("type");
        let item = Value::Object(item);
        let unreadable = |error: serde_json::Error| wrong(format!("[{place}]: {error}"));
        match kind.as_ref().and_then(Value::as_str) {
            Some(REMIT_GRANT) => grants.push(serde_json::from_value(item).map_err(unreadable)?),
            Some(REMIT_TASK) if task.is_none() => {
                task = Some(serde_json::from_value(item).map_err(unreadable)?);
            }
            Some(REMIT_TASK) => return Err(wrong(format!("[{place}] is a second task"))),
            _ => {
                let problem = format!("[{place}].type must be `{REMIT_GRANT}` or `{REMIT_TASK}`");
                return Err(wrong(problem));
            }
        }
    }
    Ok((grants, task.unwrap_or_default()))
}

/// A scope says nothing that the grants don't: it can't widen them.
fn check_scope(asked: Option<&str>, grants: &[Grant]) -> Result<(), OAuthRefusal> {
    let held: BTreeSet<String> = opening::scopes(grants).collect();
    let mut asked = asked.unwrap_or_default().split(' ');
    match asked.find(|scope| !scope.is_empty() && !held.contains(*scope)) {
        Some(scope) => Err(OAuthRefusal::Scope(scope.to_owned())),
        None => Ok(()),
    }
}

/// Whether the `may_act` of a subject's claims, if there is one, names the actor (RFC 8693 section 4.4): each of its
/// members stands in the actor's claims.
pub(crate) fn may_act(subject: &Map<String, Value>, actor: &Map<String, Value>) -> bool {
    let Some(named) = subject.get("may_act") else {
        return true;
    };
    named.as_object().is_some_and(|named| {
        !named.is_empty()
            && named
                .iter()
                .all(|(name, value)| actor.get(name) == Some(value))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const GRANT: &str = r#"[{"type":"remit_grant","tool":"notes","access":["read"]}]"#;

    fn form(change: &[(&str, &str)]) -> Parameters {
        let mut pairs = vec![
            ("grant_type", TOKEN_EXCHANGE),
            ("subject_token", "a.b.c"),
            ("subject_token_type", JWT),
            ("authorization_details", GRANT),
        ];
        pairs.retain(|(name, _)| !change.iter().any(|(other, _)| other == name));
        pairs.extend(change);
        let form = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs(pairs)
            .finish();
        Parameters::read(form.as_bytes()).unwrap()
    }

    fn read(change: &[(&str, &str)]) -> Result<Exchange, OAuthRefusal> {
        let issuer = "https://remit.example/".parse().unwrap();
        let resources = ["http://127.0.0.1:4180".parse::<Url>().unwrap().origin()];
        let target = Target {
            issuer: &issuer,
            resources: &resources,
        };
        let form = form(change);
        Issue::read(&form)?;
        Exchange::read(&form, &target)
    }

    #[track_caller]
    fn check(change: &[(&str, &str)], expect: Result<(), &str>) {
        let found = read(change).map(drop);
        assert_eq!(
            found.as_ref().map_err(OAuthRefusal::code),
            expect.as_ref().map_err(|code| *code)
        );
    }

    #[test]
    fn a_plain_exchange_is_read() {
        let exchange = read(&[]).unwrap();
        assert_eq!((exchange.subject.as_str(), exchange.actor), ("a.b.c", None));
        assert_eq!(exchange.grants.len(), 1);
        assert!(exchange.attributes.is_empty());
    }

    #[test]
    fn one_detail_says_the_rest_of_a_task() {
        let with = |task: &str| format!("[{}, {task}]", GRANT.trim_matches(['[', ']']));
        let task =
            r#"{"type":"remit_task","purpose":"nightly","ttl_seconds":60,"limits":{"calls":3}}"#;
        let text = with(task);
        let exchange = read(&[("authorization_details", &text)]).unwrap();
        assert_eq!(exchange.grants.len(), 1);
        assert_eq!(exchange.task.purpose.as_deref(), Some("nightly"));
        assert_eq!(exchange.task.ttl_seconds, Some(60));
        assert_eq!(exchange.task.limits.calls, Some(3));
        let twice = with(&format!("{task},{task}"));
        let owner = with(r#"{"type":"remit_task","owner":"me"}"#);
        let negative = with(r#"{"type":"remit_task","limits":{"calls":-1}}"#);
        for text in [twice, owner, negative] {
            let change = [("authorization_details", text.as_str())];
            check(&change, Err("invalid_authorization_details"));
        }
    }

    #[test]
    fn details_and_context_become_attributes() {
        let change = [
            ("request_details", r#"{"batch":7}"#),
            ("request_context", "{}"),
        ];
        let attributes = Value::Object(read(&change).unwrap().attributes);
        assert_eq!(
            attributes,
            json!({"request_details": {"batch": 7}, "request_context": {}})
        );
        for text in ["[]", "7", "{", r#"{"a":1,"a":2}"#] {
            check(&[("request_details", text)], Err("invalid_parameter"));
        }
    }

    #[test]
    fn another_grant_is_not_known() {
        check(
            &[("grant_type", "client_credentials")],
            Err("unsupported_grant_type"),
        );
        check(&[("grant_type", "")], Err("invalid_parameter"));
    }

    #[test]
    fn another_kind_of_token_is_not_issued() {
        check(&[("requested_token_type", ACCESS_TOKEN)], Ok(()));
        check(
            &[("requested_token_type", ID_TOKEN)],
            Err("invalid_parameter"),
        );
    }

    #[test]
    fn a_subject_has_a_token_and_its_type() {
        check(&[("subject_token", "")], Err("invalid_parameter"));
        check(&[("subject_token_type", "")], Err("invalid_parameter"));
        let refresh = "urn:ietf:params:oauth:token-type:refresh_token";
        check(&[("subject_token_type", refresh)], Err("invalid_parameter"));
    }

    #[test]
    fn an_actor_has_both_or_neither() {
        check(
            &[("actor_token", "d.e.f"), ("actor_token_type", JWT)],
            Ok(()),
        );
        check(&[("actor_token", "d.e.f")], Err("invalid_parameter"));
        check(&[("actor_token_type", JWT)], Err("invalid_parameter"));
    }

    #[test]
    fn nobody_acts_for_itself() {
        let change = [("actor_token", "a.b.c"), ("actor_token_type", JWT)];
        check(&change, Err("invalid_parameter"));
    }

    #[test]
    fn the_target_is_this_gateway() {
        check(&[("audience", "https://remit.example")], Ok(()));
        check(&[("audience", "https://remit.example/")], Ok(()));
        check(&[("resource", "https://remit.example")], Ok(()));
        check(&[("resource", "http://127.0.0.1:4180/notes")], Ok(()));
        check(
            &[("audience", "https://other.example")],
            Err("invalid_target"),
        );
        check(
            &[("audience", "http://127.0.0.1:4180")],
            Err("invalid_target"),
        );
        check(
            &[("resource", "http://127.0.0.1:4181/notes")],
            Err("invalid_target"),
        );
        check(
            &[("resource", "http://127.0.0.1:4180/#x")],
            Err("invalid_target"),
        );
        check(&[("resource", "notes")], Err("invalid_target"));
        let both = [("audience", "https://remit.example"), ("audience", "other")];
        check(&both, Err("invalid_target"));
    }

    #[test]
    fn grants_are_remit_grants() {
        let details = |text: &str| {
            check(
                &[("authorization_details", text)],
                Err("invalid_authorization_details"),
            );
        };
        details("{}");
        details("[7]");
        details(r#"[{"tool":"notes","access":["read"]}]"#);
        details(r#"[{"type":"payment","tool":"notes","access":["read"]}]"#);
        details(r#"[{"type":"remit_grant","tool":"notes","access":["read"],"more":1}]"#);
        details(r#"[{"type":"remit_grant","tool":"notes","access":["read"],"access":["write"]}]"#);
        details(r#"[{"type":"remit_grant","tool":"notes","access":["admin"]}]"#);
        details("[");
        check(&[("authorization_details", "")], Err("invalid_parameter"));
    }

    #[test]
    fn a_scope_can_not_widen() {
        check(&[("scope", "notes:read")], Ok(()));
        check(&[("scope", "notes:read notes:write")], Err("invalid_scope"));
        check(&[("scope", "openid")], Err("invalid_scope"));
    }

    #[test]
    fn what_is_issued_is_asked_for() {
        let asked = |kind: &str| Issue::read(&form(&[("requested_token_type", kind)])).ok();
        assert_eq!(asked(""), Some(Issue::TaskToken));
        assert_eq!(asked(ACCESS_TOKEN), Some(Issue::TaskToken));
        assert_eq!(asked(TXN_TOKEN), Some(Issue::TransactionToken));
        assert_eq!(asked(JWT), None);
    }

    #[track_caller]
    fn within(asked: &str, held: &Value, expect: Option<&str>) {
        let transaction = Transaction {
            subject: String::new(),
            scope: asked.split(' ').map(str::to_owned).collect(),
            details: Map::new(),
            context: Map::new(),
        };
        let scope = transaction.scope_within(held.as_object().unwrap()).ok();
        assert_eq!(scope.as_deref(), expect, "{asked} {held}");
    }

    #[test]
    fn txn_nothing_is_within_a_scope_that_is_not_told() {
        within(
            "a:read",
            &json!({"scope": "a:read a:write"}),
            Some("a:read"),
        );
        within("a:read b:read", &json!({"scope": "a:read"}), None);
        within("a:read", &json!({"scope": ""}), None);
        within("a:read", &json!({}), None);
        within("a:read", &json!({"scope": ["a:read"]}), None);
    }

    #[track_caller]
    fn acts(subject: &Value, actor: &Value, expect: bool) {
        let found = may_act(subject.as_object().unwrap(), actor.as_object().unwrap());
        assert_eq!(found, expect, "{subject} {actor}");
    }

    #[test]
    fn who_may_act_is_the_actor() {
        let actor = json!({"iss": "i", "sub": "a", "exp": 7});
        acts(&json!({}), &actor, true);
        acts(&json!({"may_act": {"sub": "a"}}), &actor, true);
        acts(&json!({"may_act": {"sub": "a", "iss": "i"}}), &actor, true);
        acts(&json!({"may_act": {"sub": "b"}}), &actor, false);
        acts(&json!({"may_act": {"sub": "a", "iss": "j"}}), &actor, false);
        acts(
            &json!({"may_act": {"sub": "a", "client_id": "a"}}),
            &actor,
            false,
        );
        acts(&json!({"may_act": {}}), &actor, false);
        acts(&json!({"may_act": "a"}), &actor, false);
        acts(&json!({"may_act": null}), &actor, false);
    }
}
