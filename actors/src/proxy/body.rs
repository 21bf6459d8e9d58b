//! Reads a request's body into memory, up to a limit.

use std::time::Duration;

use actix_web::dev::Payload;
use actix_web::http::header::{self, HeaderMap};
use actix_web::web::{Bytes, BytesMut};
use futures::{FutureExt, StreamExt};
use tokio::time::timeout;

use super::error::ProxyError;

/// How much is reserved at once on the word of a Content-Length that may be a lie.
const TRUSTED: usize = 1 << 20;

/// Reads the body; each piece of it must arrive within `pause` after the one before.
pub(super) async fn read(
    headers: &HeaderMap,
    payload: &mut Payload,
    limit: usize,
    pause: Duration,
) -> Result<Bytes, ProxyError> {
    let announced = announced_length(headers);
    if announced.is_some_and(|length| length > limit) {
        return Err(ProxyError::BodyTooLarge { limit });
    }
    let Some(first) = next(payload, pause).await? else { return Ok(Bytes::new()) };
    if announced == Some(first.len()) {
        // The common case: the body came in one piece, which is used as it is.
        return if first.len() > limit { Err(ProxyError::BodyTooLarge { limit }) } else { Ok(first) };
    }
    let mut body = BytesMut::with_capacity(announced.unwrap_or_default().min(TRUSTED).max(first.len()));
    let mut piece = Some(first);
    while let Some(bytes) = piece {
        if body.len() + bytes.len() > limit {
            return Err(ProxyError::BodyTooLarge { limit });
        }
        body.extend_from_slice(&bytes);
        piece = next(payload, pause).await?;
    }
    Ok(body.freeze())
}

/// Returns the next piece; a timer is only set where it is not there yet.
async fn next(payload: &mut Payload, pause: Duration) -> Result<Option<Bytes>, ProxyError> {
    let piece = match payload.next().now_or_never() {
        Some(piece) => piece,
        None => timeout(pause, payload.next()).await.map_err(|_| ProxyError::BodyTimeout)?,
    };
    piece.transpose().map_err(ProxyError::BodyRead)
}

fn announced_length(headers: &HeaderMap) -> Option<usize> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
