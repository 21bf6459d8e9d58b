//! Hostnames of listeners, and the host that a request names.
//!
//! Source: Gateway API, `Listener.hostname`: an exact name, or a wildcard `*.` in place of one or more leading
//! labels; without one, every host matches. Comparison ignores case, and a request's port is not part of its host.

use std::borrow::Cow;
use std::fmt;

/// The hosts that a listener serves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Hostname {
    /// Exactly this host, in lower case.
    Exact(String),
    /// Every host that ends in this suffix, which begins with a dot and is in lower case: `.example.com`.
    Wildcard(String),
    /// Every host.
    #[default]
    Any,
}

impl Hostname {
    /// Reads a listener's `hostname`; absent and empty mean every host.
    pub fn parse(hostname: Option<&str>) -> Self {
        match hostname.map(str::to_ascii_lowercase) {
            None => Self::Any,
            Some(hostname) if hostname.is_empty() => Self::Any,
            Some(hostname) => match hostname.strip_prefix('*') {
                Some(suffix) => Self::Wildcard(suffix.to_owned()),
                None => Self::Exact(hostname),
            },
        }
    }

    /// Returns whether `host`, as [`request_host`] returns it, is one of these hosts.
    pub fn matches(&self, host: &str) -> bool {
        match self {
            Self::Exact(name) => name == host,
            Self::Wildcard(suffix) => host.len() > suffix.len() && host.ends_with(suffix.as_str()),
            Self::Any => true,
        }
    }

    /// Returns the hosts that match both; `None` if there are none.
    ///
    /// Of two hostnames that have hosts in common one always covers the other.
    pub fn intersection(&self, other: &Self) -> Option<Self> {
        if self.covers(other) { Some(other.clone()) } else { other.covers(self).then(|| self.clone()) }
    }

    fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Any, _) => true,
            (_, Self::Exact(name)) => self.matches(name),
            (Self::Wildcard(suffix), Self::Wildcard(longer)) => longer.ends_with(suffix.as_str()),
            (Self::Exact(_), Self::Wildcard(_)) | (Self::Exact(_) | Self::Wildcard(_), Self::Any) => false,
        }
    }
}

impl fmt::Display for Hostname {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => formatter.write_str(name),
            Self::Wildcard(suffix) => write!(formatter, "*{suffix}"),
            Self::Any => formatter.write_str("*"),
        }
    }
}

/// Returns the host of a `Host` header or authority: without port, IPv6 brackets and trailing dot, in lower case.
pub fn request_host(authority: &str) -> Cow<'_, str> {
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or(rest, |(address, _)| address),
        None => &authority[..memchr::memchr(b':', authority.as_bytes()).unwrap_or(authority.len())],
    };
    let host = host.strip_suffix('.').unwrap_or(host);
    if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn wildcards_match_one_or_more_labels_but_not_the_bare_suffix() {
        let wildcard = Hostname::parse(Some("*.Example.com"));
        for (host, expected) in [
            ("a.example.com", true),
            ("a.b.example.com", true),
            ("example.com", false),
            (".example.com", false),
            ("aexample.com", false),
            ("a.example.com.evil.org", false),
        ] {
            assert_eq!(wildcard.matches(host), expected, "{host}");
        }
    }

    #[test]
    fn the_host_of_a_request_is_found_in_every_spelling() {
        for (authority, expected) in [
            ("example.com", "example.com"),
            ("Example.COM:8080", "example.com"),
            ("example.com.", "example.com"),
            ("[::1]:8080", "::1"),
            ("[::1]", "::1"),
            ("127.0.0.1:80", "127.0.0.1"),
            ("", ""),
        ] {
            assert_eq!(request_host(authority), expected, "{authority}");
        }
    }

    #[test]
    fn an_absent_hostname_matches_every_host() {
        assert!(Hostname::parse(None).matches("anything"));
        assert!(Hostname::parse(Some("")).matches(""));
        assert!(!Hostname::parse(Some("a.org")).matches("b.org"));
    }

    #[test]
    fn hostnames_intersect_where_one_covers_the_other() {
        for (first, second, expected) in [
            ("a.org", "a.org", Some("a.org")),
            ("a.org", "b.org", None),
            ("a.org", "*.org", Some("a.org")),
            ("a.b.org", "*.org", Some("a.b.org")),
            ("b.org", "*.b.org", None),
            ("*.b.org", "*.org", Some("*.b.org")),
            ("*.b.org", "*.c.org", None),
            ("*.ab.org", "*.b.org", None),
            ("", "*.org", Some("*.org")),
            ("", "a.org", Some("a.org")),
            ("", "", Some("*")),
        ] {
            let common = Hostname::parse(Some(first)).intersection(&Hostname::parse(Some(second)));
            assert_eq!(common.map(|common| common.to_string()).as_deref(), expected, "{first}, {second}");
        }
    }

    /// Makes hostnames of few labels, so that many have hosts in common.
    fn hostname() -> impl Strategy<Value = Hostname> {
        "(\\*\\.)?([ab]\\.){0,2}[ab]|".prop_map(|text| Hostname::parse(Some(&text)))
    }

    proptest! {
        #[test]
        fn intersection_commutes_and_has_the_hosts_of_both(
            first in hostname(), second in hostname(), hosts in proptest::collection::vec("([ab]\\.){0,3}[ab]", 1..16),
        ) {
            let common = first.intersection(&second);
            prop_assert_eq!(&common, &second.intersection(&first));
            for host in hosts {
                let expected = first.matches(&host) && second.matches(&host);
                let found = common.as_ref().is_some_and(|common| common.matches(&host));
                prop_assert_eq!(found, expected, "{}", host);
            }
        }
    }
}
