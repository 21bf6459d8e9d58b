//! The body of an answer while it is sent, with what ends together with it.

use std::pin::Pin;
use std::task::{Context, Poll};

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
        in_flight: InFlight,
        head: Option<Charge>,
    }
}

impl<B> Answer<B> {
    pub(crate) fn new(body: B, in_flight: InFlight, head: Option<Charge>) -> Self {
        Self { body, in_flight, head }
    }
}

impl<B: Body<Data = Bytes>> Body for Answer<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        self.project().body.poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
