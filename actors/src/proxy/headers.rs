//! The headers that the proxy reads and sets itself.

use actix_web::http::header::{HeaderMap, HeaderName};
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
