//! Finds what is kept for a host name, the most specific first.
//!
//! Source: Gateway API, `Listener.hostname` and `HTTPRouteSpec.hostnames`: an exact name goes before wildcards, a
//! longer wildcard before a shorter one, and what is for every host comes last.

use foldhash::HashMap;
use memchr::memchr_iter;

use crate::hostname::Hostname;

/// Something for each of many hostnames.
#[derive(Clone, Debug)]
pub struct HostIndex<T> {
    exact: HashMap<String, T>,
    /// By suffix, which begins with a dot.
    wildcard: HashMap<String, T>,
    /// The length of the longest of these suffixes: a longer part of a host is not looked for.
    longest: usize,
    any: Option<T>,
}

impl<T> Default for HostIndex<T> {
    fn default() -> Self {
        Self { exact: HashMap::default(), wildcard: HashMap::default(), longest: 0, any: None }
    }
}

impl<T> HostIndex<T> {
    /// Returns what is kept for a hostname; what is new is empty.
    pub fn entry(&mut self, hostname: &Hostname) -> &mut T
    where
        T: Default,
    {
        match hostname {
            Hostname::Exact(name) => self.exact.entry(name.clone()).or_default(),
            Hostname::Wildcard(suffix) => {
                self.longest = self.longest.max(suffix.len());
                self.wildcard.entry(suffix.clone()).or_default()
            }
            Hostname::Any => self.any.get_or_insert_default(),
        }
    }

    /// Replaces everything that is kept.
    pub fn map<U>(self, mut make: impl FnMut(T) -> U) -> HostIndex<U> {
        let Self { exact, wildcard, longest, any } = self;
        let any = any.map(&mut make);
        let mut all = |kept: HashMap<String, T>| kept.into_iter().map(|(name, kept)| (name, make(kept))).collect();
        HostIndex { exact: all(exact), wildcard: all(wildcard), longest, any }
    }

    /// Returns what is kept for the most specific hostname that matches `host`, which is in lower case.
    pub fn find(&self, host: &str) -> Option<&T> {
        self.matching(host).next()
    }

    /// Returns what is kept for all hostnames that match `host`, which is in lower case, the most specific first.
    pub fn matching<'s>(&'s self, host: &str) -> impl Iterator<Item = &'s T> {
        let exact = if self.exact.is_empty() { None } else { self.exact.get(host) };
        exact.into_iter().chain(self.wildcards(host)).chain(&self.any)
    }

    /// Returns what is kept for the wildcards that match, the longest first.
    fn wildcards<'s>(&'s self, host: &str) -> impl Iterator<Item = &'s T> {
        // The last place where a dot can be of use; a wildcard does not match its bare suffix.
        let searched = if self.wildcard.is_empty() { 0 } else { host.len() };
        let dots = memchr_iter(b'.', &host.as_bytes()[..searched]).filter(|dot| *dot > 0);
        dots.filter(|dot| host.len() - dot <= self.longest).filter_map(|dot| self.wildcard.get(&host[dot..]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_specific_hostname_leads() {
        let mut index: HostIndex<Vec<&str>> = HostIndex::default();
        for text in ["a.b.example.com", "*.b.example.com", "*.example.com", ""] {
            index.entry(&Hostname::parse(Some(text))).push(text);
        }
        for (host, expected) in [
            ("a.b.example.com", &["a.b.example.com", "*.b.example.com", "*.example.com", ""] as &[&str]),
            ("c.b.example.com", &["*.b.example.com", "*.example.com", ""]),
            ("b.example.com", &["*.example.com", ""]),
            ("example.com", &[""]),
            (".example.com", &[""]),
            ("", &[""]),
        ] {
            assert_eq!(index.matching(host).flatten().copied().collect::<Vec<_>>(), expected, "{host}");
            assert_eq!(index.find(host).and_then(|texts| texts.first()), expected.first(), "{host}");
        }
    }
}
