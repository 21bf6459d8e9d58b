use super::*;
use crate::object::{Kind, ObjectKey};

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
  kind: ConfigMap
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
    assert_eq!(read(text).ignored, [IgnoredKind { line: 14, api_version: "v1".into(), kind: "ConfigMap".into() }]);
}

#[test]
fn kinds_that_the_router_does_not_read_are_no_faults() {
    let text = "\
apiVersion: v1
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
fn what_is_no_object_is_a_fault() {
    let header = "apiVersion: networking.serving.volcano.sh/v1alpha1\nkind: ModelRoute\n";
    check(&[
        ("scalar", "\nhello\n", 0, &["2: : expected an object with apiVersion, kind and metadata, found a string"]),
        ("list", "- a\n", 0, &["1: : expected an object with apiVersion, kind and metadata, found a list"]),
        ("no kind", "\napiVersion: v1\n", 0, &["2: kind: missing field `kind`"]),
        ("no version", "kind: Pod\n", 0, &["1: apiVersion: missing field `apiVersion`"]),
        ("nothing", "a: b\n", 0, &["1: kind: missing field `kind`"]),
        (
            "wrong version",
            "apiVersion: networking.serving.volcano.sh/v1\nkind: ModelServer\n",
            0,
            &["1: apiVersion: expected apiVersion `networking.serving.volcano.sh/v1alpha1` for a ModelServer, found"],
        ),
        (
            "wrong group",
            "kind: Gateway\napiVersion: v1\n",
            0,
            &["2: apiVersion: expected apiVersion `gateway.networking.k8s.io/v1` for a Gateway, found `v1`"],
        ),
        (
            "no metadata",
            &format!("{header}spec: {{modelName: m, rules: [{{targetModels: [{{modelServerName: s}}]}}]}}\n"),
            0,
            &["1: metadata.name: missing field `name`: every object needs a name"],
        ),
        (
            "no name",
            &ROUTE.replace("name: r", "generateName: r"),
            0,
            &["3: metadata.name: missing field `name`: every object needs a name"],
        ),
        (
            "name of a type",
            &ROUTE.replace("name: r", "name: 7"),
            0,
            &["4: metadata.name: expected a string, found the number `7`"],
        ),
        (
            "bad name",
            &ROUTE.replace("name: r", "name: R_r"),
            1,
            &["4: metadata.name: `R_r` is not the name of a ModelRoute"],
        ),
        (
            "bad namespace",
            &ROUTE.replace("name: r", "name: r\n  namespace: a.b"),
            1,
            &["5: metadata.namespace: `a.b` is not the name of a namespace"],
        ),
    ]);
}

#[test]
fn broken_yaml_hides_nothing_else() {
    check(&[
        ("between", &format!("{ROUTE}---\na: [\n---\n{ROUTE}"), 2, &["11: : not valid YAML: "]),
        ("tab", "a:\n\t- b\n", 0, &["2: : not valid YAML: tabs"]),
        ("indent", "a: b\n  c: d\n", 0, &["2: : not valid YAML: mapping values are not allowed"]),
        ("quote", &format!("a: \"b\n---\n{ROUTE}"), 1, &["1: : not valid YAML: "]),
        (
            "template",
            "\n\na: {{ .Values.a }}\n",
            0,
            &["3: : expected a string as a key, found a mapping (a template must be"],
        ),
        ("anchor", "a: *b\n", 0, &["1: : not valid YAML: "]),
        ("loop", "a: &a\n  b: *a\n", 0, &["2: : not valid YAML: an alias cannot stand inside what it repeats"]),
        ("control", "a: b\u{0}c\n", 0, &["1: : not valid YAML: "]),
    ]);
    assert_eq!(read("a: b\n  c: d\n").faults[0].column, Some(4));
}

#[test]
fn every_field_that_does_not_fit_is_reported() {
    let text = "\
apiVersion: networking.serving.volcano.sh/v1alpha1
kind: ModelRoute
metadata:
  name: a
spec:
  modelname: x
  modelName: true
  rules:
  - name: 5
    targetModel: []
  - targetModels:
    - modelServerName: s
      weigth: 3
      weight: -1
    - modelServerName: [a]
    - modelServerName: b
      weight: x
";
    let least = "apiVersion: networking.serving.volcano.sh/v1alpha1\nkind: ModelServer\nmetadata: {name: s}\n";
    check(&[
        (
            "route",
            text,
            0,
            &[
                "6: spec.modelname: unknown field `modelname`, did you mean `modelName`?",
                "7: spec.modelName: expected a string, found the boolean `true`: put it in quotes",
                "9: spec.rules[0].name: expected a string, found the number `5`: put it in quotes",
                "9: spec.rules[0]: missing field `targetModels`",
                "10: spec.rules[0].targetModel: unknown field `targetModel`, did you mean `targetModels`?",
                "13: spec.rules[1].targetModels[0].weigth: unknown field `weigth`, did you mean `weight`?",
                "14: spec.rules[1].targetModels[0].weight: expected a whole number from 0 to 4294967295, found",
                "15: spec.rules[1].targetModels[1].modelServerName: expected a string, found a list",
                "17: spec.rules[1].targetModels[2].weight: expected a whole number, found the string `x`",
            ],
        ),
        ("no spec", least, 0, &["1: : missing field `spec`"]),
        ("spec of a type", &format!("{least}spec: []\n"), 0, &["4: spec: expected a mapping, found a list"]),
        (
            "server",
            &format!("{least}spec:\n  inferenceEngine: vllm\n  workloadPort:\n    port: 70000\n    protocol: grpc\n"),
            0,
            &[
                "5: spec.inferenceEngine: unknown variant `vllm`, expected `vLLM` or `SGLang`",
                "7: spec.workloadPort.port: expected a whole number from 0 to 65535, found the number `70000`",
                "8: spec.workloadPort.protocol: unknown variant `grpc`, expected `http` or `https`",
            ],
        ),
        (
            "missing",
            &format!("{least}spec: {{inferenceEngine: vLLM}}\n"),
            0,
            &["4: spec: missing field `workloadSelector`"],
        ),
        (
            "pod",
            "apiVersion: v1\nkind: Pod\nmetadata:\n  name: p\n  labels: {a: yes}\nstatus:\n  podip: 1.2.3.4\n",
            0,
            &[
                "5: metadata.labels.a: expected a string, found the boolean `true`: put it in quotes",
                "7: status.podip: unknown field `podip`, did you mean `podIP`?",
            ],
        ),
    ]);
}

#[test]
fn an_object_with_other_faults_is_read_all_the_same() {
    check(&[
        ("unknown", &ROUTE.replace("  rules", "  foo: 1\n  rules"), 1, &["7: spec.foo: unknown field `foo`"]),
        ("unknown at the root", &format!("{ROUTE}data: {{}}\n"), 1, &["10: data: unknown field `data`"]),
        (
            "duplicate",
            &ROUTE.replace("  rules", "  modelName: o\n  rules"),
            1,
            &["7: spec.modelName: duplicate key `modelName`: line 6 has it too, and only one can count"],
        ),
        (
            "webhook",
            &ROUTE.replace("  rules", "  loraAdapters:\n  - a\n  - ''\n  rules"),
            1,
            &["9: spec.loraAdapters[1]: lora adapter name cannot be an empty string"],
        ),
        (
            "header",
            &ROUTE.replace("  - target", "  - modelMatch:\n      headers:\n        x-a: {regex: '('}\n    target"),
            1,
            &["10: spec.rules[0].modelMatch.headers[x-a].regex: regex `(` does not compile"],
        ),
        (
            "weight",
            &format!("{ROUTE}      weight: 300\n"),
            1,
            &["10: spec.rules[0].targetModels[0].weight: must be from 0 to 100"],
        ),
    ]);
    let twice = ROUTE.replace("  rules", "  modelName: o\n  rules");
    let Object::ModelRoute(route) = &read(&twice).objects[0].object else { panic!("the object is a route") };
    assert_eq!(route.spec.served_model(), Some("o"));
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
