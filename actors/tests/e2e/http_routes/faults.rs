//! What a request gets that cannot be served: 404, 500, 503 or 504, never 502, and no other route is lost.

use super::scene::{Case, answered, exact, prefix, route_on, route_yaml, rule, scene, service_yaml};

#[actix_web::test]
async fn a_rule_that_leads_nowhere_answers_and_all_others_go_on() {
    let to = |path: &str, backends: &str| format!("- matches: [{{{}}}]\n{backends}", prefix(path));
    let rules = to("/omitted", "")
        + &to("/empty", "  backendRefs: []\n")
        + &to("/missing", "  backendRefs: [{name: missing, port: 8080}]\n")
        + &to("/kind", "  backendRefs: [{group: example.com, kind: Unknown, name: v1}]\n")
        + &to("/other-namespace", "  backendRefs: [{name: v1, namespace: elsewhere, port: 8080}]\n")
        + &to("/other-port", "  backendRefs: [{name: v1, port: 8099}]\n")
        + &to("/weightless", "  backendRefs: [{name: v1, port: 8080, weight: 0}]\n")
        + &to("/nobody", "  backendRefs: [{name: nobody, port: 8080}]\n")
        + &to(
            "/filter",
            "  filters: [{type: ExtensionRef, extensionRef: {group: example.com, kind: Unknown, name: x}}]\n  \
             backendRefs: [{name: v1, port: 8080}]\n",
        )
        + &rule(&[&exact("/good")], "v1");
    let scene = scene(&(route_yaml("faults", &rules) + &service_yaml("nobody", &[], ""))).await;
    let table: &[Case<'_>] = &[
        ("GET a/omitted", &[], "500"),
        ("GET a/empty", &[], "500"),
        ("GET a/missing", &[], "500"),
        ("GET a/kind", &[], "500"),
        ("GET a/other-namespace", &[], "500"),
        ("GET a/other-port", &[], "500"),
        ("GET a/weightless", &[], "500"),
        ("GET a/nobody", &[], "503"),
        ("GET a/filter", &[], "500"),
        ("GET a/good", &[], "v1"),
        ("GET a/nothing", &[], "404"),
    ];
    scene.holds("faults", table).await;
}

#[actix_web::test]
async fn a_bad_regular_expression_loses_its_match_alone() {
    let routes = route_yaml("bad", &rule(&["path: {type: RegularExpression, value: '/a('}"], "v1"))
        + &route_yaml("good", &rule(&["path: {type: RegularExpression, value: '/b[0-9]+'}"], "v2"));
    let scene = scene(&routes).await;
    scene.holds("expressions", &[("GET a/b17", &[], "v2"), ("GET a/bx", &[], "404")]).await;
}

#[actix_web::test]
async fn a_grant_opens_another_namespace_and_its_withdrawal_closes_it() {
    let rules = "- backendRefs: [{name: v1, namespace: elsewhere, port: 8080}]\n";
    let scene = scene(&route_on("r", "{name: gateway}", "[]", rules)).await;
    let service =
        service_yaml("v1", &[scene.harness.host(10)], "").replace("{name: v1", "{namespace: elsewhere, name: v1");
    let grant = "apiVersion: gateway.networking.k8s.io/v1beta1\nkind: ReferenceGrant\nmetadata: {name: g, namespace: elsewhere}\n\
                 spec: {from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: default}], \
                 to: [{group: '', kind: Service}]}\n";
    scene.harness.write("elsewhere.yaml", &service);
    scene.harness.write("grant.yaml", grant);
    let answers = async |expected: &str| answered(&scene.ask("GET a/", &[]).await) == expected;
    scene.harness.until("the grant is in force", async || answers("v1").await).await;
    scene.harness.remove("grant.yaml");
    scene.harness.until("the grant is withdrawn", async || answers("500").await).await;
}

#[actix_web::test]
async fn a_backend_that_takes_too_long_is_a_timeout() {
    let timed = |path: &str, timeouts: &str| {
        format!(
            "- matches: [{{{}}}]\n  timeouts: {{{timeouts}}}\n  backendRefs: [{{name: v1, port: 8080}}]\n",
            prefix(path)
        )
    };
    let rules = timed("/request", "request: 300ms")
        + &timed("/backend", "backendRequest: 300ms")
        + &timed("/off", "request: 0s");
    let scene = scene(&route_yaml("timeouts", &rules)).await;
    let table: &[Case<'_>] = &[
        ("GET a/request?hang", &[], "504"),
        ("GET a/backend?hang", &[], "504"),
        ("GET a/request", &[], "v1"),
        ("GET a/backend", &[], "v1"),
        ("GET a/off", &[], "v1"),
    ];
    scene.holds("timeouts", table).await;
}

#[actix_web::test]
async fn a_backend_that_is_gone_is_unavailable_and_never_a_bad_gateway() {
    let scene = scene(&(route_yaml("r", &rule(&[], "gone")))).await;
    // Nothing listens on that address.
    scene.harness.write("gone.yaml", &service_yaml("gone", &[scene.harness.host(99)], ""));
    scene.harness.until("the Service is known", async || answered(&scene.ask("GET a/", &[]).await) == "503").await;
    for _ in 0..5 {
        assert_eq!(answered(&scene.ask("GET a/", &[]).await), "503");
    }
}
