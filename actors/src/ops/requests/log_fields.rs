//! The fields of an access log line, and how a line of text writes them.

use serde::Serialize;

/// Which bytes may stand in a field without quotes. Most texts are so short that a table is quicker than comparisons.
const IS_PLAIN: [bool; 256] = {
    let (mut table, mut byte) = ([false; 256], b'!');
    while byte < 0x7f {
        table[byte as usize] = byte != b'"' && byte != b'\\';
        byte += 1;
    }
    table
};

/// The value of a field.
#[derive(Clone, Copy, Serialize)]
#[serde(untagged)]
pub(super) enum Field<'e> {
    Text(&'e str),
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
            Field::Number(number) => write_number(line, number),
        }
    }
}

/// Writes a text; one that could be taken for the end of its field or line is quoted.
pub(super) fn write_plain(line: &mut Vec<u8>, text: &str) {
    let is_plain = |byte: u8| IS_PLAIN[usize::from(byte)];
    if text.bytes().all(is_plain) {
        line.extend_from_slice(text.as_bytes());
    } else if text.bytes().all(|byte| byte == b' ' || is_plain(byte)) {
        line.push(b'"');
        line.extend_from_slice(text.as_bytes());
        line.push(b'"');
    } else {
        line.extend_from_slice(format!("{text:?}").as_bytes());
    }
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
