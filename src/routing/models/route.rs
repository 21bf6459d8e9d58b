//! A ModelRoute, compiled once when it is observed: its predicates as matchers, its regular expressions built.
//!
//! Source: the ModelRoute API. The rules are tried in order, and the first whose predicates all hold applies. Regular
//! expressions are searched for anywhere in the value, as the Go router does; `^` and `$` anchor them.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::kinds::faults::{Fault, compile_regex, model_route_faults};
use crate::kinds::model_route::{ModelMatch, ModelRouteSpec, RouteRule, StringMatch, TargetModel};
use crate::object::ObjectKey;
use crate::pool::session::SessionKeys;
use crate::rate_limit::RateLimits;
use crate::record::Record;
use crate::request_head::RequestHead;
use crate::routing::priority;
use crate::routing::text_matcher::{TextMatcher, ValueMatcher};

/// A ModelRoute as the router keeps it.
#[derive(Clone, Debug)]
pub struct Route {
    /// The object.
    pub key: ObjectKey,
    /// The API server's records of it.
    pub record: Record,
    /// The object's spec.
    pub spec: ModelRouteSpec,
    /// The model name that the route serves, if it serves more than LoRA adapters.
    pub model: Option<Arc<str>>,
    /// The LoRA adapters that the route serves.
    pub adapters: Vec<Arc<str>>,
    /// How many requests there may be, and how many tokens they may use, if that is limited.
    pub limits: Option<Arc<RateLimits>>,
    /// Where the key of a request's client is looked for, if each client has limits of its own.
    pub clients: Option<SessionKeys>,
    /// How important its requests are by its annotation, or what is wrong with that, which counts as 0.
    pub priority: Result<i32, String>,
    /// The objects that `spec.parentRefs` name, in their order.
    pub parents: Vec<ObjectKey>,
    /// The compiled rules, or why the spec cannot be used.
    pub rules: Result<Vec<CompiledRule>, Vec<Fault>>,
}

/// One rule of a ModelRoute.
#[derive(Clone, Debug)]
pub struct CompiledRule {
    pub(super) headers: Vec<ValueMatcher>,
    pub(super) uri: Option<TextMatcher>,
    pub(super) body_model: Option<String>,
    /// The rule's targets in the order of the spec.
    pub targets: Vec<RuleTarget>,
}

/// One target of a rule, by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleTarget {
    /// The backend that the target names.
    pub backend: BackendName,
    /// The target's weight, 0 to 100.
    pub weight: u32,
}

/// The backend that a target names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackendName {
    /// A ModelServer of the route's namespace.
    ModelServer(ObjectKey),
    /// An ExternalModelProvider of the route's namespace.
    ExternalModelProvider(ObjectKey),
}

impl Route {
    /// Compiles a ModelRoute; faults of its spec are kept, not returned, because they are reported by condition.
    pub fn compile(
        key: ObjectKey,
        record: Record,
        spec: ModelRouteSpec,
        annotations: Option<&BTreeMap<String, String>>,
    ) -> Self {
        let faults = model_route_faults(&spec);
        let rules = if faults.is_empty() { compile_rules(&key, &spec) } else { Err(faults) };
        let model = spec.served_model().map(Arc::from);
        let parents = spec.parent_refs.iter();
        let parents = parents.map(|parent| key.referred(parent.namespace.as_deref(), &parent.name)).collect();
        let adapters = spec.lora_adapters.iter().map(|name| Arc::from(name.as_str())).collect();
        let limits = spec.rate_limit.as_ref().and_then(|limit| RateLimits::of(&key, model.as_ref(), limit));
        let clients = spec.rate_limit.as_ref().and_then(|limit| limit.per_client.as_ref());
        let clients = clients.map(|clients| SessionKeys::of(&clients.sources));
        let (limits, priority) = (limits.map(Arc::new), priority::of(annotations));
        Self { limits, clients, priority, key, record, spec, model, adapters, parents, rules }
    }
}

impl CompiledRule {
    /// Returns whether every predicate of the rule holds for a request of `model`.
    pub fn matches(&self, head: &RequestHead<'_>, model: &str) -> bool {
        self.body_model.as_deref().is_none_or(|required| required == model)
            && self.uri.as_ref().is_none_or(|uri| uri.matches(head.path))
            && self.has_headers(head)
    }

    /// Returns whether the headers of a request are what the rule wants.
    pub(super) fn has_headers(&self, head: &RequestHead<'_>) -> bool {
        self.headers.iter().all(|header| header.is_in_headers(head))
    }
}

fn compile_rules(route: &ObjectKey, spec: &ModelRouteSpec) -> Result<Vec<CompiledRule>, Vec<Fault>> {
    let rules = spec.rules.iter().enumerate();
    rules.map(|(index, rule)| compile_rule(route, index, rule).map_err(|fault| vec![fault])).collect()
}

fn compile_rule(route: &ObjectKey, index: usize, rule: &RouteRule) -> Result<CompiledRule, Fault> {
    let targets = rule.target_models.iter().map(|target| RuleTarget::of(route, target)).collect();
    let Some(ModelMatch { headers, uri, body }) = &rule.model_match else {
        return Ok(CompiledRule { headers: Vec::new(), uri: None, body_model: None, targets });
    };
    let path = format!("spec.rules[{index}].modelMatch");
    let headers = headers.iter().map(|(name, spec)| {
        let value = text_matcher(&format!("{path}.headers.{name}"), spec)?;
        Ok(ValueMatcher { name: name.to_ascii_lowercase(), value })
    });
    let headers = headers.collect::<Result<_, Fault>>()?;
    let uri = uri.as_ref().map(|uri| text_matcher(&format!("{path}.uri"), uri)).transpose()?;
    let body_model = body.as_ref().and_then(|body| body.model.clone());
    Ok(CompiledRule { headers, uri, body_model, targets })
}

fn text_matcher(path: &str, spec: &StringMatch) -> Result<TextMatcher, Fault> {
    let StringMatch { exact, prefix, regex } = spec;
    Ok(match (exact, prefix, regex) {
        (Some(exact), _, _) => TextMatcher::Exact(exact.clone()),
        (_, Some(prefix), _) => TextMatcher::Prefix(prefix.clone()),
        (_, _, Some(pattern)) => {
            let regex = compile_regex(pattern);
            TextMatcher::Regex(regex.map_err(|message| Fault { path: format!("{path}.regex"), message })?)
        }
        // A matcher without any field accepts every value.
        (None, None, None) => TextMatcher::Prefix(String::new()),
    })
}

impl RuleTarget {
    fn of(route: &ObjectKey, target: &TargetModel) -> Self {
        let backend = match target.external_model_provider() {
            Some(provider) => BackendName::ExternalModelProvider(route.referred(None, provider)),
            None => BackendName::ModelServer(route.referred(None, target.model_server().unwrap_or_default())),
        };
        Self { backend, weight: target.weight }
    }
}
