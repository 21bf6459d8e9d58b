//! Changes of headers.
//!
//! Source: Gateway API, `HTTPHeaderFilter`. Names ignore case. Of several entries of one list with one name the first
//! counts; a name in two of the lists makes the filter invalid. A value that is added follows those that are there.
//! Headers that say how a message is framed or whom its connection belongs to cannot be changed: a filter that did so
//! could make two servers read one stream as different messages.

use super::faults::Faults;
use crate::kinds::http_route::{HttpHeader, HttpHeaderFilter};
use crate::kinds::names::is_header_name;

/// The most entries of each list.
const MAX_HEADERS: usize = 16;

/// The longest value, in characters.
const MAX_VALUE: usize = 4096;

/// Headers that belong to the connection, or to the framing of the message.
const FRAMING: [&str; 9] = [
    "connection",
    "content-length",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Changes of headers; all names are in lower case and differ from each other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderEdits {
    /// Headers whose values are replaced by this one.
    pub set: Vec<(String, String)>,
    /// Headers to whose values this one is appended, after a comma.
    pub add: Vec<(String, String)>,
    /// Headers that are removed.
    pub remove: Vec<String>,
}

/// The headers of a message, as they are changed; names are in lower case.
pub trait HeaderList {
    /// Returns the values of a header, joined by commas; `None` if there is no such header.
    fn joined(&self, name: &str) -> Option<String>;
    /// Gives a header this value instead of all that it has.
    fn set(&mut self, name: &str, value: &str);
    /// Adds a line with this value.
    fn append(&mut self, name: &str, value: &str);
    /// Removes a header.
    fn remove(&mut self, name: &str);
}

impl HeaderEdits {
    /// No change at all.
    pub const NONE: Self = Self { set: Vec::new(), add: Vec::new(), remove: Vec::new() };

    pub(super) fn compile(path: &str, spec: &HttpHeaderFilter, faults: &mut Faults) -> Self {
        let mut edits = Self::default();
        for (list, field, headers) in [(&mut edits.set, "set", &spec.set), (&mut edits.add, "add", &spec.add)] {
            let path = format!("{path}.{field}");
            faults.at_most(MAX_HEADERS, headers.len(), path.as_str());
            for (index, HttpHeader { name, value }) in headers.iter().enumerate() {
                let path = format!("{path}[{index}]");
                check_value(&path, value, faults);
                let name = checked_name(&format!("{path}.name"), name, faults);
                if list.iter().all(|(known, _)| *known != name) {
                    list.push((name, value.clone()));
                }
            }
        }
        faults.at_most(MAX_HEADERS, spec.remove.len(), format!("{path}.remove"));
        for (index, name) in spec.remove.iter().enumerate() {
            let name = checked_name(&format!("{path}.remove[{index}]"), name, faults);
            if !edits.remove.contains(&name) {
                edits.remove.push(name);
            }
        }
        if let Some(name) = edits.twice() {
            faults.unsupported(path, format!("has more than one action for the header `{name}`"));
        }
        edits
    }

    /// Returns whether nothing is changed.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.add.is_empty() && self.remove.is_empty()
    }

    /// Changes the headers of a message.
    pub fn apply(&self, headers: &mut dyn HeaderList) {
        for (name, value) in &self.set {
            headers.set(name, value);
        }
        for (name, value) in &self.add {
            match headers.joined(name) {
                // The one header whose values cannot be joined, by RFC 9110, section 5.3.
                Some(known) if name != "set-cookie" => headers.set(name, &format!("{known},{value}")),
                _ => headers.append(name, value),
            }
        }
        for name in &self.remove {
            headers.remove(name);
        }
    }

    /// Returns a name that is in two of the lists.
    fn twice(&self) -> Option<&str> {
        let removed = |name: &String| self.remove.contains(name);
        let added = |name: &String| self.add.iter().any(|(other, _)| other == name);
        let set = self.set.iter().find(|(name, _)| removed(name) || added(name));
        set.or_else(|| self.add.iter().find(|(name, _)| removed(name))).map(|(name, _)| name.as_str())
    }
}

fn checked_name(path: &str, name: &str, faults: &mut Faults) -> String {
    let lower = name.to_ascii_lowercase();
    if !is_header_name(name) {
        faults.unsupported(path, format!("`{name}` is not the name of a header"));
    } else if lower == "host" {
        faults.unsupported(path, "the header `host` is changed by the hostname of the filter `URLRewrite`");
    } else if FRAMING.contains(&lower.as_str()) {
        faults.unsupported(path, format!("the header `{lower}` belongs to the connection and cannot be changed"));
    }
    lower
}

fn check_value(path: &str, value: &str, faults: &mut Faults) {
    let is_text = value.bytes().all(|byte| byte == b'\t' || (b' '..=b'~').contains(&byte));
    let trimmed = value.trim_matches([' ', '\t']);
    if value.is_empty() || value.chars().count() > MAX_VALUE || !is_text || trimmed.len() < value.len() {
        let message = format!("must have 1 to {MAX_VALUE} characters of ASCII and no space at its ends");
        faults.unsupported(format!("{path}.value"), message);
    }
}
