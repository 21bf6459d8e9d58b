//! Reads what the server sends, as strictly as a client may.

/// Reads answers of HTTP/1 one behind the other; returns how many there are. The last one may be cut off, if its client
/// leaves.
pub(crate) fn http1(output: &[u8], leaves: bool) -> u64 {
    // A client whose mutated bytes are the preface of HTTP/2 gets frames.
    if output.get(3) == Some(&4) && !output.starts_with(b"HTTP") {
        return http2(output, leaves);
    }
    let (mut left, mut answers) = (output, 0);
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
        let field = |name: &str| {
            let found = answer.headers.iter().find(|field| field.name.eq_ignore_ascii_case(name));
            found.map(|field| std::str::from_utf8(field.value).expect("a value of ASCII"))
        };
        assert_eq!(field("transfer-encoding"), None, "answers have a length");
        if code == 100 {
            continue;
        }
        answers += 1;
        let length: usize = field("content-length").expect("a length").parse().expect("a number");
        // An answer to HEAD has a length and no body: another answer, or nothing, follows at once.
        if !left.is_empty() && !left.starts_with(b"HTTP/1.") {
            assert!(leaves || left.len() >= length, "a body is cut off");
            left = &left[length.min(left.len())..];
        }
        if field("connection") == Some("close") {
            assert!(left.is_empty(), "nothing follows an answer that closes");
        }
    }
    answers
}

/// Reads frames; returns the number of answers.
pub(crate) fn http2(output: &[u8], leaves: bool) -> u64 {
    // A client whose preface is broken is taken for one of HTTP/1.
    if output.starts_with(b"HTTP/1.") {
        return http1(output, leaves);
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
