//! Which lines of a policy do its tests evaluate?

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

/// The lines of one file that hold rules, by whether any test evaluated them. Lines count from 1.
#[derive(Clone, Debug, Default, Serialize)]
pub struct FileCoverage {
    /// The file's name.
    pub file: String,
    /// Lines that a test evaluated.
    pub covered: BTreeSet<u32>,
    /// Lines that none did.
    pub not_covered: BTreeSet<u32>,
}

impl FileCoverage {
    /// The part of its lines that are covered, in percent; 100 where there are none.
    pub fn percent(&self) -> f64 {
        percent(std::slice::from_ref(self))
    }
}

/// The part of the lines of several files that are covered, in percent; 100 where there are none.
pub fn percent(files: &[FileCoverage]) -> f64 {
    let covered: usize = files.iter().map(|file| file.covered.len()).sum();
    let missed: usize = files.iter().map(|file| file.not_covered.len()).sum();
    if covered + missed == 0 {
        return 100.0;
    }
    #[expect(clippy::cast_precision_loss, reason = "fewer than 2^52 lines")]
    let percent = covered as f64 * 100.0 / (covered + missed) as f64;
    percent
}

/// What several tests covered together.
#[derive(Default)]
pub(crate) struct Together(BTreeMap<String, FileCoverage>);

impl Together {
    /// Adds what one test covered.
    pub(crate) fn add(&mut self, report: regorus::coverage::Report) {
        for file in report.files {
            let known = self.0.entry(file.path.clone());
            let known = known.or_insert_with(|| FileCoverage {
                file: file.path,
                ..FileCoverage::default()
            });
            known.not_covered.extend(file.not_covered);
            known.covered.extend(file.covered);
        }
    }

    /// The files of which `is_asked` holds; a line that one test covered is covered.
    pub(crate) fn files(self, is_asked: impl Fn(&str) -> bool) -> Vec<FileCoverage> {
        let files = self.0.into_values().filter(|file| is_asked(&file.file));
        files
            .map(|mut file| {
                let covered = &file.covered;
                file.not_covered.retain(|line| !covered.contains(line));
                file
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::percent;
    use crate::{Policy, Source};

    fn file(path: &str, text: &str) -> Source {
        Source {
            path: path.into(),
            text: text.to_owned(),
        }
    }

    #[test]
    fn lines_that_no_test_evaluates_are_told() {
        let rules = "package remit.tools.t\n\nallow if {\n\tinput.tool.access == \"read\"\n}\n\ndeny contains \"a\" if {\n\tinput.tool.access == \"write\"\n\tinput.request.size > 5\n}\n";
        let tests = "package remit.t_test\n\ntest_read if data.remit.tools.t.allow with input as {\"tool\": {\"access\": \"read\"}}\n";
        let sources = vec![file("t.rego", rules), file("t_test.rego", tests)];
        let found = Policy::coverage(sources).unwrap();
        let [found] = found.as_slice() else {
            panic!("{found:#?}")
        };
        assert_eq!(found.file, "t.rego");
        assert!(found.covered.contains(&4), "{found:#?}");
        assert!(found.not_covered.contains(&9), "{found:#?}");
        assert!(found.percent() < 100.0);
    }
    #[test]
    fn nothing_is_covered_whole() {
        assert!((percent(&[]) - 100.0).abs() < f64::EPSILON);
    }
}
