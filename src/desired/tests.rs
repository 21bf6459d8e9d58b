use serde_json::json;

use super::*;
use crate::fixtures::{bind, controller, world};
use crate::object::BindState;
use crate::plan::{Plan, plan};

mod gateway_api;

const OBJECTS: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: other-name, uid: uc, generation: 1}
spec: {controllerName: volcano.sh/kthena-router}
---
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: foreign, uid: uf, generation: 1}
spec: {controllerName: example.com/other}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: own, namespace: default, uid: ug, generation: 3, resourceVersion: '17'}
spec: {gatewayClassName: other-name, listeners: [{name: http, port: 8081, protocol: HTTP}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: not-ours, namespace: default, uid: un, generation: 3}
spec: {gatewayClassName: foreign, listeners: [{name: http, port: 8081, protocol: HTTP}]}
---
apiVersion: networking.serving.volcano.sh/v1alpha1
kind: ModelRoute
metadata: {name: r, namespace: default, uid: ur, generation: 1}
spec: {modelName: m, parentRefs: [{name: own}], rules: [{targetModels: [{modelServerName: missing}]}]}
---
apiVersion: networking.serving.volcano.sh/v1alpha1
kind: ModelServer
metadata: {name: s, namespace: default, uid: us, generation: 1}
spec: {inferenceEngine: vLLM, workloadSelector: {matchLabels: {app: a}}, workloadPort: {port: 8000}}
---
apiVersion: v1
kind: Service
metadata: {name: kthena-router, namespace: default}
spec: {type: LoadBalancer, ports: [{name: http, port: 80, targetPort: 8080}, {name: gateway-9999, port: 9999}]}
status: {loadBalancer: {ingress: [{ip: 192.0.2.7}, {hostname: lb.example.com}]}}
";

fn writes(world: &World, controller: &Controller) -> Writes {
    let Plan { binds, reports, .. } = plan(world, controller);
    Reconciler::default().writes(world, &binds, &Arc::new(reports), controller)
}

fn target(purpose: Purpose, kind: Kind, name: &str) -> Target {
    let namespace = if kind == Kind::GatewayClass { "" } else { "default" };
    Target { purpose, kind, key: ObjectKey::new(namespace, name) }
}

fn status(kind: Kind, name: &str) -> Target {
    target(Purpose::Status, kind, name)
}

/// Returns the world of a manifest after all of its statuses were written at `now`.
fn after_writes(manifest: &str, now: &str) -> World {
    let mut world = world(manifest);
    world.binds.insert(bind(8081), BindState::Open);
    for (target, write) in writes(&world, &controller()) {
        let mut body = write.body;
        stamp(&mut body, now);
        let status = Some(Arc::new(body["status"].take()));
        match target.kind {
            Kind::GatewayClass => world.gateway_classes.objects.get_mut(&target.key).unwrap().record.status = status,
            Kind::Gateway => world.gateways.objects.get_mut(&target.key).unwrap().record.status = status,
            Kind::ModelRoute => {
                let route = world.model_routes.objects.get_mut(&target.key).unwrap();
                Arc::make_mut(route).record.status = status;
            }
            Kind::ModelServer => world.model_servers.objects.get_mut(&target.key).unwrap().record.status = status,
            other => panic!("no status of a {other} is written"),
        }
    }
    world
}

#[test]
fn every_own_object_gets_its_status_and_no_other() {
    let writes = writes(&world(OBJECTS), &controller());
    let targets: Vec<_> = writes.keys().cloned().collect();
    let expected = [
        status(Kind::GatewayClass, "other-name"),
        status(Kind::Gateway, "own"),
        status(Kind::ModelRoute, "r"),
        status(Kind::ModelServer, "s"),
    ];
    assert_eq!(targets, expected);
    let gateway = &writes[&status(Kind::Gateway, "own")];
    assert_eq!((gateway.seen, &*gateway.uid), (17, "ug"));
    let body = &gateway.body;
    assert_eq!(body["metadata"], json!({"name": "own", "namespace": "default", "uid": "ug"}));
    let addresses =
        json!([{"type": "IPAddress", "value": "192.0.2.7"}, {"type": "Hostname", "value": "lb.example.com"}]);
    assert_eq!(body["status"]["addresses"], addresses);
    let listener = &body["status"]["listeners"][0];
    assert_eq!(listener["attachedRoutes"], 1);
    let kinds = json!([
        {"group": "gateway.networking.k8s.io", "kind": "HTTPRoute"},
        {"group": "networking.serving.volcano.sh", "kind": "ModelRoute"},
    ]);
    assert_eq!(listener["supportedKinds"], kinds);
    assert_eq!(listener["conditions"][0]["observedGeneration"], 3);
    let route = &writes[&status(Kind::ModelRoute, "r")];
    let parent = &route.body["status"]["parents"][0];
    assert_eq!(parent["conditions"][1]["reason"], "BackendNotFound");
    let reasons: Vec<_> = route.transitions.iter().map(|transition| &*transition.reason).collect();
    assert_eq!(reasons, ["BackendNotFound"], "one event, although the route and its parent have the condition");
}

#[test]
fn fields_that_are_accepted_and_not_served_are_a_condition_and_an_event_until_they_go() {
    let asking = OBJECTS.replace(
        "workloadSelector: {matchLabels: {app: a}}",
        "kvConnector: {type: nixl}, workloadSelector: {matchLabels: {app: a}}",
    );
    let written = writes(&world(&asking), &controller());
    for (target, fields) in [(status(Kind::ModelServer, "s"), &["kvConnector"])] {
        let write = &written[&target];
        let conditions = write.body["status"]["conditions"].as_array().unwrap();
        let condition = conditions.iter().find(|condition| condition["type"] == "UnservedFields").unwrap();
        assert_eq!((&condition["status"], &condition["reason"]), (&json!("True"), &json!("NotImplemented")));
        let told = write.transitions.iter().find(|transition| transition.reason == "NotImplemented").unwrap();
        assert!(!told.is_good, "it is a warning");
        for field in fields {
            assert!(condition["message"].as_str().unwrap().contains(field), "{condition}");
            assert!(told.message.contains(field), "{told:?}");
        }
    }
    let mut known = after_writes(&asking, "2026-01-01T00:00:00Z");
    assert_eq!(writes(&known, &controller()), Writes::new(), "it is told once");
    let plain = world(OBJECTS);
    let server = known.model_servers.objects.get_mut(&ObjectKey::new("default", "s")).unwrap();
    server.spec = Arc::clone(&plain.model_servers.find(&server.key).unwrap().spec);
    let body = writes(&known, &controller())[&status(Kind::ModelServer, "s")].body.to_string();
    assert!(!body.contains("UnservedFields"), "{body}");
}

#[test]
fn a_limit_that_nobody_counts_is_a_condition_and_an_event_while_its_redis_is_away() {
    let limit = "rateLimit: {inputTokensPerUnit: 10, unit: minute, global: {redis: {address: \"redis:6379\"}}}";
    let mut world = world(&OBJECTS.replace("spec: {modelName: m,", &format!("spec: {{modelName: m, {limit},")));
    let told = |world: &World| {
        let write = writes(world, &controller()).remove(&status(Kind::ModelRoute, "r")).unwrap();
        let event = write.transitions.iter().any(|told| told.reason == "RedisUnavailable" && !told.is_good);
        (event, write.body["status"]["conditions"].to_string().contains("the Redis at `redis:6379` does not answer"))
    };
    assert_eq!(told(&world), (false, false));
    world.redis_away.insert("other:6379".into());
    assert_eq!(told(&world), (false, false));
    world.redis_away.insert("redis:6379".into());
    assert_eq!(told(&world), (true, true));
    // A condition is of one type only once, whatever it is about.
    let route = world.model_routes.objects.get_mut(&ObjectKey::new("default", "r")).unwrap();
    Arc::make_mut(route).priority = Err("`high` is no whole number".to_owned());
    let body = writes(&world, &controller()).remove(&status(Kind::ModelRoute, "r")).unwrap().body;
    let told = body["status"]["conditions"].as_array().unwrap();
    let told: Vec<_> = told.iter().filter(|condition| condition["type"] == "UnservedFields").collect();
    assert_eq!((told.len(), &told[0]["reason"]), (1, &json!("UnsupportedValue")), "{told:?}");
    let message = told[0]["message"].as_str().unwrap();
    assert!(message.contains("`high`") && message.contains("the Redis at"), "{message}");
}

#[test]
fn a_status_that_is_as_it_should_be_is_not_written() {
    let world = after_writes(OBJECTS, "2026-01-01T00:00:00Z");
    assert_eq!(writes(&world, &controller()), Writes::new());
}

#[test]
fn a_status_that_someone_changed_is_written_again() {
    let mut world = after_writes(OBJECTS, "2026-01-01T00:00:00Z");
    let record = &mut world.gateways.objects.get_mut(&ObjectKey::new("default", "own")).unwrap().record;
    Arc::make_mut(record.status.as_mut().unwrap())["listeners"] = json!([]);
    let targets: Vec<_> = writes(&world, &controller()).into_keys().collect();
    assert_eq!(targets, [status(Kind::Gateway, "own")]);
}

#[test]
fn only_conditions_that_change_get_a_new_time() {
    let mut world = after_writes(OBJECTS, "2026-01-01T00:00:00Z");
    world.binds.insert(bind(8081), BindState::Failed("in use".to_owned()));
    let mut write = writes(&world, &controller()).remove(&status(Kind::Gateway, "own")).unwrap();
    stamp(&mut write.body, "2026-02-02T00:00:00Z");
    let times: Vec<_> = write.body["status"]["conditions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|condition| (condition["type"].as_str().unwrap(), condition["lastTransitionTime"].as_str().unwrap()))
        .collect();
    let (before, after) = ("2026-01-01T00:00:00Z", "2026-02-02T00:00:00Z");
    assert_eq!(times, [("Accepted", before), ("Programmed", after), ("ResolvedRefs", before)]);
    assert!(write.transitions.iter().any(|transition| !transition.is_good && transition.reason == "PortUnavailable"));
}

#[test]
fn what_others_wrote_into_a_status_is_left_alone() {
    let mut world = after_writes(OBJECTS, "2026-01-01T00:00:00Z");
    let record = &mut world.gateways.objects.get_mut(&ObjectKey::new("default", "own")).unwrap().record;
    let status = Arc::make_mut(record.status.as_mut().unwrap());
    status["somethingOfAnother"] = json!(1);
    status["conditions"].as_array_mut().unwrap().push(json!({"type": "example.com/Seen", "status": "True"}));
    assert_eq!(writes(&world, &controller()), Writes::new());
}

#[test]
fn what_is_missing_is_created_and_what_exists_is_left_alone() {
    let controller = Controller { provides: true, ..controller() };
    let class = target(Purpose::Create, Kind::GatewayClass, "kthena-router");
    let gateway = target(Purpose::Create, Kind::Gateway, "default");
    let of_empty = writes(&World::default(), &controller);
    assert_eq!(of_empty.keys().cloned().collect::<Vec<_>>(), [class.clone(), gateway.clone()]);
    assert_eq!(of_empty[&gateway].body["spec"]["listeners"][0]["port"], 8080);

    let mut without_definitions = World::default();
    without_definitions.gateway_classes.known = false;
    without_definitions.gateways.known = false;
    let off = Controller { gateway_api: false, ..controller.clone() };
    let existing = world(
        "{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {name: default}, \
         spec: {gatewayClassName: someone-elses, listeners: [{name: a, port: 1, protocol: TCP}]}}",
    );
    let cases = [
        ("a cluster without the Gateway API", without_definitions, &controller, vec![]),
        ("a router without the Gateway API", World::default(), &off, vec![]),
        ("a default Gateway of a user", existing, &controller, vec![class]),
    ];
    for (case, world, controller, expected) in cases {
        assert_eq!(writes(&world, controller).into_keys().collect::<Vec<_>>(), expected, "{case}");
    }
}

#[test]
fn the_service_exposes_what_listens_and_keeps_the_ports_of_users() {
    let controller = Controller { sync_service_ports: true, ..controller() };
    let ports = |ports: &str, gateway_port: u16| {
        let world = world(&format!(
            "{{apiVersion: v1, kind: Service, metadata: {{name: kthena-router}}, spec: {{ports: {ports}}}}}\n---\n\
             {{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {{name: g}}, \
             spec: {{gatewayClassName: kthena-router, listeners: [{{name: a, port: {gateway_port}, protocol: HTTP}}]}}}}"
        ));
        writes(&world, &controller).remove(&target(Purpose::Spec, Kind::Service, "kthena-router")).map(|write| {
            let ports = write.body["spec"]["ports"].as_array().unwrap().clone();
            ports.iter().map(|port| port["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        })
    };
    let named = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
    let cases = [
        ("new listeners", "[{name: http, port: 80}]", 8081, named(&["gateway-8080", "gateway-8081"])),
        (
            "a listener that went",
            "[{name: gateway-8080, port: 8080}, {name: gateway-8081, port: 8081}]",
            8080,
            named(&["gateway-8080"]),
        ),
        ("in step", "[{name: gateway-8080, port: 8080}, {name: gateway-8081, port: 8081}]", 8081, None),
        ("a user's port of that number", "[{name: mine, port: 8081}]", 8081, named(&["gateway-8080"])),
        (
            "a user's port of another protocol",
            "[{name: mine, port: 8081, protocol: UDP}]",
            8081,
            named(&["gateway-8080", "gateway-8081"]),
        ),
    ];
    for (case, present, port, expected) in cases {
        assert_eq!(ports(present, port), expected, "{case}");
    }
}

#[test]
fn a_second_look_finds_what_a_first_one_would() {
    let (manifest, controller) = (OBJECTS.replace("uid:", "resourceVersion: '5', uid:"), controller());
    let manifest = manifest.replace(", resourceVersion: '17'", "");
    let mut world = after_writes(&manifest, "2026-01-01T00:00:00Z");
    let mut reconciler = Reconciler::default();
    let mut look = |world: &World| {
        let Plan { binds, reports, .. } = plan(world, &controller);
        reconciler.writes(world, &binds, &Arc::new(reports), &controller).into_keys().collect::<Vec<_>>()
    };
    assert_eq!(look(&world), []);
    assert_eq!(look(&world), [], "nothing changed");

    let key = ObjectKey::new("default", "own");
    let record = &mut world.gateways.objects.get_mut(&key).unwrap().record;
    record.status = None;
    record.resource_version = 6;
    let gateway = status(Kind::Gateway, "own");
    assert_eq!(look(&world), std::slice::from_ref(&gateway), "someone took the status away");
    assert_eq!(look(&world), std::slice::from_ref(&gateway), "it is still away");

    let mut world = after_writes(&manifest, "2026-01-01T00:00:00Z");
    assert_eq!(look(&world), []);
    world.binds.insert(bind(8081), BindState::Failed("in use".to_owned()));
    assert_eq!(look(&world), [gateway], "the report is another one");
}
