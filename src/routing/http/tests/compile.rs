//! What is wrong with specs, and how much of a route that spoils.

use std::time::Duration;

use super::scene::{Scene, exact, prefix, route, route_of, routes, rule};
use crate::pool::retry::RetryPolicy;
use crate::routing::http::route::{HttpRoute, Timeouts, Validity};

const BACKEND: &str = "backendRefs: [{name: v1, port: 8080}]";

/// Returns the faults as `reason path`.
fn faults(route: &HttpRoute) -> Vec<String> {
    route.faults.iter().map(|fault| format!("{} {}", fault.reason, fault.fault.path)).collect()
}

/// Fails unless a rule has exactly this one fault, or none where none is expected.
fn has_fault(case: &str, rule: &str, expected: &str) {
    let route = route_of(&format!("- {rule}\n"));
    let expected: Vec<_> = if expected.is_empty() { Vec::new() } else { vec![expected.to_owned()] };
    assert_eq!(faults(&route), expected, "{case}: {:?}", route.faults);
    assert_eq!(route.rules[0].is_valid, expected.is_empty(), "{case}");
}

#[test]
fn matches_are_checked_field_by_field() {
    let at = |field: &str| format!("UnsupportedValue spec.rules[0].matches[0].{field}");
    for (case, matched, fault) in [
        ("path type", "path: {type: Glob, value: /}", at("path.type")),
        ("relative path", "path: {value: a}", at("path.value")),
        ("double slash", "path: {type: Exact, value: /a//b}", at("path.value")),
        ("escaped slash", "path: {value: /a%2Fb}", at("path.value")),
        ("dots", "path: {value: /a/..}", at("path.value")),
        ("fragment", "path: {value: '/a#b'}", at("path.value")),
        ("space", "path: {value: '/a b'}", at("path.value")),
        ("bad escape", "path: {value: '/a%4'}", at("path.value")),
        ("open bracket", "path: {type: RegularExpression, value: '/[a'}", at("path.value")),
        ("unbalanced", "path: {type: RegularExpression, value: 'a)(b'}", at("path.value")),
        ("method", "method: FETCH", at("method")),
        ("method in lower case", "method: get", at("method")),
        ("header name", "headers: [{name: 'a b', value: x}]", at("headers[0].name")),
        ("header value", "headers: [{name: a, value: ''}]", at("headers[0].value")),
        ("header type", "headers: [{type: Prefix, name: a, value: x}]", at("headers[0].type")),
        ("header regex", "headers: [{type: RegularExpression, name: a, value: '('}]", at("headers[0].value")),
        ("query type", "queryParams: [{type: Prefix, name: a, value: x}]", at("queryParams[0].type")),
        ("escapes are fine", "path: {type: Exact, value: '/a%20b'}", String::new()),
        ("dots in names are fine", "path: {value: /a/..b/.c}", String::new()),
    ] {
        has_fault(case, &format!("matches: [{{{matched}}}]\n  {BACKEND}"), &fault);
    }
}

#[test]
fn filters_are_checked_field_by_field() {
    let unsupported = |field: &str| format!("UnsupportedValue spec.rules[0].filters[0]{field}");
    let incompatible = |field: &str| format!("IncompatibleFilters spec.rules[0].filters{field}");
    let redirect = "{type: RequestRedirect, requestRedirect: {port: 80}}";
    let rewrite = "{type: URLRewrite, urlRewrite: {hostname: a.com}}";
    let header = "{type: RequestHeaderModifier, requestHeaderModifier: {remove: [x]}}";
    let modifier = |lists: &str| format!("{{type: ResponseHeaderModifier, responseHeaderModifier: {{{lists}}}}}");
    let mirror = |share: &str| format!("{{type: RequestMirror, requestMirror: {{backendRef: {{name: v2}}, {share}}}}}");
    let cors = |settings: &str| format!("{{type: CORS, cors: {{{settings}}}}}");
    for (case, filters, fault) in [
        ("unknown", "{type: Sparkle}", unsupported(".type")),
        ("external authorization", "{type: ExternalAuth}", unsupported(".type")),
        ("extension", "{type: ExtensionRef, extensionRef: {group: a.io, kind: B, name: c}}", unsupported(".type")),
        ("missing settings", "{type: CORS}", unsupported("")),
        ("repeated", &format!("{header}, {header}"), incompatible("[1]")),
        ("redirect and rewrite", &format!("{redirect}, {rewrite}"), incompatible("")),
        ("two actions", &modifier("set: [{name: A, value: x}], remove: [a]"), unsupported(".responseHeaderModifier")),
        (
            "framing",
            &modifier("set: [{name: Content-Length, value: '1'}]"),
            unsupported(".responseHeaderModifier.set[0].name"),
        ),
        (
            "line break",
            &modifier("add: [{name: a, value: \"b\\r\\nc: d\"}]"),
            unsupported(".responseHeaderModifier.add[0].value"),
        ),
        ("percent", &mirror("percent: 101"), unsupported(".requestMirror")),
        ("fraction", &mirror("fraction: {numerator: 3, denominator: 2}"), unsupported(".requestMirror")),
        ("zero", &mirror("fraction: {numerator: 0, denominator: 0}"), unsupported(".requestMirror")),
        ("both", &mirror("percent: 1, fraction: {numerator: 1}"), unsupported(".requestMirror")),
        ("origin", &cors("allowOrigins: [a.com]"), unsupported(".cors.allowOrigins[0]")),
        ("wildcards", &cors("allowOrigins: ['*', 'https://a.com']"), unsupported(".cors.allowOrigins")),
        ("cors method", &cors("allowMethods: [FETCH]"), unsupported(".cors.allowMethods[0]")),
        ("age", &cors("maxAge: 0"), unsupported(".cors.maxAge")),
        ("two mirrors are fine", &format!("{}, {}", mirror("percent: 1"), mirror("percent: 2")), String::new()),
    ] {
        has_fault(case, &format!("filters: [{filters}]"), &fault);
    }
}

#[test]
fn redirects_and_rewrites_are_checked_against_their_rule() {
    let filter = |settings: &str| format!("filters: [{{type: RequestRedirect, requestRedirect: {{{settings}}}}}]");
    let unsupported = |field: &str| format!("UnsupportedValue spec.rules[0].filters[0].requestRedirect{field}");
    let incompatible = "IncompatibleFilters spec.rules[0].filters";
    let by_prefix = filter("path: {type: ReplacePrefixMatch, replacePrefixMatch: /x}");
    let in_backend = "backendRefs: [{name: v1, port: 1, filters: [{type: URLRewrite, \
                      urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /x}}}]}]";
    for (case, rule, fault) in [
        ("scheme", filter("scheme: ftp"), unsupported(".scheme")),
        ("port", filter("port: 65536"), unsupported(".port")),
        ("status", filter("statusCode: 418"), unsupported(".statusCode")),
        ("hostname", filter("hostname: '*.a.com'"), unsupported(".hostname")),
        ("path type", filter("path: {type: Replace}"), unsupported(".path.type")),
        ("path missing", filter("path: {type: ReplaceFullPath}"), unsupported(".path.replaceFullPath")),
        (
            "query in path",
            filter("path: {type: ReplaceFullPath, replaceFullPath: '/a?b'}"),
            unsupported(".path.replaceFullPath"),
        ),
        ("backends", format!("{}\n  {BACKEND}", filter("port: 80")), incompatible.to_owned()),
        ("prefix without matches", by_prefix.clone(), String::new()),
        ("prefix", format!("matches: [{{{}}}]\n  {by_prefix}", prefix("/a")), String::new()),
        ("exact", format!("matches: [{{{}}}]\n  {by_prefix}", exact("/a")), incompatible.to_owned()),
        ("exact, backend", format!("matches: [{{{}}}]\n  {in_backend}", exact("/a")), incompatible.to_owned()),
        ("prefix, backend", format!("matches: [{{{}}}]\n  {in_backend}", prefix("/a")), String::new()),
    ] {
        has_fault(case, &rule, &fault);
    }
}

#[test]
fn timeouts_retries_and_weights_are_checked() {
    let at = |field: &str| format!("UnsupportedValue spec.rules[0].{field}");
    for (case, rule, fault) in [
        ("unit", "timeouts: {request: 1d}", at("timeouts.request")),
        ("fraction", "timeouts: {request: 1.5s}", at("timeouts.request")),
        ("no unit", "timeouts: {backendRequest: '10'}", at("timeouts.backendRequest")),
        ("longer than the whole", "timeouts: {request: 1s, backendRequest: 2s}", at("timeouts.backendRequest")),
        ("without a whole", "timeouts: {request: 0s, backendRequest: 2s}", String::new()),
        ("attempts", "retry: {attempts: -1}", at("retry.attempts")),
        ("no retries", "retry: {attempts: 0}", String::new()),
        ("code", "retry: {codes: [500, 200]}", at("retry.codes[1]")),
        ("backoff", "retry: {backoff: soon}", at("retry.backoff")),
        ("weight", "backendRefs: [{name: v1, port: 1, weight: 1000001}]", at("backendRefs[0].weight")),
        ("negative weight", "backendRefs: [{name: v1, port: 1, weight: -1}]", at("backendRefs[0].weight")),
    ] {
        has_fault(case, rule, &fault);
    }
}

#[test]
fn timeouts_and_retries_have_their_defaults() {
    let second = Some(Duration::from_secs(1));
    for (timeouts, expected) in [
        ("{request: 1s, backendRequest: 500ms}", (second, Some(Duration::from_millis(500)))),
        ("{request: 0s, backendRequest: 1s}", (None, second)),
        ("{}", (None, None)),
    ] {
        let (request, backend_request) = expected;
        let route = route_of(&format!("- timeouts: {timeouts}\n"));
        assert_eq!(route.rules[0].timeouts, Timeouts { request, backend_request }, "{timeouts}");
    }
    let backoff = Duration::from_millis(25);
    for (retry, expected) in [
        (
            "{attempts: 3, codes: [500, 503], backoff: 1s}",
            RetryPolicy::of_rule(3, vec![500, 503], Duration::from_secs(1)),
        ),
        ("{}", RetryPolicy::of_rule(1, Vec::new(), backoff)),
        ("{attempts: 0, codes: [503]}", RetryPolicy::of_rule(0, vec![503], backoff)),
    ] {
        let route = route_of(&format!("- retry: {retry}\n"));
        assert_eq!(route.rules[0].retry.as_ref(), Some(&expected), "{retry}");
    }
}

#[test]
fn a_rule_that_cannot_be_used_goes_on_to_match_and_answers_500() {
    let broken = format!("- matches: [{{{}}}]\n  filters: [{{type: ExternalAuth}}]\n  {BACKEND}\n", prefix("/private"));
    let both = broken.clone() + &rule(&[&prefix("/")], "v2");
    let scene = Scene::new(&route("route", "[]", &both));
    scene.holds("partly invalid", &[("GET a/private/x", &[], "500"), ("GET a/public", &[], "v2")]);
    assert_eq!(route_of(&both).validity(), Validity::Partial);
    assert_eq!(route_of(&broken).validity(), Validity::Invalid);
    assert_eq!(route_of(&rule(&[&prefix("/")], "v2")).validity(), Validity::Valid);
}

#[test]
fn a_match_that_cannot_be_used_spoils_the_others_of_its_rule() {
    let broken = rule(&["path: {type: RegularExpression, value: '('}", &prefix("/private")], "v1");
    let scene = Scene::new(&route("route", "[]", &(broken + &rule(&[&prefix("/")], "v2"))));
    scene.holds("broken match", &[("GET a/private/x", &[], "500"), ("GET a/public", &[], "v2")]);
}

#[test]
fn faults_of_the_whole_route_make_it_unusable() {
    let plain = rule(&[&prefix("/")], "v1");
    let named = |name: &str| format!("- name: {name}\n  {BACKEND}\n");
    let many = (0..17).map(|_| plain.as_str()).collect::<String>();
    for (case, hostnames, rules, path) in [
        ("IP address", "[10.0.0.1]", plain.clone(), "spec.hostnames[0]"),
        ("inner wildcard", "[a.com, 'a.*.com']", plain.clone(), "spec.hostnames[1]"),
        ("port", "['a.com:80']", plain.clone(), "spec.hostnames[0]"),
        ("bare wildcard", "['*']", plain.clone(), "spec.hostnames[0]"),
        ("names", "[]", named("one") + &named("one"), "spec.rules[1].name"),
        ("a name", "[]", named("One"), "spec.rules[0].name"),
        ("rules", "[]", many, "spec.rules"),
    ] {
        let route = routes(&route("route", hostnames, &rules)).remove(0);
        assert_eq!(faults(&route), [format!("UnsupportedValue {path}")], "{case}");
        assert_eq!(route.validity(), Validity::Unusable, "{case}");
    }
}
