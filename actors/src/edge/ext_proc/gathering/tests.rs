//! What pickers say, and what is made of it.

use bytes::Bytes;
use prost_types::value::Kind;
use prost_types::{Struct, Value};

use super::*;
use crate::edge::ext_proc::messages::{HeaderValue, HeaderValueOption, HttpBody, HttpStatus, PartResponse};

const ENDPOINTS: &str = "10.0.0.1:8000,10.0.0.2:8000";

fn metadata(destination: &str) -> Struct {
    let text = Value { kind: Some(Kind::StringValue(destination.to_owned())) };
    let inner = Struct { fields: [(DESTINATION.to_owned(), text)].into() };
    Struct { fields: [(NAMESPACE.to_owned(), Value { kind: Some(Kind::StructValue(inner)) })].into() }
}

fn naming(destination: &str) -> HeaderMutation {
    let header = Some(HeaderValue::new(DESTINATION, destination.as_bytes()));
    let option = HeaderValueOption { header, append: None, append_action: 0 };
    HeaderMutation { set_headers: vec![option], remove_headers: Vec::new() }
}

fn says(said: Said) -> ProcessingResponse {
    ProcessingResponse { said: Some(said), dynamic_metadata: None }
}

/// Settles the headers, and names endpoints in one of them.
fn headers(destination: &str) -> ProcessingResponse {
    let response = CommonResponse { header_mutation: Some(naming(destination)), ..CommonResponse::default() };
    says(Said::RequestHeaders(PartResponse { response: Some(response) }))
}

fn body(replacement: Option<Replacement>) -> ProcessingResponse {
    let body_mutation = replacement.map(|replacement| BodyMutation { replacement: Some(replacement) });
    let response = CommonResponse { body_mutation, ..CommonResponse::default() };
    says(Said::RequestBody(PartResponse { response: Some(response) }))
}

fn streamed(piece: &'static str, end_of_stream: bool) -> ProcessingResponse {
    body(Some(Replacement::Streamed(HttpBody { body: Bytes::from_static(piece.as_bytes()), end_of_stream })))
}

fn bytes(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

/// Returns what comes of a body that was sent in these pieces; `None` stands for a picker that has not finished.
fn gathered(sent: &[&'static str], said: Vec<ProcessingResponse>) -> Result<Option<Verdict>, Fault> {
    let mut gathering = Gathering::new(sent.iter().map(|piece| bytes(piece)).collect(), 16);
    for response in said {
        if let Some(verdict) = gathering.take(response)? {
            return Ok(Some(verdict));
        }
    }
    Ok(None)
}

#[test]
fn bodies_are_as_the_picker_leaves_them() {
    let ack = || body(None);
    for (case, sent, said, expected) in [
        ("no body", vec![], vec![headers(ENDPOINTS)], Some(None)),
        ("acknowledged", vec!["a", "b"], vec![ack(), headers(ENDPOINTS), ack()], Some(None)),
        ("acknowledged before the headers", vec!["a"], vec![ack(), headers(ENDPOINTS)], Some(None)),
        ("streamed", vec!["a"], vec![headers(ENDPOINTS), streamed("x", false), streamed("y", true)], Some(Some("xy"))),
        ("streamed as nothing", vec!["a"], vec![headers(ENDPOINTS), streamed("", true)], Some(Some(""))),
        (
            "replaced by the piece",
            vec!["a", "b", "c"],
            vec![
                headers(ENDPOINTS),
                body(Some(Replacement::Body(bytes("x")))),
                ack(),
                body(Some(Replacement::Clear(true))),
            ],
            Some(Some("xb")),
        ),
        ("not yet acknowledged", vec!["a", "b"], vec![headers(ENDPOINTS), ack()], None),
        ("streamed without an end", vec!["a"], vec![headers(ENDPOINTS), streamed("x", false)], None),
        ("without an opinion on the headers", vec!["a"], vec![streamed("x", true)], None),
    ] {
        let outcome = gathered(&sent, said).unwrap_or_else(|fault| panic!("{case}: {fault}"));
        let outcome = outcome.map(|verdict| match verdict {
            Verdict::Forward(decision) => decision.body,
            Verdict::Answer(_) => panic!("{case}: the picker has not answered"),
        });
        assert_eq!(outcome, expected.map(|body: Option<&str>| body.map(bytes_of)), "{case}");
    }
}

fn bytes_of(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

#[test]
fn endpoints_are_named_by_metadata_or_by_a_header() {
    let with = |mut response: ProcessingResponse, destination: &str| {
        response.dynamic_metadata = Some(metadata(destination));
        response
    };
    let silent = says(Said::RequestHeaders(PartResponse::default()));
    for (case, response, expected) in [
        ("in a header", headers(ENDPOINTS), Ok(ENDPOINTS)),
        ("in metadata", with(silent.clone(), ENDPOINTS), Ok(ENDPOINTS)),
        ("in both", with(headers(ENDPOINTS), ENDPOINTS), Ok(ENDPOINTS)),
        ("in neither", silent.clone(), Err(Fault::NoEndpoint)),
        ("as an empty list", with(headers(""), " "), Err(Fault::NoEndpoint)),
        ("as an empty list beside another", with(headers(ENDPOINTS), ""), Ok(ENDPOINTS)),
    ] {
        let outcome = gathered(&[], vec![response]).map(|verdict| match verdict {
            Some(Verdict::Forward(decision)) => decision.destination,
            other => panic!("{case}: {other:?}"),
        });
        assert_eq!(outcome.as_deref(), expected.as_ref().map(|list| *list), "{case}");
    }
}

#[test]
fn what_makes_no_sense_is_a_fault() {
    let answer = says(Said::ResponseHeaders(PartResponse::default()));
    for (case, sent, said) in [
        ("the headers twice", vec!["a"], vec![headers(ENDPOINTS), headers(ENDPOINTS)]),
        ("an answer that is not there", vec![], vec![answer]),
        ("pieces and a stream", vec!["a", "b"], vec![body(None), streamed("x", true)]),
        ("a stream and pieces", vec!["a", "b"], vec![streamed("x", false), body(None)]),
        ("a body that is too large", vec!["a"], vec![streamed("seventeen letters", true)]),
    ] {
        assert!(gathered(&sent, said).is_err(), "{case}");
    }
}

#[test]
fn a_picker_may_answer_at_any_time() {
    let immediate =
        ImmediateResponse { status: Some(HttpStatus { code: 429 }), headers: None, body: Bytes::from_static(b"busy") };
    for (case, before) in [("at once", vec![]), ("after the headers", vec![headers(ENDPOINTS)])] {
        let said = before.into_iter().chain([says(Said::Immediate(immediate.clone()))]).collect();
        assert_eq!(gathered(&["a"], said), Ok(Some(Verdict::Answer(immediate.clone()))), "{case}");
    }
}

#[test]
fn a_picker_that_ends_in_good_order_leaves_the_rest_as_it_is() {
    let end = |said: Vec<ProcessingResponse>| {
        let mut gathering = Gathering::new(vec![bytes("a"), bytes("b")], 16);
        for response in said {
            assert_eq!(gathering.take(response), Ok(None));
        }
        gathering.end()
    };
    let whole = |body| {
        Ok(Verdict::Forward(Decision { destination: ENDPOINTS.to_owned(), edits: vec![naming(ENDPOINTS)], body }))
    };
    assert_eq!(end(vec![headers(ENDPOINTS)]), whole(None));
    assert_eq!(end(vec![headers(ENDPOINTS), body(Some(Replacement::Body(bytes("x"))))]), whole(Some(bytes("xb"))));
    assert!(end(vec![]).is_err(), "nothing was said");
    assert!(end(vec![headers(ENDPOINTS), streamed("x", false)]).is_err(), "half of a body was streamed");
}
