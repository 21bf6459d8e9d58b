//! Gives a request one authority and one target, whatever form they came in.
//!
//! Source: RFC 9112, section 3.2 (targets and `Host`) and 6 (framing); RFC 9113, section 8.3.1 (`Host` beside
//! `:authority`, the form of `:path`) and 8.1.1 (`content-length` against the frames). What RFC 9113 calls malformed is
//! answered with 400 before the stream is closed, as section 8.1.1 allows: the client is told what is wrong, in both
//! versions the same.

use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::request::Parts;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, Method, Uri, Version};

use crate::service::Refusal;

/// The longest name of a host with its port.
const LONGEST_AUTHORITY: usize = 300;
/// What a field costs beside its name and value (RFC 9113, section 6.5.2).
const FIELD_OVERHEAD: usize = 32;

/// Checks a head, and brings it into its one form. `ends` says whether an HTTP/2 request ends with its head.
pub(crate) fn admit(parts: &mut Parts, most_fields: usize, is_tls: bool, ends: bool) -> Result<(), Refusal> {
    if parts.headers.len() > most_fields {
        return Err(Refusal::HeadTooLarge);
    }
    if parts.method == Method::CONNECT {
        return Err(Refusal::Connect);
    }
    let is_http2 = parts.version == Version::HTTP_2;
    if is_http2 {
        check_length(&parts.headers, ends)?;
    } else {
        check_coding(&parts.headers, parts.version)?;
    }
    // A refusal is logged with the target as it came.
    let uri = parts.uri.clone().into_parts();
    if uri.scheme.is_none() && uri.authority.is_some() {
        return Err(Refusal::Target);
    }
    if uri.scheme.as_ref().is_some_and(|scheme| *scheme != Scheme::HTTP && *scheme != Scheme::HTTPS) {
        return Err(Refusal::Target);
    }
    let path = path(uri.path_and_query, &parts.method, uri.authority.is_some() && !is_http2)?;
    let authority = authority(uri.authority, &parts.headers, parts.version)?;
    parts.headers.remove(HOST);
    let mut whole = http::uri::Parts::default();
    if authority.is_some() {
        whole.scheme = Some(if is_tls { Scheme::HTTPS } else { Scheme::HTTP });
    }
    whole.authority = authority;
    whole.path_and_query = Some(path);
    parts.uri = Uri::from_parts(whole).map_err(|_| Refusal::Target)?;
    Ok(())
}

/// Returns what a head costs in bytes.
pub(crate) fn cost(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + FIELD_OVERHEAD).sum()
}

/// Returns the length that a body is said to have.
pub(crate) fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn check_length(headers: &HeaderMap, ends: bool) -> Result<(), Refusal> {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let Some(length) = lengths.next() else { return Ok(()) };
    let digits = length.as_bytes();
    let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    let is_zero = digits.iter().all(|digit| *digit == b'0');
    if lengths.next().is_some() || !is_number || (ends && !is_zero) {
        return Err(Refusal::Length);
    }
    Ok(())
}

/// Checks that a body is in chunks or has a length: another coding would be lost where the request is sent on. Of one that
/// has both, it is not known whether others on the way read it as this server would (RFC 9112, section 6.1).
fn check_coding(headers: &HeaderMap, version: Version) -> Result<(), Refusal> {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let Some(coding) = codings.next() else { return Ok(()) };
    if headers.contains_key(CONTENT_LENGTH) {
        Err(Refusal::Length)
    } else if codings.next().is_none()
        && version == Version::HTTP_11
        && coding.as_bytes().eq_ignore_ascii_case(b"chunked")
    {
        Ok(())
    } else {
        Err(Refusal::TransferCoding)
    }
}

/// Returns the path: an absolute target without one has the path `/`.
fn path(given: Option<PathAndQuery>, method: &Method, is_absolute: bool) -> Result<PathAndQuery, Refusal> {
    let given = given.ok_or(Refusal::Target)?;
    match given.as_str() {
        "*" if *method == Method::OPTIONS => Ok(given),
        path if path.starts_with('/') => Ok(given),
        query if is_absolute && (query.is_empty() || query.starts_with('?')) => {
            format!("/{query}").parse().map_err(|_| Refusal::Target)
        }
        _ => Err(Refusal::Target),
    }
}

/// Returns the one authority of a request: an absolute target wins over `Host` in HTTP/1.1, and in HTTP/2 they agree.
fn authority(target: Option<Authority>, headers: &HeaderMap, version: Version) -> Result<Option<Authority>, Refusal> {
    let mut hosts = headers.get_all(HOST).iter();
    let (host, second) = (hosts.next(), hosts.next());
    if second.is_some()
        || (host.is_none() && (version == Version::HTTP_11 || version == Version::HTTP_2 && target.is_none()))
    {
        return Err(Refusal::HostCount);
    }
    let host = host.map(|host| host.to_str().map_err(|_| Refusal::Host)).transpose()?;
    if let Some(host) = host
        && !(host.is_empty() && version != Version::HTTP_2)
        && !is_authority(host)
    {
        return Err(Refusal::Host);
    }
    match (target, host) {
        (Some(target), _) if !is_authority(target.as_str()) => Err(Refusal::Host),
        (Some(target), Some(host)) if version == Version::HTTP_2 && !target.as_str().eq_ignore_ascii_case(host) => {
            Err(Refusal::HostDiffers)
        }
        (Some(target), _) => Ok(Some(target)),
        (None, None | Some("")) => Ok(None),
        (None, Some(host)) => host.parse().map(Some).map_err(|_| Refusal::Host),
    }
}

/// Returns whether a text is a name or an address, with or without a port: no user, no list, no coded byte.
fn is_authority(text: &str) -> bool {
    let (host, port) = match text.rfind(':') {
        Some(colon) if !text[colon..].contains(']') => (&text[..colon], Some(&text[colon + 1..])),
        _ => (text, None),
    };
    let is_port =
        |port: &str| port.is_empty() || (port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok());
    let is_host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            let is_of_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
            !host.is_empty() && host.bytes().all(is_of_name)
        }
    };
    text.len() <= LONGEST_AUTHORITY && is_host && port.is_none_or(is_port)
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn admitted(
        version: Version,
        (method, target): (&str, &str),
        fields: &[(&str, &str)],
        ends: bool,
    ) -> Result<(String, String), Refusal> {
        let mut request = Request::builder().version(version).method(method).uri(target);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let (mut parts, ()) = request.body(()).map_err(|_| Refusal::Syntax)?.into_parts();
        admit(&mut parts, 9, false, ends)?;
        assert!(!parts.headers.contains_key(HOST), "there is one authority and no second");
        let authority = parts.uri.authority().map(ToString::to_string).unwrap_or_default();
        Ok((authority, parts.uri.path_and_query().map(ToString::to_string).unwrap_or_default()))
    }

    #[test]
    fn a_request_has_one_authority_and_one_target() {
        let http1 = |target, fields| admitted(Version::HTTP_11, ("GET", target), fields, true);
        let http2 = |target, fields| admitted(Version::HTTP_2, ("GET", target), fields, true);
        let options = |target| admitted(Version::HTTP_11, ("OPTIONS", target), &[("host", "a.org")], true);
        let is = |authority: &str, path: &str| Ok((authority.to_owned(), path.to_owned()));
        for (case, found, expected) in [
            ("a name", http1("/x?y", &[("host", "a.org")]), is("a.org", "/x?y")),
            ("a name with a port", http1("/", &[("host", "a.org:80")]), is("a.org:80", "/")),
            ("an address", http1("/", &[("host", "[::1]:80")]), is("[::1]:80", "/")),
            ("an empty host", http1("/", &[("host", "")]), is("", "/")),
            ("no host", http1("/", &[]), Err(Refusal::HostCount)),
            ("HTTP/1.0 without host", admitted(Version::HTTP_10, ("GET", "/"), &[], true), is("", "/")),
            ("two hosts", http1("/", &[("host", "a.org"), ("host", "a.org")]), Err(Refusal::HostCount)),
            ("a list of hosts", http1("/", &[("host", "a.org, b.org")]), Err(Refusal::Host)),
            ("a list without a space", http1("/", &[("host", "a,b")]), Err(Refusal::Host)),
            ("a port of letters", http1("/", &[("host", "a:abc")]), Err(Refusal::Host)),
            ("a port that does not exist", http1("/", &[("host", "a:99999")]), Err(Refusal::Host)),
            ("a user in the host", http1("/", &[("host", "b.org@a.org")]), Err(Refusal::Host)),
            ("a path in the host", http1("/", &[("host", "a.org/b")]), Err(Refusal::Host)),
            ("an absolute target wins", http1("http://a.org/x", &[("host", "b.org")]), is("a.org", "/x")),
            ("an absolute target without a path", http1("http://a.org", &[("host", "a.org")]), is("a.org", "/")),
            ("a query without a path", http1("http://x?q=1", &[("host", "x")]), is("x", "/?q=1")),
            ("a user in the target", http1("http://u@a.org/", &[("host", "a.org")]), Err(Refusal::Host)),
            ("another scheme", http1("ftp://a.org/", &[("host", "a.org")]), Err(Refusal::Target)),
            ("the authority form", http1("a.org:80", &[("host", "a.org")]), Err(Refusal::Target)),
            ("an asterisk", http1("*", &[("host", "a.org")]), Err(Refusal::Target)),
            ("an asterisk for OPTIONS", options("*"), is("a.org", "*")),
            ("an authority", http2("http://a.org/x", &[]), is("a.org", "/x")),
            ("a host in place of the authority", http2("/x", &[("host", "a.org")]), is("a.org", "/x")),
            ("the same host beside it", http2("http://a.org/", &[("host", "A.org")]), is("a.org", "/")),
            ("another host", http2("http://a.org/", &[("host", "b.org")]), Err(Refusal::HostDiffers)),
            ("another port", http2("http://a.org:81/", &[("host", "a.org")]), Err(Refusal::HostDiffers)),
            ("neither", http2("/", &[]), Err(Refusal::HostCount)),
            ("an empty host in HTTP/2", http2("/", &[("host", "")]), Err(Refusal::Host)),
        ] {
            assert_eq!(found, expected, "{case}");
        }
    }

    #[test]
    fn a_path_of_http2_begins_with_a_slash() {
        for path in ["http://x/admin", "admin", "?q", "x:y", "*"] {
            let Ok(path) = PathAndQuery::try_from(path) else { continue };
            assert_eq!(super::path(Some(path.clone()), &Method::GET, false), Err(Refusal::Target), "{path}");
        }
    }

    #[test]
    fn a_length_is_given_once_and_is_that_of_the_body() {
        let http2 = |fields, ends| admitted(Version::HTTP_2, ("POST", "http://a/"), fields, ends).map(drop);
        for (case, found, expected) in [
            ("a length", http2(&[("content-length", "7")], false), Ok(())),
            ("no body and no length", http2(&[], true), Ok(())),
            ("no body and length 0", http2(&[("content-length", "0")], true), Ok(())),
            ("no body and a length", http2(&[("content-length", "7")], true), Err(Refusal::Length)),
            ("twice", http2(&[("content-length", "7"), ("content-length", "7")], false), Err(Refusal::Length)),
            ("no number", http2(&[("content-length", "+7")], false), Err(Refusal::Length)),
        ] {
            assert_eq!(found, expected, "{case}");
        }
        let http1 = |fields: &[_]| admitted(Version::HTTP_11, ("POST", "/"), fields, false).map(drop);
        let [chunked, host] = [("transfer-encoding", "Chunked"), ("host", "a")];
        assert_eq!(http1(&[host, chunked]), Ok(()));
        assert_eq!(http1(&[host, chunked, chunked]), Err(Refusal::TransferCoding));
        assert_eq!(http1(&[host, ("transfer-encoding", "gzip, chunked")]), Err(Refusal::TransferCoding));
        assert_eq!(http1(&[host, chunked, ("content-length", "7")]), Err(Refusal::Length));
        let old = admitted(Version::HTTP_10, ("POST", "/"), &[host, chunked], false);
        assert_eq!(old.map(drop), Err(Refusal::TransferCoding), "HTTP/1.0 has no codings");
    }
}
