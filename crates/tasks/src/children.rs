//! The tasks that were delegated from one.

use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::entry::Entry;
use crate::{DelegationBounds, InvalidOpening};

/// The tasks that were delegated from one, as far as they are remembered.
#[derive(Debug, Default)]
pub(crate) struct Children {
    /// Held for a look at a few children, never across an await, and never on the way of a call.
    state: Mutex<State>,
    /// Of one that nobody delegated: held while a place below it is looked for.
    reserving: Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    /// Whether the task ended: it gets no more.
    closed: bool,
    /// Places of children that are about to be opened.
    reserved: usize,
    known: Vec<Weak<Entry>>,
    /// Of one that nobody delegated: places of tasks anywhere below it that are about to be opened.
    below: usize,
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

    /// How many of them are open, or about to be; none where there will be no more.
    fn count(&self) -> Option<usize> {
        let mut state = self.state.lock();
        state.known.retain(|child| child.strong_count() > 0);
        let open = state.known.iter().filter_map(Weak::upgrade);
        let open = open.filter(|child| child.ending().is_none()).count();
        (!state.closed).then_some(open + state.reserved)
    }
}

/// The place of a child that is about to be opened: given back unless it is taken.
#[derive(Debug)]
pub(crate) struct Place {
    parent: Arc<Entry>,
    root: Arc<Entry>,
}

impl Place {
    /// Refused where as many are open as there may be, or where the parent has ended.
    pub(crate) fn reserve(
        parent: &Arc<Entry>,
        bounds: &DelegationBounds,
    ) -> Result<Self, InvalidOpening> {
        let mut root = parent;
        while let Some(above) = root.parent() {
            root = above;
        }
        // One family at a time, so that nobody else takes the place that is seen to be free.
        let _one_at_a_time = root.children().reserving.lock();
        let ended = || InvalidOpening::ParentNotOpen(parent.facts().id().clone());
        if parent.children().count().ok_or_else(ended)? >= bounds.children {
            return Err(InvalidOpening::TooManyChildren(bounds.children));
        }
        let open = root.descendants().into_iter();
        let open = open.filter(|entry| entry.ending().is_none()).count();
        if open + root.children().state.lock().below >= bounds.family {
            return Err(InvalidOpening::TooLargeFamily(bounds.family));
        }
        parent.children().state.lock().reserved += 1;
        root.children().state.lock().below += 1;
        Ok(Self {
            parent: Arc::clone(parent),
            root: Arc::clone(root),
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
        {
            let mut state = self.parent.children().state.lock();
            state.reserved = state.reserved.saturating_sub(1);
        }
        let mut state = self.root.children().state.lock();
        state.below = state.below.saturating_sub(1);
    }
}
