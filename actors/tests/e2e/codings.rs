//! Request bodies with a content coding: what is read is decoded, and nothing is decoded that nobody reads.

use async_compression::Level;
use async_compression::tokio::write::{BrotliEncoder, DeflateEncoder, GzipEncoder, ZlibEncoder, ZstdEncoder};
use serde_json::Value;
use simulated_engine::EngineConfig;
use tokio::io::{AsyncWrite, AsyncWriteExt};

use crate::harness::{Answer, Harness, Network, PORT, gateway_yaml, pod_yaml};
use crate::http_routes::scene::{route_yaml, rule, scene};
use crate::inference_pools::{EXTENSION, pool_yaml};
use crate::wire::{Reply, Wire, behind, behind_script};

const PATH: &str = "/v1/chat/completions";
const REQUEST: &str =
    r#"{"model":"public", "messages":[{"role":"user","content":"größer \u00e9"}], "seed":9007199254740993}"#;
const ANSWER: Reply = Reply::Keep("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}");

/// Makes functions that encode bytes.
macro_rules! encoders {
    ($($name:ident: $encoder:ident,)*) => {$(
        async fn $name(bytes: impl AsRef<[u8]>) -> Vec<u8> {
            let mut encoder = $encoder::new(Vec::new());
            encoder.write_all(bytes.as_ref()).await.unwrap();
            encoder.shutdown().await.unwrap();
            encoder.into_inner()
        }
    )*};
}

encoders! {
    gzip: GzipEncoder,
    zlib: ZlibEncoder,
    deflate: DeflateEncoder,
    brotli: BrotliEncoder,
    zstd: ZstdEncoder,
}

fn sized(path: &str, coding: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: router\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\
         content-digest: sha-256=:AAAA:\r\nx-kept: 1\r\ncontent-encoding: {coding}\r\n\r\n"
    );
    [head.as_bytes(), body].concat()
}

fn in_chunks(path: &str, coding: &str, body: &[u8], size: usize) -> Vec<u8> {
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: router\r\ntransfer-encoding: chunked\r\ncontent-encoding: {coding}\r\n\r\n"
    );
    let mut request = head.into_bytes();
    for chunk in body.chunks(size) {
        request.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        request.extend_from_slice(chunk);
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"0\r\n\r\n");
    request
}

async fn send(harness: &Harness, request: &[u8]) -> Answer {
    Wire::open(harness).await.ask(request).await
}

/// Returns the request in every coding that is known, with what `Content-Encoding` calls it.
async fn codings(body: &str) -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let (first, second) = body.as_bytes().split_at(body.len() / 2);
    let zipped = gzip(body).await;
    let members = [gzip(first).await, gzip(second).await].concat();
    let frames = [zstd(first).await, zstd(second).await].concat();
    vec![
        ("gzip", "gzip", zipped.clone()),
        ("another name of gzip", "x-gzip", zipped.clone()),
        ("capitals and blanks", "  GZip ", zipped.clone()),
        ("two members", "gzip", members),
        ("zlib", "deflate", zlib(body).await),
        ("bare deflate", "deflate", deflate(body).await),
        ("brotli", "br", brotli(body).await),
        ("zstd", "zstd", zstd(body).await),
        ("two frames", "zstd", frames),
        ("one within the other", "gzip, zstd", zstd(zipped).await),
        ("none", "identity", body.as_bytes().to_vec()),
    ]
}

#[actix_web::test]
async fn a_coded_body_reaches_its_engine_decoded_and_otherwise_as_it_was() {
    let (harness, engine) = behind_script(&[ANSWER]).await;
    let large = REQUEST.replace("größer", &"größer ".repeat(200_000 / 9));
    for (path, text) in [(PATH, REQUEST), (PATH, &large), ("/v1/messages", &large)] {
        let expected = text.replace("\"public\"", "\"m\"");
        for (case, coding, body) in codings(text).await {
            for request in [sized(path, coding, &body), in_chunks(path, coding, &body, 1 + body.len() / 7)] {
                let answer = send(&harness, &request).await;
                assert_eq!(answer.status, 200, "{case}: {}", answer.text());
                let seen = engine.received().pop().unwrap();
                assert!(seen.body == expected.as_bytes(), "{case}: {}", String::from_utf8_lossy(&seen.body));
                assert_eq!(seen.header("content-length"), [expected.len().to_string()], "{case}");
                let is_plain = coding == "identity";
                assert_eq!(seen.header("content-encoding").len(), usize::from(is_plain), "{case}");
                let has_digest = is_plain && !seen.header("x-kept").is_empty();
                assert_eq!(seen.header("content-digest").len(), usize::from(has_digest), "{case}");
            }
        }
    }
    assert_eq!(harness.metric("kthena_router_buffered_bytes", &[]).await, 0.0, "all was given back");
}

#[actix_web::test]
async fn a_body_that_is_not_what_its_coding_says_is_refused_in_words() {
    let (harness, engine) = behind(EngineConfig::new("m"), &["--max-body-bytes=1000000"]).await;
    let cut = |body: &[u8]| body[..body.len() - 9].to_vec();
    let followed = |body: &[u8]| [body, b"and more"].concat();
    let zipped = gzip(REQUEST).await;
    let zeros = vec![b' '; 10_000_000];
    let bomb = gzip(&zeros).await;
    let zstd_bomb = zstd(&zeros).await;
    // A frame whose window is 16 MiB: `--long` of the command line does that.
    let wide_window = [&[0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x70][..], &[0x01, 0x00, 0x00]].concat();
    for (case, coding, body, status, said) in [
        ("half of gzip", "gzip", cut(&zipped), 400, "no valid `gzip`: it is cut off"),
        ("half of zlib", "deflate", cut(&zlib(REQUEST).await), 400, "no valid `deflate`"),
        ("half of brotli", "br", cut(&brotli(REQUEST).await), 400, "no valid `br`"),
        ("half of zstd", "zstd", cut(&zstd(REQUEST).await), 400, "no valid `zstd`"),
        ("plain text", "gzip", REQUEST.into(), 400, "no valid `gzip`"),
        ("another coding", "br", zipped.clone(), 400, "no valid `br`"),
        ("gzip and something", "gzip", followed(&zipped), 400, "no valid `gzip`"),
        ("zlib and something", "deflate", followed(&zlib(REQUEST).await), 400, "no valid `deflate`"),
        ("brotli and something", "br", followed(&brotli(REQUEST).await), 400, "no valid `br`"),
        ("zstd and something", "zstd", followed(&zstd(REQUEST).await), 400, "no valid `zstd`"),
        ("a window beyond the standard", "zstd", wide_window, 400, "no valid `zstd`"),
        ("not JSON when decoded", "gzip", gzip("{").await, 400, "not valid JSON"),
        ("once more than it is", "gzip, gzip", zipped.clone(), 400, "no valid `gzip, gzip`"),
        ("a bomb", "gzip", bomb.clone(), 413, "larger than 1000000 bytes"),
        ("a bomb of zstd", "zstd", zstd_bomb, 413, "larger than 1000000 bytes"),
        ("a bomb within", "gzip, gzip", gzip(bomb).await, 413, "larger than 1000000 bytes"),
        ("unknown", "foo", REQUEST.into(), 415, "the encoding `foo`"),
        ("too deep", "gzip, gzip, gzip, gzip", zipped.clone(), 415, "the encoding `gzip`"),
    ] {
        for path in [PATH, "/v1/messages"] {
            for request in [sized(path, coding, &body), in_chunks(path, coding, &body, 1000)] {
                let answer = send(&harness, &request).await;
                let error = answer.json();
                let message = error["error"]["message"].as_str().unwrap_or_default().to_owned();
                assert!(answer.status == status && message.contains(said), "{case}: {error}");
                assert_eq!(error["type"] == "error", path == "/v1/messages", "{case}: Anthropic's shape: {error}");
                let accepted = (status == 415).then_some("gzip, deflate, br, zstd");
                assert_eq!(answer.header("accept-encoding"), accepted, "{case}");
            }
        }
    }
    assert_eq!(engine.requests(), 0);
    assert_eq!(send(&harness, &sized(PATH, "gzip", &zipped)).await.status, 200, "who comes later is served");
}

/// How long a bomb is when it is decoded.
const BOMB: usize = 10_000_000_000;

/// Returns zeros in a coding, of which what it makes of a MiB is repeated.
async fn bomb<E: AsyncWrite + Unpin>(mut encoder: E, encoded: impl Fn(&E) -> &Vec<u8>) -> Vec<u8> {
    let zeros = vec![0; 1 << 20];
    let mut lengths = [0; 2];
    for length in &mut lengths {
        encoder.write_all(&zeros).await.unwrap();
        encoder.flush().await.unwrap();
        *length = encoded(&encoder).len();
    }
    let (mut bomb, block) = (encoded(&encoder).clone(), encoded(&encoder)[lengths[0]..].to_vec());
    for _ in 2..=BOMB / zeros.len() {
        bomb.extend_from_slice(&block);
    }
    bomb
}

/// Case 7 of the reports: what is small and decodes to 10 GB, within the limits that nobody changes.
#[actix_web::test]
async fn a_bomb_is_defused_in_every_coding() {
    let (harness, engine) = behind(EngineConfig::new("m"), &[]).await;
    let in_gzip = bomb(GzipEncoder::new(Vec::new()), GzipEncoder::get_ref).await;
    let members = gzip(vec![0; 1 << 20]).await.repeat(1 + (BOMB >> 20));
    for (case, coding, body) in [
        ("gzip", "gzip", in_gzip.clone()),
        ("its other name, in members", "x-gzip", members),
        ("zlib", "deflate", bomb(ZlibEncoder::new(Vec::new()), ZlibEncoder::get_ref).await),
        ("bare deflate", "deflate", bomb(DeflateEncoder::new(Vec::new()), DeflateEncoder::get_ref).await),
        ("zstd", "zstd", bomb(ZstdEncoder::new(Vec::new()), ZstdEncoder::get_ref).await),
        ("brotli", "br", bomb(BrotliEncoder::with_quality(Vec::new(), Level::Fastest), BrotliEncoder::get_ref).await),
    ] {
        let mut client = Wire::open(&harness).await;
        // The router has its answer before it has heard everything.
        client.try_send(sized(PATH, coding, &body)).await.ok();
        let answer = client.answer().await.unwrap();
        assert!(
            answer.status == 413 && answer.text().contains("larger than 67108864 bytes"),
            "{case}: {}",
            answer.text()
        );
    }
    assert_eq!(engine.requests(), 0);
    let none = async || harness.metric("kthena_router_buffered_bytes", &[]).await == 0.0;
    harness.until("all is given back", none).await;
}

/// Codex sends its requests so.
#[actix_web::test]
async fn a_response_is_asked_for_in_zstd_and_its_usage_is_counted() {
    for end in ["completed", "incomplete", "failed"] {
        ask_for_response(end).await;
    }
}

/// Asks for a response in zstd that ends so.
async fn ask_for_response(end: &str) {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    let event = format!("event: response.{end}\nd");
    let rest =
        "40\r\nata: {\"response\":{\"usage\":{\"input_tokens\":36,\"output_tokens\":87}\r\n4\r\n}}\n\n\r\n0\r\n\r\n";
    let reply = Reply::Keep(format!("{head}{:x}\r\n{event}\r\n{rest}", event.len()).leak());
    let (harness, engine) = behind_script(&[reply]).await;
    let text = format!(r#"{{"model":"public","stream":true,"input":"{}"}}"#, "some input ".repeat(3_000_000 / 11));
    let answer = send(&harness, &sized("/v1/responses", "zstd\r\naccept: text/event-stream", &zstd(&text).await)).await;
    assert!(answer.status == 200 && answer.text().ends_with("}}\n\n"), "{}", answer.text());
    let seen = engine.received().pop().unwrap();
    assert!(seen.body == text.replace("\"public\"", "\"m\"").as_bytes(), "no option is added");
    let counted = async |kind: &str| harness.metric("kthena_router_tokens_total", &[kind]).await;
    let all = async || [counted("\"input\"").await, counted("\"output\"").await] == [36.0, 87.0];
    harness.until("the tokens are counted", all).await;
}

#[actix_web::test]
async fn what_is_decoded_counts_in_the_budget_of_bytes() {
    let (harness, engine) = behind(EngineConfig::new("m"), &["--max-buffered-bytes=2000000"]).await;
    let large = format!("{{\"model\":\"public\",\"prompt\":\"{}\"}}", "a".repeat(3_000_000));
    let body = gzip(large).await;
    assert!(body.len() < 10_000, "what arrives is small");
    let answer = send(&harness, &sized("/v1/completions", "gzip", &body)).await;
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (503, &"memory".into()), "{}", answer.text());
    assert_eq!(engine.requests(), 0);
    let small = gzip(REQUEST).await;
    assert_eq!(send(&harness, &sized(PATH, "gzip", &small)).await.status, 200);
}

#[actix_web::test]
async fn a_body_that_nobody_reads_keeps_its_coding() {
    let scene = scene(&route_yaml("r", &rule(&[], "v1"))).await;
    let body = gzip(REQUEST).await;
    for coding in ["gzip", "foo"] {
        let seen = send(&scene.harness, &sized(PATH, coding, &body)).await.json();
        assert_eq!(seen["headers"]["content-encoding"][0], *coding, "{seen}");
        assert_eq!(seen["headers"]["content-length"][0], *body.len().to_string(), "{seen}");
    }
}

#[actix_web::test]
async fn an_inference_pool_gets_a_coded_body_decoded_and_one_of_an_unknown_coding_as_it_is() {
    let network = Network::new();
    let engine = network.engine(10, "public").await;
    network.write("pods.yaml", &pod_yaml("p", "p", network.host(10)));
    network.write("pool.yaml", &(gateway_yaml("g", &[(PORT, None)]) + &pool_yaml("g", "")));
    let harness = network.start(&[EXTENSION]).await;
    for (case, coding, body) in codings(REQUEST).await {
        let answer = send(&harness, &sized(PATH, coding, &body)).await;
        assert_eq!(answer.status, 200, "{case}: {}", answer.text());
        let seen = engine.last_request().unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&seen.body).unwrap()["seed"], 9_007_199_254_740_993_u64, "{case}");
    }
    assert_eq!(send(&harness, &sized(PATH, "foo", b"{")).await.status, 400, "the engine's own words");
}
