//! An HTTPRoute, compiled once when it is observed.

use super::faults::Faults;
use crate::hostname::Hostname;
use crate::kinds::HttpRouteSpec;
use crate::kinds::http_route::HttpRouteRule;
use crate::kinds::names::{is_dns_subdomain, is_hostname};
use crate::object::{Kind, ObjectKey};
use crate::record::Record;

pub use super::backend_reference::BackendReference;
pub use super::faults::RouteFault;
pub use super::rule::{Backend, Rule, Timeouts};

/// The most rules, and the most hostnames.
const MAX_ENTRIES: usize = 16;

/// The most matches of all rules together.
const MAX_MATCHES: usize = 128;

/// An HTTPRoute as the router keeps it.
#[derive(Clone, Debug)]
pub struct HttpRoute {
    /// The object.
    pub key: ObjectKey,
    /// What the API server records of it.
    pub record: Record,
    /// The object's spec.
    pub spec: HttpRouteSpec,
    /// The hosts that it is for, those that cannot be read left out; see [`HttpRoute::hostnames_on`].
    pub hostnames: Vec<Hostname>,
    /// The objects that `spec.parentRefs` name, in their order.
    pub parents: Vec<ObjectKey>,
    /// Its rules, in the order of the spec; never empty.
    pub rules: Vec<Rule>,
    /// What is wrong with the spec, in the order of its fields.
    pub faults: Vec<RouteFault>,
}

/// How much of a route can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validity {
    /// All of it.
    Valid,
    /// Some of its rules; the others answer 500.
    Partial,
    /// None of its rules, which all answer 500.
    Invalid,
    /// Nothing: it must not be attached to any listener, since it cannot be said what it is for.
    Unusable,
}

impl HttpRoute {
    /// Compiles an HTTPRoute; faults of its spec are kept, not returned, because they are reported by condition.
    pub fn compile(key: ObjectKey, record: Record, spec: HttpRouteSpec) -> Self {
        let mut faults = Faults::of_route();
        let hostnames = hostnames(&spec, &mut faults);
        check_as_a_whole(&spec, &mut faults);
        let mut faults = faults.found;
        // The API's default for a spec without rules.
        let everything = [HttpRouteRule::default()];
        let specs = if spec.rules.is_empty() { &everything[..] } else { &spec.rules };
        let mut rules = Vec::with_capacity(specs.len());
        for (place, spec) in specs.iter().enumerate() {
            let mut found = Faults::of_rule(place);
            rules.push(Rule::compile(&key, place, spec, &mut found));
            faults.append(&mut found.found);
        }
        let parents = spec.parent_refs.iter();
        let parents = parents.map(|parent| key.referred(parent.namespace.as_deref(), &parent.name)).collect();
        Self { key, record, spec, hostnames, parents, rules, faults }
    }

    /// Returns how much of the route can be used; the [`faults`](Self::faults) say why.
    pub fn validity(&self) -> Validity {
        let usable = self.rules.iter().filter(|rule| rule.is_valid).count();
        if self.faults.iter().any(|fault| fault.rule.is_none()) {
            Validity::Unusable
        } else if usable == self.rules.len() {
            Validity::Valid
        } else if usable > 0 {
            Validity::Partial
        } else {
            Validity::Invalid
        }
    }

    /// Returns the route's own hostnames that have hosts in common with a listener's; none if it gets no request there.
    ///
    /// Source: Gateway API, `HTTPRouteSpec.hostnames`: hostnames of the route that do not intersect with the listener's
    /// are ignored, and a route without hostnames gets every host of the listener. Which route goes first is told by
    /// their own hostnames, and not by what these have in common with the listener's.
    pub fn hostnames_on(&self, listener: &Hostname) -> Vec<Hostname> {
        if self.spec.hostnames.is_empty() {
            return vec![Hostname::Any];
        }
        let mut served: Vec<_> =
            self.hostnames.iter().filter(|hostname| hostname.intersection(listener).is_some()).cloned().collect();
        served.sort_unstable();
        served.dedup();
        served
    }

    /// Returns whether a rule names this object as a backend, or as one that gets copies of requests.
    pub fn refers_to(&self, kind: Kind, object: &ObjectKey) -> bool {
        let mut references = self.rules.iter().flat_map(Rule::references);
        references.any(|reference| reference.object == *object && reference.is_of(kind))
    }
}

fn hostnames(spec: &HttpRouteSpec, faults: &mut Faults) -> Vec<Hostname> {
    faults.at_most(MAX_ENTRIES, spec.hostnames.len(), "spec.hostnames");
    let mut hostnames = Vec::with_capacity(spec.hostnames.len());
    for (index, text) in spec.hostnames.iter().enumerate() {
        if is_hostname(text) {
            hostnames.push(Hostname::parse(Some(text)));
        } else {
            let message = format!("`{text}` is not a host name in lower case, with or without a leading `*.`");
            faults.unsupported(format!("spec.hostnames[{index}]"), message);
        }
    }
    hostnames
}

fn check_as_a_whole(spec: &HttpRouteSpec, faults: &mut Faults) {
    faults.at_most(MAX_ENTRIES, spec.rules.len(), "spec.rules");
    let matches: usize = spec.rules.iter().map(|rule| rule.matches.len()).sum();
    if matches > MAX_MATCHES {
        faults.unsupported("spec.rules", format!("at most {MAX_MATCHES} matches are allowed in all, found {matches}"));
    }
    for (index, rule) in spec.rules.iter().enumerate() {
        let Some(name) = rule.name.as_deref() else { continue };
        let path = format!("spec.rules[{index}].name");
        if !is_dns_subdomain(name) {
            faults.unsupported(path, format!("`{name}` is not a name in lower case"));
        } else if spec.rules[..index].iter().any(|earlier| earlier.name.as_deref() == Some(name)) {
            faults.unsupported(path, format!("`{name}` is the name of an earlier rule"));
        }
    }
}
