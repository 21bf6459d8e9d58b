//! Which rule a request goes to: paths, headers, parameters, methods, and their order.

use super::scene::{Scene, exact, header, prefix, query, route, rule};

fn on_one_route(rules: &str) -> Scene {
    Scene::new(&route("route", "[]", rules))
}

#[test]
fn an_exact_path_matches_no_other() {
    let rules = rule(&[&exact("/one")], "v1") + &rule(&[&exact("/two")], "v2");
    on_one_route(&rules).holds(
        "A.1",
        &[
            ("GET a/one", &[], "v1"),
            ("GET a/two", &[], "v2"),
            ("GET a/", &[], "404"),
            ("GET a/one/example", &[], "404"),
            ("GET a/two/", &[], "404"),
            ("GET a/Two", &[], "404"),
            ("GET a/%6fne", &[], "404"),
        ],
    );
}

#[test]
fn more_headers_match_before_fewer_and_earlier_rules_before_later() {
    let both = "headers: [{name: version, value: two}, {name: COLOR, value: orange}]";
    let rules = rule(&[&header("version", "one")], "v1")
        + &rule(&[&header("version", "two")], "v2")
        + &rule(&[both], "v1")
        + &rule(&[&header("color", "blue"), &header("color", "green")], "v1")
        + &rule(&[&header("color", "red"), &header("color", "yellow")], "v2");
    on_one_route(&rules).holds(
        "A.2",
        &[
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
            ("GET a/", &[("Color", "Blue")], "404"),
        ],
    );
}

fn by_prefix_or_version() -> [String; 2] {
    [("/", "one", "v1"), ("/v2", "two", "v2")]
        .map(|(path, version, backend)| rule(&[&prefix(path), &header("version", version)], backend))
}

#[test]
fn a_prefix_matches_whole_path_elements() {
    on_one_route(&by_prefix_or_version().concat()).holds(
        "A.3",
        &[
            ("GET a/", &[], "v1"),
            ("GET a/example", &[], "v1"),
            ("GET a/", &[("version", "one")], "v1"),
            ("GET a/v2", &[], "v2"),
            ("GET a/v2/example", &[], "v2"),
            ("GET a/v2/", &[], "v2"),
            ("GET a/v2//", &[], "v2"),
            ("GET a/", &[("version", "two")], "v2"),
            ("GET a/v2example", &[], "v1"),
            ("GET a/foo/v2/example", &[], "v1"),
            ("GET a//v2", &[], "v1"),
        ],
    );
}

#[test]
fn routes_of_one_host_are_matched_as_one() {
    let [first, second] = by_prefix_or_version();
    let manifest = route("part1", "[example.com, example.net]", &first) + &route("part2", "[example.com]", &second);
    Scene::new(&manifest).holds(
        "A.4",
        &[
            ("GET example.com/", &[], "v1"),
            ("GET example.com/example", &[], "v1"),
            ("GET example.com/example", &[("version", "one")], "v1"),
            ("GET example.com/v2", &[], "v2"),
            ("GET example.com/v2/example", &[], "v2"),
            ("GET example.com/", &[("version", "two")], "v2"),
            ("GET example.net/example", &[], "v1"),
            ("GET example.net/v2", &[], "v1"),
        ],
    );
}

#[test]
fn exact_paths_go_before_long_prefixes_before_short_ones() {
    let rules = rule(&[&exact("/match")], "v1")
        + &rule(&[&exact("/match/exact")], "v2")
        + &rule(&[&exact("/match/exact/one")], "v3")
        + &rule(&[&prefix("/match/")], "v3")
        + &rule(&[&prefix("/match/prefix/")], "v1")
        + &rule(&[&prefix("/match/prefix/one")], "v2");
    on_one_route(&rules).holds(
        "A.7",
        &[
            ("GET a/match/exact/one", &[], "v3"),
            ("GET a/match/exact", &[], "v2"),
            ("GET a/match", &[], "v1"),
            ("GET a/match/prefix/one/any", &[], "v2"),
            ("GET a/match/prefix/any", &[], "v1"),
            ("GET a/match/prefix/one", &[], "v2"),
            ("GET a/match/prefix", &[], "v1"),
            ("GET a/match/any", &[], "v3"),
            ("GET a/other", &[], "404"),
        ],
    );
}

#[test]
fn methods_go_after_paths_and_before_headers() {
    let with = |method: &str, rest: &str| format!("method: {method}, {rest}");
    let rules = rule(&["method: POST"], "v1")
        + &rule(&["method: GET"], "v2")
        + &rule(&[&with("GET", &prefix("/path1"))], "v1")
        + &rule(&[&with("PUT", &header("version", "one"))], "v2")
        + &rule(&[&with("POST", &format!("{}, {}", prefix("/path2"), header("version", "two")))], "v3")
        + &rule(
            &[
                &with("PATCH", &prefix("/path3")),
                &with("DELETE", &format!("{}, {}", prefix("/path4"), header("version", "three"))),
            ],
            "v1",
        )
        + &rule(&[&prefix("/path5")], "v1")
        + &rule(&["method: PATCH"], "v2")
        + &rule(&[&header("version", "four")], "v3");
    on_one_route(&rules).holds(
        "A.12",
        &[
            ("POST a/", &[], "v1"),
            ("GET a/", &[], "v2"),
            ("HEAD a/", &[], "404"),
            ("GET a/path1", &[], "v1"),
            ("PUT a/", &[("version", "one")], "v2"),
            ("POST a/path2", &[("version", "two")], "v3"),
            ("PATCH a/path3", &[], "v1"),
            ("DELETE a/path4", &[("version", "three")], "v1"),
            ("PUT a/", &[], "404"),
            ("DELETE a/path4", &[], "404"),
            ("PATCH a/path5", &[], "v1"),
            ("PATCH a/", &[("version", "four")], "v2"),
        ],
    );
}

#[test]
fn parameters_go_after_everything_else() {
    let with = |rest: &str, animal: &str| format!("{rest}, {}", query("animal", animal));
    let both = "queryParams: [{name: animal, value: dolphin}, {name: color, value: blue}]";
    let rules = rule(&[&query("animal", "whale")], "v1")
        + &rule(&[&query("animal", "dolphin")], "v2")
        + &rule(&[both, &query("ANIMAL", "Whale")], "v3")
        + &rule(&[&with(&prefix("/path1"), "whale")], "v1")
        + &rule(&[&with(&header("version", "one"), "whale")], "v2")
        + &rule(&[&with(&format!("{}, {}", prefix("/path2"), header("version", "two")), "whale")], "v3")
        + &rule(
            &[
                &with(&prefix("/path3"), "shark"),
                &with(&format!("{}, {}", prefix("/path4"), header("version", "three")), "kraken"),
            ],
            "v1",
        )
        + &rule(&[&prefix("/path5")], "v1")
        + &rule(&[&query("animal", "hydra")], "v2")
        + &rule(&[&header("version", "four")], "v3");
    on_one_route(&rules).holds(
        "A.13",
        &[
            ("GET a/?animal=whale", &[], "v1"),
            ("GET a/?animal=dolphin", &[], "v2"),
            ("GET a/?animal=dolphin&color=blue", &[], "v3"),
            ("GET a/?color=blue&animal=dolphin", &[], "v3"),
            ("GET a/?ANIMAL=Whale", &[], "v3"),
            ("GET a/?animal=whale&otherparam=irrelevant", &[], "v1"),
            ("GET a/?animal=dolphin&color=yellow", &[], "v2"),
            ("GET a/?animal=dolphin&animal=whale", &[], "v2"),
            ("GET a/?color=blue", &[], "404"),
            ("GET a/?animal=dog", &[], "404"),
            ("GET a/?animal=whaledolphin", &[], "404"),
            ("GET a/", &[], "404"),
            ("GET a/path1?animal=whale", &[], "v1"),
            ("GET a/?animal=whale", &[("version", "one")], "v2"),
            ("GET a/path2?animal=whale", &[("version", "two")], "v3"),
            ("GET a/path3?animal=shark", &[], "v1"),
            ("GET a/path4?animal=kraken", &[("version", "three")], "v1"),
            ("GET a/?animal=shark", &[], "404"),
            ("GET a/path4?animal=kraken", &[], "404"),
            ("GET a/path5?animal=hydra", &[], "v1"),
            ("GET a/?animal=hydra", &[("version", "four")], "v3"),
        ],
    );
}

#[test]
fn expressions_match_whole_values_and_go_between_exact_paths_and_prefixes() {
    let regex = |path: &str| format!("path: {{type: RegularExpression, value: '{path}'}}");
    let value = "headers: [{name: tier, type: RegularExpression, value: 'gold|gold-plus'}]";
    let parameter = "queryParams: [{name: id, type: RegularExpression, value: '[0-9]+'}]";
    let rules = rule(&[&prefix("/models/one/long/prefix")], "v1")
        + &rule(&[&regex("/models/[a-z]+/.*")], "v2")
        + &rule(&[&exact("/models/one/exact")], "v3")
        + &rule(&[&format!("{}, {value}", prefix("/tier"))], "v1")
        + &rule(&[&format!("{}, {parameter}", prefix("/id"))], "v1");
    on_one_route(&rules).holds(
        "expressions",
        &[
            ("GET a/models/one/long/prefix", &[], "v2"),
            ("GET a/models/one/exact", &[], "v3"),
            ("GET a/models/1/long/prefix", &[], "404"),
            ("GET a/x/models/one/x", &[], "404"),
            ("GET a/tier", &[("tier", "gold-plus")], "v1"),
            ("GET a/tier", &[("tier", "golden")], "404"),
            ("GET a/tier", &[("tier", "silver"), ("tier", "gold")], "v1"),
            ("GET a/id?id=42", &[], "v1"),
            ("GET a/id?id=42x", &[], "404"),
        ],
    );
}

#[test]
fn of_several_conditions_with_one_name_the_first_counts() {
    let headers = "headers: [{name: tier, value: gold}, {name: TIER, value: silver}]";
    let parameters = "queryParams: [{name: id, value: '1'}, {name: id, value: '2'}]";
    let rules = rule(&[&format!("{}, {headers}", prefix("/headers"))], "v1")
        + &rule(&[&format!("{}, {parameters}", prefix("/query"))], "v1");
    on_one_route(&rules).holds(
        "repeated names",
        &[
            ("GET a/headers", &[("tier", "gold")], "v1"),
            ("GET a/headers", &[("tier", "silver")], "404"),
            ("GET a/query?id=1", &[], "v1"),
            ("GET a/query?id=2", &[], "404"),
        ],
    );
}

#[test]
fn a_route_without_rules_matches_everything_and_has_no_backend() {
    let manifest = "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: bare}\nspec: {}\n";
    Scene::new(manifest).holds("no rules", &[("GET a/", &[], "500"), ("OPTIONS a/x/y", &[], "500")]);
}
