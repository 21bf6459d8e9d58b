//! HTTP/1 on one connection.
//!
//! One request is served at a time, so that each has its own framing. All of it is one future: it asks the service for its
//! answer, writes what there is of that, and reads what the service asks for, or else whether the client has left. One timer
//! is for all that a client can be too slow for, turns end, and those who are still sending when they have their answer get
//! a moment to find it.
//!
//! A connection has no buffers of its own: [`input`] and [`output`] say what it holds, and when.

mod answer;
mod exchange;
mod head;
mod input;
mod output;
mod upload;

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use kthena_router_wire::Framing;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};
use tracing::debug;

use crate::budget::{Charge, Exhausted};
use crate::clock::Clock;
use crate::connection::Connection;
use crate::incoming::Incoming;
use crate::limits::Limits;
use crate::linger::linger;
use crate::progress::{Overdue, yield_turn};
use crate::server::{Server, head_room, room};
use crate::service::{BoxError, Refusal, Refused, Service};
use crate::stream::Stream;
use crate::upgraded::Upgraded;
use answer::{Answer, Filled};
use exchange::{Exchange, Phase, Received, Receiving};
use head::{Head, Shape};
use input::{BODY_ROOM, Input};
use output::Output;
pub(crate) use upload::Upload;

/// Time for those who are still sending when the port closes: a head, or a body that nobody reads.
const LAST_MOMENT: Duration = Duration::from_secs(1);

/// A connection that speaks HTTP/1.
struct Speaker<T, S: Service> {
    server: Rc<Server<S>>,
    connection: Rc<Connection>,
    stream: Stream<T>,
    input: Input,
    output: Output,
    exchange: Option<Exchange<S>>,
    /// Since when the port is closing: no request begins any more, but for one that is arriving.
    leaving_since: Option<Instant>,
    /// Whether nothing that still comes from the client could be understood.
    is_deaf: bool,
}

/// How HTTP/1 on a connection ended.
enum Ended {
    /// All is said. The client may still be sending, or not.
    Said { is_unread: bool },
    /// It is broken, or its client has left.
    Broken(&'static str, Option<BoxError>),
    /// It has changed the protocol.
    Switched(oneshot::Sender<Upgraded>),
}

/// What comes after a step: another one, or the end.
type Step = Option<Ended>;

/// Serves a connection to its end.
pub(crate) async fn serve<T, S>(server: Rc<Server<S>>, stream: Stream<T>, connection: Rc<Connection>)
where
    T: AsyncRead + AsyncWrite + Unpin + 'static,
    S: Service,
{
    let mut speaker = Speaker {
        server,
        connection,
        stream,
        input: Input::default(),
        output: Output::default(),
        exchange: None,
        leaving_since: None,
        is_deaf: false,
    };
    let ended = speaker.speak().await;
    speaker.exchange = None;
    // In a box: a connection that speaks has no room for its end.
    Box::pin(speaker.part(ended)).await;
}

impl<T, S> Speaker<T, S>
where
    T: AsyncRead + AsyncWrite + Unpin + 'static,
    S: Service,
{
    /// Serves requests until there are no more.
    fn speak(&mut self) -> impl Future<Output = Ended> {
        let closing = self.server.closing.clone();
        let (mut clock, mut told) = (Clock::default(), Waker::noop().clone());
        async move {
            let mut closed = pin!(closing.cancelled());
            poll_fn(|context| {
                self.connection.progress.begin_turn();
                // Who is told already is not told again: that costs more than to look.
                if self.leaving_since.is_none() && (!told.will_wake(context.waker()) || closing.is_cancelled()) {
                    told.clone_from(context.waker());
                    self.leaving_since = closed.as_mut().poll(context).is_ready().then(Instant::now);
                }
                self.poll(&mut clock, context)
            })
            .await
        }
    }

    fn poll(&mut self, clock: &mut Clock, context: &mut Context<'_>) -> Poll<Ended> {
        loop {
            let step = if self.exchange.is_some() { self.poll_exchange(context) } else { self.poll_head(context) };
            match step {
                Poll::Ready(Some(ended)) => return Poll::Ready(ended),
                Poll::Ready(None) => {}
                Poll::Pending => match ready!(self.poll_deadline(clock, context)) {
                    Overdue::Head => self.refuse(Refusal::TooSlow, None),
                    Overdue::Request => return Poll::Ready(Ended::Said { is_unread: false }),
                    Overdue::Reading => return Poll::Ready(Ended::Broken("the client does not read its answer", None)),
                },
            }
        }
    }

    /// Waits until the client has been too slow for something.
    fn poll_deadline(&self, clock: &mut Clock, context: &mut Context<'_>) -> Poll<Overdue> {
        let deadline = self.connection.progress.deadline(&self.server.limits);
        let deadline = match (deadline, self.leaving_since) {
            (Some((at, Overdue::Head)), Some(since)) => Some((at.min(since + LAST_MOMENT), Overdue::Request)),
            (deadline, _) => deadline,
        };
        let overdue = deadline.map_or(Overdue::Request, |(_, overdue)| overdue);
        clock.poll(context, deadline.map(|(at, _)| at)).map(|()| overdue)
    }

    /// Reads the head of a request, and gives it to the service.
    fn poll_head(&mut self, context: &mut Context<'_>) -> Poll<Step> {
        loop {
            let is_silent = self.input.bytes.is_empty();
            if is_silent && self.leaving_since.is_some() {
                return Poll::Ready(Some(Ended::Said { is_unread: false }));
            }
            if !is_silent && self.connection.progress.is_turn_over() {
                yield_turn(context);
                return Poll::Pending;
            }
            match self.input.take_head(self.server.limits.head_bytes) {
                Ok(Some(head)) => {
                    self.begin(&head, context);
                    return Poll::Ready(None);
                }
                Ok(None) if is_silent => {}
                Ok(None) => self.connection.progress.begin_head(),
                Err(input::TooLong) => {
                    self.refuse(Refusal::HeadTooLarge, None);
                    return Poll::Ready(None);
                }
            }
            return Poll::Ready(match ready!(self.input.poll_read(&mut self.stream, context)) {
                Ok(1..) => continue,
                Ok(0) if is_silent => Some(Ended::Said { is_unread: false }),
                Ok(0) => Some(Ended::Broken("the client has left within a head", None)),
                Err(error) if is_exhausted(&error) => {
                    self.refuse(Refusal::Memory, None);
                    None
                }
                Err(error) => Some(Ended::Broken("it cannot be read", Some(error.into()))),
            });
        }
    }

    /// Begins a request with its head.
    fn begin(&mut self, head: &Bytes, context: &Context<'_>) {
        let mut head = match head::parse(head) {
            Ok(head) => head,
            Err(why) => return self.refuse(why, None),
        };
        match self.admit(&mut head) {
            Ok((charge, room)) => self.give(head, charge, room, context),
            Err(why) => self.refuse(why, Some(&head)),
        }
    }

    /// Checks a head, and takes the memory for it and for what may be held of the body.
    fn admit(&self, head: &mut Head) -> Result<(Option<Charge>, Option<Charge>), Refusal> {
        let limits = &self.server.limits;
        let cost = crate::head::cost(&head.parts.headers);
        crate::head::admit(&mut head.parts, limits.head_fields, self.connection.is_tls(), false)?;
        let charge = head_room(&self.connection, cost).map_err(|_| Refusal::Memory)?;
        let room =
            if head.length == Some(0) { Ok(None) } else { room(&self.connection, head.length, BODY_ROOM).map(Some) };
        Ok((charge, room.map_err(|_| Refusal::Memory)?))
    }

    /// Gives a request to the service.
    fn give(&mut self, head: Head, charge: Option<Charge>, room: Option<Charge>, context: &Context<'_>) {
        let Head { parts, shape, length, expects_continue, offers_protocol } = head;
        let in_flight = self.connection.progress.begin_request();
        let here =
            length.and_then(|length| usize::try_from(length).ok()).filter(|length| *length <= self.input.bytes.len());
        let mut receiving = None;
        let mut incoming = match (here, room) {
            (_, None) => Incoming::empty(),
            (Some(length), Some(room)) => Incoming::whole(self.input.take(length), room),
            (None, Some(room)) => {
                let upload = Upload::new(context.waker());
                // A piece is passed on as it comes.
                let framing = length.map_or_else(|| Framing::chunked(0), Framing::Length);
                receiving = Some(Receiving { upload: Rc::clone(&upload), framing, length, expects_continue });
                Incoming::http1(upload, length, self.server.limits.body_pause, room)
            }
        };
        let mut tunnel = None;
        // A body is read to its end before the protocol changes: offers beside one are passed over.
        if offers_protocol && length == Some(0) {
            let (sender, upgrade) = oneshot::channel();
            tunnel = Some(sender);
            incoming = incoming.with_upgrade(upgrade);
        }
        let request = Request::from_parts(parts, incoming);
        let answering = Rc::clone(&self.server.service).handle(Rc::clone(&self.connection), request);
        let phase = Phase::Answering(answering);
        self.exchange = Some(Exchange { phase, shape, receiving, tunnel, _in_flight: in_flight, _head: charge });
    }

    /// Answers a request with why it is refused; nothing that follows it is understood.
    fn refuse(&mut self, why: Refusal, head: Option<&Head>) {
        let in_flight = self.connection.progress.begin_request();
        let refused = Refused { why, head: head.map(|head| &head.parts) };
        let response = self.server.service.refuse(&self.connection, &refused);
        let shape = head.map_or(Shape::LAST, |head| head.shape);
        self.is_deaf = true;
        self.input = Input::default();
        let phase = Phase::Sending(Answer::begin(response, shape, true, &mut self.output));
        self.exchange =
            Some(Exchange { phase, shape, receiving: None, tunnel: None, _in_flight: in_flight, _head: None });
    }

    /// Passes a request and its answer on as far as they are there.
    fn poll_exchange(&mut self, context: &mut Context<'_>) -> Poll<Step> {
        loop {
            if let Poll::Ready(step) = self.poll_send(context) {
                return Poll::Ready(step);
            }
            if let Some(ended) = ready!(self.poll_receive(context)) {
                return Poll::Ready(Some(ended));
            }
        }
    }

    /// Writes what there is of the answer; ready when the request has ended.
    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<Step> {
        loop {
            let Some(exchange) = &mut self.exchange else { return Poll::Ready(None) };
            let filled = exchange.fill(self.leaving_since.is_some(), &mut self.output, context);
            return Poll::Ready(match (self.output.poll_write(&mut self.stream, context), filled) {
                (Poll::Ready(Ok(())), Filled::All) => self.finish(context),
                (Poll::Ready(Ok(())), Filled::Full) => continue,
                // What came before is the client's.
                (Poll::Ready(Ok(())), Filled::Broken) => {
                    Some(Ended::Broken("the answer broke off", exchange.failure()))
                }
                (Poll::Ready(Err(error)), _) => Some(Ended::Broken("it cannot be written to", Some(error.into()))),
                (Poll::Ready(Ok(())), Filled::Waiting) | (Poll::Pending, _) => return Poll::Pending,
            });
        }
    }

    /// Reads what the service asks for, or else whether the client has left; ready with `None` when the service is to be
    /// asked again.
    fn poll_receive(&mut self, context: &mut Context<'_>) -> Poll<Step> {
        let Self { exchange: Some(exchange), input, output, stream, .. } = self else { return Poll::Ready(None) };
        if self.is_deaf {
            return Poll::Pending;
        }
        match &mut exchange.receiving {
            Some(receiving) if !receiving.upload.is_over() => match receiving.poll(input, output, stream, context) {
                Received::More => Poll::Ready(None),
                Received::Waiting => Poll::Pending,
                Received::Over => {
                    self.is_deaf = true;
                    Poll::Ready(None)
                }
            },
            // Who has sent more than its request cannot be seen to have left.
            _ if !input.bytes.is_empty() => Poll::Pending,
            _ => match ready!(input.poll_read(stream, context)) {
                Ok(1..) => Poll::Pending,
                Ok(0) => Poll::Ready(Some(Ended::Broken("the client has left before it had its answer", None))),
                Err(error) => Poll::Ready(Some(Ended::Broken("it broke before the answer", Some(error.into())))),
            },
        }
    }

    /// Ends a request whose answer is written.
    fn finish(&mut self, context: &mut Context<'_>) -> Step {
        let Exchange { phase: Phase::Sending(answer), receiving, tunnel, .. } = self.exchange.take()? else {
            return None;
        };
        if answer.switches {
            return Some(tunnel.map_or(Ended::Said { is_unread: self.is_deaf }, Ended::Switched));
        }
        let is_last = answer.is_last || self.is_deaf || self.leaving_since.is_some();
        // Who has sent more than was asked for may be sending still.
        let mut is_unread = self.is_deaf || (is_last && !self.input.bytes.is_empty());
        if let Some(mut receiving) = receiving.filter(|receiving| !receiving.upload.is_over()) {
            is_unread |= is_last || !receiving.discard(&mut self.input, &mut self.stream, context);
        }
        (is_last || is_unread).then_some(Ended::Said { is_unread })
    }

    /// Does what is left to do on a connection.
    async fn part(self, ended: Ended) {
        let is_unread = match ended {
            Ended::Broken(why, error) => {
                return debug!(peer = %self.connection.peer, why, error, "connection broke");
            }
            Ended::Switched(tunnel) => return self.pass_on(tunnel).await,
            Ended::Said { is_unread } => is_unread,
        };
        let Limits { linger_time, linger_bytes, .. } = self.server.limits;
        let mut lingering = pin!(linger(self.stream, linger_time, linger_bytes));
        tokio::select! {
            biased;
            () = &mut lingering => return,
            () = self.server.closing.cancelled() => {}
        }
        // A port that closes waits for nobody who has the answer, and a moment for those who are still sending.
        if is_unread {
            timeout(LAST_MOMENT, lingering).await.ok();
        }
    }

    /// Gives the connection to who answered that it changes the protocol, and waits for its end.
    async fn pass_on(self, tunnel: oneshot::Sender<Upgraded>) {
        let progress = &self.connection.progress;
        let _in_flight = progress.begin_request();
        progress.become_upgraded();
        let (ends, ended) = oneshot::channel();
        let ahead = self.input.bytes.freeze();
        if tunnel.send(Upgraded::new(ahead, self.stream, self.server.limits.write_stall, ends)).is_ok() {
            // Its end is all that is told.
            ended.await.ok();
        }
    }
}

fn is_exhausted(error: &io::Error) -> bool {
    error.get_ref().is_some_and(<dyn std::error::Error + Send + Sync>::is::<Exhausted>)
}

#[cfg(test)]
mod tests;
