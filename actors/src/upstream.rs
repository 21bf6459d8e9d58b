//! The HTTP client that reaches engines, set up as a proxy needs it.
//!
//! awc's defaults are those of a user agent: it follows redirects, adds headers of its own, gives up after five seconds
//! and keeps a hundred connections for a quarter of a minute. A proxy must do none of that.

use std::sync::Arc;
use std::time::Duration;

use awc::{Client, Connector};
use rustls::ClientConfig;

use self::connector::EngineConnector;

mod connector;

/// How long an idle connection is kept: less than the 5 s after which uvicorn, in front of vLLM and SGLang, closes it.
const KEEP_ALIVE: Duration = Duration::from_secs(4);
/// How long a connection may live in all; closing busy ones early would only cost handshakes.
const LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// How engines are reached; makes clients.
#[derive(Clone, Debug)]
pub struct Upstream {
    connect_timeout: Duration,
    tls: Arc<ClientConfig>,
}

impl Upstream {
    /// Makes clients that give up connecting after `connect_timeout` and speak https as `tls` says.
    pub fn new(connect_timeout: Duration, tls: Arc<ClientConfig>) -> Self {
        Self { connect_timeout, tls }
    }

    /// Makes a client for one thread; its connections are not shared with other clients.
    pub fn client(&self) -> Client {
        let connector = Connector::new()
            .connector(EngineConnector::new())
            .timeout(self.connect_timeout)
            .handshake_timeout(self.connect_timeout)
            .rustls_0_23(Arc::clone(&self.tls))
            .limit(0)
            .conn_keep_alive(KEEP_ALIVE)
            .conn_lifetime(LIFETIME);
        Client::builder().connector(connector).disable_timeout().disable_redirects().no_default_headers().finish()
    }
}
