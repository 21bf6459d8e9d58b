//! What all targets need: a backend's side of a connection, and how an exchange went.

use std::future::poll_fn;

use bytes::Bytes;
use http::{HeaderMap, Method};
use kthena_router_upstream::{Answer, Ask, Body, BodySize, Failure, fuzzing};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadHalf};
use tokio::task::yield_now;

use super::random::Random;

/// How an exchange went.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// The status and the announced size, or why there is none.
    pub(crate) head: Result<(u16, BodySize), String>,
    /// What was read of the body.
    pub(crate) body: Vec<u8>,
    /// Whether the body was read to its end, or why not.
    pub(crate) end: Result<(), String>,
}

impl Outcome {
    /// Returns whether a whole answer was read.
    pub(crate) fn is_whole(&self) -> bool {
        self.head.is_ok() && self.end.is_ok()
    }
}

/// Sends a request, and reads its answer with pauses.
pub(crate) async fn exchange(
    stream: DuplexStream,
    is_http2: bool,
    method: &Method,
    body: Body,
    mut random: Random,
) -> Result<Outcome, String> {
    let headers = HeaderMap::new();
    let mut ask = Ask {
        method,
        target: "/v1/completions",
        host: "example.com",
        headers: &headers,
        replaced: &[],
        upgrade: None,
        body,
        keeping: None,
        connect_timeout: None,
        timeout: None,
        fresh: false,
        repeated: false,
    };
    let sent = fuzzing::send(stream, is_http2, &mut ask).await;
    let outcome = read(sent, &mut random).await;
    let announced = match outcome.head {
        Ok((_, BodySize::Sized(length))) if method != Method::HEAD => length,
        Ok((_, BodySize::None)) => 0,
        _ => return Ok(outcome),
    };
    let read = outcome.body.len() as u64;
    let has_no_body = matches!(outcome.head, Ok((204 | 304, _)));
    if read > announced || (outcome.end.is_ok() && read < announced && !has_no_body) {
        return Err(format!("{announced} bytes are announced, {read} read: {:?}", outcome.end));
    }
    Ok(outcome)
}

async fn read(sent: Result<Box<Answer>, Failure>, random: &mut Random) -> Outcome {
    let mut body = Vec::new();
    let mut answer = match sent {
        Ok(answer) => answer,
        Err(failure) => return Outcome { head: Err(failure.error.to_string()), body, end: Ok(()) },
    };
    let head = Ok((answer.head.status.as_u16(), answer.size));
    let pauses = random.below(4);
    let end = loop {
        pause(random, pauses).await;
        match poll_fn(|context| answer.body.poll_chunk(context)).await {
            Some(Ok(piece)) => body.extend_from_slice(&piece),
            Some(Err(error)) => break Err(error.to_string()),
            None => {
                let trailers = poll_fn(|context| answer.body.poll_trailers(context)).await;
                break trailers.map(drop).map_err(|error| error.to_string());
            }
        }
    };
    // What has ended stays so.
    let after = poll_fn(|context| answer.body.poll_chunk(context)).await;
    let end = if after.is_none() { end } else { Err(format!("after its end there is {after:?}")) };
    Outcome { head, body, end }
}

/// Lets the other side run so many times, at most.
pub(crate) async fn pause(random: &mut Random, most: usize) {
    for _ in 0..random.below(most + 1) {
        yield_now().await;
    }
}

/// Writes bytes in pieces; the other side may be gone.
pub(crate) async fn write(mut stream: impl AsyncWrite + Unpin, bytes: &[u8], random: &mut Random) {
    let mut rest = bytes;
    let longest = [1, 7, 100, 70_000][random.below(4)];
    // One byte at a time would take too long for large answers.
    let longest = longest.max(bytes.len() / 2_000);
    while !rest.is_empty() {
        let (piece, later) = rest.split_at((1 + random.below(longest)).min(rest.len()));
        if stream.write_all(piece).await.is_err() {
            return;
        }
        rest = later;
        pause(random, 3).await;
    }
}

/// Reads until the other side ends.
pub(crate) async fn drain(mut stream: ReadHalf<DuplexStream>) {
    let mut buffer = [0; 4096];
    while stream.read(&mut buffer).await.is_ok_and(|length| length > 0) {}
}

/// Makes a body whose bytes tell where they belong.
pub(crate) fn body(length: usize) -> Bytes {
    (0..length).map(|at| (at % 251) as u8).collect()
}
