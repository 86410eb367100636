//! JSON in the one spelling of RFC 8785 (JSON Canonicalization Scheme), for digests.

use serde_json::{Number, Value};

/// The largest integer that a double and every integer below it holds exactly (RFC 7493, 2.2).
const EXACT: u64 = (1 << 53) - 1;

/// A number that two readers may take for two.
#[derive(Debug, thiserror::Error)]
#[error("a number is no IEEE 754 double")]
pub(crate) struct Inexact;

/// Writes a value in its one spelling.
///
/// Refused are integers that a double does not hold exactly: two of them would be spelled as one, and what was
/// approved for one would be approved for the other.
pub(crate) fn canonical(value: &Value) -> Result<String, Inexact> {
    let mut text = String::new();
    write(value, &mut text)?;
    Ok(text)
}

/// Recursion is bounded by the depth that bodies are read to.
fn write(value: &Value, text: &mut String) -> Result<(), Inexact> {
    match value {
        Value::Null => text.push_str("null"),
        Value::Bool(true) => text.push_str("true"),
        Value::Bool(false) => text.push_str("false"),
        Value::Number(number) => text.push_str(&self::number(number)?),
        Value::String(string) => text.push_str(&quoted(string)),
        Value::Array(items) => {
            text.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                write(item, text)?;
            }
            text.push(']');
        }
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            // By UTF-16 code units (RFC 8785, 3.2.3), which is another order than that of bytes.
            fields.sort_by(|(one, _), (other, _)| one.encode_utf16().cmp(other.encode_utf16()));
            text.push('{');
            for (index, (key, value)) in fields.into_iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                text.push_str(&quoted(key));
                text.push(':');
                write(value, text)?;
            }
            text.push('}');
        }
    }
    Ok(())
}

/// RFC 8785, 3.2.2.2: the two-character escapes, `\u00xx` in lower case for other controls, nothing else.
fn quoted(string: &str) -> String {
    // That is how this library writes strings, and the tests hold it to that.
    Value::from(string).to_string()
}

fn number(number: &Number) -> Result<String, Inexact> {
    if let Some(integer) = number.as_u64() {
        return if integer <= EXACT {
            Ok(integer.to_string())
        } else {
            Err(Inexact)
        };
    }
    if let Some(integer) = number.as_i64() {
        return if integer.unsigned_abs() <= EXACT {
            Ok(integer.to_string())
        } else {
            Err(Inexact)
        };
    }
    let double = number.as_f64().filter(|double| double.is_finite());
    double.map(self::double).ok_or(Inexact)
}

/// ECMAScript's `Number::toString` (ECMA-262, 6.1.6.1.20), which RFC 8785, 3.2.2.3, asks for.
fn double(double: f64) -> String {
    if double == 0.0 {
        return "0".to_owned();
    }
    let (digits, point) = shortest(double.abs());
    let sign = if double < 0.0 { "-" } else { "" };
    let zeros = |count: i32| "0".repeat(usize::try_from(count).unwrap_or(0));
    let length = i32::try_from(digits.len()).unwrap_or(i32::MAX);
    let exponent = point - 1;
    let cut = |at: i32| digits.split_at_checked(usize::try_from(at).unwrap_or(0));
    if point >= length && point <= 21 {
        return format!("{sign}{digits}{}", zeros(point - length));
    }
    if (1..=21).contains(&point) {
        let (whole, part) = cut(point).unwrap_or((&digits, ""));
        return format!("{sign}{whole}.{part}");
    }
    if (-5..=0).contains(&point) {
        return format!("{sign}0.{}{digits}", zeros(-point));
    }
    let power = if exponent < 0 { "" } else { "+" };
    match cut(1) {
        Some((first, rest)) if !rest.is_empty() => {
            format!("{sign}{first}.{rest}e{power}{exponent}")
        }
        _ => format!("{sign}{digits}e{power}{exponent}"),
    }
}

/// The fewest digits that read back as the same double, the nearest of those and then the even one, and where the point
/// stands, counted in digits.
fn shortest(double: f64) -> (String, i32) {
    // The standard library takes the larger of two that are as near; this one the even one, as ECMAScript does.
    let text = Number::from_f64(double).map_or_else(|| double.to_string(), |text| text.to_string());
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (whole, part) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all = format!("{whole}{part}");
    let significant = all.trim_start_matches('0');
    let leading = all.len() - significant.len();
    let places = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let point = places(whole.len()) - places(leading) + exponent;
    (significant.trim_end_matches('0').to_owned(), point)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{canonical, double};

    /// The doubles of RFC 8785, appendix B, by their bits.
    #[test]
    fn doubles_are_spelled_as_the_rfc_says() {
        for (bits, expect) in [
            (0x0000_0000_0000_0000, "0"),
            (0x8000_0000_0000_0000, "0"),
            (0x0000_0000_0000_0001, "5e-324"),
            (0x8000_0000_0000_0001, "-5e-324"),
            (0x7fef_ffff_ffff_ffff, "1.7976931348623157e+308"),
            (0xffef_ffff_ffff_ffff, "-1.7976931348623157e+308"),
            (0x4340_0000_0000_0000, "9007199254740992"),
            (0xc340_0000_0000_0000, "-9007199254740992"),
            (0x4430_0000_0000_0000, "295147905179352830000"),
            (0x44b5_2d02_c7e1_4af5, "9.999999999999997e+22"),
            (0x44b5_2d02_c7e1_4af6, "1e+23"),
            (0x44b5_2d02_c7e1_4af7, "1.0000000000000001e+23"),
            (0x444b_1ae4_d6e2_ef4e, "999999999999999700000"),
            (0x444b_1ae4_d6e2_ef4f, "999999999999999900000"),
            (0x444b_1ae4_d6e2_ef50, "1e+21"),
            (0x3eb0_c6f7_a0b5_ed8c, "9.999999999999997e-7"),
            (0x3eb0_c6f7_a0b5_ed8d, "0.000001"),
            (0x41b3_de43_5555_5553, "333333333.3333332"),
            (0x41b3_de43_5555_5554, "333333333.33333325"),
            (0x41b3_de43_5555_5555, "333333333.3333333"),
            (0x41b3_de43_5555_5556, "333333333.3333334"),
            (0x41b3_de43_5555_5557, "333333333.33333343"),
            (0xbecb_f647_612f_3696, "-0.0000033333333333333333"),
            (0x4314_3ff3_c1cb_0959, "1424953923781206.2"),
        ] {
            assert_eq!(double(f64::from_bits(bits)), expect, "{bits:x}");
        }
    }

    #[track_caller]
    fn check(value: &str, expect: &str) {
        let value: Value = serde_json::from_str(value).unwrap();
        assert_eq!(canonical(&value).unwrap(), expect);
    }

    /// RFC 8785, 3.2.2 and 3.2.4.
    #[test]
    fn the_example_of_the_rfc() {
        check(
            r#"{"numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],
                "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/", "literals": [null, true, false]}"#,
            "{\"literals\":[null,true,false],\"numbers\":[333333333.3333333,1e+30,4.5,0.002,1e-27],\"string\":\"€$\\u000f\\nA'B\\\"\\\\\\\\\\\"/\"}",
        );
    }

    /// RFC 8785, 3.2.3.
    #[test]
    fn keys_are_sorted_by_code_units() {
        check(
            r#"{"\u20ac": "Euro Sign", "\r": "Carriage Return", "\ufb33": "Hebrew Letter Dalet With Dagesh", "1": "One",
                "\ud83d\ude00": "Emoji: Grinning Face", "\u0080": "Control", "\u00f6": "Latin Small Letter O With Diaeresis"}"#,
            "{\"\\r\":\"Carriage Return\",\"1\":\"One\",\"\u{80}\":\"Control\",\"ö\":\"Latin Small Letter O With Diaeresis\",\"€\":\"Euro Sign\",\"😀\":\"Emoji: Grinning Face\",\"\u{fb33}\":\"Hebrew Letter Dalet With Dagesh\"}",
        );
    }

    #[test]
    fn every_control_has_its_escape() {
        let controls: String = (0..0x20_u8).map(char::from).collect();
        let text = canonical(&json!(controls + "\u{7f}\u{2028}")).unwrap();
        let expect = concat!(
            r"\u0000\u0001\u0002\u0003\u0004\u0005\u0006\u0007\b\t\n\u000b\f\r\u000e\u000f",
            r"\u0010\u0011\u0012\u0013\u0014\u0015\u0016\u0017\u0018\u0019\u001a\u001b\u001c\u001d\u001e\u001f"
        );
        assert_eq!(text, format!("\"{expect}\u{7f}\u{2028}\""));
    }

    #[test]
    fn equal_numbers_have_one_spelling() {
        check("[1, 1.0, 1e0, 10e-1, -0, -0.0]", "[1,1,1,1,0,0]");
    }

    #[test]
    fn integers_that_would_be_spelled_as_others_are_refused() {
        check(
            "[9007199254740991, -9007199254740991]",
            "[9007199254740991,-9007199254740991]",
        );
        for number in [
            "9007199254740993",
            "-9007199254740993",
            "18446744073709551615",
        ] {
            let value: Value = serde_json::from_str(number).unwrap();
            assert!(canonical(&value).is_err(), "{number}");
        }
    }

    proptest::proptest! {
        #[test]
        fn a_double_reads_back(bits: u64) {
            let value = f64::from_bits(bits);
            if value.is_finite() {
                let back: f64 = double(value).parse().unwrap();
                proptest::prop_assert!(back == value);
            }
        }
    }
}
