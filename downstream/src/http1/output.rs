//! What is still to be written to a client.
//!
//! Small pieces are gathered, so that what is there together leaves together. A large one is not copied: it is written from
//! where it is. The buffer belongs to the thread: a connection has one only while its client takes less than there is.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use kthena_router_wire::{CHUNK_END, chunk_begin};
use tokio::io::AsyncWrite;

/// Bytes that are gathered before they must be written.
const FULL: usize = 16 << 10;
/// Bytes of a piece that is not copied.
const LARGE: usize = 4 << 10;
/// The largest buffer that a thread keeps.
const MOST_KEPT: usize = 64 << 10;

thread_local! {
    /// The buffer of the connection that writes next.
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Bytes that are still to be written.
#[derive(Debug, Default)]
pub(super) struct Output {
    buffer: Vec<u8>,
    /// How much of the buffer is written.
    written: usize,
    /// What follows the buffer.
    piece: Bytes,
    /// What follows the piece.
    end: &'static [u8],
    /// Whether something was written that the stream may still hold, as TLS does.
    is_unflushed: bool,
}

impl Output {
    /// Returns the buffer, to append to it; what was added before stands in front.
    pub(super) fn buffer(&mut self) -> &mut Vec<u8> {
        if self.buffer.capacity() == 0 {
            self.buffer = SPARE.take();
        }
        if !self.piece.is_empty() || !self.end.is_empty() {
            self.buffer.extend_from_slice(&std::mem::take(&mut self.piece));
            self.buffer.extend_from_slice(std::mem::take(&mut self.end));
        }
        &mut self.buffer
    }

    /// Adds a piece of a body.
    pub(super) fn add(&mut self, piece: Bytes) {
        if piece.len() < LARGE {
            self.buffer().extend_from_slice(&piece);
        } else {
            self.buffer();
            self.piece = piece;
        }
    }

    /// Adds a piece of a body as one chunk.
    pub(super) fn add_chunk(&mut self, piece: Bytes) {
        let buffer = self.buffer();
        chunk_begin(buffer, piece.len());
        if piece.len() < LARGE {
            buffer.extend_from_slice(&piece);
            buffer.extend_from_slice(CHUNK_END);
        } else {
            (self.piece, self.end) = (piece, CHUNK_END);
        }
    }

    /// Returns whether it must be written before more is added.
    pub(super) fn is_full(&self) -> bool {
        self.buffer.len() - self.written >= FULL || !self.piece.is_empty()
    }

    /// Returns whether there is nothing to write.
    pub(super) fn is_empty(&self) -> bool {
        self.written == self.buffer.len() && self.piece.is_empty() && self.end.is_empty()
    }

    /// Writes all of it.
    pub(super) fn poll_write<T>(&mut self, stream: &mut T, context: &mut Context<'_>) -> Poll<io::Result<()>>
    where
        T: AsyncWrite + Unpin,
    {
        if !self.is_empty() {
            self.is_unflushed = true;
            while !self.is_empty() {
                let written = ready!(self.poll_some(stream, context))?;
                if written == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                self.advance(written);
            }
            self.recycle();
        }
        if self.is_unflushed {
            ready!(Pin::new(stream).poll_flush(context))?;
            self.is_unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_some<T>(&self, stream: &mut T, context: &mut Context<'_>) -> Poll<io::Result<usize>>
    where
        T: AsyncWrite + Unpin,
    {
        let buffer = &self.buffer[self.written..];
        let stream = Pin::new(stream);
        if self.piece.is_empty() && self.end.is_empty() {
            return stream.poll_write(context, buffer);
        }
        stream.poll_write_vectored(context, &[buffer, &self.piece, self.end].map(IoSlice::new))
    }

    fn advance(&mut self, mut written: usize) {
        let of_buffer = written.min(self.buffer.len() - self.written);
        self.written += of_buffer;
        written -= of_buffer;
        let of_piece = written.min(self.piece.len());
        self.piece.advance(of_piece);
        written -= of_piece;
        self.end = &self.end[written.min(self.end.len())..];
    }

    /// Gives the buffer to the connection that writes next.
    fn recycle(&mut self) {
        let mut buffer = std::mem::take(&mut self.buffer);
        (self.written, self.piece, self.end) = (0, Bytes::new(), &[]);
        if buffer.capacity() <= MOST_KEPT {
            buffer.clear();
            SPARE.set(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// Takes no more bytes at once than it has been told to, and gathers them.
    struct Narrow {
        widths: Vec<usize>,
        taken: Vec<u8>,
        is_vectored: bool,
    }

    impl AsyncWrite for Narrow {
        fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            let width = self.widths.pop().unwrap_or(usize::MAX).min(bytes.len());
            if width == 0 {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            self.taken.extend_from_slice(&bytes[..width]);
            Poll::Ready(Ok(width))
        }

        fn poll_write_vectored(
            self: Pin<&mut Self>,
            context: &mut Context<'_>,
            slices: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            if self.is_vectored {
                return self
                    .poll_write(context, &slices.iter().flat_map(|slice| slice.iter().copied()).collect::<Vec<_>>());
            }
            let first = slices.iter().find(|slice| !slice.is_empty()).map_or(&[][..], |slice| slice);
            self.poll_write(context, first)
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    proptest! {
        #[test]
        fn what_is_added_is_written_in_order_however_little_is_taken(
            pieces in vec((any::<bool>(), prop_oneof![1..50_usize, 4000..9000_usize]), 1..12),
            widths in vec(0..6000_usize, 0..40),
            is_vectored in any::<bool>(),
        ) {
            let mut stream = Narrow { widths, taken: Vec::new(), is_vectored };
            let (mut output, mut expected) = (Output::default(), Vec::new());
            let mut context = Context::from_waker(std::task::Waker::noop());
            for (number, (in_chunks, length)) in pieces.into_iter().enumerate() {
                let piece = Bytes::from(vec![b'a' + number as u8; length]);
                if in_chunks {
                    expected.extend(format!("{length:x}\r\n").into_bytes());
                    expected.extend_from_slice(&piece);
                    expected.extend(b"\r\n");
                    output.add_chunk(piece);
                } else {
                    expected.extend_from_slice(&piece);
                    output.add(piece);
                }
                if number % 3 == 0 {
                    let _ = output.poll_write(&mut stream, &mut context)?;
                }
            }
            while output.poll_write(&mut stream, &mut context)?.is_pending() {}
            prop_assert!(output.is_empty());
            prop_assert_eq!(stream.taken, expected);
        }
    }
}
