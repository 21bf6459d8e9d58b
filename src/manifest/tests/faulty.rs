//! What is wrong with a manifest, and what is read of it all the same.

use super::*;

#[test]
fn what_is_no_object_is_a_fault() {
    let header = "apiVersion: networking.serving.volcano.sh/v1alpha1\nkind: ModelRoute\n";
    check(&[
        ("scalar", "\nhello\n", 0, &["2: : expected an object with apiVersion, kind and metadata, found a string"]),
        ("list", "- a\n", 0, &["1: : expected an object with apiVersion, kind and metadata, found a list"]),
        ("no kind", "\napiVersion: v1\n", 0, &["2: kind: missing field `kind`"]),
        ("no version", "kind: Pod\n", 0, &["1: apiVersion: missing field `apiVersion`"]),
        ("kind of a type", "apiVersion: v1\nkind: [Pod]\n", 0, &["2: kind: expected a string, found a list"]),
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
    check(&[(
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
    )]);
}

#[test]
fn fields_of_every_kind_are_checked() {
    let least = "apiVersion: networking.serving.volcano.sh/v1alpha1\nkind: ModelServer\nmetadata: {name: s}\n";
    check(&[
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
            1,
            &[
                "4: spec.workloadSelector.matchLabels: at least one label is required",
                "4: spec.workloadPort: is required where `spec.endpoints` is not set",
            ],
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
fn a_kind_that_the_routers_own_group_does_not_have_is_a_fault() {
    let own = "apiVersion: networking.serving.volcano.sh/v1alpha1\n";
    let unknown = "`networking.serving.volcano.sh/v1alpha1` has no kind `M`";
    check(&[
        ("misspelt or cut off", &format!("{own}kind: M\n"), 0, &[&format!("2: kind: {unknown}")]),
        ("one of another group", "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\n", 0, &[]),
    ]);
    assert_eq!(read(&format!("{own}kind: M\n")).unreadable, 1, "the last good objects of the file stay");
}

#[test]
fn a_number_in_place_of_a_duration_is_answered_with_a_duration() {
    let server = "apiVersion: networking.serving.volcano.sh/v1alpha1\nkind: ModelServer\nmetadata: {name: s}\nspec:\n  \
                  inferenceEngine: vLLM\n  workloadSelector: {matchLabels: {a: b}}\n  workloadPort: {port: 80}\n  ";
    check(&[
        (
            "a timeout",
            &format!("{server}trafficPolicy: {{timeout: 30}}\n"),
            0,
            &[
                "8: spec.trafficPolicy.timeout: expected a string, found the number `30`: write a duration such as `30s`",
            ],
        ),
        (
            "an interval",
            &format!("{server}trafficPolicy: {{retry: {{attempts: 1, retryInterval: 2}}}}\n"),
            0,
            &[
                "8: spec.trafficPolicy.retry.retryInterval: expected a string, found the number `2`: write a duration such as `2s`",
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
