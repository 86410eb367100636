//! The values of the config that are one text or number, and how each is spelled.

use std::fmt::Display;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use control::AgentPattern;
use credentials::SecretRef;
use http::HeaderName;
use identity::AgentTemplate;
use jiff::civil::Date;
use serde_json::{Map, Value, json};
use tasks::OperationPattern;
use url::{Host, Url};

use super::mistake::Notes;
use super::node::Kind;
use super::shape::{Here, Shape};

/// A size in bytes, spelled `1MiB`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size(pub(super) usize);

/// How many of something; at least one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Count(pub(super) usize);

/// A name in the DNS or an address, lower case, without a port.
#[derive(Clone, Debug)]
pub(super) struct HostName(pub(super) String);

impl Shape for String {
    fn schema() -> Value {
        json!({ "type": "string", "title": "text", "minLength": 1 })
    }
    fn read(here: &Here<'_>, notes: &mut Notes) -> Option<Self> {
        let text = here.text("a text (quote it if it looks like a number)", notes)?;
        if text.is_empty() || text.chars().any(char::is_control) {
            return here.wrong_value("expected a text without control characters", notes);
        }
        Some(text.to_owned())
    }
}

impl Shape for PathBuf {
    fn schema() -> Value {
        json!({ "type": "string", "title": "path", "minLength": 1 })
    }
    fn read(here: &Here<'_>, notes: &mut Notes) -> Option<Self> {
        let text = here.text("a path", notes)?;
        if text.is_empty() || text.contains('\0') {
            return here.wrong_value("expected a path", notes);
        }
        Some(notes.resolve(text.as_ref()))
    }
}

impl Shape for SocketAddr {
    fn schema() -> Value {
        json!({ "type": "string", "title": "address", "examples": ["127.0.0.1:4180", "[::1]:4180"] })
    }
    fn read(here: &Here<'_>, notes: &mut Notes) -> Option<Self> {
        parse_plain(
            here,
            "an address and a port such as `127.0.0.1:4180`",
            notes,
        )
    }
}

impl Shape for Duration {
    fn schema() -> Value {
        json!({ "type": "string", "title": "duration", "examples": ["15m", "1h 30m", "500ms"] })
    }
    fn read(here: &Here<'_>, notes: &mut Notes) -> Option<Self> {
        let expects = "a duration such as `15m`";
        match humantime::parse_duration(here.text(expects, notes)?) {
            Ok(Self::ZERO) => here.wrong_value("expected a duration of more than zero", notes),
            // A century keeps every later sum of time and duration within its type.
            Ok(duration) if duration.as_secs() > 100 * 366 * 86_400 => {
                here.wrong_value("expected a duration of less than a century", notes)
            }
            Ok(duration) => Some(duration),
            Err(error) => here.wrong_value(format!("expected {expects}: {error}"), notes),
        }
    }
}

impl Shape for Size {
    fn schema() -> Value {
        json!({ "type": "string", "title": "size", "examples": ["64KiB", "1MiB"] })
    }
    fn read(here: &Here<'_>, notes: &mut Notes) -> Option<Self> {
        let expects = "a size such as `1MiB`";
        let size = here.text(expects, notes)?.parse::<bytesize::ByteSize>();
        match size
            .ok()
            .and_then(|size| usize::try_from(size.as_u64()).ok())
        {
            Some(0) | None => here.wrong_value(format!("expected {expects}"), notes),
            Some(bytes) => Some(Self(bytes)),
        }
    }
}

impl Shape for Count {
    fn schema() -> Value {
        json!({ "type": "integer", "title": "number", "minimum": 1, "maximum": u32::MAX })
    }
    fn read(here: &Here<'_>, notes: &mut Notes) -> Option<Self> {
        let Kind::Scalar(Value::Number(number)) = &here.node.kind else {
            return here.wrong_type("a number", notes);
        };
        match number
            .as_u64()
            .and_then(|number| u32::try_from(number).ok())
        {
            Some(0) | None => {
                here.wrong_value("expected a whole number from 1 to 4294967295", notes)
            }
            Some(number) => Some(Self(number as usize)),
        }
    }
}

impl Shape for Url {
    fn schema() -> Value {
        json!({ "type": "string", "title": "URL", "format": "uri", "pattern": "^https?://" })
    }
    fn read(here: &Here<'_>, notes: &mut Notes) -> Option<Self> {
        let expects = "a URL such as `https://host/path`";
        let Ok(url) = here.text(expects, notes)?.parse::<Self>() else {
            return here.wrong_value(format!("expected {expects}"), notes);
        };
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return here.wrong_value(
                "expected a URL that starts with `https://` or `http://`",
                notes,
            );
        }
        if !url.username().is_empty() || url.password().is_some() {
            notes.mistake(
                &here.place,
                "literal_secret",
                "a URL here has no user and no password",
            );
            return None;
        }
        if url.fragment().is_some() {
            return here.wrong_value("a URL here has no fragment (`#…`)", notes);
        }
        Some(url)
    }
}

impl Shape for HostName {
    fn schema() -> Value {
        json!({ "type": "string", "title": "host", "examples": ["api.example.com"] })
    }
    fn read(here: &Here<'_>, notes: &mut Notes) -> Option<Self> {
        let expects = "a host without a port, such as `api.example.com`";
        let text = here.text(expects, notes)?;
        match Host::parse(text) {
            Ok(host) if !text.ends_with('.') && !text.contains('*') => Some(Self(host.to_string())),
            Ok(_) | Err(_) => here.wrong_value(format!("expected {expects}"), notes),
        }
    }
}

impl Shape for HeaderName {
    fn schema() -> Value {
        json!({ "type": "string", "title": "header", "pattern": "^[!#$%&'*+.^_`|~0-9A-Za-z-]+$" })
    }
    fn read(here: &Here<'_>, notes: &mut Notes) -> Option<Self> {
        parse_plain(here, "the name of a header", notes)
    }
}

impl Shape for Date {
    fn schema() -> Value {
        json!({ "type": "string", "title": "date", "format": "date" })
    }
    fn read(here: &Here<'_>, notes: &mut Notes) -> Option<Self> {
        parse_plain(here, "a date such as `2026-12-31`", notes)
    }
}

impl Shape for SecretRef {
    fn schema() -> Value {
        json!({ "type": "string", "title": "secret reference", "pattern": "^(env|file|cmd|vault):.",
                "examples": ["env:NAME", "file:/path", "cmd:program args", "vault:mount/path#field"] })
    }
    fn read(here: &Here<'_>, notes: &mut Notes) -> Option<Self> {
        let text = here.text("the name of a secret, such as `env:NAME`", notes)?;
        match text.parse() {
            Ok(Self::Vault(reference)) => {
                let link = notes.needs_vault(&here.place);
                Some(Self::Vault(reference.linked(link)))
            }
            Ok(Self::File(path)) => Some(Self::File(notes.resolve(&path))),
            Ok(secret) => Some(secret),
            Err(_) if text.starts_with("vault:") => here.wrong_value(
                "a field of a secret in a Vault is named as `vault:mount/path#field`",
                notes,
            ),
            Err(_) => {
                let message = "a secret is named, never written here: `env:NAME`, `file:/path`, \
                               `cmd:program args` or `vault:mount/path#field`";
                notes.mistake(&here.place, "literal_secret", message);
                None
            }
        }
    }
}

impl Shape for OperationPattern {
    fn schema() -> Value {
        json!({ "type": "string", "title": "operation pattern",
                "examples": ["GET /**", "POST /repos/*/issues", "create_*"] })
    }
    fn read(here: &Here<'_>, notes: &mut Notes) -> Option<Self> {
        parse_said(here, "an operation such as `GET /**`", notes)
    }
}

impl Shape for AgentTemplate {
    fn schema() -> Value {
        json!({ "type": "string", "title": "template", "examples": ["{sub}"] })
    }
    fn read(here: &Here<'_>, notes: &mut Notes) -> Option<Self> {
        parse_said(here, "a template over claims such as `{sub}`", notes)
    }
}

impl Shape for AgentPattern {
    fn schema() -> Value {
        json!({ "type": "string", "title": "agent", "examples": ["spiffe://example.org/jobs/*"] })
    }
    fn read(here: &Here<'_>, notes: &mut Notes) -> Option<Self> {
        parse_said(here, "the id of an agent, or a pattern with `*`", notes)
    }
}

/// Any JSON, by name.
impl Shape for Map<String, Value> {
    fn schema() -> Value {
        json!({ "type": "object", "title": "any values by name" })
    }
    fn read(here: &Here<'_>, notes: &mut Notes) -> Option<Self> {
        match here.node.to_value() {
            Some(Value::Object(map)) => Some(map),
            Some(Value::Null) => Some(Self::new()),
            Some(_) => here.wrong_type("a mapping", notes),
            None => None,
        }
    }
}

/// Reads a text by its type; the message says what was expected, not what was found.
fn parse_plain<T: FromStr>(here: &Here<'_>, expects: &str, notes: &mut Notes) -> Option<T> {
    match here.text(expects, notes)?.parse() {
        Ok(value) => Some(value),
        Err(_) => here.wrong_value(format!("expected {expects}"), notes),
    }
}

/// Reads a text by its type, whose error says what is wrong.
pub(super) fn parse_said<T: FromStr<Err: Display>>(
    here: &Here<'_>,
    expects: &str,
    notes: &mut Notes,
) -> Option<T> {
    match here.text(expects, notes)?.parse() {
        Ok(value) => Some(value),
        Err(error) => here.wrong_value(T::Err::to_string(&error), notes),
    }
}
