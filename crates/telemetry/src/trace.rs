//! The trace a call belongs to.

use std::fmt;

use http::{HeaderMap, HeaderValue};
use opentelemetry::{SpanId, TraceFlags, TraceId};
use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator};

/// The trace a call belongs to (W3C Trace Context, level 1, with the `random` flag of level 2).
///
/// The agent's `sampled` flag is passed on as it came, but every call is exported: an agent can't keep
/// what it did out of the operators' sight.
#[derive(Clone, Copy)]
pub struct Trace {
    trace: TraceId,
    parent: Option<SpanId>,
    server: SpanId,
    client: SpanId,
    flags: TraceFlags,
}

/// The flags that level 1 (`sampled`) and level 2 (`random`) define; others are not passed on.
const KNOWN_FLAGS: u8 = 0x03;

impl Trace {
    /// Continues the agent's `traceparent`, or begins a new trace where there is none, several, or one
    /// that isn't well-formed.
    pub fn continue_from(headers: &HeaderMap) -> Self {
        let mut values = headers.get_all("traceparent").iter();
        let (Some(value), None) = (values.next(), values.next()) else {
            return Self::begin();
        };
        value
            .to_str()
            .ok()
            .and_then(Self::continue_text)
            .unwrap_or_else(Self::begin)
    }

    /// Continues a `traceparent` that came another way, as in MCP's `params._meta` (SEP-414).
    pub fn continue_text(traceparent: &str) -> Option<Self> {
        let (trace, parent, flags) = parse(traceparent)?;
        Some(Self {
            trace,
            parent: Some(parent),
            flags,
            ..Self::begin()
        })
    }

    /// Begins a new trace, sampled.
    pub fn begin() -> Self {
        let ids = RandomIdGenerator::default();
        Self {
            trace: ids.new_trace_id(),
            parent: None,
            server: ids.new_span_id(),
            client: ids.new_span_id(),
            flags: TraceFlags::SAMPLED,
        }
    }

    /// Does it continue the agent's trace? If not, the agent's `tracestate` must not be passed on
    /// (W3C Trace Context 3.3: it belongs to the `traceparent` beside it).
    pub fn is_continued(&self) -> bool {
        self.parent.is_some()
    }

    /// The `traceparent` to send upstream: the client span's.
    pub fn traceparent(&self) -> HeaderValue {
        let text = format!(
            "00-{}-{}-{:02x}",
            self.trace,
            self.client,
            self.flags.to_u8()
        );
        // Hex and dashes always make a header value.
        HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static(""))
    }

    /// The trace's id, 32 hex digits when shown.
    pub(crate) fn id(&self) -> TraceId {
        self.trace
    }

    pub(crate) fn parent(&self) -> Option<SpanId> {
        self.parent
    }

    pub(crate) fn server(&self) -> SpanId {
        self.server
    }

    pub(crate) fn client(&self) -> SpanId {
        self.client
    }

    pub(crate) fn flags(&self) -> TraceFlags {
        self.flags
    }
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Trace({}-{})", self.trace, self.server)
    }
}

/// W3C Trace Context 3.2: `version-trace-parent-flags`, lower-case hex. A later version may be longer,
/// then only after a further dash.
fn parse(text: &str) -> Option<(TraceId, SpanId, TraceFlags)> {
    let mut parts = text.splitn(5, '-');
    let version = hex_of(parts.next()?, 2)?;
    let trace = hex_of(parts.next()?, 32)?;
    let parent = u64::try_from(hex_of(parts.next()?, 16)?).ok()?;
    let flags = u8::try_from(hex_of(parts.next()?, 2)?).ok()?;
    let longer = parts.next().is_some();
    if version == 0xff || (version == 0 && longer) || trace == 0 || parent == 0 {
        return None;
    }
    Some((
        trace.into(),
        parent.into(),
        TraceFlags::new(flags & KNOWN_FLAGS),
    ))
}

fn hex_of(text: &str, digits: usize) -> Option<u128> {
    let lower_hex = text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if text.len() != digits || !lower_hex {
        return None;
    }
    u128::from_str_radix(text, 16).ok()
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};

    use super::Trace;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

    #[track_caller]
    fn check(traceparents: &[&str], continued: bool) {
        let mut headers = HeaderMap::new();
        for text in traceparents {
            headers.append("traceparent", HeaderValue::from_str(text).unwrap());
        }
        let trace = Trace::continue_from(&headers);
        assert_eq!(trace.is_continued(), continued, "{traceparents:?}");
        assert_eq!(trace.id().to_string() == TRACE, continued);
        assert_ne!(trace.server(), trace.client());
    }

    #[test]
    fn a_traceparent_is_continued() {
        check(
            &["00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"],
            true,
        );
    }
    #[test]
    fn a_later_version_is_continued_if_it_begins_alike() {
        check(
            &["01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more-to-come"],
            true,
        );
    }
    #[test]
    fn version_ff_is_not() {
        check(
            &["ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"],
            false,
        );
    }
    #[test]
    fn version_00_with_more_is_not() {
        check(
            &["00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more"],
            false,
        );
    }
    #[test]
    fn upper_case_is_not() {
        check(
            &["00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01"],
            false,
        );
    }
    #[test]
    fn a_sign_is_not_a_digit() {
        check(
            &["00-+af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"],
            false,
        );
    }
    #[test]
    fn zeros_are_not_ids() {
        check(
            &["00-00000000000000000000000000000000-b7ad6b7169203331-01"],
            false,
        );
        check(
            &["00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01"],
            false,
        );
    }
    #[test]
    fn two_of_them_begin_a_new_trace() {
        let one = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        check(&[one, one], false);
    }
    #[test]
    fn none_begins_a_new_trace() {
        check(&[], false);
    }
    #[test]
    fn short_ones_begin_a_new_trace() {
        check(&["", "00", "00-", "00-ab-cd-01"].map(|t| t)[..1], false);
        check(
            &["00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331"],
            false,
        );
    }

    #[test]
    fn upstream_gets_the_client_span_and_the_flags() {
        let trace = Trace::continue_text("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-02")
            .unwrap();
        let expect = format!("00-{TRACE}-{}-02", trace.client());
        assert_eq!(trace.traceparent(), expect);
    }

    #[test]
    fn flags_that_nobody_knows_are_not_passed_on() {
        let trace = Trace::continue_text("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-ff")
            .unwrap();
        assert!(trace.traceparent().to_str().unwrap().ends_with("-03"));
    }
}
