use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::*;
use crate::inference::api::Api;
use crate::inference::tap::{AnswerHead, Reading, Tap};
use crate::kinds::model_server::HeartbeatForm;

const HEAD: &str =
    r#"data: {"id":"chatcmpl-1","object":"chat.completion.chunk","model":"served","choices":[{"index":0,"#;
const TAIL: &str = "\"},\"logprobs\":null,\"finish_reason\":null}],\"usage\":null}\n\n";
const EVENTS: AnswerHead<'_> = AnswerHead { content_type: Some("text/event-stream"), content_encoding: None };

fn token(text: &str) -> String {
    format!("{HEAD}\"delta\":{{\"content\":\"{text}{TAIL}")
}

fn tap(reading: Reading, named: bool, api: Api) -> Tap {
    Tap::new(reading, named.then(|| ModelNames::new("served", "asked for")), Some(api), EVENTS)
}

/// Says of each piece whether it is passed without being read, and panics if that is not what reading it comes to.
fn passed_unread(make: impl Fn() -> Tap, pieces: &[Vec<u8>]) -> Vec<bool> {
    let (mut tap, mut reference) = (make(), make());
    let mut unread = Vec::new();
    for piece in pieces {
        let fits = tap.is_before_event()
            && tap
                .pattern
                .as_ref()
                .and_then(|pattern| pattern.fit(piece))
                .is_some_and(|(_, text)| !text.contains(&b'"'));
        unread.push(fits);
        let shown = String::from_utf8_lossy(piece);
        let (passed, expected) = (tap.feed(piece.clone().into()), reference.read(piece.clone().into()));
        assert_eq!(passed, expected, "{shown}");
        let beats = |tap: &Tap| tap.heartbeat(HeartbeatForm::Comment);
        assert_eq!(beats(&tap), beats(&reference), "{shown}");
    }
    assert_eq!(tap.end(), reference.end());
    unread
}

fn bytes<'t>(events: impl IntoIterator<Item = &'t str>) -> Vec<Vec<u8>> {
    events.into_iter().map(|event| event.as_bytes().to_vec()).collect()
}

#[test]
fn events_that_are_alike_are_searched_no_more() {
    let role = format!("{HEAD}\"delta\":{{\"role\":\"assistant\",\"content\":\"{TAIL}");
    let last = format!("{HEAD}\"delta\":{{}},\"finish_reason\":\"stop\"}}],\"usage\":{{\"prompt_tokens\":7}}}}\n\n");
    let texts = ["Hi", " there", "", "model", "usage", "\\\\", " said \\\"", "a\\nb"].map(token);
    let thought = ["Hm", ", so", " be it"].map(|text| token(text).replace("content", "reasoning_content"));
    let spaced = ["a", "b", "c"].map(|text| token(text).replace(':', ": ").replace(',', ", "));
    let messages = ["a", "b", "c"].map(|text| {
        format!("event: content_block_delta\ndata: {{\"index\":0,\"delta\":{{\"type\":\"text_delta\",\"text\":\"{text}\"}}}}\n\n")
    });
    let named = ["served", "other", "served"].map(|model| token("a").replace("served", model));
    let ended = ["a", "b", "c"].map(|text| format!("data: {{\"text\":\"{text}\",\"model\":\"served\"}}\n\n"));
    let counted_before =
        ["a", "b", "c"].map(|text| format!("data: {{\"usage\":{{\"prompt_tokens\":7}},\"id\":\"{text}\"}}\n\n"));
    let counted = ["a", "b", "c"].map(|text| token(text).replace("null}\n", "{\"prompt_tokens\":7}}\n"));
    let crlf = ["a", "b", "c"].map(|text| token(text).replace('\n', "\r\n"));
    let open = ["a", "b", "c"].map(|text| token(text).trim_end().to_owned());
    for (case, events, expected) in [
        ("tokens", [&[role][..], &texts, &[last]].concat(), &[0, 0, 0, 1, 1, 1, 1, 0, 1, 0][..]),
        ("a text of another name", [&texts[..3], &thought, &texts[1..3]].concat(), &[0, 0, 1, 0, 0, 1, 0, 0]),
        ("blanks", spaced.to_vec(), &[0, 0, 1]),
        ("messages", messages.to_vec(), &[0, 0, 1]),
        ("the model differs", named.to_vec(), &[0, 0, 0]),
        ("the model follows the text", ended.to_vec(), &[0, 0, 0]),
        ("usage in every event", counted.to_vec(), &[0, 0, 0]),
        ("usage before the text", counted_before.to_vec(), &[0, 0, 0]),
        ("other ends of lines", crlf.to_vec(), &[0, 0, 0]),
        ("events without end", open.to_vec(), &[0, 0, 0]),
    ] {
        let pieces = bytes(events.iter().map(String::as_str));
        for reading in [Reading::Stream, Reading::StreamWithAddedUsage] {
            let unread = passed_unread(|| tap(reading, true, Api::ChatCompletions), &pieces);
            assert_eq!(unread.into_iter().map(u8::from).collect::<Vec<_>>(), expected, "{case}, {reading:?}");
        }
    }
}

#[test]
fn only_streams_whose_names_and_usage_alone_matter_have_a_pattern() {
    let pieces = bytes(["a", "b", "c"].map(token).iter().map(String::as_str));
    for (case, reading, api) in [
        ("it is not read", Reading::Unread, Api::ChatCompletions),
        ("it is no stream", Reading::Whole, Api::ChatCompletions),
        ("its events are numbered", Reading::Stream, Api::Responses),
    ] {
        assert_eq!(passed_unread(|| tap(reading, true, api), &pieces), [false; 3], "{case}");
    }
}

#[test]
fn no_more_is_learnt_from_events_that_are_never_alike() {
    let events: Vec<_> = (0..20).map(|number| format!("data: {{\"number\":{number},\"text\":\"a\"}}\n\n")).collect();
    let mut tap = tap(Reading::Stream, false, Api::ChatCompletions);
    for event in events {
        tap.feed(event.into());
    }
    let pattern = tap.pattern.expect("it is a stream");
    assert_eq!((pattern.misses, pattern.event.ends_with(b"7,\"text\":\"a\"}\n\n")), (MOST_MISSES, true));
}

/// Parts of events, and what looks like parts of them.
fn any_part() -> impl Strategy<Value = &'static str> {
    select(vec![
        "\"model\"",
        "\"usage\"",
        "\"served\"",
        "model",
        "usage",
        "served",
        ":",
        ": ",
        ",",
        "{",
        "}",
        "[",
        "]",
        "\"",
        "\\",
        "\n",
        "\n\n",
        "\r",
        " ",
        "data: ",
        "null",
        "7",
        "\"text\":\"",
        "\"model\":\"served\"",
        "\"model\":\"ser",
        "\"usage\":{",
        "\"mod",
    ])
}

fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => select(vec!["", "a", " the", "model", "usage", "mod", "el", "served", "\\", "\\n", "\n\n", ":{", "a\\\"", "\"model\":\"served\""])
            .prop_map(str::to_owned),
        1 => vec(any_part(), 0..4).prop_map(|parts| parts.concat()),
    ]
}

fn any_reading() -> impl Strategy<Value = Reading> {
    select(vec![Reading::Stream, Reading::StreamWithAddedUsage])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn what_a_pattern_passes_is_what_reading_comes_to(
        before in vec(any_part(), 0..8),
        opens in select(vec![":\"", ": \"", "\""]),
        after in vec(any_part(), 0..8),
        closes in select(vec!["\"}", "\",", "\"]", "\""]),
        texts in vec(any_text(), 3..8),
        reading in any_reading(),
        named in any::<bool>(),
    ) {
        let (before, after) = (before.concat(), after.concat());
        let mut pieces = bytes(["data: {\"text\":\"a\"}\n\n"]);
        // The first two differ, so that more is alike than the beginning and the end.
        for text in ["x", "y"].into_iter().chain(texts.iter().map(String::as_str)) {
            pieces.push(format!("data: {{{before}{opens}{text}{closes}{after}\n\n").into_bytes());
        }
        passed_unread(|| tap(reading, named, Api::ChatCompletions), &pieces);
    }

    #[test]
    fn nothing_that_happens_to_a_stream_makes_a_pattern_wrong(
        events in vec((any_text(), option::weighted(0.2, (any::<Index>(), any_part()))), 2..12),
        joined in vec(prop::bool::weighted(0.1), 12),
        cuts in vec(any::<Index>(), 0..4),
        reading in any_reading(),
        named in any::<bool>(),
    ) {
        let mut pieces: Vec<Vec<u8>> = Vec::new();
        for ((text, change), joins) in events.into_iter().zip(joined) {
            let mut event = token(&text).into_bytes();
            if let Some((place, part)) = change {
                let place = place.index(event.len());
                event.splice(place..(place + part.len()).min(event.len()), part.bytes());
            }
            match pieces.last_mut() {
                Some(last) if joins => last.extend(event),
                _ => pieces.push(event),
            }
        }
        for cut in cuts {
            let place = cut.index(pieces.len());
            let middle = cut.index(pieces[place].len() + 1);
            let rest = pieces[place].split_off(middle);
            pieces.insert(place + 1, rest);
        }
        passed_unread(|| tap(reading, named, Api::ChatCompletions), &pieces);
    }
}
