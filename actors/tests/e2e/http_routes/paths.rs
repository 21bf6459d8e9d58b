//! The policy for paths: they are matched and passed on as they were sent, and what could mean two things is refused.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::scene::{Scene, prefix, route_yaml, rule, scene};
use crate::harness::PORT;

/// Sends a request target as it is, which no client library would do, and returns the answer's status.
async fn status_of(scene: &Scene, target: &str) -> String {
    let mut connection = TcpStream::connect((scene.harness.host(1), PORT)).await.unwrap();
    let request = format!("GET {target} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    connection.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8_lossy(&answer);
    answer.split(' ').nth(1).unwrap_or("no answer").to_owned()
}

#[actix_web::test]
async fn a_path_that_could_mean_two_things_is_refused() {
    let rules = rule(&[&prefix("/public")], "v1");
    let scene = scene(&route_yaml("paths", &rules)).await;
    for (target, expected) in [
        ("/public/a", "200"),
        ("/public//a", "200"),
        ("/public/a%2fb", "200"),
        ("/public/..", "400"),
        ("/public/../admin", "400"),
        ("/public/./a", "400"),
        ("/public/%2e%2e/admin", "400"),
        ("/public/.%2E/admin", "400"),
        ("/public/a%00", "400"),
        ("/public/a\\..\\b", "400"),
        ("/public/...", "200"),
        ("/public/.well-known", "200"),
        ("//public", "404"),
        ("/publicity", "404"),
        ("/%70ublic", "404"),
    ] {
        assert_eq!(status_of(&scene, target).await, expected, "{target}");
    }
}

#[actix_web::test]
async fn a_path_reaches_the_backend_as_it_was_sent() {
    let scene = scene(&route_yaml("paths", &rule(&[&prefix("/")], "v1"))).await;
    for path in ["/a//b", "/a%2fb", "/%41", "/a;b=c", "/a?b=/../c", "/a/"] {
        assert_eq!(status_of(&scene, path).await, "200", "{path}");
        assert_eq!(scene.backends[0].last()["path"], path);
    }
}
