//! Which headers a proxy passes on, in both directions.
//!
//! Source: RFC 9110, section 7.6.1: fields that belong to one connection, and those that `Connection` names, end there.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// The headers that a message's `Connection` fields name; mostly there are none, and nothing is allocated.
#[derive(Debug, Default)]
pub(super) struct Named(Vec<HeaderName>);

/// Returns the headers of a request that are meant for the other end; what frames the message is not among them.
pub(super) fn end_to_end(headers: &HeaderMap) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
    let mut named = Named::default();
    for value in headers.get_all(header::CONNECTION) {
        named.read(value.as_bytes());
    }
    headers.iter().filter(move |(name, _)| named.passes(name) && !is_framing(name))
}

impl Named {
    /// Takes in the value of a `Connection` field.
    pub(super) fn read(&mut self, value: &[u8]) {
        for option in options(value) {
            if !option.eq_ignore_ascii_case(b"close") && !option.eq_ignore_ascii_case(b"keep-alive") {
                self.0.extend(HeaderName::from_bytes(option));
            }
        }
    }

    /// Returns whether a header is meant for the other end.
    pub(super) fn passes(&self, name: &HeaderName) -> bool {
        !is_hop_by_hop(name) && !self.0.contains(name)
    }
}

/// Returns whether a header may be set on behalf of the other end: one that neither belongs to a connection nor frames
/// a message.
pub fn is_free(name: &HeaderName) -> bool {
    !is_hop_by_hop(name) && !is_framing(name)
}

/// Returns whether whoever sent these headers takes trailers. The field is about one connection; whether trailers can
/// be passed on is known at both of a proxy's.
pub(super) fn takes_trailers(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(header::TE).iter();
    values.any(|value| options(value.as_bytes()).any(|option| option.eq_ignore_ascii_case(b"trailers")))
}

/// Takes out the headers that belong to one connection; HTTP/2 has none that `Connection` names.
pub(super) fn retain_end_to_end(headers: &mut HeaderMap) {
    while let Some(name) = headers.keys().find(|name| is_hop_by_hop(name)).cloned() {
        headers.remove(name);
    }
}

/// Returns the elements of a comma-separated field.
pub(super) fn options(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|option| !option.is_empty())
}

fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(
        *name,
        header::CONNECTION
            | header::PROXY_AUTHENTICATE
            | header::PROXY_AUTHORIZATION
            | header::TE
            | header::TRAILER
            | header::TRANSFER_ENCODING
            | header::UPGRADE
    ) || *name == KEEP_ALIVE
        || *name == PROXY_CONNECTION
}

/// Returns whether a request's header is the client's to set, from what is sent and to whom.
fn is_framing(name: &HeaderName) -> bool {
    matches!(*name, header::CONTENT_LENGTH | header::EXPECT | header::HOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_one_connection_end_there() {
        let mut from = HeaderMap::new();
        for (name, value) in [
            ("connection", "Keep-Alive, X-Secret"),
            ("x-secret", "1"),
            ("keep-alive", "timeout=5"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("proxy-authorization", "Basic x"),
            ("proxy-connection", "keep-alive"),
            ("upgrade", "websocket"),
            ("expect", "100-continue"),
            ("content-length", "5"),
            ("host", "a"),
            ("traceparent", "00-1-2-01"),
            ("authorization", "Bearer x"),
            ("x-twice", "a"),
            ("x-twice", "b"),
        ] {
            from.append(name.parse::<HeaderName>().expect("a header name"), HeaderValue::from_static(value));
        }
        let mut kept: Vec<_> = end_to_end(&from).map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        kept.sort_unstable();
        let expected: [(&str, &[u8]); 4] =
            [("authorization", b"Bearer x"), ("traceparent", b"00-1-2-01"), ("x-twice", b"a"), ("x-twice", b"b")];
        assert_eq!(kept, expected);
    }
}
