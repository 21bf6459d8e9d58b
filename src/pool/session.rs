//! Which session a request belongs to, by what its ModelServer says; and which client, by what the limits of its ModelRoute say.
//!
//! Source: `ModelServer.spec.trafficPolicy.sessionSticky` of the Go kthena-router: headers, query parameters, cookies and
//! claims of a bearer token, in the order of the list; the first one that has a value counts. The signature of a token is
//! not checked here: a session says who is asked and not what is allowed.

use std::borrow::Cow;
use std::sync::Arc;

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
use serde_json::Value;

use crate::kinds::model_server::{SessionKeySource, SessionKeySourceKind};
use crate::request_head::Headers;
use crate::request_head::query;

/// The longest key of a session, in bytes; longer ones are no keys.
const MAX_KEY: usize = 4096;

/// Where the key of a request's session is looked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionKeys(Vec<(SessionKeySourceKind, Box<str>)>);

impl SessionKeys {
    /// Reads them.
    pub fn of(sources: &[SessionKeySource]) -> Self {
        let source = |SessionKeySource { kind, name }: &SessionKeySource| match kind {
            SessionKeySourceKind::Header => (*kind, name.to_ascii_lowercase().into()),
            SessionKeySourceKind::Query | SessionKeySourceKind::Cookie | SessionKeySourceKind::JwtClaim => {
                (*kind, name.as_str().into())
            }
        };
        Self(sources.iter().map(source).collect())
    }

    /// Returns the key of a request's session, if it has one.
    pub fn find(&self, headers: &dyn Headers, query: &str) -> Option<Arc<str>> {
        let value = |(kind, name): &(SessionKeySourceKind, Box<str>)| match kind {
            SessionKeySourceKind::Header => first(headers, name, |value| Some(value.trim().to_owned())),
            SessionKeySourceKind::Query => query::first(query, name).map(Cow::into_owned),
            SessionKeySourceKind::Cookie => first(headers, "cookie", |cookies| cookie(cookies, name)),
            SessionKeySourceKind::JwtClaim => first(headers, "authorization", |value| claim(value, name)),
        };
        let is_key = |key: &String| !key.is_empty() && key.len() <= MAX_KEY;
        self.0.iter().filter_map(value).find(is_key).map(Arc::from)
    }
}

/// Returns what is found first in the values of a header.
fn first(headers: &dyn Headers, name: &str, find: impl Fn(&str) -> Option<String>) -> Option<String> {
    let mut found = None;
    headers.any(name, &mut |value| {
        found = find(value);
        found.is_some()
    });
    found
}

/// Returns the value of a cookie: RFC 6265, section 4.2.1.
fn cookie(cookies: &str, name: &str) -> Option<String> {
    let pair = |pair: &str| {
        let (candidate, value) = pair.trim().split_once('=')?;
        (candidate == name).then(|| value.trim_matches('"').to_owned())
    };
    cookies.split(';').find_map(pair)
}

/// Returns a claim of a bearer token that is a JWT, if it is a text or a number: RFC 7519, section 3.
fn claim(authorization: &str, name: &str) -> Option<String> {
    let (scheme, token) = authorization.split_once(' ')?;
    let payload = scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().split('.').nth(1))??;
    let decoded = BASE64_URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?;
    let claims: Value = serde_json::from_slice(&decoded).ok()?;
    match claims.get(name)? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Pairs<'a>(&'a [(&'a str, &'a str)]);

    impl Headers for Pairs<'_> {
        fn any(&self, name: &str, test: &mut dyn FnMut(&str) -> bool) -> bool {
            self.0.iter().any(|(candidate, value)| *candidate == name && test(value))
        }
    }

    fn keys(sources: &[(SessionKeySourceKind, &str)]) -> SessionKeys {
        let source =
            |(kind, name): &(SessionKeySourceKind, &str)| SessionKeySource { kind: *kind, name: (*name).into() };
        SessionKeys::of(&sources.iter().map(source).collect::<Vec<_>>())
    }

    #[test]
    fn the_first_source_with_a_value_counts() {
        use SessionKeySourceKind::{Cookie, Header, JwtClaim, Query};
        let all = keys(&[(Header, "X-Sticky-Session"), (Query, "sticky_q"), (Cookie, "sid"), (JwtClaim, "sub")]);
        // {"sub":"user-1","iat":7}
        let token = "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJ1c2VyLTEiLCJpYXQiOjd9.x";
        for (case, headers, query, expected) in [
            ("a header", &[("x-sticky-session", " a "), ("cookie", "sid=c")][..], "sticky_q=b", Some("a")),
            ("an empty header says nothing", &[("x-sticky-session", "")], "sticky_q=b+c", Some("b c")),
            ("a cookie among others", &[("cookie", "a=1; sid=\"c\"; b=2")], "", Some("c")),
            ("a second line of cookies", &[("cookie", "a=1"), ("cookie", "sid=c")], "x=y", Some("c")),
            ("a claim", &[("authorization", token)], "", Some("user-1")),
            ("another scheme", &[("authorization", "Basic dTpw")], "", None),
            ("no token", &[("authorization", "Bearer sk-123.%%.x")], "", None),
            ("nothing", &[], "", None),
        ] {
            assert_eq!(all.find(&Pairs(headers), query).as_deref(), expected, "{case}");
        }
        let number = keys(&[(JwtClaim, "iat")]).find(&Pairs(&[("authorization", token)]), "");
        assert_eq!(number.as_deref(), Some("7"));
        let long = "x".repeat(MAX_KEY + 1);
        assert_eq!(all.find(&Pairs(&[("x-sticky-session", &long)]), ""), None, "nobody hashes a novel");
    }
}
