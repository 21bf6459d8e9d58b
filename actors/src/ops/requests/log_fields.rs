//! The fields of an access log line, and how a line of text writes them.

use serde::Serialize;

/// How many bytes are compared at once.
const LANES: usize = 16;

/// The value of a field.
#[derive(Clone, Copy, Serialize)]
#[serde(untagged)]
pub(super) enum Field<'e> {
    Text(&'e str),
    /// A text that was checked where it comes from: a host, an address.
    Plain(&'e str),
    Number(u64),
}

/// Names and values of fields; those without a value are left out.
pub(super) type Fields<'e, const N: usize> = [(&'static str, Option<Field<'e>>); N];

pub(super) fn write_fields<const N: usize>(line: &mut Vec<u8>, fields: Fields<'_, N>) {
    for (name, field) in fields {
        let Some(field) = field else { continue };
        line.push(b' ');
        line.extend_from_slice(name.as_bytes());
        line.push(b'=');
        match field {
            Field::Text(text) => write_plain(line, text),
            Field::Plain(text) => line.extend_from_slice(text.as_bytes()),
            Field::Number(number) => write_number(line, number),
        }
    }
}

/// Writes a text; one that could be taken for the end of its field or line is quoted.
pub(super) fn write_plain(line: &mut Vec<u8>, text: &str) {
    let (chunks, rest) = text.as_bytes().as_chunks::<LANES>();
    let (mut has_space, mut has_special) = (false, false);
    let mut last = [b'-'; LANES];
    last[..rest.len()].copy_from_slice(rest);
    // A chunk of fixed length without a branch is compared at once, and not byte by byte.
    for chunk in chunks.iter().chain([&last]) {
        has_space |= chunk.iter().fold(false, |found, byte| found | (*byte == b' '));
        has_special |= chunk.iter().fold(false, |found, byte| found | is_special(*byte));
    }
    match (has_special, has_space) {
        (false, false) => line.extend_from_slice(text.as_bytes()),
        (false, true) => {
            line.push(b'"');
            line.extend_from_slice(text.as_bytes());
            line.push(b'"');
        }
        (true, _) => line.extend_from_slice(format!("{text:?}").as_bytes()),
    }
}

/// Returns whether a byte must be escaped, or is not ASCII.
const fn is_special(byte: u8) -> bool {
    (byte < b' ') | (byte > b'~') | (byte == b'"') | (byte == b'\\')
}

pub(super) fn write_number(line: &mut Vec<u8>, number: u64) {
    line.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

pub(super) fn write_numbers<const N: usize>(line: &mut Vec<u8>, parts: [(&str, u64); N]) {
    for (before, number) in parts {
        line.extend_from_slice(before.as_bytes());
        write_number(line, number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_never_ends_its_field_or_line() {
        for (text, expected) in [
            ("plain/model-1", "plain/model-1"),
            ("two words", "\"two words\""),
            ("two words in more than sixteen bytes", "\"two words in more than sixteen bytes\""),
            ("a-model-with-a-long-name-and-\"-in-it", "\"a-model-with-a-long-name-and-\\\"-in-it\""),
            ("a-model-with-\u{7f}-in-it", "\"a-model-with-\\u{7f}-in-it\""),
            ("a\nb", "\"a\\nb\""),
            ("quote\"d", "\"quote\\\"d\""),
            ("ünï", "\"ünï\""),
            ("", ""),
        ] {
            let mut line = Vec::new();
            write_plain(&mut line, text);
            assert_eq!(String::from_utf8_lossy(&line), expected, "{text}");
        }
    }
}
