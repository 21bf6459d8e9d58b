//! The TLS configurations of the listeners, as handshakes find them: by bind and server name.
//!
//! Source: Gateway API, `Listener.hostname`: of the listeners of a port whose hostname covers a name, the most specific
//! one takes it: the exact one, else the longest wildcard, else the one without a hostname. The table is swapped as a
//! whole; established connections live on with what they began with.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use kthena_router::gateway::hostname::Hostname;
use kthena_router::object::Bind;
use rustls::ServerConfig;

/// The TLS configurations of all binds.
#[derive(Debug, Default)]
pub struct TlsTable(HashMap<Bind, NameTable>);

/// The TLS configurations of one bind.
#[derive(Debug, Default)]
pub struct NameTable {
    exact: HashMap<String, Arc<ServerConfig>>,
    /// By suffix, which begins with a dot.
    wildcard: HashMap<String, Arc<ServerConfig>>,
    any: Option<Arc<ServerConfig>>,
}

/// Where handshakes find the table of the moment.
#[derive(Clone, Debug, Default)]
pub struct TlsReader(Arc<ArcSwap<TlsTable>>);

impl TlsReader {
    /// Returns the table of this moment.
    pub(crate) fn load(&self) -> Guard<Arc<TlsTable>> {
        self.0.load()
    }

    /// Puts a table in place of the last; only its one writer does so.
    pub(super) fn store(&self, table: TlsTable) {
        self.0.store(Arc::new(table));
    }
}

impl TlsTable {
    /// Adds a bind, unless it is there: one of whose listeners none is usable refuses every name.
    pub(super) fn open(&mut self, bind: Bind) -> &mut NameTable {
        self.0.entry(bind).or_default()
    }

    /// Returns the configurations of a bind; none when no listener has to do with it.
    pub(crate) fn of(&self, bind: Bind) -> Option<&NameTable> {
        self.0.get(&bind)
    }
}

impl NameTable {
    /// Adds a listener; the first one of a hostname stays.
    pub(super) fn add(&mut self, hostname: &Hostname, config: Arc<ServerConfig>) {
        match hostname {
            Hostname::Exact(name) => {
                self.exact.entry(name.clone()).or_insert(config);
            }
            Hostname::Wildcard(suffix) => {
                self.wildcard.entry(suffix.clone()).or_insert(config);
            }
            Hostname::Any => {
                self.any.get_or_insert(config);
            }
        }
    }

    /// Returns the configuration for a server name, in lower case; without one, that of the listener without hostname.
    pub(crate) fn find(&self, name: Option<&str>) -> Option<&Arc<ServerConfig>> {
        let Some(name) = name else { return self.any.as_ref() };
        let suffixes = || name.match_indices('.').map(|(dot, _)| &name[dot..]).filter(|suffix| suffix.len() < name.len());
        let wildcard = || suffixes().find_map(|suffix| self.wildcard.get(suffix));
        self.exact.get(name).or_else(wildcard).or(self.any.as_ref())
    }
}
