//! Finds the end of a message's head, and reads the length that it says.
//!
//! Source: RFC 9112, sections 2.2 and 6.2.

/// Finds the end of a head that arrives bit by bit: nothing is looked through twice.
#[derive(Debug, Default)]
pub struct HeadEnd {
    /// So many bytes of the input are known not to hold the end.
    searched: usize,
}

impl HeadEnd {
    /// Returns the length of the head with the empty line after it, once that is there. The next search begins anew.
    pub fn find(&mut self, input: &[u8]) -> Option<usize> {
        let rest = &input[self.searched..];
        for end in memchr::memchr_iter(b'\n', rest) {
            let length = match &rest[end + 1..] {
                [b'\r', b'\n', ..] => end + 3,
                [b'\n', ..] => end + 2,
                // The rest of an empty line may be on its way.
                [] | [b'\r'] => {
                    self.searched += end;
                    return None;
                }
                _ => continue,
            };
            return Some(std::mem::take(&mut self.searched) + length);
        }
        self.searched = input.len();
        None
    }
}

/// Reads the value of a `Content-Length`: digits and nothing else; `None` if it is no length.
#[must_use]
pub fn length_of(value: &[u8]) -> Option<u64> {
    let is_number = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    if is_number { str::from_utf8(value).ok()?.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_ends_with_its_first_empty_line_wherever_it_is_cut() {
        for (head, rest) in
            [("GET / HTTP/1.1\r\nhost: x\r\n\r\n", "body\r\n\r\n"), ("a\nb\n\n", "\n\nc"), ("a\n\r\n", "x")]
        {
            let whole = [head, rest].concat();
            for cut in 0..=whole.len() {
                let mut end = HeadEnd::default();
                let early = end.find(&whole.as_bytes()[..cut]);
                assert_eq!(early, (cut >= head.len()).then_some(head.len()), "{whole:?} cut at {cut}");
                if early.is_none() {
                    assert_eq!(end.find(whole.as_bytes()), Some(head.len()), "{whole:?} cut at {cut}");
                }
            }
        }
    }

    #[test]
    fn a_length_is_digits_and_nothing_else() {
        for (value, expected) in [
            ("0", Some(0)),
            ("007", Some(7)),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", None),
            ("", None),
            ("+7", None),
            ("-1", None),
            (" 7", None),
            ("7, 7", None),
            ("0x7", None),
        ] {
            assert_eq!(length_of(value.as_bytes()), expected, "{value:?}");
        }
    }
}
