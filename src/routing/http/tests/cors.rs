//! Which scripts of other origins browsers let through.

use super::scene::route_of;
use crate::routing::http::cors::{Cors, is_preflight};

fn cors(settings: &str) -> Cors {
    let rules = format!("- filters: [{{type: CORS, cors: {{{settings}}}}}]\n  backendRefs: [{{name: v1, port: 8080}}]");
    let route = route_of(&rules);
    assert_eq!(route.faults, []);
    route.rules[0].filters.cors.clone().unwrap()
}

/// The five rules of the conformance test.
fn rules() -> [Cors; 5] {
    [
        "allowOrigins: ['https://www.foo.com', 'https://*.bar.com'], allowMethods: [GET, OPTIONS], \
         allowHeaders: [x-header-1, x-header-2], exposeHeaders: [x-header-3, x-header-4], allowCredentials: true, \
         maxAge: 3600",
        "allowOrigins: ['https://www.foo.com'], allowMethods: ['*']",
        "allowOrigins: ['*'], allowMethods: [PUT], allowCredentials: false",
        "allowOrigins: ['*'], allowMethods: ['*'], allowHeaders: ['*'], allowCredentials: true",
        "allowOrigins: ['*'], allowMethods: ['*'], allowHeaders: ['*'], allowCredentials: false",
    ]
    .map(cors)
}

/// Returns headers as lines without `access-control-` in front of their names; `vary` is left out.
fn lines(headers: Vec<(&'static str, String)>) -> Vec<String> {
    let headers = headers.into_iter().filter(|(name, _)| *name != "vary");
    headers.map(|(name, value)| format!("{}: {value}", name.strip_prefix("access-control-").unwrap())).collect()
}

#[test]
fn preflights_are_answered_by_the_rule() {
    let first = |origin: &str| {
        let allowed = format!("allow-origin: {origin}");
        let rest = [
            "allow-credentials: true",
            "allow-methods: GET, OPTIONS",
            "allow-headers: x-header-1, x-header-2",
            "expose-headers: x-header-3, x-header-4",
            "max-age: 3600",
        ];
        [allowed].into_iter().chain(rest.map(str::to_owned)).collect::<Vec<_>>()
    };
    let listed = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
    let requested = Some("x-header-1, x-header-2");
    let cases = [
        (0, "https://www.foo.com", "GET", requested, first("https://www.foo.com")),
        (0, "https://www.bar.com", "GET", requested, first("https://www.bar.com")),
        (0, "https://xpto.www.bar.com", "GET", requested, first("https://xpto.www.bar.com")),
        (0, "https://foobar.com", "GET", None, Vec::new()),
        (
            1,
            "https://www.foo.com",
            "POST",
            None,
            listed(&["allow-origin: https://www.foo.com", "allow-methods: POST", "max-age: 5"]),
        ),
        (2, "https://foobar.com", "PUT", None, listed(&["allow-origin: *", "allow-methods: PUT", "max-age: 5"])),
        (2, "https://foobar.com:12345", "PUT", None, listed(&["allow-origin: *", "allow-methods: PUT", "max-age: 5"])),
        (
            3,
            "https://other.foo.com",
            "PUT",
            requested,
            listed(&[
                "allow-origin: https://other.foo.com",
                "allow-credentials: true",
                "allow-methods: PUT",
                "allow-headers: x-header-1, x-header-2",
                "max-age: 5",
            ]),
        ),
        (
            4,
            "https://other.foo.com",
            "PUT",
            requested,
            listed(&["allow-origin: *", "allow-methods: PUT", "allow-headers: x-header-1, x-header-2", "max-age: 5"]),
        ),
    ];
    let rules = rules();
    for (rule, origin, method, headers, expected) in cases {
        assert_eq!(lines(rules[rule].preflight(origin, method, headers)), expected, "A.9: rule {rule}, {origin}");
    }
}

#[test]
fn other_requests_are_told_whether_their_origin_is_let_in() {
    let rules = rules();
    let exposed = "expose-headers: x-header-3, x-header-4";
    for (rule, origin, expected) in [
        (0, "https://www.foo.com", &["allow-origin: https://www.foo.com", "allow-credentials: true", exposed][..]),
        (0, "https://www.bar.com", &["allow-origin: https://www.bar.com", "allow-credentials: true", exposed]),
        (0, "https://foobar.com", &[]),
        (2, "https://foobar.com:12345", &["allow-origin: *"]),
        (2, "https://foobar.com", &["allow-origin: *"]),
        (3, "https://other.foo.com", &["allow-origin: https://other.foo.com", "allow-credentials: true"]),
        (4, "https://other.foo.com", &["allow-origin: *"]),
    ] {
        assert_eq!(lines(rules[rule].simple(origin)), expected, "A.9: rule {rule}, {origin}");
    }
}

#[test]
fn an_origin_is_compared_by_scheme_host_and_port() {
    let settings = "allowOrigins: ['https://a.com', 'http://b.com:8080', 'https://*.c.com:8443', 'http://*']";
    let origins = cors(settings).origins;
    for (origin, expected) in [
        ("https://a.com", true),
        ("https://a.com:443", true),
        ("HTTPS://A.com", true),
        ("https://a.com:8443", false),
        ("https://x.a.com", false),
        ("http://b.com:8080", true),
        ("https://b.com:8080", false),
        ("https://x.y.c.com:8443", true),
        ("https://c.com:8443", false),
        ("https://.c.com:8443", false),
        ("https://xc.com:8443", false),
        ("https://x.c.com.evil.org:8443", false),
        ("http://whatever.org", true),
        ("http://[::1]", true),
        ("http://whatever.org:81", false),
        ("null", false),
        ("https://", false),
        ("https://a.com:", false),
        ("https://a.com:99999", false),
        ("https://é.c.com:8443", true),
        ("https://é", false),
        ("", false),
    ] {
        assert_eq!(origins.contain(origin), expected, "{origin}");
    }
}

#[test]
fn caches_are_told_what_answers_depend_on() {
    let vary = |headers: Vec<(&'static str, String)>| {
        headers.into_iter().find(|(name, _)| *name == "vary").map(|(_, value)| value)
    };
    let [listed, _, any, with_credentials, _] = rules();
    for (name, cors, expected) in [("listed", &listed, true), ("any", &any, false), ("own", &with_credentials, true)] {
        assert_eq!(vary(cors.simple("https://nobody.org")).is_some(), expected, "{name}");
        assert_eq!(cors.depends_on_origin(), expected, "{name}");
        assert!(vary(cors.preflight("https://nobody.org", "GET", None)).is_some(), "{name}");
    }
}

#[test]
fn the_wildcard_is_not_sent_where_credentials_are() {
    let with_credentials =
        cors("allowOrigins: ['*'], allowHeaders: ['*'], exposeHeaders: ['*'], allowCredentials: true");
    let without = cors("allowOrigins: ['*'], allowHeaders: ['*'], exposeHeaders: ['*']");
    let stars = |headers: Vec<(&'static str, String)>| headers.iter().filter(|(_, value)| value == "*").count();
    assert_eq!(stars(with_credentials.preflight("https://a.com", "GET", None)), 0);
    assert_eq!(stars(without.preflight("https://a.com", "GET", None)), 3);
}

#[test]
fn only_options_with_both_headers_is_a_preflight() {
    for (method, origin, requested, expected) in [
        ("OPTIONS", Some("https://a.com"), Some("GET"), true),
        ("OPTIONS", Some("https://a.com"), None, false),
        ("OPTIONS", None, Some("GET"), false),
        ("GET", Some("https://a.com"), Some("GET"), false),
    ] {
        assert_eq!(is_preflight(method, origin, requested), expected, "{method} {origin:?} {requested:?}");
    }
}
