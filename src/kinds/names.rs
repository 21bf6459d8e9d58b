//! Which texts Kubernetes and HTTP take as names.
//!
//! Sources: Kubernetes, "Object Names and IDs" and "Labels and Selectors"; RFC 9110, section 5.6.2 for header names.

use std::net::IpAddr;

/// The longest DNS label, and the longest name and value of a label, in bytes.
const MAX_SEGMENT: usize = 63;

/// The longest DNS subdomain, in bytes.
const MAX_SUBDOMAIN: usize = 253;

/// Returns whether the text is a DNS label: up to 63 lower-case letters, digits and inner hyphens.
pub fn is_dns_label(text: &str) -> bool {
    text.len() <= MAX_SEGMENT
        && is_bounded_by_alphanumerics(text)
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

/// Returns whether the text is a DNS subdomain, as most names of objects are: labels joined by dots.
pub fn is_dns_subdomain(text: &str) -> bool {
    let is_part = |part: &str| {
        is_bounded_by_alphanumerics(part)
            && part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    text.len() <= MAX_SUBDOMAIN && text.split('.').all(is_part)
}

/// Returns whether the text is a host name of the Gateway API: a DNS subdomain with or without a leading `*.`, and no IP
/// address.
pub fn is_hostname(text: &str) -> bool {
    let name = text.strip_prefix("*.").unwrap_or(text);
    is_dns_subdomain(name) && name.parse::<IpAddr>().is_err()
}

/// Returns whether the text can be the key of a label: an optional DNS subdomain and a slash, then a name.
pub fn is_label_key(text: &str) -> bool {
    match text.split_once('/') {
        Some((prefix, name)) => is_dns_subdomain(prefix) && is_label_segment(name),
        None => is_label_segment(text),
    }
}

/// Returns whether the text can be the value of a label: empty, or as the name in a label's key.
pub fn is_label_value(text: &str) -> bool {
    text.is_empty() || is_label_segment(text)
}

/// Returns whether the text can be the name of an HTTP header.
pub fn is_header_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

fn is_label_segment(text: &str) -> bool {
    text.len() <= MAX_SEGMENT
        && is_bounded_by_alphanumerics(text)
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

fn is_bounded_by_alphanumerics(text: &str) -> bool {
    let is_bound = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    is_bound(text.as_bytes().first()) && is_bound(text.as_bytes().last())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A property of a name.
    type Property = fn(&str) -> bool;

    #[test]
    fn names_follow_their_grammar() {
        let long = "a".repeat(64);
        let longest = "a".repeat(63);
        let subdomain = [longest.as_str(); 4].join(".");
        let cases: [(&str, Property, &[&str], &[&str]); 5] = [
            ("dns label", is_dns_label, &["a", "a-1", "0", &longest], &["", "A", "a.b", "-a", "a-", "a_b", &long]),
            ("subdomain", is_dns_subdomain, &["a", "a.b-c.d", &long], &["", "a..b", ".a", "a.", "A", &subdomain]),
            (
                "label key",
                is_label_key,
                &["app", "App_1.x", "example.com/app", "app.kubernetes.io/name"],
                &["", "/app", "example.com/", "a/b/c", "-app", "app ", "Example.com/app", &long],
            ),
            ("label value", is_label_value, &["", "v", "V1.2_x-y"], &["-v", "v-", "a b", "a/b", "é", &long]),
            ("header name", is_header_name, &["x-user", "X_User", "a!"], &["", "x user", "x:", "é", "x\n"]),
        ];
        for (case, property, yes, no) in cases {
            for text in yes {
                assert!(property(text), "{case}: {text:?} is one");
            }
            for text in no {
                assert!(!property(text), "{case}: {text:?} is none");
            }
        }
    }
}
