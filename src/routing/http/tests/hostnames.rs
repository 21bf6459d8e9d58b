//! Which listener and which routes a host leads to.

use std::sync::Arc;

use super::scene::{Case, Scene, header, prefix, route, routes, rule};
use crate::fixtures::bind;
use crate::hostname::Hostname;
use crate::record::Record;
use crate::routing::http::route::HttpRoute;
use crate::routing::table::{ListenerIdentity, ListenerTable, RouteTable};

/// Returns the route of this name with these hostnames, whose only rule sends a path to a backend.
fn host_route(name: &str, hostnames: &str, path: &str, backend: &str) -> Arc<HttpRoute> {
    host_route_matching(name, hostnames, &prefix(path), backend)
}

/// Returns the same with this match.
fn host_route_matching(name: &str, hostnames: &str, matched: &str, backend: &str) -> Arc<HttpRoute> {
    routes(&route(name, hostnames, &rule(&[matched], backend))).remove(0)
}

#[test]
fn only_hostnames_that_route_and_listener_share_are_served() {
    let routes = [
        host_route("s1", "[non.matching.com, '*.nonmatchingwildcard.io', very.specific.com]", "/s1", "v1"),
        host_route(
            "s2",
            "[non.matching.com, wildcard.io, foo.wildcard.io, bar.wildcard.io, foo.bar.wildcard.io]",
            "/s2",
            "v2",
        ),
        host_route("s3", "[non.matching.com, '*.specific.com']", "/s3", "v3"),
        host_route("s4", "['*.anotherwildcard.io']", "/s4", "v1"),
        host_route("s5", "[specific.but.wrong.com, wildcard.io]", "/s5", "v2"),
    ];
    let listeners = ["very.specific.com", "*.wildcard.io", "*.anotherwildcard.io"];
    let attached = |hostname: &str| {
        let hostname = Hostname::parse(Some(hostname));
        routes.iter().filter(|route| !route.hostnames_on(&hostname).is_empty()).count()
    };
    assert_eq!(listeners.map(attached), [2, 1, 1]);
    let served: &[Case<'_>] = &[
        ("GET very.specific.com/s1", &[], "v1"),
        ("GET very.specific.com:1234/s1", &[], "v1"),
        ("GET very.specific.com/s3", &[], "v3"),
        ("GET foo.wildcard.io/s2", &[], "v2"),
        ("GET bar.wildcard.io/s2", &[], "v2"),
        ("GET foo.bar.wildcard.io/s2", &[], "v2"),
        ("GET foo.anotherwildcard.io/s4", &[], "v1"),
        ("GET bar.anotherwildcard.io/s4", &[], "v1"),
        ("GET foo.bar.anotherwildcard.io/s4", &[], "v1"),
        ("GET non.matching.com/s1", &[], "404"),
        ("GET foo.nonmatchingwildcard.io/s1", &[], "404"),
        ("GET very.specific.com/s2", &[], "404"),
        ("GET very.specific.com/non-matching-prefix", &[], "404"),
        ("GET wildcard.io/s2", &[], "404"),
        ("GET anotherwildcard.io/s4", &[], "404"),
        ("GET foo.specific.com/s3", &[], "404"),
        ("GET baz.wildcard.io/s2", &[], "404"),
        ("GET wildcard.io/s5", &[], "404"),
    ];
    Scene::on(&listeners.map(|hostname| (hostname, &routes[..]))).holds("A.5", served);
}

#[test]
fn a_listener_for_all_hosts_serves_the_hosts_of_its_routes() {
    let hosts = "[first.com, sub.first.com, second.com, sub.second.com]";
    let scene = Scene::on(&[("", &[host_route("all", hosts, "/", "v2")])]);
    scene.holds(
        "A.5, second Gateway",
        &[
            ("GET first.com/", &[], "v2"),
            ("GET sub.first.com/", &[], "v2"),
            ("GET second.com/", &[], "v2"),
            ("GET sub.second.com/", &[], "v2"),
            ("GET third.com/", &[], "404"),
            ("GET sub.third.com/", &[], "404"),
        ],
    );
}

#[test]
fn the_most_specific_listener_takes_a_request() {
    let to = |backend: &str| [host_route(backend, "[]", "/", backend)];
    let scene = Scene::on(&[
        ("bar.com", &to("v1")),
        ("foo.bar.com", &to("v2")),
        ("*.bar.com", &to("v3")),
        ("*.foo.com", &to("v3")),
    ]);
    scene.holds(
        "A.6",
        &[
            ("GET bar.com/", &[], "v1"),
            ("GET foo.bar.com/", &[], "v2"),
            ("GET baz.bar.com/", &[], "v3"),
            ("GET boo.bar.com/", &[], "v3"),
            ("GET multiple.prefixes.bar.com/", &[], "v3"),
            ("GET multiple.prefixes.foo.com/", &[], "v3"),
            ("GET foo.com/", &[], "404"),
            ("GET no.matching.host/", &[], "404"),
        ],
    );
}

#[test]
fn what_a_listener_does_not_serve_does_not_fall_to_a_less_specific_one() {
    let hosts = ["bar.com", "bar.example.com", "bar.foo.example.com", "abc.foo.example.com"];
    let listeners = ["", "*.example.com", "*.foo.example.com", "abc.foo.example.com"];
    for intersecting in [false, true] {
        let hostnames = if intersecting { "[bar.com, '*.example.com', abc.foo.example.com]" } else { "[]" };
        let routes: Vec<_> = (0..4).map(|index| [host_route("route", hostnames, &format!("/{index}"), "v1")]).collect();
        let listeners: Vec<_> = listeners.iter().zip(&routes).map(|(name, routes)| (*name, &routes[..])).collect();
        let scene = Scene::on(&listeners);
        for (host_index, host) in hosts.iter().enumerate() {
            for path in 0..4 {
                let expected = if host_index == path { "v1" } else { "404" };
                assert_eq!(scene.answer(&format!("GET {host}/{path}"), &[]), expected, "A.16: {host}/{path}");
            }
        }
    }
}

#[test]
fn on_one_listener_a_request_falls_through_to_less_specific_hostnames() {
    let routes = [
        host_route("exact", "[a.b.example.com]", "/exact", "v1"),
        host_route("long", "['*.b.example.com']", "/long", "v2"),
        host_route("short", "['*.example.com']", "/", "v3"),
        host_route("any", "[]", "/exact/any", "v1"),
    ];
    Scene::on(&[("", &routes)]).holds(
        "hostname precedence",
        &[
            ("GET a.b.example.com/exact/any", &[], "v1"),
            ("GET a.b.example.com/long", &[], "v2"),
            ("GET a.b.example.com/other", &[], "v3"),
            ("GET c.b.example.com/exact", &[], "v3"),
            ("GET other.org/exact/any", &[], "v1"),
            ("GET other.org/exact", &[], "404"),
        ],
    );
}

/// Returns a route with one rule, which is older than those that are made with a higher number.
fn aged_route(name: &str, created: i64, hostnames: &str, matched: &str, backend: &str) -> Arc<HttpRoute> {
    let made = host_route_matching(name, hostnames, matched, backend);
    let record = Record { created, ..Record::default() };
    Arc::new(HttpRoute::compile(made.key.clone(), record, made.spec.clone()))
}

#[test]
fn on_one_listener_a_routes_own_hostname_goes_before_age_path_and_headers() {
    let (path, longer) = (prefix("/path"), prefix("/path/prefix"));
    let with_header = |path: &str, name: &str| format!("{path}, {}", header(name, "x"));
    for (listener, less, more) in [
        ("abc.example.com", "['*.example.com']", "[abc.example.com]"),
        ("*.example.com", "['*.com']", "['*.example.com']"),
    ] {
        let any = prefix("/");
        for (case, of_less, of_more, expected) in [
            ("age", &any, &any, "v2"),
            ("path", &longer, &path, "v2"),
            ("headers", &with_header(&longer, "b"), &with_header(&path, "a"), "v2"),
            ("no match", &longer, &with_header(&path, "c"), "v1"),
        ] {
            let routes = [aged_route("older", 1, less, of_less, "v1"), aged_route("newer", 2, more, of_more, "v2")];
            let asked: Case<'_> = ("GET abc.example.com/path/prefix/longer", &[("a", "x"), ("b", "x")], expected);
            Scene::on(&[(listener, &routes)]).holds(&format!("{case} on {listener}"), &[asked]);
        }
    }
}

#[test]
fn a_route_without_hostnames_goes_after_all_that_have_some() {
    let routes = [host_route("any", "[]", "/path", "v1"), host_route("wildcard", "['*.example.com']", "/", "v2")];
    Scene::on(&[("abc.example.com", &routes)]).holds("no hostname", &[("GET abc.example.com/path", &[], "v2")]);
}

#[test]
fn a_request_is_misdirected_when_server_name_and_host_lead_to_different_listeners() {
    let mut table = RouteTable::new(Vec::new());
    for hostname in ["", "second-example.org", "*.wildcard.org", "fourth-example.wildcard.org"] {
        let identity = ListenerIdentity { hostname: Hostname::parse(Some(hostname)), ..ListenerIdentity::default() };
        table.add_listener(bind(443), ListenerTable::new(identity, &[], &[]));
    }
    let listener = |host: &str| table.listener_hostname(bind(443), host);
    for (server_name, host, misdirected) in [
        ("example.org", "example.org", false),
        ("example.org", "second-example.org", true),
        ("example.org", "unknown-example.org", false),
        ("second-example.org", "second-example.org", false),
        ("second-example.org", "example.org", true),
        ("second-example.org", "unknown-example.org", true),
        ("third-example.wildcard.org", "third-example.wildcard.org", false),
        ("third-example.wildcard.org", "fifth-example.wildcard.org", false),
        ("third-example.wildcard.org", "fourth-example.wildcard.org", true),
        ("third-example.wildcard.org", "second-example.org", true),
        ("third-example.wildcard.org", "unknown-example.org", true),
        ("fourth-example.wildcard.org", "fourth-example.wildcard.org", false),
        ("fourth-example.wildcard.org", "fifth-example.wildcard.org", true),
        ("unknown-example.org", "example.org", false),
        ("unknown-example.org", "unknown-example.org", false),
    ] {
        assert_eq!(listener(server_name) != listener(host), misdirected, "A.11: {server_name}, {host}");
    }
}
