//! The fields of a call's input: which there are, and which of them a policy reads.
//!
//! What no rule reads is not built: most policies look at a tenth of what a call brings.

/// The fields of `input` of a call and, where they are fixed, theirs. (`design.md` 4.3.)
pub(crate) const CALL: [(&str, &[&str]); 8] = [
    ("agent", &["id", "method", "issuer", "claims"]),
    ("approval", &["granted", "id", "by", "reason"]),
    ("client", &["address"]),
    ("declared", &["task", "tool", "operation", "context"]),
    (
        "history",
        &[
            "calls",
            "by_access",
            "by_tool",
            "bytes",
            "spent",
            "resources",
            "rest",
            "recent",
        ],
    ),
    (
        "request",
        &[
            "method",
            "host",
            "path",
            "segments",
            "query",
            "headers",
            "arguments",
            "size",
            "streamed",
        ],
    ),
    (
        "task",
        &[
            "id",
            "purpose",
            "owner",
            "parent",
            "chain",
            "opened_at",
            "expires_at",
            "grants",
            "limits",
            "attributes",
            "labels",
        ],
    ),
    (
        "tool",
        &[
            "name",
            "protocol",
            "operation",
            "access",
            "environment",
            "attributes",
            "labels",
        ],
    ),
];

/// A set of fields: a bit for each pair of names in [`CALL`], in their order.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Fields(u64);

impl Fields {
    /// None.
    pub(crate) const NONE: Self = Self(0);
    /// Every one.
    pub(crate) const ALL: Self = Self(u64::MAX);

    /// One field of a group; every one where there is no such field, so that a slip of the pen costs time and
    /// hides nothing.
    pub(crate) const fn one(group: &str, field: &str) -> Self {
        match bits(group, Some(field)) {
            0 => Self::ALL,
            bits => Self(bits),
        }
    }

    /// All fields of a group.
    pub(crate) const fn group(group: &str) -> Self {
        Self(bits(group, None))
    }

    /// What a reference reads, from `input` on, as far as it is fixed: `input` alone is everything.
    pub(crate) fn of(path: &[String]) -> Self {
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        match path.as_slice() {
            ["input"] => Self::ALL,
            ["input", group] => Self::group(group),
            ["input", group, field, ..] => match CALL.iter().find(|(name, _)| name == group) {
                Some((_, fields)) if fields.contains(field) || fields.is_empty() => {
                    Self::one(group, field)
                }
                // There is no such field, so it reads nothing.
                _ => Self::NONE,
            },
            _ => Self::NONE,
        }
    }

    /// These and those.
    pub(crate) const fn and(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    /// Whether some of those are among these.
    pub(crate) const fn hold(self, some: Self) -> bool {
        self.0 & some.0 != 0
    }
}

/// The bits of a group's fields, or of one of them.
const fn bits(group: &str, field: Option<&str>) -> u64 {
    let (mut bits, mut bit) = (0, 1);
    let mut groups: &[(&str, &[&str])] = &CALL;
    while let [(name, fields), others @ ..] = groups {
        let is_group = same(name, group);
        let mut fields = *fields;
        if fields.is_empty() {
            bits |= if is_group { bit } else { 0 };
            bit <<= 1;
        }
        while let [name, more @ ..] = fields {
            let is_field = match field {
                Some(field) => same(name, field),
                None => true,
            };
            bits |= if is_group && is_field { bit } else { 0 };
            bit <<= 1;
            fields = more;
        }
        groups = others;
    }
    bits
}

/// Whether two names are the same; `==` can't be used in a constant.
const fn same(one: &str, other: &str) -> bool {
    let (mut one, mut other) = (one.as_bytes(), other.as_bytes());
    while let ([left, one_rest @ ..], [right, other_rest @ ..]) = (one, other) {
        if *left != *right {
            return false;
        }
        (one, other) = (one_rest, other_rest);
    }
    one.is_empty() && other.is_empty()
}

#[cfg(test)]
mod tests {
    use super::{CALL, Fields};

    fn of(path: &str) -> Fields {
        let path: Vec<String> = path.split('.').map(str::to_owned).collect();
        Fields::of(&path)
    }

    #[track_caller]
    fn check(path: &str, field: (&str, &str), read: bool) {
        let found = of(path).hold(Fields::one(field.0, field.1));
        assert_eq!(found, read, "{path} {field:?}");
    }

    #[test]
    fn every_field_has_a_bit_of_its_own() {
        let mut seen = Fields::NONE;
        for (group, fields) in CALL {
            for field in if fields.is_empty() { &[""] } else { fields } {
                let one = Fields::one(group, field);
                assert_eq!(one.0.count_ones(), 1, "{group}.{field}");
                assert!(!seen.hold(one), "{group}.{field}");
                seen = seen.and(one);
            }
        }
    }
    #[test]
    fn a_field_is_read_whatever_is_taken_from_it() {
        check(
            "input.request.arguments.amount",
            ("request", "arguments"),
            true,
        );
        check(
            "input.request.arguments.amount",
            ("request", "headers"),
            false,
        );
        check("input.request.arguments.amount", ("agent", "id"), false);
    }
    #[test]
    fn a_group_as_a_whole_reads_all_of_it() {
        check("input.request", ("request", "headers"), true);
        check("input.request", ("tool", "name"), false);
    }
    #[test]
    fn a_group_that_may_be_null_is_read_by_its_fields() {
        check("input.approval", ("approval", "granted"), true);
        check("input.approval.by", ("approval", "by"), true);
        check("input.approval.by", ("approval", "granted"), false);
        check("input.approval", ("tool", "name"), false);
    }
    #[test]
    fn the_whole_input_reads_everything() {
        check("input", ("request", "headers"), true);
        check("input", ("approval", "id"), true);
    }
    #[test]
    fn what_is_not_input_reads_nothing() {
        assert_eq!(of("data.remit.tools"), Fields::NONE);
        assert_eq!(of("input.operator.name"), Fields::NONE);
        assert_eq!(of("x"), Fields::NONE);
    }
    #[test]
    fn a_field_that_is_none_reads_nothing_and_asks_for_everything() {
        assert_eq!(of("input.request.nonsense"), Fields::NONE);
        assert_eq!(Fields::one("request", "nonsense"), Fields::ALL);
    }
}
