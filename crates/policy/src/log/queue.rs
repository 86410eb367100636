//! Where events wait to be sent: bounded, the oldest go first when there is no room.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;

/// Events that wait to be sent.
#[derive(Debug)]
pub struct DecisionLog {
    waiting: Mutex<Waiting>,
    /// How many bytes may wait.
    most: AtomicUsize,
    /// Decisions that were made and are not among the events yet.
    coming: AtomicUsize,
    dropped: AtomicU64,
    failed: AtomicU64,
    /// How many of the lost ones were asked for.
    told: AtomicU64,
}

#[derive(Debug, Default)]
struct Waiting {
    events: VecDeque<Vec<u8>>,
    bytes: usize,
}

/// Some events, each a JSON object.
pub type Batch = Vec<Vec<u8>>;

impl DecisionLog {
    /// An empty one, with room for so many bytes.
    pub fn new(most: usize) -> Self {
        Self {
            waiting: Mutex::default(),
            most: AtomicUsize::new(most),
            coming: AtomicUsize::new(0),
            dropped: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            told: AtomicU64::new(0),
        }
    }

    /// So many bytes may wait from now on.
    pub fn set_room(&self, most: usize) {
        self.most.store(most, Ordering::Relaxed);
        self.shorten(&mut self.waiting.lock());
    }

    /// Says that an event will come, or will be lost.
    pub(crate) fn announce(&self) {
        self.coming.fetch_add(1, Ordering::AcqRel);
    }

    /// Says that one that was announced has come, or was lost.
    pub(crate) fn arrive(&self) {
        self.coming.fetch_sub(1, Ordering::AcqRel);
    }

    /// How many decisions were made whose events have yet to come.
    pub fn coming(&self) -> usize {
        self.coming.load(Ordering::Acquire)
    }

    pub(crate) fn push(&self, event: Vec<u8>) {
        let mut waiting = self.waiting.lock();
        waiting.bytes += event.len();
        waiting.events.push_back(event);
        self.shorten(&mut waiting);
    }

    /// Takes events of at most so many bytes together, the oldest first; one at least, if there is one.
    pub fn take(&self, most: usize) -> Batch {
        let mut waiting = self.waiting.lock();
        let mut batch = Batch::new();
        let mut bytes = 0;
        while let Some(event) = waiting.events.front() {
            if !batch.is_empty() && bytes + event.len() > most {
                break;
            }
            bytes += event.len();
            batch.extend(waiting.events.pop_front());
        }
        waiting.bytes -= bytes;
        batch
    }

    /// Puts events back that could not be sent.
    pub fn put_back(&self, batch: Batch) {
        let mut waiting = self.waiting.lock();
        for event in batch.into_iter().rev() {
            waiting.bytes += event.len();
            waiting.events.push_front(event);
        }
        self.shorten(&mut waiting);
    }

    /// Puts events back that are to be sent after all others.
    pub fn put_last(&self, batch: Batch) {
        let mut waiting = self.waiting.lock();
        for event in batch {
            waiting.bytes += event.len();
            waiting.events.push_back(event);
        }
        self.shorten(&mut waiting);
    }

    /// Drops all that waits, and counts it.
    pub fn give_up(&self) {
        let left = std::mem::take(&mut *self.waiting.lock());
        self.drop_events(left.events.len());
    }

    /// Counts events that can't be sent at all.
    pub fn drop_events(&self, events: usize) {
        self.dropped.fetch_add(events as u64, Ordering::Relaxed);
    }

    pub(crate) fn fail(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }

    /// How many were lost: there was no room, or they could not be sent.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// How many were left out because the rules that mask them failed.
    pub fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    /// How many were lost since this was last asked.
    pub fn newly_lost(&self) -> u64 {
        let lost = self.dropped() + self.failed();
        lost.saturating_sub(self.told.fetch_max(lost, Ordering::Relaxed))
    }

    fn shorten(&self, waiting: &mut Waiting) {
        let most = self.most.load(Ordering::Relaxed);
        while waiting.bytes > most {
            let Some(event) = waiting.events.pop_front() else {
                break;
            };
            waiting.bytes -= event.len();
            self.drop_events(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::DecisionLog;

    fn log(events: &[&str]) -> DecisionLog {
        let log = DecisionLog::new(10);
        for event in events {
            log.push(event.as_bytes().to_vec());
        }
        log
    }

    fn taken(log: &DecisionLog, most: usize) -> Vec<String> {
        let text = |event: Vec<u8>| String::from_utf8(event).unwrap();
        log.take(most).into_iter().map(text).collect()
    }

    #[test]
    fn the_oldest_are_taken_first() {
        let log = log(&["aaa", "bbb", "ccc"]);
        assert_eq!(taken(&log, 6), ["aaa", "bbb"]);
        assert_eq!(taken(&log, 6), ["ccc"]);
        assert!(taken(&log, 6).is_empty());
    }
    #[test]
    fn one_is_taken_however_large() {
        assert_eq!(taken(&log(&["aaa", "b"]), 1), ["aaa"]);
    }
    #[test]
    fn where_there_is_no_room_the_oldest_are_dropped() {
        let log = log(&["aaaa", "bbbb", "cccc"]);
        assert_eq!(log.dropped(), 1);
        assert_eq!(taken(&log, 100), ["bbbb", "cccc"]);
    }
    #[test]
    fn what_could_not_be_sent_comes_first_again() {
        let log = log(&["aaa", "bbb"]);
        let batch = log.take(3);
        log.put_back(batch);
        assert_eq!(taken(&log, 100), ["aaa", "bbb"]);
        assert_eq!(log.dropped(), 0);
    }
    #[test]
    fn what_was_refused_comes_last() {
        let log = log(&["aaa", "bbb"]);
        let batch = log.take(3);
        log.put_last(batch);
        assert_eq!(taken(&log, 100), ["bbb", "aaa"]);
    }
    #[test]
    fn what_is_given_up_is_counted() {
        let log = log(&["aaa", "bbb"]);
        log.give_up();
        assert_eq!(log.dropped(), 2);
        assert!(taken(&log, 100).is_empty());
    }
    #[test]
    fn where_there_is_less_room_the_oldest_are_dropped() {
        let log = log(&["aaa", "bbb", "ccc"]);
        log.set_room(6);
        assert_eq!(taken(&log, 100), ["bbb", "ccc"]);
        assert_eq!((log.newly_lost(), log.newly_lost()), (1, 0));
    }
    #[test]
    fn one_that_never_fits_is_dropped() {
        let log = log(&["aaaaaaaaaaaaaaaa"]);
        assert!(taken(&log, 100).is_empty());
        assert_eq!(log.dropped(), 1);
    }
}
