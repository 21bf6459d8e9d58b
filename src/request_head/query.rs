//! The parameters of a query.
//!
//! Source: WHATWG URL, "application/x-www-form-urlencoded parsing", which Go's `url.ParseQuery` follows too: parameters
//! are joined by `&`, a name ends at the first `=`, `+` is a space and `%` begins an escape. Of a repeated parameter
//! the first value counts, as the Gateway API recommends. Escapes that are not valid are left as they are.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

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
    let spaced = text.replace('+', " ");
    let decoded = percent_decode_str(&spaced).decode_utf8();
    decoded.map_or(Cow::Borrowed(text), |decoded| Cow::Owned(decoded.into_owned()))
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
