//! How the engine breaks a connection on purpose.
//!
//! The HTTP server owns the socket and closes it in an orderly way. To make a client see a reset, a second handle of
//! the same socket is kept with the connection; telling the kernel not to linger turns the close that follows into a
//! reset.

use std::{
    any::Any,
    io,
    net::{SocketAddr, TcpStream},
    os::fd::AsFd,
};

use actix_web::rt::net::TcpStream as ServedStream;

/// A second handle of the socket of one connection.
#[derive(Debug)]
pub(crate) struct Connection {
    socket: TcpStream,
}

impl Connection {
    /// Duplicates the handle of a stream that the server has just accepted.
    ///
    /// Returns nothing when the stream is of another kind or the process has no file handle left; the connection can
    /// then not be reset.
    pub(crate) fn of(stream: &dyn Any) -> Option<Self> {
        let served = stream.downcast_ref::<ServedStream>()?;
        let handle = served.as_fd().try_clone_to_owned().ok()?;
        Some(Self { socket: TcpStream::from(handle) })
    }

    /// Duplicates the handle, for a body that outlives the request.
    pub(crate) fn duplicate(&self) -> io::Result<Self> {
        self.socket.try_clone().map(|socket| Self { socket })
    }

    /// Returns the engine's own address, as the client of the connection reached it.
    pub(crate) fn own_address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Makes the next close of the socket a reset.
    pub(crate) fn reset_on_close(&self) -> io::Result<()> {
        ServedStream::from_std(self.socket.try_clone()?)?.set_zero_linger()
    }
}
