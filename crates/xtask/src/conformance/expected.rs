//! What becomes of each case: a file that lists those which not both engines pass, below their folders.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use policy::conformance::{Outcome, Verdict};

/// The first lines of the file.
const HEAD: &str = "\
# What becomes of OPA's own cases, written by `cargo xtask conformance rego --cases DIR --bless`.
# A folder with how many cases it has; below it those that are not passed by both engines, or that `policy check`
# refuses: what the reference says, what the machine says, the code of the finding, the case.
";

/// What becomes of the cases of every folder.
#[derive(Default)]
pub(crate) struct Expected {
    folders: BTreeMap<String, Folder>,
}

#[derive(Default)]
struct Folder {
    cases: usize,
    /// Those that are not simply passed.
    lines: BTreeSet<String>,
}

impl Expected {
    pub(crate) fn read(text: &str) -> Self {
        let mut expected = Self::default();
        let mut name = String::new();
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        for line in lines.filter(|line| !line.is_empty()) {
            if let Some(line) = line.strip_prefix("  ") {
                let folder = expected.folders.entry(name.clone()).or_default();
                folder.lines.insert(line.to_owned());
            } else {
                let (folder, cases) = line.rsplit_once(' ').unwrap_or((line, "0"));
                folder.clone_into(&mut name);
                let folder = expected.folders.entry(name.clone()).or_default();
                folder.cases = cases.parse().unwrap_or_default();
            }
        }
        expected
    }

    pub(crate) fn add(&mut self, folder: &str, times: usize, outcome: &Outcome) {
        let folder = self.folders.entry(folder.to_owned()).or_default();
        folder.cases += 1;
        let passed = outcome.reference == Verdict::Pass && outcome.machine == Some(Verdict::Pass);
        if passed && outcome.refused.is_none() {
            return;
        }
        let machine = outcome
            .machine
            .map_or_else(|| "-".to_owned(), |machine| machine.to_string());
        let refused = outcome.refused.as_deref().unwrap_or("-");
        // A note may stand for several cases.
        let note = match times {
            1 => outcome.note.clone(),
            times => format!("{}#{times}", outcome.note),
        };
        let note = note.replace('\n', " ");
        folder
            .lines
            .insert(format!("{} {machine} {refused} {note}", outcome.reference));
    }

    pub(crate) fn written(&self) -> String {
        let mut text = HEAD.to_owned();
        for (name, folder) in &self.folders {
            // Writing to a text never fails.
            _ = writeln!(text, "{name} {}", folder.cases);
            for line in &folder.lines {
                _ = writeln!(text, "  {line}");
            }
        }
        text
    }

    /// What is here and not expected, and what is expected and not here.
    pub(crate) fn differences<'a>(&'a self, expected: &'a Self) -> impl Iterator<Item = String> {
        let names: BTreeSet<_> = self.folders.keys().chain(expected.folders.keys()).collect();
        let none = Folder::default();
        let mut lines = Vec::new();
        for name in names {
            let here = self.folders.get(name).unwrap_or(&none);
            let there = expected.folders.get(name).unwrap_or(&none);
            if here.cases != there.cases {
                let (here, there) = (here.cases, there.cases);
                lines.push(format!("{name}: {here} cases, {there} expected"));
            }
            let more = here.lines.difference(&there.lines);
            lines.extend(more.map(|line| format!("{name}: + {line}")));
            let fewer = there.lines.difference(&here.lines);
            lines.extend(fewer.map(|line| format!("{name}: - {line}")));
        }
        lines.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use policy::conformance::{Outcome, Verdict};

    use super::Expected;

    fn found(reference: Verdict, machine: Option<Verdict>) -> Expected {
        let mut found = Expected::default();
        let outcome = |note: &str, reference, machine| Outcome {
            note: note.to_owned(),
            reference,
            machine,
            refused: None,
            difference: None,
        };
        found.add(
            "a",
            1,
            &outcome("a/one", Verdict::Pass, Some(Verdict::Pass)),
        );
        found.add("a", 2, &outcome("a/one", reference, machine));
        found
    }

    #[test]
    fn what_is_written_is_read() {
        let found = found(Verdict::Wrong, None);
        let read = Expected::read(&found.written());
        assert!(found.written().ends_with("a 2\n  wrong - - a/one#2\n"));
        assert_eq!(found.differences(&read).count(), 0);
    }

    #[test]
    fn another_outcome_is_a_difference() {
        let expected = found(Verdict::Wrong, None);
        let found = found(Verdict::Pass, Some(Verdict::Pass));
        let differences: Vec<_> = found.differences(&expected).collect();
        assert_eq!(differences, ["a: - wrong - - a/one#2"]);
    }

    #[test]
    fn a_missing_case_is_a_difference() {
        let expected = Expected::read("a 3\n");
        let found = found(Verdict::Pass, Some(Verdict::Pass));
        let differences: Vec<_> = found.differences(&expected).collect();
        assert_eq!(differences, ["a: 2 cases, 3 expected"]);
    }
}
