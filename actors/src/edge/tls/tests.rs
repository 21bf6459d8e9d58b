//! Handshakes in memory, between what listeners serve and what clients and the router itself connect with.

use std::io::Cursor;
use std::sync::Arc;

use kthena_router::certificate::{Authorities, Certificate};
use kthena_router::gateway::tls::{ClientValidation, ListenerTls, SubjectAltName, Trust, UpstreamTls};
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P384_SHA384, SanType, SignatureAlgorithm,
};
use rustls::pki_types::ServerName;
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, ClientConnection, HandshakeKind, ServerConfig, ServerConnection, SignatureScheme};

use super::*;

/// An authority; all have the same subject.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.serial_number = Some(1.into());
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    pub(crate) fn trusted(&self) -> Arc<Authorities> {
        Arc::new(Authorities::from_pem(self.pem.as_bytes()).unwrap())
    }

    /// Signs a certificate for these names: hosts, or URIs.
    pub(crate) fn certify(&self, names: &[&str]) -> Arc<Certificate> {
        self.certify_with(names, &rcgen::PKCS_ECDSA_P256_SHA256)
    }

    fn certify_with(&self, names: &[&str], algorithm: &'static SignatureAlgorithm) -> Arc<Certificate> {
        let mut params = CertificateParams::default();
        params.subject_alt_names = names
            .iter()
            .map(|name| {
                let text = Ia5String::try_from(*name).unwrap();
                if name.contains(':') { SanType::URI(text) } else { SanType::DnsName(text) }
            })
            .collect();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate_for(algorithm).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Arc::new(Certificate::from_pem(certificate.pem().as_bytes(), key.serialize_pem().as_bytes()).unwrap())
    }
}

pub(crate) fn serving(certificates: &[&Arc<Certificate>], validation: Option<ClientValidation>) -> Arc<ListenerTls> {
    Arc::new(ListenerTls {
        certificates: certificates.iter().map(|&certificate| Arc::clone(certificate)).collect(),
        validation,
    })
}

/// Returns the configuration of a client that trusts every server, and shows this certificate.
pub(crate) fn credulous(shown: Option<&Arc<Certificate>>) -> ClientConfig {
    let mut config = ClientConfig::clone(&client(None).unwrap());
    if let Some(shown) = shown {
        config.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(Arc::clone(shown.certified_key())));
    }
    config
}

/// Shakes hands in memory, and returns both ends when both are content.
fn shake(
    client: &Arc<ClientConfig>,
    name: &str,
    server: &Arc<ServerConfig>,
) -> Result<(ClientConnection, ServerConnection), rustls::Error> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = ClientConnection::new(Arc::clone(client), name)?;
    let mut server = ServerConnection::new(Arc::clone(server))?;
    loop {
        let mut sent = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut sent).unwrap();
        }
        server.read_tls(&mut Cursor::new(&sent)).unwrap();
        server.process_new_packets()?;
        let mut answered = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut answered).unwrap();
        }
        client.read_tls(&mut Cursor::new(&answered)).unwrap();
        client.process_new_packets()?;
        if sent.is_empty() && answered.is_empty() {
            return Ok((client, server));
        }
    }
}

fn shown_to(client: &ClientConnection) -> Vec<u8> {
    client.peer_certificates().unwrap()[0].to_vec()
}

fn leaf(certificate: &Certificate) -> Vec<u8> {
    certificate.certified_key().cert[0].to_vec()
}

#[test]
fn the_certificate_is_served_that_has_the_name_or_else_the_first_that_can_be_verified() {
    let authority = Authority::new();
    let anything = authority.certify_with(&["*"], &PKCS_ECDSA_P384_SHA384);
    let (exact, wildcard) = (authority.certify(&["a.org", "b.org"]), authority.certify(&["*.example.com"]));
    let server = listener_config(&serving(&[&anything, &exact, &wildcard], None)).unwrap();
    let client = Arc::new(credulous(None));
    let mut p256 = credulous(None);
    let mut provider = rustls::crypto::CryptoProvider::clone(client.crypto_provider());
    let known = &mut provider.signature_verification_algorithms.mapping;
    let only = known.iter().position(|(scheme, _)| *scheme == SignatureScheme::ECDSA_NISTP256_SHA256).unwrap();
    *known = &known[only..=only];
    p256.dangerous().set_certificate_verifier(Arc::new(AnyCertificate(Arc::new(provider))));
    let p256 = Arc::new(p256);
    for (case, client, name, expected) in [
        ("a name", &client, "b.org", &exact),
        ("a wildcard", &client, "x.example.com", &wildcard),
        ("a wildcard stands for one label", &client, "x.y.example.com", &anything),
        ("a name of no certificate", &client, "other.org", &anything),
        ("no name", &client, "127.0.0.1", &anything),
        ("the first one's curve is unknown", &p256, "other.org", &exact),
    ] {
        let (client, _) = shake(client, name, &server).unwrap_or_else(|error| panic!("{case}: {error}"));
        assert_eq!(shown_to(&client), leaf(expected), "{case}");
        assert_eq!(client.alpn_protocol(), None, "{case}");
    }
}

#[test]
fn http2_is_preferred_and_http1_spoken_with_those_who_know_no_other() {
    let server = listener_config(&serving(&[&Authority::new().certify(&["a.org"])], None)).unwrap();
    for (offered, expected) in
        [(&["http/1.1", "h2"][..], Some(&b"h2"[..])), (&["http/1.1"], Some(b"http/1.1")), (&[], None)]
    {
        let mut config = credulous(None);
        config.alpn_protocols = offered.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        let (client, _) = shake(&Arc::new(config), "a.org", &server).unwrap();
        assert_eq!(client.alpn_protocol(), expected, "{offered:?}");
    }
}

#[test]
fn certificates_of_clients_are_required_or_merely_asked_for() {
    let (trusted, foreign, served) = (Authority::new(), Authority::new(), Authority::new());
    let (good, bad, server) = (trusted.certify(&[]), foreign.certify(&[]), served.certify(&["a.org"]));
    // Authorities of the same subject stand beside each other, the wrong one first.
    let authorities = Arc::new(Authorities::join([&*served.trusted(), &*trusted.trusted()]));
    for (required, case, shown, accepted) in [
        (true, "the authority's", Some(&good), true),
        (true, "another authority's", Some(&bad), false),
        (true, "none", None, false),
        (false, "the authority's", Some(&good), true),
        (false, "another authority's", Some(&bad), true),
        (false, "none", None, true),
    ] {
        let validation = ClientValidation { authorities: Arc::clone(&authorities), required };
        let config = listener_config(&serving(&[&server], Some(validation))).unwrap();
        let client = Arc::new(credulous(shown));
        for attempt in ["first", "second"] {
            let outcome = shake(&client, "a.org", &config);
            assert_eq!(outcome.is_ok(), accepted, "{case}, required: {required}, {attempt}: {:?}", outcome.err());
            if let Ok((client, server)) = outcome {
                assert_eq!(server.peer_certificates().is_some(), shown.is_some(), "{case}: a certificate is asked for");
                let kind = client.handshake_kind();
                assert_ne!(kind, Some(HandshakeKind::Resumed), "{case}: a client is validated each time");
            }
        }
    }
}

#[test]
fn sessions_are_resumed_with_the_listener_that_they_began_with() {
    let certificate = Authority::new().certify(&["a.org"]);
    let configs = [(); 2].map(|()| listener_config(&serving(&[&certificate], None)).unwrap());
    let client = Arc::new(credulous(None));
    let resumed = |config| shake(&client, "a.org", config).unwrap().0.handshake_kind() == Some(HandshakeKind::Resumed);
    assert!(!resumed(&configs[0]), "there is no session yet");
    assert!(resumed(&configs[0]), "the session is known");
    assert!(!resumed(&configs[1]), "the session is another listener's");
}

#[test]
fn backends_are_accepted_by_their_authority_and_one_of_their_names() {
    let (trusted, foreign) = (Authority::new(), Authority::new());
    let names = ["abc.example.com", "spiffe://abc.example.com/test-identity", "*.wild.org"];
    let dns = |name: &str| SubjectAltName::Dns(name.to_owned());
    let uri = |name: &str| SubjectAltName::Uri(name.to_owned());
    let (right, wrong) = ("abc.example.com", "other.example.com");
    for (case, signer, server_name, wanted, accepted) in [
        ("the server name", &trusted, right, vec![], true),
        ("a server name by wildcard", &trusted, "a.wild.org", vec![], true),
        ("another server name", &trusted, wrong, vec![], false),
        ("another authority of the same subject", &foreign, right, vec![], false),
        ("a listed name", &trusted, wrong, vec![dns("x.org"), dns(right)], true),
        ("the server name is not listed", &trusted, right, vec![dns("x.org")], false),
        ("a listed URI", &trusted, wrong, vec![uri(names[1])], true),
        ("another URI", &trusted, right, vec![uri("spiffe://abc.example.com/other")], false),
        ("a URI in other case", &trusted, right, vec![uri("spiffe://ABC.example.com/test-identity")], false),
        ("a host as URI", &trusted, right, vec![uri(right)], false),
        ("a listed wildcard", &trusted, right, vec![dns("*.WILD.org")], true),
        ("a wildcard that is not the certificate's", &trusted, right, vec![dns("*.example.com")], false),
        ("a listed URI of another authority", &foreign, right, vec![uri(names[1])], false),
    ] {
        let server = listener_config(&serving(&[&signer.certify(&names)], None)).unwrap();
        let trust = Trust::Authorities(trusted.trusted());
        let tls = UpstreamTls { server_name: server_name.to_owned(), trust, names: wanted, client: None };
        let outcome = shake(&client_config(&tls).unwrap(), server_name, &server);
        assert_eq!(outcome.is_ok(), accepted, "{case}: {:?}", outcome.as_ref().err());
        if let Ok((client, server)) = outcome {
            assert_eq!(server.server_name(), Some(server_name), "{case}");
            assert_eq!(client.alpn_protocol(), Some(&b"h2"[..]), "{case}");
        }
    }
}

#[test]
fn backends_see_the_certificate_of_the_gateway() {
    let authority = Authority::new();
    let validation = ClientValidation { authorities: authority.trusted(), required: true };
    let server = listener_config(&serving(&[&authority.certify(&["b.org"])], Some(validation))).unwrap();
    let shown = authority.certify(&[]);
    let mut tls = UpstreamTls {
        server_name: "b.org".to_owned(),
        trust: Trust::Authorities(authority.trusted()),
        names: Vec::new(),
        client: None,
    };
    assert!(shake(&client_config(&tls).unwrap(), "b.org", &server).is_err(), "without a certificate");
    tls.client = Some(Arc::clone(&shown));
    let (_, server) = shake(&client_config(&tls).unwrap(), "b.org", &server).unwrap();
    assert_eq!(server.peer_certificates().unwrap()[0].to_vec(), leaf(&shown));
}

#[test]
fn names_that_are_none_are_told() {
    let tls = |server_name: &str, names| UpstreamTls {
        server_name: server_name.to_owned(),
        trust: Trust::Authorities(Authority::new().trusted()),
        names,
        client: None,
    };
    let told = |tls| client_config(&tls).unwrap_err().to_string();
    assert_eq!(told(tls("a b", vec![])), "`a b` is not the name of a host");
    assert_eq!(told(tls("a", vec![SubjectAltName::Dns("a/b".to_owned())])), "`a/b` is not the name of a host");
    assert_eq!(listener_config(&serving(&[], None)).unwrap_err().to_string(), "there is no certificate to serve");
}
