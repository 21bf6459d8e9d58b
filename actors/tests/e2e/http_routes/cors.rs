//! What browsers are told about requests from other origins.

use super::scene::{Scene, prefix, route_yaml, scene};

const FIRST: &str = "allowOrigins: ['https://www.foo.com', 'https://*.bar.com'], allowMethods: [GET, OPTIONS], \
                     allowHeaders: [x-header-1, x-header-2], exposeHeaders: [x-header-3, x-header-4], \
                     allowCredentials: true, maxAge: 3600";

async fn cors_scene() -> Scene {
    let rule = |path: &str, cors: &str| {
        format!(
            "- matches: [{{{}}}]\n  filters: [{{type: CORS, cors: {{{cors}}}}}]\n  backendRefs: [{{name: v1, port: 8080}}]\n",
            prefix(path)
        )
    };
    let everything = "allowOrigins: ['*'], allowMethods: ['*'], allowHeaders: ['*']";
    let rules = rule("/1", FIRST)
        + &rule("/2", "allowOrigins: ['https://www.foo.com'], allowMethods: ['*']")
        + &rule("/3", "allowOrigins: ['*'], allowMethods: [PUT], allowCredentials: false")
        + &rule("/4", &format!("{everything}, allowCredentials: true"))
        + &rule("/5", &format!("{everything}, allowCredentials: false"));
    scene(&route_yaml("cors", &rules)).await
}

#[actix_web::test]
async fn a_preflight_is_answered_by_the_router() {
    let scene = cors_scene().await;
    let asked = |origin: &'static str, method: &'static str| {
        vec![
            ("origin", origin),
            ("access-control-request-method", method),
            ("access-control-request-headers", "x-header-1, x-header-2"),
        ]
    };
    let whole = |origin: &'static str| {
        vec![
            ("allow-origin", Some(origin)),
            ("allow-methods", Some("GET, OPTIONS")),
            ("allow-headers", Some("x-header-1, x-header-2")),
            ("max-age", Some("3600")),
            ("allow-credentials", Some("true")),
        ]
    };
    let cases = [
        ("OPTIONS a/1", asked("https://www.foo.com", "GET"), whole("https://www.foo.com")),
        ("OPTIONS a/1", asked("https://www.bar.com", "GET"), whole("https://www.bar.com")),
        ("OPTIONS a/1", asked("https://xpto.www.bar.com", "GET"), whole("https://xpto.www.bar.com")),
        ("OPTIONS a/1", asked("https://foobar.com", "GET"), vec![("allow-origin", None)]),
        (
            "OPTIONS a/2",
            asked("https://www.foo.com", "POST"),
            vec![("allow-origin", Some("https://www.foo.com")), ("allow-credentials", None)],
        ),
        (
            "OPTIONS a/3",
            asked("https://other.foo.com", "PUT"),
            vec![("allow-methods", Some("PUT")), ("allow-credentials", None)],
        ),
        (
            "OPTIONS a/4",
            asked("https://other.foo.com", "PUT"),
            vec![
                ("allow-origin", Some("https://other.foo.com")),
                ("allow-methods", Some("PUT")),
                ("allow-headers", Some("x-header-1, x-header-2")),
                ("allow-credentials", Some("true")),
            ],
        ),
        (
            "OPTIONS a/5",
            asked("https://other.foo.com", "PUT"),
            vec![("allow-credentials", None), ("max-age", Some("5"))],
        ),
    ];
    for (line, headers, expected) in cases {
        let answer = scene.ask(line, &headers).await;
        assert!([200, 204].contains(&answer.status), "{line} {headers:?}: {}", answer.status);
        for (name, value) in expected {
            let name = format!("access-control-{name}");
            assert_eq!(answer.header(&name), value, "{line} {headers:?}: {name}");
        }
    }
    assert_eq!(scene.backends[0].requests(), 0, "a preflight reached the backend");
}

#[actix_web::test]
async fn other_requests_are_passed_on_and_their_answers_say_who_may_read_them() {
    let scene = cors_scene().await;
    for (line, origin, allowed, credentials) in [
        ("GET a/1", "https://www.foo.com", Some("https://www.foo.com"), Some("true")),
        ("GET a/1", "https://www.bar.com", Some("https://www.bar.com"), Some("true")),
        ("GET a/1", "https://foobar.com", None, None),
        ("GET a/2", "https://www.foo.com", Some("https://www.foo.com"), None),
        ("PUT a/4", "https://other.foo.com", Some("https://other.foo.com"), Some("true")),
    ] {
        let answer = scene.ask(line, &[("origin", origin)]).await;
        assert_eq!(answer.status, 200, "{line} {origin}");
        let said = ["allow-origin", "allow-credentials"].map(|name| answer.header(&format!("access-control-{name}")));
        assert_eq!(said, [allowed, credentials], "{line} {origin}");
    }
    let exposed = scene.ask("GET a/1", &[("origin", "https://www.foo.com")]).await;
    assert_eq!(exposed.header("access-control-expose-headers"), Some("x-header-3, x-header-4"));
    let plain = scene.ask("OPTIONS a/1", &[]).await;
    assert_eq!(plain.status, 200, "an OPTIONS request that is no preflight is the backend's");
    assert_eq!(plain.json()["backend"], "v1");
}
