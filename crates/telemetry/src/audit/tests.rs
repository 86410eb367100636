//! The audit, seen through its file.
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::verify;
use crate::{Audit, AuditFailure, CallRecord, Config, Recorder, Telemetry, Trace, Verdict};

const LONG: Duration = Duration::from_secs(30);

fn start(path: &Path, on_failure: AuditFailure) -> Result<(Recorder, Telemetry), String> {
    let audit = Some(Audit {
        path: path.to_owned(),
        on_failure,
    });
    let config = Config {
        otlp: None,
        audit,
        queue: 16,
        service_name: "remit".into(),
    };
    Recorder::start(config).map_err(|e| e.to_string())
}

fn record(path: &str) -> CallRecord {
    let mut record = CallRecord::open(Trace::begin(), None);
    record.method = "GET".into();
    record.path = path.into();
    record.verdict = Verdict::Allow;
    record
}

async fn call(recorder: &Recorder, path: &str) {
    let mut record = record(path);
    recorder.decided(&record).await.unwrap();
    record.status = Some(200);
    recorder.close(record);
}

/// An audit of `calls` calls, written in one go.
async fn written(calls: usize) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    go_on(&path, calls).await;
    (folder, path)
}

async fn go_on(path: &Path, calls: usize) {
    let (recorder, telemetry) = start(path, AuditFailure::Refuse).unwrap();
    for number in 0..calls {
        call(&recorder, &format!("/{number}")).await;
    }
    telemetry.shutdown(LONG);
}

fn lines(path: &Path) -> Vec<String> {
    fs::read_to_string(path)
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect()
}

/// Three calls are written, the lines are changed, and the verdict of `verify` is compared: how many lines, or
/// which is the first bad one.
#[track_caller]
fn check(change: impl FnOnce(&mut Vec<String>), expect: Result<u64, u64>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let (_folder, path) = runtime.block_on(written(3));
    let mut lines = lines(&path);
    assert_eq!(lines.len(), 6);
    change(&mut lines);
    fs::write(&path, lines.concat_lines()).unwrap();
    let found = verify(&path)
        .map(|verified| verified.lines)
        .map_err(|broken| broken.line);
    assert_eq!(found, expect);
}

trait ConcatLines {
    fn concat_lines(&self) -> String;
}
impl ConcatLines for Vec<String> {
    fn concat_lines(&self) -> String {
        self.iter().map(|line| format!("{line}\n")).collect()
    }
}

#[test]
fn an_untouched_audit_is_whole() {
    check(|_| {}, Ok(6));
}
#[test]
fn an_edited_line_shows_in_the_next() {
    check(
        |lines| lines[2] = lines[2].replace("allow", "deny_"),
        Err(4),
    );
}
#[test]
fn an_edited_last_line_shows() {
    check(
        |lines| lines[5] = lines[5].replace("allow", "deny_"),
        Err(6),
    );
}
#[test]
fn a_line_taken_out_shows() {
    check(|lines| drop(lines.remove(1)), Err(2));
}
#[test]
fn a_first_line_taken_out_shows() {
    check(|lines| drop(lines.remove(0)), Err(1));
}
#[test]
fn lines_in_another_order_show() {
    check(|lines| lines.swap(3, 4), Err(4));
}
#[test]
fn a_line_put_in_shows() {
    check(|lines| lines.insert(2, lines[2].clone()), Err(4));
}
#[test]
fn a_cut_end_shows() {
    check(|lines| lines.truncate(4), Err(5));
}
#[test]
fn an_emptied_file_shows() {
    check(Vec::clear, Err(1));
}
#[test]
fn a_new_number_shows() {
    check(
        |lines| lines[0] = lines[0].replace("\"seq\":1", "\"seq\":2"),
        Err(1),
    );
}
#[test]
fn words_show() {
    check(|lines| lines[3] = "words".into(), Err(4));
}

#[tokio::test]
async fn a_replaced_chain_shows_by_the_noted_head() {
    let (_folder, path) = written(2).await;
    let (_other_folder, other) = written(2).await;
    fs::copy(other, &path).unwrap();
    let broken = verify(&path).unwrap_err();
    assert_eq!(broken.line, 4);
    let refused = start(&path, AuditFailure::Refuse).unwrap_err();
    assert!(refused.contains("cut or replaced"), "{refused}");
}

#[tokio::test]
async fn the_chain_goes_on_after_a_restart() {
    let (_folder, path) = written(2).await;
    go_on(&path, 1).await;
    assert_eq!(verify(&path).unwrap().lines, 6);
}

#[tokio::test]
async fn a_torn_line_is_moved_aside_and_said() {
    let (_folder, path) = written(1).await;
    let mut text = fs::read(&path).unwrap();
    text.extend_from_slice(b"{\"seq\":3,\"pr");
    fs::write(&path, text).unwrap();
    assert!(verify(&path).unwrap_err().why.contains("torn"));
    go_on(&path, 1).await;
    assert_eq!(verify(&path).unwrap().lines, 5);
    assert!(lines(&path)[2].contains("\"kind\":\"recovered\""));
    let torn = fs::read_to_string(path.with_extension("jsonl.torn")).unwrap();
    assert_eq!(torn, "{\"seq\":3,\"pr\n");
}

#[tokio::test]
async fn a_file_of_another_kind_is_not_continued() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    fs::write(&path, "diary\n").unwrap();
    let refused = start(&path, AuditFailure::Refuse).unwrap_err();
    assert!(refused.contains("none of ours"), "{refused}");
}

#[tokio::test]
async fn a_missing_file_with_a_noted_head_is_not_begun_anew() {
    let (_folder, path) = written(1).await;
    fs::remove_file(&path).unwrap();
    let refused = start(&path, AuditFailure::Refuse).unwrap_err();
    assert!(
        refused.contains("ends with line 0, but line 2"),
        "{refused}"
    );
}

#[tokio::test]
async fn two_gateways_do_not_share_a_file() {
    let (_folder, path) = written(0).await;
    let running = start(&path, AuditFailure::Refuse).unwrap();
    let refused = start(&path, AuditFailure::Refuse).unwrap_err();
    assert!(refused.contains("another process"), "{refused}");
    running.1.shutdown(LONG);
    go_on(&path, 1).await;
}

#[tokio::test]
async fn nobody_else_may_read_it() {
    let (_folder, path) = written(1).await;
    for file in [path.clone(), path.with_extension("jsonl.head")] {
        assert_eq!(
            fs::metadata(file).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    go_on(&path, 1).await;
    assert_eq!(
        fs::metadata(path).unwrap().permissions().mode() & 0o777,
        0o600
    );
}

#[tokio::test]
async fn the_decided_line_is_there_before_the_call_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    let (recorder, telemetry) = start(&path, AuditFailure::Refuse).unwrap();
    let record = record("/notes");
    recorder.decided(&record).await.unwrap();
    let line = lines(&path).pop().unwrap();
    assert!(
        line.contains("\"kind\":\"decided\"") && line.contains(record.decision.as_str()),
        "{line}"
    );
    telemetry.shutdown(LONG);
}

#[tokio::test]
async fn calls_at_once_are_all_in_the_chain() {
    let (_folder, path) = written(0).await;
    let (recorder, telemetry) = start(&path, AuditFailure::Refuse).unwrap();
    let calls = (0..200).map(|number| {
        let recorder = recorder.clone();
        tokio::spawn(async move { call(&recorder, &format!("/{number}")).await })
    });
    for call in calls.collect::<Vec<_>>() {
        call.await.unwrap();
    }
    telemetry.shutdown(LONG);
    assert_eq!(verify(&path).unwrap().lines, 400);
}

#[tokio::test]
async fn a_peers_excessive_text_still_makes_a_line_that_verifies() {
    let (_folder, path) = written(0).await;
    let (recorder, telemetry) = start(&path, AuditFailure::Refuse).unwrap();
    call(&recorder, &"\u{1}ü\"\n".repeat(1 << 20)).await;
    telemetry.shutdown(LONG);
    assert_eq!(verify(&path).unwrap().lines, 2);
}

/// `/dev/full` takes no byte, as a full disk does.
async fn on_a_full_disk(on_failure: AuditFailure) -> (Result<(), String>, String) {
    let (recorder, telemetry) = start(Path::new("/dev/full"), on_failure).unwrap();
    let record = record("/");
    let outcome = recorder.decided(&record).await.map_err(|e| e.to_string());
    recorder.close(record);
    telemetry.shutdown(LONG);
    (outcome, recorder.metrics_text())
}

#[tokio::test]
async fn a_full_disk_refuses_calls() {
    let (outcome, metrics) = on_a_full_disk(AuditFailure::Refuse).await;
    let refused = outcome.unwrap_err();
    assert!(
        refused.starts_with("audit can't be written: No space left"),
        "{refused}"
    );
    assert!(
        metrics.contains("remit_audit_failures_total 2"),
        "{metrics}"
    );
}

#[tokio::test]
async fn a_full_disk_is_counted_where_calls_go_on() {
    let (outcome, metrics) = on_a_full_disk(AuditFailure::Continue).await;
    assert_eq!(outcome, Ok(()));
    assert!(
        metrics.contains("remit_audit_failures_total 2"),
        "{metrics}"
    );
}

#[tokio::test]
async fn without_a_writer_calls_are_refused() {
    let (_folder, path) = written(0).await;
    let (recorder, telemetry) = start(&path, AuditFailure::Refuse).unwrap();
    telemetry.shutdown(LONG);
    assert!(recorder.decided(&record("/")).await.is_err());
}

#[tokio::test]
async fn lines_that_do_not_reach_the_disk_refuse_calls_until_they_do() {
    let (_folder, path) = written(0).await;
    let obstacle = path.with_extension("jsonl.head.new");
    fs::create_dir(&obstacle).unwrap();
    let (recorder, telemetry) = start(&path, AuditFailure::Refuse).unwrap();
    let refused = until(|| async { recorder.decided(&record("/")).await.err() }).await;
    assert!(
        refused.to_string().contains("don't reach the disk"),
        "{refused}"
    );
    fs::remove_dir(obstacle).unwrap();
    until(|| async { recorder.decided(&record("/")).await.ok() }).await;
    telemetry.shutdown(LONG);
    verify(&path).unwrap();
}

/// Tries until something comes of it.
async fn until<T, F: Future<Output = Option<T>>>(mut attempt: impl FnMut() -> F) -> T {
    for _ in 0..6000 {
        if let Some(outcome) = attempt().await {
            return outcome;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("nothing came of it");
}
