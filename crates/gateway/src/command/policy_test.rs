//! `remit policy test`: runs a policy's tests, and tells what of it they evaluate.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc::channel;
use std::time::Duration;

use clap::Args;
use notify::{RecursiveMode, Watcher};
use policy::{FileCoverage, Policy, TestResult, percent};
use serde_json::{Value, json};

use crate::command::outcome::{Failure, Screen};
use crate::command::policy::{broken, read};

/// How long a change may take to be whole.
const SETTLE: Duration = Duration::from_millis(200);

#[derive(Args, Debug)]
pub(crate) struct PolicyTest {
    /// The folder of Rego and data.
    #[arg(default_value = "policies")]
    folder: PathBuf,
    /// Only tests whose name contains this.
    #[arg(long, value_name = "TEXT")]
    run: Option<String>,
    /// Tell which lines of the rules the tests evaluate.
    #[arg(long)]
    coverage: bool,
    /// Fail if fewer of the lines are evaluated, in percent.
    #[arg(long, value_name = "PERCENT", requires = "coverage")]
    threshold: Option<f64>,
    /// Write the results as XML of `JUnit`, too.
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Run them again whenever a file changes, until it is stopped.
    #[arg(long, short)]
    watch: bool,
}

impl PolicyTest {
    pub(crate) fn run(self, screen: &Screen) -> Result<ExitCode, Failure> {
        if self.watch {
            return self.watch(screen);
        }
        self.once(screen)
    }

    /// Runs them now, and after each change.
    fn watch(&self, screen: &Screen) -> Result<ExitCode, Failure> {
        let unwatchable = |error: notify::Error| Failure::new("watch", error);
        let (changed, changes) = channel();
        let mut watcher =
            notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
                if event.is_ok_and(|event| !event.kind.is_access()) {
                    // Nobody listens any more at the end.
                    changed.send(()).ok();
                }
            })
            .map_err(unwatchable)?;
        let watched = watcher.watch(&self.folder, RecursiveMode::Recursive);
        watched.map_err(unwatchable)?;
        loop {
            // What is wrong now may be right after the next change.
            if let Err(failure) = self.once(screen) {
                screen.fail(&failure);
            }
            screen.line(&screen.dim("waiting for a change; Ctrl-C ends it"))?;
            if changes.recv().is_err() {
                return Ok(ExitCode::SUCCESS);
            }
            // Editors write in several steps.
            std::thread::sleep(SETTLE);
            while changes.try_recv().is_ok() {}
        }
    }

    fn once(&self, screen: &Screen) -> Result<ExitCode, Failure> {
        let sources = read(&self.folder)?;
        let results = Policy::test(sources.clone()).map_err(|found| broken(&found, screen))?;
        let is_asked = |result: &TestResult| {
            let asked = self.run.as_deref();
            asked.is_none_or(|text| result.name.contains(text))
        };
        let results: Vec<TestResult> = results.into_iter().filter(is_asked).collect();
        let coverage = if self.coverage {
            let found = Policy::coverage(sources);
            Some(found.map_err(|found| broken(&found, screen))?)
        } else {
            None
        };
        if let Some(path) = &self.junit {
            write(path, &junit(&results))?;
        }
        let failed = results.iter().filter(|result| !result.passed).count();
        let passed = results.len() - failed;
        let mut told = json!({ "passed": passed, "failed": failed, "tests": results });
        if let (Some(files), Some(told)) = (&coverage, told.as_object_mut()) {
            told.insert("coverage".to_owned(), covered(files));
        }
        screen.show(&told, |screen| {
            let mut text: String = results.iter().map(|result| line(result, screen)).collect();
            text.push_str(&format!("{passed} passed, {failed} failed"));
            if let Some(files) = &coverage {
                text.push('\n');
                text.push_str(&table(files, screen));
            }
            text
        })?;
        let reached = coverage.as_deref().map_or(100.0, percent);
        let is_enough = self.threshold.is_none_or(|threshold| reached >= threshold);
        if !is_enough {
            let threshold = self.threshold.unwrap_or_default();
            let text =
                format!("the tests evaluate {reached:.1} % of the lines, not {threshold:.1} %");
            return Err(Failure::new("coverage", text));
        }
        Ok(if failed == 0 {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}

fn line(result: &TestResult, screen: &Screen) -> String {
    let mark = if result.passed {
        screen.good("pass")
    } else {
        screen.bad("FAIL")
    };
    let mut text = format!("{mark}  {}  {}\n", result.name, screen.dim(&result.file));
    if let Some(error) = &result.error {
        text.push_str(&format!("      {error}\n"));
    }
    let mut conditions = result.conditions.iter();
    if let Some(failing) = conditions.find(|condition| condition.holds == Some(false)) {
        text.push_str(&format!(
            "      {}:{}: {}\n",
            failing.file, failing.line, failing.text
        ));
        let names: &[&str] = match failing.values.len() {
            2 => &["left", "right"],
            _ => &["is"],
        };
        for (name, value) in names.iter().zip(&failing.values) {
            text.push_str(&format!("      {name:<5} {value}\n"));
        }
    }
    for line in &result.output {
        text.push_str(&format!("      {}\n", screen.dim(line)));
    }
    text
}

fn covered(files: &[FileCoverage]) -> Value {
    let files_told: Vec<Value> = files
        .iter()
        .map(|file| json!({ "file": file.file, "percent": file.percent(), "not_covered": file.not_covered }))
        .collect();
    json!({ "percent": percent(files), "files": files_told })
}

fn table(files: &[FileCoverage], screen: &Screen) -> String {
    let heading = ["COVERED", "FILE", "LINES THAT NO TEST EVALUATES"].map(str::to_owned);
    let mut rows = vec![heading.to_vec()];
    let row = |percent: f64, name: &str, lines: String| {
        vec![format!("{percent:.1} %"), name.to_owned(), lines]
    };
    rows.extend(files.iter().map(|file| {
        let lines: Vec<String> = file.not_covered.iter().map(ToString::to_string).collect();
        row(file.percent(), &file.file, lines.join(" "))
    }));
    rows.push(row(percent(files), "together", String::new()));
    screen.table(&rows)
}

/// The results in the form that CI systems read.
fn junit(results: &[TestResult]) -> String {
    let failed = results.iter().filter(|result| !result.passed).count();
    let mut xml = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n<testsuite name=\"policy\" tests=\"{}\" failures=\"{failed}\">\n",
        results.len()
    );
    for result in results {
        let (name, file) = (escaped(&result.name), escaped(&result.file));
        let case = format!(
            "<testcase name=\"{name}\" classname=\"{file}\" file=\"{file}\" line=\"{}\"",
            result.line
        );
        if result.passed {
            xml.push_str(&format!("{case}/>\n"));
        } else {
            let why = result.error.as_deref().unwrap_or("it does not hold");
            xml.push_str(&format!(
                "{case}><failure message=\"{}\"/></testcase>\n",
                escaped(why)
            ));
        }
    }
    xml.push_str("</testsuite>\n</testsuites>\n");
    xml
}

/// A text as an attribute of XML; characters that XML can't hold are left out.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\n' | '\t' => {
                // Writing into a text does not fail.
                write!(escaped, "&#{};", u32::from(character)).ok();
            }
            _ if character.is_control() => {}
            _ => escaped.push(character),
        }
    }
    escaped
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    fs::write(path, text)
        .map_err(|error| Failure::new("unwritable", format!("`{}`: {error}", path.display())))
}
