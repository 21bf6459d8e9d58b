//! The parameters of a header's value: `form-data; name="model"`, `multipart/form-data; boundary=x`.
//!
//! Source: RFC 9110, section 5.6.6, with quoted texts as in section 5.6.4.

use std::borrow::Cow;

/// The parameters of a value, one after the other; those that cannot be read end the list with an error.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parameters<'v>(&'v str);

/// A parameter cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unreadable;

impl<'v> Parameters<'v> {
    /// Splits a value into what stands before its parameters, without blanks around it, and these.
    pub(super) fn of(value: &'v str) -> (&'v str, Self) {
        let (first, rest) = value.split_at(value.find(';').unwrap_or(value.len()));
        (first.trim(), Self(rest))
    }

    /// Returns the value of the parameter with this name in lower case, if there is one.
    ///
    /// # Errors
    ///
    /// Returns an error if a parameter cannot be read, or this one occurs twice: others might take the other one.
    pub(super) fn only(self, name: &str) -> Result<Option<Cow<'v, str>>, Unreadable> {
        let mut found = None;
        for parameter in self {
            let (known, value) = parameter?;
            if known.eq_ignore_ascii_case(name) && found.replace(value).is_some() {
                return Err(Unreadable);
            }
        }
        Ok(found)
    }
}

impl<'v> Iterator for Parameters<'v> {
    type Item = Result<(&'v str, Cow<'v, str>), Unreadable>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.0.trim_start_matches([';', ' ', '\t']);
        if rest.is_empty() {
            return None;
        }
        let parameter = parameter(rest);
        self.0 = parameter.as_ref().map_or("", |(.., rest)| rest);
        Some(parameter.map(|(name, value, _)| (name, value)).ok_or(Unreadable))
    }
}

/// Reads the first parameter of a list, and returns what follows it.
fn parameter(text: &str) -> Option<(&str, Cow<'_, str>, &str)> {
    let (name, rest) = text.split_once('=')?;
    let (name, rest) = (name.trim(), rest.trim_start());
    if name.is_empty() || name.contains([' ', '\t', ';', '"']) {
        return None;
    }
    let (value, rest) = match rest.strip_prefix('"') {
        Some(quoted) => quoted_text(quoted)?,
        None => {
            let (value, rest) = rest.split_at(rest.find(';').unwrap_or(rest.len()));
            (Cow::Borrowed(value.trim()), rest)
        }
    };
    let rest = rest.trim_start();
    (rest.is_empty() || rest.starts_with(';')).then_some((name, value, rest))
}

/// Reads a text up to the quote that ends it.
fn quoted_text(text: &str) -> Option<(Cow<'_, str>, &str)> {
    let mut owned = String::new();
    let mut from = 0;
    loop {
        let at = from + text[from..].find(['"', '\\'])?;
        owned.push_str(&text[from..at]);
        if text[at..].starts_with('"') {
            let value = if owned.len() == at { Cow::Borrowed(&text[..at]) } else { Cow::Owned(owned) };
            return Some((value, &text[at + 1..]));
        }
        let escaped = text[at + 1..].chars().next()?;
        owned.push(escaped);
        from = at + 1 + escaped.len_utf8();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_read_as_the_standard_has_them() {
        for (value, name, expected) in [
            ("form-data; name=\"model\"", "name", Ok(Some("model"))),
            ("form-data ;Name = model ; filename=\"a;b=\\\"c\"", "name", Ok(Some("model"))),
            ("form-data; name=x; filename=\"a;b=\\\"c\\\\\"", "filename", Ok(Some("a;b=\"c\\"))),
            ("multipart/form-data; boundary=--x'y; charset=utf-8", "boundary", Ok(Some("--x'y"))),
            ("multipart/form-data", "boundary", Ok(None)),
            ("multipart/form-data;", "boundary", Ok(None)),
            ("a; name=\"\"", "name", Ok(Some(""))),
            ("a; name=x; NAME=y", "name", Err(Unreadable)),
            ("a; name=\"x", "name", Err(Unreadable)),
            ("a; name=\"x\"y", "name", Err(Unreadable)),
            ("a; name=\"x\\", "name", Err(Unreadable)),
            ("a; name", "name", Err(Unreadable)),
            ("a; =x", "name", Err(Unreadable)),
        ] {
            let (_, parameters) = Parameters::of(value);
            assert_eq!(
                parameters.only(name).map(|value| value.map(Cow::into_owned)),
                expected.map(|value| value.map(str::to_owned)),
                "{value}"
            );
        }
        assert_eq!(Parameters::of(" Multipart/Form-Data ; x=y").0, "Multipart/Form-Data");
    }
}
