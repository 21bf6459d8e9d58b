//! What is read of a manifest that is as it should be.

use super::*;
use crate::object::{Kind, ObjectKey};

mod faulty;

const ROUTE: &str = "\
apiVersion: networking.serving.volcano.sh/v1alpha1
kind: ModelRoute
metadata:
  name: r
spec:
  modelName: m
  rules:
  - targetModels:
    - modelServerName: s
";

/// Returns each fault as `line: path: message`.
fn faults(text: &str) -> Vec<String> {
    read(text).faults.iter().map(|fault| format!("{}: {}: {}", fault.line, fault.path, fault.message)).collect()
}

fn keys(text: &str) -> Vec<(usize, Kind, String)> {
    read(text)
        .objects
        .iter()
        .map(|located| (located.line, located.object.kind(), located.object.key().to_string()))
        .collect()
}

/// Checks the faults of each text, of which the start of each message is given, and how many objects it has.
fn check(cases: &[(&str, &str, usize, &[&str])]) {
    for (case, text, objects, expected) in cases {
        let found = faults(text);
        assert_eq!(found.len(), expected.len(), "{case}: {found:#?}");
        for (fault, expected) in found.iter().zip(*expected) {
            assert!(fault.starts_with(expected), "{case}: {fault:?} starts with {expected:?}");
        }
        assert_eq!(read(text).objects.len(), *objects, "{case}");
    }
}

#[test]
fn objects_of_every_kind_are_read() {
    let text = format!(
        "# A comment first.\n{ROUTE}---
apiVersion: networking.serving.volcano.sh/v1alpha1
kind: ModelServer
metadata: {{name: s, namespace: models}}
spec:
  inferenceEngine: SGLang
  workloadSelector: {{matchLabels: {{app: s}}}}
  workloadPort: {{port: 8000, protocol: https}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: g}}
spec:
  gatewayClassName: kthena-router
  listeners: [{{name: http, port: 8080, protocol: HTTP, allowedRoutes: {{namespaces: {{from: All}}}}}}]
---
apiVersion: gateway.networking.k8s.io/v1beta1
kind: GatewayClass
metadata: {{name: c, namespace: ignored}}
spec: {{controllerName: volcano.sh/kthena-router}}
---
apiVersion: v1
kind: Pod
metadata: {{name: p, labels: {{app: s}}}}
spec: {{containers: [{{name: c, resources: {{limits: {{cpu: 1, memory: 1Gi}}}}}}]}}
status: {{podIP: 10.0.0.1, conditions: [{{type: Ready, status: \"True\", lastTransitionTime: 2026-01-01T00:00:00Z}}]}}
---
apiVersion: v1
kind: Namespace
metadata: {{name: ns}}
"
    );
    assert_eq!(faults(&text), Vec::<String>::new());
    let expected = [
        (2, Kind::ModelRoute, "default/r"),
        (12, Kind::ModelServer, "models/s"),
        (20, Kind::Gateway, "default/g"),
        (27, Kind::GatewayClass, "c"),
        (32, Kind::Pod, "default/p"),
        (38, Kind::Namespace, "ns"),
    ];
    assert_eq!(keys(&text), expected.map(|(line, kind, key)| (line, kind, key.to_owned())));
}

#[test]
fn line_ends_marks_anchors_and_empty_documents_are_fine() {
    let anchored = ROUTE.replace("m\n", "&model m\n").replace(": s\n", ": *model\n");
    let cases = [
        ("empty", String::new(), 0),
        ("blank", "\n \n".to_owned(), 0),
        ("comments", "# a\n---\n# b\n---\n".to_owned(), 0),
        ("null", "---\nnull\n---\n~\n".to_owned(), 0),
        ("crlf", format!("{ROUTE}---\n{ROUTE}").replace('\n', "\r\n"), 2),
        ("byte-order mark", format!("\u{feff}{ROUTE}"), 1),
        ("end markers", format!("%YAML 1.2\n---\n{ROUTE}...\n---\n{ROUTE}...\n"), 2),
        ("anchors", anchored, 1),
        ("json", r#"{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "ns"}}"#.to_owned(), 1),
        (
            "merge",
            "x: &m {name: ns}\napiVersion: v1\nkind: Namespace\nmetadata: {<<: *m}".replace("x: &m", "spec: &m"),
            1,
        ),
    ];
    for (case, text, objects) in cases {
        let manifest = read(&text);
        let about_objects: Vec<_> =
            manifest.faults.iter().filter(|fault| case != "merge" || fault.path != "spec.name").collect();
        assert_eq!(about_objects, Vec::<&LineFault>::new(), "{case}");
        assert_eq!(manifest.objects.len(), objects, "{case}");
    }
    let crlf = format!("{ROUTE}---\n{ROUTE}").replace('\n', "\r\n");
    assert_eq!(keys(&crlf).iter().map(|(line, ..)| *line).collect::<Vec<_>>(), [1, 11]);
}

#[test]
fn lists_give_their_items() {
    let text = "\
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: Namespace
  metadata: {name: a}
- apiVersion: v1
  kind: PodList
  items:
  - metadata: {name: p}
    spec: {containers: []}
  - kind: Pod
    metadata: {}
- apiVersion: v1
  kind: ReplicationController
- 7
";
    let name = "13: metadata.name: missing field `name`";
    check(&[
        ("list", text, 2, &[name, "16: : expected an object with apiVersion, kind and metadata, found a number"]),
        ("empty list", "apiVersion: v1\nkind: List\nitems:\n", 0, &[]),
        ("no items", "apiVersion: v1\nkind: List\n", 0, &[]),
        (
            "items of another type",
            "apiVersion: v1\nkind: List\nitems: 7\n",
            0,
            &["3: items: expected a list, found a number"],
        ),
        ("another kind", "apiVersion: x/v1\nkind: AllowList\nspec: {}\n", 0, &[]),
        (
            "duplicate",
            "apiVersion: v1\nkind: List\nkind: List\nitems: []\n",
            0,
            &["3: kind: duplicate key `kind`: line 2"],
        ),
    ]);
    assert_eq!(keys(text)[1], (10, Kind::Pod, "default/p".to_owned()));
    assert_eq!(
        read(text).ignored,
        [IgnoredKind { line: 14, api_version: "v1".into(), kind: "ReplicationController".into() }]
    );
}

#[test]
fn kinds_that_the_router_does_not_read_are_no_faults() {
    let text = "\
apiVersion: serving.knative.dev/v1
kind: Service
metadata: {name: a}
---
apiVersion: networking.istio.io/v1
kind: Gateway
---
apiVersion: apps/v1
kind: Deployment
";
    assert_eq!(faults(text), Vec::<String>::new());
    let ignored: Vec<(usize, String)> = read(text).ignored.into_iter().map(|found| (found.line, found.kind)).collect();
    assert_eq!(ignored, [(1, "Service".to_owned()), (5, "Gateway".to_owned()), (8, "Deployment".to_owned())]);
}

#[test]
fn scalars_mean_what_they_mean_to_kubectl() {
    let text = "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: ns\n  labels: {a: 'yes', b: 2026-01-01, c: 1.2.3}\n  generation: 010\n  namespace: ~\n";
    assert_eq!(faults(text), Vec::<String>::new());
    let manifest = read(text);
    let metadata = manifest.objects[0].object.metadata();
    let labels: Vec<&str> = metadata.labels.iter().flatten().map(|(_, value)| value.as_str()).collect();
    assert_eq!((labels, metadata.generation), (vec!["yes", "2026-01-01", "1.2.3"], Some(8)));
    assert_eq!(manifest.objects[0].object.key(), ObjectKey::new("", "ns"));
}

#[test]
fn the_line_of_a_field_is_that_of_its_nearest_ancestor() {
    let manifest = read(&format!("# one\n\n{ROUTE}"));
    let route = &manifest.objects[0];
    let cases = [
        ("", 3),
        ("metadata.name", 6),
        ("spec", 7),
        ("spec.rules", 9),
        ("spec.rules[0]", 10),
        ("spec.rules[0].targetModels[0].modelServerName", 11),
        ("spec.rules[0].targetModels[0].weight", 11),
        ("spec.rules[1].targetModels", 9),
        ("spec.rateLimit.unit", 7),
        ("nowhere", 3),
        ("]][[..", 3),
    ];
    for (path, line) in cases {
        assert_eq!(route.line_of(path), line, "{path}");
    }
    assert_eq!(route.line, 3);
}

#[test]
fn an_object_of_an_api_server_is_read_as_it_is_or_its_fault_is_named() {
    let object = |port: serde_json::Value| {
        serde_json::json!({
            "metadata": {"name": "s", "namespace": "n"},
            "spec": {
                "inferenceEngine": "vLLM", "newerField": true,
                "workloadSelector": {"matchLabels": {"app": "a"}}, "workloadPort": {"port": port},
            },
        })
    };
    let server = super::from_json::<crate::kinds::ModelServer>(&object(8000.into())).unwrap();
    assert_eq!(server.spec.port(), Some(8000));
    let fault = super::from_json::<crate::kinds::ModelServer>(&object("http".into())).unwrap_err();
    assert_eq!(fault.path, "spec.workloadPort.port");
}

#[test]
fn kinds_of_one_name_are_told_apart_by_their_groups() {
    let object = |version: &str, kind: &str| {
        format!("{{apiVersion: {version}, kind: {kind}, metadata: {{name: a}}, spec: {{poolRef: {{name: p}}}}}}\n---\n")
    };
    let pool = "{apiVersion: inference.networking.x-k8s.io/v1alpha2, kind: InferencePool, metadata: {name: a}}\n---\n";
    let manifest = read(
        &(object("llm-d.ai/v1alpha2", "InferenceObjective")
            + &object("inference.networking.x-k8s.io/v1alpha2", "InferenceObjective")
            + &object("inference.networking.x-k8s.io/v1alpha2", "InferenceModelRewrite")
            + &object("llm-d.ai/v1", "InferenceModelRewrite")
            + pool),
    );
    let kinds: Vec<_> = manifest.objects.iter().map(|located| located.object.kind()).collect();
    assert_eq!(kinds, [Kind::InferenceObjective, Kind::XInferenceObjective, Kind::XInferenceModelRewrite]);
    let [fault] = &manifest.faults[..] else { panic!("{:?}", manifest.faults) };
    assert!(fault.message.contains("expected apiVersion `llm-d.ai/v1alpha2`"), "{fault}");
    assert_eq!(manifest.ignored.len(), 1, "the pools of the former group are another kind");
}

#[test]
fn a_faulty_pool_is_told_of_with_its_line() {
    let manifest = read(
        "apiVersion: inference.networking.k8s.io/v1\nkind: InferencePool\nmetadata: {name: p}\nspec:\n  selector:\n    \
         matchLabels: {}\n  targetPorts:\n    - number: 8000\n    - number: 8000\n",
    );
    let lines: Vec<_> = manifest.faults.iter().map(|fault| (fault.line, &*fault.path)).collect();
    assert_eq!(lines, [(6, "spec.selector.matchLabels"), (9, "spec.targetPorts[1].number")]);
    assert_eq!(manifest.objects.len(), 1, "it is there all the same, and says so in its status");
}
