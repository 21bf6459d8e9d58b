//! The body of an answer while it is sent, with what ends together with it.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use crate::budget::Charge;
use crate::progress::InFlight;

pin_project! {
    /// The body of an answer; the request is in flight until it is dropped.
    pub(crate) struct Answer<B> {
        #[pin]
        body: B,
        // What is left of a body whose length is known.
        left: Option<u64>,
        in_flight: InFlight,
        head: Option<Charge>,
    }
}

impl<B: Body> Answer<B> {
    pub(crate) fn new(body: B, in_flight: InFlight, head: Option<Charge>) -> Self {
        let left = body.size_hint().exact();
        Self { body, left, in_flight, head }
    }
}

impl<B: Body<Data = Bytes>> Body for Answer<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let mut this = self.project();
        let frame = ready!(this.body.as_mut().poll_frame(context));
        if let (Some(left), Some(Ok(frame))) = (this.left, &frame)
            && let Some(data) = frame.data_ref()
        {
            *left = left.saturating_sub(data.len() as u64);
            if *left == 0 && !data.is_empty() {
                // hyper asks for no more than the length: here a body learns that it was passed on whole.
                drop(this.body.poll_frame(context));
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
