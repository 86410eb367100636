//! What budgets are counted in: how much, of what.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize, Serializer};

/// An amount is a whole number of millionths.
const MILLION: u64 = 1_000_000;

/// The largest amount, in millionths: a number of JSON says it exactly.
const MAX: u64 = 1_000_000_000_000_000;

/// The longest name of a unit; our own bound.
const MAX_UNIT: usize = 32;

/// How much of a unit: 0 to a thousand million, in whole millionths. A number in JSON.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Ord, PartialEq, PartialOrd)]
#[serde(try_from = "f64")]
pub struct Amount(u64);

impl Amount {
    /// The largest, in millionths.
    pub(crate) const MOST: u64 = MAX;

    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// What a number found in an answer costs at a price for each. Parts of a millionth are counted as a whole one, and what
    /// no amount can say as the largest: never as less. None if the number is negative, or none.
    pub fn of(found: f64, price: f64) -> Option<Self> {
        if !(found.is_finite() && found >= 0.0) {
            return None;
        }
        let exact = found * price * 1e6;
        if exact.is_infinite() {
            return Some(Self(MAX));
        }
        // What a binary fraction adds to a decimal one is no millionth.
        let slack = (exact * 4.0 * f64::EPSILON).max(1e-6);
        Some(Self::at_most(exact - slack))
    }

    fn at_most(millionths: f64) -> Self {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it saturates, and is cut to what there may be"
        )]
        let millionths = millionths.ceil() as u64;
        Self(millionths.min(MAX))
    }

    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0).min(MAX))
    }

    /// What is left of it, at least nothing.
    #[must_use]
    pub fn less(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// In millionths.
    pub(crate) fn millionths(self) -> u64 {
        self.0
    }

    /// So many millionths, at most the largest amount.
    pub(crate) fn of_millionths(millionths: u64) -> Self {
        Self(millionths.min(MAX))
    }

    /// As a number.
    #[expect(clippy::cast_precision_loss, reason = "10^15 is within 2^53")]
    pub fn as_f64(self) -> f64 {
        self.0 as f64 / 1e6
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, parts) = (self.0 / MILLION, self.0 % MILLION);
        if parts == 0 {
            return write!(f, "{whole}");
        }
        let parts = format!("{parts:06}");
        write!(f, "{whole}.{}", parts.trim_end_matches('0'))
    }
}

impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.is_multiple_of(MILLION) {
            serializer.serialize_u64(self.0 / MILLION)
        } else {
            serializer.serialize_f64(self.as_f64())
        }
    }
}

/// A number that is no amount.
#[derive(Debug, thiserror::Error)]
#[error("{0} is no amount: 0 to 1000000000, with six decimal places at most")]
pub struct InvalidAmount(f64);

impl TryFrom<f64> for Amount {
    type Error = InvalidAmount;

    fn try_from(number: f64) -> Result<Self, InvalidAmount> {
        let amount = Self::at_most((number * 1e6).round());
        let is_exact = (amount.as_f64() - number).abs() <= number * 2.0 * f64::EPSILON;
        if number >= 0.0 && is_exact && number <= 1e9 {
            Ok(amount)
        } else {
            Err(InvalidAmount(number))
        }
    }
}

impl FromStr for Amount {
    type Err = InvalidAmount;

    fn from_str(text: &str) -> Result<Self, InvalidAmount> {
        Self::try_from(text.parse::<f64>().unwrap_or(f64::NAN))
    }
}

/// What an amount is of, such as `tokens` or `usd`: `[a-z][a-z0-9_]*`, at most 32 characters.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd)]
#[serde(try_from = "String")]
pub struct Unit(Arc<str>);

impl Unit {
    /// The text of it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Unit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// A name that no unit can have.
#[derive(Debug, thiserror::Error)]
#[error("unit `{0}` is not `[a-z][a-z0-9_]*` of at most {MAX_UNIT} characters")]
pub struct InvalidUnit(String);

impl FromStr for Unit {
    type Err = InvalidUnit;

    fn from_str(text: &str) -> Result<Self, InvalidUnit> {
        let well_formed = text.starts_with(|first: char| first.is_ascii_lowercase())
            && text
                .bytes()
                .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'))
            && text.len() <= MAX_UNIT;
        if well_formed {
            Ok(Self(text.into()))
        } else {
            Err(InvalidUnit(text.to_owned()))
        }
    }
}

impl TryFrom<String> for Unit {
    type Error = InvalidUnit;

    fn try_from(text: String) -> Result<Self, InvalidUnit> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::{Amount, Unit};

    #[track_caller]
    fn check(text: &str, expect: Option<&str>) {
        let amount: Result<Amount, _> = serde_json::from_str(text);
        let again = amount.ok().map(|amount| {
            let json = serde_json::to_string(&amount).unwrap();
            assert_eq!(serde_json::from_str::<Amount>(&json).unwrap(), amount);
            amount.to_string()
        });
        assert_eq!(again.as_deref(), expect, "{text}");
    }

    #[test]
    fn an_amount_is_a_number_of_whole_millionths() {
        check("0", Some("0"));
        check("0.1", Some("0.1"));
        check("0.000001", Some("0.000001"));
        check("5.00", Some("5"));
        check("200000", Some("200000"));
        check("1234567.654321", Some("1234567.654321"));
        check("999999999.999999", Some("999999999.999999"));
        check("1000000000", Some("1000000000"));
        check("0.0000001", None);
        check("0.1234567", None);
        check("-1", None);
        check("-0.5", None);
        check("1000000001", None);
        check("1e300", None);
        check("\"1\"", None);
    }

    #[test]
    fn a_price_is_rounded_up_and_never_down() {
        let of = |found, price| Amount::of(found, price).map(|amount| amount.to_string());
        assert_eq!(of(0.1 + 0.2, 1.0).as_deref(), Some("0.3"));
        assert_eq!(of(1000.0, 2.5e-6).as_deref(), Some("0.0025"));
        assert_eq!(of(1.0, 2.5e-7).as_deref(), Some("0.000001"));
        assert_eq!(of(0.0, 1.0).as_deref(), Some("0"));
        assert_eq!(of(1e300, 1e300).as_deref(), Some("1000000000"));
        assert_eq!(of(-1.0, 1.0), None);
        assert_eq!(of(f64::NAN, 1.0), None);
        assert_eq!(of(f64::INFINITY, 1.0), None);
    }

    #[test]
    fn a_unit_is_a_plain_name() {
        for name in ["tokens", "usd", "gpu_seconds2"] {
            assert!(name.parse::<Unit>().is_ok(), "{name}");
        }
        for name in ["", "USD", "2x", "a-b", "a.b", &"x".repeat(33)] {
            assert!(name.parse::<Unit>().is_err(), "{name}");
        }
    }
}
