//! The addresses of Gateways: which ones they get, and why not the ones that they ask for.
//!
//! Source: Gateway API, `GatewaySpec.addresses`: an address of a type that is not served makes the Gateway unusable,
//! one that cannot be had makes it incompletely programmed; an empty value asks for any address of the type.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::services;
use crate::addresses::{AddressProvider, AddressRange};
use crate::conditions::{Problem, reason};
use crate::controller::Controller;
use crate::kinds::gateway::GatewaySpec;
use crate::object::ObjectKey;
use crate::world::{GatewayFacts, World};

/// The addresses that a Gateway gets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Assigned {
    /// The local addresses that its listeners are served on; none if it is not served.
    pub local: Vec<IpAddr>,
    /// Where clients reach it: IP addresses and host names.
    pub published: Vec<String>,
    /// An address of a type that is not served.
    pub unsupported: Option<Problem>,
    /// Addresses that cannot be had.
    pub unusable: Option<Problem>,
}

/// One address that a Gateway asks for.
#[derive(Debug, PartialEq, Eq)]
enum Wish<'w> {
    /// Any IP address.
    AnyIp,
    /// Any host name.
    AnyHostname,
    /// This address or host name.
    This(&'w str),
}

/// The addresses of the pool while they are being given out.
struct Pool<'p> {
    ranges: &'p [AddressRange],
    taken: BTreeSet<IpAddr>,
}

/// Returns what each of `gateways` gets, which are in their order of precedence, and which addresses of the pool they
/// are to keep.
pub fn assign(
    gateways: &[(&ObjectKey, &GatewayFacts)],
    world: &World,
    controller: &Controller,
) -> (Vec<Assigned>, BTreeMap<ObjectKey, IpAddr>) {
    let AddressProvider::Pool(ranges) = &controller.addresses else {
        let of_service = |(key, gateway): &(&ObjectKey, &GatewayFacts)| {
            let own = services::key(key, &gateway.spec.gateway_class_name, controller);
            let service = world.services.find(own.as_ref().unwrap_or(&controller.service));
            let published = service.map(|service| &*service.addresses).unwrap_or_default();
            let mut assigned = of_service(&gateway.spec, published, controller.bind_address);
            if own.is_some() {
                assigned.await_load_balancer(controller.bind_address);
            }
            assigned
        };
        return (gateways.iter().map(of_service).collect(), BTreeMap::new());
    };
    let mut pool = Pool { ranges, taken: BTreeSet::new() };
    let mut kept = BTreeMap::new();
    // First what Gateways have already, then what they ask for by name, then what is left.
    for (key, gateway) in gateways {
        let held = world.allocations.get(*key).copied().or_else(|| present(gateway));
        if let (true, Some(address)) = (wants_any(&gateway.spec), held)
            && pool.take(address)
        {
            kept.insert((*key).clone(), address);
        }
    }
    let mut assigned: Vec<Assigned> = gateways.iter().map(|(_, gateway)| pool.named(&gateway.spec)).collect();
    for ((key, gateway), assigned) in gateways.iter().zip(&mut assigned) {
        if assigned.unsupported.is_some() || !wants_any(&gateway.spec) {
            continue;
        }
        let address = kept.get(*key).copied().or_else(|| pool.take_first());
        if let Some(address) = address {
            kept.insert((*key).clone(), address);
            assigned.add(address);
        } else {
            let message = "no address of the pool is left";
            assigned.unusable.get_or_insert_with(|| Problem::new(reason::ADDRESS_NOT_ASSIGNED, message));
        }
    }
    (assigned, kept)
}

impl Assigned {
    /// Makes what is served on one local address and published elsewhere.
    pub fn at(local: IpAddr, published: &[String]) -> Self {
        Self { local: vec![local], published: published.to_vec(), ..Self::default() }
    }

    fn add(&mut self, address: IpAddr) {
        self.local.push(address);
        self.published.push(address.to_string());
    }

    /// Has listeners served although no address is there yet: a load balancer looks for them first.
    fn await_load_balancer(&mut self, local: IpAddr) {
        if self.unsupported.is_none() && self.published.is_empty() {
            self.local = vec![local];
            let message = "the Gateway's Service has no address of a load balancer";
            self.unusable.get_or_insert_with(|| Problem::new(reason::ADDRESS_NOT_ASSIGNED, message));
        }
    }

    fn refuse(&mut self, address: &str) {
        let message = match self.unusable.take() {
            Some(problem) => format!("{}, `{address}`", problem.message),
            None => format!("the Gateway cannot have the address `{address}`"),
        };
        self.unusable = Some(Problem::new(reason::ADDRESS_NOT_USABLE, message));
    }
}

impl Pool<'_> {
    /// Takes an address, unless it is not in the pool or is taken already.
    fn take(&mut self, address: IpAddr) -> bool {
        self.ranges.iter().any(|range| range.contains(address)) && self.taken.insert(address)
    }

    fn take_first(&mut self) -> Option<IpAddr> {
        let free = self.ranges.iter().flat_map(|range| range.iter()).find(|address| !self.taken.contains(address))?;
        self.taken.insert(free);
        Some(free)
    }

    /// Takes the addresses that a Gateway asks for by name.
    fn named(&mut self, spec: &GatewaySpec) -> Assigned {
        let mut assigned = Assigned::default();
        for wish in wishes(spec) {
            match wish {
                Ok(Wish::AnyIp) => {}
                Ok(Wish::AnyHostname) => {
                    let message = "addresses of the type `Hostname` are not served, the pool has IP addresses";
                    assigned.unsupported = Some(Problem::new(reason::UNSUPPORTED_ADDRESS, message));
                }
                Ok(Wish::This(value)) => match value.parse() {
                    Ok(address) if self.take(address) => assigned.add(address),
                    _ => assigned.refuse(value),
                },
                Err(problem) => assigned.unsupported = Some(problem),
            }
        }
        assigned
    }
}

/// Returns what a Gateway gets of the addresses that a Service has.
fn of_service(spec: &GatewaySpec, published: &[String], bind_address: IpAddr) -> Assigned {
    if spec.addresses.is_empty() {
        return Assigned::at(bind_address, published);
    }
    let mut assigned = Assigned::default();
    for wish in wishes(spec) {
        let is_ip = |address: &&String| address.parse::<IpAddr>().is_ok();
        match wish {
            Ok(Wish::AnyIp) => assigned.published.extend(published.iter().filter(is_ip).cloned()),
            Ok(Wish::AnyHostname) => {
                assigned.published.extend(published.iter().filter(|address| !is_ip(address)).cloned());
            }
            Ok(Wish::This(value)) => {
                if published.iter().any(|address| address == value) || bind_address.to_string() == value {
                    assigned.published.push(value.to_owned());
                } else {
                    assigned.refuse(value);
                    continue;
                }
            }
            Err(problem) => {
                assigned.unsupported = Some(problem);
                continue;
            }
        }
        assigned.local = vec![bind_address];
    }
    assigned
}

fn wishes(spec: &GatewaySpec) -> impl Iterator<Item = Result<Wish<'_>, Problem>> {
    spec.addresses.iter().map(|address| match (address.kind.as_deref(), &*address.value) {
        (None | Some("IPAddress"), "") => Ok(Wish::AnyIp),
        (Some("Hostname"), "") => Ok(Wish::AnyHostname),
        (None | Some("IPAddress" | "Hostname"), value) => Ok(Wish::This(value)),
        (Some(kind), _) => {
            let message = format!("addresses of the type `{kind}` are not served");
            Err(Problem::new(reason::UNSUPPORTED_ADDRESS, message))
        }
    })
}

/// Returns whether a Gateway asks for some address, whichever.
fn wants_any(spec: &GatewaySpec) -> bool {
    spec.addresses.is_empty() || wishes(spec).any(|wish| wish == Ok(Wish::AnyIp))
}

/// Returns the address that a Gateway has according to its status.
fn present(gateway: &GatewayFacts) -> Option<IpAddr> {
    let addresses = gateway.record.status.as_ref()?.get("addresses")?.as_array()?;
    addresses.iter().find_map(|address| address.get("value")?.as_str()?.parse().ok())
}

#[cfg(test)]
mod tests;
