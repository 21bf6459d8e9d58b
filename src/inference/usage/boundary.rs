//! Where the events of a stream end.
//!
//! Source: WHATWG HTML, section 9.2.6, "Interpreting an event stream": a line ends with CRLF, with LF or with CR, and a
//! blank line ends an event.

/// Follows the lines of a stream that arrives in pieces.
#[derive(Clone, Copy, Debug)]
pub(super) struct Boundary {
    /// Whether the line at hand is blank so far.
    blank: bool,
    /// Whether the last byte was a CR, so that an LF now would be the second half of a line's end.
    after_return: bool,
}

impl Boundary {
    /// Starts at the beginning of a stream.
    pub(super) fn new() -> Self {
        Self { blank: true, after_return: false }
    }

    /// Returns whether the last byte was a CR, whose line's end may have a second half.
    pub(super) fn is_after_return(&self) -> bool {
        self.after_return
    }

    /// Returns whether the piece begins with the second half of the CRLF that ended the last event, and passes over it.
    pub(super) fn owns_line_feed(&mut self, piece: &[u8]) -> bool {
        let owns = self.after_return && piece.first() == Some(&b'\n');
        if owns {
            self.after_return = false;
        }
        owns
    }

    /// Passes over a piece that begins with an event, if its end certainly is the end of an event.
    pub(super) fn pass_whole_events(&mut self, piece: &[u8]) -> bool {
        let whole = piece.ends_with(b"\n\n") || piece.ends_with(b"\n\r\n") || piece.ends_with(b"\r\r");
        if whole {
            *self = Self { blank: true, after_return: piece.ends_with(b"\r") };
        }
        whole
    }

    /// Goes through `bytes` up to the end of an event and returns the length, or `None` if no event ends in them.
    pub(super) fn event_end(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut start = 0;
        for at in memchr::memchr2_iter(b'\n', b'\r', bytes) {
            let empty = at == start;
            start = at + 1;
            let second_half = empty && self.after_return && bytes[at] == b'\n';
            self.after_return = bytes[at] == b'\r';
            if second_half {
                continue;
            }
            let ends_event = self.blank && empty;
            self.blank = true;
            if ends_event {
                return Some(start + usize::from(self.owns_line_feed(&bytes[start..])));
            }
        }
        if start < bytes.len() {
            *self = Self { blank: false, after_return: false };
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blank_line_ends_an_event_however_lines_end() {
        for (case, stream, events) in [
            ("LF", "a\nb\n\nc\n\n", &[5, 3][..]),
            ("CRLF", "a\r\nb\r\n\r\nc\r\n\r\n", &[8, 5]),
            ("CR", "a\rb\r\rc\r\r", &[5, 3]),
            ("LF, then CR", "a\n\rb\n\r", &[3, 3]),
            ("CRLF, then CR", "a\r\n\rb\n\n", &[4, 3]),
            ("CR, then CRLF", "a\r\r\nb\n\n", &[4, 3]),
            ("a blank line at the beginning", "\na\n\n", &[1, 3]),
            ("no end", "a\r\nb\r", &[]),
        ] {
            let (mut boundary, mut rest, mut found) = (Boundary::new(), stream.as_bytes(), Vec::new());
            while let Some(length) = boundary.event_end(rest) {
                found.push(length);
                rest = &rest[length..];
            }
            assert_eq!(found, events, "{case}");
        }
    }
}
