use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::*;

const DELTA: &str = "data: {\"id\":\"1\",\"choices\":[{\"delta\":{\"content\":\"Hi\"}}],\"usage\":null}\n\n";
const USAGE: &str =
    "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"total_tokens\":10,\"completion_tokens\":3}}\n\n";
const DONE: &str = "data: [DONE]\n\n";
const OPENAI: Option<Usage> = Some(Usage { prompt_tokens: 7, completion_tokens: 3 });

/// Feeds the chunks and returns what is passed and what is counted.
fn run(mut tap: UsageTap, chunks: &[&[u8]]) -> (String, Option<Usage>) {
    let mut passed = Vec::new();
    for chunk in chunks {
        match tap.feed(chunk) {
            Fed::Unchanged => passed.extend_from_slice(chunk),
            Fed::Slice(range) => {
                assert!(!range.is_empty());
                passed.extend_from_slice(&chunk[range]);
            }
            Fed::Replaced(bytes) => {
                assert!(!bytes.is_empty());
                passed.extend_from_slice(&bytes);
            }
            Fed::Nothing => {}
        }
    }
    let finished = tap.finish();
    passed.extend(finished.leftover.unwrap_or_default());
    (String::from_utf8(passed).unwrap(), finished.usage)
}

fn split<'a>(text: &'a str, cuts: &[Index]) -> Vec<&'a [u8]> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
    cuts.extend([0, text.len()]);
    cuts.sort_unstable();
    cuts.windows(2).map(|pair| &text.as_bytes()[pair[0]..pair[1]]).collect()
}

#[test]
fn strip_takes_out_the_usage_event_and_nothing_else() {
    let crlf = USAGE.replace('\n', "\r\n");
    let cr = USAGE.replace('\n', "\r");
    let lf_cr = USAGE.replace("\n\n", "\n\r");
    let crlf_cr = USAGE.replace("\n\n", "\r\n\r");
    let several_lines = "event: x\ndata: {\"choices\": [ ],\ndata:\"usage\":\ndata: {\"prompt_tokens\":7,\"completion_tokens\":3}}\nid: 1\n\n";
    let several_crlf = several_lines.replace('\n', "\r\n");
    let with_choices = USAGE.replace("[]", "[{\"delta\":{}}]");
    let no_choices = USAGE.replace("\"choices\":[],", "");
    let null_choices = USAGE.replace("[]", "null");
    let with_error = USAGE.replace("\"choices\":[]", "\"error\":{}");
    let other_fields =
        USAGE.replace("\"total_tokens\":10", "\"total_tokens\":\"ten\",\"queue\":[1],\"cached_tokens\":{}");
    let fractions = USAGE.replace(":7", ":7.0").replace(":3", ":3.0");
    let lies = USAGE.replace(":7", ":18446744073709551615");
    let large_fractions = USAGE.replace(":7", ":1e19");
    let text = "data: {\"choices\":[],\"text\":\"\\\"usage\\\":{}\",\"usage\":null}\n\n";
    let as_value = "data: {\"choices\":[],\"object\":\"usage\",\"usage\":[]}\n\n";
    let unended = USAGE.trim_end();
    let cases = [
        ("as OpenAI and vLLM write it", USAGE, true, OPENAI),
        ("CRLF", &crlf, true, OPENAI),
        ("CR", &cr, true, OPENAI),
        ("LF, then CR", &lf_cr, true, OPENAI),
        ("CRLF, then CR", &crlf_cr, true, OPENAI),
        ("several data lines", several_lines, true, OPENAI),
        ("several data lines, CRLF", &several_crlf, true, OPENAI),
        ("unended last event", unended, true, OPENAI),
        ("with choices", &with_choices, false, OPENAI),
        ("without choices", &no_choices, true, OPENAI),
        ("null for choices", &null_choices, true, OPENAI),
        ("an error with usage", &with_error, false, OPENAI),
        ("fields that are no counts", &other_fields, true, OPENAI),
        ("counts as fractions", &fractions, true, OPENAI),
        ("a count that no answer can have, of which a few would overflow a sum", &lies, true, OPENAI),
        ("such a count as a fraction", &large_fractions, true, OPENAI),
        ("in text", text, false, None),
        ("as a value", as_value, false, None),
        ("empty usage", "data: {\"choices\":[],\"usage\":{}}\n\n", true, None),
        ("comment", ": \"usage\":{\"prompt_tokens\":7}\n\n", false, None),
    ];
    for (name, event, removed, usage) in cases {
        let end = if event == unended { "" } else { DONE };
        let stream = format!("{DELTA}{event}{end}");
        let left = if removed { format!("{DELTA}{end}") } else { stream.clone() };
        let bytes = stream.as_bytes();
        assert_eq!(run(UsageTap::strip(), &[bytes]), (left.clone(), usage), "{name}");
        assert_eq!(run(UsageTap::observe(), &[bytes]), (stream.clone(), usage), "{name}, observed");
        for at in 0..bytes.len() {
            let halves = [&bytes[..at], &bytes[at..]];
            assert_eq!(run(UsageTap::strip(), &halves), (left.clone(), usage), "{name}, cut at {at}");
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(run(UsageTap::strip(), &single), (left, usage), "{name}, byte by byte");
        assert_eq!(run(UsageTap::observe(), &single), (stream, usage), "{name}, observed byte by byte");
    }
}

#[test]
fn chunks_are_passed_without_a_copy_where_possible() {
    let open = DELTA.trim_end();
    let both = format!("{USAGE}{DONE}");
    let between = format!("{DELTA}{USAGE}{DONE}");
    let half = format!("{DELTA}{open}");
    let fully = |text: &str| Fed::Replaced(text.as_bytes().to_vec());
    let cases: [(&str, &[&str], Fed); 8] = [
        ("whole event", &[DELTA], Fed::Unchanged),
        ("two whole events", &[DELTA, DELTA], Fed::Unchanged),
        ("usage alone", &[USAGE], Fed::Nothing),
        ("usage first", &[&both], Fed::Slice(USAGE.len()..both.len())),
        ("usage between", &[&between], fully(&format!("{DELTA}{DONE}"))),
        ("open event is held back", &[&half], Fed::Slice(0..DELTA.len())),
        ("only an open event", &[open], Fed::Nothing),
        ("end of a held event", &[open, "\n\n"], fully(DELTA)),
    ];
    for (name, chunks, expected) in cases {
        let mut tap = UsageTap::strip();
        let last = chunks.iter().map(|chunk| tap.feed(chunk.as_bytes())).last();
        assert_eq!(last, Some(expected), "{name}");
        let mut observing = UsageTap::observe();
        assert!(chunks.iter().all(|chunk| observing.feed(chunk.as_bytes()) == Fed::Unchanged), "{name}, observed");
    }
}

#[test]
fn what_is_held_back_is_bounded() {
    let long = "x".repeat(3 * MAX_KEPT);
    let event = format!(
        "data: {{\"text\":\"{long}\",\"choices\":[],\"usage\":{{\"prompt_tokens\":7,\"completion_tokens\":3}}}}\n\n"
    );
    let stream = format!("{DELTA}{event}{USAGE}{DONE}");
    let left = format!("{DELTA}{event}{DONE}");
    for size in [50, 1000, MAX_KEPT - 1, MAX_KEPT, MAX_KEPT + 1, 2 * MAX_KEPT, stream.len()] {
        let chunks: Vec<&[u8]> = stream.as_bytes().chunks(size).collect();
        assert_eq!(run(UsageTap::strip(), &chunks), (left.clone(), OPENAI), "chunks of {size}");
        let (mut tap, mut fed, mut passed) = (UsageTap::strip(), 0, 0);
        for chunk in chunks {
            fed += chunk.len();
            passed += match tap.feed(chunk) {
                Fed::Unchanged => chunk.len(),
                Fed::Slice(range) => range.len(),
                Fed::Replaced(bytes) => bytes.len(),
                Fed::Nothing => 0,
            };
            assert!(fed - passed <= MAX_KEPT + USAGE.len(), "{} bytes held with chunks of {size}", fed - passed);
            assert!(tap.kept.len() <= MAX_KEPT, "chunks of {size}");
        }
    }
}

#[test]
fn reads_the_usage_of_each_api() {
    let anthropic = concat!(
        "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"content\":[],\"usage\":",
        "{\"input_tokens\":5,\"cache_creation_input_tokens\":2,\"cache_read_input_tokens\":100,\"output_tokens\":1}}}\n\n",
        "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},",
        "\"usage\":{\"input_tokens\":0,\"output_tokens\":15}}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"
    );
    let responses = concat!(
        "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"usage\":null}}\n\n",
        "event: response.completed\ndata: {\"response\":{\"usage\":{\"input_tokens\":36,\"input_tokens_details\":{\"cached_tokens\":30},",
        "\"output_tokens\":87,\"total_tokens\":123},\"user\":null,\"metadata\":{}}}\n\n"
    );
    let continuous = format!("{}{USAGE}", USAGE.replace("[]", "[{}]").replace("_tokens\":3", "_tokens\":1"));
    let nested = "data: {\"choices\":[{\"usage\":{\"prompt_tokens\":1}}]}\n\n";
    let cases = [
        ("Anthropic", anthropic, Some((107, 15))),
        ("Responses", responses, Some((36, 87))),
        ("usage in every event", &continuous, Some((7, 3))),
        ("in a choice", nested, None),
        ("no stream at all", "no events", None),
    ];
    for (name, stream, usage) in cases {
        let usage = usage.map(|(prompt_tokens, completion_tokens)| Usage { prompt_tokens, completion_tokens });
        assert_eq!(run(UsageTap::observe(), &[stream.as_bytes()]), (stream.to_owned(), usage), "{name}");
        assert_eq!(run(UsageTap::strip(), &[stream.as_bytes()]).1, usage, "{name}, stripped");
    }
}

#[test]
fn reads_the_usage_of_a_whole_body() {
    let long = "\\\"usage\\\": {\\\"prompt_tokens\\\": 9}, ".repeat(MAX_KEPT / 8);
    let large = format!(
        "{{\"usage\":{{\"prompt_tokens\":1}},\"content\":\"{long}\",\"usage\":{{\"prompt_tokens\":7,\"completion_tokens\":3}}}}"
    );
    let early = format!("{{\"usage\":{{\"prompt_tokens\":1}},\"content\":\"{long}\"}}");
    let cases = [
        (
            "chat",
            r#"{"choices":[{"text":"x"}],"usage":{"prompt_tokens":4,"completion_tokens":2,"total_tokens":6},"x":[{}]}"#,
            Some((4, 2)),
        ),
        ("spaces", "{ \"usage\" :\n{ \"prompt_tokens\" : 4 } }\n", Some((4, 0))),
        ("Anthropic", r#"{"usage":{"input_tokens":3,"cache_read_input_tokens":4,"output_tokens":5}}"#, Some((7, 5))),
        (
            "embeddings",
            r#"{"data":[],"usage":{"prompt_tokens":8,"total_tokens":8,"completion_tokens":null}}"#,
            Some((8, 0)),
        ),
        ("rerank", r#"{"results":[],"usage":{"total_tokens":56}}"#, Some((56, 0))),
        (
            "before other objects",
            r#"{"usage":{"prompt_tokens":4},"tools":[{"usage":{"prompt_tokens":9}}]}"#,
            Some((4, 0)),
        ),
        ("null", r#"{"usage":null}"#, None),
        ("not counts", r#"{"usage":{"type":"object"}}"#, None),
        ("negative", r#"{"usage":{"prompt_tokens":-1}}"#, None),
        ("nested only", r#"{"tools":[{"usage":{"prompt_tokens":9}}]}"#, None),
        ("in text", r#"{"a":"\"usage\":{\"prompt_tokens\":9}","b":"x\"usage","c":"usage"}"#, None),
        ("strings after it", r#"{"usage":{"prompt_tokens":4},"a":"}]\"}","b":"x\"usage"}"#, Some((4, 0))),
        ("end of a longer key", r#"{"a\"usage":{"prompt_tokens":9}}"#, None),
        ("large", &large, Some((7, 3))),
        ("large, usage at the beginning", &early, Some((1, 0))),
        ("not JSON", "usage", None),
    ];
    for (name, body, usage) in cases {
        let usage = usage.map(|(prompt_tokens, completion_tokens)| Usage { prompt_tokens, completion_tokens });
        for size in [7, 4096, MAX_KEPT + 1, usize::MAX] {
            let chunks: Vec<&[u8]> = body.as_bytes().chunks(size).collect();
            assert_eq!(run(UsageTap::whole_body(), &chunks), (body.to_owned(), usage), "{name} in chunks of {size}");
        }
    }
}

#[test]
fn tells_what_is_known_when_an_answer_breaks_off() {
    let mut tap = UsageTap::observe();
    assert_eq!(tap.usage(), None);
    tap.feed(USAGE.as_bytes());
    assert_eq!(tap.usage(), OPENAI);
    assert_eq!(tap.finish(), Finished { leftover: None, usage: OPENAI });
    assert_eq!(tap.finish(), Finished::default());
}

#[test]
fn what_was_held_back_is_passed_when_an_answer_breaks_off() {
    let half = &DELTA[..20];
    for (case, pieces, held) in [
        ("half an event", &[DELTA, half][..], Some(half)),
        ("between two events", &[DELTA], None),
        ("in several pieces", &[&half[..5], &half[5..]], Some(half)),
    ] {
        let mut tap = UsageTap::strip();
        pieces.iter().for_each(|piece| drop(tap.feed(piece.as_bytes())));
        let leftover = tap.break_off().leftover.map(|held| String::from_utf8(held).unwrap());
        assert_eq!(leftover.as_deref(), held, "{case}");
        let mut observing = UsageTap::observe();
        pieces.iter().for_each(|piece| drop(observing.feed(piece.as_bytes())));
        assert_eq!(observing.break_off().leftover, None, "{case}: everything was passed");
    }
}

#[test]
fn usage_is_counted_however_much_follows_it() {
    let ids = "[123],".repeat(MAX_KEPT / 4);
    let usage = "\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":3}";
    let body =
        format!("{{\"choices\":[],{usage},\"prompt_token_ids\":[{ids}0],\"prompt_text\":\"\\\"usage\\\":{{}}\"}}");
    let event = format!("event: response.completed\ndata: {{\"response\":{{{usage},\"output\":[{ids}0]}}}}\n\n");
    for size in [1, 7, 4096, MAX_KEPT + 1, usize::MAX] {
        let chunks: Vec<&[u8]> = body.as_bytes().chunks(size).collect();
        assert!(run(UsageTap::whole_body(), &chunks) == (body.clone(), OPENAI), "a body in chunks of {size}");
        let chunks: Vec<&[u8]> = event.as_bytes().chunks(size).collect();
        assert!(run(UsageTap::observe(), &chunks) == (event.clone(), OPENAI), "an event in chunks of {size}");
        assert!(run(UsageTap::strip(), &chunks) == (event.clone(), OPENAI), "an event in chunks of {size}, stripped");
    }
}

#[test]
fn a_byte_order_mark_hides_no_usage() {
    let stream = format!("\u{feff}{USAGE}{DONE}");
    assert_eq!(run(UsageTap::strip(), &[stream.as_bytes()]), (DONE.to_owned(), OPENAI));
    assert_eq!(run(UsageTap::observe(), &[stream.as_bytes()]), (stream, OPENAI));
}

/// An event, and whether it is the router's.
fn any_event() -> impl Strategy<Value = (String, bool)> {
    let event = prop_oneof![
        any::<String>().prop_map(|text| {
            let content = serde_json::Value::from(text);
            (format!("data: {{\"choices\":[{{\"delta\":{{\"content\":{content}}}}}],\"usage\":null}}\n\n"), false)
        }),
        (0..50_u32, 0..50_u32).prop_map(|(input, output)| {
            let usage = format!("{{\"prompt_tokens\":{input},\"completion_tokens\":{output}}}");
            (format!("data: {{\"choices\":[],\ndata: \"usage\":{usage}}}\n\n"), true)
        }),
        select(vec![":\n\n", ": ping\n\n", DONE, "event: usage\ndata:{}\n\n"])
            .prop_map(|text| (text.to_owned(), false)),
    ];
    (event, select(vec!["\n", "\r\n", "\r"])).prop_map(|((text, removed), end)| (text.replace('\n', end), removed))
}

proptest! {
    #[test]
    fn no_split_changes_what_is_passed_or_counted(events in vec(any_event(), 0..8), cuts in vec(any::<Index>(), 0..12)) {
        let stream: String = events.iter().map(|(text, _)| text.as_str()).collect();
        let left: String = events.iter().filter(|(_, removed)| !removed).map(|(text, _)| text.as_str()).collect();
        let chunks = split(&stream, &cuts);
        let (passed, usage) = run(UsageTap::strip(), &chunks);
        prop_assert_eq!(passed, left);
        prop_assert_eq!(run(UsageTap::observe(), &chunks), (stream.clone(), usage));
        prop_assert_eq!(run(UsageTap::strip(), &[stream.as_bytes()]).1, usage);
    }

    #[test]
    fn no_split_changes_the_reading_of_garbage(
        parts in vec(select(vec![
            "data: ", "\n", "\r", "\n\n", "{", "}", "\"usage\"", ":", "\"choices\":[],", "{\"prompt_tokens\":4}", "\\", "\"", USAGE,
            "{\"choices\":[],\"usage\":{\"completion_tokens\":5}}", "LONG",
        ]), 0..24),
        cuts in vec(any::<Index>(), 0..12),
    ) {
        let stream = parts.concat().replace("LONG", &"x".repeat(MAX_KEPT / 2 - 20));
        let chunks = split(&stream, &cuts);
        for tap in [UsageTap::strip, UsageTap::observe, UsageTap::whole_body] {
            prop_assert!(run(tap(), &chunks) == run(tap(), &[stream.as_bytes()]));
        }
        prop_assert!(run(UsageTap::observe(), &chunks).0 == stream);
        prop_assert!(run(UsageTap::whole_body(), &chunks).0 == stream);
    }
}
