//! Changes of headers that an endpoint picker asks for.
//!
//! Source: Envoy, `HeaderMutation` and `HeaderValueOption` as `ext_proc` reads them: a header replaces those of the
//! same name unless it says otherwise. What frames a message, belongs to one connection, names the host, or stands for
//! the first line of a message is not a picker's to change.

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};

use super::messages::{HeaderMutation, HeaderValueOption};
use kthena_router_upstream::headers::is_free;

/// What becomes of headers that have the name of a given one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Append,
    AddIfAbsent,
    Overwrite,
    OverwriteIfPresent,
}

/// Applies changes to headers.
pub(crate) fn apply(mutation: &HeaderMutation, headers: &mut HeaderMap) {
    for name in mutation.remove_headers.iter().filter_map(|name| free(name)) {
        headers.remove(name);
    }
    for option in &mutation.set_headers {
        let Some((name, value)) = header(option) else { continue };
        let present = headers.contains_key(&name);
        match action(option) {
            Action::Append => {
                headers.append(name, value);
            }
            Action::AddIfAbsent if present => {}
            Action::OverwriteIfPresent if !present => {}
            Action::AddIfAbsent | Action::Overwrite | Action::OverwriteIfPresent => {
                headers.insert(name, value);
            }
        }
    }
}

/// Returns the last value that is given to a header.
pub(crate) fn value_of<'m>(mutation: &'m HeaderMutation, name: &str) -> Option<&'m str> {
    let headers = mutation.set_headers.iter().filter_map(|option| option.header.as_ref());
    let found = headers.filter(|header| header.key.eq_ignore_ascii_case(name)).last()?;
    std::str::from_utf8(found.bytes()).ok()
}

fn header(option: &HeaderValueOption) -> Option<(HeaderName, HeaderValue)> {
    let header = option.header.as_ref()?;
    Some((free(&header.key)?, HeaderValue::from_bytes(header.bytes()).ok()?))
}

/// Returns the name of a header that a picker may change.
fn free(name: &str) -> Option<HeaderName> {
    let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
    (is_free(&name) && !name.as_str().starts_with("x-envoy-")).then_some(name)
}

fn action(option: &HeaderValueOption) -> Action {
    match (option.append, option.append_action) {
        (Some(true), _) => Action::Append,
        (None, 1) => Action::AddIfAbsent,
        (None, 3) => Action::OverwriteIfPresent,
        (None | Some(false), _) => Action::Overwrite,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::ext_proc::messages;

    fn set(key: &str, value: &str, append: Option<bool>, append_action: i32) -> HeaderValueOption {
        let header = Some(messages::HeaderValue::new(key, value.as_bytes()));
        HeaderValueOption { header, append, append_action }
    }

    #[test]
    fn headers_are_changed_as_the_picker_says() {
        for (case, option, expected) in [
            ("replaced by default", set("X-A", "new", None, 0), vec!["new"]),
            ("appended as wished", set("x-a", "new", Some(true), 0), vec!["old", "new"]),
            ("replaced as wished", set("x-a", "new", Some(false), 0), vec!["new"]),
            ("not added where there is one", set("x-a", "new", None, 1), vec!["old"]),
            ("replaced by the action's name", set("x-a", "new", None, 2), vec!["new"]),
            ("replaced because there is one", set("x-a", "new", None, 3), vec!["new"]),
            ("no name of a header", set("x a", "new", None, 0), vec!["old"]),
            ("no value of a header", set("x-a", "a\nb", None, 0), vec!["old"]),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(HeaderName::from_static("x-a"), HeaderValue::from_static("old"));
            apply(&HeaderMutation { set_headers: vec![option], remove_headers: Vec::new() }, &mut headers);
            let values: Vec<_> = headers.get_all("x-a").iter().map(|value| value.to_str().expect("text")).collect();
            assert_eq!(values, expected, "{case}");
        }
    }

    #[test]
    fn what_is_not_a_pickers_to_change_stays() {
        for name in ["host", "Content-Length", "transfer-encoding", "connection", ":path", ":authority", "x-envoy-a"] {
            let mutation =
                HeaderMutation { set_headers: vec![set(name, "new", None, 0)], remove_headers: vec![name.to_owned()] };
            let mut headers = HeaderMap::new();
            if let Ok(name) = name.parse::<HeaderName>() {
                headers.insert(name, HeaderValue::from_static("old"));
            }
            let before: Vec<_> = headers.iter().map(|(_, value)| value.clone()).collect();
            apply(&mutation, &mut headers);
            let after: Vec<_> = headers.iter().map(|(_, value)| value.clone()).collect();
            assert_eq!(after, before, "{name}");
        }
    }
}
