//! Connections with TLS, whose sessions hold what their sockets do not take.

use std::rc::Rc;
use std::sync::{Arc, LazyLock};

use kthena_router_downstream::{ChooseTls, Chosen, TlsIdentity};
use rcgen::CertifiedKey;
use rustls::crypto::ring;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::DuplexStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// What both ends do their handshake with, the same in all rounds.
static CONFIGS: LazyLock<(Arc<ServerConfig>, Arc<ClientConfig>)> = LazyLock::new(|| {
    let CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["a.org".to_owned()]).expect("a certificate can be made");
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).expect("it is one");
    let key = PrivateKeyDer::Pkcs8(signing_key.serialize_der().into());
    let server = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("there are some")
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .expect("the key is that of the certificate");
    let client = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("there are some")
        .with_root_certificates(roots)
        .with_no_client_auth();
    (Arc::new(server), Arc::new(client))
});

struct Always;

impl ChooseTls for Always {
    fn choose(&self, _: Option<&str>) -> Option<Chosen> {
        Some(Chosen { config: Arc::clone(&CONFIGS.0), identity: TlsIdentity(1) })
    }
}

/// Returns what a server does handshakes with.
pub(crate) fn server() -> Rc<dyn ChooseTls> {
    Rc::new(Always)
}

/// Does a handshake as the client; `None` if the server did not want to.
pub(crate) async fn connect(pipe: DuplexStream) -> Option<TlsStream<DuplexStream>> {
    let name = ServerName::try_from("a.org").expect("it is a name");
    TlsConnector::from(Arc::clone(&CONFIGS.1)).connect(name, pipe).await.ok()
}
