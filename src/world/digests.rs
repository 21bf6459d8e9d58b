//! What is kept of an object of each kind that says how requests are to be routed.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;

use super::Digest;
use crate::controller::{CORS, KV_CONNECTOR, KV_EVENTS, SCHEDULER_PROFILE};
use crate::kinds::{
    BackendTlsPolicy, BackendTlsPolicySpec, Gateway, GatewayClass, GatewaySpec, HttpRoute, InferenceModelRewrite,
    InferenceModelRewriteSpec, InferenceObjective, InferenceObjectiveSpec, InferencePool, InferencePoolSpec,
    ListenerSet, ListenerSetSpec, ModelRoute, ModelServer, ReferenceGrant, ReferenceGrantSpec, XInferenceModelRewrite,
    XInferenceObjective,
};
use crate::object::ObjectKey;
use crate::pool::model_server::Server;
use crate::record::{Effect, Record};
use crate::routing::http::cors::Cors;
use crate::routing::http::route::HttpRoute as CompiledHttpRoute;
use crate::routing::models::route::Route;

pub use provided::{GATEWAY_NAME, MANAGED_BY, ProvidedFacts};

pub use core::{
    BOOTSTRAP_PORTS, Channel, ConfigMapFacts, DefinitionFacts, EndpointSliceFacts, PodFacts, SecretFacts, ServiceFacts,
    ServicePort, SliceEndpoint, SlicePort,
};

mod core;
mod provided;

/// What is kept of a GatewayClass.
#[derive(Clone, Debug)]
pub struct GatewayClassFacts {
    /// What the API server records of it.
    pub record: Record,
    /// Which controller the class belongs to.
    pub controller_name: String,
}

/// What is kept of an object whose spec is read as it is.
#[derive(Clone, Debug)]
pub struct SpecFacts<S> {
    /// What the API server records of it.
    pub record: Record,
    /// The object's spec.
    pub spec: Arc<S>,
    /// The scheduler's profile that its annotation names.
    pub profile: Option<Arc<str>>,
    /// What its annotation says of how KV caches are handed over.
    pub kv_connector: Option<Arc<str>>,
    /// What its annotation says of requests of other origins, or what is wrong with it.
    pub cors: Option<CorsPolicy>,
    /// What its annotation says of where engines tell of their KV caches.
    pub kv_events: Option<Arc<str>>,
}

/// Which other origins may make requests, or what is wrong with what was written about it.
pub type CorsPolicy = Arc<Result<Cors, String>>;

/// What is kept of a Gateway.
pub type GatewayFacts = SpecFacts<GatewaySpec>;

/// What is kept of a ListenerSet.
pub type ListenerSetFacts = SpecFacts<ListenerSetSpec>;

/// What is kept of a BackendTLSPolicy.
pub type BackendTlsPolicyFacts = SpecFacts<BackendTlsPolicySpec>;

/// What is kept of an InferencePool.
pub type InferencePoolFacts = SpecFacts<InferencePoolSpec>;

/// What is kept of an InferenceObjective.
pub type InferenceObjectiveFacts = SpecFacts<InferenceObjectiveSpec>;

/// What is kept of an InferenceModelRewrite.
pub type ModelRewriteFacts = SpecFacts<InferenceModelRewriteSpec>;

impl<S> SpecFacts<S> {
    fn of(metadata: &ObjectMeta, status: Option<impl Serialize>, spec: S) -> Self {
        Self {
            record: Record::of(metadata, status),
            spec: Arc::new(spec),
            profile: profile(metadata),
            kv_connector: annotation(metadata, KV_CONNECTOR),
            cors: annotation(metadata, CORS).map(|text| Arc::new(Cors::parse(&text))),
            kv_events: annotation(metadata, KV_EVENTS),
        }
    }
}

impl Digest for GatewayClass {
    type Stored = GatewayClassFacts;

    fn digest(self) -> Self::Stored {
        let record = Record::of(&self.metadata, self.status);
        GatewayClassFacts { record, controller_name: self.spec.controller_name }
    }

    fn effect(before: &Self::Stored, after: &Self::Stored) -> Effect {
        after.record.effect(&before.record)
    }
}

macro_rules! spec_facts {
    ($($kind:ident: $spec:ident,)*) => {
        $(impl Digest for $kind {
            type Stored = SpecFacts<$spec>;

            fn digest(self) -> Self::Stored {
                SpecFacts::of(&self.metadata, self.status, self.spec)
            }

            fn effect(before: &Self::Stored, after: &Self::Stored) -> Effect {
                // Annotations do not change an object's generation.
                let texts = |facts: &Self::Stored| {
                    [facts.profile.clone(), facts.kv_connector.clone(), facts.kv_events.clone()]
                };
                let of_annotations = effect(&texts(before), &texts(after)).max(effect(&before.cors, &after.cors));
                of_annotations.max(after.record.effect(&before.record))
            }
        })*
    };
}

spec_facts! {
    Gateway: GatewaySpec,
    ListenerSet: ListenerSetSpec,
    BackendTlsPolicy: BackendTlsPolicySpec,
    InferencePool: InferencePoolSpec,
    InferenceObjective: InferenceObjectiveSpec,
    XInferenceObjective: InferenceObjectiveSpec,
    InferenceModelRewrite: InferenceModelRewriteSpec,
    XInferenceModelRewrite: InferenceModelRewriteSpec,
}

impl Digest for HttpRoute {
    type Stored = Arc<CompiledHttpRoute>;

    fn digest(self) -> Self::Stored {
        let key = ObjectKey::of(&self.metadata);
        Arc::new(CompiledHttpRoute::compile(key, Record::of(&self.metadata, self.status), self.spec))
    }

    fn effect(before: &Self::Stored, after: &Self::Stored) -> Effect {
        after.record.effect(&before.record)
    }
}

impl Digest for ReferenceGrant {
    type Stored = Arc<ReferenceGrantSpec>;

    fn digest(self) -> Self::Stored {
        Arc::new(self.spec)
    }

    fn effect(before: &Self::Stored, after: &Self::Stored) -> Effect {
        effect(before, after)
    }
}

impl Digest for ModelRoute {
    type Stored = Arc<Route>;

    fn digest(self) -> Self::Stored {
        let key = ObjectKey::of(&self.metadata);
        let record = Record::of(&self.metadata, self.status);
        Arc::new(Route::compile(key, record, self.spec, self.metadata.annotations.as_ref()))
    }

    fn effect(before: &Self::Stored, after: &Self::Stored) -> Effect {
        // Annotations do not change an object's generation.
        effect(&before.priority, &after.priority).max(after.record.effect(&before.record))
    }
}

impl Digest for ModelServer {
    type Stored = Server;

    fn digest(self) -> Self::Stored {
        let key = ObjectKey::of(&self.metadata);
        let (record, profile) = (Record::of(&self.metadata, self.status), profile(&self.metadata));
        Server { profile, ..Server::compile(key, record, self.spec, self.metadata.annotations.as_ref()) }
    }

    fn effect(before: &Self::Stored, after: &Self::Stored) -> Effect {
        // Annotations do not change an object's generation.
        let is_alike = (&before.policy, before.ranks) == (&after.policy, after.ranks);
        let of_policy = if is_alike { Effect::Nothing } else { Effect::Plan };
        let of_profile = effect(&before.profile, &after.profile);
        of_policy.max(of_profile).max(after.record.effect(&before.record))
    }
}

/// Returns the scheduler's profile that an object names.
fn profile(metadata: &ObjectMeta) -> Option<Arc<str>> {
    annotation(metadata, SCHEDULER_PROFILE)
}

fn annotation(metadata: &ObjectMeta, name: &str) -> Option<Arc<str>> {
    metadata.annotations.as_ref()?.get(name).map(|text| text.as_str().into())
}

/// Returns what it changes that an object of which only facts about plans are kept is no longer `before` but `after`.
fn effect<S: PartialEq>(before: &S, after: &S) -> Effect {
    if before == after { Effect::Nothing } else { Effect::Plan }
}
