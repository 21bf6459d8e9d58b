//! Reads a request's body into memory, within the budget and up to a limit, or passes it on as it arrives.

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use futures::{Stream, StreamExt};
use kthena_router::inference::coding::Coding;
use kthena_router::inference::form::Form;
use kthena_router::inference::model_watch::ModelWatch;
use kthena_router::inference::understood::{NotUnderstood, without_mark};
use kthena_router_downstream::{Charge, Connection, Incoming, ReadError, Upgrade};
use kthena_router_upstream::{Body, BodyFault, BodyStream};

use super::decoding::decode;
use super::forms::{Checked, Watch};
use super::segments::Segments;
use crate::edge::errors::ProxyError;

/// Bodies of up to this length are read before they are sent: whoever takes them later may then be another endpoint.
const SMALL: u64 = 64 << 10;

/// The body of a request, as far as it is needed.
pub(in crate::edge) struct Inbound {
    /// What is still to come.
    incoming: Incoming,
    /// The whole of it, once it was read.
    read: Option<Bytes>,
    /// A form that was read as far as its model.
    begun: Option<Box<Begun>>,
    /// How a body is looked through that passes unread.
    watched: Option<Box<ModelWatch>>,
    limit: usize,
    /// What it takes of the memory for requests.
    charge: Charge,
}

/// A form of which a part was read.
struct Begun {
    segments: Segments,
    /// How the rest is looked through; `None` if it is no form that is understood.
    form: Option<Box<Form>>,
}

/// A body that is passed on as it arrives.
struct Passed {
    incoming: Incoming,
    /// How many bytes may still come.
    room: usize,
    limit: usize,
}

impl Inbound {
    /// Takes a body that may have up to `limit` bytes.
    pub(in crate::edge) fn new(incoming: Incoming, connection: &Rc<Connection>, limit: usize) -> Self {
        Self { incoming, read: None, begun: None, watched: None, limit, charge: connection.charge() }
    }

    /// Checks what the body announces.
    ///
    /// # Errors
    ///
    /// Returns an error if that is more than it may have.
    pub(in crate::edge) fn check_length(&self) -> Result<(), ProxyError> {
        let limit = self.limit;
        let is_too_long = self.incoming.announced_length().is_some_and(|length| length > limit as u64);
        if is_too_long { Err(ProxyError::BodyTooLarge { limit }) } else { Ok(()) }
    }

    /// Takes out the connection of a request that asks to change the protocol, which has no body.
    pub(in crate::edge) fn upgrade(&mut self) -> Option<Upgrade> {
        if self.incoming.is_empty() { self.incoming.upgrade() } else { None }
    }

    /// Returns the whole body without these codings; it is read if nobody has done so.
    pub(in crate::edge) async fn read(&mut self, codings: &[Coding]) -> Result<&Bytes, ProxyError> {
        let (incoming, limit, charge) = (&mut self.incoming, self.limit, &mut self.charge);
        let body = match self.read.take() {
            Some(body) => body,
            None if codings.is_empty() => collect(incoming, limit, charge).await?,
            None => Box::pin(decode(incoming, codings, limit, charge)).await?,
        };
        Ok(self.read.insert(body))
    }

    /// The same for a body that is JSON, and is sent without the byte order mark that it may begin with.
    pub(in crate::edge) async fn read_json(&mut self, codings: &[Coding]) -> Result<&Bytes, ProxyError> {
        self.read(codings).await?;
        let body = self.read.get_or_insert_default();
        body.advance(body.len() - without_mark(body).len());
        Ok(body)
    }

    /// Returns the whole body, if it was read.
    pub(in crate::edge) fn whole(&self) -> Option<&Bytes> {
        self.read.as_ref()
    }

    /// Returns whether the body says that it is larger than what is read in any case.
    pub(in crate::edge) fn is_large(&self) -> bool {
        self.read.is_none() && self.incoming.announced_length().is_some_and(|length| length > SMALL)
    }

    /// Has the body name this model, while it passes unread.
    pub(in crate::edge) fn watch(&mut self, model: Arc<str>) {
        self.watched = Some(Box::new(ModelWatch::new(model)));
    }

    /// Reads a form as far as its model; what was read of one that is not understood is passed on all the same.
    pub(in crate::edge) async fn read_form(
        &mut self,
        mut form: Box<Form>,
    ) -> Result<Result<Box<Form>, NotUnderstood>, ProxyError> {
        let mut segments = Segments::begin(self.incoming.announced_length());
        let mut understood = Ok(());
        while understood.is_ok() && form.model().is_none() {
            let Some(bytes) = next(&mut self.incoming).await? else {
                understood = form.end().map_err(Into::into);
                self.read = Some(segments.join());
                return Ok(understood.map(|()| form));
            };
            take_in(&mut segments, &bytes, self.limit, &mut self.charge)?;
            understood = form.feed(&bytes);
        }
        let rest = understood.is_ok().then(|| form.clone());
        self.begun = Some(Box::new(Begun { segments, form: rest }));
        Ok(understood.map(|()| form))
    }

    /// Reads the rest of a form.
    async fn read_on(&mut self, begun: Begun) -> Result<(), ProxyError> {
        let Begun { mut segments, mut form } = begun;
        while let Some(bytes) = next(&mut self.incoming).await? {
            take_in(&mut segments, &bytes, self.limit, &mut self.charge)?;
            if let Some(form) = &mut form {
                form.feed(&bytes)?;
            }
        }
        if let Some(form) = &form {
            form.end().map_err(NotUnderstood::from)?;
        }
        self.read = Some(segments.join());
        Ok(())
    }

    /// Reads the body to its end if it is to be sent as a whole: where it is to be kept, or is small.
    pub(in crate::edge) async fn settle(&mut self, keep: bool) -> Result<(), ProxyError> {
        let is_passed_on = !keep && self.incoming.announced_length().is_none_or(|length| length > SMALL);
        if is_passed_on || self.read.is_some() || self.begun.is_none() && self.incoming.is_empty() {
            return Ok(());
        }
        match self.begun.take() {
            Some(begun) => self.read_on(*begun).await,
            None => self.read(&[]).await.map(drop),
        }
    }

    /// Takes out the body to send: all of it if it was read, and what is still to come if not. What it takes of the
    /// memory is given back when the charge is dropped.
    pub(in crate::edge) fn take(&mut self) -> Result<(Body, Charge), ProxyError> {
        let nothing = self.charge.beside();
        let (length, charge) = (self.incoming.announced_length(), std::mem::replace(&mut self.charge, nothing));
        let (incoming, begun, watched) = (Incoming::take(&mut self.incoming), self.begun.take(), self.watched.take());
        let body = match (self.read.take(), begun) {
            (Some(body), _) => {
                if let Some(mut watch) = watched {
                    watch.feed(&body)?;
                    watch.end()?;
                }
                Body::Whole(body)
            }
            (None, Some(begun)) => self.passed_on(incoming, *begun, length),
            (None, None) if incoming.is_empty() => Body::Empty,
            (None, None) => {
                let rest = Passed { incoming, room: self.limit, limit: self.limit };
                let source = match watched {
                    None => rest.boxed_local(),
                    Some(watch) => Checked { held: None, rest, watch: Some(Watch::Model(watch)) }.boxed_local(),
                };
                Body::Stream(BodyStream { source, length })
            }
        };
        Ok((body, charge))
    }

    /// Returns a form as it is passed on: what was read of it, and what is still to come.
    fn passed_on(&self, incoming: Incoming, begun: Begun, length: Option<u64>) -> Body {
        let Begun { segments, form } = begun;
        let room = self.limit - segments.length();
        let rest = Passed { incoming, room, limit: self.limit };
        let source = Box::pin(Checked { held: Some(segments.join()), rest, watch: form.map(Watch::Form) });
        Body::Stream(BodyStream { source, length })
    }
}

/// Reads a body; nothing is reserved for it on the client's word.
pub(super) async fn collect(incoming: &mut Incoming, limit: usize, charge: &mut Charge) -> Result<Bytes, ProxyError> {
    let announced = incoming.announced_length();
    let Some(first) = next(incoming).await? else { return Ok(Bytes::new()) };
    if announced == Some(first.len() as u64) {
        // The common case: the body came in one piece, which is used as it is.
        charge.grow(first.len())?;
        return Ok(first);
    }
    let (mut segments, mut piece) = (Segments::begin(announced), Some(first));
    while let Some(bytes) = piece {
        take_in(&mut segments, &bytes, limit, charge)?;
        drop(bytes);
        piece = next(incoming).await?;
    }
    Ok(segments.join())
}

/// Adds what has arrived of a body, within its limit and the memory for requests.
fn take_in(segments: &mut Segments, bytes: &[u8], limit: usize, charge: &mut Charge) -> Result<(), ProxyError> {
    if segments.length() + bytes.len() > limit {
        return Err(ProxyError::BodyTooLarge { limit });
    }
    charge.grow(bytes.len())?;
    segments.push(bytes);
    Ok(())
}

async fn next(incoming: &mut Incoming) -> Result<Option<Bytes>, ReadError> {
    poll_fn(|context| incoming.poll_piece(context)).await.transpose()
}

impl Stream for Passed {
    type Item = Result<Bytes, BodyFault>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        let Some(piece) = ready!(this.incoming.poll_piece(context)) else { return Poll::Ready(None) };
        let piece = piece.map_err(|error| match error {
            ReadError::Late => BodyFault::Late,
            error => BodyFault::Read(Box::new(ProxyError::Body(error))),
        });
        Poll::Ready(Some(piece.and_then(|bytes| {
            let room = this.room.checked_sub(bytes.len());
            let too_large = || ProxyError::BodyTooLarge { limit: this.limit };
            this.room = room.ok_or_else(|| BodyFault::Read(Box::new(too_large())))?;
            Ok(bytes)
        })))
    }
}

/// Returns the error for a body that could not be passed on.
pub(in crate::edge) fn fault(fault: BodyFault) -> ProxyError {
    match fault {
        BodyFault::Late => ReadError::Late.into(),
        BodyFault::Length => ReadError::Malformed(Box::new(fault)).into(),
        BodyFault::Read(source) => match source.downcast::<ProxyError>() {
            Ok(error) => *error,
            Err(source) => ReadError::Broken(source).into(),
        },
    }
}
