//! One rule of an HTTPRoute, compiled.
//!
//! Source: Gateway API, `HTTPRouteRule`. A rule with a fault goes on to match, because the requests must not fall to
//! rules that were not meant for them; it answers 500.

use std::sync::Arc;
use std::time::Duration;

use super::backend_reference::BackendReference;
use super::faults::Faults;
use super::filters::Filters;
use super::predicate::{PathMatcher, Predicate};
use crate::kinds::duration::parse_gateway_duration;
use crate::kinds::http_route::{HttpBackendRef, HttpRouteRetry, HttpRouteRule, HttpRouteTimeouts};
use crate::object::ObjectKey;
use crate::pool::retry::RetryPolicy;

/// The most matches of a rule.
const MAX_MATCHES: usize = 64;

/// The most backends of a rule.
const MAX_BACKENDS: usize = 16;

/// The largest weight of a backend.
const MAX_WEIGHT: i64 = 1_000_000;

/// The retries of a rule that asks for them without a number: the default of the definitions since v1.7, which the API
/// server fills in. Earlier releases leave it open.
const DEFAULT_ATTEMPTS: u32 = 1;

/// The pause before a retry where the rule has none.
const DEFAULT_BACKOFF: Duration = Duration::from_millis(25);

/// A rule.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Its name.
    pub name: Option<Arc<str>>,
    /// Which requests fall under it: those of any of these.
    pub(super) matches: Vec<Arc<Predicate>>,
    /// What is done with requests and answers.
    pub filters: Filters,
    /// Where requests go.
    pub backends: Vec<Backend>,
    /// How long requests may take.
    pub timeouts: Timeouts,
    /// Which requests are tried again; absent leaves that to the pool.
    pub retry: Option<RetryPolicy>,
    /// Whether it can be used; otherwise it has no filters and answers 500.
    pub is_valid: bool,
}

/// A backend and its share of the requests.
#[derive(Clone, Debug)]
pub struct Backend {
    /// The backend.
    pub reference: BackendReference,
    /// Its share, as a part of the sum of all weights.
    pub weight: u32,
    /// What is done with its requests and answers, after what the rule does.
    pub filters: Filters,
}

/// How long requests may take; `None` is for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timeouts {
    /// From the request to the end of the answer, with all attempts.
    pub request: Option<Duration>,
    /// Each attempt, from the request to the end of the answer.
    pub backend_request: Option<Duration>,
}

impl Rule {
    /// Compiles the rule of `route` with this place.
    pub(super) fn compile(route: &ObjectKey, place: usize, spec: &HttpRouteRule, faults: &mut Faults) -> Self {
        let path = format!("spec.rules[{place}]");
        let matches = matches(&format!("{path}.matches"), spec, faults);
        let filters = Filters::compile(&format!("{path}.filters"), &spec.filters, route, faults);
        faults.at_most(MAX_BACKENDS, spec.backend_refs.len(), format!("{path}.backendRefs"));
        let backends = spec.backend_refs.iter().enumerate();
        let backends = backends
            .map(|(index, spec)| Backend::compile(&format!("{path}.backendRefs[{index}]"), spec, route, faults))
            .collect();
        let timeouts = spec.timeouts.as_ref().map(|spec| Timeouts::compile(&format!("{path}.timeouts"), spec, faults));
        let retry = spec.retry.as_ref().map(|spec| retry_policy(&format!("{path}.retry"), spec, faults));
        let name = spec.name.as_deref().map(Arc::from);
        let timeouts = timeouts.unwrap_or_default();
        let mut rule = Self { name, matches, filters, backends, timeouts, retry, is_valid: true };
        rule.check_filters(&path, faults);
        if !faults.found.is_empty() {
            rule.is_valid = false;
            rule.filters = Filters::default();
            for backend in &mut rule.backends {
                backend.filters = Filters::default();
            }
        }
        rule
    }

    /// Checks filters against the rest of the rule.
    fn check_filters(&self, path: &str, faults: &mut Faults) {
        if self.filters.redirect.is_some() && !self.backends.is_empty() {
            faults.incompatible(format!("{path}.filters"), "`RequestRedirect` excludes `backendRefs`");
        }
        let mut filters = std::iter::once(&self.filters).chain(self.backends.iter().map(|backend| &backend.filters));
        let is_prefix = |predicate: &Arc<Predicate>| matches!(predicate.path, PathMatcher::Prefix(_));
        if filters.any(Filters::replaces_prefix) && !self.matches.iter().all(is_prefix) {
            faults
                .incompatible(format!("{path}.filters"), "`ReplacePrefixMatch` takes matches of the type `PathPrefix`");
        }
    }

    /// Returns every backend that the rule names: those that get requests, and those that get copies.
    pub fn references(&self) -> impl Iterator<Item = &BackendReference> {
        let backends = self.backends.iter();
        let targets = backends.clone().map(|backend| &backend.reference);
        let filters = std::iter::once(&self.filters).chain(backends.map(|backend| &backend.filters));
        targets.chain(filters.flat_map(|filters| filters.mirrors.iter().map(|mirror| &mirror.reference)))
    }
}

impl Backend {
    fn compile(path: &str, spec: &HttpBackendRef, route: &ObjectKey, faults: &mut Faults) -> Self {
        let HttpBackendRef { group, kind, name, namespace, port, weight, filters } = spec;
        let weight = weight.unwrap_or(1);
        if !(0..=MAX_WEIGHT).contains(&weight) {
            faults.unsupported(format!("{path}.weight"), format!("must be between 0 and {MAX_WEIGHT}"));
        }
        let object = route.referred(namespace.as_deref(), name);
        Self {
            reference: BackendReference { group: group.clone(), kind: kind.clone(), object, port: *port },
            weight: u32::try_from(weight).unwrap_or_default(),
            filters: Filters::compile(&format!("{path}.filters"), filters, route, faults),
        }
    }
}

impl Timeouts {
    fn compile(path: &str, spec: &HttpRouteTimeouts, faults: &mut Faults) -> Self {
        let mut read = |field: &str, text: &Option<String>| {
            let text = text.as_deref()?;
            duration(&format!("{path}.{field}"), text, faults).filter(|duration| !duration.is_zero())
        };
        let (request, backend_request) =
            (read("request", &spec.request), read("backendRequest", &spec.backend_request));
        if let (Some(whole), Some(attempt)) = (request, backend_request)
            && attempt > whole
        {
            faults.unsupported(format!("{path}.backendRequest"), "must not be longer than the timeout of the request");
        }
        Self { request, backend_request }
    }
}

fn retry_policy(path: &str, spec: &HttpRouteRetry, faults: &mut Faults) -> RetryPolicy {
    let attempts = spec.attempts.map(u32::try_from);
    if matches!(attempts, Some(Err(_))) {
        faults.unsupported(format!("{path}.attempts"), "must be 0 or more");
    }
    let mut codes = Vec::with_capacity(spec.codes.len());
    for (index, code) in spec.codes.iter().enumerate() {
        match u16::try_from(*code) {
            Ok(code) if (400..600).contains(&code) => codes.push(code),
            _ => faults.unsupported(format!("{path}.codes[{index}]"), "must be between 400 and 599"),
        }
    }
    let backoff = spec.backoff.as_deref().and_then(|text| duration(&format!("{path}.backoff"), text, faults));
    let attempts = attempts.and_then(Result::ok).unwrap_or(DEFAULT_ATTEMPTS);
    RetryPolicy::of_rule(attempts, codes, backoff.unwrap_or(DEFAULT_BACKOFF))
}

/// Compiles what can be compiled of the matches; without any the rule is for every request.
fn matches(path: &str, spec: &HttpRouteRule, faults: &mut Faults) -> Vec<Arc<Predicate>> {
    faults.at_most(MAX_MATCHES, spec.matches.len(), path);
    if spec.matches.is_empty() {
        return vec![Arc::new(Predicate::default())];
    }
    let matches = spec.matches.iter().enumerate();
    matches
        .filter_map(|(index, spec)| Predicate::compile(&format!("{path}[{index}]"), spec, faults).map(Arc::new))
        .collect()
}

fn duration(path: &str, text: &str, faults: &mut Faults) -> Option<Duration> {
    let read = parse_gateway_duration(text);
    if read.is_none() {
        let message = format!("`{text}` is not a duration such as `10s`, `500ms` or `1h30m`");
        faults.unsupported(path, message);
    }
    read
}
