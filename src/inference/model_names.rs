//! Gives an answer the model name back that the client asked for, where its request got another model.
//!
//! Source: InferenceModelRewrite. Every API names the model in a field `model`, at the top of a whole answer and of a
//! chunk, or inside of the event that begins or ends an answer.

use std::sync::LazyLock;

use bytes::Bytes;
use memchr::memmem::Finder;

use super::field_values::{Change, FieldValues};

static MODEL: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"model\""));

/// Changes one model name to another in an answer that arrives in pieces.
#[derive(Debug)]
pub struct ModelNames(FieldValues);

impl ModelNames {
    /// Makes what changes the name `from` to the name `to`.
    pub fn new(from: &str, to: &str) -> Self {
        Self(FieldValues::new(&MODEL, Change::text(from, to)))
    }

    /// Takes in a piece, and returns what is to be passed on by now; a piece in which nothing changes is not copied.
    pub fn feed(&mut self, piece: Bytes) -> Bytes {
        self.0.feed(piece)
    }

    /// Returns whether nothing is held back.
    pub(super) fn holds_nothing(&self) -> bool {
        self.0.holds_nothing()
    }

    /// Returns what is passed on for what precedes a text, quotes included, if that and what follows the text do not depend
    /// on the text, and what follows does not change. Nothing may be held back before, and nothing is after.
    pub(super) fn before_text(&mut self, before: &[u8], after: &[u8]) -> Option<Bytes> {
        self.0.before_text(before, after)
    }

    /// Returns what was held back, at the end of the answer.
    pub fn finish(&mut self) -> Bytes {
        self.0.finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::inference::field_values::MAX_HELD;

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
    fn a_character_that_arrives_byte_by_byte_stays_whole() {
        let answer = "data: {\"model\":\"org/模型\",\"text\":\"模型 😀\"}\n\n";
        for size in 1..answer.len() {
            let mut names = ModelNames::new("org/模型", "公開");
            let pieces = answer.as_bytes().chunks(size);
            let mut all: Vec<u8> = pieces.flat_map(|piece| names.feed(Bytes::copy_from_slice(piece))).collect();
            all.extend(names.finish());
            assert_eq!(String::from_utf8(all).unwrap(), answer.replacen("org/模型", "公開", 1), "pieces of {size}");
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
