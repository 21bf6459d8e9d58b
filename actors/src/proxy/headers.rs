//! Which headers pass through, in both directions.
//!
//! Source: RFC 9110, section 7.6.1: fields that belong to one connection, and those that `Connection` names, end there.

use actix_web::http::header::{self, HeaderMap, HeaderName};
use kthena_router::routing::request::Headers;

/// The header that names a request in all logs.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// The headers of a received request, as routing reads them.
pub(super) struct Received<'r>(pub &'r HeaderMap);

impl Headers for Received<'_> {
    fn any(&self, name: &str, test: &mut dyn FnMut(&str) -> bool) -> bool {
        self.0.get_all(name).any(|value| value.to_str().is_ok_and(&mut *test))
    }
}

/// Copies the headers that are meant for the other end, except those of which `skip` says so.
pub(super) fn copy_end_to_end(from: &HeaderMap, to: &mut HeaderMap, skip: impl Fn(&HeaderName) -> bool) {
    let named = named_by_connection(from);
    // And one for whatever the router adds: a map that grows moves all that it has.
    to.reserve(from.len() + 1);
    for (name, value) in from {
        if !is_hop_by_hop(name) && !skip(name) && !named.iter().any(|named| named == name) {
            to.append(name.clone(), value.clone());
        }
    }
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

/// Returns the headers that `Connection` names; mostly there are none, and nothing is allocated.
fn named_by_connection(headers: &HeaderMap) -> Vec<HeaderName> {
    let values = headers.get_all(header::CONNECTION).filter_map(|value| value.to_str().ok());
    let names = values.flat_map(|value| value.split(',')).map(str::trim);
    names
        .filter(|name| !name.eq_ignore_ascii_case("close") && !name.eq_ignore_ascii_case("keep-alive"))
        .filter_map(|name| name.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

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
            ("upgrade", "websocket"),
            ("traceparent", "00-1-2-01"),
            ("authorization", "Bearer x"),
            ("x-twice", "a"),
            ("x-twice", "b"),
        ] {
            from.append(name.parse().expect("a header name"), HeaderValue::from_static(value));
        }
        let mut to = HeaderMap::new();
        copy_end_to_end(&from, &mut to, |name| *name == header::AUTHORIZATION);
        let mut kept: Vec<_> = to.keys().map(ToString::to_string).collect();
        kept.sort();
        kept.dedup();
        assert_eq!(kept, ["traceparent", "x-twice"]);
        assert_eq!(to.get_all("x-twice").count(), 2);
    }
}
