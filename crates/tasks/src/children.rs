//! The tasks that were delegated from one.

use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::entry::Entry;

/// The tasks that were delegated from one, as far as they are remembered.
#[derive(Debug, Default)]
pub(crate) struct Children {
    /// Held for a look at a few children, never across an await, and never on the way of a call.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Whether the task ended: it gets no more.
    closed: bool,
    /// Places of children that are about to be opened.
    reserved: usize,
    known: Vec<Weak<Entry>>,
}

impl Children {
    /// Adds one that was opened before; how many there may be was asked then.
    pub(crate) fn adopt(&self, child: &Arc<Entry>) {
        self.state.lock().known.push(Arc::downgrade(child));
    }

    /// All that are remembered, the oldest first.
    pub(crate) fn all(&self) -> Vec<Arc<Entry>> {
        let state = self.state.lock();
        state.known.iter().filter_map(Weak::upgrade).collect()
    }

    /// All of them; there will be no more.
    pub(crate) fn close(&self) -> Vec<Arc<Entry>> {
        self.state.lock().closed = true;
        self.all()
    }

    fn reserve(&self, most: usize) -> bool {
        let mut state = self.state.lock();
        state.known.retain(|child| child.strong_count() > 0);
        let open = state.known.iter().filter_map(Weak::upgrade);
        let open = open.filter(|child| child.ending().is_none()).count();
        let has_room = !state.closed && open + state.reserved < most;
        state.reserved += usize::from(has_room);
        has_room
    }
}

/// The place of a child that is about to be opened: given back unless it is taken.
#[derive(Debug)]
pub(crate) struct Place {
    parent: Arc<Entry>,
}

impl Place {
    /// None where as many are open as there may be, or where the parent has ended.
    pub(crate) fn reserve(parent: &Arc<Entry>, most: usize) -> Option<Self> {
        parent.children().reserve(most).then(|| Self {
            parent: Arc::clone(parent),
        })
    }

    pub(crate) fn parent(&self) -> &Arc<Entry> {
        &self.parent
    }

    /// The child takes it; false where the parent ended meanwhile.
    pub(crate) fn take(self, child: &Arc<Entry>) -> bool {
        let mut state = self.parent.children().state.lock();
        state.known.push(Arc::downgrade(child));
        !state.closed
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.parent.children().state.lock();
        state.reserved = state.reserved.saturating_sub(1);
    }
}
