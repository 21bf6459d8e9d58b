use super::*;

const DELTA: &str = "data: {\"model\":\"served\",\"choices\":[{\"delta\":{\"content\":\"Hi\"}}],\"usage\":null}\n\n";
const USAGE: &str = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":3}}\n\n";
const COUNTED: Option<Usage> = Some(Usage { prompt_tokens: 7, completion_tokens: 3 });
const CHAT: Option<Api> = Some(Api::ChatCompletions);
const EVENTS: AnswerHead<'_> = AnswerHead { content_type: Some("text/event-stream"), content_encoding: None };

fn passed(tap: &mut Tap, pieces: &[&'static str]) -> String {
    let passed = pieces.iter().filter_map(|piece| tap.feed(Bytes::from_static(piece.as_bytes())));
    passed.map(|piece| String::from_utf8(piece.to_vec()).unwrap()).collect()
}

fn text(bytes: Option<Bytes>) -> String {
    String::from_utf8(bytes.unwrap_or_default().to_vec()).unwrap()
}

#[test]
fn the_routers_usage_event_is_taken_out_of_every_stream_that_can_be_read() {
    let whole = "{\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":3}}";
    for (case, content_type, content_encoding, answer, left, usage) in [
        ("a stream", Some("text/event-stream"), None, USAGE, "", COUNTED),
        ("another case, a parameter", Some("Text/Event-Stream ; charset=utf-8"), None, USAGE, "", COUNTED),
        ("no type", None, None, USAGE, "", COUNTED),
        ("no type, and an object", None, None, whole, whole, COUNTED),
        ("another type", Some("text/event-streamx"), None, USAGE, USAGE, COUNTED),
        ("an object", Some("application/json"), None, whole, whole, COUNTED),
        ("no coding", Some("text/event-stream"), Some("Identity"), USAGE, "", COUNTED),
        ("a coding", Some("text/event-stream"), Some("gzip"), USAGE, USAGE, None),
        ("several codings", Some("text/event-stream"), Some("identity, gzip"), USAGE, USAGE, None),
    ] {
        let head = AnswerHead { content_type, content_encoding };
        let mut tap = Tap::new(Reading::StreamWithAddedUsage, None, CHAT, head);
        let mut got = passed(&mut tap, &[answer]);
        let Ended { leftover, usage: counted } = tap.end();
        got.push_str(&text(leftover));
        assert_eq!((got.as_str(), counted), (left, usage), "{case}");
    }
}

#[test]
fn what_cannot_be_read_is_never_held_back() {
    let head = AnswerHead { content_encoding: Some("gzip"), ..EVENTS };
    let names = Some(ModelNames::new("served", "asked"));
    let mut tap = Tap::new(Reading::StreamWithAddedUsage, names, CHAT, head);
    assert!(!tap.changes_length());
    for piece in ["\u{1f}half of", " an \"mod", "el\":\"served\""] {
        assert_eq!(passed(&mut tap, &[piece]), piece);
    }
    assert_eq!(tap.broken("upstream_reset", "gone"), Ended::default(), "an event in a coded stream would be noise");
}

#[test]
fn a_model_gets_the_clients_name_back_after_usage_was_taken_out() {
    let names = || Some(ModelNames::new("served", "asked"));
    let mut tap = Tap::new(Reading::StreamWithAddedUsage, names(), CHAT, EVENTS);
    assert!(tap.changes_length());
    assert_eq!(passed(&mut tap, &[&DELTA[..30], &DELTA[30..], USAGE]), DELTA.replace("served", "asked"));
    assert_eq!(tap.end(), Ended { leftover: None, usage: COUNTED });
    let mut whole = Tap::new(Reading::Whole, names(), CHAT, AnswerHead::default());
    assert_eq!(passed(&mut whole, &["{\"model\":\"ser"]), "{");
    assert_eq!(text(whole.end().leftover), "\"model\":\"ser");
}

#[test]
fn lengths_stay_where_nothing_is_changed() {
    for (reading, head, changes) in [
        (Reading::Unread, EVENTS, false),
        (Reading::Stream, EVENTS, false),
        (Reading::StreamWithAddedUsage, EVENTS, true),
        (Reading::StreamWithAddedUsage, AnswerHead::default(), true),
        (Reading::StreamWithAddedUsage, AnswerHead { content_type: Some("application/json"), ..EVENTS }, false),
    ] {
        assert_eq!(Tap::new(reading, None, CHAT, head).changes_length(), changes, "{reading:?}, {head:?}");
    }
}

#[test]
fn a_stream_that_breaks_off_says_so_where_an_event_can_be_written() {
    let said = |api, reading, head, pieces: &[&'static str]| {
        let mut tap = Tap::new(reading, None, api, head);
        passed(&mut tap, pieces);
        text(tap.broken("idle_timeout", "gone").leftover)
    };
    let event = said(CHAT, Reading::Unread, EVENTS, &["data: {}\n\n"]);
    assert!(event.starts_with("data: {\"error\"") && event.contains("gone") && event.ends_with("\n\n"), "{event}");
    let messages = said(Some(Api::Messages), Reading::Stream, EVENTS, &["data: {}\r\n\r\n"]);
    assert!(messages.starts_with("event: error\ndata: {") && messages.contains("api_error"), "{messages}");
    assert!(!said(CHAT, Reading::Unread, EVENTS, &[]).is_empty(), "nothing was sent yet");
    for (case, pieces, number) in [
        ("no event", &[][..], 0),
        ("numbered events", &["data: {\"sequence_number\":6}\n\ndata: {\"sequence_number\": 7 }\n\n"], 8),
        ("others after them", &["data: {\"sequence_number\":11,\"a\":1}\n\n", "data: {}\n\n"], 12),
        ("a number that is none", &["data: {\"sequence_number\":null}\n\n"], 0),
    ] {
        let event = said(Some(Api::Responses), Reading::Stream, EVENTS, pieces);
        let data = event.strip_prefix("event: error\ndata: ").and_then(|rest| rest.strip_suffix("\n\n")).unwrap();
        let data: serde_json::Value = serde_json::from_str(data).unwrap();
        assert_eq!((&data["type"], &data["sequence_number"]), (&"error".into(), &number.into()), "{case}: {event}");
        assert_eq!((&data["code"], &data["error"]["code"]), (&"idle_timeout".into(), &"idle_timeout".into()), "{case}");
    }
    for (case, api, reading, head, pieces, expected) in [
        ("within an event", CHAT, Reading::Stream, EVENTS, &["data: {\"a\":"][..], ""),
        ("after one of its lines", CHAT, Reading::Stream, EVENTS, &["data: {}\n"], ""),
        ("within one that is held", CHAT, Reading::StreamWithAddedUsage, EVENTS, &["data: {\"a\":"], "data: {\"a\":"),
        ("not a stream", CHAT, Reading::Whole, AnswerHead::default(), &["{}\n\n"], ""),
        ("not an inference", None, Reading::Unread, EVENTS, &["data: {}\n\n"], ""),
    ] {
        assert_eq!(said(api, reading, head, pieces), expected, "{case}");
    }
}

#[test]
fn a_heartbeat_stands_between_events_alone() {
    const PING: &str = "event: ping\ndata: {\"type\": \"ping\"}\n\n";
    const COMMENT: &str = ": heartbeat\n\n";
    use HeartbeatForm::{Comment, Ping};
    let gzip = AnswerHead { content_encoding: Some("gzip"), ..EVENTS };
    for (case, api, form, reading, head, pieces, expected) in [
        ("before any event", CHAT, Comment, Reading::Stream, EVENTS, &[][..], Some(COMMENT)),
        ("after an event", CHAT, Ping, Reading::Stream, EVENTS, &["data: {}\n\n"], Some(COMMENT)),
        ("a dialect with pings", Some(Api::Messages), Ping, Reading::Stream, EVENTS, &[], Some(PING)),
        ("which need not be used", Some(Api::Messages), Comment, Reading::Stream, EVENTS, &[], Some(COMMENT)),
        ("within an event", CHAT, Comment, Reading::Stream, EVENTS, &["data: {"], None),
        ("within one that is held", CHAT, Comment, Reading::StreamWithAddedUsage, EVENTS, &["data: {"], Some(COMMENT)),
        ("not a stream", CHAT, Comment, Reading::Whole, AnswerHead::default(), &[], None),
        ("a coding", CHAT, Comment, Reading::Stream, gzip, &[], None),
        ("not an inference", None, Comment, Reading::Unread, EVENTS, &[], None),
    ] {
        let mut tap = Tap::new(reading, None, api, head);
        passed(&mut tap, pieces);
        assert_eq!(tap.heartbeat(form), expected, "{case}");
    }
}

#[test]
fn a_piece_that_is_not_changed_is_not_copied() {
    let piece = Bytes::from_static(DELTA.as_bytes());
    for reading in [Reading::Unread, Reading::Whole, Reading::Stream, Reading::StreamWithAddedUsage] {
        let mut tap = Tap::new(reading, None, CHAT, EVENTS);
        let passed = tap.feed(piece.clone()).unwrap();
        assert_eq!(passed.as_ptr(), piece.as_ptr(), "{reading:?}");
    }
}

#[test]
fn an_answer_says_of_its_prompt_what_the_engine_said_that_computed_it() {
    let prefilled = |usage: &str| format!(r#"{{"id":"a","usage":{usage},"kv_transfer_params":{{}}}}"#);
    let openai = prefilled(r#"{"prompt_tokens":90,"prompt_tokens_details":{"cached_tokens":16}}"#);
    let responses = prefilled(r#"{"input_tokens":90,"input_tokens_details":{"cached_tokens":0}}"#);
    let messages = prefilled(r#"{"input_tokens":74,"cache_read_input_tokens":16}"#);
    for (case, api, prefill, answer, expected) in [
        (
            "a whole answer",
            Api::ChatCompletions,
            &openai,
            r#"{"usage":{"prompt_tokens":90,"prompt_tokens_details":{"cached_tokens": 89}}}"#,
            r#"{"usage":{"prompt_tokens":90,"prompt_tokens_details":{"cached_tokens": 16}}}"#,
        ),
        (
            "a stream",
            Api::Completions,
            &openai,
            "data: {\"choices\":[{\"text\":\"\\\"cached_tokens\\\":7}\"}]}\n\ndata: {\"usage\":{\"cached_tokens\":89}}\n\ndata: [DONE]\n\n",
            "data: {\"choices\":[{\"text\":\"\\\"cached_tokens\\\":7}\"}]}\n\ndata: {\"usage\":{\"cached_tokens\":16}}\n\ndata: [DONE]\n\n",
        ),
        (
            "a response",
            Api::Responses,
            &responses,
            r#"{"metadata":{"cached_tokens":"5"},"usage":{"input_tokens":90,"input_tokens_details":{"cached_tokens":89}}}"#,
            r#"{"metadata":{"cached_tokens":"5"},"usage":{"input_tokens":90,"input_tokens_details":{"cached_tokens":0}}}"#,
        ),
        (
            "a message",
            Api::Messages,
            &messages,
            r#"{"usage":{"input_tokens":1,"cache_read_input_tokens":89,"cache_creation_input_tokens":2,"output_tokens":4}}"#,
            r#"{"usage":{"input_tokens":74,"cache_read_input_tokens":16,"cache_creation_input_tokens":2,"output_tokens":4}}"#,
        ),
        ("no number", Api::Completions, &openai, r#"{"cached_tokens":null}"#, r#"{"cached_tokens":null}"#),
        ("no count", Api::Completions, &openai, r#"{"cached_tokens":1.5}"#, r#"{"cached_tokens":1.5}"#),
        ("a cut answer", Api::Completions, &openai, r#"{"cached_tokens":8"#, r#"{"cached_tokens":8"#),
    ] {
        for cut in 0..=answer.len() {
            let is_stream = answer.starts_with("data");
            let (reading, head) =
                if is_stream { (Reading::Stream, EVENTS) } else { (Reading::Whole, AnswerHead::default()) };
            let prompt = PromptCounts::read(api, prefill.as_bytes());
            let mut tap = Tap::new(reading, None, Some(api), head).with_prompt(prompt);
            assert!(tap.changes_length());
            let mut got = passed(&mut tap, &[&answer[..cut], &answer[cut..]]);
            got.push_str(&text(tap.end().leftover));
            assert_eq!(got, expected, "{case}, cut at {cut}");
        }
    }
    for nothing in ["", "{}", r#"{"usage":null}"#, r#"{"usage":{"prompt_tokens":7,"prompt_tokens_details":null}}"#] {
        assert!(PromptCounts::read(Api::Completions, nothing.as_bytes()).is_none(), "{nothing}");
    }
    let head = AnswerHead { content_encoding: Some("gzip"), ..EVENTS };
    let prompt = PromptCounts::read(Api::Completions, openai.as_bytes());
    assert!(!Tap::new(Reading::Stream, None, CHAT, head).with_prompt(prompt).changes_length(), "it cannot be read");
}
