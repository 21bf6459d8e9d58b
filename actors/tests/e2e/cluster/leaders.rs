//! One replica writes at a time, and the next one takes over when it stops.

use std::thread::{self, JoinHandle};

use actix::{Addr, System};
use actix_web::test;
use kthena_router_actors::control::overseer::{Overseer, Shutdown};
use serde_json::{Value, json};

use super::objects::{model_route, model_server};
use crate::api_server::ApiServer;
use crate::harness::{Network, until};

/// A router on a thread of its own, which ends when the router does.
struct Replica {
    overseer: Addr<Overseer>,
    thread: JoinHandle<()>,
}

impl Replica {
    async fn start(api: &ApiServer, name: &str) -> Self {
        let (cluster, flag) = (api.config(), format!("--pod-name={name}"));
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let thread = thread::spawn(move || {
            let system = System::new();
            let harness = system.block_on(Network::new().launch(Some(cluster), &[&flag]));
            sender.send(harness.router.overseer.clone()).unwrap();
            system.run().unwrap();
        });
        Self { overseer: receiver.await.unwrap(), thread }
    }

    /// Tells it to stop, as SIGTERM does, and waits for its end.
    async fn stop(self) {
        self.overseer.do_send(Shutdown);
        until("the replica has ended", async || self.thread.is_finished()).await;
        self.thread.join().unwrap();
    }
}

fn holder(api: &ApiServer) -> Value {
    api.find("Lease", "kthena-router").map(|lease| lease["spec"]["holderIdentity"].clone()).unwrap_or_default()
}

async fn is_held_by(api: &ApiServer, name: &str) {
    until(&format!("`{name}` holds the lease"), async || holder(api) == name).await;
}

#[test]
async fn of_replicas_that_start_at_once_only_one_writes() {
    let network = Network::new();
    let api = ApiServer::start(network.host(200));
    api.put(model_server("m", "m"));
    api.put(model_route("r", "served", "m"));
    let replicas = futures::join!(Replica::start(&api, "first"), Replica::start(&api, "second"));
    for (kind, name, condition) in [("ModelRoute", "r", "Accepted"), ("ModelServer", "m", "Ready")] {
        let has_condition = async || api.condition(kind, name, condition).is_some();
        until(&format!("the status of the {kind} is written"), has_condition).await;
    }
    for name in ["one", "two", "three", "four"] {
        api.put(model_route(name, name, "m"));
        api.has_condition("ModelRoute", name, "Accepted", ("True", "Accepted")).await;
    }
    assert_eq!(api.writes().len(), 6, "{:#?}", api.writes());
    futures::join!(replicas.0.stop(), replicas.1.stop());
    assert_eq!(holder(&api), Value::Null, "the lease is given back");
}

#[test]
async fn only_the_replica_with_the_lease_writes_and_the_next_one_takes_over_when_it_is_given_back() {
    let network = Network::new();
    let api = ApiServer::start(network.host(200));
    api.put(model_server("m", "m"));
    let first = Replica::start(&api, "first").await;
    is_held_by(&api, "first").await;
    api.has_condition("ModelServer", "m", "Ready", ("False", "NoReadyEndpoints")).await;

    // A replica that waits looks at the lease when the time is up that it saw there; the test shortens the wait.
    let reads = api.requests("get", "Lease");
    let mut lease = api.object("Lease", "kthena-router");
    lease["spec"]["leaseDurationSeconds"] = json!(5);
    api.put(lease);
    let second = Replica::start(&api, "second").await;
    until("the second replica has seen the lease", async || api.requests("get", "Lease") > reads + 1).await;
    api.put(model_route("r", "served", "m"));
    api.has_condition("ModelRoute", "r", "Accepted", ("True", "Accepted")).await;
    assert_eq!((api.writes_to("ModelServer", "m").len(), api.writes_to("ModelRoute", "r").len()), (1, 1));
    assert_eq!(holder(&api), "first");

    first.stop().await;
    assert_ne!(holder(&api), "first", "the lease is given back");
    let before = api.writes().len();
    api.put(model_route("late", "late", "m"));
    is_held_by(&api, "second").await;
    api.has_condition("ModelRoute", "late", "Accepted", ("True", "Accepted")).await;
    assert_eq!(api.writes().len(), before + 1, "what the first has written is not written again");

    second.stop().await;
    assert_eq!(holder(&api), Value::Null, "the last one gives it back, too");
}
