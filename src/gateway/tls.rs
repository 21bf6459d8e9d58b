//! TLS settings: of listeners, and of connections to backends.
//!
//! Source: Gateway API, `Listener.tls`, `Gateway.spec.tls.frontend` (validation of client certificates) and
//! `BackendTLSPolicy`: a policy's `hostname` is the server name, and what a backend's certificate has to name unless
//! the policy lists other names.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::certificate::{Authorities, Certificate};
use crate::hostname::Hostname;
use crate::object::Bind;

/// The TLS settings of each bind that has TLS listeners, by hostname.
pub type TlsPlan = BTreeMap<Bind, Vec<(Hostname, Arc<ListenerTls>)>>;

/// The TLS settings of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerTls {
    /// The certificates; of those whose names fit a client, the first one is served.
    pub certificates: Vec<Arc<Certificate>>,
    /// How certificates of clients are validated; without it, clients are not asked for one.
    pub validation: Option<ClientValidation>,
}

/// How certificates of clients are validated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientValidation {
    /// Who signs the certificates of clients.
    pub authorities: Arc<Authorities>,
    /// Whether a valid certificate is required; otherwise one is asked for, and none or any is accepted.
    pub required: bool,
}

/// The TLS settings of connections to a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamTls {
    /// The server name that is asked for.
    pub server_name: String,
    /// Who signs the backend's certificate.
    pub trust: Trust,
    /// The backend's certificate must have one of these names; if there are none, it must have the server name.
    pub names: Vec<SubjectAltName>,
    /// The certificate that is shown to the backend.
    pub client: Option<Arc<Certificate>>,
}

/// Who signs the certificates of backends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// The authorities that the system trusts.
    System,
    /// These authorities; without any, no connection can be made.
    Authorities(Arc<Authorities>),
}

/// A name of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubjectAltName {
    /// A host; with `*.` in front, exactly that wildcard.
    Dns(String),
    /// A URI, compared byte by byte.
    Uri(String),
}
