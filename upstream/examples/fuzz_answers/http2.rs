//! Answers over HTTP/2, frame by frame: valid ones, whole or cut short, and mutated ones.

use http::Method;
use kthena_router_upstream::Body;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf, duplex, split};
use tokio::task::spawn_local;

use super::backend::{Outcome, body, drain, exchange, write};
use super::random::Random;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
/// The status 200, as the table of HPACK has it.
const STATUS: &[u8] = &[0x88];

/// Frames and parts of frames that matter.
const WORDS: &[&[u8]] = &[
    b"\0\0\0\0\x01\0\0\0\x01",
    b"\0\0\0\0\0\0\0\0\x01",
    b"\0\0\x04\x03\0\0\0\0\x01\0\0\0\x07",
    b"\0\0\x04\x03\0\0\0\0\x01\0\0\0\0",
    b"\0\0\x08\x07\0\0\0\0\0\0\0\0\x01\0\0\0\0",
    b"\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\x02",
    b"\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0\0",
    b"\0\0\x06\x04\0\0\0\0\0\0\x04\0\0\0\0",
    b"\0\0\x04\x08\0\0\0\0\x01\x7f\xff\xff\xff",
    b"\0\0\x01\x01\x05\0\0\0\x01\x88",
    b"\0\0\x05\x01\x04\0\0\0\x01\x08\x03103",
    b"\0\0\x01\x09\x04\0\0\0\x01\x88",
    b"\0\0\0\x20\0\0\0\0\x01",
    b"\xff\xff\xff\0\0\0\0\0\x01",
];

/// A valid answer on the first stream.
struct Valid {
    bytes: Vec<u8>,
    /// Where its end is.
    end: usize,
    body: Vec<u8>,
}

pub(crate) async fn case(mut random: Random) -> Result<(), String> {
    let valid = Valid::make(&mut random);
    if random.once_in(3) {
        return valid.check(&mut random).await;
    }
    let mut bytes = valid.bytes;
    random.mutate(&mut bytes, WORDS);
    let one = deliver(&bytes, &mut random).await?;
    let other = deliver(&bytes, &mut random).await?;
    let differs = one.is_whole() != other.is_whole() || (one.is_whole() && one != other);
    if differs { Err(format!("{bytes:?} is read as {one:?} and as {other:?}")) } else { Ok(()) }
}

/// Greets, sends the bytes as the answer to the first request, and ends the connection.
async fn deliver(bytes: &[u8], random: &mut Random) -> Result<Outcome, String> {
    let (ours, theirs) = duplex(64 << random.below(11));
    let (bytes, mut writing) = (bytes.to_vec(), random.fork());
    spawn_local(async move {
        let (mut reader, mut writer) = split(theirs);
        if greet(&mut reader, &mut writer).await.is_some() {
            spawn_local(drain(reader));
            write(&mut writer, &bytes, &mut writing).await;
        }
        let _ = writer.shutdown().await;
    });
    exchange(ours, true, &Method::GET, Body::Empty, random.fork()).await
}

/// Does what a backend does before it answers the first request.
async fn greet(reader: &mut ReadHalf<DuplexStream>, writer: &mut WriteHalf<DuplexStream>) -> Option<()> {
    reader.read_exact(&mut [0; 24]).await.ok()?;
    writer.write_all(&frame(SETTINGS, 0, 0, &[])).await.ok()?;
    loop {
        let mut head = [0; 9];
        reader.read_exact(&mut head).await.ok()?;
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        reader.read_exact(&mut payload).await.ok()?;
        match (head[3], head[4]) {
            (SETTINGS, 0) => writer.write_all(&frame(SETTINGS, ACK, 0, &[])).await.ok()?,
            (PING, 0) => writer.write_all(&frame(PING, ACK, 0, &payload)).await.ok()?,
            (HEADERS, _) => return Some(()),
            _ => {}
        }
    }
}

impl Valid {
    fn make(random: &mut Random) -> Self {
        let (body, mut bytes) = (body(random.length(60_000)).to_vec(), Vec::new());
        for _ in 0..random.length(3) {
            bytes.extend(frame(HEADERS, END_HEADERS, 1, b"\x08\x03103"));
        }
        let mut head = STATUS.to_vec();
        if random.once_in(2) {
            // The length, whose name is the 28th of the table.
            let digits = body.len().to_string();
            head.extend_from_slice(&[0x0f, 0x0d, digits.len() as u8]);
            head.extend_from_slice(digits.as_bytes());
        }
        let ends_with_head = body.is_empty() && random.once_in(2);
        bytes.extend(frame(HEADERS, END_HEADERS | u8::from(ends_with_head), 1, &head));
        if !ends_with_head {
            Self::write_body(&mut bytes, &body, random);
        }
        let end = bytes.len();
        if random.once_in(4) {
            bytes.extend(frame(PING, 0, 0, &[0; 8]));
        }
        Self { bytes, end, body }
    }

    fn write_body(bytes: &mut Vec<u8>, body: &[u8], random: &mut Random) {
        let (mut rest, longest) = (body, 1 + random.length(16_000).max(body.len() / 500));
        // h2 takes a hundred empty frames.
        let mut empty = 20;
        while !rest.is_empty() {
            let longest = if empty > 0 && random.once_in(10) { 0 } else { 1 + random.below(longest) };
            empty -= usize::from(longest == 0);
            let (piece, later) = rest.split_at(longest.min(rest.len()).min(16_000));
            let padding = if random.once_in(8) { random.below(200) as u8 } else { 0 };
            if padding > 0 {
                let padded = [&[padding][..], piece, &vec![0; usize::from(padding)]].concat();
                bytes.extend(frame(DATA, PADDED, 1, &padded));
            } else {
                bytes.extend(frame(DATA, 0, 1, piece));
            }
            match random.below(20) {
                0 => bytes.extend(frame(PING, 0, 0, &[1; 8])),
                1 => bytes.extend(frame(0x20, 0, 1, b"unknown")),
                _ => {}
            }
            rest = later;
        }
        let trailers = frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\0\x01x\x01y");
        bytes.extend(if random.once_in(2) { frame(DATA, END_STREAM, 1, &[]) } else { trailers });
    }

    /// Sends it whole or cut short; what is read must be what was sent.
    async fn check(&self, random: &mut Random) -> Result<(), String> {
        let cut = if random.once_in(3) { self.bytes.len() } else { random.below(self.bytes.len() + 1) };
        let outcome = deliver(&self.bytes[..cut], random).await?;
        let is_whole = cut >= self.end;
        if outcome.is_whole() == is_whole
            && self.body.starts_with(&outcome.body)
            && (!is_whole || outcome.body == self.body)
        {
            return Ok(());
        }
        Err(format!("{cut} of {} bytes, end at {}: {outcome:?}", self.bytes.len(), self.end))
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend_from_slice(&[kind, flags]);
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}
