//! `time.parse_duration_ns`: durations as Go writes them, `1h15m30.918s`; that of regorus panics on some texts.

use regorus::Value;

use super::{Builtin, text};

pub(super) const BUILTINS: &[Builtin] = &[Builtin {
    name: "time.parse_duration_ns",
    arguments: 1,
    function: |arguments| {
        let written = text(arguments, 0)?;
        let read = nanoseconds(written);
        let read = read.ok_or_else(|| anyhow::anyhow!("not a duration: numbers with units"))?;
        Ok(Value::from(read))
    },
}];

/// The units, in nanoseconds. Both micro signs of Unicode are one.
const UNITS: [(&str, u64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60 * 1_000_000_000),
    ("h", 3_600 * 1_000_000_000),
];

/// A sign, and numbers with units, or 0 alone.
fn nanoseconds(text: &str) -> Option<i64> {
    let negative = text.strip_prefix('-');
    let mut rest = negative.or_else(|| text.strip_prefix('+')).unwrap_or(text);
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut sum = 0_u64;
    while !rest.is_empty() {
        let (part, after) = first(rest)?;
        sum = sum.checked_add(part)?;
        rest = after;
    }
    match negative {
        Some(_) => 0_i64.checked_sub_unsigned(sum),
        None => i64::try_from(sum).ok(),
    }
}

/// The number with a unit at the start, in nanoseconds, and what follows it.
fn first(text: &str) -> Option<(u64, &str)> {
    let (whole, rest) = digits(text);
    let (fraction, rest) = match rest.strip_prefix('.') {
        Some(rest) => digits(rest),
        None => ("", rest),
    };
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let is_next = |character: char| character == '.' || character.is_ascii_digit();
    let (unit, rest) = rest.split_at_checked(rest.find(is_next).unwrap_or(rest.len()))?;
    let (_, unit) = UNITS.iter().find(|(name, _)| *name == unit)?;
    let whole = match whole {
        "" => 0,
        whole => whole.parse::<u64>().ok()?.checked_mul(*unit)?,
    };
    let sum = whole.checked_add(part_of(fraction, *unit))?;
    Some((sum, rest))
}

/// A fraction of a unit. It is counted in floats, as Go does; digits that no whole number of 63 bits has room for are left.
fn part_of(fraction: &str, unit: u64) -> u64 {
    let (mut number, mut scale) = (0_i64, 1.0);
    for digit in fraction
        .bytes()
        .map(|digit| i64::from(digit.saturating_sub(b'0')))
    {
        let longer = number
            .checked_mul(10)
            .and_then(|tens| tens.checked_add(digit));
        let Some(longer) = longer else { break };
        number = longer;
        scale *= 10.0;
    }
    (number as f64 * (unit as f64 / scale)) as u64
}

fn digits(text: &str) -> (&str, &str) {
    let end = text.find(|character: char| !character.is_ascii_digit());
    text.split_at_checked(end.unwrap_or(text.len()))
        .unwrap_or((text, ""))
}

#[cfg(test)]
mod tests {
    use super::nanoseconds;

    #[track_caller]
    fn check(text: &str, expect: impl Into<Option<i64>>) {
        assert_eq!(nanoseconds(text), expect.into());
    }

    #[test]
    fn each_unit_is_so_long() {
        check("1ns", 1);
        check("1us", 1_000);
        check("1\u{b5}s", 1_000);
        check("1\u{3bc}s", 1_000);
        check("100ms", 100_000_000);
        check("1s", 1_000_000_000);
        check("1m", 60_000_000_000);
        check("1h", 3_600_000_000_000);
    }
    #[test]
    fn days_have_no_unit() {
        check("1d", None);
        check("1w", None);
    }
    #[test]
    fn parts_are_added() {
        check("1h15m30.918273645s", 4_530_918_273_645);
        check("1s1s", 2_000_000_000);
    }
    #[test]
    fn fractions_may_lack_a_side() {
        check(".5s", 500_000_000);
        check("1.s", 1_000_000_000);
        check(".s", None);
        check("0.3333333333333333333h", 1_200_000_000_000);
        check("1.23456789012345678901234h", 4_444_444_404_444);
    }
    #[test]
    fn signs_are_taken() {
        check("-1.5s", -1_500_000_000);
        check("+1s", 1_000_000_000);
        check("--1s", None);
        check("-", None);
    }
    #[test]
    fn zero_needs_no_unit() {
        check("0", 0);
        check("-0", 0);
        check("1", None);
        check("00", None);
    }
    #[test]
    fn what_is_too_long_is_none() {
        check("9223372036854775807ns", i64::MAX);
        check("9223372036854775808ns", None);
        check("-9223372036854775808ns", i64::MIN);
        check("-9223372036854775809ns", None);
        check("2562047h47m16.854775807s", i64::MAX);
        check("3000000h", None);
        check("18446744073709551616ns", None);
    }
    #[test]
    fn what_is_none_is_no_panic() {
        for text in ["", " 1s", "1µ", "1.", "1 s", "1sµ", "s", "1٣s", "1e3s"] {
            check(text, None);
        }
    }
}
