//! The room for copies of requests: a backend that does not answer would otherwise fill the memory with them.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The bytes of copies that one worker thread may have under way.
const ROOM: usize = 64 << 20;
/// What a copy counts for at least, so that no more than 512 of them are under way.
const LEAST: usize = ROOM / 512;

/// The room for the copies of one worker thread.
pub(in crate::edge) struct MirrorRoom(Arc<Semaphore>);

impl MirrorRoom {
    /// Takes the room for a copy with a body of as many bytes, if there is any.
    pub(in crate::edge) fn take(&self, length: usize) -> Option<OwnedSemaphorePermit> {
        let bytes = u32::try_from(length.max(LEAST)).ok()?;
        Arc::clone(&self.0).try_acquire_many_owned(bytes).ok()
    }
}

impl Default for MirrorRoom {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(ROOM)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_are_bounded_in_number_and_in_bytes() {
        for (length, expected) in [(0, 512), (1 << 10, 512), (1 << 20, 64), (40 << 20, 1), (ROOM + 1, 0), (1 << 40, 0)]
        {
            let room = MirrorRoom::default();
            let copies: Vec<_> = std::iter::from_fn(|| room.take(length)).collect();
            assert_eq!(copies.len(), expected, "copies of {length} bytes");
            drop(copies);
            assert_eq!(room.0.available_permits(), ROOM, "all of it is given back");
        }
    }
}
