//! Which requests are tried again.

use super::scene::{answered, prefix, route_yaml, scene, service_yaml};

fn retried(path: &str, retry: &str) -> String {
    format!("- matches: [{{{}}}]\n  retry: {{{retry}}}\n  backendRefs: [{{name: v1, port: 8080}}]\n", prefix(path))
}

#[actix_web::test]
async fn a_status_is_tried_again_as_often_as_the_rule_says() {
    // Each case has a router of its own, because a backend counts all of its requests.
    for (retry, asked, expected, requests) in [
        ("codes: [500], attempts: 3", "status=500&failures=2", "v1", 3),
        ("codes: [500], attempts: 3", "status=500&failures=4", "500", 4),
        ("codes: [500], attempts: 3", "status=503&failures=1", "503", 1),
        ("codes: [500, 503], attempts: 0", "status=503&failures=1", "503", 1),
        ("codes: [500, 502, 503, 504], attempts: 2", "status=502&failures=1", "v1", 2),
        ("codes: [500, 502, 503, 504], attempts: 2", "status=504&failures=3", "504", 3),
    ] {
        let scene = scene(&route_yaml("retries", &retried("/", retry))).await;
        let request = scene.request(&format!("POST a/?{asked}"), &[]);
        let answer = crate::harness::read(request.send_body("again").await.unwrap()).await;
        assert_eq!(answered(&answer), expected, "{retry}: {asked}");
        assert_eq!(scene.backends[0].requests(), requests, "{retry}: {asked}");
        assert_eq!(scene.backends[0].last()["body"], "again", "{retry}: {asked}");
    }
}

#[actix_web::test]
async fn a_slow_backend_is_tried_again_within_the_time_of_the_request() {
    let rules = "- timeouts: {request: 10s, backendRequest: 200ms}\n  retry: {attempts: 1}\n  \
                 backendRefs: [{name: v1, port: 8080}]\n";
    let scene = scene(&route_yaml("retries", rules)).await;
    assert_eq!(answered(&scene.ask("GET a/?hang", &[]).await), "504");
    assert_eq!(scene.backends[0].requests(), 2);
}

#[actix_web::test]
async fn a_connection_that_is_refused_leads_to_another_endpoint_without_any_policy() {
    let rules = "- backendRefs: [{name: both, port: 8080}]\n";
    let scene = scene(&route_yaml("r", rules)).await;
    // Nothing listens on the second address.
    let service = service_yaml("both", &[scene.harness.host(10), scene.harness.host(99)], "");
    scene.harness.write("both.yaml", &service);
    scene.harness.until("the Service is known", async || answered(&scene.ask("GET a/", &[]).await) == "v1").await;
    for _ in 0..20 {
        assert_eq!(answered(&scene.ask("GET a/", &[]).await), "v1");
    }
}
