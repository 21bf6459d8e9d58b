//! The index finds what a scan finds that follows the API's list literally.

use std::cmp::Reverse;
use std::sync::Arc;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use regex::Regex;

use super::scene::entry;
use crate::fixtures::Pairs;
use crate::hostname::Hostname;
use crate::kinds::HttpRouteSpec;
use crate::kinds::http_route::{HttpPathMatch, HttpRouteMatch, HttpRouteRule, HttpValueMatch};
use crate::object::ObjectKey;
use crate::record::Record;
use crate::request_head::RequestHead;
use crate::routing::contender::Matching;
use crate::routing::http::precedence::Candidate;
use crate::routing::http::route::HttpRoute;
use crate::routing::http::table::HttpTable;

const HOSTNAMES: [&str; 7] =
    ["a.example.com", "a.b.example.com", "*.b.example.com", "*.example.com", "*.com", "example.com", "*.org"];
const HOSTS: [&str; 6] = ["a.example.com", "a.b.example.com", "c.b.example.com", "example.com", "x.org", "other.net"];
const PATHS: [&str; 7] = ["/", "/a", "/a/", "/a/b", "/a/b/c", "/ab", "/b"];
const EXPRESSIONS: [&str; 3] = ["/a.*", "/[ab]", ".*b.*"];
const NAMES: [&str; 3] = ["x", "y", "Y"];
const VALUES: [&str; 3] = ["1", "2", "3"];
const METHODS: [&str; 3] = ["GET", "POST", "PUT"];

/// A request, with everything that it borrows.
#[derive(Clone, Debug)]
struct Asked {
    host: &'static str,
    path: String,
    method: &'static str,
    headers: Vec<(String, &'static str)>,
    query: String,
}

fn path() -> impl Strategy<Value = HttpPathMatch> {
    let literal = (select(vec!["Exact", "PathPrefix", "PathPrefix"]), select(PATHS.to_vec()));
    let expression = (Just("RegularExpression"), select(EXPRESSIONS.to_vec()));
    let matched = prop_oneof![4 => literal, 1 => expression];
    matched.prop_map(|(kind, value)| HttpPathMatch { kind: Some(kind.to_owned()), value: Some(value.to_owned()) })
}

fn values() -> impl Strategy<Value = Vec<HttpValueMatch>> {
    let kind = prop_oneof![4 => Just("Exact"), 1 => Just("RegularExpression")];
    let value = (kind, select(NAMES.to_vec()), select(VALUES.to_vec())).prop_map(|(kind, name, value)| {
        HttpValueMatch { kind: Some(kind.to_owned()), name: name.to_owned(), value: value.to_owned() }
    });
    prop_oneof![2 => Just(Vec::new()), 3 => vec(value, 1..4)]
}

fn matched() -> impl Strategy<Value = HttpRouteMatch> {
    let method = option::of(select(METHODS.to_vec()).prop_map(str::to_owned));
    (option::of(path()), values(), values(), method).prop_map(|(path, headers, query_params, method)| HttpRouteMatch {
        path,
        headers,
        query_params,
        method,
    })
}

fn spec() -> impl Strategy<Value = HttpRouteSpec> {
    let rule = vec(matched(), 0..4).prop_map(|matches| HttpRouteRule { matches, ..HttpRouteRule::default() });
    let hostnames = prop_oneof![1 => Just(Vec::new()), 2 => vec(select(HOSTNAMES.to_vec()), 1..4)];
    (hostnames, vec(rule, 1..4)).prop_map(|(hostnames, rules)| HttpRouteSpec {
        hostnames: hostnames.into_iter().map(str::to_owned).collect(),
        rules,
        ..HttpRouteSpec::default()
    })
}

/// Makes routes whose names, like `a-b/route-3`, are ordered in another way than their parts.
fn routes() -> impl Strategy<Value = Vec<Arc<HttpRoute>>> {
    vec((spec(), select(vec!["a", "a-b", "b"]), 0..3_i64), 1..16).prop_map(|specs| {
        let numbered = specs.into_iter().enumerate();
        let routes = numbered.map(|(number, (spec, namespace, created))| {
            let key = ObjectKey::new(namespace, format!("route-{number}"));
            Arc::new(HttpRoute::compile(key, Record { created, ..Record::default() }, spec))
        });
        routes.collect()
    })
}

fn asked() -> impl Strategy<Value = Asked> {
    let path = prop_oneof![3 => select(PATHS.to_vec()).prop_map(str::to_owned), 1 => "(/[abc]?){0,4}"];
    let pairs = || vec((select(NAMES.to_vec()), select(VALUES.to_vec())), 0..4);
    (select(HOSTS.to_vec()), path, select(METHODS.to_vec()), pairs(), pairs()).prop_map(
        |(host, path, method, headers, query)| Asked {
            host,
            path,
            method,
            headers: headers.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value)).collect(),
            query: query.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&"),
        },
    )
}

/// Returns the first entry of each name.
fn first_of_each(values: &[HttpValueMatch], ignore_case: bool) -> Vec<&HttpValueMatch> {
    let same = |first: &str, second: &str| first == second || (ignore_case && first.eq_ignore_ascii_case(second));
    let numbered = values.iter().enumerate();
    numbered
        .filter(|(place, value)| values[..*place].iter().all(|earlier| !same(&earlier.name, &value.name)))
        .map(|(_, value)| value)
        .collect()
}

fn whole(pattern: &str, text: &str) -> bool {
    Regex::new(&format!("^(?:{pattern})$")).unwrap().is_match(text)
}

fn value_matches(matcher: &HttpValueMatch, value: &str) -> bool {
    match matcher.kind.as_deref() {
        Some("RegularExpression") => whole(&matcher.value, value),
        _ => matcher.value == value,
    }
}

/// Returns how a path matches: the rank of the type of match, and the characters of a prefix.
fn path_matches(matcher: Option<&HttpPathMatch>, path: &str) -> Option<(u8, Reverse<usize>)> {
    let value = matcher.and_then(|matcher| matcher.value.as_deref()).unwrap_or("/");
    match matcher.and_then(|matcher| matcher.kind.as_deref()) {
        Some("Exact") => (path == value).then_some((0, Reverse(0))),
        Some("RegularExpression") => whole(value, path).then_some((1, Reverse(0))),
        _ => {
            let prefix: Vec<_> = value.split('/').skip(1).filter(|element| !element.is_empty()).collect();
            let elements: Vec<_> = path.split('/').skip(1).collect();
            let length = prefix.iter().map(|element| element.len() + 1).sum();
            elements.starts_with(&prefix).then_some((2, Reverse(length)))
        }
    }
}

/// Returns the key of the route, and the place of the rule, that a request falls under.
fn scan(routes: &[Arc<HttpRoute>], listener: &Hostname, asked: &Asked) -> Option<(ObjectKey, usize)> {
    let parameters: Vec<_> = asked.query.split('&').filter_map(|parameter| parameter.split_once('=')).collect();
    let mut found = Vec::new();
    for route in routes {
        let hostnames = route.hostnames_on(listener);
        let matching = || hostnames.iter().filter(|hostname| hostname.matches(asked.host));
        let length = |hostname: &Hostname| if *hostname == Hostname::Any { 0 } else { hostname.to_string().len() };
        let Some(characters) = matching().map(length).max() else { continue };
        let exact = matching().filter(|hostname| matches!(hostname, Hostname::Exact(_))).map(length).max();
        for (place, rule) in route.spec.rules.iter().enumerate() {
            let everything = [HttpRouteMatch::default()];
            let matches = if rule.matches.is_empty() { &everything[..] } else { &rule.matches };
            for spec in matches {
                let Some(path) = path_matches(spec.path.as_ref(), &asked.path) else { continue };
                let headers = first_of_each(&spec.headers, true);
                let query = first_of_each(&spec.query_params, false);
                let is_match = spec.method.as_deref().is_none_or(|method| method == asked.method)
                    && headers.iter().all(|matcher| {
                        let values = asked.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case(&matcher.name));
                        values.into_iter().any(|(_, value)| value_matches(matcher, value))
                    })
                    && query.iter().all(|matcher| {
                        let first = parameters.iter().find(|(name, _)| *name == matcher.name);
                        first.is_some_and(|(_, value)| value_matches(matcher, value))
                    });
                if is_match {
                    let hosts = (Reverse(exact.unwrap_or_default()), Reverse(characters));
                    let counts = (Reverse(spec.method.is_some()), Reverse(headers.len()), Reverse(query.len()));
                    let age = (route.record.created, route.key.to_string(), place);
                    found.push(((hosts, path, counts, age), (route.key.clone(), place)));
                }
            }
        }
    }
    found.into_iter().min().map(|(_, answer)| answer)
}

fn decide(table: &HttpTable, asked: &Asked) -> Option<(ObjectKey, usize)> {
    let headers: Vec<_> = asked.headers.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    let head = RequestHead {
        method: asked.method,
        host: asked.host,
        path: &asked.path,
        query: &asked.query,
        headers: &Pairs(&headers),
    };
    table.find(&head).map(|found| (found.entry.key().clone(), found.place))
}

/// Returns the first rule that matches, going through them in the order that is told to people.
fn read_back(table: &HttpTable, asked: &Asked) -> Option<(String, usize)> {
    let headers: Vec<_> = asked.headers.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    let (host, method) = (asked.host, asked.method);
    let head = RequestHead { method, host, path: &asked.path, query: &asked.query, headers: &Pairs(&headers) };
    let mut standings = table.standings(&head, false).into_iter();
    let first = standings.find(|standing| standing.matching == Matching::Yes)?.contender;
    Some((first.route, first.rule))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn the_index_finds_what_a_scan_by_the_list_finds(
        routes in routes(),
        listener in select(vec!["", "*.example.com", "a.b.example.com"]),
        requests in vec(asked(), 24),
    ) {
        let listener = Hostname::parse(Some(listener));
        let entries: Vec<_> = routes.iter().map(entry).collect();
        let table = HttpTable::new(&listener, &entries);
        for asked in requests.iter().filter(|asked| listener.matches(asked.host)) {
            let decided = decide(&table, asked);
            let told = decided.as_ref().map(|(route, rule)| (route.to_string(), *rule));
            prop_assert_eq!(read_back(&table, asked), told, "{:?}", asked);
            prop_assert_eq!(decided, scan(&routes, &listener, asked), "{:?}", asked);
        }
    }

    #[test]
    fn the_order_of_routes_makes_no_difference(routes in routes(), requests in vec(asked(), 8)) {
        let forward: Vec<_> = routes.iter().map(entry).collect();
        let (first, second) = (
            HttpTable::new(&Hostname::Any, &forward),
            HttpTable::new(&Hostname::Any, forward.iter().rev()),
        );
        for asked in &requests {
            prop_assert_eq!(decide(&first, asked), decide(&second, asked), "{:?}", asked);
        }
    }

    #[test]
    fn precedence_is_a_total_order(routes in routes()) {
        let entries: Vec<_> = routes.iter().take(4).map(entry).collect();
        let candidates: Vec<_> = entries.iter().flat_map(Candidate::all_of).take(24).collect();
        for (first_place, first) in candidates.iter().enumerate() {
            for (second_place, second) in candidates.iter().enumerate() {
                let order = first.rank().cmp(&second.rank());
                prop_assert_eq!(order, second.rank().cmp(&first.rank()).reverse());
                prop_assert_eq!(order.is_eq(), first_place == second_place, "two matches never tie");
                for third in &candidates {
                    if order.is_le() && second.rank() <= third.rank() {
                        prop_assert!(first.rank() <= third.rank());
                    }
                }
            }
        }
    }
}
