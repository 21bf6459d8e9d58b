//! The Services that the router makes for Gateways: how they are called, and what they have.
//!
//! Source: Gateway API, `GatewayInfrastructure` and the label `gateway.networking.k8s.io/gateway-name`, which every
//! object that is made for a Gateway has; names follow GEP-1762, `<Gateway>-<GatewayClass>`.

use std::collections::BTreeSet;

use foldhash::HashMap;

use crate::addresses::AddressProvider;
use crate::controller::Controller;
use crate::object::ObjectKey;
use crate::selector::Labels;
use crate::world::{GATEWAY_NAME, MANAGED_BY, World};

/// The label with the namespace of the Gateway that an object is made for, which may be elsewhere.
pub const GATEWAY_NAMESPACE: &str = "networking.serving.volcano.sh/gateway-namespace";

/// The label with the name of the GatewayClass of that Gateway.
pub const GATEWAY_CLASS_NAME: &str = "gateway.networking.k8s.io/gateway-class-name";

/// The longest name of a Service, and the longest value of a label.
const LONGEST: usize = 63;

/// The first port that listeners are served on where each has one of its own.
const FIRST_PORT: u16 = 20_000;

/// The router's own ports while they are being given to the listeners' ports.
#[derive(Debug, Default)]
pub struct ContainerPorts {
    known: HashMap<(ObjectKey, u16), u16>,
    taken: BTreeSet<u16>,
}

/// Returns the Service of a Gateway; `None` where Gateways have none.
///
/// The load balancer of the `service` provider leads to the router's Pods and so has to be in their namespace; the
/// Service of the `pool` provider only carries labels and annotations, and is in that of the Gateway.
pub fn key(gateway: &ObjectKey, class: &str, controller: &Controller) -> Option<ObjectKey> {
    match controller.addresses {
        AddressProvider::Shared => None,
        AddressProvider::Pool(_) => {
            let name = shortened(&format!("{}-{class}", gateway.name));
            Some(ObjectKey { namespace: gateway.namespace.clone(), name: name.into() })
        }
        AddressProvider::Service => {
            let name = shortened(&format!("{}-{}-{class}", gateway.namespace, gateway.name));
            Some(ObjectKey::new(&*controller.namespace, name))
        }
    }
}

/// Returns the labels of what is made for a Gateway.
pub fn labels(gateway: &ObjectKey, class: &str) -> Labels {
    let labels = [
        (MANAGED_BY.0, MANAGED_BY.1.to_owned()),
        (GATEWAY_NAME, shortened(&gateway.name)),
        (GATEWAY_NAMESPACE, gateway.namespace.to_string()),
        (GATEWAY_CLASS_NAME, shortened(class)),
    ];
    labels.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

impl ContainerPorts {
    /// Reads which ports are given already, out of the targets of the Services.
    pub fn of(world: &World) -> Self {
        let mut ports = Self::default();
        for (key, service) in world.services.iter() {
            let Some(provided) = &service.provided else { continue };
            for (port, target) in &provided.targets {
                if ports.taken.insert(*target) {
                    ports.known.insert((key.clone(), *port), *target);
                }
            }
        }
        ports
    }

    /// Returns the router's own port for a port of a Service, a new one if it has none; `None` when none is left.
    pub fn port(&mut self, service: &ObjectKey, port: u16) -> Option<u16> {
        let known = (service.clone(), port);
        if let Some(own) = self.known.get(&known) {
            return Some(*own);
        }
        let own = (FIRST_PORT..=u16::MAX).find(|own| !self.taken.contains(own))?;
        self.taken.insert(own);
        self.known.insert(known, own);
        Some(own)
    }
}

/// Makes a DNS label of a name: dots become dashes, a digit in front gets a word before it, and what is too long is
/// cut; a name that is changed ends in a sum of itself, so that it stays one of its own.
fn shortened(name: &str) -> String {
    let plain = name.replace('.', "-");
    let plain =
        if plain.starts_with(|first: char| first.is_ascii_digit()) { format!("gateway-{plain}") } else { plain };
    if plain == name && plain.len() <= LONGEST {
        return plain;
    }
    let sum = format!("-{:08x}", checksum(name));
    let kept = plain.get(..LONGEST - sum.len()).unwrap_or(&plain).trim_end_matches('-');
    format!("{kept}{sum}")
}

/// Returns a sum of a text that is the same in every process: FNV-1a with 32 bits.
pub fn checksum(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |sum, byte| (sum ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_a_service_and_stay_apart() {
        let long = "a".repeat(253);
        let longer = format!("{}b", "a".repeat(252));
        assert_eq!(shortened("web-kthena-router"), "web-kthena-router");
        for name in [&*long, &*longer, "a.b", "1a", "1a.b"] {
            let short = shortened(name);
            assert!(short.len() <= LONGEST && !short.contains('.'), "{name}: {short}");
            assert!(short.starts_with(|first: char| first.is_ascii_lowercase()), "{name}: {short}");
        }
        assert_ne!(shortened(&long), shortened(&longer));
        assert_ne!(shortened("a.b"), shortened("a-b"));
    }

    #[test]
    fn a_port_keeps_the_routers_port_that_it_has() {
        let mut ports = ContainerPorts::default();
        let (first, second) = (ObjectKey::new("n", "a"), ObjectKey::new("n", "b"));
        ports.known.insert((second.clone(), 80), 20_000);
        ports.taken.insert(20_000);
        assert_eq!(ports.port(&first, 80), Some(20_001));
        assert_eq!(ports.port(&second, 80), Some(20_000));
        assert_eq!(ports.port(&first, 80), Some(20_001));
        assert_eq!(ports.port(&first, 443), Some(20_002));
    }
}
