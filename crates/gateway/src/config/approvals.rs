//! `approvals`: how long people are waited for, and where they find what they are asked.

use std::path::PathBuf;
use std::time::Duration;

use credentials::SecretRef;
use url::Url;

use super::ServiceConfig;
use super::mistake::Notes;
use super::shape::section;
use super::tools::is_loopback;

/// The server that is told of approvals.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct WebhookConfig {
    /// The server. It is asked for no token: the signature is ours.
    pub service: ServiceConfig,
    /// Where the secret is kept that messages are signed with.
    pub secret: SecretRef,
}

/// How approvals are asked for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ApprovalsConfig {
    /// How long one waits for people, and then for the call.
    pub ttl: Duration,
    /// How long a call waits for them before it is refused; not at all where it is nothing.
    pub hold: Duration,
    /// What stands before an approval's id in links; the control listener's own route unless given.
    pub link: Option<Url>,
    /// Who is told of them.
    pub webhook: Option<WebhookConfig>,
}

impl ApprovalsConfig {
    /// The same for the book; `control` is the control listener's address.
    pub(crate) fn asking(&self, control: &str) -> tasks::ApprovalsConfig {
        let link = self.link.as_ref().map(ToString::to_string);
        tasks::ApprovalsConfig {
            ttl: self.ttl,
            hold: self.hold,
            link: link.unwrap_or_else(|| format!("http://{control}/v1/approvals/")),
        }
    }
}

section! {
    /// How people are asked for approvals.
    struct RawApprovals {
        /// How long an approval waits for people, and, once it is granted, for the call.
        ttl: Duration = default("15m");
        /// How long a call waits for people, with its connection open, before it is refused and may be made again: at most `5m`, 256 calls at once; HTTP/1.1 only on Linux. It is refused at once unless given.
        hold: Duration = optional;
        /// What stands before an approval's id in the link that agents are told, such as `https://remit.example/v1/approvals/`. The control listener's own address unless given.
        link: Url = optional;
        /// A server that is told of approvals as they are asked for and answered, signed as Standard Webhooks say.
        webhook: RawWebhook = optional;
    }
}

section! {
    /// A server that is told of approvals.
    struct RawWebhook {
        /// Its whole address: `https://`; `http://` is for loopback.
        url: Url = required;
        /// Where the secret is kept that messages are signed with: at least 24 bytes, or `whsec_` and base64.
        secret: SecretRef = required;
        /// The authorities of the server's certificate, a PEM file; the system's unless given.
        ca: PathBuf = optional;
    }
}

impl RawWebhook {
    fn parse(self, notes: &mut Notes) -> Option<WebhookConfig> {
        let url = self.url?;
        if url.value.scheme() != "https"
            && !(url.value.scheme() == "http" && is_loopback(&url.value))
        {
            let message = "a webhook is spoken to over `https://`; `http://` is for loopback";
            notes.mistake(&url.place, "plaintext_webhook", message);
            return None;
        }
        Some(WebhookConfig {
            service: ServiceConfig {
                url: url.value,
                token: None,
                ca: self.ca.map(|ca| ca.value),
            },
            secret: self.secret?.value,
        })
    }
}

/// The longest that a call waits: few agents are more patient.
const LONGEST_HOLD: Duration = Duration::from_mins(5);

/// The longest wait: whoever approves is to know the task still.
const LONGEST: Duration = Duration::from_hours(24 * 7);

impl RawApprovals {
    pub(super) fn parse(self, notes: &mut Notes) -> Option<ApprovalsConfig> {
        let ttl = self.ttl?;
        if ttl.value > LONGEST {
            notes.mistake(
                &ttl.place,
                "wrong_value",
                "an approval waits for at most `7d`",
            );
            return None;
        }
        if let Some(hold) = &self.hold
            && hold.value > LONGEST_HOLD
        {
            notes.mistake(
                &hold.place,
                "wrong_value",
                "a call is held for at most `5m`",
            );
            return None;
        }
        let webhook = match self.webhook {
            Some(webhook) => Some(webhook.value.parse(notes)?),
            None => None,
        };
        Some(ApprovalsConfig {
            webhook,
            ttl: ttl.value,
            hold: self.hold.map_or(Duration::ZERO, |hold| hold.value),
            link: self.link.map(|link| link.value),
        })
    }
}
