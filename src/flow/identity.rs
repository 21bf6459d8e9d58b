//! Whose request it is: the flow that it belongs to.
//!
//! The first of these that a request has: the fairness id by which a gateway or a client names the flow, the subject
//! of a JSON Web Token, the API key. No more than a hash of it is kept. A token is not verified here: whoever may send
//! any fairness id gains nothing by inventing a subject.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

use crate::inference::prompt::BlockHash;

/// The headers that name a flow, in lower case, the one that counts first.
pub const FAIRNESS_HEADERS: [&str; 2] = ["x-llm-d-inference-fairness-id", "x-gateway-inference-fairness-id"];

/// The headers that have an API key, in lower case.
const KEY_HEADERS: [&str; 2] = ["x-api-key", "api-key"];

/// The longest token that is looked into, in bytes.
const LONGEST_TOKEN: usize = 16 * 1024;

/// A flow within a band: requests that share one turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FlowId(pub u64);

/// What is read of a JSON Web Token.
#[derive(Deserialize)]
struct Claims {
    sub: String,
}

impl FlowId {
    /// The flow of requests that say nothing of whose they are.
    pub const NOBODY: Self = Self(0);

    /// Returns the flow of a request; `header` returns the value of a header.
    pub fn of<'h>(header: impl Fn(&'static str) -> Option<&'h [u8]>) -> Self {
        let given = |name: &&'static str| header(name).filter(|value| !value.is_empty());
        if let Some(id) = FAIRNESS_HEADERS.iter().find_map(given) {
            return Self::hash(b"id", id);
        }
        if let Some(credentials) = given(&"authorization") {
            return match subject(credentials) {
                Some(subject) => Self::hash(b"sub", subject.as_bytes()),
                None => Self::hash(b"key", bearer(credentials).unwrap_or(credentials)),
            };
        }
        KEY_HEADERS.iter().find_map(given).map_or(Self::NOBODY, |key| Self::hash(b"key", key))
    }

    /// Returns what a session is known by.
    pub fn of_session(name: &[u8]) -> Self {
        Self::hash(b"session", name)
    }

    fn hash(kind: &[u8], value: &[u8]) -> Self {
        // The two that mean something else are nobody's.
        Self(BlockHash(0).followed_by(kind).followed_by(value).0.clamp(1, u64::MAX - 1))
    }
}

/// Returns what a bearer bears.
fn bearer(credentials: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = credentials.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

/// Returns the subject of a JSON Web Token.
fn subject(credentials: &[u8]) -> Option<String> {
    let token = bearer(credentials).filter(|token| token.len() <= LONGEST_TOKEN)?;
    let mut parts = token.split(|byte| *byte == b'.');
    let (_, claims, _, None) = (parts.next()?, parts.next()?, parts.next()?, parts.next()) else { return None };
    let claims = URL_SAFE_NO_PAD.decode(claims).ok()?;
    serde_json::from_slice::<Claims>(&claims).ok().map(|claims| claims.sub)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(headers: &[(&str, &str)]) -> FlowId {
        FlowId::of(|name| headers.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_bytes()))
    }

    fn token(claims: &str) -> String {
        format!("Bearer e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims))
    }

    #[test]
    fn the_first_name_that_a_request_has_counts() {
        let id = [(FAIRNESS_HEADERS[0], "a"), ("authorization", "Bearer sk-1")];
        assert_eq!(flow(&id), flow(&[(FAIRNESS_HEADERS[1], "a")]), "both names of the header mean the same");
        assert_ne!(flow(&id), flow(&[("authorization", "Bearer a")]), "a key is no fairness id");
        assert_eq!(flow(&[("authorization", "Bearer sk-1")]), flow(&[("x-api-key", "sk-1")]));
        assert_ne!(flow(&[("x-api-key", "sk-1")]), flow(&[("x-api-key", "sk-2")]));
        assert_eq!(flow(&[(FAIRNESS_HEADERS[0], "")]), FlowId::NOBODY);
        assert_eq!(flow(&[]), FlowId::NOBODY);
    }

    #[test]
    fn a_user_stays_the_same_with_another_token() {
        let (first, second) = (token(r#"{"sub":"ann","exp":1}"#), token(r#"{"exp":2,"sub":"ann"}"#));
        assert_eq!(flow(&[("authorization", &first)]), flow(&[("authorization", &second)]));
        for odd in
            [token("{}"), token("no JSON"), "Bearer a.b.c.d".to_owned(), "Bearer ..".to_owned(), "Basic".to_owned()]
        {
            assert_ne!(flow(&[("authorization", &odd)]), flow(&[("authorization", &first)]), "{odd}");
            assert_ne!(flow(&[("authorization", &odd)]), FlowId::NOBODY, "{odd}");
        }
    }

    #[test]
    fn a_name_of_a_megabyte_is_as_good_as_any() {
        let long = "x".repeat(1 << 20);
        assert_ne!(flow(&[(FAIRNESS_HEADERS[0], &long)]), FlowId::NOBODY);
        assert_ne!(flow(&[("authorization", &format!("Bearer {long}"))]), FlowId::NOBODY);
    }
}
