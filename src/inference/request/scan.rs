//! Finds the top-level fields of a JSON object fast.
//!
//! Prompts are long strings, over which the general parser goes eight bytes at a time. Here they are passed by vector
//! instructions. Whatever is not plainly a valid object is left to the general parser, which then also words the error.

/// The deepest nesting that is followed.
const MAX_DEPTH: u32 = 63;

/// Notes each field with its value, as it is written, in their order; `None` leaves the body to the general parser.
pub(super) fn top_level<'t>(text: &'t str, mut note: impl FnMut(&str, &'t str)) -> Option<()> {
    let mut scanner = Scanner { text, at: 0, may_have_controls: has_controls(text.trim().as_bytes()) };
    scanner.space();
    scanner.expect(b'{')?;
    scanner.space();
    if scanner.peek()? == b'}' {
        scanner.at += 1;
    } else {
        loop {
            let key = scanner.key()?;
            scanner.space();
            let start = scanner.at;
            scanner.value()?;
            note(key, &text[start..scanner.at]);
            scanner.space();
            match scanner.next()? {
                b',' => scanner.space(),
                b'}' => break,
                _ => return None,
            }
        }
    }
    scanner.space();
    (scanner.at == text.len()).then_some(())
}

/// A text, and how far it was read.
struct Scanner<'t> {
    text: &'t str,
    at: usize,
    /// Whether strings must be looked through for control characters; a body without line breaks between its values has none.
    may_have_controls: bool,
}

/// Returns whether there are control characters, which strings must not have.
fn has_controls(text: &[u8]) -> bool {
    // Without a way out of the loop it is done many bytes at a time.
    text.iter().fold(u8::MAX, |least, byte| least.min(*byte)) < b' '
}

impl<'t> Scanner<'t> {
    fn rest(&self) -> &'t [u8] {
        &self.text.as_bytes()[self.at..]
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    fn expect(&mut self, wanted: u8) -> Option<()> {
        (self.next()? == wanted).then_some(())
    }

    fn space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    /// Reads a key that has no escapes, and the colon after it.
    fn key(&mut self) -> Option<&'t str> {
        self.expect(b'"')?;
        let start = self.at;
        self.string()?;
        let key = &self.text[start..self.at - 1];
        self.space();
        self.expect(b':')?;
        (!key.as_bytes().contains(&b'\\')).then_some(key)
    }

    /// Passes over a value and what is within it.
    fn value(&mut self) -> Option<()> {
        // One bit for each container that is open, set for objects; the innermost is the lowest.
        let (mut open, mut depth) = (0_u64, 0);
        loop {
            self.space();
            match self.next()? {
                b'"' => self.string()?,
                bracket @ (b'{' | b'[') => {
                    if depth == MAX_DEPTH {
                        return None;
                    }
                    (open, depth) = (open << 1 | u64::from(bracket == b'{'), depth + 1);
                    self.space();
                    match (bracket, self.peek()?) {
                        (b'{', b'}') | (b'[', b']') => {}
                        (b'{', _) => {
                            self.key()?;
                            continue;
                        }
                        _ => continue,
                    }
                }
                first => self.scalar(first)?,
            }
            loop {
                if depth == 0 {
                    return Some(());
                }
                self.space();
                match (self.next()?, open & 1 == 1) {
                    (b',', true) => {
                        self.space();
                        self.key()?;
                        break;
                    }
                    (b',', false) => break,
                    (b'}', true) | (b']', false) => (open, depth) = (open >> 1, depth - 1),
                    _ => return None,
                }
            }
        }
    }

    /// Passes over the rest of a string.
    fn string(&mut self) -> Option<()> {
        loop {
            let rest = self.rest();
            let end = memchr::memchr2(b'"', b'\\', rest)?;
            if self.may_have_controls && has_controls(&rest[..end]) {
                return None;
            }
            self.at += end + 1;
            if rest[end] == b'"' {
                return Some(());
            }
            match self.next()? {
                b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => {}
                b'u' => {
                    let digits = self.rest().get(..4)?;
                    if !digits.iter().all(u8::is_ascii_hexdigit) {
                        return None;
                    }
                    self.at += 4;
                }
                _ => return None,
            }
        }
    }

    /// Passes over the rest of a literal or a number.
    fn scalar(&mut self, first: u8) -> Option<()> {
        let word: &[u8] = match first {
            b't' => b"rue",
            b'f' => &b"false"[1..],
            b'n' => b"ull",
            b'-' => {
                let digit = self.next()?;
                return self.number(digit);
            }
            digit => return self.number(digit),
        };
        self.at += word.len();
        self.text.as_bytes().get(self.at - word.len()..self.at).filter(|found| *found == word).map(drop)
    }

    fn number(&mut self, first: u8) -> Option<()> {
        match first {
            b'0' => {}
            b'1'..=b'9' => self.digits(),
            _ => return None,
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.some_digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.some_digits()?;
        }
        Some(())
    }

    fn digits(&mut self) {
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
    }

    fn some_digits(&mut self) -> Option<()> {
        let start = self.at;
        self.digits();
        (self.at > start).then_some(())
    }
}
