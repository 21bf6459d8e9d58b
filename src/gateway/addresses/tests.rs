use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::controller::Controller;
use crate::fixtures::world;

fn gateway(name: &str, addresses: &str) -> String {
    format!(
        "{{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {{name: {name}}}, \
         spec: {{gatewayClassName: kthena-router, listeners: [], addresses: {addresses}}}}}\n---\n"
    )
}

/// A Service whose load balancer has an IP address and a host name.
const SERVICE: &str = "
{apiVersion: v1, kind: Service, metadata: {name: kthena-router}, spec: {type: LoadBalancer, ports: []}, \
 status: {loadBalancer: {ingress: [{ip: 192.0.2.7}, {hostname: lb.example.com}]}}}
---
";

fn pool(ranges: &[&str]) -> Controller {
    let ranges = ranges.iter().map(|range| range.parse().expect("a range is read")).collect();
    Controller { addresses: AddressProvider::Pool(ranges), ..Controller::default() }
}

/// Returns what each Gateway gets, in the order of their names, as `addresses (reasons)`.
fn assigned(world: &World, controller: &Controller) -> Vec<String> {
    let gateways: Vec<_> = world.gateways.iter().collect();
    let (assigned, _) = assign(&gateways, world, controller);
    let summary = |assigned: &Assigned| {
        let problems = assigned.unsupported.iter().chain(&assigned.unusable).map(|problem| problem.reason);
        let words = assigned.published.iter().map(String::as_str).chain(problems);
        words.collect::<Vec<_>>().join(" ")
    };
    assigned.iter().map(summary).collect()
}

#[test]
fn gateways_share_what_the_routers_service_has() {
    for (case, addresses, expected) in [
        ("no wish", "[]", "192.0.2.7 lb.example.com"),
        ("null", "null", "192.0.2.7 lb.example.com"),
        ("any IP address", "[{type: IPAddress}]", "192.0.2.7"),
        ("any address without a type", "[{value: ''}]", "192.0.2.7"),
        ("any host name", "[{type: Hostname}]", "lb.example.com"),
        ("its IP address", "[{value: 192.0.2.7}]", "192.0.2.7"),
        ("its host name", "[{type: Hostname, value: lb.example.com}]", "lb.example.com"),
        ("another IP address", "[{value: 192.0.2.8}]", "AddressNotUsable"),
        ("another one beside its own", "[{value: 192.0.2.8}, {value: 192.0.2.7}]", "192.0.2.7 AddressNotUsable"),
        ("an unknown type", "[{type: example.com/x, value: z}]", "UnsupportedAddress"),
    ] {
        let world = world(&(SERVICE.to_owned() + &gateway("g", addresses)));
        assert_eq!(assigned(&world, &Controller::default()), [expected], "{case}");
    }
}

#[test]
fn gateways_get_addresses_of_the_pool_to_themselves() {
    let two = ["10.9.0.1", "10.9.0.2"];
    for (case, ranges, wishes, expected) in [
        ("no wishes", &two[..], ["[]", "[]"], ["10.9.0.1", "10.9.0.2"]),
        ("null", &two[..], ["null", "[]"], ["10.9.0.1", "10.9.0.2"]),
        ("any address of the type", &two[..], ["[{type: IPAddress}]", "[]"], ["10.9.0.1", "10.9.0.2"]),
        ("a wish of the younger one", &two[..], ["[]", "[{value: 10.9.0.1}]"], ["10.9.0.2", "10.9.0.1"]),
        ("one wish of two", &two[..], ["[{value: 10.9.0.1}]", "[{value: 10.9.0.1}]"], ["10.9.0.1", "AddressNotUsable"]),
        ("outside of the pool", &two[..], ["[{value: 10.9.0.3}]", "[]"], ["AddressNotUsable", "10.9.0.1"]),
        ("no address at all", &two[..], ["[{value: nowhere}]", "[]"], ["AddressNotUsable", "10.9.0.1"]),
        ("a host name", &two[..], ["[{type: Hostname, value: ''}]", "[]"], ["UnsupportedAddress", "10.9.0.1"]),
        ("an empty pool", &[], ["[]", "[]"], ["AddressNotAssigned", "AddressNotAssigned"]),
        ("a pool that is too small", &["10.9.0.1"], ["[]", "[]"], ["10.9.0.1", "AddressNotAssigned"]),
        ("IPv6", &["fd00::/127"], ["[]", "[]"], ["fd00::", "fd00::1"]),
    ] {
        let world = world(&(gateway("a", wishes[0]) + &gateway("b", wishes[1])));
        assert_eq!(assigned(&world, &pool(ranges)), expected, "{case}");
    }
}

#[test]
fn a_gateway_keeps_its_address_while_others_come_and_go() {
    let controller = pool(&["10.9.0.1", "10.9.0.2", "10.9.0.3"]);
    let mut world = world(&(gateway("b", "[]") + &gateway("c", "[]")));
    let status = Some(Arc::new(json!({"addresses": [{"value": "10.9.0.3"}]})));
    world.gateways.objects.values_mut().for_each(|gateway| gateway.record.status = status.clone());
    assert_eq!(assigned(&world, &controller), ["10.9.0.3", "10.9.0.1"], "by its status after a restart");
    world.allocations.insert(ObjectKey::new("default", "b"), "10.9.0.2".parse().expect("an address"));
    assert_eq!(assigned(&world, &controller), ["10.9.0.2", "10.9.0.3"], "by the last plan while the router runs");
    world.allocations.insert(ObjectKey::new("default", "b"), "10.8.0.1".parse().expect("an address"));
    let outside = assigned(&world, &controller);
    assert_eq!(outside, ["10.9.0.1", "10.9.0.3"], "unless the pool has it no more");
}

#[test]
fn ranges_are_addresses_and_networks() {
    for (text, expected) in [
        ("10.0.0.7", Some(vec!["10.0.0.7"])),
        ("10.0.0.7/32", Some(vec!["10.0.0.7"])),
        ("10.0.0.7/31", Some(vec!["10.0.0.6", "10.0.0.7"])),
        ("10.0.0.7/30", Some(vec!["10.0.0.5", "10.0.0.6"])),
        ("fd00::2/127", Some(vec!["fd00::2", "fd00::3"])),
        ("10.0.0.0/33", None),
        ("10.0.0", None),
        ("example.com", None),
        ("10.0.0.0/-1", None),
    ] {
        let range: Result<AddressRange, _> = text.parse();
        let addresses = range.ok().map(|range| range.iter().map(|address| address.to_string()).collect::<Vec<_>>());
        let expected = expected.map(|all| all.into_iter().map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(addresses, expected, "{text}");
    }
}
