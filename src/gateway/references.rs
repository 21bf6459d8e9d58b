//! References to other objects: whether they may be followed, and what is found there.
//!
//! Source: Gateway API, `ReferenceGrant`: a reference into another namespace is followed only where a grant of that
//! namespace allows it, for the referring kind and namespace and for the kind and, if the grant says so, the name that
//! is referred to. What is not granted is told apart from what does not exist, so that nobody learns what exists there.

use std::sync::Arc;

use foldhash::HashMap;

use crate::certificate::{Authorities, Certificate, CertificateFault};
use crate::conditions::{Problem, reason};
use crate::kinds::gateway::{ObjectReference, SecretObjectReference};
use crate::kinds::reference_grant::ReferenceGrantSpec;
use crate::object::{Kind, ObjectKey};
use crate::world::World;

/// Follows references.
pub struct References<'w> {
    world: &'w World,
    grants: HashMap<&'w str, Vec<&'w ReferenceGrantSpec>>,
}

/// An object that refers to others.
#[derive(Clone, Copy, Debug)]
pub struct Referrer<'r> {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace.
    pub namespace: &'r str,
}

/// A reference, as a spec has it.
#[derive(Clone, Copy, Debug)]
pub struct Reference<'r> {
    /// API group; empty for the core group.
    pub group: &'r str,
    /// Kind.
    pub kind: &'r str,
    /// Namespace; the referrer's own if absent.
    pub namespace: Option<&'r str>,
    /// Name.
    pub name: &'r str,
}

/// Why a reference leads nowhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReferenceFault {
    /// No grant allows it.
    NotPermitted(String),
    /// It is of a kind that cannot be used there.
    Kind(String),
    /// There is no such object, or it cannot be used.
    Unusable(String),
}

/// The reasons by which conditions tell of references of one meaning.
#[derive(Clone, Copy, Debug)]
pub struct Reasons {
    /// For references of another kind.
    pub kind: &'static str,
    /// For references to what does not exist or is of no use.
    pub unusable: &'static str,
}

impl<'w> References<'w> {
    /// Indexes the grants of a world.
    pub fn new(world: &'w World) -> Self {
        let mut grants: HashMap<&str, Vec<&ReferenceGrantSpec>> = HashMap::default();
        for (key, grant) in world.reference_grants.iter() {
            grants.entry(&*key.namespace).or_default().push(grant);
        }
        Self { world, grants }
    }

    /// Finds the object that a reference of the kind `wanted` names.
    ///
    /// # Errors
    ///
    /// Returns a fault when the reference is of another kind or no grant allows it. Whether the object exists is left
    /// to the caller.
    pub fn follow(
        &self,
        from: Referrer<'_>,
        reference: Reference<'_>,
        wanted: Kind,
    ) -> Result<ObjectKey, ReferenceFault> {
        let Reference { group, kind, name, .. } = reference;
        if (group, kind) != (wanted.group(), wanted.as_str()) {
            let message = format!("`{name}` is of kind `{kind}` in group `{group}`, which cannot be used here");
            return Err(ReferenceFault::Kind(message));
        }
        let namespace = reference.namespace.unwrap_or(from.namespace);
        if namespace != from.namespace && !self.is_granted(from, wanted, namespace, name) {
            let message = format!(
                "no ReferenceGrant of the namespace `{namespace}` lets a {} of the namespace `{}` refer to the {kind} `{name}`",
                from.kind, from.namespace
            );
            return Err(ReferenceFault::NotPermitted(message));
        }
        Ok(ObjectKey::new(namespace, name))
    }

    /// Returns the certificate in the Secret that a reference names.
    ///
    /// # Errors
    ///
    /// Returns a fault when the reference may not be followed, or there is no certificate that can be used.
    pub fn certificate(
        &self,
        from: Referrer<'_>,
        reference: &SecretObjectReference,
    ) -> Result<Arc<Certificate>, ReferenceFault> {
        let key = self.follow(from, Reference::from(reference), Kind::Secret)?;
        let found = self.world.secrets.find(&key).map(|secret| &secret.certificate);
        usable(found, "Secret", &key)
    }

    /// Returns the certificates of authorities in the ConfigMap that a reference names.
    ///
    /// # Errors
    ///
    /// Returns a fault when the reference may not be followed, or there are no certificates that can be used.
    pub fn authorities(
        &self,
        from: Referrer<'_>,
        reference: Reference<'_>,
    ) -> Result<Arc<Authorities>, ReferenceFault> {
        let key = self.follow(from, reference, Kind::ConfigMap)?;
        let found = self.world.config_maps.find(&key).map(|map| &map.authorities);
        usable(found, "ConfigMap", &key)
    }

    fn is_granted(&self, from: Referrer<'_>, kind: Kind, namespace: &str, name: &str) -> bool {
        self.grants.get(namespace).into_iter().flatten().any(|grant| {
            let is_from = grant.from.iter().any(|allowed| {
                (&*allowed.group, &*allowed.kind, &*allowed.namespace)
                    == (from.kind.group(), from.kind.as_str(), from.namespace)
            });
            let is_to = grant.to.iter().any(|allowed| {
                (&*allowed.group, &*allowed.kind) == (kind.group(), kind.as_str())
                    && allowed.name.as_deref().is_none_or(|allowed| allowed == name)
            });
            is_from && is_to
        })
    }
}

impl<'r> From<&'r SecretObjectReference> for Reference<'r> {
    fn from(reference: &'r SecretObjectReference) -> Self {
        let SecretObjectReference { group, kind, name, namespace } = reference;
        Self { group, kind, name, namespace: namespace.as_deref() }
    }
}

impl<'r> From<&'r ObjectReference> for Reference<'r> {
    fn from(reference: &'r ObjectReference) -> Self {
        let ObjectReference { group, kind, name, namespace } = reference;
        Self { group, kind, name, namespace: namespace.as_deref() }
    }
}

impl ReferenceFault {
    /// Returns the fault as a condition tells of it.
    pub fn problem(self, reasons: Reasons) -> Problem {
        match self {
            Self::NotPermitted(message) => Problem::new(reason::REF_NOT_PERMITTED, message),
            Self::Kind(message) => Problem::new(reasons.kind, message),
            Self::Unusable(message) => Problem::new(reasons.unusable, message),
        }
    }
}

fn usable<T>(
    found: Option<&Result<Arc<T>, CertificateFault>>,
    kind: &str,
    key: &ObjectKey,
) -> Result<Arc<T>, ReferenceFault> {
    match found {
        Some(Ok(value)) => Ok(Arc::clone(value)),
        Some(Err(fault)) => Err(ReferenceFault::Unusable(format!("{kind} `{key}` cannot be used: {fault}"))),
        None => Err(ReferenceFault::Unusable(format!("there is no {kind} `{key}`"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::world;

    /// What `HTTPRoute`s of the namespace `web` may refer to in the namespace `infra`, by one grant.
    fn grant(from: &str, to: &str, namespace: &str) -> String {
        format!(
            "{{apiVersion: gateway.networking.k8s.io/v1beta1, kind: ReferenceGrant, \
             metadata: {{name: g, namespace: {namespace}}}, spec: {{from: [{from}], to: [{to}]}}}}"
        )
    }

    #[test]
    fn a_grant_holds_for_its_namespace_kinds_and_name_only() {
        let from = "{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: web}";
        let to = "{group: '', kind: Service}";
        for (case, from, to, namespace, expected) in [
            ("the whole kind", from, to, "infra", true),
            ("the name", from, "{group: '', kind: Service, name: s}", "infra", true),
            ("another name", from, "{group: '', kind: Service, name: t}", "infra", false),
            ("a grant elsewhere", from, to, "web", false),
            ("another kind to refer to", from, "{group: '', kind: Secret}", "infra", false),
            ("another group to refer to", from, "{group: apps, kind: Service}", "infra", false),
            (
                "another namespace that refers",
                "{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: app}",
                to,
                "infra",
                false,
            ),
            (
                "another kind that refers",
                "{group: gateway.networking.k8s.io, kind: Gateway, namespace: web}",
                to,
                "infra",
                false,
            ),
            ("another group that refers", "{group: '', kind: HTTPRoute, namespace: web}", to, "infra", false),
        ] {
            let world = world(&grant(from, to, namespace));
            let references = References::new(&world);
            let referrer = Referrer { kind: Kind::HttpRoute, namespace: "web" };
            let reference = Reference { group: "", kind: "Service", namespace: Some("infra"), name: "s" };
            let found = references.follow(referrer, reference, Kind::Service);
            assert_eq!(found == Ok(ObjectKey::new("infra", "s")), expected, "{case}: {found:?}");
            assert_eq!(matches!(found, Err(ReferenceFault::NotPermitted(_))), !expected, "{case}");
        }
    }

    #[test]
    fn references_within_a_namespace_need_no_grant() {
        let world = World::default();
        let references = References::new(&world);
        let referrer = Referrer { kind: Kind::Gateway, namespace: "infra" };
        for namespace in [None, Some("infra")] {
            let reference = Reference { group: "", kind: "Secret", namespace, name: "s" };
            let found = references.follow(referrer, reference, Kind::Secret);
            assert_eq!(found, Ok(ObjectKey::new("infra", "s")), "{namespace:?}");
        }
    }
}
