//! Certificates out of Secrets and ConfigMaps: which of them can be used, and why not the others.
//!
//! Source: Kubernetes, Secrets of the type `kubernetes.io/tls`, and the Gateway API's `certificateRefs` and
//! `caCertificateRefs`: what cannot be parsed is an invalid reference, as if the object did not exist.

use std::fmt;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use thiserror::Error;

/// A certificate with its chain and its key, ready to be served or shown.
#[derive(Clone)]
pub struct Certificate {
    key: Arc<CertifiedKey>,
}

/// The certificates of the authorities that someone trusts.
#[derive(Clone, PartialEq, Eq)]
pub struct Authorities {
    certificates: Vec<CertificateDer<'static>>,
}

/// Why a certificate or a bundle of authorities cannot be used.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum CertificateFault {
    /// The object lacks a key of its data.
    #[error("`{0}` is missing")]
    Missing(&'static str),
    /// The text has no certificate.
    #[error("there is no certificate in PEM form in it")]
    Empty,
    /// The certificates cannot be read.
    #[error("its certificate cannot be read: {0}")]
    Certificate(String),
    /// The private key cannot be read.
    #[error("its private key cannot be read: {0}")]
    PrivateKey(String),
    /// The private key is of another certificate.
    #[error("its private key is not that of its certificate")]
    Mismatch,
}

impl Certificate {
    /// Reads a certificate with its chain, the leaf first, and its private key: PKCS#1, PKCS#8 or SEC1.
    ///
    /// # Errors
    ///
    /// Returns an error when either cannot be read, or they do not belong together.
    pub fn from_pem(certificate: &[u8], key: &[u8]) -> Result<Self, CertificateFault> {
        let chain = read_certificates(certificate)?;
        let unreadable = |error: &dyn fmt::Display| CertificateFault::PrivateKey(error.to_string());
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| unreadable(&error))?;
        let key = any_supported_type(&key).map_err(|error| unreadable(&error))?;
        let key = CertifiedKey::new(chain, key);
        match key.keys_match() {
            Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {
                Ok(Self { key: Arc::new(key) })
            }
            Err(rustls::Error::InconsistentKeys(_)) => Err(CertificateFault::Mismatch),
            Err(error) => Err(CertificateFault::Certificate(error.to_string())),
        }
    }

    /// Returns the chain and the key in the form that TLS connections use.
    pub fn certified_key(&self) -> &Arc<CertifiedKey> {
        &self.key
    }
}

impl Authorities {
    /// Reads a bundle of one or more certificates.
    ///
    /// # Errors
    ///
    /// Returns an error when there is none, or one of them cannot be read.
    pub fn from_pem(bundle: &[u8]) -> Result<Self, CertificateFault> {
        let certificates = read_certificates(bundle)?;
        let mut store = RootCertStore::empty();
        for certificate in &certificates {
            store.add(certificate.clone()).map_err(|error| CertificateFault::Certificate(error.to_string()))?;
        }
        Ok(Self { certificates })
    }

    /// Joins several bundles, in their order and each certificate once.
    pub fn join<'b>(bundles: impl IntoIterator<Item = &'b Self>) -> Self {
        let mut certificates: Vec<CertificateDer<'static>> = Vec::new();
        for certificate in bundles.into_iter().flat_map(|bundle| &bundle.certificates) {
            if !certificates.contains(certificate) {
                certificates.push(certificate.clone());
            }
        }
        Self { certificates }
    }

    /// Returns the certificates, in DER form.
    pub fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.certificates
    }
}

/// Keys belong to their certificates, so that equal chains mean equal keys.
impl PartialEq for Certificate {
    fn eq(&self, other: &Self) -> bool {
        self.key.cert == other.key.cert
    }
}

impl Eq for Certificate {}

impl fmt::Debug for Certificate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Certificate").field("chain", &self.key.cert.len()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Authorities {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Authorities").field("certificates", &self.certificates.len()).finish()
    }
}

fn read_certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, CertificateFault> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let certificates = certificates.map_err(|error| CertificateFault::Certificate(error.to_string()))?;
    if certificates.is_empty() { Err(CertificateFault::Empty) } else { Ok(certificates) }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, IsCa, KeyPair};

    use super::*;

    fn signed(names: &[&str]) -> (String, String) {
        let key = KeyPair::generate().expect("a key is generated");
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let certificate = CertificateParams::new(names).and_then(|params| params.self_signed(&key));
        (certificate.expect("a certificate is signed").pem(), key.serialize_pem())
    }

    #[test]
    fn a_certificate_is_read_with_any_name_and_its_own_key_only() {
        let (certificate, key) = signed(&["*"]);
        let (_, foreign) = signed(&["*"]);
        let broken = certificate.replace("MII", "AAA");
        let is_certificate = |fault: &CertificateFault| matches!(fault, CertificateFault::Certificate(_));
        let is_key = |fault: &CertificateFault| matches!(fault, CertificateFault::PrivateKey(_));
        let certified = |certificate: &str, key: &str| Certificate::from_pem(certificate.as_bytes(), key.as_bytes());
        assert!(certified(&certificate, &key).is_ok());
        assert_eq!(certified(&certificate, &foreign).unwrap_err(), CertificateFault::Mismatch);
        assert_eq!(certified("Hello world", &key).unwrap_err(), CertificateFault::Empty);
        assert!(is_certificate(&certified(&broken, &key).unwrap_err()), "a certificate that is none");
        assert!(is_key(&certified(&certificate, "Hello world").unwrap_err()), "a text without a key");
        assert!(is_key(&certified(&certificate, &certificate).unwrap_err()), "a certificate in the key's place");
    }

    #[test]
    fn certificates_are_compared_by_content_and_never_show_their_key() {
        let (certificate, key) = signed(&["a.org"]);
        let (other, other_key) = signed(&["a.org"]);
        let certified = |certificate: &str, key: &str| {
            Certificate::from_pem(certificate.as_bytes(), key.as_bytes()).expect("they belong together")
        };
        assert_eq!(certified(&certificate, &key), certified(&certificate, &key));
        assert_ne!(certified(&certificate, &key), certified(&other, &other_key));
        assert_eq!(format!("{:?}", certified(&certificate, &key)), "Certificate { chain: 1, .. }");
    }

    #[test]
    fn keys_are_read_in_the_forms_that_tools_write() {
        for (form, certificate, key) in [
            ("PKCS#1", include_str!("certificate/rsa.crt"), include_str!("certificate/rsa.pkcs1.key")),
            ("SEC1", include_str!("certificate/ec.crt"), include_str!("certificate/ec.sec1.key")),
        ] {
            let read = Certificate::from_pem(certificate.as_bytes(), key.as_bytes());
            assert!(read.is_ok(), "{form}: {read:?}");
        }
    }

    #[test]
    fn authorities_are_read_as_a_whole_or_not_at_all() {
        let authority = || {
            let mut params = CertificateParams::new(Vec::new()).expect("no names are needed");
            params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
            let key = KeyPair::generate().expect("a key is generated");
            params.self_signed(&key).expect("an authority is signed").pem()
        };
        let (first, second) = (authority(), authority());
        let read = |bundle: &str| Authorities::from_pem(bundle.as_bytes());
        assert_eq!(read(&(first.clone() + &second)).map(|all| all.certificates().len()), Ok(2));
        assert_eq!(read("").unwrap_err(), CertificateFault::Empty);
        assert_eq!(read("invalid").unwrap_err(), CertificateFault::Empty);
        let half = first.clone() + &second.replace("MII", "AAA");
        assert!(matches!(read(&half).unwrap_err(), CertificateFault::Certificate(_)));
        let (one, both) = (read(&first).expect("it is read"), read(&(first + &second)).expect("they are read"));
        assert_eq!(Authorities::join([&one, &both]), both);
    }
}
