//! Where the ports of Services lead to.
//!
//! Source: Kubernetes, EndpointSlices, which are found by their label and whose ports by the name of the Service's
//! port.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use crate::object::ObjectKey;
use crate::world::{EndpointSliceFacts, ServicePort, SliceEndpoint, World};

/// Finds ports of Services and the endpoints behind them.
pub(super) struct ServicePorts<'w> {
    world: &'w World,
    slices: BTreeMap<ObjectKey, Vec<&'w EndpointSliceFacts>>,
}

impl<'w> ServicePorts<'w> {
    /// Makes what finds the endpoints of these Services.
    pub(super) fn new(world: &'w World, services: impl IntoIterator<Item = ObjectKey>) -> Self {
        let mut slices: BTreeMap<ObjectKey, Vec<&EndpointSliceFacts>> =
            services.into_iter().map(|service| (service, Vec::new())).collect();
        for (key, slice) in world.endpoint_slices.iter() {
            let Some(service) = &slice.service else { continue };
            let service = ObjectKey { namespace: Arc::clone(&key.namespace), name: Arc::clone(service) };
            if let Some(slices) = slices.get_mut(&service) {
                slices.push(slice);
            }
        }
        Self { world, slices }
    }

    /// Returns the TCP port of a Service with this number.
    ///
    /// # Errors
    ///
    /// Returns a sentence about what is missing, the Service or the port.
    pub(super) fn find(&self, service: &ObjectKey, number: u16) -> Result<&'w ServicePort, String> {
        let known = self.world.services.find(service).ok_or_else(|| format!("there is no Service `{service}`"))?;
        let port = known.ports.iter().find(|port| port.port == i32::from(number) && port.protocol == "TCP");
        port.ok_or_else(|| format!("the Service `{service}` has no TCP port {number}"))
    }

    /// Returns the endpoints of a Service's port that are ready, each with its address and its own port.
    ///
    /// While endpoints move from one slice to another they are in both.
    pub(super) fn ready(
        &self,
        service: &ObjectKey,
        port: &ServicePort,
    ) -> impl Iterator<Item = (&'w SliceEndpoint, IpAddr, u16)> {
        self.slices_of(service).iter().flat_map(|slice| {
            let own = slice.ports.iter().find(|own| own.name == port.name).and_then(|own| own.port);
            let ready = slice.endpoints.iter().filter(|endpoint| endpoint.ready);
            ready.filter_map(move |endpoint| Some((endpoint, *endpoint.addresses.first()?, own?)))
        })
    }

    /// Returns how many endpoints a Service has, ready or not.
    pub(super) fn count(&self, service: &ObjectKey) -> usize {
        self.slices_of(service).iter().map(|slice| slice.endpoints.len()).sum()
    }

    fn slices_of(&self, service: &ObjectKey) -> &[&'w EndpointSliceFacts] {
        self.slices.get(service).map(Vec::as_slice).unwrap_or_default()
    }
}
