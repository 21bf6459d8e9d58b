//! Which rule a request goes to: paths, headers, query parameters, methods, and their order.

use super::scene::{Case, exact, header, prefix, route_on, route_yaml, rule, scene};

#[actix_web::test]
async fn an_exact_path_matches_no_other() {
    let rules = rule(&[&exact("/one")], "v1") + &rule(&[&exact("/two")], "v2");
    let table: &[Case<'_>] = &[
        ("GET a/one", &[], "v1"),
        ("GET a/two", &[], "v2"),
        ("GET a/", &[], "404"),
        ("GET a/one/example", &[], "404"),
        ("GET a/two/", &[], "404"),
        ("GET a/Two", &[], "404"),
    ];
    scene(&route_yaml("exact", &rules)).await.holds("A.1", table).await;
}

#[actix_web::test]
async fn more_headers_match_before_fewer_and_earlier_rules_before_later() {
    let both = "headers: [{name: version, value: two}, {name: color, value: orange}]";
    let rules = rule(&[&header("version", "one")], "v1")
        + &rule(&[&header("version", "two")], "v2")
        + &rule(&[both], "v1")
        + &rule(&[&header("color", "blue"), &header("color", "green")], "v1")
        + &rule(&[&header("color", "red"), &header("color", "yellow")], "v2");
    let table: &[Case<'_>] = &[
        ("GET a/", &[("Version", "one")], "v1"),
        ("GET a/", &[("Version", "two")], "v2"),
        ("GET a/", &[("Version", "two"), ("Color", "orange")], "v1"),
        ("GET a/", &[("Version", "two"), ("Color", "blue")], "v2"),
        ("GET a/", &[("Color", "orange")], "404"),
        ("GET a/", &[("Some-Other-Header", "one")], "404"),
        ("GET a/", &[("Color", "blue")], "v1"),
        ("GET a/", &[("Color", "green")], "v1"),
        ("GET a/", &[("Color", "red")], "v2"),
        ("GET a/", &[("Color", "yellow")], "v2"),
        ("GET a/", &[("Color", "purple")], "404"),
    ];
    scene(&route_yaml("headers", &rules)).await.holds("A.2", table).await;
}

fn by_prefix_or_version() -> [String; 2] {
    [("/", "one", "v1"), ("/v2", "two", "v2")]
        .map(|(path, version, backend)| rule(&[&prefix(path), &header("version", version)], backend))
}

#[actix_web::test]
async fn a_prefix_matches_whole_path_elements() {
    let table: &[Case<'_>] = &[
        ("GET a/", &[], "v1"),
        ("GET a/example", &[], "v1"),
        ("GET a/", &[("version", "one")], "v1"),
        ("GET a/v2", &[], "v2"),
        ("GET a/v2/example", &[], "v2"),
        ("GET a/v2/", &[], "v2"),
        ("GET a/", &[("version", "two")], "v2"),
        ("GET a/v2example", &[], "v1"),
        ("GET a/foo/v2/example", &[], "v1"),
    ];
    scene(&route_yaml("matching", &by_prefix_or_version().concat())).await.holds("A.3", table).await;
}

#[actix_web::test]
async fn rules_of_several_routes_are_one_list() {
    let [first, second] = by_prefix_or_version();
    let routes = route_on("first", "{name: gateway}", "[example.com, example.net]", &first)
        + &route_on("second", "{name: gateway}", "[example.com]", &second);
    let table: &[Case<'_>] = &[
        ("GET example.com/", &[], "v1"),
        ("GET example.com/example", &[], "v1"),
        ("GET example.com/example", &[("version", "one")], "v1"),
        ("GET example.com/v2", &[], "v2"),
        ("GET example.com/v2/example", &[], "v2"),
        ("GET example.com/", &[("version", "two")], "v2"),
        ("GET example.net/example", &[], "v1"),
        ("GET example.net/v2", &[], "v1"),
    ];
    scene(&routes).await.holds("A.4", table).await;
}

#[actix_web::test]
async fn exact_paths_match_before_prefixes_and_long_ones_before_short_ones() {
    let rules = rule(&[&exact("/match/exact/one")], "v3")
        + &rule(&[&exact("/match/exact")], "v2")
        + &rule(&[&exact("/match")], "v1")
        + &rule(&[&prefix("/match/prefix/one")], "v2")
        + &rule(&[&prefix("/match/prefix/")], "v1")
        + &rule(&[&prefix("/match/")], "v3");
    let table: &[Case<'_>] = &[
        ("GET a/match/exact/one", &[], "v3"),
        ("GET a/match/exact", &[], "v2"),
        ("GET a/match", &[], "v1"),
        ("GET a/match/prefix/one/any", &[], "v2"),
        ("GET a/match/prefix/any", &[], "v1"),
        ("GET a/match/any", &[], "v3"),
    ];
    scene(&route_yaml("order", &rules)).await.holds("A.7", table).await;
}

#[actix_web::test]
async fn a_path_precedes_a_method_and_a_method_a_header() {
    let of = |method: &str, more: &str| format!("method: {method}, {more}");
    let rules = rule(&["method: POST"], "v1")
        + &rule(&["method: GET"], "v2")
        + &rule(&[&of("GET", &prefix("/path1"))], "v1")
        + &rule(&[&of("PUT", &header("version", "one"))], "v2")
        + &rule(&[&format!("{}, {}", of("POST", &prefix("/path2")), header("version", "two"))], "v3")
        + &rule(
            &[
                &of("PATCH", &prefix("/path3")),
                &format!("{}, {}", of("DELETE", &prefix("/path4")), header("version", "three")),
            ],
            "v1",
        )
        + &rule(&[&prefix("/path5")], "v1")
        + &rule(&["method: PATCH"], "v2")
        + &rule(&[&header("version", "four")], "v3");
    let table: &[Case<'_>] = &[
        ("POST a/", &[], "v1"),
        ("GET a/", &[], "v2"),
        ("HEAD a/", &[], "404"),
        ("GET a/path1", &[], "v1"),
        ("PUT a/", &[("version", "one")], "v2"),
        ("PUT a/", &[], "404"),
        ("POST a/path2", &[("version", "two")], "v3"),
        ("PATCH a/path3", &[], "v1"),
        ("DELETE a/path4", &[("version", "three")], "v1"),
        ("DELETE a/path4", &[], "404"),
        ("PATCH a/path5", &[], "v1"),
        ("PATCH a/", &[("version", "four")], "v2"),
    ];
    scene(&route_yaml("methods", &rules)).await.holds("A.12", table).await;
}

#[actix_web::test]
async fn query_parameters_match_exactly_and_last() {
    let query = |name: &str, value: &str| format!("queryParams: [{{name: {name}, value: {value}}}]");
    let with = |first: &str, second: &str| format!("{first}, {second}");
    let rules = rule(&[&query("animal", "whale")], "v1")
        + &rule(&[&query("animal", "dolphin")], "v2")
        + &rule(
            &["queryParams: [{name: animal, value: dolphin}, {name: color, value: blue}]", &query("ANIMAL", "Whale")],
            "v3",
        )
        + &rule(&[&with(&prefix("/path1"), &query("animal", "whale"))], "v1")
        + &rule(&[&with(&header("version", "one"), &query("animal", "whale"))], "v2")
        + &rule(&[&with(&with(&prefix("/path2"), &header("version", "two")), &query("animal", "whale"))], "v3")
        + &rule(
            &[
                &with(&prefix("/path3"), &query("animal", "shark")),
                &with(&with(&prefix("/path4"), &header("version", "three")), &query("animal", "kraken")),
            ],
            "v1",
        )
        + &rule(&[&prefix("/path5")], "v1")
        + &rule(&[&query("animal", "hydra")], "v2")
        + &rule(&[&header("version", "four")], "v3");
    let table: &[Case<'_>] = &[
        ("GET a/?animal=whale", &[], "v1"),
        ("GET a/?animal=dolphin", &[], "v2"),
        ("GET a/?animal=whale&otherparam=irrelevant", &[], "v1"),
        ("GET a/?animal=dolphin&color=yellow", &[], "v2"),
        ("GET a/?animal=dolphin&color=blue", &[], "v3"),
        ("GET a/?ANIMAL=Whale", &[], "v3"),
        ("GET a/?animal=whale&animal=dolphin", &[], "v1"),
        ("GET a/path1?animal=whale", &[], "v1"),
        ("GET a/?animal=whale", &[("version", "one")], "v2"),
        ("GET a/path2?animal=whale", &[("version", "two")], "v3"),
        ("GET a/path3?animal=shark", &[], "v1"),
        ("GET a/path4?animal=kraken", &[("version", "three")], "v1"),
        ("GET a/path5?animal=hydra", &[], "v1"),
        ("GET a/?animal=hydra", &[("version", "four")], "v3"),
        ("GET a/?color=blue", &[], "404"),
        ("GET a/?animal=dog", &[], "404"),
        ("GET a/?animal=whaledolphin", &[], "404"),
        ("GET a/", &[], "404"),
        ("GET a/?animal=shark", &[], "404"),
    ];
    scene(&route_yaml("query", &rules)).await.holds("A.13", table).await;
}
