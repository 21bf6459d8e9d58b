//! The headers that the proxy reads and sets itself.

use http::HeaderMap;
use http::header::{CONNECTION, CONTENT_ENCODING, HeaderName, HeaderValue};
use kthena_router::request_head::Headers;
use kthena_router::request_head::client_headers::is_reserved;
use kthena_router::routing::http::headers::HeaderList;
use kthena_router::routing::http::redirect::Scheme;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// The headers of a received request, as routing reads them.
pub(in crate::edge) struct Received<'r>(pub &'r HeaderMap);

impl Headers for Received<'_> {
    fn any(&self, name: &str, test: &mut dyn FnMut(&str) -> bool) -> bool {
        self.0.get_all(name).iter().any(|value| value.to_str().is_ok_and(&mut *test))
    }
}

/// The headers of a message that filters change. What is no name or value of a header was refused when the filter was
/// read, and is left out.
pub(in crate::edge) struct Edited<'h>(pub &'h mut HeaderMap);

impl HeaderList for Edited<'_> {
    fn joined(&self, name: &str) -> Option<String> {
        let values: Vec<_> =
            self.0.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
        if values.is_empty() { None } else { Some(values.join(",")) }
    }

    fn set(&mut self, name: &str, value: &str) {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(value)) {
            self.0.insert(name, value);
        }
    }

    fn append(&mut self, name: &str, value: &str) {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(value)) {
            self.0.append(name, value);
        }
    }

    fn remove(&mut self, name: &str) {
        self.0.remove(name);
    }
}

/// Takes out of a client's headers those that its connection ends with, and those that are not a client's to send.
///
/// This comes before filters and the router set headers: a client must not be able to name one of theirs in its
/// `Connection`. `Upgrade` stays, for whoever asks whether the request changes the protocol; so does `Connection`, without what
/// it says, since nobody passes it on: the last of the headers would take its place, and clients write it first.
pub(in crate::edge) fn purge(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        let options = headers.get_all(CONNECTION).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
        let is_plain = |option: &&[u8]| {
            let is = |word: &str| option.eq_ignore_ascii_case(word.as_bytes());
            is("close") || is("keep-alive") || is("upgrade")
        };
        let named = options.map(<[u8]>::trim_ascii).filter(|option| !is_plain(option));
        let named: Vec<HeaderName> = named.filter_map(|option| HeaderName::from_bytes(option).ok()).collect();
        remove(headers, &named);
        headers.insert(CONNECTION, HeaderValue::from_static("keep-alive"));
    }
    let reserved: Vec<_> = headers.keys().filter(|name| is_reserved(name.as_str())).cloned().collect();
    remove(headers, &reserved);
}

fn remove(headers: &mut HeaderMap, names: &[HeaderName]) {
    for name in names {
        headers.remove(name);
    }
}

/// Adds headers; what can be no value of one is left out.
pub(super) fn append(headers: &mut HeaderMap, added: impl IntoIterator<Item = (&'static str, String)>) {
    for (name, value) in added {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.append(HeaderName::from_static(name), value);
        }
    }
}

/// Tells a backend of the client, as the router sees it.
pub(in crate::edge) fn set_forwarded(headers: &mut HeaderMap, scheme: Scheme, host: &str, client: &HeaderValue) {
    headers.insert(FORWARDED_PROTO, HeaderValue::from_static(scheme.as_str()));
    if let Ok(host) = HeaderValue::from_str(host)
        && !host.is_empty()
    {
        headers.insert(FORWARDED_HOST, host);
    }
    headers.insert(FORWARDED_FOR, client.clone());
}

/// Takes out what is not true any more of a body that was decoded (RFC 9110, section 8.4; RFC 9530).
pub(in crate::edge) fn decoded(headers: &mut HeaderMap) {
    for name in [CONTENT_ENCODING.as_str(), "content-digest", "content-md5", "repr-digest"] {
        headers.remove(name);
    }
}

/// Returns the value of a header, if it is text.
pub(in crate::edge) fn text(headers: &HeaderMap, name: impl http::header::AsHeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_cannot_take_out_what_is_set_later() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "keep-alive, X-Tenant , x-own"),
            ("connection", "x-forwarded-for, upgrade"),
            ("x-kept", "1"),
            ("upgrade", "websocket"),
            ("x-own", "1"),
            ("x-forwarded-for", "1.2.3.4"),
            ("x-prefiller-host-port", "10.0.0.1:1"),
        ] {
            headers.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_static(value));
        }
        purge(&mut headers);
        let names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        assert_eq!(names, ["connection", "x-kept", "upgrade"], "the others keep their order");
        assert_eq!(headers["connection"], "keep-alive");
        set_forwarded(&mut headers, Scheme::Https, "a.org", &HeaderValue::from_static("10.0.0.7"));
        assert_eq!(headers["x-forwarded-for"], "10.0.0.7");
        assert_eq!(headers["x-forwarded-proto"], "https");
        assert_eq!(headers["x-forwarded-host"], "a.org");
    }
}
