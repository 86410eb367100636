//! A bounded queue that is filled one by one and emptied in batches.
//!
//! A channel wakes its reader for each item, which costs a call more than all else that telemetry does.
//! Here only what is urgent, and a batch that is ripe, wakes the reader; the rest waits for its next round.

use std::collections::VecDeque;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tokio::time::Instant;

/// **Invariant.** Never longer than its capacity; what doesn't fit is handed back, never lost in silence.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
    capacity: usize,
    ripe: usize,
}

#[derive(Debug)]
struct State<T> {
    items: VecDeque<T>,
    urgent: bool,
    closed: bool,
}

impl<T> Queue<T> {
    /// A queue of at most `capacity` items, whose reader is woken once `ripe` of them wait, or half.
    pub(crate) fn new(capacity: usize, ripe: usize) -> Self {
        let capacity = capacity.max(1);
        let state = State {
            items: VecDeque::new(),
            urgent: false,
            closed: false,
        };
        let ripe = ripe.min(capacity.div_ceil(2)).max(1);
        Self {
            state: Mutex::new(state),
            changed: Condvar::new(),
            capacity,
            ripe,
        }
    }

    /// Adds an item that the reader takes as soon as it looks; hands it back when the queue is full or closed.
    /// [`Queue::wake`] makes it look.
    pub(crate) fn push(&self, item: T) -> Result<(), T> {
        let mut state = self.state.lock();
        if state.closed || state.items.len() >= self.capacity {
            return Err(item);
        }
        state.items.push_back(item);
        state.urgent = true;
        Ok(())
    }

    /// Wakes the reader, if it sleeps.
    pub(crate) fn wake(&self) {
        self.changed.notify_one();
    }

    /// Adds an item that may wait; hands it back when the queue is full or closed.
    pub(crate) fn leave(&self, item: T) -> Result<(), T> {
        let mut state = self.state.lock();
        if state.closed || state.items.len() >= self.capacity {
            return Err(item);
        }
        state.items.push_back(item);
        let ripe = state.items.len() == self.ripe;
        drop(state);
        if ripe {
            self.changed.notify_one();
        }
        Ok(())
    }

    /// Moves up to `most` items into `batch`, after waiting until some are urgent or ripe, or `patience`
    /// has passed. False once the queue is closed and nothing is left.
    pub(crate) fn take(&self, batch: &mut Vec<T>, most: usize, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        let mut state = self.state.lock();
        while !(state.closed || state.urgent || state.items.len() >= self.ripe) {
            if self
                .changed
                .wait_until(&mut state, deadline.into_std())
                .timed_out()
            {
                break;
            }
        }
        let count = most.min(state.items.len());
        batch.extend(state.items.drain(..count));
        state.urgent &= !state.items.is_empty();
        !state.closed || count > 0
    }

    /// Lets nothing more in; what waits can still be taken.
    pub(crate) fn close(&self) {
        self.state.lock().closed = true;
        self.changed.notify_all();
    }

    /// Closes it and throws away what waits: how many that were.
    pub(crate) fn abandon(&self) -> usize {
        let items = {
            let mut state = self.state.lock();
            state.closed = true;
            std::mem::take(&mut state.items)
        };
        self.changed.notify_all();
        items.len()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Queue;

    fn take(queue: &Queue<u8>, most: usize) -> (Vec<u8>, bool) {
        let mut batch = Vec::new();
        let more = queue.take(&mut batch, most, Duration::ZERO);
        (batch, more)
    }

    #[test]
    fn items_come_out_in_order_and_at_most_as_many_as_asked() {
        let queue = Queue::new(9, 9);
        for item in 1..=3 {
            queue.leave(item).unwrap();
        }
        assert_eq!(take(&queue, 2), (vec![1, 2], true));
        assert_eq!(take(&queue, 2), (vec![3], true));
        assert_eq!(take(&queue, 2), (vec![], true));
    }

    #[test]
    fn what_does_not_fit_comes_back() {
        let queue = Queue::new(1, 1);
        queue.leave(1).unwrap();
        assert_eq!((queue.leave(2), queue.push(3)), (Err(2), Err(3)));
    }

    #[test]
    fn a_closed_queue_takes_nothing_in_and_gives_out_the_rest() {
        let queue = Queue::new(9, 9);
        queue.push(1).unwrap();
        queue.close();
        assert_eq!(queue.push(2), Err(2));
        assert_eq!(take(&queue, 9), (vec![1], true));
        assert_eq!(take(&queue, 9), (vec![], false));
    }

    #[test]
    fn an_urgent_item_wakes_a_patient_reader() {
        let queue = std::sync::Arc::new(Queue::new(9, 9));
        let reader = std::sync::Arc::clone(&queue);
        let taken = std::thread::spawn(move || {
            let mut batch = Vec::new();
            reader.take(&mut batch, 9, Duration::from_secs(600));
            batch
        });
        queue.push(7).unwrap();
        queue.wake();
        assert_eq!(taken.join().unwrap(), [7]);
    }

    #[test]
    fn what_is_abandoned_is_counted() {
        let queue = Queue::new(9, 9);
        queue.leave(1).unwrap();
        queue.leave(2).unwrap();
        assert_eq!(queue.abandon(), 2);
        assert_eq!(take(&queue, 9), (vec![], false));
    }
}
