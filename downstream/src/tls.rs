//! The TLS handshake: the server name of the ClientHello chooses what it is done with.
//!
//! A name that no listener has is refused with the alert `unrecognized_name` (RFC 6066, section 3). Without a name, the
//! chooser is asked all the same: what it then returns is of the listener without hostname, and the connection says so.

use std::io;
use std::rc::Rc;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::server::Acceptor;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use crate::progress::Progress;
use crate::service::Refusal;
use crate::stream::Metered;

/// A record with the fatal alert `unrecognized_name`.
const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];

/// Chooses what handshakes are done with.
pub trait ChooseTls {
    /// Returns what to do a handshake with, for a server name in lower case, or for a client that names none; `None`
    /// refuses it.
    fn choose(&self, server_name: Option<&str>) -> Option<Chosen>;
}

/// What a handshake is done with.
#[derive(Clone, Debug)]
pub struct Chosen {
    /// Its configuration. Two configurations must not share sessions or ticket keys unless they ask the same of
    /// clients.
    pub config: Arc<ServerConfig>,
    /// Which listener's it is, for whoever compares it with that of a request.
    pub identity: TlsIdentity,
}

/// Says which listener's configuration a handshake was done with. The server passes it on and does not read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TlsIdentity(pub u64);

/// What was agreed on in a handshake.
#[derive(Clone, Debug)]
pub struct Tls {
    /// Which listener's configuration it was done with.
    pub identity: TlsIdentity,
    /// The server name that the client asked for, in lower case.
    pub server_name: Option<String>,
    /// The protocol that was negotiated (ALPN).
    pub protocol: Option<Vec<u8>>,
    /// Whether the client has shown a certificate, which the configuration accepted.
    pub has_client_certificate: bool,
}

/// Why a handshake came to nothing.
pub(crate) enum NoTls {
    /// The client left before it sent anything.
    Left,
    /// It is refused.
    Refused(Refusal),
}

/// Does the handshake.
pub(crate) async fn handshake<T>(
    socket: T,
    progress: Rc<Progress>,
    chooser: &dyn ChooseTls,
) -> Result<(TlsStream<Metered<T>>, Tls), NoTls>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let mut metered = Metered::new(socket, Rc::clone(&progress));
    // Nothing is allocated for a client that sends nothing, and a connection that is made carries no room for a handshake.
    if !metered.look().await.unwrap_or(false) {
        return Err(NoTls::Left);
    }
    Box::pin(progress.in_turns(shake_hands(metered, chooser))).await
}

async fn shake_hands<T>(metered: Metered<T>, chooser: &dyn ChooseTls) -> Result<(TlsStream<Metered<T>>, Tls), NoTls>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let failed = |_: io::Error| NoTls::Refused(Refusal::Handshake);
    let start = LazyConfigAcceptor::new(Acceptor::default(), metered).await.map_err(failed)?;
    let server_name = start.client_hello().server_name().map(str::to_ascii_lowercase);
    let Some(Chosen { config, identity }) = chooser.choose(server_name.as_deref()) else {
        let mut socket = start.io;
        // Whether the client hears of it is its own affair.
        if socket.write_all(&UNRECOGNIZED_NAME).await.is_ok() {
            socket.shutdown().await.ok();
        }
        return Err(NoTls::Refused(Refusal::ServerName));
    };
    let stream = start.into_stream(config).await.map_err(failed)?;
    let session = stream.get_ref().1;
    let tls = Tls {
        identity,
        server_name,
        protocol: session.alpn_protocol().map(<[u8]>::to_vec),
        has_client_certificate: session.peer_certificates().is_some_and(|chain| !chain.is_empty()),
    };
    Ok((stream, tls))
}
