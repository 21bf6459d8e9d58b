use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const TYPE: &str = "multipart/form-data; boundary=\"b-1\"";

/// Reads a form in pieces of this size.
fn read(body: &[u8], size: usize) -> Result<Form, NotUnderstood> {
    let mut form = Form::of(TYPE)?.unwrap();
    body.chunks(size).try_for_each(|piece| form.feed(piece))?;
    form.end()?;
    Ok(form)
}

fn part(head: &str, content: &str) -> String {
    format!("--b-1\r\nContent-Disposition: form-data; {head}\r\n\r\n{content}\r\n")
}

#[test]
fn the_model_is_found_wherever_it_stands_and_however_the_body_arrives() {
    let (model, file) =
        (part("name=\"model\"", "org/m-7b"), part("name=\"file\"; filename*=UTF-8''a", "\r\n--b-\r\n--"));
    let (stream, empty) = (part("name=stream", "true"), part("name=x", ""));
    let no_stream = part("name=stream", &"x".repeat(2 * MAX_MODEL_NAME));
    let end = "--b-1--\r\nepilogue --b-1\r\n";
    for (case, body, streams) in [
        ("first", format!("{model}{file}{end}"), false),
        ("last", format!("{file}{stream}{model}{end}"), true),
        ("behind an empty field", format!("{empty}{model}{end}"), false),
        ("behind a preamble", format!("a\r\n{model}{stream}{end}"), true),
        ("in front of many", format!("{model}{}{end}", empty.repeat(1000)), false),
        ("behind a long field that asks for no stream", format!("{no_stream}{model}{end}"), false),
    ] {
        for size in [1, 2, 3, 7, 64, body.len()] {
            let form = read(body.as_bytes(), size).unwrap_or_else(|error| panic!("{case}, {size}: {error}"));
            let found = form.model().unwrap();
            assert_eq!((&*found.name, &body[found.at.clone()]), ("org/m-7b", "org/m-7b"), "{case}, {size}");
            assert_eq!(form.streams(), streams, "{case}, {size}");
            assert!(form.held.capacity() < 2 * MAX_HEAD, "little is kept");
        }
    }
}

#[test]
fn what_may_be_read_in_two_ways_is_refused() {
    let model = part("name=\"model\"", "m");
    let with = |parts: &str| format!("{model}{parts}--b-1--");
    let long = "m".repeat(MAX_MODEL_NAME + 1);
    for (case, body, said) in [
        ("nothing", String::new(), "ends before its last boundary"),
        ("cut off", model.clone(), "ends before its last boundary"),
        ("cut off in the end", format!("{model}--b-1-"), "ends before its last boundary"),
        ("no model", format!("{}--b-1--", part("name=file; filename=x", "m")), "no field `model`"),
        ("no parts", "--b-1--".to_owned(), "no field `model`"),
        ("two models", with(&model), "more than once"),
        ("two models, one quoted otherwise", with(&part("NAME=model", "n")), "more than once"),
        ("two models, one with an escape", with(&part("name=\"m\\odel\"", "n")), "more than once"),
        ("a name in another charset", with(&part("name*=UTF-8''model", "n")), "no plain name"),
        ("two names", with(&part("name=a; name=model", "n")), "cannot be read"),
        (
            "two dispositions",
            with(
                "--b-1\r\nContent-Disposition: form-data; name=a\r\ncontent-disposition: form-data; name=model\r\n\r\nx\r\n",
            ),
            "two dispositions",
        ),
        ("no disposition", with("--b-1\r\na: b\r\n\r\nx\r\n"), "no disposition"),
        ("no head", with("--b-1\r\n\r\nx\r\n"), "no disposition"),
        ("no name", with(&part("filename=x", "n")), "no plain name"),
        ("a line without colon", with("--b-1\r\nx\r\n\r\nx\r\n"), "cannot be read"),
        ("something behind a boundary", with("--b-1 \r\n\r\nx\r\n"), "followed by something else"),
        ("a longer boundary", with("--b-12\r\n\r\nx\r\n"), "followed by something else"),
        ("a head without end", with(&format!("--b-1\r\na: {}", "b".repeat(MAX_HEAD))), "too long"),
        ("a file", format!("{}--b-1--", part("name=model; filename=x", "m")), "must be plain text"),
        ("bare line feeds", model.replace("\r\n", "\n") + "--b-1--", "followed by something else"),
        ("blank", format!("{}--b-1--", part("name=model", " \t")), "must not be blank"),
        ("long", format!("{}--b-1--", part("name=model", &long)), "longer than 256 bytes"),
        ("without end", part("name=model", &long.repeat(9)), "longer than 256 bytes"),
    ] {
        for size in [1, 5, 1 << 20] {
            let refused = read(body.as_bytes(), size).unwrap_err().to_string();
            assert!(refused.contains(said), "{case}, {size}: {refused}");
        }
    }
    let encoded = "--b-1\r\nContent-Disposition: form-data; name=model\r\nContent-Transfer-Encoding: base64\r\n\r\nbQ==\r\n--b-1--";
    assert_eq!(read(encoded.as_bytes(), 9).unwrap_err(), FormFault::NotText.into());
}

#[test]
fn a_boundary_is_needed() {
    for (content_type, is_form) in [
        ("application/json", Ok(false)),
        ("Multipart/Form-Data; charset=utf-8; boundary=x", Ok(true)),
        ("multipart/form-data", Err(FormFault::Boundary)),
        ("multipart/form-data; boundary=\"\"", Err(FormFault::Boundary)),
        ("multipart/form-data; boundary=a; boundary=b", Err(FormFault::Boundary)),
        ("multipart/mixed; boundary=x", Ok(false)),
    ] {
        assert_eq!(Form::of(content_type).map(|form| form.is_some()), is_form, "{content_type}");
    }
    assert_eq!(
        Form::of(&format!("multipart/form-data; boundary={}", "x".repeat(71))).map(drop),
        Err(FormFault::Boundary)
    );
}

proptest! {
    #[test]
    fn pieces_make_no_difference(noise in "[-b1\\r\\n]{0,40}", cuts in vec(1_usize..40, 1..8)) {
        let body = format!("{}{}--b-1--", part("name=file; filename=f", &noise), part("name=model", "m"));
        let mut form = Form::of(TYPE).unwrap().unwrap();
        let (mut rest, mut cuts) = (body.as_bytes(), cuts.into_iter().cycle());
        let mut outcome = Ok(());
        while !rest.is_empty() && outcome.is_ok() {
            let (piece, after) = rest.split_at(cuts.next().unwrap().min(rest.len()));
            outcome = form.feed(piece);
            rest = after;
        }
        let in_pieces = outcome.and_then(|()| form.end().map_err(Into::into)).map(|()| form.model);
        prop_assert_eq!(in_pieces, read(body.as_bytes(), body.len()).map(|form| form.model));
    }
}
