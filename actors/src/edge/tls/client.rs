//! What backends are reached with, and which of their certificates are accepted.
//!
//! Source: Gateway API, `BackendTLSPolicy.spec.validation`: the chain ends at one of the given authorities or of the
//! system's; the certificate has the policy's hostname, or one of its `subjectAltNames` if it lists any, in which case
//! the hostname is the server name of the handshake (RFC 6066) and no more.

use std::sync::Arc;

use kthena_router::gateway::tls::{SubjectAltName, Trust, UpstreamTls};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::SingleCertAndKey;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{TlsError, http_protocols, provider, roots};

/// Makes the configuration for connections to a backend; the server name to connect with is `tls.server_name`.
///
/// # Errors
///
/// Returns an error when a name or an authority cannot be used, or the system has no authorities.
pub fn client_config(tls: &UpstreamTls) -> Result<Arc<ClientConfig>, TlsError> {
    let provider = provider();
    let verifier = BackendVerifier {
        roots: match &tls.trust {
            Trust::System => system_roots()?,
            Trust::Authorities(authorities) => roots(authorities.certificates())?,
        },
        server_name: name(&tls.server_name)?,
        names: tls.names.iter().map(AcceptedName::read).collect::<Result<_, _>>()?,
        provider: Arc::clone(&provider),
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match &tls.client {
        None => builder.with_no_client_auth(),
        Some(client) => {
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(client.certified_key()))))
        }
    };
    config.alpn_protocols = http_protocols();
    Ok(Arc::new(config))
}

/// Reads the authorities of the system: `System` means what whoever runs the router trusts, which a list that is built
/// in cannot know.
fn system_roots() -> Result<RootCertStore, TlsError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (usable, _) = roots.add_parsable_certificates(found.certs);
    if usable == 0 { Err(TlsError::NoSystemAuthorities) } else { Ok(roots) }
}

fn name(host: &str) -> Result<ServerName<'static>, TlsError> {
    ServerName::try_from(host.to_owned()).map_err(|_| TlsError::Name(host.to_owned()))
}

/// Accepts the certificates of one backend.
#[derive(Debug)]
struct BackendVerifier {
    roots: RootCertStore,
    server_name: ServerName<'static>,
    /// The names of which a certificate must have one; if there are none, it must have the server name.
    names: Vec<AcceptedName>,
    provider: Arc<CryptoProvider>,
}

/// A name that makes a certificate acceptable.
#[derive(Debug)]
enum AcceptedName {
    Dns(ServerName<'static>),
    /// A wildcard, which is not a host: the certificate has it literally.
    Wildcard(String),
    Uri(String),
}

impl AcceptedName {
    fn read(wanted: &SubjectAltName) -> Result<Self, TlsError> {
        Ok(match wanted {
            SubjectAltName::Dns(host) if host.starts_with("*.") => Self::Wildcard(host.clone()),
            SubjectAltName::Dns(host) => Self::Dns(name(host)?),
            SubjectAltName::Uri(uri) => Self::Uri(uri.clone()),
        })
    }

    fn is_of(&self, parsed: &ParsedCertificate<'_>, der: &CertificateDer<'_>) -> bool {
        match self {
            Self::Dns(host) => verify_server_name(parsed, host).is_ok(),
            Self::Wildcard(wildcard) => {
                has_name(der, |name| matches!(name, GeneralName::DNSName(name) if name.eq_ignore_ascii_case(wildcard)))
            }
            Self::Uri(uri) => has_name(der, |name| matches!(name, GeneralName::URI(name) if name == uri)),
        }
    }
}

/// Returns whether one of a certificate's alternative names is wanted; a certificate that cannot be read has none.
fn has_name(der: &CertificateDer<'_>, is_wanted: impl Fn(&GeneralName<'_>) -> bool) -> bool {
    let Ok((_, certificate)) = X509Certificate::from_der(der) else { return false };
    let names = certificate.subject_alternative_name().ok().flatten();
    names.is_some_and(|names| names.value.general_names.iter().any(is_wanted))
}

impl ServerCertVerifier for BackendVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let parsed = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&parsed, &self.roots, intermediates, now, algorithms)?;
        if self.names.is_empty() {
            verify_server_name(&parsed, &self.server_name)?;
        } else if !self.names.iter().any(|name| name.is_of(&parsed, end_entity)) {
            return Err(CertificateError::NotValidForName.into());
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
