//! What has arrived from a client and is not taken yet.
//!
//! While nobody knows how much will come, bytes are read into room that belongs to the thread, and copied from there: a
//! connection that waits has no buffer, and one that has sent a little holds just that.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{BufMut, Bytes, BytesMut};
use kthena_router_wire::HeadEnd;
use tokio::io::{AsyncRead, ReadBuf};
use tokio_util::io::poll_read_buf;

/// Bytes that are read at once while nobody knows how much will come.
const ROOM: usize = 16 << 10;
/// Bytes of a long body that are read at once, and what a connection holds of one at most that nobody has taken.
pub(super) const BODY_ROOM: usize = 64 << 10;
/// With less room than this left, room for more of a body is made before the next read.
const LEAST_BODY_ROOM: usize = 2 << 10;

thread_local! {
    static ARRIVALS: RefCell<Box<[u8]>> = RefCell::new(vec![0; ROOM].into());
}

/// Bytes that have arrived and are not taken yet.
#[derive(Debug, Default)]
pub(super) struct Input {
    pub(super) bytes: BytesMut,
    /// How many of them stand before the next head, as far as they were looked at: nothing is looked through twice.
    empty: usize,
    end: HeadEnd,
}

/// A head that is longer than it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooLong;

impl Input {
    /// Takes a head, once it is there whole, with the empty lines before it (RFC 9112, section 2.2).
    pub(super) fn take_head(&mut self, most: usize) -> Result<Option<Bytes>, TooLong> {
        let rest = self.bytes[self.empty..].iter();
        self.empty += rest.take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        let length = self.end.find(&self.bytes[self.empty..]).map(|length| self.empty + length);
        match length.filter(|length| *length <= most) {
            Some(length) => {
                self.empty = 0;
                Ok(Some(self.take(length)))
            }
            None if self.bytes.len() > most => Err(TooLong),
            None => Ok(None),
        }
    }

    /// Takes so many bytes, which are there.
    pub(super) fn take(&mut self, length: usize) -> Bytes {
        if length == self.bytes.len() {
            // Nothing of the buffer is kept.
            return std::mem::take(&mut self.bytes).freeze();
        }
        self.bytes.split_to(length).freeze()
    }

    /// Reads a little of what is there; returns how much, 0 at the end.
    pub(super) fn poll_read<T>(&mut self, stream: &mut T, context: &mut Context<'_>) -> Poll<io::Result<usize>>
    where
        T: AsyncRead + Unpin,
    {
        if self.bytes.is_empty() {
            // Who waits keeps nothing of a buffer that a body was read into.
            self.bytes = BytesMut::new();
        }
        ARRIVALS.with_borrow_mut(|room| {
            let mut arrived = ReadBuf::new(room);
            ready!(Pin::new(stream).poll_read(context, &mut arrived))?;
            let arrived = arrived.filled();
            if self.bytes.is_empty() {
                self.bytes = BytesMut::from(arrived);
            } else {
                self.bytes.extend_from_slice(arrived);
            }
            Poll::Ready(Ok(arrived.len()))
        })
    }

    /// Reads of a body of which so many bytes are still to come, if that is known; returns how much was read, 0 at the end.
    /// Of what follows the body no more is read than there is room for while nobody knows how much will come.
    pub(super) fn poll_read_body<T>(
        &mut self,
        stream: &mut T,
        left: Option<u64>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>>
    where
        T: AsyncRead + Unpin,
    {
        let left = left.map_or(0, |left| usize::try_from(left).unwrap_or(usize::MAX));
        if left <= ROOM {
            return self.poll_read(stream, context);
        }
        if self.bytes.capacity() - self.bytes.len() < LEAST_BODY_ROOM {
            self.bytes.reserve(left.min(BODY_ROOM));
        }
        poll_read_buf(Pin::new(stream), context, &mut (&mut self.bytes).limit(left))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_taken_whole_with_the_empty_lines_before_it_and_nothing_behind_it() {
        let head = "\r\n\nGET / HTTP/1.1\r\nhost: x\r\n\r\n";
        for arrivals in [vec![head, "body"], vec!["\r", "\n\nGET / HTTP/1.1\r", "\nhost: x\r\n\r", "\nbody"]] {
            let (mut input, mut taken) = (Input::default(), None);
            for arrival in arrivals {
                input.bytes.extend_from_slice(arrival.as_bytes());
                let head = input.take_head(1000).unwrap();
                taken = taken.or(head);
            }
            assert_eq!(taken.as_deref(), Some(head.as_bytes()));
            assert_eq!(&input.bytes[..], b"body");
        }
    }

    #[test]
    fn a_head_is_no_longer_than_it_may_be_whether_its_end_is_there_or_not() {
        for (bytes, expected) in [
            ("GET / HTTP/1.1\r\n\r\n", Ok(true)),
            ("GET / HTTP/1.1\r\na:\r\n\r\n", Err(TooLong)),
            ("GET / HTTP/1.1\r\n", Ok(false)),
            ("GET / HTTP/1.1\r\na: b", Err(TooLong)),
            ("\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n", Err(TooLong)),
        ] {
            let mut input = Input { bytes: bytes.into(), ..Input::default() };
            assert_eq!(input.take_head(18).map(|head| head.is_some()), expected, "{bytes:?}");
        }
    }
}
