//! One request while it is decided on and sent.

use std::borrow::Cow;
use std::rc::Rc;
use std::sync::Arc;

use http::request::Parts;
use http::uri::Authority;
use http::{Response, Version};
use kthena_router::hostname::request_host;
use kthena_router::inference::api;
use kthena_router::inference::understood::{NotUnderstood, Understood};
use kthena_router::pool::availability::Availability;
use kthena_router::pool::policy::PoolIndex;
use kthena_router::rate_limit::ClientId;
use kthena_router::request_head::{RequestHead, path};
use kthena_router::routing::decision::{Asked, Decision, Destination, Matched, Moment, Refusal, Verdict, needs_model};
use kthena_router::routing::table::ListenerTable;
use kthena_router::scheduling::request::RequestFacts;
use kthena_router_downstream::Connection;

use super::worker::Worker;
use crate::edge::answers::{Early, Ending, Reply, ReplyBody};
use crate::edge::backends::{Backend, Outbound};
use crate::edge::bodies::Inbound;
use crate::edge::errors::ProxyError;
use crate::edge::exchange::{Exchange, Held};
use crate::edge::heads::response_filters::Sharing;
use crate::edge::heads::{Received, detach, purge};
use crate::edge::limits::Asking;
use crate::edge::lookups::Holder;
use crate::edge::tls::PORT_IDENTITY;
use crate::ops::requests::facts::Facts;
use crate::ops::requests::names::Subject;
use crate::pools::published::Snapshot;

/// A request with all that its steps share: made once, and passed to each of them.
pub(super) struct Call<'w> {
    /// The thread's worker.
    pub worker: &'w Rc<Worker>,
    /// The routes and pools, the same for all steps.
    pub snapshot: &'w Snapshot,
    /// The listeners that serve the request's host.
    pub listeners: &'w [ListenerTable],
    /// The connection that it came in on.
    pub connection: Rc<Connection>,
    /// The head of the request, without what is not a client's to send.
    pub head: &'w mut Parts,
    /// What the request asks for.
    pub asks: api::Call,
    /// What is known of its body, once somebody has read it.
    pub understood: Option<Result<Understood, NotUnderstood>>,
    /// Where the response is that it is about.
    pub holder: Option<Holder>,
    /// What other origins learn from an answer of the router's own; an HTTPRoute has filters for that.
    pub sharing: Option<Box<Sharing<'w>>>,
    /// What the scheduler is told of it.
    pub request_facts: Option<Arc<RequestFacts>>,
    /// What is said of it at its end.
    pub exchange: Exchange,
    /// What it gives back at its end.
    pub held: Held,
}

impl<'w> Call<'w> {
    /// Begins a request.
    pub(super) fn begin(
        worker: &'w Rc<Worker>,
        snapshot: &'w Snapshot,
        connection: Rc<Connection>,
        head: &'w mut Parts,
    ) -> Self {
        purge(&mut head.headers);
        let exchange = Exchange::begin(&worker.observer, Facts::of(connection.client(), head));
        let asks = api::Call::of(head.method.as_str(), head.uri.path());
        Self {
            worker,
            snapshot,
            listeners: &[],
            connection,
            head,
            asks,
            understood: None,
            holder: None,
            sharing: None,
            request_facts: None,
            exchange,
            held: Held::default(),
        }
    }

    /// Returns the host and port that the request names; empty if it names none.
    pub(super) fn authority(&self) -> &str {
        self.head.uri.authority().map_or("", Authority::as_str)
    }

    /// Returns the host as listeners know it.
    pub(super) fn host(&self) -> Cow<'_, str> {
        request_host(self.authority())
    }

    /// Checks that the path is read in one way only, and that the connection was made for the listener of the host.
    pub(super) fn enter(&mut self) -> Result<(), ProxyError> {
        path::check(self.head.uri.path())?;
        let (table, bind) = (&self.snapshot.table, self.worker.door.bind);
        let host = self.host();
        let listeners = table.listeners(bind, &host);
        let hostname = listeners.first().map(|listener| &listener.identity.hostname);
        // A connection may be used for another host than it was made for, and then the client's certificate, or its
        // lack of one, was accepted by another listener (RFC 9110, section 15.5.20). A handshake without a server name
        // was one with the listener without hostname.
        if let Some(tls) = &self.connection.tls {
            let server_name = tls.server_name.as_deref().unwrap_or_default();
            let is_of_port = tls.identity == PORT_IDENTITY && server_name.is_empty();
            let agrees = || table.listener_hostname(bind, server_name) == hostname;
            if !self.worker.door.serving.tls.is_of(bind, &host, tls.identity) || !(is_of_port || agrees()) {
                let (host, server_name) = (host.into_owned(), server_name.to_owned());
                return Err(ProxyError::Misdirected { host, server_name });
            }
        }
        if hostname.is_none() {
            return Err(ProxyError::NoListener { host: host.into_owned() });
        }
        self.listeners = listeners;
        self.sharing = listeners.first().and_then(|listener| Sharing::of(listener, &self.head.headers));
        Ok(())
    }

    /// Begins with the body of the request.
    ///
    /// # Errors
    ///
    /// Returns an error if it announces more than it may have.
    pub(super) fn receive(&mut self, body: &Inbound) -> Result<(), ProxyError> {
        let checked = body.check_length();
        // What is wrong from here on is told in the words of the API.
        if let api::Call::Inference(api) = self.asks
            && (checked.is_err() || self.is_decided_by_model())
        {
            self.exchange.api = Some(api);
        }
        checked
    }

    /// Ends the request with what it is answered.
    pub(super) fn complete(self, reply: Result<Reply, Early>) -> Response<ReplyBody> {
        let Self { worker, head, exchange, held, sharing, .. } = self;
        // A client that is told so connects elsewhere, and loses nothing when the ports are closed.
        let closes = worker.is_stopping() && head.version < Version::HTTP_2;
        Reply::complete(reply, Ending { exchange, held, sharing, closes })
    }

    /// Takes the request out of what it was read into, as it is about to wait for long: it holds what it needs, and no more.
    pub(super) fn detach(&mut self, outbound: &mut Outbound) {
        let uri = detach::target(&self.head.uri);
        outbound.detach(uri.clone());
        let facts = &mut *self.exchange;
        facts.user_agent.iter_mut().chain([&mut facts.request_id]).for_each(detach::value);
        facts.uri = uri.clone();
        self.head.uri = uri;
        if let Some(sharing) = &mut self.sharing {
            sharing.detach();
        }
    }

    /// Takes a place among the requests of the port, unless the request has one.
    pub(super) fn admit(&mut self) -> Result<(), ProxyError> {
        if self.held.admission.is_none() {
            let gateway = self.listeners.first().map_or(0, |listener| listener.gateway_place);
            let gateways = self.snapshot.table.gateways(self.worker.door.bind);
            let admission = self.worker.door.places.take(gateway, gateways);
            self.held.admission = Some(admission.ok_or(ProxyError::Overloaded)?);
        }
        Ok(())
    }

    /// Returns whether the request must be understood before it can be decided where it goes.
    pub(super) fn is_decided_by_model(&self) -> bool {
        matches!(self.asks, api::Call::Inference(_)) && needs_model(self.listeners)
    }

    /// Decides what becomes of the request.
    pub(super) fn decide(&mut self) -> Result<Verdict<'w>, ProxyError> {
        let asked = match (self.asks, &self.understood) {
            (api::Call::ListModels | api::Call::GetModel | api::Call::Health, _) => Asked::Models,
            (api::Call::StoredResponse, _) => Asked::Stored,
            (_, Some(Ok(understood))) => Asked::Model(&understood.model),
            (_, Some(Err(_))) => Asked::Unread,
            (_, None) => Asked::Other,
        };
        let bind = self.worker.door.bind;
        self.exchange.decides(bind, self.snapshot.generation, matches!(asked, Asked::Model(_)));
        match self.with_head(|head| self.snapshot.table.decide(bind, head, asked, self)) {
            Ok(verdict) => {
                if let Verdict::Serve(Decision { route: Matched::Http(_), .. }) = verdict {
                    self.sharing = None;
                }
                Ok(verdict)
            }
            Err(Refusal::NoListener) => Err(ProxyError::NoListener { host: self.host().into_owned() }),
            Err(Refusal::NoRoute { listener }) => {
                self.exchange.set_gateway(listener);
                Err(self.no_route())
            }
        }
    }

    /// Returns where the request may go whose model is not known.
    pub(super) fn destinations(&self) -> Vec<Destination> {
        self.with_head(|head| self.snapshot.table.destinations(self.worker.door.bind, head))
    }

    /// Shows the head of the request as routes see it.
    fn with_head<T>(&self, look: impl FnOnce(&RequestHead<'_>) -> T) -> T {
        look(&RequestHead {
            method: self.head.method.as_str(),
            host: &self.host(),
            path: self.head.uri.path(),
            query: self.head.uri.query().unwrap_or_default(),
            headers: &Received(&self.head.headers),
        })
    }

    fn no_route(&mut self) -> ProxyError {
        match self.understood.take() {
            Some(Err(fault)) => ProxyError::NotUnderstood(fault),
            Some(Ok(understood)) => ProxyError::NoModel { model: understood.model, itself: false },
            None => {
                let has_rules = self.listeners.iter().any(|listener| !listener.http.is_empty());
                self.not_served(has_rules)
            }
        }
    }

    /// Takes what it may use of the limits of its model before it is sent; what it has used is settled at its end.
    pub(super) async fn take_part(&mut self, decision: &Decision<'_>, body: &Inbound) -> Result<(), ProxyError> {
        let Matched::Model(route) = decision.route else { return Ok(()) };
        let (Some(limits), api::Call::Inference(api)) = (route.limits(), self.asks) else { return Ok(()) };
        let query = self.head.uri.query().unwrap_or_default();
        let client = route.clients().and_then(|clients| clients.find(&Received(&self.head.headers), query));
        let asking = Asking { api, client: client.map(|key| ClientId::of(&key)), body: body.whole() };
        // Most requests are not limited, and do not carry the room for it.
        let taken = Box::pin(self.worker.shared_limits.take(&self.snapshot.meters, limits, asking)).await;
        self.exchange.reservation = taken.map_err(ProxyError::RateLimited)?;
        Ok(())
    }

    /// Finds out which Pods hold its prompt, where Redis is asked for that.
    pub(super) async fn look_up(&mut self, backend: &Backend, outbound: &Outbound) {
        let worker = self.worker;
        if let (Some(cache), api::Call::Inference(api)) = (&worker.shared_cache, self.asks)
            && let (Some(body), Some(facts)) = (outbound.whole(), &mut self.request_facts)
        {
            cache.look_up(backend, (api, body), facts, |bound| worker.draw(bound)).await;
        }
    }

    /// Returns the error for a path that is served by nobody, or to nobody.
    pub(super) fn not_served(&self, has_rules: bool) -> ProxyError {
        let (method, path) = (self.head.method.to_string(), self.head.uri.path().to_owned());
        ProxyError::NoRoute { method, path, has_rules }
    }

    /// Finds a backend; `None` if nothing may be sent to it.
    pub(super) fn backend(&self, destination: Destination) -> Option<Backend> {
        Backend::find(&self.worker.door.serving.upstream, self.snapshot, destination)
    }

    /// Counts the request for its route, and for the pool if one was chosen.
    pub(super) fn attribute_to(&mut self, decision: &Decision<'_>, pool: Option<PoolIndex>) {
        self.exchange.set_gateway(decision.listener);
        if let Some(record) = self.exchange.decision() {
            record.rule = decision.rule;
        }
        let model = match (decision.route, &self.understood) {
            (Matched::Model(entry), Some(Ok(understood))) => entry.name_of(&understood.model),
            _ => None,
        };
        self.exchange.attribute_to(self.snapshot, Subject { model, route: Some(decision.route), pool });
    }
}

impl Moment for Call<'_> {
    fn availability(&self, pool: PoolIndex) -> Availability {
        self.snapshot.availability(pool)
    }

    fn draw(&self, bound: u64) -> u64 {
        self.worker.draw(bound)
    }

    fn holder(&self) -> Option<PoolIndex> {
        self.holder.map(|holder| holder.pool)
    }
}
