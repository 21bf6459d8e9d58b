//! BackendTLSPolicies: which of them has a Service's port, how TLS is spoken there, and what is reported of them.
//!
//! Source: Gateway API, `BackendTLSPolicySpec`. Of several policies for one Service, or for one port of it, the oldest
//! has it, then the one whose namespace and name come first; one that names the port has precedence over one for the
//! whole Service and does not conflict with it. A policy that is invalid still has its Service: connections must fail,
//! and never be made in plain text.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use foldhash::{HashMap, HashMapExt};

use super::AncestorReport;
use crate::certificate::{Authorities, Certificate};
use crate::conditions::{Condition, Problem, Verdict, kind, reason};
use crate::gateway::frontend::join;
use crate::gateway::gateways::OwnGateway;
use crate::gateway::references::{Reasons, Reference, References, Referrer};
use crate::gateway::tls::{SubjectAltName, Trust, UpstreamTls};
use crate::kinds::backend_tls_policy::{BackendTlsPolicySpec, BackendTlsValidation, PolicySubjectAltName};
use crate::object::{Kind, ObjectKey};
use crate::pool::policy::TlsIndex;
use crate::world::{BackendTlsPolicyFacts, World};

/// How conditions tell of references to certificates of authorities.
const REASONS: Reasons = Reasons { kind: reason::INVALID_KIND, unusable: reason::INVALID_CA_CERTIFICATE_REF };

/// The most Gateways that a policy's status can tell of.
const MAX_ANCESTORS: usize = 16;

/// What is reported of a BackendTLSPolicy.
#[derive(Clone, Debug, PartialEq)]
pub struct PolicyReport {
    /// The generation that was looked at.
    pub generation: i64,
    /// The Gateways whose routes lead to the policy's Services.
    pub ancestors: Vec<AncestorReport>,
}

/// All policies.
pub(super) struct Policies<'w> {
    policies: Vec<Policy<'w>>,
    /// The policies for a Service, or for one port of it, by precedence.
    targets: HashMap<(ObjectKey, Option<&'w str>), Vec<usize>>,
}

/// What Gateways use of the policies.
#[derive(Debug, Default)]
pub(super) struct Uses {
    /// How TLS is spoken, for each policy and each certificate that a Gateway shows.
    pub(super) tls: Vec<Arc<UpstreamTls>>,
    indices: HashMap<(usize, Option<usize>), TlsIndex>,
    /// The Gateways from which a Service's port is reached.
    gateways: BTreeMap<(ObjectKey, String), BTreeSet<usize>>,
}

/// A port of a Service, by name.
#[derive(Clone, Copy)]
pub(super) struct PortName<'p> {
    /// The Service.
    pub(super) service: &'p ObjectKey,
    /// The port's name; empty for the only port of a Service.
    pub(super) port: &'p str,
}

struct Policy<'w> {
    key: &'w ObjectKey,
    generation: i64,
    spec: &'w BackendTlsPolicySpec,
    trust: Trust,
    unaccepted: Option<Problem>,
    unresolved: Vec<Problem>,
}

impl<'w> Policies<'w> {
    /// Reads the policies of a world.
    pub(super) fn new(world: &'w World, references: &References<'_>) -> Self {
        let mut facts: Vec<(&ObjectKey, &BackendTlsPolicyFacts)> = world.backend_tls_policies.iter().collect();
        // They are in the order of their keys, and a stable sort keeps it among those of one age.
        facts.sort_by_key(|(_, policy)| policy.record.created);
        let policies: Vec<_> = facts.into_iter().map(|(key, policy)| Policy::new(key, policy, references)).collect();
        let mut targets: HashMap<_, Vec<usize>> = HashMap::with_capacity(policies.len());
        for (place, policy) in policies.iter().enumerate() {
            for target in policy.targets() {
                targets.entry(target).or_default().push(place);
            }
        }
        Self { policies, targets }
    }

    /// Returns the policies for a port of a Service, the ones that name it first and by precedence.
    fn of_port<'p>(&'p self, PortName { service, port }: PortName<'p>) -> impl Iterator<Item = usize> + use<'p, 'w> {
        let named = self.targets.get(&(service.clone(), Some(port)));
        let whole = self.targets.get(&(service.clone(), None));
        named.into_iter().chain(whole).flatten().copied()
    }

    /// Reports the policies that Gateways use.
    pub(super) fn reports(&self, uses: &Uses, gateways: &[OwnGateway<'_>]) -> BTreeMap<ObjectKey, PolicyReport> {
        let mut ancestors: Vec<BTreeSet<usize>> = vec![BTreeSet::new(); self.policies.len()];
        for ((service, port), users) in &uses.gateways {
            for policy in self.of_port(PortName { service, port }) {
                ancestors[policy].extend(users);
            }
        }
        let report = |(place, policy): (usize, &Policy<'_>)| {
            let verdict = Verdict::new(self.accepted(place), policy.resolved());
            let ancestors = ancestors[place].iter().take(MAX_ANCESTORS);
            let ancestors = ancestors
                .map(|gateway| AncestorReport { gateway: gateways[*gateway].key.clone(), verdict: verdict.clone() });
            (policy.key.clone(), PolicyReport { generation: policy.generation, ancestors: ancestors.collect() })
        };
        self.policies.iter().enumerate().map(report).collect()
    }

    fn accepted(&self, place: usize) -> Condition {
        let policy = &self.policies[place];
        let lost =
            policy.targets().find(|target| self.targets.get(target).is_some_and(|all| all.first() != Some(&place)));
        let conflict = lost.map(|(service, _)| {
            Problem::new(reason::CONFLICTED, format!("another policy has precedence for the Service `{service}`"))
        });
        Condition::judge(kind::ACCEPTED, reason::ACCEPTED, conflict.iter().chain(&policy.unaccepted))
    }
}

impl Uses {
    /// Returns how TLS is spoken with a port of a Service by a Gateway that shows the certificate `client`; nothing if
    /// no policy asks for it.
    pub(super) fn tls(
        &mut self,
        policies: &Policies<'_>,
        port: PortName<'_>,
        client: Option<&Arc<Certificate>>,
    ) -> Option<TlsIndex> {
        let place = policies.of_port(port).next()?;
        let identity = client.map(|certificate| Arc::as_ptr(certificate).addr());
        let index = self.indices.entry((place, identity)).or_insert_with(|| {
            self.tls.push(Arc::new(policies.policies[place].tls(client)));
            TlsIndex(self.tls.len() - 1)
        });
        Some(*index)
    }

    /// Notes that a route of the Gateway with this place leads to a port of a Service.
    pub(super) fn note(&mut self, policies: &Policies<'_>, port: PortName<'_>, gateway: usize) {
        if policies.of_port(port).next().is_some() {
            self.gateways.entry((port.service.clone(), port.port.to_owned())).or_default().insert(gateway);
        }
    }
}

impl<'w> Policy<'w> {
    fn new(key: &'w ObjectKey, policy: &'w BackendTlsPolicyFacts, references: &References<'_>) -> Self {
        let spec = &*policy.spec;
        let mut read = Self {
            key,
            generation: policy.record.generation,
            spec,
            trust: Trust::Authorities(Arc::new(Authorities::join([]))),
            unaccepted: None,
            unresolved: Vec::new(),
        };
        read.trust(&spec.validation, references);
        if let Some(name) = spec.validation.subject_alt_names.iter().find(|name| name.read().is_none()) {
            let message = format!("subjectAltNames of the type `{}` cannot be used", name.kind);
            read.unaccepted.get_or_insert_with(|| Problem::new(reason::INVALID, message));
        }
        read
    }

    /// Reads whom the policy trusts, and notes what is wrong with that.
    fn trust(&mut self, validation: &BackendTlsValidation, references: &References<'_>) {
        let from = Referrer { kind: Kind::BackendTlsPolicy, namespace: &self.key.namespace };
        match validation.well_known_ca_certificates.as_deref() {
            Some("System") if validation.ca_certificate_refs.is_empty() => self.trust = Trust::System,
            Some(set) if validation.ca_certificate_refs.is_empty() && !set.is_empty() => {
                let message = format!("the wellKnownCACertificates `{set}` are not known, only `System` is");
                self.unaccepted = Some(Problem::new(reason::INVALID, message));
            }
            _ => {
                let mut bundles = Vec::new();
                for reference in &validation.ca_certificate_refs {
                    let (group, kind, name) = (&*reference.group, &*reference.kind, &*reference.name);
                    match references.authorities(from, Reference { group, kind, namespace: None, name }) {
                        Ok(bundle) => bundles.push(bundle),
                        Err(fault) => self.unresolved.push(fault.problem(REASONS)),
                    }
                }
                match join(bundles) {
                    Some(authorities) => self.trust = Trust::Authorities(authorities),
                    None => {
                        let message = "no certificate of an authority is left to validate backends with";
                        self.unaccepted = Some(Problem::new(reason::NO_VALID_CA_CERTIFICATE, message));
                    }
                }
            }
        }
    }

    /// Returns the Services that the policy is for, each with the name of the port if it is for one only.
    fn targets(&self) -> impl Iterator<Item = (ObjectKey, Option<&'w str>)> {
        let (namespace, spec) = (&self.key.namespace, self.spec);
        let services = spec.target_refs.iter().filter(|target| target.group.is_empty() && target.kind == "Service");
        services.map(|target| {
            let service = ObjectKey { namespace: Arc::clone(namespace), name: target.name.as_str().into() };
            (service, target.section_name.as_deref())
        })
    }

    fn resolved(&self) -> Condition {
        Condition::judge(kind::RESOLVED_REFS, reason::RESOLVED_REFS, &self.unresolved)
    }

    fn tls(&self, client: Option<&Arc<Certificate>>) -> UpstreamTls {
        let validation = &self.spec.validation;
        let names = validation.subject_alt_names.iter().filter_map(PolicySubjectAltName::read).collect();
        let is_invalid = self.unaccepted.is_some();
        let nobody = || Trust::Authorities(Arc::new(Authorities::join([])));
        UpstreamTls {
            server_name: validation.hostname.clone(),
            trust: if is_invalid { nobody() } else { self.trust.clone() },
            names,
            client: client.cloned(),
        }
    }
}

impl PolicySubjectAltName {
    fn read(&self) -> Option<SubjectAltName> {
        match &*self.kind {
            "Hostname" if !self.hostname.is_empty() => Some(SubjectAltName::Dns(self.hostname.clone())),
            "URI" if !self.uri.is_empty() => Some(SubjectAltName::Uri(self.uri.clone())),
            _ => None,
        }
    }
}
