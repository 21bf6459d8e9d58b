//! Requests to backends that read slowly, stop reading, answer early, or leave.

use futures::StreamExt;
use http::Method;
use kthena_router_upstream::{Body, BodyStream};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex, split};
use tokio::task::{spawn_local, yield_now};

use super::backend::{body, exchange, pause};
use super::random::Random;

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// What a request's body is like.
struct Request {
    pieces: Vec<usize>,
    is_streamed: bool,
    is_length_known: bool,
}

impl Request {
    fn make(random: &mut Random) -> Self {
        let pieces = (0..random.length(8)).map(|_| random.length(40_000)).collect();
        Self { pieces, is_streamed: random.once_in(2), is_length_known: random.once_in(2) }
    }

    fn body(&self, mut random: Random) -> Body {
        let all = body(self.pieces.iter().sum());
        if !self.is_streamed {
            return Body::Whole(all);
        }
        let length = self.is_length_known.then_some(all.len() as u64);
        let pieces = self.pieces.clone().into_iter().scan(all, |all, piece| Some(all.split_to(piece)));
        let source = futures::stream::iter(pieces).then(move |piece| {
            let pauses = random.below(4);
            async move {
                for _ in 0..pauses {
                    yield_now().await;
                }
                Ok(piece)
            }
        });
        Body::Stream(BodyStream { source: source.boxed_local(), length })
    }

    /// Returns what follows the head of the request.
    fn on_the_wire(&self) -> Vec<u8> {
        let mut all = body(self.pieces.iter().sum());
        if !self.is_streamed || self.is_length_known {
            return all.to_vec();
        }
        let mut bytes = Vec::new();
        for piece in self.pieces.iter().filter(|piece| **piece > 0) {
            bytes.extend_from_slice(format!("{piece:x}\r\n").as_bytes());
            bytes.extend_from_slice(&all.split_to(*piece));
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"0\r\n\r\n");
        bytes
    }
}

pub(crate) async fn case(mut random: Random) -> Result<(), String> {
    let request = Request::make(&mut random);
    let expected = request.on_the_wire();
    // The head is shorter than 200 bytes; a limit within or behind the request.
    let limit = if random.once_in(2) { usize::MAX } else { random.below(expected.len() + 200) };
    let leaves = random.once_in(4);
    let (ours, theirs) = duplex(16 << random.below(13));
    let mut reading = random.fork();
    let served = spawn_local(async move {
        let (mut reader, mut writer) = split(theirs);
        let (mut received, mut buffer) = (Vec::new(), vec![0; 1 + reading.length(9_000)]);
        while received.len() < limit && !is_whole(&received) {
            match reader.read(&mut buffer).await {
                Ok(length) if length > 0 => received.extend_from_slice(&buffer[..length]),
                _ => break,
            }
            pause(&mut reading, 3).await;
        }
        if !leaves {
            let _ = writer.write_all(ANSWER).await;
        }
        let _ = writer.shutdown().await;
        (received, reader)
    });
    let outcome = exchange(ours, false, &Method::POST, request.body(random.fork()), random.fork()).await?;
    let (received, _) = served.await.map_err(|error| error.to_string())?;
    if outcome.is_whole() == leaves || (!leaves && outcome.body != b"ok") {
        return Err(format!("leaves: {leaves}, but {outcome:?}"));
    }
    let Some(head) = head_length(&received) else { return Ok(()) };
    let body = &received[head..];
    if !expected.starts_with(body) || (limit == usize::MAX && body != expected) {
        return Err(format!("{} bytes of a body of {} arrived, and not as they are", body.len(), expected.len()));
    }
    Ok(())
}

fn head_length(request: &[u8]) -> Option<usize> {
    request.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4)
}

/// Returns whether this is a whole request.
fn is_whole(request: &[u8]) -> bool {
    let Some(head) = head_length(request) else { return false };
    let fields = String::from_utf8_lossy(&request[..head]).into_owned();
    match fields.split("content-length: ").nth(1).and_then(|rest| rest.split('\r').next()?.parse::<usize>().ok()) {
        Some(length) => request.len() - head >= length,
        None => request.ends_with(b"\r\n0\r\n\r\n") || request[head..] == *b"0\r\n\r\n",
    }
}
