//! A body while it arrives, in pieces of the router's own.
//!
//! A buffer that doubles is there twice while it moves, and leaves as much garbage behind as the body is long. The pieces
//! of the network are no better: one of a byte costs more for itself than for its byte. So bytes are copied into segments,
//! and the segments into the whole, each of which goes as soon as it is copied.
//!
//! Small segments share pages of the allocator with those of other bodies, and one that goes leaves nothing for the whole:
//! four bodies that are joined one after the other were there twice. So a long body goes on in large ones, each of which
//! has pages of its own.

use std::io;

use bytes::{Bytes, BytesMut};
use kthena_router_heap::give_back;
use tokio::io::{AsyncRead, AsyncReadExt};

/// The size of a small segment in bytes, and the longest body that needs one only.
const SEGMENT: usize = 64 << 10;
/// The size of a large segment in bytes, and how long a body is that goes on in large ones. mimalloc shares pages among
/// what has up to 128 KiB.
const LARGE: usize = 256 << 10;
/// Bytes that are joined before what was freed of them is given back.
const GARBAGE: usize = 8 << 20;
/// Room for what an engine's model name, or a wish for usage, may add to a body.
pub(super) const SPARE: usize = 512;

/// The bytes that have arrived.
#[derive(Debug)]
pub(super) struct Segments {
    full: Vec<BytesMut>,
    last: BytesMut,
    length: usize,
}

impl Segments {
    /// Begins a body, of `announced` bytes if that is known. Nothing beyond one segment is reserved.
    pub(super) fn begin(announced: Option<u64>) -> Self {
        let first = announced
            .and_then(|length| usize::try_from(length).ok())
            .map_or(SEGMENT, |length| length.saturating_add(SPARE));
        Self { full: Vec::new(), last: BytesMut::with_capacity(first.min(SEGMENT)), length: 0 }
    }

    /// Returns how many bytes there are.
    pub(super) fn length(&self) -> usize {
        self.length
    }

    /// Adds bytes.
    pub(super) fn push(&mut self, mut bytes: &[u8]) {
        self.length += bytes.len();
        while !bytes.is_empty() {
            let room = self.last.capacity() - self.last.len();
            let (now, later) = bytes.split_at(bytes.len().min(room));
            self.last.extend_from_slice(now);
            bytes = later;
            if !bytes.is_empty() {
                self.begin_another();
            }
        }
    }

    fn begin_another(&mut self) {
        let room = if self.length < LARGE { SEGMENT } else { LARGE };
        self.full.push(std::mem::replace(&mut self.last, BytesMut::with_capacity(room)));
    }

    /// Adds what a reader has at once, and returns how many bytes that were: 0 at its end.
    pub(super) async fn fill(&mut self, reader: &mut (impl AsyncRead + Unpin)) -> io::Result<usize> {
        if self.last.len() == self.last.capacity() {
            self.begin_another();
        }
        let read = reader.read_buf(&mut self.last).await?;
        self.length += read;
        Ok(read)
    }

    /// Returns all bytes in one piece.
    pub(super) fn join(self) -> Bytes {
        if self.full.is_empty() {
            return self.last.freeze();
        }
        let mut whole = BytesMut::with_capacity(self.length + SPARE);
        let mut freed = 0;
        for segment in self.full.into_iter().chain([self.last]) {
            whole.extend_from_slice(&segment);
            freed += segment.len();
            drop(segment);
            // What is freed stays resident for a while, and would be there beside its copy.
            if freed >= GARBAGE {
                freed = 0;
                give_back();
            }
        }
        whole.freeze()
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_joined_is_what_was_pushed(
            pieces in vec((any::<u8>(), 0..60_000_usize), 0..12),
            announced in prop::option::of(0_u64..300_000),
        ) {
            let mut segments = Segments::begin(announced);
            let pieces: Vec<_> = pieces.into_iter().map(|(byte, length)| vec![byte; length]).collect();
            pieces.iter().for_each(|piece| segments.push(piece));
            let expected = pieces.concat();
            prop_assert_eq!(segments.length(), expected.len());
            prop_assert!(segments.full.iter().all(|segment| segment.len() == segment.capacity()), "no room is wasted");
            prop_assert!(segments.join() == expected);
        }
    }

    #[test]
    fn an_announced_length_reserves_a_segment_at_most() {
        for (announced, room) in [(Some(10), 10 + SPARE), (Some(u64::MAX), SEGMENT), (None, SEGMENT)] {
            let segments = Segments::begin(announced);
            assert_eq!(segments.last.capacity(), room, "{announced:?}");
        }
    }
}
