use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::json;

use super::*;
use crate::kinds::{InferencePool, ModelRoute, ModelServer};

type Labels = BTreeMap<String, String>;

fn key(namespace: &str, name: &str) -> ObjectKey {
    ObjectKey::new(namespace, name)
}

fn labels(value: &str) -> Labels {
    BTreeMap::from([("team".to_owned(), value.to_owned())])
}

fn listing(namespace: Option<&str>, objects: &[(&str, &str)], unreadable: &[(&str, &str)]) -> Fact<Labels> {
    Fact::Resynced(Listing {
        namespace: namespace.map(Arc::from),
        objects: objects.iter().map(|(namespace, name)| (key(namespace, name), Labels::new())).collect(),
        unreadable: unreadable.iter().map(|(namespace, name)| key(namespace, name)).collect(),
    })
}

fn names(world: &World) -> Vec<String> {
    world.namespaces.iter().map(|(key, _)| key.to_string()).collect()
}

#[test]
fn a_resync_removes_what_it_does_not_list() {
    let mut world = World::expecting([(Kind::Namespace, None), (Kind::Pod, None)]);
    world.absorb::<Namespace>(Fact::Applied(key("", "old"), Labels::new()));
    assert_eq!(world.unsynced().len(), 2, "one object is no list");
    world.absorb::<Namespace>(listing(None, &[("", "new")], &[]));
    assert_eq!(names(&world), ["new"]);
    assert_eq!(world.unsynced(), &BTreeSet::from([(Kind::Pod, None)]));
    world.absorb::<Namespace>(Fact::Deleted(key("", "new")));
    assert_eq!(world.namespaces.iter().count(), 0);
}

#[test]
fn a_resync_of_one_namespace_leaves_the_others_alone() {
    let mut world = World::default();
    world.absorb::<Namespace>(listing(None, &[("a", "1"), ("a", "2"), ("b", "1")], &[]));
    world.absorb::<Namespace>(listing(Some("a"), &[("a", "2")], &[]));
    assert_eq!(names(&world), ["a/2", "b/1"]);
}

#[test]
fn a_world_of_some_namespaces_is_complete_when_each_was_listed() {
    let list = |namespace: &str| (Kind::Namespace, Some(Arc::from(namespace)));
    let mut world = World::expecting([list("a"), list("b")]);
    world.absorb::<Namespace>(listing(Some("b"), &[], &[]));
    assert_eq!(world.unsynced(), &BTreeSet::from([list("a")]));
    world.absorb::<Namespace>(Fact::Absent);
    assert_eq!(world.unsynced(), &BTreeSet::new(), "there is nothing to list of a kind that does not exist");
}

#[test]
fn an_unreadable_object_keeps_what_is_known_of_it() {
    let mut world = World::default();
    world.absorb::<Namespace>(Fact::Applied(key("", "edited"), labels("known")));
    world.absorb::<Namespace>(listing(None, &[], &[("", "edited"), ("", "never-read")]));
    assert_eq!(names(&world), ["edited"]);
    assert_eq!(world.namespaces.find(&key("", "edited")), Some(&labels("known")));
}

#[test]
fn only_what_matters_has_an_effect() {
    let mut world = World::expecting([(Kind::Namespace, None)]);
    let apply = |value| Fact::Applied(key("", "n"), labels(value));
    let cases = [
        ("a first list, even an empty one", listing(None, &[], &[]), Effect::Plan),
        ("the same list again", listing(None, &[], &[]), Effect::Nothing),
        ("a new object", apply("a"), Effect::Plan),
        ("the same object again", apply("a"), Effect::Nothing),
        ("a changed object", apply("b"), Effect::Plan),
        ("a list without it", listing(None, &[], &[]), Effect::Plan),
        ("a deletion of what is gone", Fact::Deleted(key("", "n")), Effect::Nothing),
        ("a kind that went away", Fact::Absent, Effect::Plan),
        ("a kind that is still away", Fact::Absent, Effect::Nothing),
        ("a kind that came back", listing(None, &[], &[]), Effect::Plan),
    ];
    for (case, fact, expected) in cases {
        assert_eq!(world.absorb::<Namespace>(fact), expected, "{case}");
    }
}

#[test]
fn a_change_of_status_alone_needs_no_plan() {
    let server = |uid: &str, generation: i64, ready: i32| -> ModelServer {
        serde_json::from_value(json!({
            "apiVersion": "networking.serving.volcano.sh/v1alpha1",
            "kind": "ModelServer",
            "metadata": {"name": "s", "namespace": "n", "uid": uid, "generation": generation},
            "spec": {"inferenceEngine": "vLLM", "workloadSelector": {"matchLabels": {"app": "a"}}, "workloadPort": {"port": 80}},
            "status": {"readyEndpoints": ready},
        }))
        .unwrap()
    };
    let mut world = World::default();
    let cases = [
        ("new", server("u", 1, 0), Effect::Plan),
        ("another status", server("u", 1, 1), Effect::Records),
        ("nothing", server("u", 1, 1), Effect::Nothing),
        ("another spec", server("u", 2, 1), Effect::Plan),
        ("deleted and made anew in between", server("v", 2, 1), Effect::Plan),
        ("out of a file", server("", 0, 1), Effect::Plan),
        ("out of a file, again", server("", 0, 1), Effect::Plan),
    ];
    for (case, server, expected) in cases {
        let fact = Fact::Applied(WorldKind::key(&server), server.digest());
        assert_eq!(world.absorb::<ModelServer>(fact), expected, "{case}");
    }
}

#[test]
fn a_changed_annotation_needs_a_plan_although_the_generation_stays() {
    let route = |priority: &str| -> ModelRoute {
        serde_json::from_value(json!({
            "apiVersion": "networking.serving.volcano.sh/v1alpha1",
            "kind": "ModelRoute",
            "metadata": {
                "name": "r", "namespace": "n", "uid": "u", "generation": 1,
                "annotations": {"networking.serving.volcano.sh/priority": priority},
            },
            "spec": {"modelName": "m", "rules": []},
        }))
        .unwrap()
    };
    let mut world = World::default();
    for (priority, expected) in [
        ("1", Effect::Plan),
        ("1", Effect::Nothing),
        ("2", Effect::Plan),
        ("two", Effect::Plan),
        ("two", Effect::Nothing),
    ] {
        let route = route(priority);
        let fact = Fact::Applied(WorldKind::key(&route), route.digest());
        assert_eq!(world.absorb::<ModelRoute>(fact), expected, "{priority}");
    }
}

#[test]
fn pods_and_endpoints_of_pools_and_their_pickers_need_a_plan() {
    let mut world = World::default();
    let pool: InferencePool = serde_json::from_value(json!({
        "metadata": {"name": "p", "namespace": "n"},
        "spec": {
            "selector": {"matchLabels": {"app": "a"}}, "targetPorts": [{"number": 80}],
            "endpointPickerRef": {"name": "epp", "port": {"number": 9002}},
        },
    }))
    .unwrap();
    world.absorb::<InferencePool>(Fact::Applied(WorldKind::key(&pool), pool.digest()));
    let pod = |app: &str| -> Fact<PodFacts> {
        let metadata = json!({"name": app, "namespace": "n", "labels": {"app": app}});
        let pod: Pod = serde_json::from_value(json!({"metadata": metadata})).unwrap();
        Fact::Applied(WorldKind::key(&pod), pod.digest())
    };
    let slice = |namespace: &str, service: &str| -> Fact<EndpointSliceFacts> {
        let labels = json!({"kubernetes.io/service-name": service});
        let metadata = json!({"name": service, "namespace": namespace, "labels": labels});
        let slice: EndpointSlice =
            serde_json::from_value(json!({"metadata": metadata, "addressType": "IPv4", "endpoints": []})).unwrap();
        Fact::Applied(WorldKind::key(&slice), slice.digest())
    };
    for (case, effect, expected) in [
        ("a Pod of the pool", world.absorb::<Pod>(pod("a")), Effect::Plan),
        ("another Pod", world.absorb::<Pod>(pod("b")), Effect::Nothing),
        ("the picker's endpoints", world.absorb::<EndpointSlice>(slice("n", "epp")), Effect::Plan),
        ("another Service's", world.absorb::<EndpointSlice>(slice("n", "x")), Effect::Nothing),
        ("another namespace's", world.absorb::<EndpointSlice>(slice("m", "epp")), Effect::Nothing),
    ] {
        assert_eq!(effect, expected, "{case}");
    }
}

#[test]
fn a_pod_that_no_model_server_selects_needs_no_plan() {
    let mut world = World::default();
    let server: ModelServer = serde_json::from_value(json!({
        "apiVersion": "networking.serving.volcano.sh/v1alpha1",
        "kind": "ModelServer",
        "metadata": {"name": "s", "namespace": "n"},
        "spec": {"inferenceEngine": "vLLM", "workloadSelector": {"matchLabels": {"app": "a"}}, "workloadPort": {"port": 80}},
    }))
    .unwrap();
    world.absorb::<ModelServer>(Fact::Applied(WorldKind::key(&server), server.digest()));
    let pod = |namespace: &str, app: &str, phase: &str| -> Fact<PodFacts> {
        let metadata = json!({"name": "p", "namespace": namespace, "labels": {"app": app}});
        let pod: Pod = serde_json::from_value(json!({"metadata": metadata, "status": {"phase": phase}})).unwrap();
        Fact::Applied(WorldKind::key(&pod), pod.digest())
    };
    let cases = [
        ("a Pod of another namespace", pod("m", "a", "Running"), Effect::Nothing),
        ("a Pod with other labels", pod("n", "b", "Running"), Effect::Nothing),
        ("a Pod that is selected from now on", pod("n", "a", "Running"), Effect::Plan),
        ("a selected Pod that changes", pod("n", "a", "Failed"), Effect::Plan),
        ("a Pod that is no longer selected", pod("n", "b", "Failed"), Effect::Plan),
        ("the end of a Pod that is not selected", Fact::Deleted(key("n", "p")), Effect::Nothing),
    ];
    for (case, fact, expected) in cases {
        assert_eq!(world.absorb::<Pod>(fact), expected, "{case}");
    }
}

#[test]
fn a_channel_without_a_name_is_the_one_with_the_fewest_fields() {
    for (name, expected) in [
        (Some("experimental"), Channel::Experimental),
        (Some("standard"), Channel::Standard),
        (Some("next"), Channel::Standard),
        (None, Channel::Standard),
    ] {
        assert_eq!(Channel::parse(name), expected, "{name:?}");
    }
}
