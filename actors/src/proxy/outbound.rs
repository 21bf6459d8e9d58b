//! A request as it leaves for a backend: its headers, host and path after all filters.

use http::header::{HeaderMap, HeaderValue, UPGRADE};
use http::uri::{Authority, PathAndQuery};
use http::{Method, Uri};
use kthena_router::routing::decision::{Decision, Target};
use kthena_router_downstream::Upgrade;
use kthena_router_upstream::Body;

use super::body::Inbound;
use super::call::Call;
use super::headers::{Edited, REQUEST_ID, set_forwarded};

/// A request as it leaves.
pub(super) struct Outbound {
    /// The method.
    pub method: Method,
    /// The headers, without those of the client's connection.
    pub headers: HeaderMap,
    /// The protocol to change to.
    pub upgrade: Option<HeaderValue>,
    /// The body.
    pub body: Body,
    /// The authority and the path that the client asked for.
    uri: Uri,
    /// The path and the query in place of its own.
    rewritten: Option<String>,
    /// The host in place of its own.
    hostname: Option<String>,
}

impl Outbound {
    /// Makes the request that a backend gets, without its body; the headers are taken out of the call.
    pub(super) fn new(call: &mut Call<'_>, decision: &Decision<'_>, target: &Target<'_>) -> Self {
        let (rule, backend) = (decision.steps.filters, target.filters);
        let uri = call.head.uri.clone();
        let mut headers = std::mem::take(&mut call.head.headers);
        let upgrade = headers.remove(UPGRADE);
        // What the router adds comes first: filters have the last word.
        let client = call.connection.peer.ip();
        let authority = uri.authority().map_or("", Authority::as_str);
        set_forwarded(&mut headers, decision.listener.identity.scheme, authority, client);
        for edits in [&rule.request_headers, &backend.request_headers] {
            if !edits.is_empty() {
                edits.apply(&mut Edited(&mut headers));
            }
        }
        headers.insert(REQUEST_ID, call.exchange.request_id.clone());
        let rewrites = [&backend.rewrite, &rule.rewrite];
        let hostname = rewrites.iter().find_map(|rewrite| rewrite.as_ref()?.hostname.clone());
        let path = rewrites.iter().find_map(|rewrite| rewrite.as_ref()?.path.as_ref());
        let rewritten = path.map(|path| {
            let path = path.apply(uri.path(), decision.steps.prefix);
            uri.query().map_or_else(|| path.to_string(), |query| format!("{path}?{query}"))
        });
        let method = call.head.method.clone();
        Self { method, headers, upgrade, body: Body::Empty, uri, rewritten, hostname }
    }

    /// Returns the client's connection where the request asks to change to WebSocket: by a GET without body, over a
    /// version of HTTP that can (RFC 6455, section 4.2.1). Any other offer of a protocol ends here.
    pub(super) fn take_upgrade(&mut self, body: &mut Inbound) -> Option<Upgrade> {
        let is_websocket = |offer: &HeaderValue| offer.as_bytes().eq_ignore_ascii_case(b"websocket");
        let asks = self.method == Method::GET && self.upgrade.as_ref().is_some_and(is_websocket);
        let client = if asks { body.upgrade() } else { None };
        self.upgrade = self.upgrade.take().filter(|_| client.is_some());
        client
    }

    /// Returns the path and the query.
    pub(super) fn target(&self) -> &str {
        match &self.rewritten {
            Some(target) => target,
            None => self.uri.path_and_query().map_or("/", PathAndQuery::as_str),
        }
    }

    /// Returns the path.
    pub(super) fn path(&self) -> &str {
        let target = self.target();
        target.split_once('?').map_or(target, |(path, _)| path)
    }

    /// Returns the host and port; empty leaves them to be those of the endpoint.
    pub(super) fn host(&self) -> &str {
        match &self.hostname {
            Some(hostname) => hostname,
            None => self.uri.authority().map_or("", Authority::as_str),
        }
    }

    /// Returns the same request with another body, for another backend.
    pub(super) fn copy(&self, body: Body) -> Self {
        Self {
            method: self.method.clone(),
            headers: self.headers.clone(),
            upgrade: None,
            body,
            uri: self.uri.clone(),
            rewritten: self.rewritten.clone(),
            hostname: self.hostname.clone(),
        }
    }
}
