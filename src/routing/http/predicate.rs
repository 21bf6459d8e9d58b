//! One match of a rule, compiled: what a request must be like.
//!
//! Source: Gateway API, `HTTPRouteMatch` and the types of its fields. Everything that a match says must hold. Exact
//! paths and prefixes are compared as they are written; a prefix consists of whole elements of the path, and a slash at
//! its end makes no difference. Of several entries with one name the first counts; names of headers ignore case, those
//! of parameters do not. Of a repeated header any value may match, of a repeated parameter the first. The API leaves
//! the dialect of regular expressions open: here it is that of the `regex` crate, and the whole value must match.

use regex::Regex;

use super::faults::Faults;
use crate::kinds::compile_regex;
use crate::kinds::http_route::{HttpPathMatch, HttpRouteMatch, HttpValueMatch};
use crate::kinds::names::is_header_name;
use crate::request_head::RequestHead;
use crate::routing::text_matcher::{TextMatcher, ValueMatcher};

/// The longest path, query value and expression, in characters.
const MAX_PATH: usize = 1024;

/// The longest value of a header, in characters.
const MAX_HEADER_VALUE: usize = 4096;

/// The most headers, and the most parameters, of one match.
const MAX_VALUES: usize = 16;

/// The methods that a match can name.
pub(super) const METHODS: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];

/// One match of a rule.
#[derive(Clone, Debug)]
pub(super) struct Predicate {
    /// The condition on the path.
    pub path: PathMatcher,
    /// The method; any if absent.
    pub method: Option<String>,
    /// The conditions on headers, by their names in lower case.
    pub headers: Vec<ValueMatcher>,
    /// The conditions on query parameters.
    pub query: Vec<ValueMatcher>,
}

/// A condition on a path.
#[derive(Clone, Debug)]
pub(super) enum PathMatcher {
    /// It is this one.
    Exact(String),
    /// As a whole it matches this expression.
    Regex(Regex),
    /// It begins with the elements of this one, which has no slash at its end and is empty for `/`.
    Prefix(String),
}

impl Default for Predicate {
    /// Returns the match of a rule that has none: every request.
    fn default() -> Self {
        Self { path: PathMatcher::Prefix(String::new()), method: None, headers: Vec::new(), query: Vec::new() }
    }
}

impl Predicate {
    /// Compiles a match; `None` if it has faults.
    pub(super) fn compile(path: &str, spec: &HttpRouteMatch, faults: &mut Faults) -> Option<Self> {
        let before = faults.found.len();
        let default = HttpPathMatch::default();
        let matcher = PathMatcher::compile(&format!("{path}.path"), spec.path.as_ref().unwrap_or(&default), faults);
        if let Some(method) = spec.method.as_deref().filter(|method| !METHODS.contains(method)) {
            faults.unsupported(format!("{path}.method"), format!("`{method}` is not one of {}", METHODS.join(", ")));
        }
        let headers = values(&format!("{path}.headers"), &spec.headers, MAX_HEADER_VALUE, true, faults);
        let query = values(&format!("{path}.queryParams"), &spec.query_params, MAX_PATH, false, faults);
        let matcher = matcher.filter(|_| faults.found.len() == before)?;
        Some(Self { path: matcher, method: spec.method.clone(), headers, query })
    }

    /// Returns whether a request is like that.
    pub(super) fn matches(&self, head: &RequestHead<'_>) -> bool {
        self.method.as_deref().is_none_or(|method| method == head.method)
            && self.path.matches(head.path)
            && self.headers.iter().all(|header| header.is_in_headers(head))
            && self.query.iter().all(|parameter| parameter.is_in_query(head))
    }

    /// Returns whether it says nothing about a request but its path.
    pub(super) fn is_only_path(&self) -> bool {
        self.method.is_none() && self.headers.is_empty() && self.query.is_empty()
    }
}

impl PathMatcher {
    fn compile(path: &str, spec: &HttpPathMatch, faults: &mut Faults) -> Option<Self> {
        let value = spec.value.as_deref().unwrap_or("/");
        let value_path = format!("{path}.value");
        if value.chars().count() > MAX_PATH {
            faults.unsupported(value_path, format!("at most {MAX_PATH} characters are allowed"));
            return None;
        }
        match spec.kind.as_deref().unwrap_or("PathPrefix") {
            "RegularExpression" => whole_regex(value, value_path, faults).map(Self::Regex),
            "Exact" => literal(value, value_path, faults).map(|exact| Self::Exact(exact.to_owned())),
            "PathPrefix" => {
                literal(value, value_path, faults).map(|prefix| Self::Prefix(without_slash(prefix).to_owned()))
            }
            other => {
                let known = "`Exact`, `PathPrefix` or `RegularExpression`";
                faults.unsupported(format!("{path}.type"), format!("`{other}` is not {known}"));
                None
            }
        }
    }

    /// Returns whether a path is like that.
    pub(super) fn matches(&self, path: &str) -> bool {
        match self {
            Self::Exact(exact) => path == exact,
            Self::Regex(regex) => regex.is_match(path),
            Self::Prefix(prefix) => prefix.is_empty() || after_prefix(path, prefix).is_some(),
        }
    }
}

/// Returns what follows `prefix`, which has no slash at its end, if it consists of the path's first elements.
pub(super) fn after_prefix<'p>(path: &'p str, prefix: &str) -> Option<&'p str> {
    path.strip_prefix(prefix).filter(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Returns the path without the slash at its end.
pub(super) fn without_slash(path: &str) -> &str {
    path.strip_suffix('/').unwrap_or(path)
}

/// Returns whether all characters may stand in a path as they are, as escapes or as slashes.
pub(super) fn is_path_text(text: &str) -> bool {
    let escape = |rest: &[u8]| rest.len() >= 2 && rest[..2].iter().all(u8::is_ascii_hexdigit);
    text.bytes().enumerate().all(|(place, byte)| match byte {
        b'%' => escape(&text.as_bytes()[place + 1..]),
        _ => byte.is_ascii_alphanumeric() || b"-/._~!$&'()*+,;=:@".contains(&byte),
    })
}

/// Returns the text of an exact path or a prefix if it has the form that the API asks for.
fn literal<'p>(text: &'p str, path: String, faults: &mut Faults) -> Option<&'p str> {
    let has_any = |parts: &[&str]| parts.iter().any(|part| text.contains(part));
    let fault = if !text.starts_with('/') {
        "must begin with `/`"
    } else if has_any(&["//", "%2f", "%2F"]) {
        "must not contain `//` or `%2f`"
    } else if text.split('/').any(|segment| matches!(segment, "." | "..")) {
        "must not contain the segments `.` and `..`"
    } else if !is_path_text(text) {
        "has characters that must be written as escapes such as `%20`"
    } else {
        return Some(text);
    };
    faults.unsupported(path, format!("the path `{text}` {fault}"));
    None
}

/// Compiles an expression that has to match a value as a whole.
fn whole_regex(pattern: &str, path: String, faults: &mut Faults) -> Option<Regex> {
    // It is compiled as it is first: `a)(b` is no expression, but would become one between parentheses.
    let compiled = compile_regex(pattern).and_then(|_| compile_regex(&format!("^(?:{pattern})$")));
    compiled.map_err(|message| faults.unsupported(path, message)).ok()
}

fn values(
    path: &str,
    specs: &[HttpValueMatch],
    longest: usize,
    of_headers: bool,
    faults: &mut Faults,
) -> Vec<ValueMatcher> {
    faults.at_most(MAX_VALUES, specs.len(), path);
    let mut matchers: Vec<ValueMatcher> = Vec::with_capacity(specs.len());
    for (index, spec) in specs.iter().enumerate() {
        let name = if of_headers { spec.name.to_ascii_lowercase() } else { spec.name.clone() };
        let path = format!("{path}[{index}]");
        let Some(value) = value(&path, spec, longest, faults) else { continue };
        if matchers.iter().all(|known| known.name != name) {
            matchers.push(ValueMatcher { name, value });
        }
    }
    matchers
}

fn value(path: &str, spec: &HttpValueMatch, longest: usize, faults: &mut Faults) -> Option<TextMatcher> {
    let HttpValueMatch { kind, name, value } = spec;
    if !is_header_name(name) {
        faults.unsupported(format!("{path}.name"), format!("`{name}` is not the name of a header or parameter"));
    }
    let value_path = format!("{path}.value");
    if value.is_empty() || value.chars().count() > longest {
        faults.unsupported(value_path, format!("must have 1 to {longest} characters"));
        return None;
    }
    match kind.as_deref().unwrap_or("Exact") {
        "Exact" => Some(TextMatcher::Exact(value.clone())),
        "RegularExpression" => whole_regex(value, value_path, faults).map(TextMatcher::Regex),
        other => {
            let message = format!("`{other}` is neither `Exact` nor `RegularExpression`");
            faults.unsupported(format!("{path}.type"), message);
            None
        }
    }
}
