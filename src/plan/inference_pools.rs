//! The InferencePools of a plan: their endpoints, who picks among those, and what is reported of each.
//!
//! Source: the Inference Extension's `InferencePool`: every ready Pod that the selector matches is an endpoint at every one
//! of the ports. A pool's status tells of each Gateway that has an accepted route to it, and of no other. A pool without
//! an `endpointPickerRef` is accepted, because the router picks itself; with one, the router asks that picker, unless it
//! was told otherwise.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use super::parts::{Parts, Sharing};
use super::pools::{Selected, Selection, select};
use super::service_ports::ServicePorts;
use super::{AncestorReport, Controller, PoolPlan};
use crate::conditions::{Condition, Problem, Verdict, kind, reason};
use crate::controller::KV_EVENTS;
use crate::gateway::gateways::OwnGateway;
use crate::kinds::faults::Fault;
use crate::kinds::inference_pool::{EndpointPickerRef, FAIL_OPEN, H2C, TargetPort, inference_pool_faults};
use crate::kinds::model_server::InferenceEngine;
use crate::object::{Kind, ObjectKey, PoolKey};
use crate::pool::disaggregation::Disaggregation;
use crate::pool::kv_events::KvEvents;
use crate::pool::policy::{BackendProtocol, ExternalPicker, PickerPolicy, PoolIndex, PoolPolicy, RequestPolicy};
use crate::pool::retry::RetryPolicy;
use crate::pool::session::SessionKeys;
use crate::pool::time_limits::TimeLimits;
use crate::routing::http::route::Rule;
use crate::world::{InferencePoolFacts, World};

/// The most Gateways that a pool's status can tell of.
const MAX_PARENTS: usize = 32;

/// Who arranges it that two Pods work on a request, unless an annotation says another: the Pods of llm-d have a sidecar, and
/// a Pod without one is sent a header that it does not know, and serves the whole request.
const SIDECAR: Disaggregation = Disaggregation::Sidecar;

/// The labels of a Pod that name its engine.
const ENGINE_LABELS: [&str; 2] = ["inference.networking.k8s.io/engine-type", "llm-d.ai/engine-type"];

/// What is reported of an InferencePool.
#[derive(Clone, Debug, PartialEq)]
pub struct InferencePoolReport {
    /// The generation that was looked at.
    pub generation: i64,
    /// The Gateways that have an accepted route to the pool.
    pub parents: Vec<AncestorReport>,
}

/// The Gateways, by their places, that have an accepted route to a pool.
pub(super) type PoolUses = BTreeMap<ObjectKey, BTreeSet<usize>>;

/// The InferencePools.
#[derive(Default)]
pub(super) struct InferencePools {
    /// Whether they are served at all.
    are_served: bool,
    pools: BTreeMap<ObjectKey, Known>,
}

struct Known {
    generation: i64,
    /// Where it is in the list of pools, if it can be used and a route refers to it.
    index: Option<PoolIndex>,
    faults: Vec<Problem>,
    unresolved: Option<Problem>,
    /// What it asks for and does not get.
    unserved: Option<Condition>,
    /// Whether its Pods can be paired, where they share the work on a request.
    paired: Option<Condition>,
}

/// Returns the Services of the pickers that InferencePools refer to.
pub(super) fn picker_services<'w>(
    world: &'w World,
    controller: &Controller,
) -> impl Iterator<Item = ObjectKey> + use<'w> {
    let pools = controller.inference_extension.then_some(world.inference_pools.iter()).into_iter().flatten();
    pools.filter_map(|(key, pool)| Some(picker_service(key, pool.spec.endpoint_picker_ref.as_ref()?)))
}

fn picker_service(pool: &ObjectKey, picker: &EndpointPickerRef) -> ObjectKey {
    ObjectKey { namespace: Arc::clone(&pool.namespace), name: picker.name.as_str().into() }
}

impl InferencePools {
    /// Adds the pools that HTTPRoutes refer to, and returns what finds them.
    pub(super) fn new(
        world: &World,
        controller: &Controller,
        services: &ServicePorts<'_>,
        pools: &mut Vec<PoolPlan>,
    ) -> Self {
        if !controller.inference_extension {
            return Self::default();
        }
        let references =
            world.http_routes.objects.values().flat_map(|route| route.rules.iter().flat_map(Rule::references));
        let wanted: BTreeSet<&ObjectKey> = references
            .filter(|reference| reference.is_of(Kind::InferencePool))
            .map(|reference| &reference.object)
            .collect();
        let mut requests = request_policies(world);
        let mut known = BTreeMap::new();
        let mut used = Vec::new();
        for (key, facts) in world.inference_pools.iter() {
            let (pool, picker) = Known::of(key, facts, services, controller);
            if pool.faults.is_empty() && wanted.contains(key) {
                used.push((key, facts, picker));
            }
            known.insert(key.clone(), pool);
        }
        let selections: Vec<_> = used.iter().map(|(key, facts, _)| selection(key, facts)).collect();
        for ((key, facts, picker), selected) in used.into_iter().zip(select(world, controller, &selections)) {
            if let Some(known) = known.get_mut(key) {
                known.index = Some(PoolIndex(pools.len()));
                known.paired = selected.parts.as_ref().map(Parts::condition);
            }
            pools.push(pool(key, facts, picker, requests.remove(key), selected));
        }
        Self { are_served: true, pools: known }
    }

    /// Returns whether InferencePools are served at all.
    pub(super) fn are_served(&self) -> bool {
        self.are_served
    }

    /// Finds a pool.
    ///
    /// # Errors
    ///
    /// Returns what `ResolvedRefs` of a route says if there is none, or none that can be used.
    pub(super) fn find(&self, key: &ObjectKey) -> Result<PoolIndex, Problem> {
        let Some(pool) = self.pools.get(key) else {
            return Err(Problem::new(reason::BACKEND_NOT_FOUND, format!("there is no InferencePool `{key}`")));
        };
        pool.index.ok_or_else(|| {
            let faults: Vec<_> = pool.faults.iter().map(|fault| &*fault.message).collect();
            let message = format!("the InferencePool `{key}` cannot be used: {}", faults.join("; "));
            Problem::new(reason::UNSUPPORTED_VALUE, message)
        })
    }

    /// Reports every pool.
    pub(super) fn reports(
        &self,
        uses: &PoolUses,
        gateways: &[OwnGateway<'_>],
    ) -> BTreeMap<ObjectKey, InferencePoolReport> {
        let report = |(key, pool): (&ObjectKey, &Known)| {
            let verdict = Verdict {
                occasional: pool.unserved.iter().chain(&pool.paired).cloned().collect(),
                ..Verdict::new(
                    Condition::judge(kind::ACCEPTED, reason::ACCEPTED, &pool.faults),
                    Condition::judge(kind::RESOLVED_REFS, reason::RESOLVED_REFS, &pool.unresolved),
                )
            };
            let users = uses.get(key).into_iter().flatten().take(MAX_PARENTS);
            let parent =
                |gateway: &usize| AncestorReport { gateway: gateways[*gateway].key.clone(), verdict: verdict.clone() };
            (key.clone(), InferencePoolReport { generation: pool.generation, parents: users.map(parent).collect() })
        };
        self.pools.iter().map(report).collect()
    }
}

impl Known {
    /// Judges a pool, and says who picks among its endpoints.
    fn of(
        key: &ObjectKey,
        facts: &InferencePoolFacts,
        services: &ServicePorts<'_>,
        controller: &Controller,
    ) -> (Self, PickerPolicy) {
        let problem =
            |Fault { path, message }| Problem::new(reason::NOT_SUPPORTED_BY_PARENT, format!("`{path}`: {message}"));
        let faults = inference_pool_faults(&facts.spec).into_iter().map(problem).collect();
        let found = facts.spec.endpoint_picker_ref.as_ref().map(|picker| external(key, picker, services));
        let (picker, unresolved) = match found {
            None => (PickerPolicy::BuiltIn, None),
            Some(Ok(picker)) => (PickerPolicy::External(Arc::new(picker)), None),
            Some(Err(message)) => {
                (PickerPolicy::Unavailable(message.clone()), Some(Problem::new(reason::INVALID_EXTENSION_REF, message)))
            }
        };
        // A reference that leads nowhere is reported, whoever picks, but it harms nobody who does not follow it.
        let picker = if controller.prefer_builtin_picker { PickerPolicy::BuiltIn } else { picker };
        let unknown = controller.unknown_profile(facts.profile.as_deref());
        let connector = disaggregation(facts.kv_connector.as_deref()).err();
        let events = facts.kv_events.as_deref().and_then(|text| KvEvents::read(text).err());
        let events = events.map(|fault| format!("the annotation `{KV_EVENTS}`: {fault}"));
        let unserved = [unknown, connector, events];
        let unserved = Condition::unserved(&unserved.iter().filter_map(Option::as_deref).collect::<Vec<_>>());
        (Self { generation: facts.record.generation, index: None, faults, unresolved, unserved, paired: None }, picker)
    }
}

/// Finds the picker that a pool refers to, or says why there is none.
fn external(
    pool: &ObjectKey,
    picker: &EndpointPickerRef,
    services: &ServicePorts<'_>,
) -> Result<ExternalPicker, String> {
    if (&*picker.group, &*picker.kind) != (Kind::Service.group(), Kind::Service.as_str()) {
        let EndpointPickerRef { group, kind, name, .. } = picker;
        return Err(format!("`{name}` is of kind `{kind}` in group `{group}`, and only a Service can be a picker"));
    }
    let service = picker_service(pool, picker);
    let port = picker.port.and_then(TargetPort::valid);
    let number = port.ok_or_else(|| format!("the reference to the Service `{service}` has no port"))?;
    let port = services.find(&service, number)?;
    let mut endpoints: Vec<_> =
        services.ready(&service, port).map(|(_, address, port)| SocketAddr::new(address, port)).collect();
    endpoints.sort_unstable();
    endpoints.dedup();
    Ok(ExternalPicker {
        service,
        port: number,
        endpoints,
        fail_open: picker.failure_mode == FAIL_OPEN,
        tls: port.app_protocol.as_deref() != Some(H2C),
    })
}

/// Reads who arranges that two Pods of a pool work on a request.
fn disaggregation(annotation: Option<&str>) -> Result<Disaggregation, String> {
    annotation.map_or(Ok(SIDECAR), Disaggregation::of_annotation)
}

fn selection<'w>(key: &'w ObjectKey, facts: &'w InferencePoolFacts) -> Selection<'w> {
    let spec = &facts.spec;
    Selection {
        namespace: &key.namespace,
        labels: &spec.selector.match_labels,
        ports: spec.target_ports.iter().filter_map(|port| port.valid()).collect(),
        sharing: Sharing::Labels { always: facts.kv_connector.is_some() },
    }
}

fn pool(
    key: &ObjectKey,
    InferencePoolFacts { spec, profile, kv_connector, kv_events, .. }: &InferencePoolFacts,
    picker: PickerPolicy,
    requests: Option<RequestPolicy>,
    selected: Selected<'_>,
) -> PoolPlan {
    // Figures of engines are of no use to a router that never picks, and neither are objectives: its picker has both.
    let may_pick = match &picker {
        PickerPolicy::BuiltIn => true,
        PickerPolicy::External(external) => external.fail_open,
        PickerPolicy::Unavailable(_) => false,
    };
    let requests = requests.filter(|_| picker == PickerPolicy::BuiltIn).map(Arc::new);
    let policy = PoolPolicy {
        served_model: None,
        engine: engine(&selected).filter(|_| may_pick),
        protocol: if spec.app_protocol == H2C { BackendProtocol::H2c } else { BackendProtocol::Http1 },
        https: false,
        timeout: None,
        limits: TimeLimits::default(),
        connections: None,
        retry: RetryPolicy::Engines,
        picker,
        sessions: SessionKeys::default(),
        requests,
        kv_events: kv_events.as_deref().filter(|_| may_pick).and_then(|text| KvEvents::read(text).ok()),
        disaggregation: selected.parts.is_some().then(|| disaggregation(kv_connector.as_deref()).unwrap_or(SIDECAR)),
    };
    PoolPlan {
        key: PoolKey { kind: Kind::InferencePool, object: key.clone(), port: None },
        policy: Arc::new(policy),
        profile: profile.clone(),
        endpoints: selected.endpoints,
        selected: selected.pods.len(),
        parts: selected.parts,
    }
}

/// Returns the engine of a pool: that of the first Pod that names one, else vLLM; `None` for one whose figures cannot be
/// read.
fn engine(selected: &Selected<'_>) -> Option<InferenceEngine> {
    let mut named =
        selected.pods.iter().filter_map(|(_, pod)| ENGINE_LABELS.iter().find_map(|label| pod.labels.get(*label)));
    match named.next() {
        None => Some(InferenceEngine::Vllm),
        Some(name) if name.eq_ignore_ascii_case("vllm") => Some(InferenceEngine::Vllm),
        Some(name) if name.eq_ignore_ascii_case("sglang") => Some(InferenceEngine::Sglang),
        Some(_) => None,
    }
}

/// Returns what the objectives and rewrites of each pool make of its requests. Of two objects with one name that of the
/// former group does not count.
fn request_policies(world: &World) -> BTreeMap<ObjectKey, RequestPolicy> {
    let mut policies: BTreeMap<ObjectKey, RequestPolicy> = BTreeMap::new();
    for (key, objective) in world.inference_objectives.iter().chain(world.former_inference_objectives.iter()) {
        if objective.spec.pool_ref.is_to_pool() {
            let pool = policies.entry(beside(key, &objective.spec.pool_ref.name)).or_default();
            pool.objectives.add(&key.name, objective.spec.priority.unwrap_or_default());
        }
    }
    let former = world.former_model_rewrites.iter().filter(|(key, _)| world.model_rewrites.find(key).is_none());
    let mut rewrites: Vec<_> = world.model_rewrites.iter().chain(former).collect();
    rewrites.sort_by_key(|(key, rewrite)| (rewrite.record.created, *key));
    for (key, rewrite) in rewrites {
        let spec = &rewrite.spec;
        if spec.pool_ref.is_to_pool() && crate::kinds::model_rewrite_faults(spec).is_empty() {
            policies.entry(beside(key, &spec.pool_ref.name)).or_default().rewrites.add(spec);
        }
    }
    policies
}

fn beside(key: &ObjectKey, name: &str) -> ObjectKey {
    ObjectKey { namespace: Arc::clone(&key.namespace), name: name.into() }
}
