//! The compiled routes of every bind, and the decision that they make for a request.
//!
//! Order of decision for a model: the bind that the request came in on; its listeners with the most specific matching hostname
//! (exact, then the longest wildcard, then none), of which several Gateways may each have one, the oldest Gateway
//! first; the exact model name before LoRA names; the oldest ModelRoute first, then by namespace and name; its rules
//! in order; the target by weight. A route none of whose rules match passes the request on to the next route.
//!
//! A path that no ModelRoute serves, and a request that none of them takes, goes by the HTTPRoutes of the same listeners,
//! in the order of [`http`](super::http::table). What the most specific listeners do not serve is not served by less
//! specific ones: Gateway API, `Gateway.spec.listeners`, "listener isolation".

use std::sync::Arc;

use foldhash::{HashMap, HashMapExt};

use super::backend::{Availability, choose};
use super::host_index::HostIndex;
use super::http::entry::HttpEntry;
use super::http::redirect::Scheme;
use super::http::table::{HttpMatch, HttpTable};
use super::models::entry::{RouteEntry, Target};
use super::models::table::{Found, ModelTable};
use super::pool::{PoolIndex, PoolPolicy};
use super::request::RequestHead;
use crate::hostname::Hostname;
use crate::object::{Bind, PoolKey};

/// All routes of the router at one moment.
#[derive(Debug, Default)]
pub struct RouteTable {
    binds: HashMap<Bind, BindTable>,
    /// The pools that targets refer to.
    pub pools: Vec<PoolEntry>,
}

/// A pool, and how requests are sent to it.
#[derive(Clone, Debug)]
pub struct PoolEntry {
    /// The pool.
    pub key: PoolKey,
    /// How requests are sent to it.
    pub policy: Arc<PoolPolicy>,
}

/// The listeners that share one bind.
type BindTable = HostIndex<Vec<ListenerTable>>;

/// What a listener is to its clients.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListenerIdentity {
    /// The Gateway's namespace and name; `None` for the plain port that is open when the Gateway API is off.
    pub gateway: Option<Arc<str>>,
    /// The hosts that it serves.
    pub hostname: Hostname,
    /// How clients reach it.
    pub scheme: Scheme,
    /// The port that its spec has, which clients use; its socket may have another.
    pub port: u16,
}

/// The routes of one listener of one Gateway.
#[derive(Debug)]
pub struct ListenerTable {
    /// What it is to its clients.
    pub identity: ListenerIdentity,
    /// Its ModelRoutes.
    pub models: ModelTable,
    /// Its HTTPRoutes.
    pub http: HttpTable,
}

/// Where a request goes.
#[derive(Clone, Copy, Debug)]
pub struct Forward<'t> {
    /// The listener that took the request.
    pub listener: &'t ListenerTable,
    /// The route that matched.
    pub route: &'t RouteEntry,
    /// The chosen pool.
    pub pool: PoolIndex,
    /// Whether the request names a LoRA adapter, whose name must reach the engine unchanged.
    pub adapter: bool,
}

/// The rule of an HTTPRoute that a request falls under.
#[derive(Clone, Copy, Debug)]
pub struct HttpDecision<'t> {
    /// The listener that took the request.
    pub listener: &'t ListenerTable,
    /// The rule.
    pub matched: HttpMatch<'t>,
}

/// Why a request goes nowhere.
#[derive(Clone, Copy, Debug)]
pub enum Refusal<'t> {
    /// No listener of the bind serves the host.
    NoListener,
    /// No route of the listener serves the model.
    NoRoute {
        /// The listener that took the request.
        listener: &'t ListenerTable,
    },
    /// A route matched, but none of its targets has an endpoint that is ready.
    NoEndpoints {
        /// The listener that took the request.
        listener: &'t ListenerTable,
        /// The route that matched.
        route: &'t RouteEntry,
    },
}

impl RouteTable {
    /// Makes a table with these pools and no routes.
    pub fn new(pools: Vec<PoolEntry>) -> Self {
        Self { binds: HashMap::new(), pools }
    }

    /// Adds a listener; those of one bind and hostname are asked in the order in which they are added.
    pub fn add_listener(&mut self, bind: Bind, listener: ListenerTable) {
        self.binds.entry(bind).or_default().entry(&listener.identity.hostname).push(listener);
    }

    /// Returns the listeners that serve `host` on `bind`, the one to ask first leading.
    pub fn listeners(&self, bind: Bind, host: &str) -> &[ListenerTable] {
        self.binds.get(&bind).and_then(|hosts| hosts.find(host)).map_or(&[], Vec::as_slice)
    }

    /// Returns the hostname of the listeners that serve `host` on `bind`; `None` if there are none.
    ///
    /// Source: Gateway API, `Gateway.spec.listeners`: where that of the TLS server name differs from that of the `Host`,
    /// the request is misdirected, and answered with 421.
    pub fn listener_hostname(&self, bind: Bind, host: &str) -> Option<&Hostname> {
        self.listeners(bind, host).first().map(|listener| &listener.identity.hostname)
    }

    /// Decides under which rule of an HTTPRoute a request falls that came in on `bind`.
    ///
    /// # Errors
    ///
    /// Returns the [`Refusal`], never [`Refusal::NoEndpoints`], when no listener or rule is there for it.
    pub fn decide_http(&self, bind: Bind, head: &RequestHead<'_>) -> Result<HttpDecision<'_>, Refusal<'_>> {
        let listeners = self.listeners(bind, head.host);
        let Some(first) = listeners.first() else { return Err(Refusal::NoListener) };
        let mut found = listeners.iter().filter_map(|listener| Some((listener, listener.http.find(head)?)));
        let (listener, matched) = found.next().ok_or(Refusal::NoRoute { listener: first })?;
        Ok(HttpDecision { listener, matched })
    }

    /// Decides where a request for `model` that came in on `bind` goes.
    ///
    /// `availability` tells what a pool can serve now; `draw(n)` must return a uniformly random number below `n`.
    ///
    /// # Errors
    ///
    /// Returns the [`Refusal`] when no listener, route or endpoint is there for it.
    pub fn decide(
        &self,
        bind: Bind,
        head: &RequestHead<'_>,
        model: &str,
        availability: impl Fn(PoolIndex) -> Availability,
        draw: impl FnOnce(u64) -> u64,
    ) -> Result<Forward<'_>, Refusal<'_>> {
        let listeners = self.listeners(bind, head.host);
        let Some(first) = listeners.first() else { return Err(Refusal::NoListener) };
        let matched =
            listeners.iter().find_map(|listener| listener.models.find(head, model).map(|found| (listener, found)));
        let Some((listener, Found { route, targets, adapter })) = matched else {
            return Err(Refusal::NoRoute { listener: first });
        };
        let available = |target: &Target| target.pool.map_or(Availability::Empty, &availability);
        choose(targets, |target| target.weight, available, draw)
            .and_then(|target| target.pool)
            .map(|pool| Forward { listener, route, pool, adapter })
            .ok_or(Refusal::NoEndpoints { listener, route })
    }
}

impl ListenerTable {
    /// Makes a listener of ModelRoutes, which must be in the order in which they are to be asked, and of HTTPRoutes.
    pub fn new<'r>(
        identity: ListenerIdentity,
        routes: impl IntoIterator<Item = &'r Arc<RouteEntry>>,
        http_routes: impl IntoIterator<Item = &'r Arc<HttpEntry>>,
    ) -> Self {
        let models = ModelTable::new(routes);
        let http = HttpTable::new(&identity.hostname, http_routes);
        Self { identity, models, http }
    }
}
