//! `numbers.range`: as many numbers as a policy needs, not as many as memory holds.

use regorus::Value;

use super::{Builtin, whole};

/// How many numbers a range has at most.
const MOST: u64 = 10_000;

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
];

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
