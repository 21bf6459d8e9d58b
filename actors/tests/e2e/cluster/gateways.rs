//! What the router provides: its GatewayClass, the default Gateway, and the ports and addresses of its Service.

use actix_web::test;
use serde_json::{Value, json};

use super::objects::{attached_route, gateway, gateway_class, service};
use super::{GATEWAYS, Setting};

/// The objects that the router provides.
const PROVIDED: [(&str, &str); 2] = [("GatewayClass", "kthena-router"), ("Gateway", "default")];

fn uids(setting: &Setting) -> [Option<Value>; 2] {
    PROVIDED.map(|(kind, name)| Some(setting.api.find(kind, name)?["metadata"]["uid"].clone()))
}

#[test]
async fn the_class_and_the_default_gateway_are_created_when_missing_and_again_after_deletion() {
    let setting = Setting::new(&[GATEWAYS], |api| api.put(attached_route("r", "served", "m", "default"))).await;
    let api = &setting.api;
    for _ in 0..2 {
        for (kind, name) in PROVIDED {
            api.has_condition(kind, name, "Accepted", ("True", "Accepted")).await;
        }
        setting.serves("served").await;
        let before = uids(&setting);
        for (kind, name) in PROVIDED {
            api.delete(kind, name);
        }
        let are_new = async || uids(&setting).iter().zip(&before).all(|(new, old)| new.is_some() && new != old);
        setting.harness.until("both are created again", are_new).await;
    }
    let created = api.writes().into_iter().filter(|write| write.verb == "create");
    assert_eq!(created.filter(|write| write.manager == "kthena-router").count(), 6, "each was created three times");
}

#[test]
async fn a_default_gateway_of_a_user_is_left_as_it_is() {
    let setting = Setting::new(&[GATEWAYS], |api| {
        api.put(gateway_class("kthena-router", "volcano.sh/kthena-router"));
        api.put(gateway("default", "kthena-router", 8081));
        api.put(attached_route("r", "served", "m", "default"));
    })
    .await;
    setting.serves_on(8081, "served").await;
    setting.api.has_condition("Gateway", "default", "Programmed", ("True", "Programmed")).await;
    setting.makes_plans(2).await;
    let writes = setting.api.writes();
    assert!(writes.iter().all(|write| write.subresource == "status"), "{writes:#?}");
}

#[test]
async fn nothing_is_created_while_its_kind_is_unknown() {
    let kinds = ["CustomResourceDefinition", "GatewayClass", "Gateway"];
    let setting = Setting::new(&[GATEWAYS], |api| kinds.iter().for_each(|kind| api.hide(kind))).await;
    let api = &setting.api;
    setting.makes_plans(3).await;
    api.has_condition("ModelServer", "m", "Ready", ("True", "Ready")).await;
    assert_eq!(kinds.map(|kind| api.requests("create", kind)), [0; 3]);

    kinds.iter().for_each(|kind| api.allow(kind));
    for (kind, name) in PROVIDED {
        api.has_condition(kind, name, "Accepted", ("True", "Accepted")).await;
    }
}

/// Returns the names of the Service's ports.
fn port_names(service: &Value) -> Vec<&str> {
    service["spec"]["ports"].as_array().unwrap().iter().map(|port| port["name"].as_str().unwrap()).collect()
}

#[test]
async fn the_ports_of_the_service_follow_the_listeners_and_those_of_its_user_stay() {
    let setting = Setting::new(&[GATEWAYS, "--sync-service-ports=true"], |api| api.put(service("192.0.2.7"))).await;
    let api = &setting.api;
    let has_ports = async |expected: &[&str]| {
        let is_so = async || port_names(&api.object("Service", "kthena-router")) == expected;
        setting.harness.until(&format!("the ports are {expected:?}"), is_so).await;
    };
    has_ports(&["http", "gateway-8080"]).await;
    api.put(gateway("own", "kthena-router", 8081));
    has_ports(&["http", "gateway-8080", "gateway-8081"]).await;
    api.delete("Gateway", "own");
    has_ports(&["http", "gateway-8080"]).await;

    let users = json!({"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"});
    assert_eq!(api.object("Service", "kthena-router")["spec"]["ports"][0], users);
    let writes = api.writes_to("Service", "kthena-router");
    for write in &writes {
        assert_eq!((&*write.subresource, write.verb, &*write.manager), ("", "apply", "kthena-router"));
        assert!(port_names(&write.body).iter().all(|name| name.starts_with("gateway-")), "{}", write.body);
    }
    assert_eq!(writes.len(), 3, "{writes:#?}");
    setting.makes_plans(3).await;
    assert_eq!(api.writes_to("Service", "kthena-router").len(), 3, "ports that are in step are not written");
}

#[test]
async fn the_ports_of_the_service_are_left_alone_without_the_flag() {
    let setting = Setting::new(&[GATEWAYS], |api| api.put(service("192.0.2.7"))).await;
    setting.api.has_condition("Gateway", "default", "Programmed", ("True", "Programmed")).await;
    setting.makes_plans(2).await;
    assert!(setting.api.writes_to("Service", "kthena-router").is_empty());
}

#[test]
async fn a_gateway_has_the_addresses_of_the_service() {
    let setting = Setting::new(&[GATEWAYS], |api| {
        let mut other = service("192.0.2.99");
        other["metadata"]["name"] = "other".into();
        api.put(other);
    })
    .await;
    let api = &setting.api;
    for address in ["192.0.2.7", "192.0.2.8"] {
        api.put(service(address));
        let addresses = json!([{"type": "IPAddress", "value": address}]);
        let has =
            async || api.find("Gateway", "default").is_some_and(|gateway| gateway["status"]["addresses"] == addresses);
        setting.harness.until(&format!("the address is {address}"), has).await;
    }
    api.delete("Service", "kthena-router");
    let has_none = async || api.object("Gateway", "default")["status"]["addresses"] == json!([]);
    setting.harness.until("there is no address any more", has_none).await;
}
