use bytes::{Bytes, BytesMut};
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use bodies::{Writer, any_body, include_usage};

mod bodies;

/// The fields, as the fast scanner finds them.
fn scanned(text: &str) -> Option<Fields<'_>> {
    let mut fields = Fields::default();
    scan::top_level(text, |key, value| fields.note(key, value))?;
    Some(fields)
}

fn edited(body: &str, model: Option<&str>, include_usage: bool) -> Option<String> {
    let request = parse(body.as_bytes()).unwrap();
    let (bytes, edit) = (Bytes::copy_from_slice(body.as_bytes()), Edit { model, include_usage });
    let edited = request.apply(bytes.clone(), &edit);
    assert_eq!(request.apply_from(0, bytes.clone(), &edit), edited, "a copy, because others hold {body}");
    let mut roomy = BytesMut::with_capacity(body.len() + 100);
    roomy.extend_from_slice(body.as_bytes());
    let place = roomy.as_ptr();
    let changed = request.apply_from(0, roomy.freeze(), &edit);
    assert_eq!((&changed, changed.as_ptr()), (&edited, place), "where it is: {body}");
    (edited != bytes).then(|| String::from_utf8(edited.into()).unwrap())
}

#[test]
fn reads_model_stream_and_usage_option() {
    let deep = format!(r#"{{"model":"m","x":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
    let cases = [
        ("smallest", r#"{"model":"m"}"#, "m", false, false),
        ("stream", r#"{"model":"m","stream":true}"#, "m", true, false),
        ("stream is not a boolean", r#"{"model":"m","stream":"true"}"#, "m", false, false),
        ("escaped key and value", "{\"mod\\u0065l\" : \"a\\/b\\u00e9\", \"stream\":\ttrue}\n", "a/bé", true, false),
        ("nested names do not count", r#"{"x":{"model":1,"stream":true},"model":"m"}"#, "m", false, false),
        ("usage wanted", r#"{"stream_options":{"include_usage":true},"model":"m"}"#, "m", false, true),
        ("usage of a wrong type", r#"{"stream_options":{"include_usage":1},"model":"m"}"#, "m", false, false),
        ("white space around", " \r\n\t{\"model\": \" m \"} \n", " m ", false, false),
        ("other keys may occur twice", r#"{"model":"m","n":1,"n":2}"#, "m", false, false),
        ("nesting does not end the stack", &deep, "m", false, false),
    ];
    for (name, body, model, stream, wants_usage) in cases {
        let request = parse(body.as_bytes()).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!((&*request.model, request.stream, request.wants_usage()), (model, stream, wants_usage), "{name}");
    }
}

#[test]
fn plain_bodies_take_the_fast_scan() {
    let deep = format!(r#"{{"model":"m","x":{}1{}}}"#, "[".repeat(60), "]".repeat(60));
    let nested = r#" {"messages":[{"role":"user","content":[{"type":"text","text":"a\n\u00e9"}]}],"model":"m"} "#;
    for body in [r#"{"model":"m","stream":true,"n":-1.5e+3,"stop":null}"#, "{}", nested, &deep] {
        assert!(scanned(body).is_some(), "{body}");
    }
    let too_deep = deep.replace('1', "[[[[1]]]]");
    for body in [r#"{"m\u006fdel":"m"}"#, &too_deep, r#"{"a":01}"#, r#"{"a":1,}"#, "{} {}", "[]", ""] {
        assert!(scanned(body).is_none(), "{body}");
    }
}

#[test]
fn says_where_the_json_is_wrong() {
    let cases: [(&str, &[u8], &str, usize, usize); 8] = [
        ("empty", b"", "EOF while parsing a value", 1, 0),
        ("cut off", b"{\"model\":\"m\"", "EOF while parsing an object", 1, 12),
        ("second value", b"{\"model\":\"m\"}\n{}", "trailing characters", 2, 1),
        ("trailing comma", b"{\"model\":\"m\",}", "trailing comma", 1, 14),
        ("bare word", b"{\"model\":m}", "expected value", 1, 10),
        ("not UTF-8", b"{\n\"a\":\"\xff\"}", "invalid UTF-8", 2, 6),
        ("half a surrogate pair in the model", b"{\"model\":\"\\ud800\"}", "unexpected end of hex escape", 1, 17),
        ("half a surrogate pair in a key", b"{\"\\ud800\":1}", "unexpected end of hex escape", 1, 9),
    ];
    for (name, body, message, line, column) in cases {
        assert_eq!(parse(body), Err(ParseError::Json { line, column, message: message.to_owned() }), "{name}");
    }
    let shown = parse(b"{").map_err(|error| error.to_string());
    let expected = "request body is not valid JSON: EOF while parsing an object at line 1, column 1";
    assert_eq!(shown, Err(expected.to_owned()));
}

#[test]
fn says_which_field_is_wrong() {
    let cases = [
        ("array", "[1]", "request body must be a JSON object"),
        ("string", "\"model\"", "request body must be a JSON object"),
        ("number", "12", "request body must be a JSON object"),
        ("null", "null", "request body must be a JSON object"),
        ("no model", "{}", "request body has no field `model`"),
        ("model null", r#"{"model":null}"#, "field `model` must be a string"),
        ("model number", r#"{"model":1}"#, "field `model` must be a string"),
        ("model empty", r#"{"model":""}"#, "field `model` must not be blank"),
        ("model blank", r#"{"model":" \n"}"#, "field `model` must not be blank"),
        ("two models", r#"{"model":"a","\u006dodel":"a"}"#, "field `model` occurs more than once in the request body"),
        (
            "two streams",
            r#"{"model":"a","stream":true,"stream":true}"#,
            "field `stream` occurs more than once in the request body",
        ),
        (
            "two option objects",
            r#"{"stream_options":{},"stream_options":{},"model":"a"}"#,
            "field `stream_options` occurs more than once in the request body",
        ),
        (
            "two usage flags",
            r#"{"stream_options":{"include_usage":true,"include_usage":false},"model":"a"}"#,
            "field `stream_options.include_usage` occurs more than once in the request body",
        ),
    ];
    for (name, body, message) in cases {
        assert_eq!(parse(body.as_bytes()).map_err(|error| error.to_string()), Err(message.to_owned()), "{name}");
    }
}

#[test]
fn model_edit_changes_only_the_value() {
    let body = "{ \"n\":1.50e0,\"model\" :\t\"a\\u0062\" , \"é\":\"\\u00e9\"}\r\n";
    let cases = [
        ("longer", "qwen/7b", Some("{ \"n\":1.50e0,\"model\" :\t\"qwen/7b\" , \"é\":\"\\u00e9\"}\r\n")),
        (
            "escaped",
            "a\"\\\n\u{1}é",
            Some("{ \"n\":1.50e0,\"model\" :\t\"a\\\"\\\\\\n\\u0001é\" , \"é\":\"\\u00e9\"}\r\n"),
        ),
        ("the same name in other letters", "ab", None),
    ];
    for (name, model, expected) in cases {
        assert_eq!(edited(body, Some(model), false).as_deref(), expected, "{name}");
    }
    assert_eq!(edited(body, None, false), None);
}

#[test]
fn usage_edit_changes_only_the_option() {
    let cases = [
        (
            "absent",
            "{\"model\":\"m\" \n}\n",
            Some("{\"model\":\"m\" \n,\"stream_options\":{\"include_usage\":true}}\n"),
        ),
        (
            "null",
            r#"{"stream_options": null ,"model":"m"}"#,
            Some(r#"{"stream_options": {"include_usage":true} ,"model":"m"}"#),
        ),
        (
            "empty",
            r#"{"model":"m","stream_options":{ }}"#,
            Some(r#"{"model":"m","stream_options":{ "include_usage":true}}"#),
        ),
        (
            "other option",
            r#"{"model":"m","stream_options":{"continuous_usage_stats":false}}"#,
            Some(r#"{"model":"m","stream_options":{"continuous_usage_stats":false,"include_usage":true}}"#),
        ),
        (
            "false, under an escaped key",
            r#"{"model":"m","stream_options":{"x":[],"includ\u0065_usage" : false }}"#,
            Some(r#"{"model":"m","stream_options":{"x":[],"includ\u0065_usage" : true }}"#),
        ),
        (
            "null flag",
            r#"{"stream_options":{"include_usage":null},"model":"m"}"#,
            Some(r#"{"stream_options":{"include_usage":true},"model":"m"}"#),
        ),
        (
            "counts in every event, which alone does nothing",
            r#"{"model":"m","stream_options":{"continuous_usage_stats": true}}"#,
            Some(r#"{"model":"m","stream_options":{"continuous_usage_stats": false,"include_usage":true}}"#),
        ),
        (
            "counts in every event, and no usage",
            r#"{"stream_options":{"include_usage":false,"continuous_usage_stats":true},"model":"m"}"#,
            Some(r#"{"stream_options":{"include_usage":true,"continuous_usage_stats":false},"model":"m"}"#),
        ),
        (
            "the same the other way round",
            r#"{"stream_options":{"continuous_usage_stats":true,"include_usage":null},"model":"m"}"#,
            Some(r#"{"stream_options":{"continuous_usage_stats":false,"include_usage":true},"model":"m"}"#),
        ),
        (
            "both, as the client wants",
            r#"{"model":"m","stream_options":{"continuous_usage_stats":true,"include_usage":true}}"#,
            None,
        ),
        ("another type of the other flag", r#"{"model":"m","stream_options":{"continuous_usage_stats":1}}"#, None),
        ("true", r#"{"model":"m","stream_options":{"include_usage":true}}"#, None),
        ("flag of another type", r#"{"model":"m","stream_options":{"include_usage":"yes"}}"#, None),
        ("options of another type", r#"{"model":"m","stream_options":[]}"#, None),
    ];
    for (name, body, expected) in cases {
        assert_eq!(edited(body, None, true).as_deref(), expected, "{name}");
        assert_eq!(parse(body.as_bytes()).unwrap().lacks_usage(), expected.is_some(), "{name}");
    }
}

#[test]
fn both_edits_in_either_order() {
    let cases = [
        (r#"{"model":"m"}"#, r#"{"model":"n","stream_options":{"include_usage":true}}"#),
        (
            r#"{"stream_options":{},"model":"m","a":1}"#,
            r#"{"stream_options":{"include_usage":true},"model":"n","a":1}"#,
        ),
    ];
    for (body, expected) in cases {
        assert_eq!(edited(body, Some("n"), true).as_deref(), Some(expected), "{body}");
    }
}

proptest! {
    #[test]
    fn edits_change_the_edited_fields_and_nothing_else(
        mut body in any_body(),
        choices in vec(any::<u8>(), 1..64),
        model in proptest::option::of(any::<String>()),
        usage in any::<bool>(),
    ) {
        let mut writer = Writer { text: String::new(), choices: choices.iter().cycle(), model: 0..0 };
        writer.value(&Value::Object(body.clone()), true);
        let (text, at) = (writer.text, writer.model);
        let request = parse(text.as_bytes()).unwrap();
        prop_assert_eq!(&*request.model, body["model"].as_str().unwrap());
        prop_assert_eq!(request.stream, body.get("stream") == Some(&json!(true)));

        let edit = Edit { model: model.as_deref(), include_usage: usage };
        let result = request.apply(Bytes::from(text.clone()), &edit);
        prop_assert_eq!(&request.apply_from(0, Bytes::from(text.clone()), &edit), &result);
        let result = String::from_utf8(result.into()).unwrap();
        if let Some(model) = &model && !usage && *model != *request.model {
            let expected = format!("{}{}{}", &text[..at.start], json!(model), &text[at.end..]);
            prop_assert_eq!(&result, &expected);
        }
        if let Some(model) = model {
            body["model"] = json!(model);
        }
        if usage {
            include_usage(&mut body);
        }
        prop_assert_eq!(serde_json::from_str::<Value>(&result).unwrap(), Value::Object(body));
    }

    #[test]
    fn accepts_what_the_json_parser_accepts(noise in vec(any::<u8>(), 0..24), at in any::<usize>(), mut body in any_body()) {
        body.retain(|name, _| !name.starts_with("stream"));
        let mut bytes = serde_json::to_vec(&body).unwrap();
        let at = at % bytes.len();
        bytes.splice(at..bytes.len().min(at + noise.len() / 2), noise);
        match (parse(&bytes), serde_json::from_slice::<Value>(&bytes)) {
            (Ok(request), Ok(Value::Object(fields))) => prop_assert_eq!(&*request.model, fields["model"].as_str().unwrap()),
            (Ok(_), Ok(other)) => prop_assert!(false, "accepts {}", other),
            // Out of range numbers and half surrogate pairs are for the engine to judge.
            (Ok(_), Err(error)) => prop_assert!(serde_json::from_slice::<&RawValue>(&bytes).is_ok(), "accepts: {}", error),
            (Err(ParseError::Json { .. }), parsed) => prop_assert!(parsed.is_err()),
            (Err(_), _) => {}
        }
    }

    #[test]
    fn the_fast_scan_reads_what_the_parser_reads(
        mut body in any_body(),
        choices in vec(any::<u8>(), 1..64),
        noise in "[{}\\[\\]\",:0-9eE.+\\-truefalsn\\\\ \n]{0,3}",
        at in any::<prop::sample::Index>(),
    ) {
        body.insert("x".repeat(noise.len()), json!([1.5e-7, {"a": [[], {}]}, "\u{1}\"\\", -0.0, null]));
        let mut writer = Writer { text: String::new(), choices: choices.iter().cycle(), model: 0..0 };
        writer.value(&Value::Object(body), true);
        let mut text = writer.text;
        let mut at = at.index(text.len());
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        let whole = scanned(&text);
        if let Some(fields) = whole {
            prop_assert_eq!(Ok(fields), parse_fields(&text, Fields::note));
        }
        text.insert_str(at, &noise);
        if let Some(fields) = scanned(&text) {
            prop_assert_eq!(Ok(fields), parse_fields(&text, Fields::note));
        }
    }

    #[test]
    fn never_panics(bytes in vec(any::<u8>(), 0..64), text in "[{}\\[\\]\",:modeltrusn\\\\ ]{0,40}") {
        let _ = parse(&bytes);
        let _ = parse(text.as_bytes());
    }
}
