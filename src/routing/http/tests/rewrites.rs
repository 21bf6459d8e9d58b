//! What becomes of hosts, paths and headers: redirects, rewrites and header modifiers.

use std::collections::BTreeMap;

use super::scene::{Scene, prefix, route, route_of};
use crate::routing::http::filters::Filters;
use crate::routing::http::headers::HeaderList;
use crate::routing::http::path_modifier::PathModifier;
use crate::routing::http::redirect::{RedirectContext, Scheme};

/// Returns the YAML of a rule for a path prefix with one filter.
fn rule(path: &str, filter: &str, rest: &str) -> String {
    format!("- matches: [{{{}}}]\n  filters: [{filter}]\n  {rest}\n", prefix(path))
}

fn redirect(path: &str, settings: &str) -> String {
    rule(path, &format!("{{type: RequestRedirect, requestRedirect: {{{settings}}}}}"), "")
}

fn rewrite(path: &str, settings: &str) -> String {
    let filter = format!("{{type: URLRewrite, urlRewrite: {{{settings}}}}}");
    rule(path, &filter, "backendRefs: [{name: v1, port: 8080}]")
}

fn full(path: &str) -> String {
    format!("path: {{type: ReplaceFullPath, replaceFullPath: {path}}}")
}

fn replaced(path: &str) -> String {
    format!("path: {{type: ReplacePrefixMatch, replacePrefixMatch: {path}}}")
}

/// Returns status and location of the redirect that a request on a listener is answered with.
fn location(scene: &Scene, line: &str, scheme: Scheme, port: u16) -> (u16, String) {
    scene.decide(line, &[], |decision, head| {
        let matched = decision.unwrap();
        let redirect = matched.rule.filters.redirect.as_ref().unwrap();
        redirect.location(&RedirectContext {
            scheme,
            host: head.host,
            port,
            path: head.path,
            query: head.query,
            matched: matched.prefix(),
        })
    })
}

#[test]
fn redirects_change_what_they_say_and_keep_the_rest() {
    let cases = [
        ("hostname: example.org", 302, "http://example.org/0"),
        ("hostname: example.org, statusCode: 301", 301, "http://example.org/0"),
        ("port: 8083", 302, "http://a.com:8083/0"),
        ("hostname: example.org, port: 8083", 302, "http://example.org:8083/0"),
        ("port: 8083, statusCode: 301", 301, "http://a.com:8083/0"),
        ("scheme: https", 302, "https://a.com/0"),
        ("scheme: https, hostname: example.org, statusCode: 301", 301, "https://example.org/0"),
        ("statusCode: 303", 303, "http://a.com/0"),
        ("statusCode: 307", 307, "http://a.com/0"),
        ("statusCode: 308", 308, "http://a.com/0"),
        (&replaced("/new"), 302, "http://a.com/new/lemon"),
        (&full("/new"), 302, "http://a.com/new"),
        (&format!("hostname: example.org, {}", full("/new")), 302, "http://example.org/new"),
        (&format!("statusCode: 301, {}", full("/new")), 301, "http://a.com/new"),
    ];
    for (settings, status, expected) in cases {
        let scene = Scene::new(&route("route", "[]", &redirect("/0", settings)));
        let (line, expected) = match settings.contains("path") {
            true => ("GET a.com/0/lemon?x=1", expected.to_owned()),
            false => ("GET a.com:8080/0/lemon?x=1", format!("{expected}/lemon")),
        };
        assert_eq!(location(&scene, line, Scheme::Http, 80), (status, format!("{expected}?x=1")), "{settings}");
    }
}

#[test]
fn the_port_of_a_redirect_is_derived_from_scheme_and_listener() {
    use Scheme::{Http, Https};
    for (scheme, port, settings, expected) in [
        (Http, 80, "", "http://example.org/"),
        (Http, 80, ", port: 80", "http://example.org/"),
        (Http, 80, ", port: 8080", "http://example.org:8080/"),
        (Http, 80, ", scheme: https", "https://example.org/"),
        (Http, 80, ", scheme: https, port: 443", "https://example.org/"),
        (Http, 80, ", scheme: https, port: 8443", "https://example.org:8443/"),
        (Http, 8080, "", "http://example.org:8080/"),
        (Http, 8080, ", port: 80", "http://example.org/"),
        (Http, 8080, ", scheme: https", "https://example.org/"),
        (Http, 8080, ", scheme: http", "http://example.org/"),
        (Https, 443, "", "https://example.org/"),
        (Https, 443, ", port: 443", "https://example.org/"),
        (Https, 443, ", port: 8443", "https://example.org:8443/"),
        (Https, 443, ", scheme: http", "http://example.org/"),
        (Https, 443, ", scheme: http, port: 80", "http://example.org/"),
        (Https, 443, ", scheme: http, port: 8080", "http://example.org:8080/"),
        (Https, 8443, "", "https://example.org:8443/"),
    ] {
        let rules = redirect("/", &format!("hostname: example.org{settings}"));
        let scene = Scene::new(&route("route", "[]", &rules));
        let found = location(&scene, "GET a/", scheme, port).1;
        assert_eq!(found, expected, "{scheme} on {port}: {settings}");
    }
}

#[test]
fn a_redirect_keeps_hosts_of_every_kind() {
    let scene = Scene::new(&route("route", "[]", &redirect("/", "port: 8443")));
    for (line, expected) in [
        ("GET [::1]:80/x", "http://[::1]:8443/x"),
        ("GET 127.0.0.1/x", "http://127.0.0.1:8443/x"),
        ("GET EXAMPLE.org/x", "http://example.org:8443/x"),
        ("GET /x", "/x"),
    ] {
        assert_eq!(location(&scene, line, Scheme::Http, 80).1, expected, "{line}");
    }
}

#[test]
fn rewrites_change_path_and_host() {
    let rules = rewrite("/prefix/one", &replaced("/one"))
        + &rewrite("/strip-prefix", &replaced("/"))
        + &rewrite("/full/one", &full("/one"))
        + &rewrite("/host", "hostname: one.example.org")
        + &rewrite("/both", &format!("hostname: two.example.org, {}", replaced("''")));
    let scene = Scene::new(&route("route", "[]", &rules));
    for (line, host, path) in [
        ("GET a/prefix/one/two", None, "/one/two"),
        ("GET a/strip-prefix/three", None, "/three"),
        ("GET a/strip-prefix", None, "/"),
        ("GET a/full/one/two", None, "/one"),
        ("GET a/host/x", Some("one.example.org"), "/host/x"),
        ("GET a/both//x", Some("two.example.org"), "//x"),
    ] {
        scene.decide(line, &[], |decision, head| {
            let matched = decision.unwrap();
            let rewrite = matched.rule.filters.rewrite.as_ref().unwrap();
            let kept = PathModifier::Prefix(matched.prefix().unwrap_or_default().to_owned());
            let modifier = rewrite.path.as_ref().unwrap_or(&kept);
            assert_eq!(modifier.apply(head.path, matched.prefix()), path, "A.15: {line}");
            assert_eq!(rewrite.hostname.as_deref(), host, "A.15: {line}");
        });
    }
}

#[test]
fn a_prefix_is_replaced_by_whole_elements() {
    for (path, matched, replacement, expected) in [
        ("/foo/bar", "/foo", "/xyz", "/xyz/bar"),
        ("/foo/bar", "/foo", "/xyz/", "/xyz/bar"),
        ("/foo/bar", "/foo/", "/xyz", "/xyz/bar"),
        ("/foo/bar", "/foo/", "/xyz/", "/xyz/bar"),
        ("/foo", "/foo", "/xyz", "/xyz"),
        ("/foo/", "/foo", "/xyz", "/xyz/"),
        ("/foo/bar", "/foo", "''", "/bar"),
        ("/foo/", "/foo", "''", "/"),
        ("/foo", "/foo", "''", "/"),
        ("/foo/", "/foo", "/", "/"),
        ("/foo", "/foo", "/", "/"),
        ("/foo", "/", "/xyz", "/xyz/foo"),
        ("/", "/", "/xyz", "/xyz/"),
        ("/foo/bar", "/foo", "xyz", "/xyz/bar"),
    ] {
        let scene = Scene::new(&route("route", "[]", &rewrite(matched, &replaced(replacement))));
        scene.decide(&format!("GET a{path}"), &[], |decision, head| {
            let matched = decision.unwrap();
            let modifier = matched.rule.filters.rewrite.as_ref().and_then(|rewrite| rewrite.path.as_ref()).unwrap();
            assert_eq!(modifier.apply(head.path, matched.prefix()), expected, "{path}: {replacement}");
        });
    }
}

/// Headers by name, each with its lines.
struct Lines(BTreeMap<String, Vec<String>>);

impl HeaderList for Lines {
    fn joined(&self, name: &str) -> Option<String> {
        self.0.get(name).map(|lines| lines.join(","))
    }

    fn set(&mut self, name: &str, value: &str) {
        self.0.insert(name.to_owned(), vec![value.to_owned()]);
    }

    fn append(&mut self, name: &str, value: &str) {
        self.0.entry(name.to_owned()).or_default().push(value.to_owned());
    }

    fn remove(&mut self, name: &str) {
        self.0.remove(name);
    }
}

#[test]
fn header_modifiers_set_add_and_remove() {
    let edits = "{set: [{name: X-Set, value: new}, {name: x-set, value: later}], \
                 add: [{name: X-Add, value: more}, {name: Set-Cookie, value: b=2}, {name: X-New, value: fresh}], \
                 remove: [X-Remove, x-missing]}";
    let filter = format!("{{type: RequestHeaderModifier, requestHeaderModifier: {edits}}}");
    let both = format!("{filter}, {{type: ResponseHeaderModifier, responseHeaderModifier: {edits}}}");
    let route = route_of(&rule("/", &both, ""));
    assert_eq!(route.faults, []);
    let Filters { request_headers, response_headers, .. } = &route.rules[0].filters;
    assert_eq!(request_headers, response_headers);
    let before = [("x-set", "old"), ("x-add", "old"), ("x-remove", "old"), ("x-kept", "old"), ("set-cookie", "a=1")];
    let before = before.map(|(name, value)| (name.to_owned(), vec![value.to_owned()]));
    let mut headers = Lines(before.into());
    request_headers.apply(&mut headers);
    let after: Vec<_> = headers.0.iter().map(|(name, lines)| format!("{name}: {}", lines.join(" | "))).collect();
    let expected = ["set-cookie: a=1 | b=2", "x-add: old,more", "x-kept: old", "x-new: fresh", "x-set: new"];
    assert_eq!(after, expected, "A.8");
}
