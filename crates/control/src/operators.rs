//! Operators: who may use the control API, and for what.

use std::sync::Arc;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use policy::Opener;
use ring::hmac;
use ring::rand::SystemRandom;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::refusal::Refusal;

/// Somebody who may use the control API, as configured.
pub struct Operator {
    /// The name in logs and in admission policy (`input.operator.name`).
    pub name: String,
    /// The bearer token: at least 16 characters of RFC 6750's `b64token`. Wiped once its digest is taken.
    pub token: Vec<u8>,
    /// What it may do.
    pub role: Role,
}

impl std::fmt::Debug for Operator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Operator")
            .field("name", &self.name)
            .field("role", &self.role)
            .finish_non_exhaustive()
    }
}

/// What an operator may do.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Looks.
    Viewer,
    /// Looks, and answers approvals.
    Approver,
    /// Looks, opens and ends tasks.
    Orchestrator,
    /// Everything.
    Operator,
}

impl Role {
    /// The name in config, policy input and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Approver => "approver",
            Self::Orchestrator => "orchestrator",
            Self::Operator => "operator",
        }
    }

    /// Whether the role has a right: the whole table of who may do what.
    pub fn may(self, right: Right) -> bool {
        match right {
            Right::View => match self {
                Self::Viewer | Self::Approver | Self::Orchestrator | Self::Operator => true,
            },
            Right::OpenTasks | Right::EndTasks => match self {
                Self::Orchestrator | Self::Operator => true,
                Self::Viewer | Self::Approver => false,
            },
            Right::Approve => match self {
                Self::Approver | Self::Operator => true,
                Self::Viewer | Self::Orchestrator => false,
            },
            Right::Reload | Right::Revoke => match self {
                Self::Operator => true,
                Self::Viewer | Self::Approver | Self::Orchestrator => false,
            },
        }
    }
}

/// Something an operator may or may not do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Right {
    /// See tasks, approvals, leases, explanations, the status, the metrics.
    View,
    /// Open tasks.
    OpenTasks,
    /// End tasks, pause and resume them.
    EndTasks,
    /// Grant and refuse approvals.
    Approve,
    /// Revoke everything of an agent, issuer, tool or owner, and lift that.
    Revoke,
    /// Apply the configuration anew.
    Reload,
}

impl Right {
    /// The name in refusals.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::View => "view",
            Self::OpenTasks => "open_tasks",
            Self::EndTasks => "end_tasks",
            Self::Approve => "approve",
            Self::Revoke => "revoke",
            Self::Reload => "reload",
        }
    }
}

/// An operator whose token was checked. Made in this file and nowhere else.
#[derive(Clone, Debug)]
pub struct Caller {
    name: Arc<str>,
    role: Role,
}

impl Caller {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its role.
    pub fn role(&self) -> Role {
        self.role
    }

    /// Who it is to admission policy.
    pub(crate) fn opener(&self) -> Opener {
        Opener::Operator {
            name: self.name.to_string(),
            role: self.role.as_str().to_owned(),
        }
    }

    /// Hands the caller back if its role has the right.
    pub(crate) fn holding(self, right: Right) -> Result<Self, Refusal> {
        if self.role.may(right) {
            Ok(self)
        } else {
            Err(Refusal::Forbidden {
                role: self.role,
                right,
            })
        }
    }
}

/// Everybody who may use the control API. Holds no token, only keyed digests of them.
pub struct Operators {
    /// Random per process, so that a digest says nothing outside of it.
    key: hmac::Key,
    entries: Vec<(Caller, hmac::Tag)>,
}

impl std::fmt::Debug for Operators {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list()
            .entries(self.entries.iter().map(|(caller, _)| caller))
            .finish()
    }
}

/// Operators that can't be told apart, or whose token is no token.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidOperators {
    /// Two operators have one name.
    #[error("operator `{0}` is named twice")]
    Name(String),
    /// Two operators have one token.
    #[error("operators `{0}` and `{1}` have the same token")]
    Token(String, String),
    /// It can't be sent in a header, or is easily guessed.
    #[error(
        "token of operator `{0}` is not at least {MIN_TOKEN} characters of `A-Z a-z 0-9 - . _ ~ + /` (with `=` at the end)"
    )]
    Weak(String),
    /// The system gave no random bytes.
    #[error("no random bytes could be had")]
    Random,
}

/// The fewest characters of a token: 16 of base64 are 96 bits.
const MIN_TOKEN: usize = 16;

impl Operators {
    /// Takes the digests of the operators' tokens. With none, every guarded route is closed.
    pub fn new(operators: Vec<Operator>) -> Result<Self, InvalidOperators> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new())
            .map_err(|_| InvalidOperators::Random)?;
        let mut all = Self {
            key,
            entries: Vec::with_capacity(operators.len()),
        };
        for Operator { name, token, role } in operators {
            let token = Zeroizing::new(token);
            if token.len() < MIN_TOKEN || !is_b64token(&token) {
                return Err(InvalidOperators::Weak(name));
            }
            if all.entries.iter().any(|(caller, _)| caller.name() == name) {
                return Err(InvalidOperators::Name(name));
            }
            if let Some(other) = all.find(&token) {
                return Err(InvalidOperators::Token(other.name().to_owned(), name));
            }
            let tag = hmac::sign(&all.key, &token);
            let name = name.into();
            all.entries.push((Caller { name, role }, tag));
        }
        Ok(all)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.entries.len()
    }

    /// Finds the operator behind a request head by its one `Authorization: Bearer` (RFC 6750 2.1).
    pub(crate) fn authenticate(&self, headers: &HeaderMap) -> Result<Caller, Refusal> {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let value = values.next().ok_or(Refusal::NoToken)?;
        if values.next().is_some() {
            return Err(Refusal::UnknownToken);
        }
        let token = bearer(value.as_bytes()).ok_or(Refusal::UnknownToken)?;
        self.find(token).cloned().ok_or(Refusal::UnknownToken)
    }

    /// Compares with every operator's digest, each in constant time, whether one matched before or not.
    fn find(&self, token: &[u8]) -> Option<&Caller> {
        self.entries.iter().fold(None, |found, (caller, tag)| {
            match hmac::verify(&self.key, token, tag.as_ref()) {
                Ok(()) => Some(caller),
                Err(ring::error::Unspecified) => found,
            }
        })
    }
}

/// The token of `Bearer <b64token>`; the scheme in any case (RFC 9110 11.1).
pub(crate) fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked("Bearer ".len())?;
    (scheme.eq_ignore_ascii_case(b"Bearer ") && is_b64token(token)).then_some(token)
}

pub(crate) fn is_b64token(text: &[u8]) -> bool {
    let padding = text.iter().rev().take_while(|b| **b == b'=').count();
    let (token, _) = text.split_at(text.len().saturating_sub(padding));
    !token.is_empty()
        && token
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || b"-._~+/".contains(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    const VIEWER: &str = "viewer-token-0123456789";
    const OPERATOR: &str = "operator-token-0123456789";

    fn operator(name: &str, token: &str, role: Role) -> Operator {
        Operator {
            name: name.into(),
            token: token.into(),
            role,
        }
    }

    fn operators() -> Operators {
        Operators::new(vec![
            operator("eve", VIEWER, Role::Viewer),
            operator("ops", OPERATOR, Role::Operator),
        ])
        .unwrap()
    }

    #[track_caller]
    fn check(authorization: &[&str], expect: Result<&str, &str>) {
        let mut headers = HeaderMap::new();
        for value in authorization {
            headers.append(AUTHORIZATION, value.parse().unwrap());
        }
        let found = operators().authenticate(&headers);
        let found = found.as_ref().map(Caller::name).map_err(Refusal::code);
        assert_eq!(found, expect);
    }

    #[test]
    fn a_token_names_its_operator() {
        check(&[&format!("Bearer {OPERATOR}")], Ok("ops"));
        check(&[&format!("Bearer {VIEWER}")], Ok("eve"));
    }

    #[test]
    fn the_scheme_may_have_any_case() {
        check(&[&format!("bEARER {OPERATOR}")], Ok("ops"));
    }

    #[test]
    fn no_token_is_nobody() {
        check(&[], Err("no_token"));
    }

    #[test]
    fn an_empty_token_is_nobody() {
        check(&["Bearer "], Err("invalid_token"));
        check(&["Bearer"], Err("invalid_token"));
        check(&[""], Err("invalid_token"));
    }

    #[test]
    fn a_wrong_token_is_nobody() {
        check(&["Bearer operator-token-012345678"], Err("invalid_token"));
        check(&["Bearer operator-token-01234567890"], Err("invalid_token"));
        check(&["Bearer Operator-token-0123456789"], Err("invalid_token"));
    }

    #[test]
    fn another_scheme_is_nobody() {
        check(&[&format!("Basic {OPERATOR}")], Err("invalid_token"));
        check(&[OPERATOR], Err("invalid_token"));
    }

    #[test]
    fn a_token_with_spaces_around_it_is_nobody() {
        check(&[&format!("Bearer  {OPERATOR}")], Err("invalid_token"));
        check(
            &[&format!("Bearer {OPERATOR}, Bearer {VIEWER}")],
            Err("invalid_token"),
        );
    }

    #[test]
    fn two_tokens_are_nobody() {
        let same = format!("Bearer {OPERATOR}");
        check(&[&same, &same], Err("invalid_token"));
    }

    #[test]
    fn without_operators_nobody_is_one() {
        let none = Operators::new(vec![]).unwrap();
        let mut headers = HeaderMap::new();
        headers.append(AUTHORIZATION, format!("Bearer {OPERATOR}").parse().unwrap());
        assert_eq!(
            none.authenticate(&headers).unwrap_err().code(),
            "invalid_token"
        );
    }

    #[track_caller]
    fn refused(operators: Vec<Operator>, expect: &str) {
        assert!(
            Operators::new(operators)
                .unwrap_err()
                .to_string()
                .starts_with(expect)
        );
    }

    #[test]
    fn a_short_token_is_refused() {
        refused(
            vec![operator("ops", "short", Role::Operator)],
            "token of operator `ops`",
        );
        refused(
            vec![operator("ops", "", Role::Operator)],
            "token of operator `ops`",
        );
    }

    #[test]
    fn a_token_that_no_header_can_carry_is_refused() {
        refused(
            vec![operator("ops", "0123456789 0123456789", Role::Operator)],
            "token of operator `ops`",
        );
        refused(
            vec![operator("ops", "0123456789abcdef\n", Role::Operator)],
            "token of operator `ops`",
        );
        refused(
            vec![operator("ops", "================", Role::Operator)],
            "token of operator `ops`",
        );
    }

    #[test]
    fn two_operators_of_one_name_are_refused() {
        refused(
            vec![
                operator("ops", OPERATOR, Role::Operator),
                operator("ops", VIEWER, Role::Viewer),
            ],
            "operator `ops` is named twice",
        );
    }

    #[test]
    fn two_operators_of_one_token_are_refused() {
        refused(
            vec![
                operator("a", OPERATOR, Role::Operator),
                operator("b", OPERATOR, Role::Viewer),
            ],
            "operators `a` and `b` have the same token",
        );
    }

    #[test]
    fn no_token_shows_itself() {
        let one = operator("ops", OPERATOR, Role::Operator);
        assert!(!format!("{one:?} {:?}", operators()).contains("0123456789"));
    }

    /// The golden table: a change of who may do what is a diff here.
    #[test]
    fn who_may_do_what() {
        let rights = [
            Right::View,
            Right::OpenTasks,
            Right::EndTasks,
            Right::Approve,
            Right::Reload,
        ];
        let table: Vec<String> = [
            Role::Viewer,
            Role::Approver,
            Role::Orchestrator,
            Role::Operator,
        ]
        .iter()
        .map(|role| {
            let held: Vec<&str> = rights
                .iter()
                .filter(|right| role.may(**right))
                .map(|right| right.as_str())
                .collect();
            format!("{}: {}", role.as_str(), held.join(" "))
        })
        .collect();
        assert_eq!(
            table,
            [
                "viewer: view",
                "approver: view approve",
                "orchestrator: view open_tasks end_tasks",
                "operator: view open_tasks end_tasks approve reload",
            ]
        );
    }
}
