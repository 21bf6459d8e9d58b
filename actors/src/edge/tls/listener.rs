//! What a listener serves TLS with: which of its certificates, and what it asks of clients' certificates.
//!
//! Source: Gateway API, `Listener.tls.certificateRefs`: the certificate whose names cover the server name of the
//! client; whether the listener serves the name at all was decided before, by its hostname, so that a certificate
//! without a fitting name is served as well. `FrontendTLSValidation.mode`: with `AllowInsecureFallback`, clients are
//! asked for a certificate, and none or any is accepted.

use std::sync::Arc;

use kthena_router::certificate::Certificate;
use kthena_router::gateway::tls::{ClientValidation, ListenerTls};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{
    ClientHello, NoServerSessionStorage, ParsedCertificate, ResolvesServerCert, ServerSessionMemoryCache,
    WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::{DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig, SignatureScheme};

use super::{TlsError, http_protocols, provider, roots};

/// Sessions of a listener that can be resumed.
const SESSIONS: usize = 1024;

/// Makes the configuration of a listener.
///
/// # Errors
///
/// Returns an error when there is no certificate, or the authorities for clients cannot be used.
pub fn listener_config(tls: &ListenerTls) -> Result<Arc<ServerConfig>, TlsError> {
    if tls.certificates.is_empty() {
        return Err(TlsError::NothingToServe);
    }
    let provider = provider();
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
    let builder = match &tls.validation {
        None => builder.with_no_client_auth(),
        Some(validation) => builder.with_client_cert_verifier(client_verifier(validation, provider)?),
    };
    let mut config = builder.with_cert_resolver(Arc::new(Certificates(tls.certificates.clone())));
    config.alpn_protocols = http_protocols();
    if tls.validation.is_some() {
        // A resumed session is not validated anew: it would outlive the client's certificate.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    } else {
        // Each listener has its own sessions: one that began with another is not taken up.
        config.session_storage = ServerSessionMemoryCache::new(SESSIONS);
    }
    Ok(Arc::new(config))
}

fn client_verifier(
    validation: &ClientValidation,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    if !validation.required {
        return Ok(Arc::new(AnyClient(provider)));
    }
    let roots: RootCertStore = roots(validation.authorities.certificates())?;
    Ok(WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build()?)
}

/// Chooses among the certificates of a listener.
#[derive(Debug)]
struct Certificates(Vec<Arc<Certificate>>);

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let keys = || self.0.iter().map(|certificate| certificate.certified_key());
        let mut usable = keys().filter(|key| key.key.choose_scheme(hello.signature_schemes()).is_some());
        let first = usable.next()?;
        let named = |name: &ServerName<'_>| {
            covers(first, name).then_some(first).or_else(|| usable.find(|key| covers(key, name)))
        };
        // The names of an only certificate make no difference.
        let name = if self.0.len() > 1 { hello.server_name() } else { None };
        let name = name.and_then(|name| ServerName::try_from(name).ok());
        Some(Arc::clone(name.as_ref().and_then(named).unwrap_or(first)))
    }
}

/// Returns whether a certificate has a name.
fn covers(key: &CertifiedKey, name: &ServerName<'_>) -> bool {
    let certificate = key.end_entity_cert().and_then(ParsedCertificate::try_from);
    certificate.is_ok_and(|certificate| rustls::client::verify_server_name(&certificate, name).is_ok())
}

/// Asks clients for a certificate, and accepts none or any: nobody is taken for the one that it names, so that not even
/// the signature with its key is looked at, of which certificates of unknown kinds would fail.
#[derive(Debug)]
struct AnyClient(Arc<CryptoProvider>);

impl ClientCertVerifier for AnyClient {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
