//! Calls that are kept, to be judged again: JSON lines, bounded and masked.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::decision_point::RecordingConfig;
use crate::policy::Policy;
use crate::shadow::{Differences, Said, ShadowReport};
use crate::{Finding, bounded, input, load};

/// The longest line, in bytes. A call with more to it is not kept: the file is to stay small.
const LONGEST_LINE: usize = 64 << 10;

/// How long it may take to judge all that was kept once more.
const DEADLINE: Duration = Duration::from_secs(120);

/// What stands for what is masked.
const MASKED: &str = "(masked)";

/// One call that was decided.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Recorded {
    /// The decision's id.
    pub id: String,
    /// When it was decided, RFC 3339.
    pub at: String,
    /// By which policy.
    pub policy_revision: String,
    /// What was decided.
    #[serde(flatten)]
    pub said: Said,
    /// What policy saw, masked.
    pub input: Json,
}

impl Recorded {
    /// Reads a file of them. A line that is cut, as a crash leaves it at the end, is left out.
    pub fn read(path: &Path) -> io::Result<Vec<Self>> {
        let lines = BufReader::new(File::open(path)?).lines();
        let mut calls = Vec::new();
        for line in lines {
            calls.extend(serde_json::from_str(&line?).ok());
        }
        Ok(calls)
    }
}

/// The file they are kept in.
#[derive(Debug)]
pub(crate) struct Recording {
    path: PathBuf,
    file: File,
    lines: usize,
    most: usize,
    mask: Vec<Vec<String>>,
}

impl Recording {
    pub(crate) fn open(config: &RecordingConfig) -> io::Result<Self> {
        let mut file = append(&config.path)?;
        let kept = fs::read(&config.path)?;
        // What a crash cut is not to spoil the next line.
        if kept.last().is_some_and(|last| *last != b'\n') {
            file.write_all(b"\n")?;
        }
        let lines = kept.iter().filter(|byte| **byte == b'\n').count();
        let names = |path: &String| path.split('.').map(str::to_owned).collect();
        Ok(Self {
            path: config.path.clone(),
            file,
            lines,
            most: config.most,
            mask: config.mask.iter().map(names).collect(),
        })
    }

    /// The file's name.
    pub(crate) fn shown(&self) -> String {
        self.path.display().to_string()
    }

    /// Keeps one call. Where the disk does not take it, the log says so, and the call goes on: it was decided before.
    pub(crate) fn keep(&mut self, mut call: Recorded) {
        for path in &self.mask {
            mask(&mut call.input, path);
        }
        if let Err(error) = self.write(&call) {
            tracing::warn!(%error, path = %self.path.display(), "call not recorded");
        }
    }

    fn write(&mut self, call: &Recorded) -> io::Result<()> {
        if self.lines >= self.most.saturating_mul(2) {
            self.shorten()?;
        }
        let mut line = serde_json::to_vec(call)?;
        if line.len() > LONGEST_LINE {
            return Ok(());
        }
        line.push(b'\n');
        // In one piece: another process may read it at any time.
        self.file.write_all(&line)?;
        self.lines += 1;
        Ok(())
    }

    /// Leaves the last calls.
    fn shorten(&mut self) -> io::Result<()> {
        let calls = Recorded::read(&self.path)?;
        let kept = calls.iter().skip(calls.len().saturating_sub(self.most));
        let beside = self.path.with_extension("shortened");
        fs::remove_file(&beside).or_else(|error| match error.kind() {
            io::ErrorKind::NotFound => Ok(()),
            _ => Err(error),
        })?;
        let mut file = append(&beside)?;
        self.lines = 0;
        for call in kept {
            let mut line = serde_json::to_vec(call)?;
            line.push(b'\n');
            file.write_all(&line)?;
            self.lines += 1;
        }
        fs::rename(&beside, &self.path)?;
        self.file = file;
        Ok(())
    }
}

/// A file that its owner alone may read.
fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)
}

/// Masks what is at a path; `*` stands for any one name.
pub(crate) fn mask(value: &mut Json, path: &[String]) {
    let Some((name, rest)) = path.split_first() else {
        if !value.is_null() {
            *value = Json::from(MASKED);
        }
        return;
    };
    match value {
        Json::Object(fields) if name == "*" => {
            fields.values_mut().for_each(|field| mask(field, rest));
        }
        Json::Object(fields) => {
            if let Some(field) = fields.get_mut(name) {
                mask(field, rest);
            }
        }
        Json::Array(items) => items.iter_mut().for_each(|item| mask(item, path)),
        _ => {}
    }
}

impl Policy {
    /// What would be different, had this policy decided those calls.
    pub fn replay(self: &Arc<Self>, calls: Vec<Recorded>) -> Result<ShadowReport, String> {
        let policy = Arc::clone(self);
        let found = bounded::run(DEADLINE, move || {
            let mut found = Differences::default();
            for call in calls {
                let said = Said::of(&policy.judge(&call.input));
                if let Ok(input) = input::of_json(&call.input) {
                    found.add(&input, &call.id, call.said, said);
                }
            }
            found
        });
        let found = found.map_err(|overrun| format!("the replay {overrun}"))?;
        Ok(ShadowReport {
            mode: "replay".to_owned(),
            policy_revision: self.revision().to_string(),
            ..found.report()
        })
    }

    /// Judges calls in both engines: where they differ, the data path would not do what the author wrote.
    pub fn disagreements(self: &Arc<Self>, calls: Vec<Recorded>) -> Vec<Finding> {
        let finding = |message| Finding::of_file("recorded", "", message);
        let policy = Arc::clone(self);
        let found = bounded::run(DEADLINE, move || {
            let differs = |call: &Recorded| {
                let input = input::of_json(&call.input).ok()?;
                let message = load::differs(&policy, input)?;
                Some(finding(format!("recorded call {}: {message}", call.id)))
            };
            calls.iter().filter_map(differs).collect()
        });
        found.unwrap_or_else(|overrun| vec![finding(format!("judging recorded calls {overrun}"))])
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Recorded, Recording, mask};
    use crate::decision_point::RecordingConfig;
    use crate::shadow::Said;

    fn call(id: usize) -> Recorded {
        Recorded {
            id: id.to_string(),
            at: "2026-01-01T00:00:00Z".to_owned(),
            policy_revision: "r".to_owned(),
            said: Said {
                verdict: "allow".to_owned(),
                reason: None,
            },
            input: json!({ "request": { "headers": { "x-note": "secret" }, "arguments": { "card": "4111", "n": id } } }),
        }
    }

    fn open(folder: &tempfile::TempDir, most: usize) -> Recording {
        Recording::open(&RecordingConfig {
            path: folder.path().join("calls.jsonl"),
            most,
            mask: vec![
                "request.headers.*".to_owned(),
                "request.arguments.card".to_owned(),
            ],
        })
        .unwrap()
    }

    #[test]
    fn calls_are_kept_masked() {
        let folder = tempfile::tempdir().unwrap();
        open(&folder, 10).keep(call(1));
        let kept = Recorded::read(&folder.path().join("calls.jsonl")).unwrap();
        let request = &kept[0].input["request"];
        assert_eq!(
            *request,
            json!({ "headers": { "x-note": "(masked)" }, "arguments": { "card": "(masked)", "n": 1 } })
        );
    }
    #[test]
    fn only_the_last_calls_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let mut recording = open(&folder, 5);
        (0..13).for_each(|id| recording.keep(call(id)));
        let kept = Recorded::read(&folder.path().join("calls.jsonl")).unwrap();
        let ids: Vec<&str> = kept.iter().map(|call| call.id.as_str()).collect();
        assert_eq!(ids, ["5", "6", "7", "8", "9", "10", "11", "12"]);
    }
    #[test]
    fn a_line_that_a_crash_cut_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        open(&folder, 5).keep(call(1));
        let path = folder.path().join("calls.jsonl");
        let mut text = std::fs::read_to_string(&path).unwrap();
        text.push_str("{\"id\":\"2\"");
        std::fs::write(&path, text).unwrap();
        assert_eq!(Recorded::read(&path).unwrap().len(), 1);
    }
    #[test]
    fn others_can_not_read_it() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        open(&folder, 5).keep(call(1));
        let metadata = std::fs::metadata(folder.path().join("calls.jsonl")).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    }
    #[test]
    fn a_mask_reaches_into_lists() {
        let mut value = json!({ "a": [{ "b": 1 }, { "b": 2, "c": 3 }] });
        mask(&mut value, &["a".to_owned(), "b".to_owned()]);
        let expect = json!({ "a": [{ "b": "(masked)" }, { "b": "(masked)", "c": 3 }] });
        assert_eq!(value, expect);
    }
}
