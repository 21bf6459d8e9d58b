//! Which requests are refused because their parts contradict each other, beyond what the HTTP server refuses itself.
//!
//! Source: RFC 9112, sections 3.2 (targets and `Host`) and 6.3 (the length of a body); RFC 9113, section 8.3.1 (`Host`
//! beside `:authority`); RFC 6455, section 4.2.1 (a WebSocket begins with a GET without body). A message that an engine
//! may read differently than the router did can carry a second request past the router's rules.

use actix_http::{HttpMessage, Request};
use actix_web::http::header::{self, HeaderMap};
use actix_web::http::uri::Authority;
use actix_web::http::{Method, Version};
use thiserror::Error;

/// Fields that a request may have, in every version of HTTP as many.
const MAX_FIELDS: usize = 96;

/// Why a request is refused.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Malformed {
    /// The target is neither a path nor a whole URI.
    #[error("the request target is neither a path nor an absolute URI")]
    Target,
    /// The router makes no tunnels to where a client says.
    #[error("the method `CONNECT` is not served")]
    Connect,
    /// The host is missing, or there are several.
    #[error("the request must name exactly one host")]
    HostCount,
    /// The host is not a name or address with or without a port.
    #[error("the host of the request is not a host")]
    Host,
    /// HTTP/2 names the host twice, and not the same.
    #[error("`host` differs from `:authority`")]
    HostDiffers,
    /// Where the request ends cannot be told.
    #[error("a change to WebSocket must be a `GET` without body, with `connection: upgrade`")]
    Upgrade,
    /// There are too many fields.
    #[error("the request has more than {MAX_FIELDS} header fields")]
    TooManyFields,
}

/// Checks that a request can be understood in one way only.
pub(super) fn check(request: &Request) -> Result<(), Malformed> {
    let (headers, uri) = (request.headers(), request.uri());
    if request.method() == Method::CONNECT {
        return Err(Malformed::Connect);
    }
    if uri.authority().is_some() && uri.scheme().is_none() {
        return Err(Malformed::Target);
    }
    if headers.len() > MAX_FIELDS {
        return Err(Malformed::TooManyFields);
    }
    check_host(request)?;
    // The server takes all that follows such a head for the tunnel.
    if request.head().version < Version::HTTP_2 && has_token(headers, &header::UPGRADE, "websocket") {
        let asks = request.method() == Method::GET && has_token(headers, &header::CONNECTION, "upgrade");
        if !asks || headers.contains_key(header::TRANSFER_ENCODING) || has_body(headers) {
            return Err(Malformed::Upgrade);
        }
    }
    Ok(())
}

/// Checks what names the host: an absolute target wins over `Host` in HTTP/1.1, and in HTTP/2 they agree.
fn check_host(request: &Request) -> Result<(), Malformed> {
    let is_http2 = request.head().version == Version::HTTP_2;
    let mut hosts = request.headers().get_all(header::HOST);
    let (host, second) = (hosts.next(), hosts.next());
    let target = request.uri().authority();
    let is_nameless = is_http2 && host.is_none() && target.is_none();
    if second.is_some() || is_nameless {
        return Err(Malformed::HostCount);
    }
    if target.is_some_and(|target| target.as_str().contains('@')) {
        return Err(Malformed::Host);
    }
    let Some(host) = host else { return Ok(()) };
    let host = host.to_str().map_err(|_| Malformed::Host)?;
    if !host.is_empty() && (host.contains('@') || host.parse::<Authority>().is_err()) {
        return Err(Malformed::Host);
    }
    match target {
        Some(target) if is_http2 && !target.as_str().eq_ignore_ascii_case(host) => Err(Malformed::HostDiffers),
        _ => Ok(()),
    }
}

fn has_token(headers: &HeaderMap, name: &header::HeaderName, token: &str) -> bool {
    let values = headers.get_all(name).filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|found| found.trim().eq_ignore_ascii_case(token))
}

fn has_body(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_LENGTH).is_some_and(|length| length != "0")
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::{HeaderName, HeaderValue};

    use super::*;

    fn request(version: Version, method: &str, target: &str, headers: &[(&'static str, &'static str)]) -> Request {
        let mut request = Request::new();
        let head = request.head_mut();
        head.version = version;
        head.method = method.parse().unwrap();
        head.uri = target.parse().unwrap();
        for (name, value) in headers {
            head.headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        request
    }

    #[test]
    fn the_host_of_a_request_is_one_and_the_same() {
        let http1 = |target, headers| check(&request(Version::HTTP_11, "GET", target, headers));
        let http2 = |target, headers| check(&request(Version::HTTP_2, "GET", target, headers));
        for (case, found, expected) in [
            ("a name", http1("/", &[("host", "a.org")]), Ok(())),
            ("a name with a port", http1("/", &[("host", "a.org:80")]), Ok(())),
            ("an address", http1("/", &[("host", "[::1]:80")]), Ok(())),
            ("an empty host", http1("/", &[("host", "")]), Ok(())),
            ("HTTP/1.0 without host", check(&request(Version::HTTP_10, "GET", "/", &[])), Ok(())),
            ("an absolute target with another host", http1("http://a.org/", &[("host", "b.org")]), Ok(())),
            ("a target of the authority form", http1("a.org:80", &[("host", "b.org")]), Err(Malformed::Target)),
            ("a user in the host", http1("/", &[("host", "b.org@a.org")]), Err(Malformed::Host)),
            ("a user in the target", http1("http://u@a.org/", &[("host", "a.org")]), Err(Malformed::Host)),
            ("a path in the host", http1("/", &[("host", "a.org/b")]), Err(Malformed::Host)),
            ("a list of hosts", http1("/", &[("host", "a.org, b.org")]), Err(Malformed::Host)),
            ("two hosts", http1("/", &[("host", "a.org"), ("host", "a.org")]), Err(Malformed::HostCount)),
            ("an authority", http2("http://a.org/", &[]), Ok(())),
            ("a host in place of the authority", http2("/", &[("host", "a.org")]), Ok(())),
            ("the same host beside the authority", http2("http://a.org/", &[("host", "A.org")]), Ok(())),
            ("another host", http2("http://a.org/", &[("host", "b.org")]), Err(Malformed::HostDiffers)),
            ("another port", http2("http://a.org:81/", &[("host", "a.org")]), Err(Malformed::HostDiffers)),
            ("neither", http2("/", &[]), Err(Malformed::HostCount)),
        ] {
            assert_eq!(found, expected, "{case}");
        }
    }

    #[test]
    fn a_tunnel_begins_with_a_request_that_has_an_end() {
        let upgrade = [("host", "a"), ("connection", "keep-alive, Upgrade"), ("upgrade", "WebSocket")];
        for (case, method, more, expected) in [
            ("as it should be", "GET", &[][..], Ok(())),
            ("an empty body", "GET", &[("content-length", "0")], Ok(())),
            ("a body", "GET", &[("content-length", "7")], Err(Malformed::Upgrade)),
            ("chunks", "GET", &[("transfer-encoding", "chunked")], Err(Malformed::Upgrade)),
            ("another method", "POST", &[], Err(Malformed::Upgrade)),
        ] {
            let headers = [&upgrade[..], more].concat();
            assert_eq!(check(&request(Version::HTTP_11, method, "/", &headers)), expected, "{case}");
        }
        let half = request(Version::HTTP_11, "GET", "/", &[("host", "a"), ("upgrade", "websocket")]);
        assert_eq!(check(&half), Err(Malformed::Upgrade), "without `connection: upgrade`");
        let connect = request(Version::HTTP_11, "CONNECT", "a.org:80", &[("host", "a.org:80")]);
        assert_eq!(check(&connect), Err(Malformed::Connect));
    }
}
