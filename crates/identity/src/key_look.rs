//! A task token that looks like the API key that an SDK wants to see.

use std::fmt;
use std::str::FromStr;

/// Which API's keys a task token looks like: their prefix before it. It is the same token, worth what it is worth alone.
///
/// What is checked is the prefix, as far as is known:
/// * Stripe's command line wants `sk_` or `rk_`, and two underscores;
/// * Slack's Bolt wants `xoxb-` of a bot, `SendGrid`'s client warns without `SG.`;
/// * Octokit tells kinds of tokens apart by their prefix, and sends what has three parts as `Bearer`;
/// * the SDKs of `OpenAI` and Anthropic check nothing, tools around them do: `sk-`, `sk-ant-`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum KeyLook {
    /// `sk-`
    OpenAi,
    /// `sk-ant-api03-`
    Anthropic,
    /// `ghp_`
    GitHub,
    /// `glpat-`
    GitLab,
    /// `xoxb-`
    Slack,
    /// `sk_test_`
    Stripe,
    /// `SG.`
    SendGrid,
    /// `hf_`
    HuggingFace,
}

impl KeyLook {
    /// Every one there is.
    pub const ALL: [Self; 8] = [
        Self::OpenAi,
        Self::Anthropic,
        Self::GitHub,
        Self::GitLab,
        Self::Slack,
        Self::Stripe,
        Self::SendGrid,
        Self::HuggingFace,
    ];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Anthropic => "anthropic",
            Self::GitHub => "github",
            Self::GitLab => "gitlab",
            Self::Slack => "slack",
            Self::Stripe => "stripe",
            Self::SendGrid => "sendgrid",
            Self::HuggingFace => "huggingface",
        }
    }

    fn prefix(self) -> &'static str {
        match self {
            Self::OpenAi => "sk-",
            Self::Anthropic => "sk-ant-api03-",
            Self::GitHub => "ghp_",
            Self::GitLab => "glpat-",
            Self::Slack => "xoxb-",
            Self::Stripe => "sk_test_",
            Self::SendGrid => "SG.",
            Self::HuggingFace => "hf_",
        }
    }

    /// Makes a token look so.
    pub fn dress(self, token: &str) -> String {
        [self.prefix(), token].concat()
    }
}

/// The token in what looks like a key, if there is one.
pub(crate) fn undress(key: &str) -> Option<&str> {
    // A JSON object in base64url: no key of theirs goes on so, and no prefix is the beginning of another and this.
    let mut tokens = KeyLook::ALL
        .iter()
        .filter_map(|look| key.strip_prefix(look.prefix()));
    tokens.find(|token| token.starts_with("eyJ"))
}

impl fmt::Display for KeyLook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// No look that is known.
#[derive(Debug, thiserror::Error)]
#[error("expected one of {}", KeyLook::ALL.map(KeyLook::as_str).join(", "))]
pub struct UnknownLook;

impl FromStr for KeyLook {
    type Err = UnknownLook;

    fn from_str(text: &str) -> Result<Self, UnknownLook> {
        let mut all = Self::ALL.into_iter();
        all.find(|look| look.as_str() == text).ok_or(UnknownLook)
    }
}

#[cfg(test)]
mod tests {
    use super::{KeyLook, undress};

    #[test]
    fn a_token_is_the_same_under_every_look() {
        for look in KeyLook::ALL {
            assert_eq!(undress(&look.dress("eyJh.b.c")), Some("eyJh.b.c"), "{look}");
            assert_eq!(look.as_str().parse::<KeyLook>().unwrap(), look);
        }
    }
    #[test]
    fn a_key_is_none() {
        for key in [
            "",
            "sk-",
            "sk-proj-eyJ",
            "eyJh.b.c",
            "sk-sk-eyJh.b.c",
            "SK-eyJh.b.c",
        ] {
            assert_eq!(undress(key), None, "{key}");
        }
    }
}
