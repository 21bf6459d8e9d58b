//! TLS to backends.

use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;

/// How TLS is spoken to a backend. Equal are only clones of one `Arc`: connections that were verified in different ways
/// are not exchanged for each other.
#[derive(Debug)]
pub struct ClientTls {
    config: Arc<ClientConfig>,
    /// The name to ask for; `None` asks for the endpoint's address.
    server_name: Option<ServerName<'static>>,
}

impl ClientTls {
    /// Makes TLS that asks an endpoint for the certificate of its address.
    pub fn of_address(config: Arc<ClientConfig>) -> Self {
        Self { config, server_name: None }
    }

    /// Makes TLS that asks for the certificate of a name.
    pub fn of_name(config: Arc<ClientConfig>, name: ServerName<'static>) -> Self {
        Self { config, server_name: Some(name) }
    }

    pub(super) fn config(&self) -> &Arc<ClientConfig> {
        &self.config
    }

    pub(super) fn server_name(&self, address: IpAddr) -> ServerName<'static> {
        self.server_name.clone().unwrap_or_else(|| ServerName::IpAddress(address.into()))
    }
}

impl PartialEq for ClientTls {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

impl Eq for ClientTls {}

impl Hash for ClientTls {
    fn hash<H: Hasher>(&self, state: &mut H) {
        std::ptr::from_ref(self).hash(state);
    }
}
