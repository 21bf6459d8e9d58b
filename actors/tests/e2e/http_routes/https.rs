//! HTTPS on both sides: certificates out of Secrets, server names and hosts, and TLS to backends.

use std::net::SocketAddr;
use std::sync::Arc;

use actix_web::rt;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::backends::BACKEND_PORT;
use super::scene::{Scene, answered, route_on, route_yaml, rule, scene, scene_of, service_yaml};

const TLS_PORT: u16 = 8443;

/// An authority that everyone in a test trusts.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// Returns a certificate for names, and its key, in PEM.
    fn issue(&self, names: &[&str]) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let names: Vec<_> = names.iter().map(ToString::to_string).collect();
        let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &self.0).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    fn pem(&self) -> String {
        self.0.pem()
    }

    /// Returns the YAML of a Secret with a certificate for names.
    fn secret(&self, name: &str, names: &[&str]) -> String {
        let (certificate, key) = self.issue(names);
        format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}}}\ntype: kubernetes.io/tls\nstringData:\n  \
             tls.crt: {certificate:?}\n  tls.key: {key:?}\n---\n"
        )
    }

    /// Returns what connects to a server whose certificate this authority has issued.
    fn connector(&self) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.pem().as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        TlsConnector::from(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
    }
}

/// Returns the YAML of a Gateway with HTTPS listeners on one port, each with a hostname and a Secret.
fn https_gateway(listeners: &[(Option<&str>, &str)]) -> String {
    let listeners = listeners.iter().enumerate().map(|(index, (hostname, secret))| {
        let hostname = hostname.map(|hostname| format!(", hostname: '{hostname}'")).unwrap_or_default();
        format!(
            "    - {{name: l{index}, port: {TLS_PORT}, protocol: HTTPS{hostname}, \
             tls: {{certificateRefs: [{{name: {secret}}}]}}}}\n"
        )
    });
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: gateway}}\nspec:\n  \
         gatewayClassName: kthena-router\n  listeners:\n{}---\n",
        listeners.collect::<String>()
    )
}

/// Sends a request for a host over a connection for a server name; returns the whole answer, or why there is none.
async fn ask(scene: &Scene, authority: &Authority, server_name: &str, host: &str) -> Result<String, String> {
    let address = SocketAddr::new(scene.harness.host(1), TLS_PORT);
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from(server_name.to_owned()).unwrap();
    let mut stream = authority.connector().connect(name, stream).await.map_err(|error| error.to_string())?;
    let request = format!("GET / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.map_err(|error| error.to_string())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.map_err(|error| error.to_string())?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// Returns which backend an answer is from, or its status.
fn served(answer: &str) -> String {
    let name = |name: &&str| answer.contains(&format!("\"backend\":\"{name}\""));
    let backend = ["v1", "v2", "v3"].into_iter().find(name);
    backend.or_else(|| answer.split(' ').nth(1)).unwrap_or("no answer").to_owned()
}

#[actix_web::test]
async fn a_host_of_another_listener_than_the_server_name_is_misdirected() {
    let authority = Authority::new();
    let names = ["example.org", "second-example.org", "unknown-example.org", "*.wildcard.org"];
    let hostnames = [None, Some("second-example.org"), Some("*.wildcard.org"), Some("fourth-example.wildcard.org")];
    let gateway = https_gateway(&hostnames.map(|hostname| (hostname, "certificate")));
    let on = |section: &str, hosts: &str, backend: &str| {
        route_on(section, &format!("{{name: gateway, sectionName: {section}}}"), hosts, &rule(&[], backend))
    };
    let routes =
        on("l0", "[example.org]", "v1") + &on("l1", "[]", "v2") + &on("l2", "[]", "v3") + &on("l3", "[]", "v1");
    let scene = scene_of(&(authority.secret("certificate", &names) + &gateway + &routes)).await;
    for (server_name, host, expected) in [
        ("example.org", "example.org", "v1"),
        ("example.org", "second-example.org", "421"),
        ("example.org", "unknown-example.org", "404"),
        ("second-example.org", "second-example.org", "v2"),
        ("second-example.org", "example.org", "421"),
        ("second-example.org", "unknown-example.org", "421"),
        ("third-example.wildcard.org", "third-example.wildcard.org", "v3"),
        ("third-example.wildcard.org", "fifth-example.wildcard.org", "v3"),
        ("third-example.wildcard.org", "fourth-example.wildcard.org", "421"),
        ("third-example.wildcard.org", "second-example.org", "421"),
        ("third-example.wildcard.org", "unknown-example.org", "421"),
        ("fourth-example.wildcard.org", "fourth-example.wildcard.org", "v1"),
        ("fourth-example.wildcard.org", "fifth-example.wildcard.org", "421"),
        ("unknown-example.org", "example.org", "v1"),
        ("unknown-example.org", "unknown-example.org", "404"),
    ] {
        let answer = ask(&scene, &authority, server_name, host).await.unwrap();
        assert_eq!(served(&answer), expected, "A.11: server name {server_name}, host {host}");
    }
}

#[actix_web::test]
async fn a_changed_secret_is_served_from_the_next_handshake_on() {
    let (first, second) = (Authority::new(), Authority::new());
    let gateway = https_gateway(&[(None, "certificate")]);
    let scene = scene_of(&(gateway + &route_yaml("r", &rule(&[], "v1")))).await;
    // Without its certificate the listener is not served at all, and the others of the router go on.
    scene.harness.write("secret.yaml", &first.secret("certificate", &["example.org"]));
    let serves = async |authority: &Authority| match TcpStream::connect((scene.harness.host(1), TLS_PORT)).await {
        Ok(_) => ask(&scene, authority, "example.org", "example.org").await.is_ok_and(|answer| served(&answer) == "v1"),
        Err(_) => false,
    };
    scene.harness.until("the first certificate is served", async || serves(&first).await).await;
    scene.harness.write("secret.yaml", &second.secret("certificate", &["example.org"]));
    scene.harness.until("the second certificate is served", async || serves(&second).await).await;
    assert!(!serves(&first).await, "the first certificate is still served");
}

/// Serves one name over TLS, and answers each connection's request with 200.
async fn tls_backend(address: SocketAddr, (certificate, key): (String, String)) {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_no_client_auth().with_single_cert(chain, key).unwrap();
    let (acceptor, listener) = (TlsAcceptor::from(Arc::new(config)), TcpListener::bind(address).await.unwrap());
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let acceptor = acceptor.clone();
        rt::spawn(async move {
            let Ok(mut stream) = acceptor.accept(stream).await else { return };
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                if stream.read_exact(&mut byte).await.is_err() {
                    return;
                }
                request.push(byte[0]);
            }
            let name = stream.get_ref().1.server_name().unwrap_or_default().to_owned();
            let body = format!("{{\"backend\":\"{name}\"}}");
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
            drop(stream.write_all((head + &body).as_bytes()).await);
            drop(stream.shutdown().await);
        });
    }
}

#[actix_web::test]
async fn a_backend_under_a_policy_is_verified_or_not_used() {
    let (authority, other) = (Authority::new(), Authority::new());
    let bundle = |name: &str, authority: &Authority| {
        let pem = authority.pem();
        format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata: {{ca.crt: {pem:?}}}\n---\n")
    };
    let policy = |validation: &str| {
        format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: BackendTLSPolicy\nmetadata: {{name: p}}\nspec:\n  \
             targetRefs: [{{group: '', kind: Service, name: secure}}]\n  validation: {{{validation}}}\n---\n"
        )
    };
    let trusted = "caCertificateRefs: [{group: '', kind: ConfigMap, name: trusted}]";
    let scene =
        scene(&(route_yaml("r", &rule(&[], "secure")) + &bundle("trusted", &authority) + &bundle("other", &other)))
            .await;
    let address = scene.harness.host(20);
    let certificate = authority.issue(&["abc.example.com", "other.example.com"]);
    rt::spawn(tls_backend(SocketAddr::new(address, BACKEND_PORT), certificate));
    let service = service_yaml("secure", &[address], "");
    for (case, validation, expected) in [
        ("the right name", format!("hostname: abc.example.com, {trusted}"), "abc.example.com"),
        ("a name that the certificate lacks", format!("hostname: wrong.example.com, {trusted}"), "503"),
        (
            "another authority",
            "hostname: abc.example.com, caCertificateRefs: [{group: '', kind: ConfigMap, name: other}]".to_owned(),
            "503",
        ),
        (
            "an authority that does not exist",
            "hostname: abc.example.com, caCertificateRefs: [{group: '', kind: ConfigMap, name: missing}]".to_owned(),
            "503",
        ),
        (
            "an alternative name, so that the hostname is only the server name",
            format!(
                "hostname: any.example.com, {trusted}, subjectAltNames: [{{type: Hostname, hostname: other.example.com}}]"
            ),
            "any.example.com",
        ),
    ] {
        scene.harness.write("secure.yaml", &(service.clone() + &policy(&validation)));
        let answers = async || answered(&scene.ask("GET a/", &[]).await);
        scene.harness.until(&format!("{case} leads to {expected}"), async || answers().await == expected).await;
    }
}
