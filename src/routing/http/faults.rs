//! What is wrong with an HTTPRoute's spec, and how bad that is.
//!
//! Source: Gateway API, `HTTPRouteRule.filters` and `RouteReason`: a value that cannot be used has the reason
//! `UnsupportedValue`, filters that exclude each other have `IncompatibleFilters`. A route whose rules are all invalid
//! is not accepted; one with some of them is `PartiallyInvalid`.

use crate::conditions::reason;
use crate::kinds::Fault;
use crate::kinds::names::is_dns_subdomain;

/// One thing that is wrong with a spec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteFault {
    /// The place of the rule that cannot be used because of it; `None` if it is the whole route.
    pub rule: Option<usize>,
    /// What kind of fault it is, as conditions spell it.
    pub reason: &'static str,
    /// The field, and what is wrong with it.
    pub fault: Fault,
}

/// Collects the faults of one rule, or of the route as a whole, in the order of the fields.
pub(super) struct Faults {
    rule: Option<usize>,
    pub(super) found: Vec<RouteFault>,
}

impl Faults {
    pub(super) fn of_route() -> Self {
        Self { rule: None, found: Vec::new() }
    }

    pub(super) fn of_rule(rule: usize) -> Self {
        Self { rule: Some(rule), found: Vec::new() }
    }

    /// Notes a value that cannot be used.
    pub(super) fn unsupported(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.push(reason::UNSUPPORTED_VALUE, path, message);
    }

    /// Notes filters that exclude each other.
    pub(super) fn incompatible(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.push(reason::INCOMPATIBLE_FILTERS, path, message);
    }

    /// Notes a list that is longer than the API allows.
    pub(super) fn at_most(&mut self, limit: usize, found: usize, path: impl Into<String>) {
        if found > limit {
            self.unsupported(path, format!("at most {limit} entries are allowed, found {found}"));
        }
    }

    fn push(&mut self, reason: &'static str, path: impl Into<String>, message: impl Into<String>) {
        let fault = Fault { path: path.into(), message: message.into() };
        self.found.push(RouteFault { rule: self.rule, reason, fault });
    }
}

/// Checks a hostname that must not be a wildcard.
pub(super) fn precise_hostname(path: &str, name: &str, faults: &mut Faults) -> String {
    if !is_dns_subdomain(name) {
        faults.unsupported(path, format!("`{name}` is not a host name in lower case"));
    }
    name.to_owned()
}
