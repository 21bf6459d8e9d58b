//! How many copies of requests one worker thread may have under way.
//!
//! Copies are bounded in number and in bytes, because a backend that does not answer would otherwise fill the memory
//! with them.

use std::cell::Cell;
use std::rc::Rc;

/// Copies that one worker thread may have under way.
const MOST: usize = 512;
/// The bytes of their bodies.
const MOST_BYTES: usize = 64 << 20;

/// The copies of one worker thread that are under way.
#[derive(Clone, Default)]
pub(super) struct MirrorBudget(Rc<UnderWay>);

#[derive(Default)]
struct UnderWay {
    copies: Cell<usize>,
    bytes: Cell<usize>,
}

/// One of the copies that may be under way.
pub(super) struct Place {
    under_way: Rc<UnderWay>,
    bytes: usize,
}

impl MirrorBudget {
    /// Takes a place for a copy with a body of as many bytes, if there is room for it.
    pub(super) fn take(&self, bytes: usize) -> Option<Place> {
        let under_way = &self.0;
        if under_way.copies.get() >= MOST || under_way.bytes.get() + bytes > MOST_BYTES {
            return None;
        }
        under_way.copies.set(under_way.copies.get() + 1);
        under_way.bytes.set(under_way.bytes.get() + bytes);
        Some(Place { under_way: Rc::clone(under_way), bytes })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let UnderWay { copies, bytes } = &*self.under_way;
        copies.set(copies.get().saturating_sub(1));
        bytes.set(bytes.get().saturating_sub(self.bytes));
    }
}
