//! A request as it leaves for a backend: its headers, host and path after all filters.

use std::time::Duration;

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue, ORIGIN, UPGRADE};
use http::request::Parts;
use http::uri::{Authority, PathAndQuery};
use http::{Method, Uri};
use kthena_router::inference::disaggregation::SplitRequest;
use kthena_router::routing::decision::{Decision, Target};
use kthena_router_downstream::{Charge, Exhausted, Upgrade};
use kthena_router_upstream::{Answer, Ask, Body, Failure, Peer};

use super::To;
use crate::edge::bodies::Inbound;
use crate::edge::errors::ProxyError;
use crate::edge::heads::{Edited, detach, set_forwarded};
use crate::ops::requests::facts::REQUEST_ID;
use crate::pools::lease::Lease;

/// A request as it leaves.
pub(in crate::edge) struct Outbound {
    /// The method.
    pub method: Method,
    /// The headers, without those of the client's connection.
    pub headers: HeaderMap,
    /// The body.
    pub body: Body,
    /// What makes the bodies for two endpoints, where they may work on it together.
    split: Option<Box<Split>>,
    /// The origin that the client names, whatever filters make of it.
    pub origin: Option<HeaderValue>,
    /// What the body takes of the memory for requests, until nobody is to get it any more.
    charge: Option<Charge>,
    /// Whether it needs a connection of its own, because a kept one was closed when it was sent on that.
    pub fresh: bool,
    /// Whether it is sent again if the kept connection that it is sent on has ended.
    pub repeated: bool,
    /// The protocol to change to.
    upgrade: Option<HeaderValue>,
    /// The authority and the path that the client asked for.
    uri: Uri,
    /// The path and the query in place of its own.
    rewritten: Option<String>,
    /// The host in place of its own.
    hostname: Option<String>,
}

/// A request that two endpoints may work on.
struct Split {
    request: SplitRequest,
    /// Whether the bodies for both were counted.
    is_charged: bool,
}

impl Outbound {
    /// Makes the request that a backend gets, without its body; the headers are taken out of the client's.
    pub(in crate::edge) fn new(
        head: &mut Parts,
        (decision, target): (&Decision<'_>, &Target<'_>),
        client: &HeaderValue,
        request_id: HeaderValue,
    ) -> Self {
        let (rule, backend) = (decision.steps.filters, target.filters);
        let uri = head.uri.clone();
        let mut headers = std::mem::take(&mut head.headers);
        let (origin, upgrade) = (headers.get(ORIGIN).cloned(), headers.remove(UPGRADE));
        // What the router adds comes first: filters have the last word.
        let authority = uri.authority().map_or("", Authority::as_str);
        set_forwarded(&mut headers, decision.listener.identity.scheme, authority, client);
        for edits in [&rule.request_headers, &backend.request_headers] {
            if !edits.is_empty() {
                edits.apply(&mut Edited(&mut headers));
            }
        }
        headers.insert(REQUEST_ID, request_id);
        let rewrites = [&backend.rewrite, &rule.rewrite];
        let hostname = rewrites.iter().find_map(|rewrite| rewrite.as_ref()?.hostname.clone());
        let path = rewrites.iter().find_map(|rewrite| rewrite.as_ref()?.path.as_ref());
        let rewritten = path.map(|path| {
            let path = path.apply(uri.path(), decision.steps.prefix);
            uri.query().map_or_else(|| path.to_string(), |query| format!("{path}?{query}"))
        });
        let method = head.method.clone();
        Self {
            method,
            headers,
            body: Body::Empty,
            split: None,
            origin,
            charge: None,
            fresh: false,
            repeated: false,
            upgrade,
            uri,
            rewritten,
            hostname,
        }
    }

    /// Takes the body, which was read where somebody is going to send it again or look at it.
    ///
    /// Returns the client's connection where the request asks to change to WebSocket: by a GET without body, over a
    /// version of HTTP that can (RFC 6455, section 4.2.1). Any other offer of a protocol ends here.
    pub(in crate::edge) fn take(&mut self, body: &mut Inbound) -> Result<Option<Upgrade>, ProxyError> {
        let is_websocket = |offer: &HeaderValue| offer.as_bytes().eq_ignore_ascii_case(b"websocket");
        let asks = self.method == Method::GET && self.upgrade.as_ref().is_some_and(is_websocket);
        let client = if asks { body.upgrade() } else { None };
        self.upgrade = self.upgrade.take().filter(|_| client.is_some());
        let (body, charge) = body.take()?;
        (self.body, self.charge) = (body, Some(charge));
        Ok(client)
    }

    /// Sends the request to an endpoint with this body, and with headers in place of those with the same name, and
    /// waits for the head of the answer: the one place that does, for every attempt, leg and copy. The body is left as
    /// far as another attempt can be made with it.
    pub(in crate::edge) async fn send(
        &self,
        To { client, backend, threads }: To<'_>,
        lease: &Lease,
        timeout: Option<Duration>,
        (body, replaced): (&mut Body, &[(HeaderName, HeaderValue)]),
    ) -> Result<Box<Answer>, Failure> {
        let peer = Peer { address: lease.endpoint().socket(), transport: backend.transport.clone() };
        let mut ask = Ask {
            method: &self.method,
            target: self.target(),
            host: if self.host().is_empty() { lease.authority().as_str() } else { self.host() },
            headers: &self.headers,
            replaced,
            upgrade: self.upgrade.as_ref(),
            body: std::mem::replace(body, Body::Gone),
            keeping: backend.keeping(threads),
            connect_timeout: backend.policy.limits.connect,
            timeout,
            fresh: self.fresh,
            repeated: self.repeated,
        };
        let outcome = client.send(&peer, &mut ask).await;
        *body = ask.body;
        outcome
    }

    /// Has two endpoints work on the request, if they are picked; one that does all of it gets its body without the
    /// engines' own language.
    ///
    /// # Errors
    ///
    /// Returns an error if there is no memory for that body beside the client's.
    pub(in crate::edge) fn divide(&mut self, request: SplitRequest) -> Result<(), Exhausted> {
        let alone = request.alone();
        if let (Body::Whole(body), Some(charge)) = (&self.body, &mut self.charge)
            && body.as_ptr() != alone.as_ptr()
        {
            charge.grow(alone.len())?;
        }
        self.body = Body::Whole(alone);
        self.split = Some(Box::new(Split { request, is_charged: false }));
        Ok(())
    }

    /// Returns what makes the bodies for two endpoints, where they may work on the request.
    pub(in crate::edge) fn split(&self) -> Option<&SplitRequest> {
        self.split.as_ref().map(|split| &split.request)
    }

    /// Takes memory for so many bodies at once that are made of the client's, the first time that two endpoints are
    /// picked.
    ///
    /// # Errors
    ///
    /// Returns an error if there is not as much.
    pub(in crate::edge) fn charge_legs(&mut self, at_once: usize) -> Result<(), Exhausted> {
        if let (Some(split), Some(charge)) = (&mut self.split, &mut self.charge)
            && !split.is_charged
        {
            charge.grow(at_once * split.request.leg_length())?;
            split.is_charged = true;
        }
        Ok(())
    }

    /// Returns a charge of nothing beside that of the body, which may grow.
    pub(in crate::edge) fn more_charge(&self) -> Option<Charge> {
        self.charge.as_ref().map(Charge::beside)
    }

    /// Gives back what the body takes of the memory: an endpoint has answered, and nobody else gets it.
    pub(in crate::edge) fn release(&mut self) {
        (self.body, self.charge, self.split) = (Body::Gone, None, None);
    }

    /// Has a copy of all that is a part of what its connection was read into, and of the target that the client asked for.
    pub(in crate::edge) fn detach(&mut self, uri: Uri) {
        self.headers.values_mut().for_each(detach::value);
        self.origin.as_mut().map(detach::value);
        self.uri = uri;
        if let Body::Whole(body) = &mut self.body {
            detach::bytes(body);
        }
    }

    /// Returns the body, if it is there whole.
    pub(in crate::edge) fn whole(&self) -> Option<&Bytes> {
        if let Body::Whole(body) = &self.body { Some(body) } else { None }
    }

    /// Returns the path and the query.
    pub(in crate::edge) fn target(&self) -> &str {
        match &self.rewritten {
            Some(target) => target,
            None => self.uri.path_and_query().map_or("/", PathAndQuery::as_str),
        }
    }

    /// Sets the path and the query.
    pub(in crate::edge) fn set_target(&mut self, target: String) {
        self.rewritten = Some(target);
    }

    /// Returns the path.
    pub(in crate::edge) fn path(&self) -> &str {
        let target = self.target();
        &target[..memchr::memchr(b'?', target.as_bytes()).unwrap_or(target.len())]
    }

    /// Returns the host and port; empty leaves them to be those of the endpoint.
    pub(in crate::edge) fn host(&self) -> &str {
        match &self.hostname {
            Some(hostname) => hostname,
            None => self.uri.authority().map_or("", Authority::as_str),
        }
    }

    /// Returns the same request with another body, for another backend.
    pub(in crate::edge) fn copy(&self, body: Body) -> Self {
        Self {
            method: self.method.clone(),
            headers: self.headers.clone(),
            body,
            split: None,
            origin: None,
            charge: None,
            fresh: false,
            repeated: false,
            upgrade: None,
            uri: self.uri.clone(),
            rewritten: self.rewritten.clone(),
            hostname: self.hostname.clone(),
        }
    }
}
