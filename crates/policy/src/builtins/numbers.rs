//! `numbers.range`, `units.*`, `bits.lsh`: numbers as large and as many as a policy needs, not as memory holds.

use regorus::Value;

use super::{Builtin, named, text, whole};

/// How many numbers a range has at most.
const MOST: u64 = 10_000;

/// How many digits the exponent of a number with a unit has at most.
const MOST_DIGITS: usize = 2;

/// How far a number is shifted at most, in bits.
const FARTHEST: i64 = 1_024;

pub(super) const BUILTINS: &[Builtin] = &[
    Builtin {
        name: "numbers.range",
        arguments: 2,
        function: |arguments| range(whole(arguments, 0)?, whole(arguments, 1)?, 1),
    },
    Builtin {
        name: "numbers.range_step",
        arguments: 3,
        function: |arguments| {
            let step = u64::try_from(whole(arguments, 2)?).unwrap_or_default();
            anyhow::ensure!(step > 0, "the step must be positive");
            range(whole(arguments, 0)?, whole(arguments, 1)?, step)
        },
    },
    Builtin {
        name: "units.parse",
        arguments: 1,
        function: |arguments| units("units.parse", arguments),
    },
    Builtin {
        name: "units.parse_bytes",
        arguments: 1,
        function: |arguments| units("units.parse_bytes", arguments),
    },
    Builtin {
        name: "bits.lsh",
        arguments: 2,
        function: |arguments| {
            let far = whole(arguments, 1)?;
            anyhow::ensure!(far <= FARTHEST, "a shift is by at most {FARTHEST} bits");
            named("bits.lsh", arguments)
        },
    },
];

/// A number with a unit. One with a large exponent makes regorus panic, or work for long.
fn units(name: &str, arguments: &[Value]) -> anyhow::Result<Value> {
    let written = text(arguments, 0)?;
    let exponents = written.split(['e', 'E']).skip(1);
    let digits = |text: &str| text.chars().filter(char::is_ascii_digit).count();
    anyhow::ensure!(
        exponents.map(digits).all(|digits| digits <= MOST_DIGITS),
        "an exponent has at most {MOST_DIGITS} digits"
    );
    named(name, arguments)
}

/// From one number to another, up or down, both included if the step meets them.
fn range(from: i64, to: i64, step: u64) -> anyhow::Result<Value> {
    let count = from.abs_diff(to) / step;
    anyhow::ensure!(count < MOST, "a range has at most {MOST} numbers");
    let numbers = (0..=count).map(|number| {
        let distance = i128::from(number) * i128::from(step);
        let from = i128::from(from);
        Value::from(if i128::from(to) < from {
            from - distance
        } else {
            from + distance
        })
    });
    Ok(Value::from(numbers.collect::<Vec<_>>()))
}
