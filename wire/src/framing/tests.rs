use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// The longest chunk that is given out whole.
const HELD: u64 = 16 << 10;

/// Decodes what arrives in these pieces; an error is what is wrong with it, or that the end is missing.
fn decode(framing: Framing, arrivals: &[&[u8]]) -> Result<(Vec<u8>, Vec<u8>), &'static str> {
    pieces(framing, arrivals).map(|(pieces, rest)| (pieces.concat(), rest))
}

/// Decodes as [`decode`] does, and returns the pieces one by one.
fn pieces(mut framing: Framing, arrivals: &[&[u8]]) -> Result<(Vec<Bytes>, Vec<u8>), &'static str> {
    let (mut input, mut body) = (BytesMut::new(), Vec::new());
    for arrival in arrivals {
        input.extend_from_slice(arrival);
        loop {
            match framing.decode(&mut input)? {
                Decoded::Piece(piece) => {
                    assert!(!piece.is_empty());
                    body.push(piece);
                }
                Decoded::Nothing => break,
                Decoded::End => return Ok((body, input.to_vec())),
            }
        }
    }
    Err("incomplete")
}

/// Writes chunks, and what ends them.
fn written(chunks: &[impl AsRef<[u8]>], end: &[u8]) -> Vec<u8> {
    let mut sent = Vec::new();
    for chunk in chunks.iter().map(AsRef::as_ref) {
        sent.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        sent.extend_from_slice(chunk);
        sent.extend_from_slice(b"\r\n");
    }
    sent.extend_from_slice(end);
    sent
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
        ("a second size", b"5 5\r\nhello", Err("a chunk has no size")),
        ("blanks behind a size", b"5 \t\r\nhello\r\n0 ;x\r\n\r\n", Ok(("hello", ""))),
        ("a negative size", b"-5\r\nhello", Err("a chunk has no size")),
        ("a size beyond all numbers", b"10000000000000000\r\nhello", Err("a chunk has no size")),
        ("a bare line feed", b"5\nhello\r\n0\r\n\r\n", Err("a chunk has no size")),
        ("a bare line feed after an extension", b"5;x\nhello", Err("a line in its body has a bare line feed")),
        ("a bare carriage return", b"5\rx\r\nhello", Err("a line in its body has a bare carriage return")),
        ("one in an extension", b"5;x\ry\r\nhello", Err("a line in its body has a bare carriage return")),
        ("one in a trailer", b"0\r\nx: y\rz\r\n\r\n", Err("a line in its body has a bare carriage return")),
        ("an endless extension", &long, Err("a line in its body is too long")),
        ("an endless trailer", &trailers, Err("a line in its body is too long")),
    ] {
        let decoded = decode(Framing::chunked(HELD), &[body]);
        let expected = expected.map(|(body, rest)| (body.as_bytes().to_vec(), rest.as_bytes().to_vec()));
        assert_eq!(decoded, expected, "{case}");
    }
    let whole = decode(Framing::Length(5), &[b"he", b"llo and more"]);
    assert_eq!(whole, Ok((b"hello".to_vec(), b" and more".to_vec())));
    assert_eq!(decode(Framing::Length(5), &[b"hell"]), Err("incomplete"));
    assert_eq!(decode(Framing::UntilClose, &[b"hello"]), Err("incomplete"), "only the connection's end is an end");
}

#[test]
fn a_long_chunk_passes_as_it_arrives_and_others_once_they_are_whole() {
    let bound = 16 << 10;
    for (case, size, expected) in [
        ("one that is held until it is whole", bound, vec![bound]),
        ("one that is too long for that", bound + 1, vec![7, bound - 6]),
    ] {
        let sent = written(&[vec![b'x'; size]], b"0\r\n\r\n");
        let begin = format!("{size:x}\r\n").len();
        let (pieces, _) = pieces(Framing::chunked(HELD), &[&sent[..begin + 7], &sent[begin + 7..]]).unwrap();
        assert_eq!(pieces.iter().map(Bytes::len).collect::<Vec<_>>(), expected, "{case}");
    }
}

#[test]
fn what_there_is_of_a_chunk_is_given_out_when_no_more_comes() {
    for (case, arrived, expected) in [
        ("half a chunk", &b"1\r\na\r\n4\r\nbc"[..], Some("bc")),
        ("a size alone", b"1\r\na\r\n4\r\n", None),
        ("half a size", b"1\r\na\r\n4", None),
        ("a whole chunk", b"1\r\na\r\n", None),
    ] {
        let (mut framing, mut input) = (Framing::chunked(HELD), BytesMut::from(arrived));
        assert_eq!(framing.decode(&mut input), Ok(Decoded::Piece(Bytes::from_static(b"a"))), "{case}");
        assert_eq!(framing.decode(&mut input), Ok(Decoded::Nothing), "{case}");
        assert_eq!(framing.give_up(&mut input), expected.map(Bytes::from), "{case}");
        assert_eq!(framing.give_up(&mut input), None, "{case}: it is given out once");
    }
}

proptest! {
    #[test]
    fn chunks_are_taken_one_by_one_however_they_arrive(
        chunks in vec(vec(any::<u8>(), 1..40), 0..6),
        cuts in vec(1_usize..20, 0..20),
    ) {
        let sent = written(&chunks, b"0\r\na: b\r\n\r\nnext");
        let mut arrivals = Vec::new();
        let mut rest = &sent[..];
        for cut in cuts {
            let (arrival, later) = rest.split_at(cut.min(rest.len()));
            arrivals.push(arrival);
            rest = later;
        }
        arrivals.push(rest);
        let (pieces, left) = pieces(Framing::chunked(HELD), &arrivals).map_err(TestCaseError::fail)?;
        prop_assert_eq!(pieces, chunks);
        prop_assert!(b"next".starts_with(&left[..]));
    }
}
