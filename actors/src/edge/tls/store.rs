//! The TLS configurations of the listeners, as handshakes find them: by bind and server name.
//!
//! Source: Gateway API, `Listener.hostname`: of the listeners of a port whose hostname covers a name, the most specific
//! one takes it: the exact one, else the longest wildcard, else the one without a hostname. The table is swapped as a
//! whole; established connections live on with what they began with.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use kthena_router::gateway::tls::ListenerTls;
use kthena_router::hostname::Hostname;
use kthena_router::object::Bind;
use kthena_router_downstream::{Chosen, TlsIdentity};
use tracing::warn;

use super::TlsError;
use super::listener::listener_config;

/// The TLS configurations of all binds.
#[derive(Debug, Default)]
pub(crate) struct TlsTable(HashMap<Bind, NameTable>);

/// The TLS configurations of one bind.
#[derive(Debug, Default)]
pub(crate) struct NameTable {
    exact: HashMap<String, Chosen>,
    /// By suffix, which begins with a dot.
    wildcard: HashMap<String, Chosen>,
    any: Option<Chosen>,
}

/// Where handshakes find the table of the moment.
#[derive(Clone, Debug)]
pub struct TlsReader(Arc<ArcSwap<TlsTable>>);

/// The one writer of the table.
#[derive(Debug)]
pub struct TlsPublisher {
    shared: Arc<ArcSwap<TlsTable>>,
    /// What the configurations in the table were made of.
    made: HashMap<(Bind, Hostname), Made>,
    /// The identity that was given last.
    last: u64,
}

#[derive(Debug)]
struct Made {
    of: Arc<ListenerTls>,
    chosen: Chosen,
}

/// Says that a handshake was done with the certificate of the port, not with one of a listener.
pub const PORT_IDENTITY: TlsIdentity = TlsIdentity(0);

/// Makes a writer and a reader of an empty table.
pub fn channel() -> (TlsPublisher, TlsReader) {
    let shared = Arc::new(ArcSwap::from_pointee(TlsTable::default()));
    (TlsPublisher { shared: Arc::clone(&shared), made: HashMap::new(), last: PORT_IDENTITY.0 }, TlsReader(shared))
}

impl TlsReader {
    /// Returns the table of this moment.
    pub(crate) fn load(&self) -> Guard<Arc<TlsTable>> {
        self.0.load()
    }

    /// Returns whether a handshake that was done with `identity` is as good as one that is done now for the name
    /// `host`.
    pub(crate) fn is_of(&self, bind: Bind, host: &str, identity: TlsIdentity) -> bool {
        let now = self.load().of(bind).map(|names| names.find(Some(host)).map(|chosen| chosen.identity));
        now.map_or(identity == PORT_IDENTITY, |now| now == Some(identity))
    }
}

impl TlsPublisher {
    /// Publishes the listeners of all binds; new handshakes find them at once.
    ///
    /// A listener that did not change keeps its configuration, and with it its sessions. One that cannot be used
    /// refuses its handshakes.
    pub fn publish<'l>(&mut self, listeners: impl IntoIterator<Item = (Bind, &'l Hostname, &'l Arc<ListenerTls>)>) {
        let mut table = TlsTable::default();
        let mut made = HashMap::new();
        for (bind, hostname, tls) in listeners {
            let names = table.0.entry(bind).or_default();
            let listener = (bind, hostname.clone());
            let known = self.made.remove(&listener);
            match self.chosen(tls, known) {
                Ok(chosen) => {
                    names.add(hostname, chosen.clone());
                    made.insert(listener, Made { of: Arc::clone(tls), chosen });
                }
                Err(error) => {
                    let error: &dyn std::error::Error = &error;
                    warn!(%bind, ?hostname, error, "listener cannot serve tls");
                }
            }
        }
        self.made = made;
        self.shared.store(Arc::new(table));
    }

    /// Returns what a listener's handshakes are done with. Its identity stays the same while it asks the same of
    /// clients: connections that were made with another certificate of it may go on.
    fn chosen(&mut self, tls: &Arc<ListenerTls>, known: Option<Made>) -> Result<Chosen, TlsError> {
        let identity = match known {
            Some(known) if known.of == *tls => return Ok(known.chosen),
            Some(known) if known.of.validation == tls.validation => known.chosen.identity,
            _ => {
                self.last += 1;
                TlsIdentity(self.last)
            }
        };
        Ok(Chosen { config: listener_config(tls)?, identity })
    }
}

impl TlsTable {
    /// Returns the configurations of a bind; none when no listener has to do with it.
    pub(crate) fn of(&self, bind: Bind) -> Option<&NameTable> {
        self.0.get(&bind)
    }
}

impl NameTable {
    /// Adds a listener; the first one of a hostname stays.
    fn add(&mut self, hostname: &Hostname, chosen: Chosen) {
        match hostname {
            Hostname::Exact(name) => {
                self.exact.entry(name.clone()).or_insert(chosen);
            }
            Hostname::Wildcard(suffix) => {
                self.wildcard.entry(suffix.clone()).or_insert(chosen);
            }
            Hostname::Any => {
                self.any.get_or_insert(chosen);
            }
        }
    }

    /// Returns the configuration for a server name, in lower case; without one, that of the listener without hostname.
    pub(crate) fn find(&self, name: Option<&str>) -> Option<&Chosen> {
        let Some(name) = name else { return self.any.as_ref() };
        let suffixes =
            || name.match_indices('.').map(|(dot, _)| &name[dot..]).filter(|suffix| suffix.len() < name.len());
        let wildcard = || suffixes().find_map(|suffix| self.wildcard.get(suffix));
        self.exact.get(name).or_else(wildcard).or(self.any.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;
    use crate::edge::tls::tests::{Authority, serving};

    const BIND: Bind = Bind { address: IpAddr::V4(Ipv4Addr::LOCALHOST), port: 443 };
    const OTHER: Bind = Bind { port: 8443, ..BIND };

    fn hostname(name: &str) -> Hostname {
        Hostname::parse(Some(name))
    }

    #[test]
    fn the_most_specific_listener_takes_a_name() {
        let authority = Authority::new();
        let names = ["a.example.com", "*.example.com", "*.b.example.com", "", "*.com"];
        let listeners = names.map(|name| (hostname(name), serving(&[&authority.certify(&[])], None)));
        let (mut publisher, reader) = channel();
        publisher.publish(listeners.iter().map(|(name, tls)| (BIND, name, tls)));
        publisher.publish(listeners.iter().take(3).map(|(name, tls)| (BIND, name, tls)));
        let few = reader.load();
        let config = |index: usize| publisher.made[&(BIND, listeners[index].0.clone())].chosen.config.clone();
        for (name, expected) in [
            (Some("a.example.com"), Some(0)),
            (Some("x.example.com"), Some(1)),
            (Some("x.y.example.com"), Some(1)),
            (Some("b.example.com"), Some(1)),
            (Some("x.b.example.com"), Some(2)),
            (Some("x.a.example.com"), Some(1)),
            (Some("example.com"), None),
            (Some("other.org"), None),
            (None, None),
        ] {
            let found = few.of(BIND).unwrap().find(name);
            assert!(
                found.map(|found| Arc::as_ptr(&found.config)) == expected.map(|index| Arc::as_ptr(&config(index))),
                "{name:?}"
            );
        }
        publisher.publish(listeners.iter().map(|(name, tls)| (BIND, name, tls)));
        let all = reader.load();
        let any = &publisher.made[&(BIND, Hostname::Any)].chosen.config;
        for name in [None, Some("other.org"), Some("localhost")] {
            assert!(Arc::ptr_eq(&all.of(BIND).unwrap().find(name).unwrap().config, any), "{name:?}");
        }
        assert!(all.of(OTHER).is_none(), "another bind has listeners of its own");
    }

    #[test]
    fn listeners_that_do_not_change_keep_their_configuration() {
        let authority = Authority::new();
        let (one, two) = (authority.certify(&["a.org"]), authority.certify(&["a.org"]));
        let (mut publisher, reader) = channel();
        let (any, of) = (Hostname::Any, |certificate| serving(&[certificate], None));
        let mut published = |bind, certificate| {
            publisher.publish([(bind, &any, &of(certificate))]);
            reader.load().of(bind).and_then(|names| names.find(None)).map(|chosen| Arc::as_ptr(&chosen.config))
        };
        let first = published(BIND, &one);
        assert_eq!(published(BIND, &one), first, "nothing has changed");
        let second = published(BIND, &two);
        assert_ne!(second, first, "the certificate has changed");
        assert_ne!(published(OTHER, &two), second, "the bind has changed");
    }

    #[test]
    fn a_listener_that_cannot_be_used_refuses_names_and_leaves_the_others_alone() {
        let (mut publisher, reader) = channel();
        let (broken, whole) = (serving(&[], None), serving(&[&Authority::new().certify(&[])], None));
        let (broken_name, whole_name) = (hostname("a.org"), hostname("b.org"));
        publisher.publish([(BIND, &broken_name, &broken), (BIND, &whole_name, &whole), (OTHER, &broken_name, &broken)]);
        let table = reader.load();
        assert!(table.of(BIND).unwrap().find(Some("a.org")).is_none());
        assert!(table.of(BIND).unwrap().find(Some("b.org")).is_some());
        assert!(table.of(OTHER).unwrap().find(Some("a.org")).is_none(), "the bind has a listener, if a broken one");
    }
}
