//! The headers that the proxy reads and sets itself.

use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use kthena_router::routing::http::headers::HeaderList;
use kthena_router::routing::request::Headers;

/// The header that names a request in all logs.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The headers of a received request, as routing reads them.
pub(super) struct Received<'r>(pub &'r HeaderMap);

impl Headers for Received<'_> {
    fn any(&self, name: &str, test: &mut dyn FnMut(&str) -> bool) -> bool {
        self.0.get_all(name).any(|value| value.to_str().is_ok_and(&mut *test))
    }
}

/// The headers of a message that filters change. What is no name or value of a header was refused when the filter was
/// read, and is left out.
pub(super) struct Edited<'h>(pub &'h mut HeaderMap);

impl HeaderList for Edited<'_> {
    fn joined(&self, name: &str) -> Option<String> {
        let values: Vec<_> = self.0.get_all(name).map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
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
