//! Gives an answer the model name back that the client asked for, where its request got another model.
//!
//! Source: InferenceModelRewrite. Every API names the model in a field `model`, at the top of a whole answer and of a
//! chunk, or inside of the event that begins or ends an answer, so that the field is looked for at any depth. Text that
//! an engine generates cannot be taken for one, because quotes within it are escaped. All other bytes stay as they are.

use std::sync::LazyLock;

use bytes::Bytes;
use memchr::memchr2;
use memchr::memmem::Finder;

/// The field.
const FIELD: &[u8] = b"\"model\"";

static FIND: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(FIELD));

/// The longest piece that is held back, from the field to the end of its value, in bytes.
const MAX_HELD: usize = 4 << 10;

/// Changes one model name to another in an answer that arrives in pieces.
#[derive(Debug)]
pub struct ModelNames {
    /// The name that is changed.
    from: String,
    /// The name that takes its place, as JSON.
    to: Vec<u8>,
    /// The end of what arrived, while it may be the beginning of the field.
    held: Vec<u8>,
    /// The last byte that was passed on.
    last: u8,
}

/// The value that follows the name of a field.
enum Value {
    /// A text; it begins and ends at these places.
    Text(usize, usize),
    /// Anything else.
    Other,
    /// It has not arrived yet.
    Incomplete,
}

impl ModelNames {
    /// Makes what changes the name `from` to the name `to`.
    pub fn new(from: &str, to: &str) -> Self {
        let to = serde_json::to_vec(to).expect("a text can be written to memory");
        Self { from: from.to_owned(), to, held: Vec::new(), last: 0 }
    }

    /// Takes in a piece, and returns what is to be passed on by now; a piece in which nothing changes is not copied.
    pub fn feed(&mut self, piece: Bytes) -> Bytes {
        let input = if self.held.is_empty() {
            piece
        } else {
            let mut input = std::mem::take(&mut self.held);
            input.extend_from_slice(&piece);
            input.into()
        };
        let mut output = Vec::new();
        let (mut passed, mut next) = (0, 0);
        let mut end = None;
        while let Some(found) = FIND.find(&input[next..]) {
            let begin = next + found;
            next = begin + FIELD.len();
            let before = if begin == 0 { self.last } else { input[begin - 1] };
            // A quote that is escaped belongs to a text.
            if before == b'\\' {
                continue;
            }
            match value(&input, next) {
                Value::Text(from, to) => {
                    next = to;
                    if self.is_changed(&input[from..to]) {
                        if output.is_empty() {
                            // As much as one change needs, which is all of them in most pieces.
                            output.reserve_exact(input.len() - (to - from) + self.to.len());
                        }
                        output.extend_from_slice(&input[passed..from]);
                        output.extend_from_slice(&self.to);
                        passed = to;
                    }
                }
                Value::Incomplete if input.len() - begin < MAX_HELD => {
                    end = Some(begin);
                    break;
                }
                Value::Incomplete | Value::Other => {}
            }
        }
        let end = end.unwrap_or_else(|| input.len() - begun(&input[next.max(passed)..]));
        self.last = end.checked_sub(1).map_or(self.last, |last| input[last]);
        self.held.extend_from_slice(&input[end..]);
        if output.is_empty() {
            return input.slice(..end);
        }
        output.extend_from_slice(&input[passed..end]);
        output.into()
    }

    /// Returns what was held back, at the end of the answer.
    pub fn finish(&mut self) -> Bytes {
        std::mem::take(&mut self.held).into()
    }

    /// Returns whether a text, with its quotes, is the name that is changed.
    fn is_changed(&self, text: &[u8]) -> bool {
        let inside = text.get(1..text.len() - 1).unwrap_or_default();
        inside == self.from.as_bytes()
            || (inside.contains(&b'\\') && serde_json::from_slice::<String>(text).is_ok_and(|name| name == self.from))
    }
}

/// Returns how many bytes at the end of a text may be the beginning of the field.
fn begun(text: &[u8]) -> usize {
    if text.last().is_none_or(|last| !FIELD.contains(last)) {
        return 0;
    }
    (1..FIELD.len()).rev().find(|length| text.ends_with(&FIELD[..*length])).unwrap_or_default()
}

/// Reads what follows the name of a field that ends at `place`.
fn value(input: &[u8], place: usize) -> Value {
    let skip =
        |from: usize| input[from..].iter().position(|byte| !byte.is_ascii_whitespace()).map(|blanks| from + blanks);
    let Some(colon) = skip(place) else { return Value::Incomplete };
    if input[colon] != b':' {
        return Value::Other;
    }
    let Some(begin) = skip(colon + 1) else { return Value::Incomplete };
    if input[begin] != b'"' {
        return Value::Other;
    }
    let mut place = begin + 1;
    while let Some(found) = input.get(place..).and_then(|rest| memchr2(b'"', b'\\', rest)) {
        if input[place + found] == b'"' {
            return Value::Text(begin, place + found + 1);
        }
        // A backslash, and what it stands before.
        place += found + 2;
    }
    Value::Incomplete
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn renamed(pieces: &[&[u8]]) -> String {
        let mut names = ModelNames::new("food-v1", "food \"x\"");
        let mut all: Vec<u8> = pieces.iter().flat_map(|piece| names.feed(Bytes::copy_from_slice(piece))).collect();
        all.extend(names.finish());
        String::from_utf8_lossy(&all).into_owned()
    }

    const CASES: &[(&str, &str, &str)] = &[
        ("a whole answer", r#"{"id":"a","model":"food-v1","n":1}"#, r#"{"id":"a","model":"food \"x\"","n":1}"#),
        ("blanks", "{\"model\" :\n \"food-v1\"}", "{\"model\" :\n \"food \\\"x\\\"\"}"),
        ("an escape", r#"{"model":"food\u002dv1"}"#, r#"{"model":"food \"x\""}"#),
        ("another model", r#"{"model":"food-v11"}"#, r#"{"model":"food-v11"}"#),
        ("no text", r#"{"model":null,"a":"food-v1"}"#, r#"{"model":null,"a":"food-v1"}"#),
        ("within a text", r#"{"text":"\"model\":\"food-v1\""}"#, r#"{"text":"\"model\":\"food-v1\""}"#),
        ("at the end of a text", r#"{"a\"model":"food-v1"}"#, r#"{"a\"model":"food-v1"}"#),
        ("as a value", r#"["model","food-v1"]"#, r#"["model","food-v1"]"#),
        (
            "events",
            "data: {\"message\":{\"model\":\"food-v1\"}}\n\ndata: {\"model\":\"food-v1\"}\n\ndata: [DONE]\n\n",
            "data: {\"message\":{\"model\":\"food \\\"x\\\"\"}}\n\ndata: {\"model\":\"food \\\"x\\\"\"}\n\ndata: [DONE]\n\n",
        ),
        ("an end too early", r#"{"model":"food-v"#, r#"{"model":"food-v"#),
        ("the beginning of the field", r#"{"mod"#, r#"{"mod"#),
        ("nothing", "", ""),
    ];

    #[test]
    fn the_name_is_changed_and_nothing_else() {
        for (case, answer, expected) in CASES {
            assert_eq!(renamed(&[answer.as_bytes()]), *expected, "{case}");
        }
    }

    #[test]
    fn a_value_without_end_is_not_kept_for_ever() {
        let endless = [b"{\"model\":\"".as_slice(), &[b'a'; 2 * MAX_HELD]].concat();
        let mut names = ModelNames::new("a", "b");
        let length = endless.len();
        assert_eq!(names.feed(endless.into()).len(), length);
    }

    #[test]
    fn an_event_is_passed_on_as_soon_as_it_is_there() {
        let mut names = ModelNames::new("a", "b");
        let event = Bytes::from_static(b"data: {\"model\":\"a\"}\n\n");
        assert_eq!(names.feed(event), &b"data: {\"model\":\"b\"}\n\n"[..]);
    }

    #[test]
    fn a_piece_in_which_nothing_changes_is_not_copied() {
        let mut names = ModelNames::new("a", "b");
        let piece = Bytes::from_static(b"data: {\"model\":\"c\"}\n\n");
        assert_eq!(names.feed(piece.clone()).as_ptr(), piece.as_ptr());
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference(case in 0..CASES.len(), cuts in prop::collection::vec(0_usize..100, 0..6)) {
            let (_, answer, expected) = CASES[case];
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(answer.len())).collect();
            cuts.sort_unstable();
            let mut pieces = Vec::new();
            let mut begin = 0;
            for cut in cuts.into_iter().chain([answer.len()]) {
                pieces.push(&answer.as_bytes()[begin..cut]);
                begin = cut;
            }
            prop_assert_eq!(renamed(&pieces), expected);
        }
    }
}
