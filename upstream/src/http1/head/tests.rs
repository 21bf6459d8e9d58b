use super::*;

const ANY: Expected = Expected { head_only: false, upgrade: false };

/// Returns the framing, whether the connection may be used again, and the headers' names.
fn decoded(head: &str, expected: Expected) -> Result<(Framing, bool, Vec<String>), &'static str> {
    let mut input = BytesMut::from(head.as_bytes());
    let head = Decoder::default().decode(&mut input, expected)?.ok_or("incomplete")?;
    assert!(input.is_empty(), "{input:?} is left over");
    let mut names: Vec<_> = head.response.headers.iter().map(|(name, _)| name.to_string()).collect();
    names.sort_unstable();
    Ok((head.framing, head.reusable, names))
}

#[test]
fn a_head_says_where_its_body_ends_and_what_becomes_of_the_connection() {
    let chunked = "transfer-encoding: chunked";
    for (case, head, expected) in [
        ("a length", "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n", (Framing::Length(5), true)),
        (
            "the same length twice",
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 5\r\n\r\n",
            (Framing::Length(5), true),
        ),
        ("nothing", "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", (Framing::Ended, true)),
        ("chunks", &format!("HTTP/1.1 200 OK\r\n{chunked}\r\n\r\n"), (Framing::chunked(MOST_HELD), true)),
        (
            "chunks, and the end of the connection",
            &format!("HTTP/1.1 200 OK\r\n{chunked}\r\nConnection: Close\r\n\r\n"),
            (Framing::chunked(MOST_HELD), false),
        ),
        ("neither", "HTTP/1.1 200 OK\r\n\r\n", (Framing::UntilClose, false)),
        ("HTTP/1.0", "HTTP/1.0 200 OK\r\ncontent-length: 5\r\n\r\n", (Framing::Length(5), false)),
        (
            "HTTP/1.0 that goes on",
            "HTTP/1.0 200 OK\r\ncontent-length: 5\r\nconnection: keep-alive\r\n\r\n",
            (Framing::Length(5), true),
        ),
        (
            "HTTP/1.0 without a length",
            "HTTP/1.0 200 OK\r\nconnection: keep-alive\r\n\r\n",
            (Framing::UntilClose, false),
        ),
        ("204 with a length", "HTTP/1.1 204 No Content\r\ncontent-length: 5\r\n\r\n", (Framing::Ended, true)),
        ("no reason", "HTTP/1.1 200\r\ncontent-length: 1\r\n\r\n", (Framing::Length(1), true)),
        ("bare line feeds", "HTTP/1.1 200 OK\ncontent-length: 1\n\n", (Framing::Length(1), true)),
        (
            "informational answers first",
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n",
            (Framing::Length(1), true),
        ),
    ] {
        let decoded = decoded(head, ANY).expect(case);
        assert_eq!((decoded.0, decoded.1), expected, "{case}");
    }
}

#[test]
fn a_head_may_say_for_how_long_its_connection_is_kept() {
    for (case, header, expected) in [
        ("as servers write it", "Keep-Alive: timeout=1", Some(1)),
        ("with a number of requests", "keep-alive: max=100, Timeout = 5", Some(5)),
        ("no time", "keep-alive: max=100", None),
        ("no number", "keep-alive: timeout=x", None),
        ("nothing", "x: timeout=1", None),
    ] {
        let mut input = BytesMut::from(format!("HTTP/1.1 200 OK\r\n{header}\r\ncontent-length: 0\r\n\r\n").as_bytes());
        let head = Decoder::default().decode(&mut input, ANY).unwrap().unwrap();
        assert_eq!(head.kept_for, expected, "{case}");
    }
}

#[test]
fn what_is_ambiguous_or_endless_is_no_head() {
    let chunked = "transfer-encoding: chunked";
    for (case, head, expected) in [
        ("only an informational answer", "HTTP/1.1 100 Continue\r\n\r\n", "incomplete"),
        ("half a head", "HTTP/1.1 200 OK\r\ncontent-length: 1\r\n", "incomplete"),
        ("two lengths", "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n", "it has two lengths"),
        ("a list of lengths", "HTTP/1.1 200 OK\r\ncontent-length: 5, 5\r\n\r\n", "its length is none"),
        ("a length with a sign", "HTTP/1.1 200 OK\r\ncontent-length: +5\r\n\r\n", "its length is none"),
        (
            "a length and chunks",
            &format!("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n{chunked}\r\n\r\n"),
            "its length and its transfer encoding contradict each other",
        ),
        (
            "chunks in HTTP/1.0",
            &format!("HTTP/1.0 200 OK\r\n{chunked}\r\n\r\n"),
            "its length and its transfer encoding contradict each other",
        ),
        (
            "an encoding that was not asked for",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n",
            "its transfer encoding is unknown",
        ),
        (
            "chunks twice",
            &format!("HTTP/1.1 200 OK\r\n{chunked}\r\n{chunked}\r\n\r\n"),
            "its transfer encoding is unknown",
        ),
        (
            "another protocol",
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n",
            "it changes to a protocol that was not asked for",
        ),
        ("no HTTP", "SSH-2.0-x\r\n", "it is not HTTP/1.1"),
        (
            "too many fields",
            &format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(257)),
            "its head has more than 256 fields",
        ),
        (
            "an endless head",
            &format!("HTTP/1.1 200 OK\r\nx: {}", "y".repeat(MAX_HEAD)),
            "its head is longer than 128 KiB",
        ),
    ] {
        assert_eq!(decoded(head, ANY).err(), Some(expected), "{case}");
    }
}

#[test]
fn answers_that_have_no_body_keep_what_they_say_of_one() {
    let mut input = BytesMut::from("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n");
    let head = Decoder::default()
        .decode(&mut input, Expected { head_only: true, ..ANY })
        .expect("it is valid")
        .expect("it is whole");
    assert_eq!((head.framing, head.announced, head.reusable), (Framing::Ended, Some(5), true));
    let (framing, reusable, names) =
        decoded("HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\netag: x\r\n\r\n", ANY).expect("it is valid");
    assert_eq!((framing, reusable), (Framing::Ended, true));
    assert_eq!(names, ["content-length", "etag"]);
}

#[test]
fn headers_that_frame_the_message_or_belong_to_the_connection_are_left_out() {
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: x-own, keep-alive\r\nx-own: 1\r\nkeep-alive: 5\r\n\
                upgrade: h2c\r\nproxy-authenticate: Basic\r\nset-cookie: a\r\nset-cookie: b\r\nserver: s\r\n\r\n";
    let (.., names) = decoded(head, ANY).expect("it is valid");
    assert_eq!(names, ["server", "set-cookie", "set-cookie"]);
    let switching = "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\nx: y\r\n\r\n";
    let (framing, reusable, names) = decoded(switching, Expected { upgrade: true, ..ANY }).expect("it is valid");
    assert_eq!((framing, reusable), (Framing::UntilClose, false));
    assert_eq!(names, ["upgrade", "x"]);
}
