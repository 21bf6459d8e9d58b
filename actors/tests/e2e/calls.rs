//! Calls that name their model elsewhere than in a JSON body, and those that are answered with something else.

use crate::harness::{Answer, Harness, Network, PORT, gateway_yaml, pod_yaml};
use crate::inference_pools::{EXTENSION, pool_yaml};
use crate::wire::{Reply, ScriptedEngine, Wire, behind_script, behind_script_with, post};

const TRANSCRIPTIONS: &str = "/v1/audio/transcriptions";
const ANSWER: Reply = Reply::Keep("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}");
const TYPE: &str = "content-type: multipart/form-data; boundary=\"b\"\r\n";
const MODEL: &str = "--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\npublic\r\n";
const MIB: usize = 1 << 20;

fn file(length: usize) -> String {
    let content: String = "\r\n--B\0\u{1}öπ".chars().cycle().take(length).collect();
    format!(
        "--b\r\nContent-Disposition: form-data; name=\"file\"; filename*=UTF-8''a.wav\r\nContent-Type: audio/wav\r\n\r\n{content}\r\n"
    )
}

fn form(parts: &[&str]) -> String {
    parts.concat() + "--b--\r\n"
}

async fn send(harness: &Harness, path: &str, body: &str) -> Answer {
    let request = post(path, TYPE, body);
    Wire::open(harness).await.ask(request).await
}

#[actix_web::test]
async fn a_form_goes_where_its_model_is_and_only_the_model_is_changed() {
    let (harness, engine) = behind_script(&[ANSWER]).await;
    for (case, body) in [
        ("model first", form(&[MODEL, &file(10)])),
        ("model last", form(&[&file(10), MODEL])),
        ("model first, large", form(&[MODEL, &file(MIB)])),
        ("model last, large", form(&[&file(MIB), MODEL])),
    ] {
        for path in [TRANSCRIPTIONS, "/v1/audio/translations", "/v1/images/edits"] {
            let answer = send(&harness, path, &body).await;
            assert_eq!(answer.status, 200, "{case}: {}", answer.text());
            let seen = engine.received().pop().unwrap();
            assert!(seen.body == body.replace("\r\npublic\r\n", "\r\nm\r\n").as_bytes(), "{case}");
            assert_eq!(seen.header("content-length"), [seen.body.len().to_string()], "{case}");
        }
    }
}

#[actix_web::test]
async fn a_form_that_names_no_model_or_several_reaches_no_engine() {
    let (harness, engine) = behind_script(&[ANSWER]).await;
    let other = MODEL.replace("public", "other");
    for (case, body, status, said) in [
        ("no model", form(&[&file(10)]), 400, "no field `model`"),
        ("no model behind a large file", form(&[&file(MIB)]), 400, "no field `model`"),
        ("two", form(&[MODEL, &other]), 400, "more than once"),
        ("two around a large file", form(&[MODEL, &file(MIB), &other]), 400, "more than once"),
        ("one behind a large file, and another", form(&[&file(MIB), MODEL, &other]), 400, "more than once"),
        ("cut off", form(&[MODEL]).replace("--b--", ""), 400, "before its last boundary"),
        ("large and cut off", form(&[MODEL, &file(MIB)]).replace("--b--", ""), 400, "before its last boundary"),
        ("unknown", form(&[&other, &file(10)]), 404, "`other`"),
        ("no form", "{}".to_owned(), 400, "before its last boundary"),
    ] {
        let answer = send(&harness, TRANSCRIPTIONS, &body).await;
        let error = answer.json();
        let message = error["error"]["message"].as_str().unwrap_or_default().to_owned();
        assert!(answer.status == status && message.contains(said), "{case}: {error}");
    }
    assert!(engine.received().is_empty(), "no engine got a form whole");
    let answer = send(&harness, "/v1/completions", &form(&[MODEL])).await;
    assert_eq!((answer.status, answer.header("accept-encoding")), (415, None), "{}", answer.text());
    assert_eq!(send(&harness, TRANSCRIPTIONS, &form(&[MODEL])).await.status, 200, "who comes later is served");
}

#[actix_web::test]
async fn a_file_behind_the_model_is_not_kept() {
    let (harness, engine) = behind_script_with(&[ANSWER], &["--max-buffered-bytes=1000000"]).await;
    let answer = send(&harness, TRANSCRIPTIONS, &form(&[MODEL, &file(4 * MIB)])).await;
    assert_eq!((answer.status, engine.received().len()), (200, 1), "{}", answer.text());
    let request = post(TRANSCRIPTIONS, TYPE, &form(&[&file(4 * MIB), MODEL]));
    let mut client = Wire::open(&harness).await;
    // The router may stop to listen before it has heard everything.
    client.try_send(request).await.ok();
    let answer = client.answer().await.unwrap();
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (503, &"memory".into()));
    let is_back = async || harness.metric("kthena_router_buffered_bytes", &[]).await == 0.0;
    harness.until("all was given back", is_back).await;
}

#[actix_web::test]
async fn an_inference_pool_gets_forms_as_they_are() {
    let network = Network::new();
    let engine = ScriptedEngine::on(&network, 10, &[ANSWER]).await;
    network.write("pods.yaml", &pod_yaml("p", "p", network.host(10)));
    network.write("pool.yaml", &(gateway_yaml("g", &[(PORT, None)]) + &pool_yaml("g", "")));
    let harness = network.start(&[EXTENSION]).await;
    for body in [form(&[MODEL, &file(MIB)]), form(&[&file(MIB)]), form(&[&file(10), MODEL])] {
        assert_eq!(send(&harness, TRANSCRIPTIONS, &body).await.status, 200);
        assert!(engine.received().pop().unwrap().body == body.as_bytes());
    }
}

#[actix_web::test]
async fn a_realtime_call_goes_where_the_model_in_its_query_is() {
    const SWITCHED: Reply =
        Reply::Keep("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n");
    const FRAME: Reply = Reply::Close("from the engine");
    let (harness, engine) = behind_script(&[SWITCHED, FRAME]).await;
    let ask = |target: &str| {
        format!(
            "GET {target} HTTP/1.1\r\nhost: router\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-protocol: realtime, openai-insecure-api-key.x\r\n\r\n"
        )
    };
    for (target, status, said) in [
        ("/v1/realtime", 400, "no parameter `model`"),
        ("/v1/realtime?model=a&model=b", 400, "more than once"),
        ("/v1/realtime?model=unknown", 404, "`unknown`"),
    ] {
        let answer = Wire::open(&harness).await.ask(ask(target)).await;
        assert!(answer.status == status && answer.text().contains(said), "{target}: {}", answer.text());
    }
    assert!(engine.received().is_empty());
    let mut client = Wire::open(&harness).await;
    let answer = client.head_of(ask("/v1/realtime?x=%2F+&model=publi%63")).await;
    assert_eq!((answer.status, answer.header("upgrade")), (101, Some("websocket")));
    let seen = engine.received().pop().unwrap();
    assert!(seen.head.starts_with("GET /v1/realtime?x=%2F+&model=m HTTP/1.1\r\n"), "{}", seen.head);
    assert_eq!(seen.header("sec-websocket-protocol"), ["realtime, openai-insecure-api-key.x"]);
    client.send("from the client\r\n\r\n").await;
    assert_eq!(client.closed().await, b"from the engine");
    assert_eq!(engine.received().pop().unwrap().head, "from the client\r\n\r\n");
}

#[actix_web::test]
async fn bytes_of_a_medium_pass_as_they_are() {
    // What looks like the engine's name in them is none.
    const SPEECH: Reply = Reply::Keep(
        "HTTP/1.1 200 OK\r\ncontent-type: audio/mpeg\r\ncontent-length: 33\r\n\r\n\"model\":\"m\" \"usage\":{\"a\":1} \0\u{1}\u{2}\r\n",
    );
    let (harness, _engine) = behind_script(&[SPEECH]).await;
    let answer =
        Wire::open(&harness).await.ask(post("/v1/audio/speech", "", r#"{"model":"public","input":"a"}"#)).await;
    assert_eq!(answer.body, b"\"model\":\"m\" \"usage\":{\"a\":1} \0\x01\x02\r\n");
    assert_eq!(answer.header("content-length"), Some("33"));
}

#[actix_web::test]
async fn calls_below_any_prefix_of_the_engines_reach_them() {
    let (harness, engine) = behind_script(&[ANSWER]).await;
    for path in ["/v1/rerank", "/v2/rerank", "/rerank", "/score", "/classify", "/pooling", "/tokenize", "/detokenize"] {
        let answer = Wire::open(&harness).await.ask(post(path, "", r#"{"model":"public"}"#)).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        let seen = engine.received().pop().unwrap();
        assert!(seen.head.starts_with(&format!("POST {path} HTTP/1.1\r\n")), "{}", seen.head);
    }
    let counting = post("/v1/messages/count_tokens", "", r#"{"model":"unknown"}"#);
    let answer = Wire::open(&harness).await.ask(counting).await.json();
    assert_eq!((&answer["type"], &answer["error"]["type"]), (&"error".into(), &"not_found_error".into()), "{answer}");
}
