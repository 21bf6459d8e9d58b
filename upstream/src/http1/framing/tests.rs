use proptest::prelude::*;

use super::*;

/// Decodes what arrives in these pieces; an error is what is wrong with it, or that the end is missing.
fn decode(mut framing: Framing, arrivals: &[&[u8]]) -> Result<(Vec<u8>, Vec<u8>), &'static str> {
    let (mut input, mut body) = (BytesMut::new(), Vec::new());
    for arrival in arrivals {
        input.extend_from_slice(arrival);
        loop {
            match framing.decode(&mut input)? {
                Decoded::Piece(piece) => {
                    assert!(!piece.is_empty());
                    let joined = framing.join(piece.clone(), &mut input);
                    assert!(joined.starts_with(&piece));
                    body.extend_from_slice(&joined);
                }
                Decoded::Nothing => break,
                Decoded::End => return Ok((body, input.to_vec())),
            }
        }
    }
    Err("incomplete")
}

#[test]
fn a_body_ends_where_its_framing_says() {
    let long = [b"5;".as_slice(), &b"x".repeat(2_000), b"\r\nhello\r\n0\r\n\r\n"].concat();
    let trailers = [b"0\r\n".as_slice(), &b"x: y\r\n".repeat(5_000), b"\r\n"].concat();
    for (case, body, expected) in [
        ("one chunk", &b"5\r\nhello\r\n0\r\n\r\n"[..], Ok(("hello", ""))),
        ("two chunks", b"1\r\nh\r\n4\r\nello\r\n0\r\n\r\n", Ok(("hello", ""))),
        ("a size in capitals, with zeros", b"000A\r\n0123456789\r\n00\r\n\r\n", Ok(("0123456789", ""))),
        ("extensions", b"5;a=b ; c\r\nhello\r\n0;x\r\n\r\n", Ok(("hello", ""))),
        ("a trailer", b"5\r\nhello\r\n0\r\nx: y\r\nz:\r\n\r\n", Ok(("hello", ""))),
        ("more after the end", b"5\r\nhello\r\n0\r\n\r\nHTTP/1.1 200", Ok(("hello", "HTTP/1.1 200"))),
        ("no last chunk", b"5\r\nhello\r\n", Err("incomplete")),
        ("no end of the trailer", b"5\r\nhello\r\n0\r\n", Err("incomplete")),
        ("half a chunk", b"5\r\nhel", Err("incomplete")),
        ("a chunk that is too long", b"4\r\nhello\r\n0\r\n\r\n", Err("a chunk does not end where its size says")),
        ("no line break after a chunk", b"5\r\nhello0\r\n\r\n", Err("a chunk does not end where its size says")),
        ("no size", b"\r\nhello", Err("a chunk has no size")),
        ("a size that is none", b"5x\r\nhello", Err("a chunk has no size")),
        ("a negative size", b"-5\r\nhello", Err("a chunk has no size")),
        ("a size beyond all numbers", b"10000000000000000\r\nhello", Err("a chunk has no size")),
        ("a bare line feed", b"5\nhello\r\n0\r\n\r\n", Err("a chunk has no size")),
        ("a bare line feed after an extension", b"5;x\nhello", Err("a line in its body has a bare line feed")),
        ("an endless extension", &long, Err("a line in its body is too long")),
        ("an endless trailer", &trailers, Err("a line in its body is too long")),
    ] {
        let decoded = decode(Framing::chunked(), &[body]);
        let expected = expected.map(|(body, rest)| (body.as_bytes().to_vec(), rest.as_bytes().to_vec()));
        assert_eq!(decoded, expected, "{case}");
    }
    let whole = decode(Framing::Length(5), &[b"he", b"llo and more"]);
    assert_eq!(whole, Ok((b"hello".to_vec(), b" and more".to_vec())));
    assert_eq!(decode(Framing::Length(5), &[b"hell"]), Err("incomplete"));
    assert_eq!(decode(Framing::UntilClose, &[b"hello"]), Err("incomplete"), "only the connection's end is an end");
}

#[test]
fn chunks_that_are_there_together_are_taken_together() {
    for (case, arrived, joined, rest) in [
        ("two whole ones", "1\r\na\r\n2\r\nbc\r\n", "abc", "\r\n"),
        (
            "a size in capitals, and one in small letters",
            "1\r\na\r\nB\r\n12345678901\r\nc\r\n123456789012",
            "a12345678901123456789012",
            "",
        ),
        ("half of the next", "1\r\na\r\n2\r\nb", "a", "\r\n2\r\nb"),
        ("the end", "1\r\na\r\n0\r\n\r\n", "a", "\r\n0\r\n\r\n"),
        ("an extension", "1\r\na\r\n1;x\r\nb\r\n", "a", "\r\n1;x\r\nb\r\n"),
        ("what is no chunk", "1\r\na\r\ng\r\n", "a", "\r\ng\r\n"),
        ("no line break", "1\r\na1\r\nb", "a", "1\r\nb"),
    ] {
        let (mut framing, mut input) = (Framing::chunked(), BytesMut::from(arrived));
        let Ok(Decoded::Piece(piece)) = framing.decode(&mut input) else { panic!("{case}: there is a piece") };
        assert_eq!((&framing.join(piece, &mut input)[..], &input[..]), (joined.as_bytes(), rest.as_bytes()), "{case}");
    }
}

proptest! {
    #[test]
    fn chunks_are_read_alike_however_they_arrive(
        chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..6),
        cuts in prop::collection::vec(1_usize..20, 0..20),
    ) {
        let mut sent = Vec::new();
        for chunk in &chunks {
            sent.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            sent.extend_from_slice(chunk);
            sent.extend_from_slice(b"\r\n");
        }
        sent.extend_from_slice(b"0\r\na: b\r\n\r\nnext");
        let mut arrivals = Vec::new();
        let mut rest = &sent[..];
        for cut in cuts {
            let (arrival, later) = rest.split_at(cut.min(rest.len()));
            arrivals.push(arrival);
            rest = later;
        }
        arrivals.push(rest);
        let (body, left) = decode(Framing::chunked(), &arrivals).map_err(TestCaseError::fail)?;
        prop_assert_eq!(body, chunks.concat());
        prop_assert!(b"next".starts_with(&left[..]));
    }
}
