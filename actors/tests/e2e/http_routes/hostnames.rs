//! Which listener and which route a host leads to.

use super::scene::{Case, exact, prefix, route_on, rule, scene_of};
use crate::harness::gateway_yaml;

fn on(section: &str) -> String {
    format!("{{name: gateway, sectionName: {section}}}")
}

#[actix_web::test]
async fn a_route_serves_the_hosts_that_its_listeners_serve_too() {
    let gateway = gateway_yaml(
        "gateway",
        &[(8080, Some("very.specific.com")), (8080, Some("*.wildcard.io")), (8080, Some("*.anotherwildcard.io"))],
    );
    let route = |name: &str, section: &str, hosts: &str, backend: &str| {
        route_on(name, &on(section), hosts, &rule(&[&prefix(&format!("/{name}"))], backend))
    };
    let routes = route("s1", "l0", "[non.matching.com, '*.nonmatchingwildcard.io', very.specific.com]", "v1")
        + &route(
            "s2",
            "l1",
            "[non.matching.com, wildcard.io, foo.wildcard.io, bar.wildcard.io, foo.bar.wildcard.io]",
            "v2",
        )
        + &route("s3", "l0", "[non.matching.com, '*.specific.com']", "v3")
        + &route("s4", "l2", "['*.anotherwildcard.io']", "v1")
        + &route("s5", "l1", "[specific.but.wrong.com, wildcard.io]", "v1");
    let table: &[Case<'_>] = &[
        ("GET very.specific.com/s1", &[], "v1"),
        ("GET very.specific.com:8080/s1", &[], "v1"),
        ("GET very.specific.com/s3", &[], "v3"),
        ("GET foo.wildcard.io/s2", &[], "v2"),
        ("GET bar.wildcard.io/s2", &[], "v2"),
        ("GET foo.bar.wildcard.io/s2", &[], "v2"),
        ("GET foo.anotherwildcard.io/s4", &[], "v1"),
        ("GET foo.bar.anotherwildcard.io/s4", &[], "v1"),
        ("GET non.matching.com/s1", &[], "404"),
        ("GET foo.nonmatchingwildcard.io/s1", &[], "404"),
        ("GET wildcard.io/s2", &[], "404"),
        ("GET anotherwildcard.io/s4", &[], "404"),
        ("GET foo.specific.com/s3", &[], "404"),
        ("GET very.specific.com/s2", &[], "404"),
        ("GET foo.wildcard.io/s1", &[], "404"),
        ("GET foo.wildcard.io/s5", &[], "404"),
        ("GET very.specific.com/non-matching-prefix", &[], "404"),
    ];
    scene_of(&(gateway + &routes)).await.holds("A.5", table).await;
}

#[actix_web::test]
async fn the_most_specific_listener_takes_a_host() {
    let hosts = ["bar.com", "foo.bar.com", "*.bar.com", "*.foo.com"];
    let gateway = gateway_yaml("gateway", &hosts.map(|host| (8080, Some(host))));
    let everything = |backend: &str| rule(&[], backend);
    let routes = route_on("first", &on("l0"), "[]", &everything("v1"))
        + &route_on("second", &on("l1"), "[]", &everything("v2"))
        + &route_on("third", &format!("{}, {}", on("l2"), on("l3")), "[]", &everything("v3"));
    let table: &[Case<'_>] = &[
        ("GET bar.com/", &[], "v1"),
        ("GET foo.bar.com/", &[], "v2"),
        ("GET baz.bar.com/", &[], "v3"),
        ("GET boo.bar.com/", &[], "v3"),
        ("GET multiple.prefixes.bar.com/", &[], "v3"),
        ("GET multiple.prefixes.foo.com/", &[], "v3"),
        ("GET foo.com/", &[], "404"),
        ("GET no.matching.host/", &[], "404"),
    ];
    scene_of(&(gateway + &routes)).await.holds("A.6", table).await;
}

#[actix_web::test]
async fn a_parent_port_attaches_to_the_listeners_of_that_port() {
    let gateway = gateway_yaml(
        "gateway",
        &[
            (8070, Some("foo.com")),
            (8080, Some("foo.com")),
            (8080, Some("bar.com")),
            (8090, Some("foo.com")),
            (8090, Some("bar.com")),
        ],
    );
    let everything = |backend: &str| rule(&[], backend);
    let routes = route_on("first", "{name: gateway, port: 8070}", "[]", &everything("v1"))
        + &route_on("second", "{name: gateway, port: 8080}", "[]", &everything("v2"))
        + &route_on("third", "{name: gateway, port: 8090, sectionName: l3}", "[]", &everything("v3"));
    let table: &[Case<'_>] = &[
        ("GET foo.com:8070/", &[], "v1"),
        ("GET foo.com:8080/", &[], "v2"),
        ("GET bar.com:8080/", &[], "v2"),
        ("GET foo.com:8090/", &[], "v3"),
        ("GET bar.com:8090/", &[], "404"),
    ];
    scene_of(&(gateway + &routes)).await.holds("A.14", table).await;
}

#[actix_web::test]
async fn listeners_are_isolated_with_and_without_hostnames_on_routes() {
    let hosts = [None, Some("*.example.com"), Some("*.foo.example.com"), Some("abc.foo.example.com")];
    let gateway = gateway_yaml("gateway", &hosts.map(|host| (8080, host)));
    let requested = ["bar.com", "bar.example.com", "bar.foo.example.com", "abc.foo.example.com"];
    let of_routes = "['bar.com', '*.example.com', '*.foo.example.com', 'abc.foo.example.com']";
    for hostnames in ["[]", of_routes] {
        let route = |index: usize| {
            let path = exact(&format!("/listener-{index}"));
            route_on(&format!("r{index}"), &on(&format!("l{index}")), hostnames, &rule(&[&path], "v1"))
        };
        let scene = scene_of(&(gateway.clone() + &(0..4).map(route).collect::<String>())).await;
        for (place, host) in requested.iter().enumerate() {
            for path in 0..4 {
                let expected = if place == path { "v1" } else { "404" };
                scene.holds("A.16", &[(&format!("GET {host}/listener-{path}"), &[], expected)]).await;
            }
        }
    }
}
