//! Reads what the server sends, as strictly as a client may.

/// Reads answers of HTTP/1 one behind the other; returns how many there are. They are whole, in the order of their requests,
/// and as many as there were requests, but where the client leaves, or the service breaks one off or changes the protocol.
pub(crate) fn http1(output: &[u8], leaves: bool, requests: u64) -> u64 {
    // A client whose mutated bytes are the preface of HTTP/2 gets frames.
    if output.get(3) == Some(&4) && !output.starts_with(b"HTTP") {
        return http2(output);
    }
    let (mut left, mut answers, mut numbers) = (output, 0, 0);
    while !left.is_empty() {
        let mut fields = [httparse::EMPTY_HEADER; 32];
        let mut answer = httparse::Response::new(&mut fields);
        let Ok(httparse::Status::Complete(length)) = answer.parse(left) else {
            if leaves && left.starts_with(&b"HTTP/1."[..left.len().min(7)]) {
                return answers;
            }
            panic!("no answer: {:?}", String::from_utf8_lossy(&left[..left.len().min(200)]));
        };
        left = &left[length..];
        let code = answer.code.expect("an answer has a status");
        if code == 100 {
            assert_eq!(answer.headers.len(), 0, "leave to go on has no fields");
            continue;
        }
        answers += 1;
        let field = |name: &str| {
            let mut found = answer.headers.iter().filter(|field| field.name.eq_ignore_ascii_case(name));
            let value = found.next().map(|field| std::str::from_utf8(field.value).expect("a value of ASCII"));
            assert!(found.next().is_none(), "{name} is there once");
            value
        };
        let number = |name: &str| field(name).map(|value| value.parse::<usize>().expect("a number"));
        if let Some(number) = number("x-number") {
            assert_eq!(number, numbers, "answers have the order of their requests");
            numbers += 1;
        }
        if code == 101 {
            return answers;
        }
        let is_refused = field("x-length").is_none();
        // An answer to HEAD that is refused has no body: another answer, or nothing, follows at once.
        let expected = number("x-length").unwrap_or(if left.is_empty() { 0 } else { 1 });
        let breaks = field("x-breaks").is_some();
        let framing = (number("content-length"), field("transfer-encoding"));
        let (body, is_ended) = body(&mut left, (expected, breaks), framing);
        let byte = if is_refused { b'!' } else { b'a' + ((numbers - 1) % 26) as u8 };
        assert!(body.iter().all(|found| *found == byte), "the body is that of the answer");
        let closes = field("connection") == Some("close");
        if leaves && left.is_empty() {
            return answers;
        }
        assert_eq!(body.len(), expected, "the body is whole");
        if breaks {
            assert!(
                left.is_empty() && (!is_ended || framing == (None, None)),
                "an answer that breaks off is not ended, and the last"
            );
            return answers;
        }
        assert!(is_ended, "the body is ended");
        assert!(!closes || left.is_empty(), "nothing follows an answer that closes");
    }
    assert!(leaves || answers == requests, "each of {requests} requests has an answer, not {answers}");
    answers
}

/// Takes the body of an answer; returns it, and whether it is ended as its head says.
fn body(
    left: &mut &[u8],
    (expected, breaks): (usize, bool),
    (length, coding): (Option<usize>, Option<&str>),
) -> (Vec<u8>, bool) {
    let Some(coding) = coding else {
        // One without a body may say how long it would be, and one of HTTP/1.0 ends with its connection.
        let length = if expected == 0 && !breaks { 0 } else { length.unwrap_or(expected) };
        let (body, rest) = left.split_at(length.min(left.len()));
        *left = rest;
        return (body.to_vec(), body.len() == length);
    };
    assert_eq!((coding, length), ("chunked", None), "one framing");
    let mut body = Vec::new();
    loop {
        let Ok(httparse::Status::Complete((begin, size))) = httparse::parse_chunk_size(left) else {
            assert!(left.len() < 20, "a chunk has a size");
            *left = &[];
            return (body, false);
        };
        *left = &left[begin..];
        let (piece, rest) = left.split_at(left.len().min(size as usize));
        body.extend_from_slice(piece);
        let is_cut = rest.len() < 2;
        assert!(is_cut || rest.starts_with(b"\r\n"), "a chunk ends where its size says");
        *left = if is_cut { &[] } else { &rest[2..] };
        if is_cut || size == 0 {
            return (body, !is_cut);
        }
    }
}

/// Reads frames; returns the number of answers.
pub(crate) fn http2(output: &[u8]) -> u64 {
    // A client whose preface is broken is taken for one of HTTP/1.
    if output.starts_with(b"HTTP/1.") {
        return http1(output, true, 0);
    }
    let (mut left, mut answers) = (output, 0);
    while left.len() >= 9 {
        let length = u32::from_be_bytes([0, left[0], left[1], left[2]]) as usize;
        let (kind, stream) = (left[3], u32::from_be_bytes([left[5], left[6], left[7], left[8]]));
        // Clients may allow longer ones than 16 KiB, but the server has no more to send at once.
        assert!(length <= 64 << 10, "no frame is longer than what is sent at once");
        assert!(kind <= 9, "no frame is of an unknown kind");
        assert_eq!(stream == 0, [4, 6, 7].contains(&kind) || (kind == 8 && stream == 0), "kind {kind} on {stream}");
        answers += u64::from(kind == 1);
        let end = 9 + length;
        if left.len() < end {
            return answers;
        }
        left = &left[end..];
    }
    answers
}
