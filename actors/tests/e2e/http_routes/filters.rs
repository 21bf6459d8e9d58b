//! What filters make of requests and answers.

use serde_json::json;

use super::scene::{answered, exact, prefix, route_yaml, scene};
use crate::harness::until;

/// Returns a rule for a path with filters, to `v1`.
fn filtered(path: &str, filters: &str) -> String {
    format!("- matches: [{{{path}}}]\n  filters: [{filters}]\n  backendRefs: [{{name: v1, port: 8080}}]\n")
}

#[actix_web::test]
async fn request_headers_are_set_added_and_removed() {
    let modify = |edits: &str| format!("{{type: RequestHeaderModifier, requestHeaderModifier: {{{edits}}}}}");
    let rules = filtered(&exact("/set"), &modify("set: [{name: X-Header-Set, value: set-overwrites}]"))
        + &filtered(&exact("/add"), &modify("add: [{name: X-Header-Add, value: add-appends}]"))
        + &filtered(&exact("/remove"), &modify("remove: [X-Header-Remove]"))
        + &filtered(
            &exact("/all"),
            &modify(
                "set: [{name: X-Set-1, value: a}, {name: X-Set-2, value: b}], \
                 add: [{name: X-Add-1, value: c}, {name: X-Add-2, value: d}], remove: [X-Remove-1, X-Remove-2]",
            ),
        );
    let scene = scene(&route_yaml("headers", &rules)).await;
    type Headers<'h> = &'h [(&'h str, &'h str)];
    type Expected<'h> = &'h [(&'h str, Option<&'h str>)];
    let cases: &[(&str, Headers<'_>, Expected<'_>)] = &[
        ("/set", &[], &[("x-header-set", Some("set-overwrites"))]),
        ("/set", &[("x-header-set", "original")], &[("x-header-set", Some("set-overwrites"))]),
        ("/add", &[], &[("x-header-add", Some("add-appends"))]),
        ("/add", &[("x-header-add", "original")], &[("x-header-add", Some("original,add-appends"))]),
        ("/remove", &[("x-header-remove", "gone")], &[("x-header-remove", None)]),
        (
            "/all",
            &[("x-set-1", "original"), ("x-add-1", "original"), ("x-remove-1", "gone"), ("x-keep", "kept")],
            &[
                ("x-set-1", Some("a")),
                ("x-set-2", Some("b")),
                ("x-add-1", Some("original,c")),
                ("x-add-2", Some("d")),
                ("x-remove-1", None),
                ("x-keep", Some("kept")),
            ],
        ),
    ];
    for (path, headers, expected) in cases {
        let seen = scene.ask(&format!("GET a{path}"), headers).await.json();
        for (name, value) in *expected {
            let found = &seen["headers"][name];
            assert_eq!(*found, value.map_or(json!(null), |value| json!([value])), "{path} {headers:?}: {name}");
        }
    }
}

#[actix_web::test]
async fn answer_headers_are_set_added_and_removed_whatever_their_case() {
    let filters = "{type: ResponseHeaderModifier, responseHeaderModifier: {\
                   set: [{name: X-Set, value: new}], add: [{name: X-Add, value: more}], remove: [X-Remove]}}, \
                   {type: RequestHeaderModifier, requestHeaderModifier: {add: [{name: X-Asked, value: 'yes'}]}}";
    let scene = scene(&route_yaml("headers", &filtered(&prefix("/"), filters))).await;
    let answer = scene.ask("GET a/", &[("x-echo-set-header", "x-set:old,X-ADD:first,x-remove:gone,x-keep:kept")]).await;
    assert_eq!(answer.header("x-set"), Some("new"));
    assert_eq!(answer.header("x-add"), Some("first,more"));
    assert_eq!(answer.header("x-remove"), None);
    assert_eq!(answer.header("x-keep"), Some("kept"));
    assert_eq!(answer.json()["headers"]["x-asked"], json!(["yes"]));
}

#[actix_web::test]
async fn filters_of_a_backend_apply_to_its_requests_alone() {
    let backend = |name: &str| {
        format!(
            "{{name: {name}, port: 8080, weight: 1, filters: [{{type: RequestHeaderModifier, \
             requestHeaderModifier: {{set: [{{name: Backend, value: {name}}}]}}}}]}}"
        )
    };
    let rules = format!("- backendRefs: [{}, {}]\n", backend("v1"), backend("v2"));
    let scene = scene(&route_yaml("weights", &rules)).await;
    let mut served = std::collections::BTreeSet::new();
    for _ in 0..64 {
        let seen = scene.ask("GET a/", &[]).await.json();
        assert_eq!(seen["headers"]["backend"], json!([seen["backend"]]));
        served.insert(seen["backend"].to_string());
    }
    assert_eq!(served.len(), 2, "of 64 requests, both backends should have had some");
}

#[actix_web::test]
async fn hosts_and_paths_are_rewritten() {
    let rewrite = |what: &str| format!("{{type: URLRewrite, urlRewrite: {{{what}}}}}");
    let full = |path: &str| rewrite(&format!("path: {{type: ReplaceFullPath, replaceFullPath: {path}}}"));
    let start = |path: &str| rewrite(&format!("path: {{type: ReplacePrefixMatch, replacePrefixMatch: {path}}}"));
    let add = "{type: RequestHeaderModifier, requestHeaderModifier: {add: [{name: X-Added, value: 'yes'}]}}";
    let rules = filtered(&prefix("/host"), &rewrite("hostname: one.example.org"))
        + &filtered(&prefix("/prefix/one"), &start("/one"))
        + &filtered(&prefix("/strip-prefix"), &start("/"))
        + &filtered(&prefix("/full/one"), &full("/one"))
        + &filtered(&prefix("/full/both"), &format!("{}, {add}", full("/test")));
    let scene = scene(&route_yaml("rewrites", &rules)).await;
    for (path, host, rewritten) in [
        ("/host/x?a=b", "one.example.org", "/host/x?a=b"),
        ("/prefix/one/two", "a", "/one/two"),
        ("/prefix/one/two?a=b", "a", "/one/two?a=b"),
        ("/strip-prefix/three", "a", "/three"),
        ("/strip-prefix", "a", "/"),
        ("/full/one/two", "a", "/one"),
        ("/full/both/two", "a", "/test"),
    ] {
        let seen = scene.ask(&format!("GET a{path}"), &[]).await.json();
        assert_eq!((&seen["host"], &seen["path"]), (&json!(host), &json!(rewritten)), "{path}");
    }
}

#[actix_web::test]
async fn a_mirrored_request_reaches_both_backends_and_only_one_answers() {
    let mirror = "{type: RequestMirror, requestMirror: {backendRef: {name: v2, port: 8080}}}, \
                  {type: RequestMirror, requestMirror: {backendRef: {name: v3, port: 8080}}}, \
                  {type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: X-Set, value: new}]}}";
    let scene = scene(&route_yaml("mirror", &filtered(&prefix("/mirror"), mirror))).await;
    let request = scene.request("POST a/mirror?x=1", &[]);
    let answer = crate::harness::read(request.send_body("the body").await.unwrap()).await;
    assert_eq!(answered(&answer), "v1");
    let [_, second, third] = &scene.backends;
    until("both mirrors have the request", async || second.requests() == 1 && third.requests() == 1).await;
    for mirrored in [second.last(), third.last()] {
        assert_eq!(mirrored["path"], "/mirror?x=1");
        assert_eq!(mirrored["body"], "the body");
        assert_eq!(mirrored["headers"]["x-set"], json!(["new"]));
    }
}

#[actix_web::test]
async fn a_share_of_the_requests_is_mirrored() {
    let mirror = "{type: RequestMirror, requestMirror: {backendRef: {name: v2, port: 8080}, percent: 20}}, \
                  {type: RequestMirror, requestMirror: {backendRef: {name: v3, port: 8080}, \
                  fraction: {numerator: 25, denominator: 50}}}";
    let scene = scene(&route_yaml("mirror", &filtered(&prefix("/"), mirror))).await;
    for _ in 0..1000 {
        assert_eq!(answered(&scene.ask("GET a/", &[]).await), "v1");
    }
    // Six standard deviations: one run in a hundred million is off by more by chance alone.
    let [_, second, third] = &scene.backends;
    until("the mirrors have their shares", async || {
        (124..=276).contains(&second.requests()) && (405..=595).contains(&third.requests())
    })
    .await;
}
