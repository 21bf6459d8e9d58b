//! HTTPRoutes on listeners, and requests written in one line.

use std::sync::Arc;

use crate::conditions::{Problem, reason};
use crate::fixtures::{Pairs, bind, world};
use crate::hostname::{Hostname, request_host};
use crate::object::ObjectKey;
use crate::pool::policy::PoolIndex;
use crate::request_head::RequestHead;
use crate::routing::http::entry::{Destination, HttpEntry};
use crate::routing::http::route::{BackendReference, HttpRoute};
use crate::routing::http::table::HttpMatch;
use crate::routing::table::{ListenerIdentity, ListenerTable, RouteTable};

/// The backends that there are.
pub(super) const BACKENDS: [&str; 3] = ["v1", "v2", "v3"];

/// A request: method, host, path and query in one line, with its headers, and what is expected of it: the name of a
/// backend, or a status.
pub(super) type Case<'c> = (&'c str, &'c [(&'c str, &'c str)], &'c str);

/// A router with HTTPRoutes on one port.
pub(super) struct Scene {
    table: RouteTable,
}

/// Returns the HTTPRoutes of a manifest, in the order of their names.
pub(super) fn routes(manifest: &str) -> Vec<Arc<HttpRoute>> {
    world(manifest).http_routes.objects.into_values().collect()
}

/// Returns the only HTTPRoute of a manifest with these rules, a YAML list.
pub(super) fn route_of(rules: &str) -> Arc<HttpRoute> {
    routes(&route("route", "[]", rules)).remove(0)
}

/// Returns the YAML of an HTTPRoute; hostnames and rules are YAML lists.
pub(super) fn route(name: &str, hostnames: &str, rules: &str) -> String {
    let rules = rules.replace('\n', "\n    ");
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: {name}}}\n\
         spec:\n  hostnames: {hostnames}\n  rules:\n    {rules}\n---\n"
    )
}

/// Returns the YAML of a rule with these matches, each the inside of a YAML object, to one backend.
pub(super) fn rule(matches: &[&str], backend: &str) -> String {
    let matches: Vec<_> = matches.iter().map(|matched| format!("{{{matched}}}")).collect();
    format!("- matches: [{}]\n  backendRefs: [{{name: {backend}, port: 8080}}]\n", matches.join(", "))
}

/// Returns a match of a path prefix.
pub(super) fn prefix(path: &str) -> String {
    format!("path: {{type: PathPrefix, value: {path}}}")
}

/// Returns a match of an exact path.
pub(super) fn exact(path: &str) -> String {
    format!("path: {{type: Exact, value: {path}}}")
}

/// Returns a match of one header.
pub(super) fn header(name: &str, value: &str) -> String {
    format!("headers: [{{name: {name}, value: {value}}}]")
}

/// Returns a match of one parameter.
pub(super) fn query(name: &str, value: &str) -> String {
    format!("queryParams: [{{name: {name}, value: {value}}}]")
}

/// Returns an entry of a route, whose backends are the pools of this scene.
pub(super) fn entry(route: &Arc<HttpRoute>) -> Arc<HttpEntry> {
    Arc::new(HttpEntry::new(route, &resolve))
}

fn resolve(reference: &BackendReference) -> Result<Destination, Problem> {
    let place = BACKENDS.iter().position(|name| *name == &*reference.object.name);
    let missing = || Problem::new(reason::BACKEND_NOT_FOUND, format!("there is no Service `{}`", reference.object));
    place.map(|place| Destination { pool: PoolIndex(place), tls: None }).ok_or_else(missing)
}

impl Scene {
    /// Puts the HTTPRoutes of a manifest on one listener for all hosts.
    pub(super) fn new(manifest: &str) -> Self {
        Self::on(&[("", &routes(manifest))])
    }

    /// Puts HTTPRoutes on listeners, which have a hostname each.
    pub(super) fn on(listeners: &[(&str, &[Arc<HttpRoute>])]) -> Self {
        let mut table = RouteTable::new(Vec::new());
        for (hostname, routes) in listeners {
            let entries: Vec<_> = routes.iter().map(entry).collect();
            let hostname = Hostname::parse(Some(hostname));
            let identity = ListenerIdentity { hostname, port: 80, ..ListenerIdentity::default() };
            table.add_listener(bind(80), ListenerTable::new(identity, &[], &entries));
        }
        Self { table }
    }

    /// Decides about a request and shows `look` what comes of it; `None` is a 404.
    pub(super) fn decide<T>(
        &self,
        line: &str,
        headers: &[(&str, &str)],
        look: impl FnOnce(Option<HttpMatch<'_>>, &RequestHead<'_>) -> T,
    ) -> T {
        let (method, target) = line.split_once(' ').unwrap();
        let slash = target.find('/').unwrap();
        let (host, target) = (request_host(&target[..slash]), &target[slash..]);
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let headers: Vec<_> = headers.iter().map(|(name, value)| (name.to_ascii_lowercase(), *value)).collect();
        let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), *value)).collect();
        let head = RequestHead { method, host: &host, path, query, headers: &Pairs(&headers) };
        let listeners = self.table.listeners(bind(80), head.host);
        look(RouteTable::find_rule(listeners, &head).map(|(_, matched)| matched), &head)
    }

    /// Returns the name of the backend that a request leads to, or the status that it is answered with.
    pub(super) fn answer(&self, line: &str, headers: &[(&str, &str)]) -> String {
        self.decide(line, headers, |decision, _| match decision.map(|matched| matched.choose(|_| 0)) {
            None => "404".to_owned(),
            Some(Ok(target)) => BACKENDS[target.destination.pool.0].to_owned(),
            Some(Err(_)) => "500".to_owned(),
        })
    }

    /// Fails if one of the requests is not answered as expected.
    pub(super) fn holds(&self, table: &str, cases: &[Case<'_>]) {
        for (line, headers, expected) in cases {
            assert_eq!(self.answer(line, headers), *expected, "{table}: {line} {headers:?}");
        }
    }
}

/// Returns a key in the namespace `default`.
pub(super) fn key(name: &str) -> ObjectKey {
    ObjectKey::new("default", name)
}
