//! Passes bodies on as they arrive while it looks through them: a form behind the model that it names, and a JSON body whose
//! model a header has named.
//!
//! Files are large, and behind the model nothing of a form is for the router, so it is not kept unless somebody is to get it
//! again. The rest is looked through while it passes: a body that names another model further on breaks off, and no engine
//! gets it whole.

use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures::Stream;
use futures::stream::LocalBoxStream;
use kthena_router::inference::form::Form;
use kthena_router::inference::model_watch::ModelWatch;
use kthena_router::inference::understood::NotUnderstood;
use kthena_router_upstream::{Body, BodyFault, BodyStream};

use crate::edge::errors::ProxyError;

/// A form, or another body, that is passed on while it is looked through.
pub(super) struct Checked<S> {
    /// What was read of it last: it is held back until it is known that the form may go on, or end, like this.
    pub held: Option<Bytes>,
    /// What is still to come.
    pub rest: S,
    /// How it is looked through; `None` for what is no form, or at the end.
    pub watch: Option<Watch>,
}

/// How a body is looked through.
pub(super) enum Watch {
    /// It is a form, which names one model.
    Form(Box<Form>),
    /// It is JSON, and names the model that is expected.
    Model(Box<ModelWatch>),
}

impl Watch {
    fn feed(&mut self, piece: &[u8]) -> Result<(), NotUnderstood> {
        match self {
            Self::Form(form) => form.feed(piece),
            Self::Model(watch) => watch.feed(piece),
        }
    }

    fn end(&self) -> Result<(), NotUnderstood> {
        match self {
            Self::Form(form) => form.end().map_err(Into::into),
            Self::Model(watch) => watch.end(),
        }
    }
}

/// A body some bytes of which are replaced.
struct Replaced {
    source: LocalBoxStream<'static, Result<Bytes, BodyFault>>,
    /// What is left of it before the bytes.
    before: usize,
    /// How many bytes are left out.
    left_out: usize,
    /// What stands in their place.
    text: Option<Bytes>,
    /// What follows in the piece that was looked at.
    rest: Bytes,
}

/// Returns a body with a text in place of the bytes at a place of it; one that is whole is somebody else's to change.
pub(in crate::edge) fn replace(body: Body, at: Range<usize>, text: &str) -> Body {
    let Body::Stream(BodyStream { source, length }) = body else { return body };
    let length = length.map(|length| length - at.len() as u64 + text.len() as u64);
    let (before, left_out) = (at.start, at.len());
    let text = Some(Bytes::copy_from_slice(text.as_bytes()));
    let source = Box::pin(Replaced { source, before, left_out, text, rest: Bytes::new() });
    Body::Stream(BodyStream { source, length })
}

impl<S: Stream<Item = Result<Bytes, BodyFault>> + Unpin> Stream for Checked<S> {
    type Item = Result<Bytes, BodyFault>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            let (piece, fault) = match ready!(Pin::new(&mut this.rest).poll_next(context)) {
                Some(Ok(piece)) => {
                    let fault = this.watch.as_mut().and_then(|watch| watch.feed(&piece).err());
                    (Some(piece), fault)
                }
                None => (None, this.watch.take().and_then(|watch| watch.end().err())),
                broken => return Poll::Ready(broken),
            };
            if let Some(fault) = fault {
                (this.watch, this.held) = (None, None);
                return Poll::Ready(Some(Err(BodyFault::Read(Box::new(ProxyError::from(fault))))));
            }
            let is_end = piece.is_none();
            let passed = std::mem::replace(&mut this.held, piece);
            if passed.is_some() || is_end {
                return Poll::Ready(passed.map(Ok));
            }
        }
    }
}

impl Stream for Replaced {
    type Item = Result<Bytes, BodyFault>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            if this.rest.is_empty() {
                match ready!(this.source.as_mut().poll_next(context)) {
                    Some(Ok(piece)) => this.rest = piece,
                    end => return Poll::Ready(end),
                }
            }
            if this.before > 0 {
                let passed = this.rest.split_to(this.before.min(this.rest.len()));
                this.before -= passed.len();
                return Poll::Ready(Some(Ok(passed)));
            }
            if let Some(text) = this.text.take() {
                return Poll::Ready(Some(Ok(text)));
            }
            let left_out = this.rest.split_to(this.left_out.min(this.rest.len()));
            this.left_out -= left_out.len();
            if !this.rest.is_empty() {
                return Poll::Ready(Some(Ok(std::mem::take(&mut this.rest))));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::future::FutureExt;
    use futures::stream::{StreamExt, TryStreamExt, iter};
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn only_the_place_is_replaced(body in vec(any::<u8>(), 1..200), cuts in vec(1_usize..50, 1..9), place in (0_usize..200, 0_usize..50), text in "[a-z]{0,20}") {
            let start = place.0 % body.len();
            let at = start..(start + place.1).min(body.len());
            let (mut rest, mut cuts, mut pieces) = (&body[..], cuts.into_iter().cycle(), Vec::new());
            while !rest.is_empty() {
                let (piece, after) = rest.split_at(cuts.next().unwrap().min(rest.len()));
                pieces.push(Ok::<_, BodyFault>(Bytes::copy_from_slice(piece)));
                rest = after;
            }
            let length = Some(body.len() as u64);
            let stream = Body::Stream(BodyStream { source: iter(pieces).boxed_local(), length });
            let Body::Stream(BodyStream { source, length }) = replace(stream, at.clone(), &text) else { unreachable!() };
            let passed: Vec<Bytes> = source.try_collect().now_or_never().unwrap().unwrap();
            let expected = [&body[..at.start], text.as_bytes(), &body[at.end..]].concat();
            prop_assert_eq!(length, Some(expected.len() as u64));
            prop_assert!(passed.concat() == expected);
        }
    }
}
