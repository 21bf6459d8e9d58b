use super::*;
use crate::addresses::AddressProvider;

const SCENE: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: g, namespace: default, uid: ug, generation: 2, resourceVersion: '3'}
spec: {gatewayClassName: kthena-router, listeners: [{name: http, port: 8081, protocol: HTTP}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: r, namespace: default, uid: ur, generation: 5, resourceVersion: '4'}
spec: {parentRefs: [{name: other}, {name: g, sectionName: http}], rules: [{backendRefs: [{name: s, port: 80}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: s, namespace: default}
spec: {ports: [{port: 80}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: BackendTLSPolicy
metadata: {name: p, namespace: default, uid: up, generation: 1, resourceVersion: '5'}
spec: {targetRefs: [{group: '', kind: Service, name: s}], validation: {hostname: s.org, wellKnownCACertificates: System}}
";

fn foreign(reference: &str) -> Value {
    json!({reference: {"name": "other"}, "controllerName": "example.com/other", "conditions": [
        {"type": "Accepted", "status": "True", "reason": "Accepted", "message": "", "observedGeneration": 1,
         "lastTransitionTime": "2025-01-01T00:00:00Z"},
    ]})
}

#[test]
fn a_route_and_a_policy_are_told_of_what_is_ours() {
    let writes = writes(&world(SCENE), &controller());
    let route = &writes[&status(Kind::HttpRoute, "r")].body;
    let parents = route["status"]["parents"].as_array().unwrap();
    let [parent] = &parents[..] else { panic!("only one of the parents is ours: {parents:?}") };
    let reference =
        json!({"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "g", "sectionName": "http"});
    assert_eq!((&parent["parentRef"], &parent["controllerName"]), (&reference, &json!("volcano.sh/kthena-router")));
    assert_eq!(parent["conditions"][1]["observedGeneration"], 5);
    assert_eq!(route["metadata"].get("resourceVersion"), None, "nobody else's entries are at stake");
    let ancestor = &writes[&status(Kind::BackendTlsPolicy, "p")].body["status"]["ancestors"][0];
    assert_eq!(
        ancestor["ancestorRef"],
        json!({"group": "gateway.networking.k8s.io", "kind": "Gateway", "namespace": "default", "name": "g"})
    );
}

#[test]
fn entries_of_other_controllers_are_kept() {
    let mut world = world(SCENE);
    let route = Arc::make_mut(world.http_routes.objects.get_mut(&ObjectKey::new("default", "r")).unwrap());
    route.record.status = Some(Arc::new(json!({"parents": [foreign("parentRef")]})));
    let policy = world.backend_tls_policies.objects.get_mut(&ObjectKey::new("default", "p")).unwrap();
    policy.record.status = Some(Arc::new(json!({"ancestors": [foreign("ancestorRef")]})));
    let mut writes = writes(&world, &controller());
    for (kind, name, list, reference, version) in [
        (Kind::HttpRoute, "r", "parents", "parentRef", "4"),
        (Kind::BackendTlsPolicy, "p", "ancestors", "ancestorRef", "5"),
    ] {
        let body = writes.remove(&status(kind, name)).unwrap().body;
        let entries = body["status"][list].as_array().unwrap();
        assert_eq!(entries.len(), 2, "{kind}");
        assert_eq!(entries[1], foreign(reference), "{kind}");
        assert_eq!(body["metadata"]["resourceVersion"], version, "{kind}: written only over what was seen");
    }
}

#[test]
fn an_entry_of_ours_goes_when_the_route_leaves() {
    let mut world = world(&SCENE.replace("{name: g, sectionName: http}", "{name: other, port: 1}"));
    let route = Arc::make_mut(world.http_routes.objects.get_mut(&ObjectKey::new("default", "r")).unwrap());
    let mut stale = foreign("parentRef");
    stale["controllerName"] = json!("volcano.sh/kthena-router");
    route.record.status = Some(Arc::new(json!({"parents": [stale]})));
    let body = writes(&world, &controller()).remove(&status(Kind::HttpRoute, "r")).unwrap().body;
    assert_eq!(body["status"]["parents"], json!([]));
}

#[test]
fn an_occasional_condition_goes_when_its_time_is_over() {
    let mut world = world(SCENE);
    let mut body = writes(&world, &controller()).remove(&status(Kind::Gateway, "g")).unwrap().body;
    stamp(&mut body, "2026-01-01T00:00:00Z");
    let mut written = body["status"].take();
    let record = |world: &mut World, status: &Value| {
        let gateway = world.gateways.objects.get_mut(&ObjectKey::new("default", "g")).unwrap();
        gateway.record.status = Some(Arc::new(status.clone()));
    };
    record(&mut world, &written);
    assert!(!writes(&world, &controller()).contains_key(&status(Kind::Gateway, "g")));
    let stale = json!({"type": "InsecureFrontendValidationMode", "status": "True", "reason": "ConfigurationChanged"});
    written["conditions"].as_array_mut().unwrap().push(stale);
    record(&mut world, &written);
    let body = &writes(&world, &controller())[&status(Kind::Gateway, "g")].body;
    assert_eq!(body["status"]["conditions"].as_array().unwrap().len(), 3);
}

#[test]
fn a_gateway_gets_the_service_that_its_provider_makes() {
    let pool = AddressProvider::Pool(vec!["10.9.0.0/29".parse().unwrap()]);
    let named = "{labels: {team: a}, annotations: {note: b}}";
    let spec =
        |infrastructure: &str| SCENE.replace("listeners:", &format!("infrastructure: {infrastructure}, listeners:"));
    for (case, addresses, infrastructure, expected) in [
        ("shared addresses", AddressProvider::Shared, named, None),
        ("a pool and nothing to carry", pool.clone(), "{}", None),
        ("a pool", pool, named, Some(("g-kthena-router", json!("None"), Value::Null))),
        (
            "load balancers",
            AddressProvider::Service,
            "{}",
            Some(("default-g-kthena-router", Value::Null, json!("LoadBalancer"))),
        ),
    ] {
        let writes = writes(&world(&spec(infrastructure)), &Controller { addresses, ..controller() });
        let made = writes.iter().find(|(target, _)| target.kind == Kind::Service);
        let Some((name, cluster_ip, kind)) = expected else {
            assert_eq!(made, None, "{case}");
            continue;
        };
        let (target, write) = made.unwrap();
        assert_eq!((&*target.key.name, target.purpose), (name, Purpose::Create), "{case}");
        let Value::Object(spec) = &write.body["spec"] else { panic!("{case}: it has a spec") };
        assert_eq!(spec.get("clusterIP").cloned().unwrap_or_default(), cluster_ip, "{case}");
        assert_eq!(spec.get("type").cloned().unwrap_or_default(), kind, "{case}");
        let metadata = &write.body["metadata"];
        assert_eq!(metadata["labels"]["gateway.networking.k8s.io/gateway-name"], "g", "{case}");
        if infrastructure == named {
            assert_eq!(
                (&metadata["labels"]["team"], &metadata["annotations"]["note"]),
                (&json!("a"), &json!("b")),
                "{case}"
            );
        }
    }
}

#[test]
fn a_service_of_a_gateway_follows_it_and_goes_with_it() {
    let controller = Controller { addresses: AddressProvider::Service, ..controller() };
    let world_of = |gateway: &str, service: &str| world(&format!("{gateway}\n---\n{service}"));
    let made = writes(&world(SCENE), &controller);
    let (target, write) = made.iter().find(|(target, _)| target.kind == Kind::Service).unwrap();
    let service = write.body.to_string();
    let purposes = |world: &World| {
        let writes = writes(world, &controller).into_keys().filter(|target| target.kind == Kind::Service);
        writes.map(|target| (target.purpose, target.key.name.to_string())).collect::<Vec<_>>()
    };
    let named = |purpose| vec![(purpose, target.key.name.to_string())];
    assert_eq!(purposes(&world_of(SCENE, &service)), [], "as it should be");
    let another_port = SCENE.replace("port: 8081", "port: 8082");
    assert_eq!(purposes(&world_of(&another_port, &service)), named(Purpose::Spec), "a port changed");
    let foreign_class = SCENE.replace("gatewayClassName: kthena-router", "gatewayClassName: other");
    assert_eq!(purposes(&world_of(&foreign_class, &service)), named(Purpose::Delete), "the Gateway left");
    let of_a_user = service.replace("app.kubernetes.io/managed-by", "example.com/someone");
    assert_eq!(purposes(&world_of(&another_port, &of_a_user)), [], "somebody else's");
}

#[test]
fn a_pool_tells_of_its_gateways_and_keeps_what_others_say() {
    const POOL: &str = "
apiVersion: inference.networking.k8s.io/v1
kind: InferencePool
metadata: {name: p, namespace: default, uid: up, generation: 2, resourceVersion: '5'}
spec: {selector: {matchLabels: {app: a}}, targetPorts: [{number: 8000}]}
";
    const ROUTE: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: to-pool, namespace: default}
spec: {parentRefs: [{name: g}], rules: [{backendRefs: [{group: inference.networking.k8s.io, kind: InferencePool, name: p}]}]}
";
    let extended = Controller { inference_extension: true, ..controller() };
    let key = ObjectKey::new("default", "p");
    let foreign = json!({
        "parentRef": {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "x", "namespace": "default"},
        "controllerName": "example.com/other", "conditions": [],
    });
    let written = |routes: &str, parents: Option<Value>| {
        let mut world = world(&format!("{SCENE}\n---\n{POOL}\n---\n{routes}"));
        let status = parents.map(|parents| Arc::new(json!({"parents": parents})));
        world.inference_pools.objects.get_mut(&key).unwrap().record.status = status;
        let write = writes(&world, &extended).remove(&status_of_pool());
        write.map(|mut write| {
            stamp(&mut write.body, "2026-01-01T00:00:00Z");
            write.body
        })
    };
    assert_eq!(written("", None), None, "a pool that nobody uses");
    let body = written(ROUTE, None).expect("the pool is used");
    let own = body["status"]["parents"][0].clone();
    let gateway = json!({"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "g", "namespace": "default"});
    assert_eq!((&own["parentRef"], &own["controllerName"]), (&gateway, &json!("volcano.sh/kthena-router")));
    let conditions: Vec<_> =
        own["conditions"].as_array().unwrap().iter().map(|of| (&of["type"], &of["status"])).collect();
    assert_eq!(conditions, [(&json!("Accepted"), &json!("True")), (&json!("ResolvedRefs"), &json!("True"))]);
    assert_eq!(own["conditions"][0]["observedGeneration"], 2);
    assert_eq!(written(ROUTE, Some(json!([own]))), None, "as it should be");
    assert_eq!(written("", Some(json!([own]))).expect("the route went")["status"]["parents"], json!([]));
    let body = written("", Some(json!([foreign, own]))).expect("the route went");
    assert_eq!(body["status"]["parents"], json!([foreign]));
    assert_eq!(body["metadata"]["resourceVersion"], "5", "the others' entries are not overwritten unseen");
    assert_eq!(written("", Some(json!([foreign]))), None);
}

fn status_of_pool() -> Target {
    Target { purpose: Purpose::Status, kind: Kind::InferencePool, key: ObjectKey::new("default", "p") }
}
