//! The compiled routes of every bind.
//!
//! Order for a model: the bind that the request came in on; its listeners with the most specific matching hostname
//! (exact, then the longest wildcard, then none), of which several Gateways may each have one, the oldest Gateway
//! first; the exact model name before LoRA names; the oldest ModelRoute first, then by namespace and name; its rules
//! in order; the target by weight. A route none of whose rules match passes the request on to the next route.
//!
//! The order of HTTPRoutes is that of [`http`](super::http::table), and which of the two APIs is asked first is said in
//! [`decision`](super::decision). What the most specific listeners do not serve is not served by less specific ones:
//! Gateway API, `Gateway.spec.listeners`, "listener isolation".

use std::sync::Arc;

use foldhash::{HashMap, HashMapExt};

use super::host_index::HostIndex;
use super::http::entry::{Destination, HttpEntry};
use super::http::filters::Filters;
use super::http::redirect::Scheme;
use super::http::table::{HttpMatch, HttpTable};
use super::models::entry::RouteEntry;
use super::models::table::ModelTable;
use crate::hostname::Hostname;
use crate::object::{Bind, PoolKey};
use crate::pool::policy::PoolPolicy;
use crate::request_head::RequestHead;

/// All routes of the router at one moment.
#[derive(Debug, Default)]
pub struct RouteTable {
    binds: HashMap<Bind, BindTable>,
    /// The Gateways of each bind.
    gateways: HashMap<Bind, Vec<Option<Arc<str>>>>,
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

/// A listener as its clients know it.
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
    /// The listener as its clients know it.
    pub identity: ListenerIdentity,
    /// Its ModelRoutes.
    pub models: ModelTable,
    /// Its HTTPRoutes.
    pub http: HttpTable,
    /// What is done with the requests of its ModelRoutes, and with their answers; HTTPRoutes have their own filters.
    pub filters: Filters,
    /// The place of its Gateway among those of the bind.
    pub gateway_place: usize,
}

impl RouteTable {
    /// Makes a table with these pools and no routes.
    pub fn new(pools: Vec<PoolEntry>) -> Self {
        Self { binds: HashMap::new(), gateways: HashMap::new(), pools }
    }

    /// Adds a listener; listeners of one bind and hostname are asked in the order in which they are added.
    pub fn add_listener(&mut self, bind: Bind, mut listener: ListenerTable) {
        let gateways = self.gateways.entry(bind).or_default();
        let known = gateways.iter().position(|gateway| *gateway == listener.identity.gateway);
        listener.gateway_place = known.unwrap_or_else(|| {
            gateways.push(listener.identity.gateway.clone());
            gateways.len() - 1
        });
        self.binds.entry(bind).or_default().entry(&listener.identity.hostname).push(listener);
    }

    /// Returns the listeners that serve `host` on `bind`, the one to ask first leading.
    pub fn listeners(&self, bind: Bind, host: &str) -> &[ListenerTable] {
        self.binds.get(&bind).and_then(|hosts| hosts.find(host)).map_or(&[], Vec::as_slice)
    }

    /// Returns the hostname of the listeners that serve `host` on `bind`; `None` if there are none.
    ///
    /// Source: Gateway API, `Gateway.spec.listeners`: where that of the TLS server name differs from that of the
    /// `Host`, the request is misdirected, and answered with 421.
    pub fn listener_hostname(&self, bind: Bind, host: &str) -> Option<&Hostname> {
        self.listeners(bind, host).first().map(|listener| &listener.identity.hostname)
    }

    /// Returns how many Gateways have listeners on `bind`.
    pub fn gateways(&self, bind: Bind) -> usize {
        self.gateways.get(&bind).map_or(0, Vec::len)
    }

    /// Returns where a request of which no model is known may go on `bind`: where the ModelRoutes of its host lead, and where
    /// the rule of an HTTPRoute does that it falls under.
    pub fn destinations(&self, bind: Bind, head: &RequestHead<'_>) -> Vec<Destination> {
        let listeners = self.listeners(bind, head.host);
        let models = listeners.iter().flat_map(|listener| listener.models.pools());
        let rule = Self::find_rule(listeners, head).into_iter().flat_map(|(_, rule)| rule.destinations());
        let mut found: Vec<_> = models.map(|pool| Destination { pool, tls: None }).chain(rule).collect();
        found.sort_unstable_by_key(|destination| (destination.pool, destination.tls));
        found.dedup();
        found
    }

    /// Returns the rule of an HTTPRoute that a request falls under, and the listener that has it.
    pub(super) fn find_rule<'t>(
        listeners: &'t [ListenerTable],
        head: &RequestHead<'_>,
    ) -> Option<(&'t ListenerTable, HttpMatch<'t>)> {
        listeners.iter().find_map(|listener| Some((listener, listener.http.find(head)?)))
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
        Self { identity, models, http, filters: Filters::NONE, gateway_place: 0 }
    }
}
