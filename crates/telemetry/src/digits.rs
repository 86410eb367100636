//! Times, ids and addresses as digits, written straight into a buffer.
//!
//! The texts are those of `Display`, whose machinery costs several times as much.

use std::io::Write as _;
use std::net::SocketAddr;

use jiff::Timestamp;
use jiff::tz::Offset;
use opentelemetry::TraceId;

use crate::DecisionId;

/// A time in RFC 3339, with as many digits of a second as it has: `2026-08-01T12:00:01.5Z`.
pub(crate) fn time(at: Timestamp, buffer: &mut Vec<u8>) {
    let nanoseconds = seconds(at, buffer);
    let digits = fraction(nanoseconds);
    let kept = digits.iter().rposition(|digit| *digit != b'0');
    if let Some(digits) = kept.and_then(|last| digits.get(..=last)) {
        buffer.push(b'.');
        buffer.extend_from_slice(digits);
    }
    buffer.push(b'Z');
}

/// A time in RFC 3339, to the microsecond: `2026-08-01T12:00:01.500000Z`.
pub(crate) fn time_to_microsecond(at: Timestamp, buffer: &mut Vec<u8>) {
    let nanoseconds = seconds(at, buffer);
    let [a, b, c, d, e, f, ..] = fraction(nanoseconds);
    buffer.extend_from_slice(&[b'.', a, b, c, d, e, f, b'Z']);
}

/// Writes date and time of day, as UTC: the nanoseconds that are left. Years are from 0 on: a clock that
/// isn't set says 1970.
fn seconds(at: Timestamp, buffer: &mut Vec<u8>) -> u32 {
    let civil = Offset::UTC.to_datetime(at);
    let year = civil.year().unsigned_abs();
    let ([y1, y2], [y3, y4]) = (two(year / 100), two(year % 100));
    let ([m1, m2], [d1, d2]) = (short(civil.month()), short(civil.day()));
    let ([h1, h2], [n1, n2]) = (short(civil.hour()), short(civil.minute()));
    let [s1, s2] = short(civil.second());
    buffer.extend_from_slice(&[
        y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2, b'T', h1, h2, b':', n1, n2, b':', s1, s2,
    ]);
    civil.subsec_nanosecond().unsigned_abs()
}

fn short(number: i8) -> [u8; 2] {
    two(number.unsigned_abs().into())
}

fn two(number: u16) -> [u8; 2] {
    [decimal(number / 10 % 10), decimal(number % 10)]
}

fn fraction(nanoseconds: u32) -> [u8; 9] {
    let mut digits = [b'0'; 9];
    let mut rest = nanoseconds;
    for digit in digits.iter_mut().rev() {
        *digit = decimal(rest % 10);
        rest /= 10;
    }
    digits
}

/// The digit of a number below 10.
fn decimal(number: impl TryInto<u8>) -> u8 {
    b'0' + number.try_into().unwrap_or_default()
}

/// Without leading zeros.
fn number(number: u16, buffer: &mut Vec<u8>) {
    for unit in [10_000, 1_000, 100, 10] {
        if number >= unit {
            buffer.push(decimal(number / unit % 10));
        }
    }
    buffer.push(decimal(number % 10));
}

/// A decision's id: hex digits and dashes.
pub(crate) fn decision(id: &DecisionId, buffer: &mut Vec<u8>) {
    buffer.extend_from_slice(id.as_str().as_bytes());
}

/// A trace's id: 32 hex digits.
pub(crate) fn trace(id: TraceId, buffer: &mut Vec<u8>) {
    hex(&id.to_bytes(), buffer);
}

/// Bytes as twice as many hex digits, in lower case.
pub(crate) fn hex(bytes: &[u8], buffer: &mut Vec<u8>) {
    let start = buffer.len();
    buffer.resize(start + 2 * bytes.len(), 0);
    let (pairs, _) = buffer
        .get_mut(start..)
        .unwrap_or_default()
        .as_chunks_mut::<2>();
    for (pair, byte) in pairs.iter_mut().zip(bytes) {
        *pair = [hex_digit(byte >> 4), hex_digit(byte & 15)];
    }
}

/// The digit of a number below 16.
fn hex_digit(number: u8) -> u8 {
    let letters = if number < 10 { 0 } else { b'a' - b'0' - 10 };
    b'0' + number + letters
}

/// `192.0.2.1:4711`, `[2001:db8::1]:4711`.
pub(crate) fn address(address: SocketAddr, buffer: &mut Vec<u8>) {
    let SocketAddr::V4(address) = address else {
        // Writing into memory can't fail.
        drop(write!(buffer, "{address}"));
        return;
    };
    let [a, b, c, d] = address.ip().octets();
    for (octet, after) in [(a, b'.'), (b, b'.'), (c, b'.'), (d, b':')] {
        number(octet.into(), buffer);
        buffer.push(after);
    }
    number(address.port(), buffer);
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use jiff::Timestamp;
    use opentelemetry::TraceId;
    use proptest::proptest;

    fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut buffer = Vec::new();
        write(&mut buffer);
        String::from_utf8(buffer).unwrap()
    }

    #[track_caller]
    fn check(at: &str, expect: &str) {
        let at: Timestamp = at.parse().unwrap();
        assert_eq!(text(|buffer| super::time(at, buffer)), at.to_string());
        assert_eq!(
            text(|buffer| super::time_to_microsecond(at, buffer)),
            expect
        );
    }

    #[test]
    fn whole_seconds() {
        check("2026-08-01T12:00:00Z", "2026-08-01T12:00:00.000000Z");
    }
    #[test]
    fn digits_of_a_second() {
        check("2026-12-31T23:59:59.5Z", "2026-12-31T23:59:59.500000Z");
        check(
            "2024-02-29T01:02:03.000000009Z",
            "2024-02-29T01:02:03.000000Z",
        );
        check(
            "2024-02-29T01:02:03.123456789Z",
            "2024-02-29T01:02:03.123456Z",
        );
    }
    #[test]
    fn a_clock_that_is_not_set() {
        check("1970-01-01T00:00:00Z", "1970-01-01T00:00:00.000000Z");
        check("1969-12-31T23:59:59.25Z", "1969-12-31T23:59:59.250000Z");
    }

    proptest! {
        #[test]
        fn any_time_is_as_jiff_shows_it(second in 0_i64..=253_402_207_200, nanosecond in 0..1_000_000_000) {
            let at = Timestamp::new(second, nanosecond).unwrap();
            assert_eq!(text(|buffer| super::time(at, buffer)), at.to_string());
        }
        #[test]
        fn any_trace_is_as_it_shows_itself(bytes: [u8; 16]) {
            let id = TraceId::from_bytes(bytes);
            assert_eq!(text(|buffer| super::trace(id, buffer)), id.to_string());
        }
        #[test]
        fn any_address_is_as_it_shows_itself(address: SocketAddr) {
            assert_eq!(text(|buffer| super::address(address, buffer)), address.to_string());
        }
    }
}
