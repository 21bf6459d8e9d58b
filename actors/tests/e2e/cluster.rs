//! The router in a cluster: what it makes of the objects there, of an API server that fails it, and what it writes.

use actix_web::test;
use simulated_engine::Engine;

use crate::api_server::ApiServer;
use crate::harness::{Harness, Network, PORT};

use objects::{attached_route, inside, model_route, model_server, pod};

mod adversity;
mod gateways;
mod leaders;
mod objects;
mod readability;
mod statuses;

/// Serve Gateways, which a router in a cluster does not unless it is told to.
const GATEWAYS: &str = "--enable-gateway-api=true";

/// A router in a cluster with one engine, on host 10, of the model `m`.
struct Setting {
    api: ApiServer,
    harness: Harness,
    /// Kept for as long as it is to answer.
    _engine: Engine,
}

impl Setting {
    /// Starts the router of a cluster in which `m` is served and which `prepare` adds to, and waits until it is ready.
    async fn new(flags: &[&str], prepare: impl FnOnce(&ApiServer)) -> Self {
        let setting = Self::unready(flags, prepare).await;
        setting.ready().await;
        setting
    }

    /// Starts the router without waiting for it.
    async fn unready(flags: &[&str], prepare: impl FnOnce(&ApiServer)) -> Self {
        let network = Network::new();
        let _engine = network.engine(10, "m").await;
        let api = ApiServer::start(network.host(200));
        api.put(model_server("m", "m"));
        api.put(pod("m-0", "m", network.host(10)));
        prepare(&api);
        let harness = network.launch(Some(api.config()), flags).await;
        Self { api, harness, _engine }
    }

    async fn ready(&self) {
        self.harness.until("the router is ready", async || self.harness.readyz().await.status == 200).await;
    }

    /// Waits until a model is answered for by the engine.
    async fn serves(&self, model: &str) {
        self.serves_on(PORT, model).await;
    }

    async fn serves_on(&self, port: u16, model: &str) {
        let is_served = async || self.is_open(port) && self.harness.complete_on(port, model).await.status == 200;
        self.harness.until(&format!("`{model}` is served on port {port}"), is_served).await;
        assert_eq!(self.harness.complete_on(port, model).await.answered_by(), "m");
    }

    /// Waits until nothing is known of a model.
    async fn forgets(&self, model: &str) {
        let is_unknown = async || self.harness.complete(model).await.status == 404;
        self.harness.until(&format!("`{model}` is no longer served"), is_unknown).await;
    }

    fn is_open(&self, port: u16) -> bool {
        std::net::TcpStream::connect((self.harness.host(1), port)).is_ok()
    }

    /// Changes a label of the engine's Pod, again and again, and waits each time until a plan is made because of it.
    async fn makes_plans(&self, count: usize) {
        for _ in 0..count {
            let before = self.harness.registry().await.generation;
            let mut pod = pod("m-0", "m", self.harness.host(10));
            pod["metadata"]["labels"]["after-plan"] = before.to_string().into();
            self.api.put(pod);
            let is_made = async || self.harness.registry().await.generation > before;
            self.harness.until("a plan is made", is_made).await;
        }
    }
}

#[test]
async fn objects_of_watched_namespaces_are_served_and_no_others() {
    let setting = Setting::new(&["--watch-namespaces=one,two"], |api| {
        for namespace in ["one", "two", "three"] {
            api.put(inside(namespace, model_route("r", namespace, "m")));
            api.put(inside(namespace, model_server("m", "m")));
        }
    })
    .await;
    for namespace in ["one", "two", "three"] {
        let pod = pod("m-0", "m", setting.harness.host(10));
        setting.api.put(inside(namespace, pod));
    }
    setting.serves("one").await;
    setting.serves("two").await;
    setting.forgets("three").await;
    let objects = setting.harness.registry().await.objects;
    assert_eq!((objects["ModelRoute"], objects["ModelServer"], objects["Pod"]), (2, 2, 2));

    setting.api.silence("ModelRoute");
    setting.api.delete("ModelRoute", "one/r");
    setting.api.forget();
    setting.forgets("one").await;
    setting.serves("two").await;
}

#[test]
async fn a_gateway_in_the_routers_namespace_serves_routes_of_watched_namespaces() {
    let setting = Setting::new(&[GATEWAYS, "--watch-namespaces=one"], |api| {
        for namespace in ["one", "two"] {
            let mut route = attached_route("r", namespace, "m", "default");
            route["spec"]["parentRefs"][0]["namespace"] = "default".into();
            api.put(inside(namespace, route));
            api.put(inside(namespace, model_server("m", "m")));
        }
    })
    .await;
    setting.api.put(inside("one", pod("m-0", "m", setting.harness.host(10))));
    setting.serves("one").await;
    setting.forgets("two").await;
    setting.api.has_condition("Gateway", "default", "Programmed", ("True", "Programmed")).await;
    setting.api.has_condition("ModelRoute", "one/r", "Accepted", ("True", "Accepted")).await;
    assert_eq!(setting.api.object("ModelRoute", "two/r").get("status"), None);
}

#[test]
async fn a_list_of_several_pages_is_read_whole() {
    let setting = Setting::new(&[], |api| {
        for number in 0..600 {
            api.put(pod(&format!("other-{number}"), "other", [192, 0, 2, 1].into()));
        }
        api.put(model_route("r", "served", "m"));
    })
    .await;
    assert_eq!(setting.harness.registry().await.objects["Pod"], 601);
    assert!(setting.api.requests("list", "Pod") >= 3, "the list is asked for in pages");
    setting.serves("served").await;
}
