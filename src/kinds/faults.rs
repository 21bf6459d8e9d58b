//! Says what is wrong with a ModelRoute or a ModelServer that has the right types.
//!
//! An API server checks the bounds and patterns of the CRD and its CEL rules before the router sees an object, but a
//! directory of YAML has no API server, and no schema can tell whether a regular expression compiles. So every rule of
//! the API is checked here again, on the typed objects: its bounds, and what kthena's admission webhook adds to them.
//! An object with faults is not accepted; its faults become the condition's message.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use regex::{Regex, RegexBuilder};

use super::duration::parse_duration;
use super::model_route::{
    MAX_HEADER_MATCHES, MAX_LORA_ADAPTERS, MAX_MATCHER, MAX_RULES, MAX_TARGETS, MAX_WEIGHT, ModelMatch, ModelRouteSpec,
    PerClient, RateLimit, RouteRule, StringMatch, TargetModel,
};
use super::model_server::{
    MAX_MODEL, MAX_RETRY_ATTEMPTS, MAX_SESSION_SOURCES, ModelServerSpec, PdGroup, SessionKeySource,
    SessionKeySourceKind, SessionSticky, TrafficPolicy,
};
use super::names::{is_dns_label, is_dns_subdomain, is_header_name, is_label_key, is_label_value};
use super::parent_reference::{MAX_NAME, MAX_PARENT_REFS, ParentReference};
use super::redis_address::RedisAddress;
use super::static_endpoint::endpoint_faults;

/// The most memory that one compiled regular expression may take, in bytes.
pub const REGEX_SIZE_LIMIT: usize = 1 << 20;

/// One thing that is wrong with an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The field, as a path from the object's root such as `spec.rules[0].targetModels[1].weight`; keys of free-form
    /// maps are in brackets, as in `spec.workloadSelector.matchLabels[app]`.
    pub path: String,
    /// What is wrong and what was expected; lower-case, without a period.
    pub message: String,
}

/// Collects faults in the order of the fields.
#[derive(Default)]
pub(super) struct Faults(Vec<Fault>);

impl Faults {
    pub(super) fn push(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.0.push(Fault { path: path.into(), message: message.into() });
    }

    pub(super) fn check(&mut self, holds: bool, path: &str, message: impl FnOnce() -> String) {
        if !holds {
            self.push(path, message());
        }
    }

    pub(super) fn at_most(&mut self, limit: usize, found: usize, path: &str, what: &str) {
        self.check(found <= limit, path, || format!("at most {limit} {what} are allowed, found {found}"));
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.path, self.message)
    }
}

/// Compiles a regular expression of a match, within [`REGEX_SIZE_LIMIT`].
///
/// # Errors
/// Returns in one line why it does not compile.
pub fn compile_regex(pattern: &str) -> Result<Regex, String> {
    RegexBuilder::new(pattern).size_limit(REGEX_SIZE_LIMIT).build().map_err(|error| match error {
        regex::Error::CompiledTooBig(limit) => format!("regex `{pattern}` needs more than {limit} bytes when compiled"),
        // A syntax error draws a picture over several lines; its last line says what is wrong.
        other => {
            let text = other.to_string();
            let reason = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
            format!("regex `{pattern}` does not compile: {reason}")
        }
    })
}

/// Returns everything that is wrong with a ModelRoute, in the order of its fields.
pub fn model_route_faults(spec: &ModelRouteSpec) -> Vec<Fault> {
    let mut faults = Faults::default();
    let adapters = &spec.lora_adapters;
    faults.check(spec.served_model().is_some() || !adapters.is_empty(), "spec", || {
        "modelName or loraAdapters is required".to_owned()
    });
    faults.at_most(MAX_LORA_ADAPTERS, adapters.len(), "spec.loraAdapters", "LoRA adapters");
    for (index, adapter) in adapters.iter().enumerate() {
        faults.check(!adapter.is_empty(), &format!("spec.loraAdapters[{index}]"), || {
            "lora adapter name cannot be an empty string".to_owned()
        });
    }
    faults.at_most(MAX_PARENT_REFS, spec.parent_refs.len(), "spec.parentRefs", "parents");
    for (index, parent) in spec.parent_refs.iter().enumerate() {
        parent_faults(parent, &format!("spec.parentRefs[{index}]"), &mut faults);
    }
    faults.check(!spec.rules.is_empty(), "spec.rules", || {
        "at least one rule is required: a route without rules serves nothing".to_owned()
    });
    faults.at_most(MAX_RULES, spec.rules.len(), "spec.rules", "rules");
    for (index, rule) in spec.rules.iter().enumerate() {
        rule_faults(rule, !adapters.is_empty(), &format!("spec.rules[{index}]"), &mut faults);
    }
    if let Some(limit) = &spec.rate_limit {
        rate_limit_faults(limit, &mut faults);
    }
    faults.0
}

/// Returns everything that is wrong with a ModelServer, in the order of its fields.
pub fn model_server_faults(spec: &ModelServerSpec) -> Vec<Fault> {
    let mut faults = Faults::default();
    let characters = spec.model.as_ref().map_or(0, |model| model.chars().count());
    faults.check(characters <= MAX_MODEL, "spec.model", || {
        format!("at most {MAX_MODEL} characters are allowed, found {characters}")
    });
    if spec.endpoints.is_empty() {
        label_faults(&spec.workload_selector.match_labels, "spec.workloadSelector.matchLabels", &mut faults);
        faults.check(spec.workload_port.is_some(), "spec.workloadPort", || {
            "is required where `spec.endpoints` is not set".to_owned()
        });
    }
    if let Some(group) = &spec.workload_selector.pd_group {
        pd_group_faults(group, &mut faults);
    }
    endpoint_faults(spec, &mut faults);
    let port = spec.workload_port.as_ref().map(|port| port.port);
    faults.check(port != Some(0), "spec.workloadPort.port", || "must be from 1 to 65535, found 0".to_owned());
    if let Some(policy) = &spec.traffic_policy {
        traffic_policy_faults(policy, &mut faults);
    }
    faults.0
}

fn parent_faults(parent: &ParentReference, path: &str, faults: &mut Faults) {
    faults.check(!parent.name.is_empty() && parent.name.len() <= MAX_NAME, &format!("{path}.name"), || {
        format!("the parent's name must have from 1 to {MAX_NAME} characters, found {}", parent.name.len())
    });
    if let Some(namespace) = &parent.namespace {
        faults.check(is_dns_label(namespace), &format!("{path}.namespace"), || {
            format!("`{namespace}` is not the name of a namespace: expected lower-case letters, digits and hyphens")
        });
    }
    if let Some(section) = &parent.section_name {
        faults.check(is_dns_subdomain(section), &format!("{path}.sectionName"), || {
            format!("`{section}` is not the name of a listener: expected lower-case letters, digits, hyphens and dots")
        });
    }
    faults.check(parent.port != Some(0), &format!("{path}.port"), || "must be from 1 to 65535, found 0".to_owned());
}

fn rule_faults(rule: &RouteRule, has_adapters: bool, path: &str, faults: &mut Faults) {
    if let Some(condition) = &rule.model_match {
        match_faults(condition, &format!("{path}.modelMatch"), faults);
    }
    let path = format!("{path}.targetModels");
    let targets = &rule.target_models;
    faults.check(!targets.is_empty(), &path, || "at least one target is required".to_owned());
    faults.at_most(MAX_TARGETS, targets.len(), &path, "targets");
    for (index, target) in targets.iter().enumerate() {
        target_faults(target, has_adapters, &format!("{path}[{index}]"), faults);
    }
    faults.check(targets.is_empty() || targets.iter().any(|target| target.weight > 0), &path, || {
        "the sum of the weights must be more than 0: no target would get a request".to_owned()
    });
}

fn match_faults(condition: &ModelMatch, path: &str, faults: &mut Faults) {
    faults.at_most(MAX_HEADER_MATCHES, condition.headers.len(), &format!("{path}.headers"), "headers");
    for (name, matcher) in &condition.headers {
        let path = format!("{path}.headers[{name}]");
        faults.check(is_header_name(name), &path, || format!("`{name}` is not a header name"));
        string_match_faults(matcher, &path, faults);
    }
    if let Some(matcher) = &condition.uri {
        string_match_faults(matcher, &format!("{path}.uri"), faults);
    }
}

fn string_match_faults(matcher: &StringMatch, path: &str, faults: &mut Faults) {
    let matchers = [("exact", &matcher.exact), ("prefix", &matcher.prefix), ("regex", &matcher.regex)];
    let set: Vec<&str> = matchers.iter().filter(|(_, text)| text.is_some()).map(|(name, _)| *name).collect();
    faults.check(set.len() <= 1, path, || {
        format!("at most one of `exact`, `prefix` and `regex` may be set, found `{}`", set.join("` and `"))
    });
    for (name, text) in matchers {
        let characters = text.as_ref().map_or(0, |text| text.chars().count());
        faults.check(characters <= MAX_MATCHER, &format!("{path}.{name}"), || {
            format!("at most {MAX_MATCHER} characters are allowed, found {characters}")
        });
    }
    if let Some(Err(reason)) = matcher.regex.as_deref().map(compile_regex) {
        faults.push(format!("{path}.regex"), reason);
    }
}

fn target_faults(target: &TargetModel, has_adapters: bool, path: &str, faults: &mut Faults) {
    let external = target.external_model_provider();
    match (target.model_server(), external) {
        (None, None) => faults.push(path, "one of `modelServerName` and `externalModelProviderName` is required"),
        (Some(_), Some(_)) => {
            faults.push(path, "only one of `modelServerName` and `externalModelProviderName` may be set");
        }
        (Some(_), None) | (None, Some(_)) => {}
    }
    faults.check(external.is_none() || !has_adapters, &format!("{path}.externalModelProviderName"), || {
        "an external provider cannot serve the route's loraAdapters".to_owned()
    });
    faults.check(target.weight <= MAX_WEIGHT, &format!("{path}.weight"), || {
        format!("must be from 0 to {MAX_WEIGHT}, found {}", target.weight)
    });
}

fn rate_limit_faults(limit: &RateLimit, faults: &mut Faults) {
    for (field, most) in [
        ("inputTokensPerUnit", limit.input_tokens_per_unit),
        ("outputTokensPerUnit", limit.output_tokens_per_unit),
        ("requestsPerUnit", limit.requests_per_unit),
        ("concurrentRequests", limit.concurrent_requests),
    ] {
        faults.check(most != Some(0), &format!("spec.rateLimit.{field}"), || "must be at least 1, found 0".to_owned());
    }
    if let Some(PerClient { sources }) = &limit.per_client {
        key_source_faults(sources, "spec.rateLimit.perClient.sources", faults);
    }
    if let Some(redis) = limit.global.as_ref().and_then(|global| global.redis.as_ref()) {
        let is_address = RedisAddress::read(&redis.address).is_some();
        faults.check(is_address, "spec.rateLimit.global.redis.address", || {
            format!("`{}` is not an address: expected {}", redis.address, RedisAddress::FORM)
        });
    }
}

fn pd_group_faults(group: &PdGroup, faults: &mut Faults) {
    let path = "spec.workloadSelector.pdGroup";
    faults.check(is_label_key(&group.group_key), &format!("{path}.groupKey"), || {
        format!("`{}` is not the key of a label", group.group_key)
    });
    label_faults(&group.prefill_labels, &format!("{path}.prefillLabels"), faults);
    label_faults(&group.decode_labels, &format!("{path}.decodeLabels"), faults);
}

fn label_faults(labels: &BTreeMap<String, String>, path: &str, faults: &mut Faults) {
    faults.check(!labels.is_empty(), path, || "at least one label is required".to_owned());
    label_map_faults(labels, path, faults);
}

/// Checks labels of which there need not be any.
pub(super) fn label_map_faults(labels: &BTreeMap<String, String>, path: &str, faults: &mut Faults) {
    for (key, value) in labels {
        let path = format!("{path}[{key}]");
        faults.check(is_label_key(key), &path, || format!("`{key}` is not the key of a label"));
        faults.check(is_label_value(value), &path, || format!("`{value}` is not the value of a label"));
    }
}

fn traffic_policy_faults(policy: &TrafficPolicy, faults: &mut Faults) {
    let path = "spec.trafficPolicy";
    let timeouts = policy.timeouts.clone().unwrap_or_default();
    for (field, text) in [
        ("timeout", &policy.timeout),
        ("timeouts.connect", &timeouts.connect),
        ("timeouts.firstToken", &timeouts.first_token),
        ("timeouts.idle", &timeouts.idle),
        ("timeouts.total", &timeouts.total),
        ("connectionPool.idleTimeout", &policy.connection_pool.as_ref().and_then(|pool| pool.idle_timeout.clone())),
        ("heartbeat.interval", &policy.heartbeat.as_ref().map(|heartbeat| heartbeat.interval.clone())),
    ] {
        match text.as_deref().map(parse_duration) {
            Some(Ok(Duration::ZERO)) => {
                faults.push(format!("{path}.{field}"), "must be more than 0: leave the field out for none");
            }
            Some(Err(error)) => faults.push(format!("{path}.{field}"), error.to_string()),
            Some(Ok(_)) | None => {}
        }
    }
    if let Some(retry) = &policy.retry {
        faults.check(retry.attempts <= MAX_RETRY_ATTEMPTS, &format!("{path}.retry.attempts"), || {
            format!("must be from 0 to {MAX_RETRY_ATTEMPTS}, found {}", retry.attempts)
        });
        if let Err(error) = parse_duration(&retry.retry_interval) {
            faults.push(format!("{path}.retry.retryInterval"), error.to_string());
        }
    }
    if let Some(sticky) = &policy.session_sticky {
        session_faults(sticky, &format!("{path}.sessionSticky"), faults);
    }
}

fn session_faults(sticky: &SessionSticky, path: &str, faults: &mut Faults) {
    faults.check(sticky.session_affinity_seconds != Some(0), &format!("{path}.sessionAffinitySeconds"), || {
        "must be more than 0".to_owned()
    });
    key_source_faults(&sticky.sources, &format!("{path}.sources"), faults);
}

fn key_source_faults(sources: &[SessionKeySource], path: &str, faults: &mut Faults) {
    faults.check(!sources.is_empty(), path, || {
        "at least one source is required: without any nothing is found".to_owned()
    });
    faults.at_most(MAX_SESSION_SOURCES, sources.len(), path, "sources");
    for (index, SessionKeySource { kind, name }) in sources.iter().enumerate() {
        let is_name = !name.is_empty() && (*kind != SessionKeySourceKind::Header || is_header_name(name));
        faults.check(is_name, &format!("{path}[{index}].name"), || format!("`{name}` names nothing"));
    }
}

#[cfg(test)]
mod tests;
