//! The body of an answer, between the connection's task and whoever reads it.

use std::task::{Context, Poll, Waker, ready};

use bytes::{Bytes, BytesMut};
use h2::RecvStream;
use http::HeaderMap;

use super::session::STREAM_WINDOW;

/// What has arrived of an answer's body.
///
/// h2 keeps each frame until it is read, and closes the connection when small frames that nobody reads take too much
/// memory. One client that does not read must not end the answers of others, so that its frames are gathered here: a
/// byte then costs a byte, and the stream's window, which is not given back, bounds their number.
#[derive(Default)]
pub(super) struct Inbox {
    /// Where the body comes from; gone once it has broken off.
    stream: Option<RecvStream>,
    /// What was taken from the stream and nobody has read.
    gathered: BytesMut,
    reader: Reader,
}

/// What the reader of a body does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Reader {
    /// It is busy with a piece, or with something else.
    #[default]
    Busy,
    /// It was busy at the last look, and has not asked since then.
    Away,
    /// It waits for the next piece.
    Waiting,
}

impl Inbox {
    pub(super) fn new(stream: RecvStream) -> Self {
        Self { stream: Some(stream), ..Self::default() }
    }

    /// Returns the next piece, `None` at the end of the body.
    pub(super) fn poll_data(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, h2::Error>>> {
        let Some(stream) = &mut self.stream else { return Poll::Ready(None) };
        self.reader = Reader::Busy;
        if !self.gathered.is_empty() {
            let piece = std::mem::take(&mut self.gathered).freeze();
            return Poll::Ready(Some(stream.flow_control().release_capacity(piece.len()).map(|()| piece)));
        }
        loop {
            let Poll::Ready(piece) = stream.poll_data(context)? else {
                self.reader = Reader::Waiting;
                return Poll::Pending;
            };
            let Some(piece) = piece else { return Poll::Ready(None) };
            // The next piece may come now that somebody wants this one.
            stream.flow_control().release_capacity(piece.len())?;
            if !piece.is_empty() {
                return Poll::Ready(Some(Ok(piece)));
            }
        }
    }

    /// Returns what follows the body.
    pub(super) fn poll_trailers(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<HeaderMap>, h2::Error>> {
        let Some(stream) = &mut self.stream else { return Poll::Ready(Ok(None)) };
        self.reader = Reader::Waiting;
        let trailers = ready!(stream.poll_trailers(context));
        self.reader = Reader::Busy;
        Poll::Ready(trailers)
    }

    /// Gathers what has arrived if nobody has asked for it since the last look.
    pub(super) fn look(&mut self) {
        match self.reader {
            Reader::Waiting => {}
            Reader::Busy => self.reader = Reader::Away,
            Reader::Away => self.gather(),
        }
    }

    /// Takes what has arrived, without giving the window back.
    fn gather(&mut self) {
        let Some(stream) = &mut self.stream else { return };
        // The reader is not waiting, so that it wants not to be woken. What is not data is told to it when it asks.
        let mut context = Context::from_waker(Waker::noop());
        while self.gathered.len() < STREAM_WINDOW as usize {
            let Poll::Ready(Some(Ok(piece))) = stream.poll_data(&mut context) else { return };
            self.gathered.extend_from_slice(&piece);
        }
    }
}
