//! How an agent id, or the name of an owner, is made of claims.

use std::str::FromStr;

use serde_json::{Map, Value};

use crate::{AgentId, Unauthenticated};

/// A template over claims that makes an agent id, such as `spiffe://x/{sub}`, or the name of an owner.
///
/// Literal text and `{claim}` or, within an object, `{claim.sub}`. A claim that is missing or not
/// a string makes no id. Different claims never make the same id: between two claims stands
/// literal text, and what a claim says must not hold the first byte of the text after it, if
/// another claim follows.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AgentTemplate {
    parts: Vec<Part>,
    tail: String,
}

/// Literal text, then a claim by its path.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Part {
    before: String,
    claim: Vec<String>,
}

/// A template that can't make an agent id.
#[derive(Debug, thiserror::Error)]
#[error("template `{0}` names no claim, is not closed or puts two claims side by side")]
pub struct InvalidTemplate(String);

impl FromStr for AgentTemplate {
    type Err = InvalidTemplate;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidTemplate(text.to_owned());
        let mut parts: Vec<Part> = Vec::new();
        let mut rest = text;
        while let Some((before, opened)) = rest.split_once('{') {
            let (claim, after) = opened.split_once('}').ok_or_else(invalid)?;
            let claim: Vec<String> = claim.split('.').map(str::to_owned).collect();
            let side_by_side = before.is_empty() && !parts.is_empty();
            if before.contains('}') || side_by_side || claim.iter().any(|name| !is_name(name)) {
                return Err(invalid());
            }
            parts.push(Part {
                before: before.to_owned(),
                claim,
            });
            rest = after;
        }
        if parts.is_empty() || rest.contains('}') {
            return Err(invalid());
        }
        Ok(Self {
            parts,
            tail: rest.to_owned(),
        })
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.contains('{')
}

impl AgentTemplate {
    /// Makes the agent id.
    pub(crate) fn resolve(&self, claims: &Map<String, Value>) -> Result<AgentId, Unauthenticated> {
        let id = self.fill_in(claims)?;
        id.parse()
            .map_err(|_| Unauthenticated::Invalid("its claims make no agent id"))
    }

    /// Whether it is made of this claim, among others.
    pub(crate) fn reads(&self, claim: &str) -> bool {
        self.parts
            .iter()
            .any(|part| part.claim.first().is_some_and(|first| first == claim))
    }

    /// Makes the text.
    ///
    /// # Errors
    /// Where a claim is missing, empty or not text, or could be read in two ways.
    pub fn fill_in(&self, claims: &Map<String, Value>) -> Result<String, Unauthenticated> {
        let mut id = String::new();
        let mut parts = self.parts.iter().peekable();
        while let Some(part) = parts.next() {
            let text = find(claims, &part.claim).ok_or(Unauthenticated::Invalid(
                "a claim that names its subject is missing",
            ))?;
            let stop = parts.peek().and_then(|next| next.before.chars().next());
            if text.is_empty() || stop.is_some_and(|stop| text.contains(stop)) {
                return Err(Unauthenticated::Invalid(
                    "a claim that names its subject is ambiguous",
                ));
            }
            id.push_str(&part.before);
            id.push_str(text);
        }
        id.push_str(&self.tail);
        Ok(id)
    }
}

fn find<'c>(claims: &'c Map<String, Value>, path: &[String]) -> Option<&'c str> {
    let (first, deeper) = path.split_first()?;
    let mut value = claims.get(first)?;
    for name in deeper {
        value = value.as_object()?.get(name)?;
    }
    value.as_str()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::AgentTemplate;

    #[track_caller]
    fn check(template: &str, claims: &Value, expect: Option<&str>) {
        let template: AgentTemplate = template.parse().unwrap();
        let id = template.resolve(claims.as_object().unwrap()).ok();
        assert_eq!(id.as_ref().map(|id| id.as_str()), expect);
    }

    #[track_caller]
    fn refused(template: &str) {
        assert!(template.parse::<AgentTemplate>().is_err(), "{template}");
    }

    #[test]
    fn a_claim_is_filled_in() {
        check("{sub}", &json!({"sub": "triage"}), Some("triage"));
    }
    #[test]
    fn literal_text_stays() {
        check(
            "spiffe://x/{sub}/v1",
            &json!({"sub": "triage"}),
            Some("spiffe://x/triage/v1"),
        );
    }
    #[test]
    fn a_claim_inside_a_claim_is_found() {
        check(
            "{act.sub}",
            &json!({"act": {"sub": "triage"}}),
            Some("triage"),
        );
    }
    #[test]
    fn two_claims_make_one_name() {
        check(
            "{team}/{sub}",
            &json!({"team": "a", "sub": "b/c"}),
            Some("a/b/c"),
        );
    }
    #[test]
    fn a_claim_that_reaches_into_the_next_is_refused() {
        check("{team}/{sub}", &json!({"team": "a/b", "sub": "c"}), None);
    }
    #[test]
    fn a_missing_claim_is_refused() {
        check("x{sub}", &json!({}), None);
    }
    #[test]
    fn an_empty_claim_is_refused() {
        check("x{sub}", &json!({"sub": ""}), None);
    }
    #[test]
    fn a_number_is_refused() {
        check("{sub}", &json!({"sub": 1}), None);
    }
    #[test]
    fn a_list_is_refused() {
        check("{sub}", &json!({"sub": ["a"]}), None);
    }
    #[test]
    fn a_path_through_text_is_refused() {
        check("{sub.a}", &json!({"sub": "a"}), None);
    }
    #[test]
    fn a_claim_with_a_space_is_refused() {
        check("{sub}", &json!({"sub": "a b"}), None);
    }
    #[test]
    fn text_in_braces_is_not_filled_in_again() {
        check("{sub}", &json!({"sub": "{aud}", "aud": "x"}), Some("{aud}"));
    }
    #[test]
    fn a_template_without_a_claim_is_refused() {
        refused("agent");
        refused("");
        refused("{}");
        refused("{a.}");
        refused("{.a}");
    }
    #[test]
    fn a_template_that_is_not_closed_is_refused() {
        refused("{sub");
        refused("sub}");
        refused("{a{b}}");
        refused("x}{sub}");
    }
    #[test]
    fn claims_side_by_side_are_refused() {
        refused("{a}{b}");
    }
}
