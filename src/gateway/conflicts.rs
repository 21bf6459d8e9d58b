//! Listeners that cannot be told apart.
//!
//! Source: Gateway API, `GatewaySpec.listeners` and `ListenerSetSpec.listeners`. On one port there can be one protocol,
//! and each hostname once. Among the listeners of one object all that are alike are conflicted, none of them wins; but
//! those of a Gateway have precedence over those of its ListenerSets, and those of an older ListenerSet over those of a
//! younger one. Gateways that share a socket have it in their order: all of them speak the protocol of the first, and
//! may serve one hostname together, unless they would speak TLS on it in different ways.

use std::sync::Arc;

use foldhash::{HashMap, HashMapExt, HashSet};

use super::listeners::{Listener, Protocol};
use super::tls::ListenerTls;
use crate::conditions::{Problem, reason};
use crate::hostname::Hostname;
use crate::object::Bind;

/// The hostnames and protocol that listeners with precedence claim on each port of a Gateway.
#[derive(Debug, Default)]
pub(super) struct Claims<'w> {
    ports: HashMap<u16, (Protocol<'w>, HashSet<Hostname>)>,
}

/// The protocol and TLS settings that Gateways with precedence claim on each socket.
#[derive(Debug, Default)]
pub(super) struct SharedBinds {
    speaks_tls: HashMap<Bind, bool>,
    tls: HashMap<(Bind, Hostname), Arc<ListenerTls>>,
}

impl<'w> Claims<'w> {
    /// Marks those listeners of one object that conflict with each other or with what is claimed, and claims the rest.
    pub(super) fn settle(&mut self, listeners: &mut [Listener<'w>]) {
        for listener in listeners.iter_mut() {
            listener.problems.conflict = self.conflict(listener);
        }
        for listener in listeners.iter().filter(|listener| is_distinguishable(listener)) {
            let (_, hostnames) =
                self.ports.entry(listener.port).or_insert_with(|| (listener.protocol, HashSet::default()));
            hostnames.insert(listener.hostname.clone());
        }
        mark_alike(listeners);
    }

    fn conflict(&self, listener: &Listener<'w>) -> Option<Problem> {
        let (protocol, hostnames) = self.ports.get(&listener.port)?;
        if *protocol != listener.protocol {
            let message = "a listener with precedence has the same port and another protocol";
            Some(Problem::new(reason::PROTOCOL_CONFLICT, message))
        } else if hostnames.contains(&listener.hostname) {
            let message = "a listener with precedence has the same port and hostname";
            Some(Problem::new(reason::HOSTNAME_CONFLICT, message))
        } else {
            None
        }
    }
}

impl SharedBinds {
    /// Claims a socket for a listener, or returns why another Gateway's listener does not leave it to this one.
    pub(super) fn claim(&mut self, bind: Bind, listener: &Listener<'_>, speaks_tls: bool) -> Option<Problem> {
        if *self.speaks_tls.entry(bind).or_insert(speaks_tls) != speaks_tls {
            let message = format!("another Gateway has {bind} with another protocol");
            return Some(Problem::new(reason::PROTOCOL_CONFLICT, message));
        }
        let tls = listener.tls.as_ref()?;
        let known = self.tls.entry((bind, listener.hostname.clone())).or_insert_with(|| Arc::clone(tls));
        let message = || format!("another Gateway has {bind} with the same hostname and other TLS settings");
        (known != tls).then(|| Problem::new(reason::HOSTNAME_CONFLICT, message()))
    }
}

/// Warns of HTTPS listeners of one port of a Gateway that serve one name.
pub(super) fn mark_overlaps(listeners: &mut [Listener<'_>]) {
    let mut by_port: HashMap<u16, Vec<usize>> = HashMap::new();
    for (place, listener) in listeners.iter().enumerate() {
        if listener.protocol == Protocol::Https && listener.problems.conflict.is_none() {
            by_port.entry(listener.port).or_default().push(place);
        }
    }
    for places in by_port.values().filter(|places| places.len() > 1) {
        for place in places {
            let hostname = &listeners[*place].hostname;
            let mut others = places.iter().filter(|other| *other != place).map(|other| &listeners[*other].hostname);
            if others.any(|other| hostname.intersection(other).is_some()) {
                let message = "another HTTPS listener of the port serves some of the hostnames";
                listeners[*place].problems.overlap = Some(Problem::new(reason::OVERLAPPING_HOSTNAMES, message));
            }
        }
    }
}

/// Marks the listeners of one object that are alike.
fn mark_alike(listeners: &mut [Listener<'_>]) {
    if listeners.len() < 2 {
        return;
    }
    let mut protocols: HashMap<u16, Protocol<'_>> = HashMap::with_capacity(listeners.len());
    let mut mixed: HashSet<u16> = HashSet::default();
    let mut counts: HashMap<(u16, Hostname), usize> = HashMap::with_capacity(listeners.len());
    for listener in listeners.iter().filter(|listener| is_distinguishable(listener)) {
        if *protocols.entry(listener.port).or_insert(listener.protocol) != listener.protocol {
            mixed.insert(listener.port);
        }
        *counts.entry((listener.port, listener.hostname.clone())).or_default() += 1;
    }
    for listener in listeners.iter_mut().filter(|listener| is_distinguishable(listener)) {
        if mixed.contains(&listener.port) {
            let message = "another listener has the same port and another protocol";
            listener.problems.conflict = Some(Problem::new(reason::PROTOCOL_CONFLICT, message));
        } else if counts.get(&(listener.port, listener.hostname.clone())).is_some_and(|count| *count > 1) {
            let message = "another listener has the same port and hostname";
            listener.problems.conflict = Some(Problem::new(reason::HOSTNAME_CONFLICT, message));
        }
    }
}

/// Returns whether a listener can conflict with others: only if it could be served at all.
fn is_distinguishable(listener: &Listener<'_>) -> bool {
    listener.problems.conflict.is_none() && listener.protocol.is_served() && listener.port > 0
}
