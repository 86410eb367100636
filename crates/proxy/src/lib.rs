//! The way of one call. Read [`Way`] from top to bottom: that is all the gateway does.
