//! Sees to it that lines reach the disk.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::chain::{Head, beside};

/// How long a line may be with the operating system alone, and how many may.
const EVERY: Duration = Duration::from_secs(1);
const LINES: u64 = 1_000;

/// How far the writer is, and how far the disk.
#[derive(Debug)]
pub(super) struct Progress {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    written: Head,
    synced: u64,
    ended: bool,
    failure: Option<String>,
}

impl Progress {
    pub(super) fn new(head: Head) -> Self {
        // What an earlier process wrote may not be on the disk either.
        let state = State {
            written: head,
            synced: 0,
            ended: false,
            failure: None,
        };
        Self {
            state: Mutex::new(state),
            changed: Condvar::new(),
        }
    }

    /// The writer got so far.
    pub(super) fn wrote(&self, head: Head) {
        let mut state = self.state.lock();
        state.written = head;
        let late = state.written.seq.saturating_sub(state.synced) >= LINES;
        drop(state);
        if late {
            self.changed.notify_one();
        }
    }

    /// Why lines don't reach the disk, until they do again.
    pub(super) fn failure(&self) -> Option<String> {
        self.state.lock().failure.clone()
    }

    /// The writer will write no more.
    pub(super) fn end(&self) {
        self.state.lock().ended = true;
        self.changed.notify_one();
    }

    /// Waits for a reason to sync: the head to note, and whether it is the last.
    fn next(&self) -> (Option<Head>, bool) {
        let mut state = self.state.lock();
        if !state.ended && state.written.seq.saturating_sub(state.synced) < LINES {
            let _ = self.changed.wait_for(&mut state, EVERY);
        }
        let unsynced = state.written.seq > state.synced || state.failure.is_some();
        (unsynced.then(|| state.written.clone()), state.ended)
    }

    fn synced(&self, seq: u64, outcome: io::Result<()>) {
        let failure = outcome
            .err()
            .map(|e| format!("lines don't reach the disk: {e}"));
        let mut state = self.state.lock();
        if failure.is_none() {
            state.synced = seq;
        }
        state.failure = failure;
    }
}

/// Syncs until the writer ends; nothing to do for what can't be synced.
pub(super) fn run(file: Option<&File>, path: &Path, progress: &Progress) {
    let Some(file) = file else { return };
    loop {
        let (head, last) = progress.next();
        if let Some(head) = head {
            // The file first: the note must never be ahead of it.
            let outcome = file.sync_data().and_then(|()| note(path, &head));
            let failed = outcome.is_err();
            progress.synced(head.seq, outcome);
            if failed && !last {
                std::thread::sleep(EVERY);
            }
        }
        if last {
            return;
        }
    }
}

/// Writes `<file>.head`, whole or not at all.
fn note(path: &Path, head: &Head) -> io::Result<()> {
    let new = beside(path, "head.new");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)?;
    serde_json::to_writer(&file, head)?;
    file.write_all(b"\n")?;
    file.sync_data()?;
    fs::rename(new, beside(path, "head"))
}
