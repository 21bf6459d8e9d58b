//! Forms with a recording, which name their model in front of it or behind it.

use super::{MIB, chunk};
use crate::harness::{Answer, Harness, Network, route_yaml};
use crate::wire::{Reply, ScriptedEngine, Wire};

const PATH: &str = "/v1/audio/transcriptions";
const FILE: usize = 25 * MIB;
/// What the router may keep of all requests: less than a third of the file.
const KEPT: &str = "--max-buffered-bytes=8000000";
const MODEL: &str = "--a b\r\ncontent-disposition: form-data; name=\"model\"\r\n\r\nwhisper\r\n";
const OTHER: &str = "--a b\r\ncontent-disposition: form-data; name=\"model\"\r\n\r\nother\r\n";
const STREAM: &str = "--a b\r\ncontent-disposition: form-data; name=\"stream\"\r\n\r\ntrue\r\n";
const EVENTS: &str = "data: {\"type\":\"transcript.text.delta\",\"delta\":\"a\"}\n\n";
const END: &str = "--a b--\r\n";

/// Starts a router in front of an engine that calls the model `whisper` otherwise.
async fn start(flags: &[&str]) -> (Harness, ScriptedEngine) {
    let stream = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    let network = Network::new();
    let reply = Reply::Keep(format!("{stream}{}0\r\n\r\n", chunk(EVENTS)).leak());
    let engine = ScriptedEngine::on(&network, 10, &[reply]).await;
    network.model_server("whisper", "openai/whisper-large", &[10]);
    network.write("route.yaml", &route_yaml("route", "whisper", "whisper"));
    (network.start(flags).await, engine)
}

/// Returns a recording of which no two parts are alike, with what looks like the end of the part and the model.
fn file() -> Vec<u8> {
    let head =
        b"--a b\r\nContent-Disposition: form-data; name=\"file\"; filename*=UTF-8''%e2%82%ac.wav\r\n\r\n".as_slice();
    let mut file: Vec<u8> =
        (0..FILE as u64 / 8).flat_map(|number| number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes()).collect();
    let odd = b"\r\n--a c\r\nwhisper\r\n--a ".as_slice();
    file[MIB..MIB + odd.len()].copy_from_slice(odd);
    [head, &file, b"\r\n"].concat()
}

/// Sends a form, once the router wants it.
async fn send(harness: &Harness, body: &[u8]) -> Answer {
    let mut client = Wire::open(harness).await;
    let (length, form) = (body.len(), "multipart/form-data; boundary=\"a b\"");
    let head = format!(
        "POST {PATH} HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: {length}\r\ncontent-type: {form}\r\n\r\n"
    );
    let answer = client.head_of(head).await;
    if answer.status != 100 {
        return answer;
    }
    // The router may have its answer before it has heard everything.
    client.try_send(body).await.ok();
    client.answer().await.unwrap()
}

/// Case 12: transcriptions that hang, or are sent to the wrong model.
#[actix_web::test]
async fn a_recording_goes_where_its_form_says_and_only_the_name_of_the_model_is_changed() {
    let file = file();
    for (case, parts, flags) in [
        ("the file, then the model", [&file, MODEL.as_bytes(), STREAM.as_bytes()], &[][..]),
        ("the model, then the file, which is not kept", [MODEL.as_bytes(), STREAM.as_bytes(), &file], &[KEPT]),
    ] {
        let (harness, engine) = start(flags).await;
        let body = [&parts.concat(), END.as_bytes()].concat();
        let answer = send(&harness, &body).await;
        assert_eq!((answer.status, answer.text().as_str()), (200, EVENTS), "{case}");
        let seen = engine.received().pop().unwrap();
        assert_eq!(seen.header("content-length"), [seen.body.len().to_string()], "{case}");
        let named = MODEL.replace("whisper", "openai/whisper-large");
        let expected: Vec<_> =
            parts.map(|part| if part == MODEL.as_bytes() { named.as_bytes() } else { part }).concat();
        assert!(seen.body == [&expected, END.as_bytes()].concat(), "{case}: every other byte is the client's");
    }
}

/// Case 12, forms from which no one model can be told.
#[actix_web::test]
async fn a_recording_without_a_model_or_with_two_reaches_no_engine() {
    let file = file();
    let (harness, engine) = start(&[]).await;
    for (case, parts, said) in [
        ("no model", vec![&*file], "no field `model`"),
        ("two models", vec![&*file, MODEL.as_bytes(), MODEL.as_bytes()], "more than once"),
        ("two other models", vec![MODEL.as_bytes(), OTHER.as_bytes(), &*file], "more than once"),
        ("two models around the file", vec![MODEL.as_bytes(), &*file, MODEL.as_bytes()], "more than once"),
    ] {
        let answer = send(&harness, &[&parts.concat(), END.as_bytes()].concat()).await;
        assert!(answer.status == 400 && answer.text().contains(said), "{case}: {} {}", answer.status, answer.text());
    }
    assert!(engine.received().is_empty(), "no engine got a form whole");
}
