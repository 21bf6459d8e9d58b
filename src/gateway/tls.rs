//! How TLS is spoken, as the parts that hold connections need it: with clients and with backends.
//!
//! Source: Gateway API, `ListenerTLSConfig`, `FrontendTLSConfig` and `BackendTLSPolicy`.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::certificate::{Authorities, Certificate};
use super::hostname::Hostname;
use crate::object::Bind;

/// How TLS is spoken with clients, for each bind that speaks it and each hostname there.
pub type TlsPlan = BTreeMap<Bind, Vec<(Hostname, Arc<ListenerTls>)>>;

/// How a listener speaks TLS with clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerTls {
    /// The certificates that are offered, at least one, the preferred one first.
    pub certificates: Vec<Arc<Certificate>>,
    /// How certificates of clients are validated; clients are asked for none if absent.
    pub validation: Option<ClientValidation>,
}

/// How certificates of clients are validated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientValidation {
    /// The authorities that may have signed them.
    pub authorities: Arc<Authorities>,
    /// Whether a valid one is required; else clients are asked, and let in whatever they show.
    pub required: bool,
}

/// How TLS is spoken with the endpoints of a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamTls {
    /// The name that the endpoint is addressed by.
    pub server_name: String,
    /// Who may have signed its certificate.
    pub trust: Trust,
    /// Names of which the certificate must have at least one; if empty it must be for `server_name`.
    pub names: Vec<SubjectAltName>,
    /// The certificate that the endpoint is shown if it asks for one.
    pub client: Option<Arc<Certificate>>,
}

/// Who may have signed a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// The authorities that the operating system trusts.
    System,
    /// These authorities.
    Authorities(Arc<Authorities>),
    /// Nobody: the policy is invalid, and no connection may be made.
    Nobody,
}

/// A name in a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubjectAltName {
    /// A host name; a leading `*.` stands for any one label.
    Dns(String),
    /// A URI.
    Uri(String),
}
