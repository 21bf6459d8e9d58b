//! What pickers decide, and what becomes of it.

use std::sync::Arc;

use futures::StreamExt;
use rcgen::generate_simple_self_signed;
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio_rustls::TlsAcceptor;

use super::fake::{Conduct, FakePicker};
use super::scene::{Setting, TO_POOL, endpoint, scene, scene_on};
use crate::harness::{Network, client, read};
use crate::http_routes::scene::answered;

#[actix_web::test]
async fn requests_go_where_the_picker_says() {
    let (scene, picker) = scene(&Setting::default(), |network| Conduct::Names(endpoint(network, 10))).await;
    for (host, name) in [(10, "v1"), (12, "v3"), (11, "v2")] {
        picker.turn_to(Conduct::Names(scene.endpoint(host)));
        assert_eq!(scene.asked().await, name);
        // A request without a body is decided on by its headers.
        let url = format!("http://{}:8080/v1/models?all", scene.harness.host(1));
        assert_eq!(answered(&read(client().get(url).send().await.unwrap()).await), name);
    }
    assert_eq!(picker.told_header(":path").as_deref(), Some("/v1/models?all"));
    assert_eq!(picker.told_header(":method").as_deref(), Some("GET"));
    assert_eq!(scene.outcomes("picked").await, 6.0);
    assert_eq!(scene.harness.metric("kthena_router_endpoint_picker_duration_seconds_count", &[]).await, 6.0);
}

#[actix_web::test]
async fn a_large_body_is_shown_in_pieces() {
    let (scene, picker) = scene(&Setting::default(), |network| Conduct::Names(endpoint(network, 10))).await;
    let body = "x".repeat(5 << 20);
    assert_eq!(answered(&read(scene.post().send_body(body.clone()).await.unwrap()).await), "v1");
    let (told, pieces) = picker.told_body();
    assert_eq!((told.len(), pieces), (body.len(), 80));
    assert_eq!(scene.backends[0].last()["body"].as_str().unwrap().len(), body.len());
}

#[actix_web::test]
async fn a_request_is_changed_as_the_picker_says() {
    let conduct = |network: &Network| Conduct::Rewrites(endpoint(network, 11), "{\"model\": \"another\"}");
    let (scene, _picker) = scene(&Setting::default(), conduct).await;
    let request = scene.post().insert_header(("x-removed", "1")).insert_header(("x-request-id", "the-clients"));
    assert_eq!(answered(&read(request.send_body("{}").await.unwrap()).await), "v2");
    let seen = scene.backends[1].last();
    assert_eq!(seen["body"], "{\"model\": \"another\"}");
    assert_eq!(seen["headers"]["content-length"][0], "20");
    assert_eq!(seen["headers"]["x-removed"], serde_json::Value::Null);
    assert_eq!(seen["headers"]["x-request-id"], serde_json::json!(["the-pickers"]));
    assert_eq!(seen["headers"]["x-gateway-destination-endpoint"][0], scene.endpoint(11));
}

#[actix_web::test]
async fn clients_do_not_choose_their_endpoint() {
    let (scene, picker) = scene(&Setting::default(), |network| Conduct::Names(endpoint(network, 10))).await;
    let names = ["", "-subset", "-served", "-scores"].map(|end| format!("X-Gateway-Destination-Endpoint{end}"));
    let request = names.iter().fold(scene.post(), |request, name| request.append_header((&**name, "10.0.0.1:1")));
    assert_eq!(answered(&read(request.send_body("{}").await.unwrap()).await), "v1");
    let seen = scene.backends[0].last();
    assert_eq!(seen["headers"][names[0].to_lowercase()], serde_json::json!([scene.endpoint(10)]));
    for name in names.map(|name| name.to_lowercase()) {
        assert_eq!(picker.told_header(&name), None, "{name}");
        assert!(name.ends_with("endpoint") || seen["headers"][&name].is_null(), "{name}");
    }
}

#[actix_web::test]
async fn the_next_endpoint_of_the_list_is_for_when_one_cannot_answer() {
    // Nothing listens on the first one, the second one is no endpoint of the pool.
    let rules = TO_POOL.replace("- back", "- retry: {codes: [503], attempts: 2}\n  back");
    let (scene, picker) = scene(&Setting { rules: &rules, ..Setting::default() }, |_| Conduct::Hangs).await;
    let list = format!("127.0.0.1:9, {}, {}", scene.endpoint(12), scene.endpoint(11));
    picker.turn_to(Conduct::Names(list));
    let url = |query: &str| format!("http://{}:8080/{query}", scene.harness.host(1));
    assert_eq!(answered(&read(client().get(url("")).send().await.unwrap()).await), "v3");
    let failing = read(client().get(url("?status=503")).send().await.unwrap()).await;
    assert_eq!(failing.status, 503);
    let requests: Vec<_> = scene.backends.iter().map(crate::http_routes::backends::Backend::requests).collect();
    assert_eq!(requests, [0, 1, 3], "the list is gone through, and begun again while attempts are left");
    assert_eq!(picker.streams(), 2, "one decision serves all attempts");
    assert_eq!(picker.told_served(), Some(scene.endpoint(12)));
}

#[actix_web::test]
async fn what_the_picker_answers_itself_reaches_the_client() {
    let (scene, _picker) = scene(&Setting::default(), |_| Conduct::Answers(429)).await;
    let answer = scene.ask().await;
    assert_eq!((answer.status, &*answer.text()), (429, "not now"));
    assert_eq!(answer.header("x-picker"), Some("answered"));
    assert!(answer.header("x-request-id").is_some());
    assert_eq!(scene.outcomes("answered").await, 1.0);
}

#[actix_web::test]
async fn the_exchange_lasts_as_long_as_the_answer() {
    let (scene, picker) = scene(&Setting::default(), |network| Conduct::Names(endpoint(network, 10))).await;
    let url = format!("http://{}:8080/?hang", scene.harness.host(1));
    let mut hanging = Box::pin(client().get(url).send());
    tokio::select! {
        _ = &mut hanging => panic!("nothing answers this request"),
        () = scene.harness.until("the picker has decided", async || scene.backends[0].requests() == 1) => {}
    }
    assert_eq!(picker.open(), 1);
    drop(hanging);
    scene.harness.until("the exchange has ended", async || picker.open() == 0).await;
    let mut answer = scene.post().send_body("{}").await.unwrap();
    while answer.next().await.is_some() {}
    scene.harness.until("the exchange has ended", async || picker.open() == 0).await;
}

#[actix_web::test]
async fn a_picker_is_spoken_to_in_tls_whatever_its_certificate() {
    let network = Network::new();
    let made = generate_simple_self_signed(vec!["somebody.example".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = builder.with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let conduct = Conduct::Names(endpoint(&network, 11));
    let picker = FakePicker::start_with(network.host(20), conduct, Some(acceptor)).await;
    let scene = scene_on(network, &Setting { port: ", appProtocol: http2", ..Setting::default() }).await;
    assert_eq!(scene.asked().await, "v2");
    assert_eq!(picker.streams(), 1);
}
