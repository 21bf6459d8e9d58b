//! HTTP/2 as a hostile client writes it: frame by frame, with heads that no library would send.

use bytes::{BufMut, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use crate::site::within;

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;

pub(crate) const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
pub(crate) const PADDED: u8 = 8;

/// A frame.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Bytes,
}

/// A client that writes and reads frames.
pub(crate) struct RawClient {
    pub(crate) io: DuplexStream,
}

impl RawClient {
    /// Begins a connection with these settings.
    pub(crate) async fn begin(io: DuplexStream, settings: &[(u16, u32)]) -> Self {
        let mut client = Self { io };
        client.io.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        let mut payload = BytesMut::new();
        for (name, value) in settings {
            payload.put_u16(*name);
            payload.put_u32(*value);
        }
        client.send(SETTINGS, 0, 0, &payload).await;
        client
    }

    pub(crate) async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        within(self.io.write_all(&frame(kind, flags, stream, payload))).await.unwrap();
    }

    /// Begins a request.
    pub(crate) async fn request(&mut self, stream: u32, fields: &[(&str, &str)], ends: bool) {
        let flags = END_HEADERS | if ends { END_STREAM } else { 0 };
        self.send(HEADERS, flags, stream, &block(fields)).await;
    }

    /// Returns the next frame that is about a stream or an end; settings are acknowledged; `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        loop {
            let mut head = [0; 9];
            within(self.io.read_exact(&mut head)).await.ok()?;
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            let mut payload = vec![0; length];
            within(self.io.read_exact(&mut payload)).await.ok()?;
            let stream = u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]);
            let frame = Frame { kind: head[3], flags: head[4], stream, payload: payload.into() };
            match frame.kind {
                SETTINGS if frame.flags & ACK == 0 => {
                    // The server may have closed already.
                    within(self.io.write_all(&self::frame(SETTINGS, ACK, 0, &[]))).await.ok();
                }
                DATA | HEADERS | RST_STREAM | GOAWAY => return Some(frame),
                WINDOW_UPDATE if frame.stream > 0 => return Some(frame),
                _ => {}
            }
        }
    }

    /// Returns the first frame of a kind for a stream.
    pub(crate) async fn next_of(&mut self, kind: u8, stream: u32) -> Frame {
        loop {
            let frame = self.next().await.expect("the frame comes before the end");
            if frame.kind == kind && frame.stream == stream {
                return frame;
            }
        }
    }

    /// Returns the status that a stream is answered with; none if it is reset.
    pub(crate) async fn status_of(&mut self, stream: u32) -> Option<u16> {
        loop {
            let frame = self.next().await?;
            match frame.kind {
                HEADERS if frame.stream == stream => return Some(status(&frame.payload)),
                RST_STREAM if frame.stream == stream => return None,
                _ => {}
            }
        }
    }
}

/// Writes a frame.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(9 + payload.len());
    frame.put_uint(payload.len() as u64, 3);
    frame.put_u8(kind);
    frame.put_u8(flags);
    frame.put_u32(stream);
    frame.extend_from_slice(payload);
    frame
}

/// Writes fields as literals without indexing.
pub(crate) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.put_u8(0);
        for text in [name, value] {
            assert!(text.len() < 127, "lengths of one byte");
            block.put_u8(text.len() as u8);
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

/// Reads the status of an answer, whose encoder puts it first: indexed, or as a literal with an indexed name.
fn status(block: &[u8]) -> u16 {
    let [first, rest @ ..] = block else { panic!("an answer has a status") };
    match first {
        0x88 => 200,
        0x89 => 204,
        0x8a => 206,
        0x8b => 304,
        0x8c => 400,
        0x8d => 404,
        0x8e => 500,
        // Digits have codes of 5 bits below 3, and of 6 bits from 3 on (RFC 7541, appendix B).
        _ => {
            let [length, digits @ ..] = rest else { panic!("the status has a value") };
            if length & 0x80 == 0 {
                return std::str::from_utf8(&digits[..3]).unwrap().parse().unwrap();
            }
            let bits: String = digits[..usize::from(length & 0x7f)].iter().map(|byte| format!("{byte:08b}")).collect();
            let mut status = 0;
            let mut bits = &bits[..];
            for _ in 0..3 {
                let digit = match u8::from_str_radix(&bits[..5], 2).unwrap() {
                    digit @ 0..=2 => {
                        bits = &bits[5..];
                        u16::from(digit)
                    }
                    _ => {
                        let digit = u16::from_str_radix(&bits[..6], 2).unwrap() - 0x19 + 3;
                        bits = &bits[6..];
                        digit
                    }
                };
                status = status * 10 + digit;
            }
            status
        }
    }
}

/// The fields of a `GET`.
pub(crate) fn get(path: &'static str) -> [(&'static str, &'static str); 4] {
    [(":method", "GET"), (":scheme", "http"), (":authority", "a.org"), (":path", path)]
}

/// The fields of a `POST`.
pub(crate) fn post(path: &'static str) -> [(&'static str, &'static str); 4] {
    [(":method", "POST"), (":scheme", "http"), (":authority", "a.org"), (":path", path)]
}
