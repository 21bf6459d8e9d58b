//! What a request says in its head, borrowed from whatever HTTP library received it; what of it is refused or taken
//! out.

pub mod client_headers;
pub mod path;
pub mod query;

/// The head of a request.
#[derive(Clone, Copy)]
pub struct RequestHead<'a> {
    /// The method, for example `GET`.
    pub method: &'a str,
    /// The host that the request names, as [`request_host`](crate::hostname::request_host) returns it.
    pub host: &'a str,
    /// The path, without the query, as it was sent.
    pub path: &'a str,
    /// The query as it was sent, without its `?`; empty if there is none.
    pub query: &'a str,
    /// The headers.
    pub headers: &'a dyn Headers,
}

/// Looks up the headers of a request.
pub trait Headers {
    /// Returns whether any value of the header `name`, which is in lower case, passes `test`; values that are not
    /// UTF-8 are passed over.
    fn any(&self, name: &str, test: &mut dyn FnMut(&str) -> bool) -> bool;
}
