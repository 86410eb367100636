//! Which of two revisions is the later one, where their names say it.

use std::cmp::Ordering;

/// What a revision's name says of its age.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Rank(Kind);

#[derive(Clone, Debug, Eq, PartialEq)]
enum Kind {
    /// `42`, `1.12.0`, `v2`: numbers, without zeroes at the end.
    Version(Vec<u64>),
    /// RFC 3339.
    Time(jiff::Timestamp),
}

impl Rank {
    /// None where the name says nothing: a digest, a word, nothing at all.
    pub fn of(revision: &str) -> Option<Self> {
        if let Ok(time) = revision.parse() {
            return Some(Self(Kind::Time(time)));
        }
        let numbers = revision.strip_prefix('v').unwrap_or(revision).split('.');
        let number = |text: &str| {
            let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
            is_plain.then(|| text.parse().ok())?
        };
        let mut numbers = numbers.map(number).collect::<Option<Vec<u64>>>()?;
        while numbers.last() == Some(&0) {
            numbers.pop();
        }
        Some(Self(Kind::Version(numbers)))
    }
}

/// Those of two kinds can't be compared.
impl PartialOrd for Rank {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        match (&self.0, &other.0) {
            (Kind::Version(one), Kind::Version(other)) => Some(one.cmp(other)),
            (Kind::Time(one), Kind::Time(other)) => Some(one.cmp(other)),
            (Kind::Version(_), Kind::Time(_)) | (Kind::Time(_), Kind::Version(_)) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cmp::Ordering;

    use super::Rank;

    #[track_caller]
    fn check(one: &str, other: &str, expect: Option<Ordering>) {
        let (one, other) = (Rank::of(one).unwrap(), Rank::of(other).unwrap());
        assert_eq!(one.partial_cmp(&other), expect);
    }

    #[test]
    fn numbers_grow() {
        check("9", "10", Some(Ordering::Less));
        check("v1.9.2", "v1.10.0", Some(Ordering::Less));
    }
    #[test]
    fn zeroes_at_the_end_say_nothing() {
        check("1", "1.0.0", Some(Ordering::Equal));
    }
    #[test]
    fn times_grow() {
        check(
            "2026-01-02T00:00:00Z",
            "2026-01-01T23:00:00Z",
            Some(Ordering::Greater),
        );
    }
    #[test]
    fn a_number_is_neither_before_nor_after_a_time() {
        check("7", "2026-01-02T00:00:00Z", None);
    }
    #[test]
    fn a_digest_says_nothing() {
        for name in [
            "",
            "4fd1c09",
            "main",
            "1.x",
            "+1",
            "-1",
            "1..2",
            "99999999999999999999",
        ] {
            assert_eq!(Rank::of(name), None, "{name}");
        }
    }
}
