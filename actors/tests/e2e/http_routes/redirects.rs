//! Where redirects lead.

use super::scene::{prefix, route_yaml, scene};

fn redirect(path: &str, what: &str) -> String {
    format!("- matches: [{{{}}}]\n  filters: [{{type: RequestRedirect, requestRedirect: {{{what}}}}}]\n", prefix(path))
}

#[actix_web::test]
async fn each_part_of_the_location_is_kept_unless_the_redirect_names_it() {
    let rules = redirect("/host", "hostname: example.org")
        + &redirect("/host-301", "hostname: example.org, statusCode: 301")
        + &redirect("/port", "port: 8083")
        + &redirect("/port-host", "port: 8083, hostname: example.org, statusCode: 301")
        + &redirect("/scheme", "scheme: https")
        + &redirect("/scheme-host", "scheme: https, hostname: example.org, statusCode: 301")
        + &redirect("/scheme-port", "scheme: https, port: 8443")
        + &redirect("/http-80", "scheme: http, port: 80")
        + &redirect("/prefix", "path: {type: ReplacePrefixMatch, replacePrefixMatch: /replacement}")
        + &redirect("/full", "path: {type: ReplaceFullPath, replaceFullPath: /full-replacement}")
        + &redirect("/full-host", "hostname: example.org, path: {type: ReplaceFullPath, replaceFullPath: /other}")
        + &redirect("/303", "hostname: example.org, statusCode: 303")
        + &redirect("/307", "hostname: example.org, statusCode: 307")
        + &redirect("/308", "hostname: example.org, statusCode: 308");
    let scene = scene(&route_yaml("redirects", &rules)).await;
    for (request, status, location) in [
        ("GET a.org/host", 302, "http://example.org:8080/host"),
        ("GET a.org/host?x=1", 302, "http://example.org:8080/host?x=1"),
        ("GET a.org/host-301", 301, "http://example.org:8080/host-301"),
        ("GET a.org/port", 302, "http://a.org:8083/port"),
        ("GET a.org/port-host", 301, "http://example.org:8083/port-host"),
        ("GET a.org/scheme", 302, "https://a.org/scheme"),
        ("GET a.org/scheme-host", 301, "https://example.org/scheme-host"),
        ("GET a.org/scheme-port", 302, "https://a.org:8443/scheme-port"),
        ("GET a.org/http-80", 302, "http://a.org/http-80"),
        ("GET a.org/prefix/lemon", 302, "http://a.org:8080/replacement/lemon"),
        ("GET a.org/full/lemon", 302, "http://a.org:8080/full-replacement"),
        ("GET a.org/full-host/lemon", 302, "http://example.org:8080/other"),
        ("POST a.org/303", 303, "http://example.org:8080/303"),
        ("POST a.org/307", 307, "http://example.org:8080/307"),
        ("POST a.org/308", 308, "http://example.org:8080/308"),
    ] {
        let answer = scene.ask(request, &[]).await;
        assert_eq!((answer.status, answer.header("location")), (status, Some(location)), "{request}");
    }
    assert!(scene.backends.iter().all(|backend| backend.requests() == 0), "a redirect reached a backend");
}
