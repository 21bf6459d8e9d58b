//! Sends the answer to one request of HTTP/2.

use std::cmp::min;
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, SendStream};
use http::header::{CONNECTION, CONTENT_LENGTH, DATE, HeaderName, HeaderValue, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, Response};
use http_body::{Body, Frame};
use thiserror::Error;
use tokio::time::timeout;

use crate::answers::{has_no_body, with_date};
use crate::service::BoxError;

/// Bytes of an answer that wait in its stream to be sent; what a stalled connection holds for each of its streams.
pub(super) const BUFFER: usize = 32 << 10;

/// Why an answer was not sent to its end.
#[derive(Debug, Error)]
pub(super) enum Unsent {
    #[error("the client has given the request up")]
    Reset,
    #[error("the client does not read its answer")]
    Stalled,
    #[error(transparent)]
    Stream(#[from] h2::Error),
    #[error("the answer broke off: {0}")]
    BrokenOff(BoxError),
}

/// Sends an answer; one that cannot be sent to its end is reset, so that nobody takes its beginning for the whole.
pub(super) async fn send<B>(
    response: Response<B>,
    mut answer: SendResponse<Bytes>,
    head_only: bool,
    stall: Duration,
) -> Result<(), Unsent>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    let (mut head, body) = response.into_parts();
    let size = body.size_hint().exact();
    dress(&mut head.headers, size.filter(|_| !head_only && !has_no_body(head.status)));
    let is_whole = head_only || has_no_body(head.status) || size == Some(0);
    let mut stream = answer.send_response(Response::from_parts(head, ()), is_whole)?;
    if is_whole {
        return Ok(());
    }
    let sent = send_body(body, &mut stream, stall).await;
    match &sent {
        Err(Unsent::BrokenOff(_)) => stream.send_reset(Reason::INTERNAL_ERROR),
        Err(Unsent::Stalled) => stream.send_reset(Reason::CANCEL),
        Ok(()) | Err(Unsent::Reset | Unsent::Stream(_)) => {}
    }
    sent
}

/// Passes a body on as fast as the client takes it.
async fn send_body<B>(body: B, stream: &mut SendStream<Bytes>, stall: Duration) -> Result<(), Unsent>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    let mut body = pin!(body);
    loop {
        let next = poll_fn(|context| match stream.poll_reset(context) {
            Poll::Ready(_) => Poll::Ready(Err(Unsent::Reset)),
            Poll::Pending => body.as_mut().poll_frame(context).map(Ok),
        });
        let Some(frame) = next.await? else { break };
        let frame = frame.map_err(|error| Unsent::BrokenOff(error.into()))?;
        let mut data = match frame.into_data() {
            Ok(data) => data,
            Err(frame) => match Frame::into_trailers(frame) {
                Ok(trailers) => return Ok(stream.send_trailers(trailers)?),
                Err(_) => continue,
            },
        };
        let is_last = body.is_end_stream();
        while !data.is_empty() {
            let capacity = capacity(stream, min(data.len(), BUFFER), stall).await?;
            let piece = data.split_to(min(data.len(), capacity));
            let ends = is_last && data.is_empty();
            stream.send_data(piece, ends)?;
            if ends {
                return Ok(());
            }
        }
    }
    Ok(stream.send_data(Bytes::new(), true)?)
}

/// Waits until some bytes can be sent.
async fn capacity(stream: &mut SendStream<Bytes>, wanted: usize, stall: Duration) -> Result<usize, Unsent> {
    stream.reserve_capacity(wanted);
    let capacity = stream.capacity();
    if capacity > 0 {
        return Ok(capacity);
    }
    let granted = timeout(stall, poll_fn(|context| stream.poll_capacity(context))).await;
    Ok(granted.map_err(|_| Unsent::Stalled)?.ok_or(Unsent::Reset)??)
}

/// Takes out of a head what concerns a connection of HTTP/1.1 (RFC 9113, section 8.2.2), and adds the length and date.
fn dress(headers: &mut HeaderMap, size: Option<u64>) {
    for name in [CONNECTION, TRANSFER_ENCODING, UPGRADE, KEEP_ALIVE, PROXY_CONNECTION] {
        headers.remove(name);
    }
    if let Some(length) = size {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    if !headers.contains_key(DATE)
        && let Ok(now) = with_date(HeaderValue::from_str)
    {
        headers.insert(DATE, now);
    }
}

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
