//! Says what is wrong with a Gateway or a ListenerSet that has the right types, and with a Pod that a file describes.
//!
//! An API server refuses what breaks the schema and the rules of the CustomResourceDefinitions; a directory of YAML has
//! no API server.
//!
//! Source: Gateway API, `Gateway.spec.listeners`: the name of a listener is unique, and a hostname is a name in lower
//! case, with or without a leading `*.`, and no IP address.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::Pod;

use super::faults::Fault;
use super::gateway::{GatewaySpec, Listener};
use super::listener_set::ListenerSetSpec;
use super::names::{is_dns_subdomain, is_hostname};

/// Returns what is wrong with a Gateway, in the order of its fields.
pub fn gateway_faults(spec: &GatewaySpec) -> Vec<Fault> {
    listener_faults(&spec.listeners)
}

/// Returns what is wrong with a ListenerSet, in the order of its fields.
pub fn listener_set_faults(spec: &ListenerSetSpec) -> Vec<Fault> {
    listener_faults(&spec.listeners)
}

/// Returns what is wrong with a Pod: an address that is none would only show as a Pod that nobody selects.
pub fn pod_faults(pod: &Pod) -> Vec<Fault> {
    let address = pod.status.as_ref().and_then(|status| status.pod_ip.as_deref());
    let unreadable = address.filter(|address| !address.is_empty() && address.parse::<IpAddr>().is_err());
    let fault = |address: &str| Fault {
        path: "status.podIP".to_owned(),
        message: format!(
            "`{address}` is not an IP address: expected one such as `10.0.0.7`, without a port; host names are not looked up"
        ),
    };
    unreadable.map(fault).into_iter().collect()
}

fn listener_faults(listeners: &[Listener]) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (place, listener) in listeners.iter().enumerate() {
        let mut fault = |field: &str, message: String| {
            faults.push(Fault { path: format!("spec.listeners[{place}].{field}"), message });
        };
        let name = &listener.name;
        if !is_dns_subdomain(name) {
            fault("name", format!("`{name}` is not a name: expected lower-case letters, digits and inner hyphens"));
        } else if listeners[..place].iter().any(|earlier| earlier.name == *name) {
            fault("name", format!("`{name}` is the name of an earlier listener, and routes could not tell them apart"));
        }
        if let Some(hostname) = listener.hostname.as_deref().filter(|hostname| !hostname.is_empty())
            && !is_hostname(hostname)
        {
            fault(
                "hostname",
                format!(
                    "`{hostname}` is not a host name in lower case, with or without a leading `*.`, and no address"
                ),
            );
        }
        if u16::try_from(listener.port).ok().filter(|port| *port > 0).is_none() {
            fault("port", format!("expected a port from 1 to 65535, found {}", listener.port));
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listener(name: &str, hostname: &str) -> Listener {
        Listener { name: name.to_owned(), hostname: Some(hostname.to_owned()), port: 80, ..Listener::default() }
    }

    #[test]
    fn listeners_that_an_api_server_would_refuse_are_faults() {
        let ported = |port| Listener { port, ..listener("a", "") };
        for (case, listeners, expected) in [
            ("fine", vec![listener("a", "a.org"), listener("b", "*.a.org"), listener("c", "")], &[][..]),
            ("one name twice", vec![listener("a", "a.org"), listener("a", "b.org")], &["spec.listeners[1].name"]),
            ("a name with a space", vec![listener("a b", "")], &["spec.listeners[0].name"]),
            ("a space", vec![listener("a", "exa mple.com")], &["spec.listeners[0].hostname"]),
            ("a URL", vec![listener("a", "HTTP://x")], &["spec.listeners[0].hostname"]),
            ("capitals", vec![listener("a", "A.org")], &["spec.listeners[0].hostname"]),
            ("two wildcards", vec![listener("a", "*.*.com")], &["spec.listeners[0].hostname"]),
            ("a bare wildcard", vec![listener("a", "*")], &["spec.listeners[0].hostname"]),
            ("an address", vec![listener("a", "1.2.3.4")], &["spec.listeners[0].hostname"]),
            (
                "a port",
                vec![ported(0), ported(70_000)],
                &["spec.listeners[0].port", "spec.listeners[1].name", "spec.listeners[1].port"],
            ),
        ] {
            let faults = gateway_faults(&GatewaySpec { listeners, ..GatewaySpec::default() });
            let paths: Vec<_> = faults.iter().map(|fault| fault.path.as_str()).collect();
            assert_eq!(paths, expected, "{case}: {faults:?}");
        }
    }

    #[test]
    fn a_pod_without_a_plain_address_is_a_fault() {
        for (address, is_fault) in [
            ("10.0.0.7", false),
            ("fd00::7", false),
            ("", false),
            ("gpu-box.lan", true),
            ("127.0.0.1:8000", true),
            ("10.0.0", true),
        ] {
            let pod: Pod = serde_json::from_value(serde_json::json!({"status": {"podIP": address}})).unwrap();
            assert_eq!(!pod_faults(&pod).is_empty(), is_fault, "{address}");
        }
        assert_eq!(pod_faults(&Pod::default()), [], "a Pod that was not given an address yet");
    }
}
