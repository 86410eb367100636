//! AWS Signature Version 4: what leaves is signed, as it leaves.

mod chunks;
mod reach;

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials as AwsCredentials;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SignatureLocation,
    SigningInstructions, SigningSettings, UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4;
use call::Body;
use http::header::{
    AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderName, HeaderValue,
};
use http::request::Parts;
use http::uri::{Authority, PathAndQuery};
use http::{HeaderMap, Uri};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};

use crate::{Fields, Material, Secret, Uninjectable};

pub use chunks::{Chunks, InvalidChunks};

/// A request is signed with keys of AWS, or of who takes AWS's signatures.
///
/// Signed are the method, the host, the path, the query, the body, `content-type`, `content-md5` and every `x-amz-*`
/// header: what the gateway sets once the signature is made (the length, the coding, the trace) is not among them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SigV4 {
    /// The service's name in signatures, such as `s3`.
    pub service: String,
    /// Its region, such as `eu-west-1`.
    pub region: String,
    /// Where the signature stands.
    pub location: SigV4Location,
    /// Headers of S3 that are signed though they reach further than a path says, such as `x-amz-copy-source`.
    pub allow_headers: Vec<HeaderName>,
}

/// Where a signature stands.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum SigV4Location {
    /// In headers.
    #[default]
    Header,
    /// In the query, as in a presigned URL.
    Query,
}

/// The names of the fields of AWS keys, as `credential_process` of AWS's tools has them in its own spelling.
pub(crate) const ACCESS_KEY_ID: &str = "access_key_id";
pub(crate) const SECRET_ACCESS_KEY: &str = "secret_access_key";
pub(crate) const SESSION_TOKEN: &str = "session_token";

/// How long a signature in a query is good for: it is used at once, and clocks differ.
const QUERY_LIFE: Duration = Duration::from_secs(300);

const CONTENT_SHA256: HeaderName = HeaderName::from_static("x-amz-content-sha256");
const CONTENT_MD5: HeaderName = HeaderName::from_static("content-md5");
const DATE: HeaderName = HeaderName::from_static("x-amz-date");
const TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");
const DECODED_LENGTH: HeaderName = HeaderName::from_static("x-amz-decoded-content-length");
const TRAILER: HeaderName = HeaderName::from_static("x-amz-trailer");

/// Only S3 takes it, and the next two.
const UNSIGNED: &str = "UNSIGNED-PAYLOAD";
const UNSIGNED_TRAILER: &str = "STREAMING-UNSIGNED-PAYLOAD-TRAILER";
/// With and without trailers: each chunk is signed, by the key of whoever sends it.
const SIGNED_CHUNKS: &str = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD";

/// What `UriEncode` leaves as it is, with the slash of a path.
const PATH: &AsciiSet = &UNRESERVED.remove(b'/');
pub(crate) const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// What is signed of a request.
struct Plain<'r> {
    head: &'r Parts,
    headers: Vec<(&'r str, &'r str)>,
    payload: Payload<'r>,
    /// How long a signature in the query is good for.
    life: Duration,
}

/// What is signed of a body.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Payload<'b> {
    Bytes(&'b [u8]),
    /// A hash that the agent declares, of what streams: the upstream holds the body against it.
    Declared(&'b str),
    Unsigned,
    UnsignedTrailer,
}

const MISFIT: Uninjectable = Uninjectable("a signature");

impl<'r> Plain<'r> {
    fn new(head: &'r Parts, payload: Payload<'r>) -> Result<Self, Uninjectable> {
        let authority = head.uri.authority().map(Authority::as_str).ok_or(MISFIT)?;
        let mut headers = vec![(HOST.as_str(), authority)];
        for (name, value) in head.headers.iter().filter(|(name, _)| is_signed(name)) {
            headers.push((name.as_str(), value.to_str().map_err(|_| MISFIT)?));
        }
        Ok(Self {
            head,
            headers,
            payload,
            life: QUERY_LIFE,
        })
    }
}

impl SigV4 {
    /// Signs a request as it will leave; whatever was signed before goes.
    ///
    /// A body whose chunks the agent signed leaves without: its key is worth nothing to the upstream.
    pub(crate) fn apply(
        &self,
        (head, body): (&mut Parts, &mut Body),
        material: &Material,
    ) -> Result<(), Uninjectable> {
        let Material::Fields(keys) = material else {
            return Err(Uninjectable("a signature: it is no AWS key"));
        };
        self.sign((head, body), keys, SystemTime::now())
    }

    fn sign(
        &self,
        (head, body): (&mut Parts, &mut Body),
        keys: &Fields,
        time: SystemTime,
    ) -> Result<(), Uninjectable> {
        let declared = head.headers.remove(CONTENT_SHA256);
        let declared = declared.as_ref().and_then(|value| value.to_str().ok());
        for name in [DATE, TOKEN] {
            head.headers.remove(name);
        }
        let declared = match declared {
            Some(declared) if declared.starts_with(SIGNED_CHUNKS) => {
                unchunk(head, body)?;
                None
            }
            other => other,
        };
        let payload = self.payload(head, body, declared)?;
        let signed = self.signature(Plain::new(head, payload)?, keys, time)?;
        put(head, signed)
    }

    /// What is to be signed of the body.
    fn payload<'b>(
        &self,
        head: &Parts,
        body: &'b Body,
        declared: Option<&'b str>,
    ) -> Result<Payload<'b>, Uninjectable> {
        if declared == Some(UNSIGNED_TRAILER) {
            return match body {
                Body::Whole(_) | Body::Streamed => self.unsigned(head, Payload::UnsignedTrailer),
                Body::Empty => Err(Uninjectable("an empty body whose trailer it should have")),
            };
        }
        match (body, declared) {
            (Body::Empty, _) => Ok(Payload::Bytes(&[])),
            (Body::Whole(bytes), _) => Ok(Payload::Bytes(bytes)),
            (Body::Streamed, Some(hash)) if is_hash(hash) => Ok(Payload::Declared(hash)),
            (Body::Streamed, None | Some(UNSIGNED)) => self.unsigned(head, Payload::Unsigned),
            (Body::Streamed, Some(_)) => Err(Uninjectable(
                "a body: its `x-amz-content-sha256` is none that is known here",
            )),
        }
    }

    /// Only S3 takes what is not signed, and only TLS keeps it whole.
    fn unsigned(
        &self,
        head: &Parts,
        payload: Payload<'static>,
    ) -> Result<Payload<'static>, Uninjectable> {
        if !self.is_s3() {
            return Err(Uninjectable(
                "a body that streams without its hash: only S3 takes it unsigned",
            ));
        }
        if !is_private(&head.uri) {
            return Err(Uninjectable(
                "a body that streams without its hash over plaintext",
            ));
        }
        Ok(payload)
    }

    fn signature(
        &self,
        plain: Plain<'_>,
        keys: &Fields,
        time: SystemTime,
    ) -> Result<SigningInstructions, Uninjectable> {
        let body = match (self.location, plain.payload) {
            // A presigned URL of S3 says nothing of a body.
            (SigV4Location::Query, _) if self.is_s3() => SignableBody::UnsignedPayload,
            (_, Payload::Bytes(bytes)) => SignableBody::Bytes(bytes),
            (_, Payload::Declared(hash)) => SignableBody::Precomputed(hash.to_owned()),
            (_, Payload::Unsigned) => SignableBody::UnsignedPayload,
            (_, Payload::UnsignedTrailer) => SignableBody::StreamingUnsignedPayloadTrailer,
        };
        let request = SignableRequest::new(
            plain.head.method.as_str(),
            self.signable_uri(&plain.head.uri),
            plain.headers.into_iter(),
            body,
        );
        let mut settings = self.settings(plain.life);
        if self.is_s3() || matches!(plain.payload, Payload::Declared(_)) {
            settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        }
        let identity = credentials(keys)?.into();
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name(&self.service)
            .time(time)
            .settings(settings)
            .build();
        let params = params.map_err(|_| MISFIT)?.into();
        let signed = sign(request.map_err(|_| MISFIT)?, &params);
        Ok(signed.map_err(|_| MISFIT)?.into_parts().0)
    }

    /// S3 signs a path as it decodes it, whatever of it was encoded; others sign it as it was sent, encoded once more.
    fn signable_uri(&self, uri: &Uri) -> String {
        if !self.is_s3() {
            return uri.to_string();
        }
        let scheme = uri.scheme_str().unwrap_or("https");
        let authority = uri.authority().map_or("", Authority::as_str);
        let path: Vec<u8> = percent_decode_str(uri.path()).collect();
        let path = percent_encode(&path, PATH);
        let query = uri
            .query()
            .map_or_else(String::new, |query| format!("?{query}"));
        format!("{scheme}://{authority}{path}{query}")
    }

    fn settings(&self, life: Duration) -> SigningSettings {
        let mut settings = SigningSettings::default();
        if self.is_s3() {
            settings.percent_encoding_mode = PercentEncodingMode::Single;
            settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        }
        if self.location == SigV4Location::Query {
            settings.signature_location = SignatureLocation::QueryParams;
            settings.expires_in = Some(life);
        }
        settings
    }

    /// The header that it fills, among others.
    pub(crate) fn header(&self) -> Option<&'static HeaderName> {
        match self.location {
            SigV4Location::Header => Some(&AUTHORIZATION),
            SigV4Location::Query => None,
        }
    }

    /// Services that speak S3's way of signing.
    fn is_s3(&self) -> bool {
        matches!(
            self.service.as_str(),
            "s3" | "s3-object-lambda" | "s3-outposts"
        )
    }
}

/// Signs a request of the gateway's own, whose body is there.
pub(crate) fn sign_own(
    sigv4: &SigV4,
    head: &mut Parts,
    body: &[u8],
    keys: &Fields,
) -> Result<(), Uninjectable> {
    let plain = Plain::new(head, Payload::Bytes(body))?;
    let signed = sigv4.signature(plain, keys, SystemTime::now())?;
    put(head, signed)
}

/// AWS's own type of keys, which wipes itself.
fn credentials(keys: &Fields) -> Result<AwsCredentials, Uninjectable> {
    let text = |name: &'static str| keys.get(name).map(text).transpose();
    let (Some(id), Some(secret)) = (text(ACCESS_KEY_ID)?, text(SECRET_ACCESS_KEY)?) else {
        return Err(Uninjectable(
            "a signature: it lacks `access_key_id` or `secret_access_key`",
        ));
    };
    let token = text(SESSION_TOKEN)?;
    Ok(AwsCredentials::new(id, secret, token, None, "remit"))
}

#[expect(
    clippy::disallowed_methods,
    reason = "the signature that enters a request is made of it"
)]
fn text(secret: &Secret) -> Result<String, Uninjectable> {
    // Visible ASCII, so that it fits a header and a scope has no slash too many by it.
    let text = std::str::from_utf8(secret.expose()).ok();
    let text = text.filter(|text| text.bytes().all(|byte| byte.is_ascii_graphic()));
    text.map(str::to_owned)
        .ok_or(Uninjectable("a signature: it is no AWS key"))
}

/// Puts a signature on a request.
fn put(head: &mut Parts, signed: SigningInstructions) -> Result<(), Uninjectable> {
    let (headers, params) = signed.into_parts();
    for header in headers {
        let value = HeaderValue::from_str(header.value());
        let mut value = value.map_err(|_| Uninjectable("a signature's header"))?;
        // All of it: with the token, the signature would do for somebody else as well.
        value.set_sensitive(true);
        let name = HeaderName::from_static(header.name());
        drop(head.headers.insert(name, value));
    }
    if params.is_empty() {
        return Ok(());
    }
    let mut text = head.uri.path().to_owned();
    let mut separator = '?';
    if let Some(query) = head.uri.query().filter(|query| !query.is_empty()) {
        text.push('?');
        text.push_str(query);
        separator = '&';
    }
    for (name, value) in params {
        text.push(separator);
        text.push_str(name);
        text.push('=');
        text.extend(percent_encode(value.as_bytes(), UNRESERVED));
        separator = '&';
    }
    let mut parts = std::mem::take(&mut head.uri).into_parts();
    parts.path_and_query = Some(PathAndQuery::from_maybe_shared(text).map_err(|_| MISFIT)?);
    head.uri = Uri::from_parts(parts).map_err(|_| MISFIT)?;
    Ok(())
}

/// What of a head is signed, besides the host.
fn is_signed(name: &HeaderName) -> bool {
    *name == CONTENT_TYPE || *name == CONTENT_MD5 || name.as_str().starts_with("x-amz-")
}

/// Whether nobody on the way can change what is sent there: TLS, or this machine.
fn is_private(uri: &Uri) -> bool {
    if uri.scheme_str() == Some("https") {
        return true;
    }
    let url = uri.to_string().parse::<url::Url>();
    url.is_ok_and(|url| identity::is_trustworthy(&url))
}

/// SHA-256, hex.
fn is_hash(text: &str) -> bool {
    let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    text.len() == 64 && text.bytes().all(is_hex)
}

/// Takes the chunks of `aws-chunked` off a body.
fn unchunk(head: &mut Parts, body: &mut Body) -> Result<(), Uninjectable> {
    let length = decoded_length(&head.headers).ok_or(Uninjectable(
        "a body of chunks that does not say its length",
    ))?;
    let headers = &mut head.headers;
    match body {
        Body::Whole(bytes) => {
            let whole = Chunks::whole(bytes);
            let whole = whole.map_err(|_| Uninjectable("a body: its chunks are broken"))?;
            headers.insert(CONTENT_LENGTH, HeaderValue::from(whole.len()));
            *body = Body::Whole(whole);
        }
        Body::Streamed => {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
            // They come off while it streams.
            head.extensions.insert(Chunks::default());
        }
        Body::Empty => return Err(Uninjectable("an empty body that should have chunks")),
    }
    headers.remove(DECODED_LENGTH);
    headers.remove(TRAILER);
    without_chunked(headers);
    Ok(())
}

/// The length that a body has without its chunks, where it is said once, as `Content-Length` would say it.
fn decoded_length(headers: &HeaderMap) -> Option<u64> {
    let mut values = headers.get_all(DECODED_LENGTH).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return None;
    };
    let digits = value.to_str().ok()?;
    // 19 digits fit 64 bits whatever they are; a sign is none.
    let is_length =
        (1..=19).contains(&digits.len()) && digits.bytes().all(|digit| digit.is_ascii_digit());
    digits.parse().ok().filter(|_| is_length)
}

/// Takes `aws-chunked` off the codings of a body, and leaves the others.
fn without_chunked(headers: &mut HeaderMap) {
    let codings = headers.get_all(CONTENT_ENCODING).into_iter();
    let codings = codings.filter_map(|value| value.to_str().ok());
    let others = codings
        .flat_map(|codings| codings.split(','))
        .map(str::trim)
        .filter(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case("aws-chunked"));
    let others = others.collect::<Vec<_>>().join(", ");
    headers.remove(CONTENT_ENCODING);
    if let Ok(others) = HeaderValue::from_str(&others)
        && !others.is_empty()
    {
        headers.insert(CONTENT_ENCODING, others);
    }
}

#[cfg(test)]
mod tests;
