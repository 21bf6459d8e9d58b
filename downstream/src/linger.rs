//! A moment for a client that is still sending when it has its answer.
//!
//! A connection that is closed while bytes of the client are unread is reset by the kernel, and the client may lose the
//! answer that it has not read yet (RFC 9112, section 9.6). Therefore the sending side is closed first, and what
//! arrives is read and thrown away, within bounds of time and bytes, until the client closes as well.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use crate::stream::Stream;

/// Bytes that are read at once.
const PIECE: usize = 16 << 10;

/// Closes a connection, and waits so long for its client.
pub(crate) async fn linger<T>(mut stream: Stream<T>, patience: Duration, bytes: usize)
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let progress = Rc::clone(stream.progress());
    // What is thrown away is no head, and takes no memory.
    let _in_flight = progress.begin_request();
    // However it ends, the connection is closed.
    timeout(patience, progress.in_turns(part(&mut stream, bytes))).await.ok();
}

async fn part<T>(stream: &mut Stream<T>, bytes: usize) -> io::Result<()>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    stream.shutdown().await?;
    let mut piece = Vec::new();
    let mut left = bytes;
    while left > 0 {
        piece.resize(PIECE, 0);
        let read = stream.read(&mut piece).await?;
        if read == 0 {
            break;
        }
        left = left.saturating_sub(read);
    }
    Ok(())
}
