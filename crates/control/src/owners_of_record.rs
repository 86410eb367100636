//! Who answers for the tasks that agents open for themselves.

use std::str::FromStr;

/// Who answers for the tasks that agents open for themselves: the first entry that an agent fits.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct OwnersOfRecord(Vec<OwnerOfRecord>);

/// One entry.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OwnerOfRecord {
    /// Which agents.
    pub agent: AgentPattern,
    /// The owner of their tasks.
    pub owner: String,
}

/// Names of agents: one, or with `*` for any characters but `/`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AgentPattern(String);

/// A pattern that no agent fits.
#[derive(Debug, thiserror::Error)]
#[error("a pattern is 1 to 2048 printable ASCII characters without spaces")]
pub struct InvalidAgentPattern;

impl OwnersOfRecord {
    /// Takes the entries in their order.
    pub fn new(entries: Vec<OwnerOfRecord>) -> Self {
        Self(entries)
    }

    /// The owner of the tasks that this agent opens for itself.
    pub(crate) fn of(&self, agent: &str) -> Option<&str> {
        let entry = self.0.iter().find(|entry| entry.agent.fits(agent))?;
        Some(&entry.owner)
    }
}

impl FromStr for AgentPattern {
    type Err = InvalidAgentPattern;
    fn from_str(text: &str) -> Result<Self, InvalidAgentPattern> {
        let well_formed =
            (1..=2048).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
        if well_formed {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidAgentPattern)
        }
    }
}

impl AgentPattern {
    fn fits(&self, agent: &str) -> bool {
        fits(self.0.as_bytes(), agent.as_bytes())
    }
}

/// Goes back to the last star alone: what an earlier one could take instead, the last can take as well.
fn fits(mut pattern: &[u8], mut name: &[u8]) -> bool {
    let mut star: Option<(&[u8], &[u8])> = None;
    loop {
        match (pattern.split_first(), name.split_first()) {
            (None, None) => return true,
            (Some((b'*', after)), _) => {
                star = Some((after, name));
                pattern = after;
            }
            (Some((wanted, after)), Some((found, rest))) if wanted == found => {
                (pattern, name) = (after, rest);
            }
            _ => match star {
                Some((after, [taken, rest @ ..])) if *taken != b'/' => {
                    star = Some((after, rest));
                    (pattern, name) = (after, rest);
                }
                _ => return false,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pattern: &str, agent: &str, expect: bool) {
        let pattern: AgentPattern = pattern.parse().unwrap();
        assert_eq!(pattern.fits(agent), expect, "{agent}");
    }

    #[test]
    fn a_name_is_itself() {
        check("jobs/nightly", "jobs/nightly", true);
        check("jobs/nightly", "jobs/nightly2", false);
        check("jobs/nightly", "Jobs/nightly", false);
        check("jobs/nightly", "x/jobs/nightly", false);
    }
    #[test]
    fn a_star_is_any_run_of_characters_within_a_segment() {
        check("jobs/*", "jobs/nightly", true);
        check("jobs/*", "jobs/a/b", false);
        check("jobs/*", "jobs", false);
        check("*/nightly", "jobs/nightly", true);
        check("*/nightly", "a/jobs/nightly", false);
        check("j*b*/n*y", "jobs/nightly", true);
        check("j*b*/n*y", "jobs/nightly/x", false);
        check("*ab", "aab", true);
        check("*", "a/b", false);
    }
    #[test]
    fn a_pattern_is_no_free_text() {
        for text in ["", "a b", "a\n", "é"] {
            assert!(text.parse::<AgentPattern>().is_err(), "{text}");
        }
    }
    #[test]
    fn the_first_entry_counts() {
        let entry = |agent: &str, owner: &str| OwnerOfRecord {
            agent: agent.parse().unwrap(),
            owner: owner.to_owned(),
        };
        let owners = OwnersOfRecord::new(vec![entry("a", "anna"), entry("*", "bert")]);
        assert_eq!(owners.of("a"), Some("anna"));
        assert_eq!(owners.of("b"), Some("bert"));
        assert_eq!(owners.of("b/c"), None);
    }
}
