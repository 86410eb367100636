//! Fakes of AWS: a verifier of Signature Version 4 that shares no code with the signer, and an STS and S3 that use it.
//!
//! Written from the documentation ("Create a signed AWS API request"; "Signature calculations", Amazon S3 API reference).

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use parking_lot::Mutex;
use ring::{digest, hmac};
use url::form_urlencoded;

use crate::{Answer, Received, Upstream};

/// Keys that sign.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Keys {
    /// The access key id.
    pub id: String,
    /// The secret access key.
    pub secret: String,
    /// The session token.
    pub token: Option<String>,
}

/// SHA-256, hex.
pub fn sha256(bytes: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, bytes).as_ref())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

/// What a signature says, wherever it stands.
struct Claimed {
    id: String,
    date: String,
    /// `20150830/us-east-1/s3/aws4_request`.
    scope: String,
    signed: Vec<String>,
    signature: String,
    token: Option<String>,
    in_query: bool,
}

/// Verifies a request as AWS does: who signed, whether recently, and that nothing was changed. Answers with region and service.
///
/// Of a body that streamed by, only what is said of it is looked at.
///
/// # Errors
/// AWS's code for what is wrong.
pub fn verify(
    (method, target, headers): (&Method, &str, &HeaderMap),
    body: &[u8],
    streamed: bool,
    keys: impl Fn(&str) -> Option<Keys>,
) -> Result<String, &'static str> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let query: Vec<(String, String)> = form_urlencoded::parse(query.as_bytes())
        .map(|(name, value)| (name.into_owned(), value.into_owned()))
        .collect();
    let claimed = claimed(headers, &query).ok_or("MissingAuthenticationToken")?;
    let keys = keys(&claimed.id).ok_or("InvalidAccessKeyId")?;
    if keys.token != claimed.token {
        return Err("InvalidToken");
    }
    check_date(&claimed)?;
    let mut scope = claimed.scope.split('/');
    let (Some(date), Some(region), Some(service), Some("aws4_request"), None) = (
        scope.next(),
        scope.next(),
        scope.next(),
        scope.next(),
        scope.next(),
    ) else {
        return Err("AuthorizationHeaderMalformed");
    };
    // What is not signed could have been changed on the way.
    let must = headers.keys().map(|name| name.as_str());
    let must = must.filter(|name| *name == "host" || name.starts_with("x-amz-"));
    if must
        .into_iter()
        .any(|name| !claimed.signed.iter().any(|signed| signed == name))
    {
        return Err("AccessDenied");
    }
    let payload = payload(headers, body, (service, streamed, claimed.in_query))?;
    let mut canonical = format!(
        "{method}\n{}\n{}\n",
        canonical_path(path, service),
        canonical_query(&query)
    );
    for name in &claimed.signed {
        let values = headers.get_all(name).iter();
        let values: Option<Vec<String>> = values
            .map(|value| {
                Some(
                    value
                        .to_str()
                        .ok()?
                        .split_ascii_whitespace()
                        .collect::<Vec<_>>()
                        .join(" "),
                )
            })
            .collect();
        let values = values
            .filter(|values| !values.is_empty())
            .ok_or("SignatureDoesNotMatch")?;
        writeln!(canonical, "{name}:{}", values.join(",")).unwrap();
    }
    write!(canonical, "\n{}\n{payload}", claimed.signed.join(";")).unwrap();
    let text = format!(
        "AWS4-HMAC-SHA256\n{}\n{}\n{}",
        claimed.date,
        claimed.scope,
        sha256(canonical.as_bytes())
    );
    let mut key = format!("AWS4{}", keys.secret).into_bytes();
    for part in [date, region, service, "aws4_request"] {
        key = mac(&key, part.as_bytes());
    }
    if hex(&mac(&key, text.as_bytes())) != claimed.signature {
        return Err("SignatureDoesNotMatch");
    }
    Ok(format!("{region}/{service}"))
}

fn mac(key: &[u8], text: &[u8]) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    hmac::sign(&key, text).as_ref().to_vec()
}

fn claimed(headers: &HeaderMap, query: &[(String, String)]) -> Option<Claimed> {
    let asked = |name: &str| {
        let pair = query.iter().find(|(known, _)| known == name);
        pair.map(|(_, value)| value.clone())
    };
    let header = |name: &str| Some(headers.get(name)?.to_str().ok()?.to_owned());
    let (credential, signed, signature, date, token, in_query) = if let Some(signature) =
        asked("X-Amz-Signature")
    {
        let credential = asked("X-Amz-Credential")?;
        let token = asked("X-Amz-Security-Token");
        (
            credential,
            asked("X-Amz-SignedHeaders")?,
            signature,
            asked("X-Amz-Date")?,
            token,
            true,
        )
    } else {
        let authorization = header("authorization")?;
        let rest = authorization.strip_prefix("AWS4-HMAC-SHA256 ")?;
        let part = |name: &str| {
            let parts = rest.split(", ");
            let mut values = parts.filter_map(|part| part.strip_prefix(name)?.strip_prefix('='));
            values.next().map(str::to_owned)
        };
        let token = header("x-amz-security-token");
        (
            part("Credential")?,
            part("SignedHeaders")?,
            part("Signature")?,
            header("x-amz-date")?,
            token,
            false,
        )
    };
    let (id, scope) = credential.split_once('/')?;
    Some(Claimed {
        id: id.to_owned(),
        scope: scope.to_owned(),
        signed: signed.split(';').map(str::to_owned).collect(),
        date,
        signature,
        token,
        in_query,
    })
}

/// A quarter of an hour, as AWS has it.
fn check_date(claimed: &Claimed) -> Result<(), &'static str> {
    let date = DateTime::strptime("%Y%m%dT%H%M%SZ", &claimed.date);
    let date = date
        .ok()
        .and_then(|date| TimeZone::UTC.to_timestamp(date).ok());
    let date = date.ok_or("AccessDenied")?;
    if !claimed
        .scope
        .starts_with(claimed.date.split('T').next().unwrap())
    {
        return Err("SignatureDoesNotMatch");
    }
    let skew = date.duration_since(Timestamp::now()).abs();
    if skew > jiff::SignedDuration::from_mins(15) {
        return Err("RequestTimeTooSkewed");
    }
    Ok(())
}

/// What is signed of the body, held against the body.
fn payload(
    headers: &HeaderMap,
    body: &[u8],
    (service, streamed, in_query): (&str, bool, bool),
) -> Result<String, &'static str> {
    if in_query && service == "s3" {
        return Ok("UNSIGNED-PAYLOAD".to_owned());
    }
    let said = headers
        .get("x-amz-content-sha256")
        .map(|value| value.to_str().unwrap_or_default());
    match said {
        None if service == "s3" => Err("MissingSecurityHeader"),
        Some(said) if said.starts_with("STREAMING-AWS4-") => Err("NotImplemented"),
        Some(said @ ("UNSIGNED-PAYLOAD" | "STREAMING-UNSIGNED-PAYLOAD-TRAILER"))
            if service == "s3" =>
        {
            Ok(said.to_owned())
        }
        Some(said) if streamed || said == sha256(body) => Ok(said.to_owned()),
        Some(_) => Err("XAmzContentSHA256Mismatch"),
        None => Ok(sha256(body)),
    }
}

fn encode(bytes: impl IntoIterator<Item = u8>, is_path: bool) -> String {
    let mut text = String::new();
    for byte in bytes {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                text.push(byte.into());
            }
            b'/' if is_path => text.push('/'),
            _ => write!(text, "%{byte:02X}").unwrap(),
        }
    }
    text
}

fn decode(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut decoded = Vec::new();
    let mut place = 0;
    while let Some(byte) = bytes.get(place) {
        let digits = text.get(place + 1..place + 3);
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(value) if *byte == b'%' => {
                decoded.push(value);
                place += 3;
            }
            _ => {
                decoded.push(*byte);
                place += 1;
            }
        }
    }
    decoded
}

/// S3 reads a path before it signs; others sign what came.
fn canonical_path(path: &str, service: &str) -> String {
    if service == "s3" {
        encode(decode(path), true)
    } else {
        encode(path.bytes(), true)
    }
}

fn canonical_query(query: &[(String, String)]) -> String {
    let mut pairs: Vec<String> = query
        .iter()
        .filter(|(name, _)| name != "X-Amz-Signature")
        .map(|(name, value)| {
            format!(
                "{}={}",
                encode(name.bytes(), false),
                encode(value.bytes(), false)
            )
        })
        .collect();
    pairs.sort();
    pairs.join("&")
}

/// The keys of the account, by which roles are assumed.
pub const BASE_ID: &str = "AKIAREMITBASE0000001";
/// Their secret.
pub const BASE_SECRET: &str = "base-secret/key+0123456789abcdefghijklmn";

/// A fake AWS: an STS that assumes any role, and an S3 that keeps objects by their paths, behind one address.
#[derive(Debug)]
pub struct Aws {
    upstream: Upstream,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// What was asked of STS, by its parameters.
    asked: Vec<HashMap<String, String>>,
    /// Answers of STS that come before its own.
    next: Vec<Answer>,
    sessions: Vec<Keys>,
    objects: HashMap<String, Bytes>,
    /// What S3 refused, by AWS's code.
    refused: Vec<String>,
}

impl Aws {
    /// Starts one.
    pub async fn start() -> Self {
        let upstream = Upstream::start(Answer::json(serde_json::json!({}))).await;
        let state: Arc<Mutex<State>> = Arc::default();
        let answering = Arc::clone(&state);
        upstream.answer(Answer::by(move |received| answer(&answering, received)));
        Self { upstream, state }
    }

    /// Its base URL.
    pub fn url(&self) -> String {
        self.upstream.url()
    }

    /// What reached it, as it came.
    pub fn received(&self) -> Vec<Received> {
        self.upstream.received()
    }

    /// Answers the next question to STS like this.
    pub fn next(&self, answer: Answer) {
        self.state.lock().next.insert(0, answer);
    }

    /// What was asked of STS.
    pub fn asked(&self) -> Vec<HashMap<String, String>> {
        self.state.lock().asked.clone()
    }

    /// The one question that was asked of STS.
    #[track_caller]
    pub fn only(&self) -> HashMap<String, String> {
        let mut asked = self.asked();
        assert_eq!(asked.len(), 1, "questions to STS");
        asked.pop().unwrap()
    }

    /// The sessions that it gave out.
    pub fn sessions(&self) -> Vec<Keys> {
        self.state.lock().sessions.clone()
    }

    /// What S3 keeps at a path.
    pub fn object(&self, path: &str) -> Option<Bytes> {
        self.state.lock().objects.get(path).cloned()
    }

    /// What S3 refused.
    pub fn refused(&self) -> Vec<String> {
        self.state.lock().refused.clone()
    }
}

/// A refusal as STS has it.
pub fn sts_error(status: u16, code: &str, message: &str) -> Answer {
    let text = format!(
        "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\n  <Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error>\n  <RequestId>c6104cbe-af31-11e0-8154-cbc7ccf896c7</RequestId>\n</ErrorResponse>"
    );
    Answer::Bytes(StatusCode::from_u16(status).unwrap(), text.into())
}

/// A session as STS has it, that ends at `expiration`.
pub fn sts_session(action: &str, keys: &Keys, expiration: &str) -> Answer {
    let token = keys.token.clone().unwrap_or_default();
    let text = format!(
        "<?xml version=\"1.0\"?><{action}Response xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><{action}Result><AssumedRoleUser><Arn>arn:aws:sts::123456789012:assumed-role/r/s</Arn><AssumedRoleId>AROA:s</AssumedRoleId></AssumedRoleUser><Credentials><AccessKeyId>{}</AccessKeyId><SecretAccessKey>{}</SecretAccessKey><SessionToken>\n {token}\n </SessionToken><Expiration>{expiration}</Expiration></Credentials><PackedPolicySize>6</PackedPolicySize></{action}Result><ResponseMetadata><RequestId>c6104cbe</RequestId></ResponseMetadata></{action}Response>",
        keys.id, keys.secret
    );
    Answer::Bytes(StatusCode::OK, text.into())
}

fn answer(state: &Mutex<State>, received: &Received) -> Answer {
    let mut state = state.lock();
    let is_form = received.header("content-type") == Some("application/x-www-form-urlencoded");
    if received.method == Method::POST && received.target == "/" && is_form {
        return sts(&mut state, received);
    }
    let signed = (
        &received.method,
        received.target.as_str(),
        &received.headers,
    );
    if !received.complete {
        state.refused.push("IncompleteBody".to_owned());
        return Answer::Bytes(StatusCode::BAD_REQUEST, Bytes::new());
    }
    let sessions = state.sessions.clone();
    let verified = verify(signed, &received.body, false, |id| {
        sessions.iter().find(|keys| keys.id == id).cloned()
    });
    if let Err(code) = verified {
        state.refused.push(code.to_owned());
        let text = format!("<Error><Code>{code}</Code></Error>");
        return Answer::Bytes(StatusCode::FORBIDDEN, text.into());
    }
    let path = received.target.split('?').next().unwrap().to_owned();
    match received.method {
        Method::PUT => {
            state.objects.insert(path, received.body.clone());
            Answer::Bytes(StatusCode::OK, Bytes::new())
        }
        _ => match state.objects.get(&path) {
            Some(object) => Answer::Bytes(StatusCode::OK, object.clone()),
            None => Answer::Bytes(
                StatusCode::NOT_FOUND,
                "<Error><Code>NoSuchKey</Code></Error>".into(),
            ),
        },
    }
}

fn sts(state: &mut State, received: &Received) -> Answer {
    let asked: HashMap<String, String> = form_urlencoded::parse(&received.body)
        .into_owned()
        .collect();
    state.asked.push(asked.clone());
    if let Some(answer) = state.next.pop() {
        return answer;
    }
    let action = asked.get("Action").cloned().unwrap_or_default();
    if action == "AssumeRole" {
        let signed = (
            &received.method,
            received.target.as_str(),
            &received.headers,
        );
        let verified = verify(signed, &received.body, false, |id| {
            (id == BASE_ID).then(|| Keys {
                id: BASE_ID.to_owned(),
                secret: BASE_SECRET.to_owned(),
                token: None,
            })
        });
        match verified {
            Ok(scope) if scope.ends_with("/sts") => {}
            Ok(_) => return sts_error(403, "SignatureDoesNotMatch", "of another service"),
            Err(code) => return sts_error(403, code, "see the code"),
        }
    }
    let number = state.sessions.len();
    let keys = Keys {
        id: format!("ASIAREMITSESSION{number:04}"),
        secret: format!("session-secret/{number:04}+abcdefghijklmnopqrstu"),
        token: Some(format!(
            "FwoGZXIvYXdzE-session-token-{number:04}//////////="
        )),
    };
    state.sessions.push(keys.clone());
    let life = asked
        .get("DurationSeconds")
        .and_then(|life| life.parse().ok())
        .unwrap_or(3600_i64);
    let end = Timestamp::now() + life.seconds();
    let end = end.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    sts_session(&action, &keys, &end)
}
