//! Decodes a request's body while it arrives, so that the router can read it.
//!
//! What a body decodes to has the same limit as a body without coding, and takes as much of the budget of bytes; so do
//! the windows of decoders while they work. One large body takes turns with the other requests of its thread.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use async_compression::tokio::bufread::{BrotliDecoder, DeflateDecoder, GzipDecoder, ZlibDecoder, ZstdDecoder};
use async_compression::zstd::DParameter;
use bytes::{Buf, Bytes};
use kthena_router::inference::coding::Coding;
use kthena_router::inference::understood::NotUnderstood;
use kthena_router_downstream::{Charge, Incoming, ReadError};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncRead, BufReader, ReadBuf};
use tokio::task::yield_now;

use super::body::collect;
use super::gzip;
use super::segments::Segments;
use crate::edge::errors::ProxyError;

/// How many bytes are decoded in one turn: about half a millisecond's work.
const TURN: usize = 256 << 10;
/// What a decoder needs beside its window, in bytes.
const STATE: usize = 64 << 10;
/// The largest window of `zstd` as a power of two (RFC 9659, section 3).
const ZSTD_WINDOW_LOG: u32 = 23;

type Encoded<'i> = Box<dyn AsyncBufRead + Unpin + 'i>;
type Decoded<'i> = Box<dyn AsyncRead + Unpin + 'i>;

/// A body as it arrives.
struct Arriving<'i> {
    /// What is still to come; `None` if it is all there.
    incoming: Option<&'i mut Incoming>,
    piece: Bytes,
    /// How many bytes may still come.
    room: usize,
}

/// What one of several decoders yields, up to a limit.
struct Limited<'i> {
    decoder: Decoded<'i>,
    room: usize,
}

/// A body, or what one of its codings decodes to, has more bytes than are allowed.
#[derive(Debug, thiserror::Error)]
#[error("too large")]
struct TooLarge;

/// Reads a body with codings, and returns what they decode to: `limit` bytes at most.
///
/// # Errors
///
/// Returns an error for a body that does not arrive whole, is too large, is not what its codings say, or for which there is
/// no memory.
pub(super) async fn decode(
    incoming: &mut Incoming,
    codings: &[Coding],
    limit: usize,
    charge: &mut Charge,
) -> Result<Bytes, ProxyError> {
    let before = charge.bytes();
    let mut body = Arriving { incoming: Some(incoming), piece: Bytes::new(), room: limit };
    if codings == [Coding::Gzip]
        && let Some(incoming) =
            body.incoming.take_if(|incoming| incoming.announced_length().is_some_and(gzip::is_small))
    {
        body.piece = collect(incoming, limit, charge).await?;
        if let Some(decoded) = gzip::decode(&body.piece, limit, charge) {
            charge.shrink(body.piece.len());
            return Ok(decoded);
        }
    }
    charge.grow(STATE * codings.len())?;
    let windows: usize = codings.iter().map(|coding| coding.window()).sum();
    let mut body: Encoded<'_> = Box::new(body);
    for coding in codings.iter().rev() {
        let decoder = decoder(*coding, body).await.map_err(|error| fault(error, codings, limit))?;
        body = Box::new(BufReader::new(Limited { decoder, room: limit }));
    }
    let (mut segments, mut turn) = (Segments::begin(None), 0);
    loop {
        let read = segments.fill(&mut body).await.map_err(|error| fault(error, codings, limit))?;
        if read == 0 {
            break;
        }
        // A window holds what was decoded last, and no more than there is.
        let in_windows = windows.saturating_sub(segments.length() - read).min(read);
        charge.grow(read + in_windows)?;
        turn += read;
        if turn >= TURN {
            turn = 0;
            yield_now().await;
        }
    }
    drop(body);
    let decoded = segments.join();
    charge.shrink(charge.bytes() - before - decoded.len());
    Ok(decoded)
}

/// Makes the decoder of a coding. Streams that follow one another are one (RFC 1952, section 2.2; RFC 8878, section 3.1),
/// and what is none of them is an error.
async fn decoder(coding: Coding, mut body: Encoded<'_>) -> io::Result<Decoded<'_>> {
    Ok(match coding {
        Coding::Gzip => members(GzipDecoder::new(body), GzipDecoder::multiple_members),
        Coding::Brotli => members(BrotliDecoder::new(body), BrotliDecoder::multiple_members),
        Coding::Zstd => {
            let decoder = ZstdDecoder::with_params(body, &[DParameter::window_log_max(ZSTD_WINDOW_LOG)]);
            members(decoder, ZstdDecoder::multiple_members)
        }
        // The method 8 in the first byte is a header of zlib; a block of deflate would have bits where it has none.
        Coding::Deflate if body.fill_buf().await?.first().is_none_or(|first| first & 0x0f == 8) => {
            members(ZlibDecoder::new(body), ZlibDecoder::multiple_members)
        }
        Coding::Deflate => members(DeflateDecoder::new(body), DeflateDecoder::multiple_members),
    })
}

/// Has a decoder go on with what follows the end of a stream.
fn members<'i, D: AsyncRead + Unpin + 'i>(mut decoder: D, allow: impl FnOnce(&mut D, bool)) -> Decoded<'i> {
    allow(&mut decoder, true);
    Box::new(decoder)
}

/// Says why a body could not be decoded.
fn fault(error: io::Error, codings: &[Coding], limit: usize) -> ProxyError {
    let (kind, said) = (error.kind(), error.to_string());
    if let Some(inner) = error.into_inner() {
        match inner.downcast::<ReadError>() {
            Ok(error) => return ProxyError::Body(*error),
            Err(other) if other.is::<TooLarge>() => return ProxyError::BodyTooLarge { limit },
            Err(_) => {}
        }
    }
    let fault = if kind == io::ErrorKind::UnexpectedEof { "it is cut off".to_owned() } else { said };
    let names: Vec<_> = codings.iter().map(|coding| coding.name()).collect();
    NotUnderstood::Undecodable { encoding: names.join(", "), fault }.into()
}

impl AsyncBufRead for Arriving<'_> {
    fn poll_fill_buf(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        let this = self.get_mut();
        if this.piece.is_empty()
            && let Some(incoming) = &mut this.incoming
            && let Some(piece) = ready!(incoming.poll_piece(context))
        {
            let piece = piece.map_err(io::Error::other)?;
            this.room = this.room.checked_sub(piece.len()).ok_or_else(|| io::Error::other(TooLarge))?;
            this.piece = piece;
        }
        Poll::Ready(Ok(&this.piece))
    }

    fn consume(mut self: Pin<&mut Self>, amount: usize) {
        self.piece.advance(amount);
    }
}

impl AsyncRead for Arriving<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let piece = ready!(self.as_mut().poll_fill_buf(context))?;
        let length = piece.len().min(buffer.remaining());
        buffer.put_slice(&piece[..length]);
        self.consume(length);
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Limited<'_> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.decoder).poll_read(context, buffer))?;
        let read = buffer.filled().len() - before;
        this.room = this.room.checked_sub(read).ok_or_else(|| io::Error::other(TooLarge))?;
        Poll::Ready(Ok(()))
    }
}
