//! The parameters of a query.
//!
//! Source: WHATWG URL, "application/x-www-form-urlencoded parsing", which Go's `url.ParseQuery` follows too: parameters
//! are joined by `&`, a name ends at the first `=`, `+` is a space and `%` begins an escape. Of a repeated parameter
//! the first value counts, as the Gateway API recommends. Escapes that are not valid are left as they are.

use std::borrow::Cow;

/// Returns the value of the first parameter with this name, decoded; empty where it has none.
pub fn first<'q>(query: &'q str, name: &str) -> Option<Cow<'q, str>> {
    query.split('&').find_map(|parameter| {
        let (candidate, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        (!parameter.is_empty() && decode(candidate) == name).then(|| decode(value))
    })
}

/// Decodes a name or a value; one that is not UTF-8 then is left as it is.
fn decode(text: &str) -> Cow<'_, str> {
    if memchr::memchr2(b'%', b'+', text.as_bytes()).is_none() {
        return Cow::Borrowed(text);
    }
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut place = 0;
    while let Some(byte) = bytes.get(place).copied() {
        let escaped = if byte == b'%' { escape(&bytes[place + 1..]) } else { None };
        decoded.push(escaped.unwrap_or(if byte == b'+' { b' ' } else { byte }));
        place += if escaped.is_some() { 3 } else { 1 };
    }
    String::from_utf8(decoded).map_or(Cow::Borrowed(text), Cow::Owned)
}

/// Returns the byte that the two hexadecimal digits at the start mean.
fn escape(digits: &[u8]) -> Option<u8> {
    let digit = |place: usize| digits.get(place).and_then(|byte| char::from(*byte).to_digit(16));
    u8::try_from(digit(0)? * 16 + digit(1)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_value_counts_and_is_decoded() {
        for (query, expected) in [
            ("animal=whale", Some("whale")),
            ("x=1&animal=whale&animal=dog", Some("whale")),
            ("animal=blue+whale%21", Some("blue whale!")),
            ("%61nimal=whale", Some("whale")),
            ("animal=a=b", Some("a=b")),
            ("animal", Some("")),
            ("animal=", Some("")),
            ("animal=100%", Some("100%")),
            ("animal=%zz%4", Some("%zz%4")),
            ("animal=%ff", Some("%ff")),
            ("ANIMAL=whale", None),
            ("animals=whale", None),
            ("&&", None),
            ("", None),
        ] {
            assert_eq!(first(query, "animal").as_deref(), expected, "{query}");
        }
    }
}
