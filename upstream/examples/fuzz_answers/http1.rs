//! Answers over HTTP/1.1: valid ones, whole or cut short, and mutated ones.

use http::Method;
use kthena_router_upstream::Body;
use tokio::io::{AsyncWriteExt, duplex, split};
use tokio::task::spawn_local;

use super::backend::{Outcome, body, drain, exchange, write};
use super::random::Random;

/// What answers may have in places where it matters.
const WORDS: &[&[u8]] = &[
    b"\r\n",
    b"\n",
    b"\r",
    b"\r\n\r\n",
    b"0\r\n\r\n",
    b"content-length: 5\r\n",
    b"content-length: 6\r\n",
    b":",
    b" ",
    b";",
    b"transfer-encoding: chunked\r\n",
    b"transfer-encoding: gzip\r\n",
    b"connection: close\r\n",
    b"ffffffffffffffff\r\n",
    b"10000000000000000\r\n",
    b"HTTP/1.1 200 OK\r\n",
    b"HTTP/1.0 200 OK\r\n",
    b"HTTP/1.1 204 X\r\n",
    b"-1",
    b"+5",
    b"\0",
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 101 Switching\r\n\r\n",
    b"HTTP/1.1 304 X\r\n",
    b"5\r\nhello\r\n",
    b"\x80",
];

/// A valid answer.
struct Valid {
    bytes: Vec<u8>,
    /// Where the body begins.
    body_at: usize,
    body: Vec<u8>,
    framing: Framing,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Framing {
    Length,
    Chunked,
    UntilClose,
}

pub(crate) async fn case(mut random: Random) -> Result<(), String> {
    let valid = Valid::make(&mut random);
    if random.once_in(3) {
        return valid.check(&mut random).await;
    }
    let mut bytes = valid.bytes;
    random.mutate(&mut bytes, WORDS);
    let method = random.of(&[&Method::GET, &Method::POST, &Method::HEAD]);
    let one = deliver(&bytes, method, &mut random).await?;
    let other = deliver(&bytes, method, &mut random).await?;
    if one == other { Ok(()) } else { Err(format!("{bytes:?} is read as {one:?} and as {other:?}")) }
}

/// Sends the bytes as the answer to a request, and ends the connection.
async fn deliver(bytes: &[u8], method: &Method, random: &mut Random) -> Result<Outcome, String> {
    let (ours, theirs) = duplex(16 << random.below(13));
    let (bytes, mut writing) = (bytes.to_vec(), random.fork());
    spawn_local(async move {
        let (reader, mut writer) = split(theirs);
        spawn_local(drain(reader));
        write(&mut writer, &bytes, &mut writing).await;
        let _ = writer.shutdown().await;
    });
    exchange(ours, false, method, Body::Empty, random.fork()).await
}

impl Valid {
    fn make(random: &mut Random) -> Self {
        let framing = [Framing::Length, Framing::Chunked, Framing::UntilClose][random.below(3)];
        let body = body(random.length(20_000)).to_vec();
        let mut bytes = Vec::new();
        for _ in 0..random.length(3) {
            bytes.extend_from_slice(b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n");
        }
        bytes.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
        for number in 0..random.length(250) {
            bytes.extend_from_slice(format!("x-{number}: {}\r\n", "y".repeat(random.length(100))).as_bytes());
        }
        match framing {
            Framing::Length => bytes.extend_from_slice(format!("content-length: {}\r\n", body.len()).as_bytes()),
            Framing::Chunked => bytes.extend_from_slice(b"transfer-encoding: chunked\r\n"),
            Framing::UntilClose => {}
        }
        bytes.extend_from_slice(b"\r\n");
        let body_at = bytes.len();
        if framing == Framing::Chunked {
            write_chunks(&mut bytes, &body, random);
        } else {
            bytes.extend_from_slice(&body);
        }
        Self { bytes, body_at, body, framing }
    }

    /// Sends it whole or cut short, with or without more behind it; what is read must be what was sent.
    async fn check(&self, random: &mut Random) -> Result<(), String> {
        let cut = if random.once_in(3) { self.bytes.len() } else { random.below(self.bytes.len() + 1) };
        let mut sent = self.bytes[..cut].to_vec();
        let is_whole = cut == self.bytes.len() || (self.framing == Framing::UntilClose && cut >= self.body_at);
        if cut == self.bytes.len() && self.framing != Framing::UntilClose && random.once_in(2) {
            sent.extend_from_slice(random.of(WORDS));
        }
        let outcome = deliver(&sent, &Method::GET, random).await?;
        let fault = if outcome.is_whole() != is_whole {
            "it is not known whether it is whole"
        } else if outcome.head.is_ok() != (cut >= self.body_at) {
            "its head is not known to be whole"
        } else if !self.body.starts_with(&outcome.body)
            || (is_whole && cut == self.bytes.len() && outcome.body != self.body)
        {
            "its body is another one"
        } else {
            return Ok(());
        };
        Err(format!("{fault}: {} of {} bytes, body at {}: {outcome:?}", cut, self.bytes.len(), self.body_at))
    }
}

fn write_chunks(bytes: &mut Vec<u8>, body: &[u8], random: &mut Random) {
    let mut rest = body;
    while !rest.is_empty() {
        let (chunk, later) = rest.split_at((1 + random.length(3_000)).min(rest.len()));
        let extension = random.of(&["", ";a=b", " ; c", ";\"x\""]);
        bytes.extend_from_slice(format!("{:x}{extension}\r\n", chunk.len()).as_bytes());
        bytes.extend_from_slice(chunk);
        bytes.extend_from_slice(b"\r\n");
        rest = later;
    }
    bytes.extend_from_slice(b"0\r\n");
    bytes.extend_from_slice(random.of(&["", "x: y\r\n", "a:\r\nb: c\r\n"]).as_bytes());
    bytes.extend_from_slice(b"\r\n");
}
