//! The CRDs are those of the API, and of the repository.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use super::*;

/// Every schema inside a schema, with its path.
fn walk(schema: &Value, path: &str, visit: &mut impl FnMut(&str, &Value)) {
    visit(path, schema);
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        walk(property, &format!("{path}.{name}"), visit);
    }
    for word in ["items", "additionalProperties"] {
        if schema[word].is_object() {
            walk(&schema[word], &format!("{path}.{word}"), visit);
        }
    }
}

fn schemas() -> Vec<(String, Value)> {
    crds()
        .into_iter()
        .map(|crd| {
            let json = serde_json::to_value(&crd).expect("a CRD serializes");
            (crd.spec.names.kind, json["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone())
        })
        .collect()
}

#[test]
fn the_files_in_the_repository_are_those_of_the_types() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests/crds");
    for (name, yaml) in crd_files() {
        let path = folder.join(&name);
        let file = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(file == yaml, "{name} differs from the types in src/kinds: write the CRDs anew with `just crds`");
    }
}

#[test]
fn the_text_of_all_crds_is_the_files_one_after_the_other() {
    let names: Vec<String> = crd_files().into_iter().map(|(name, _)| name).collect();
    assert_eq!(
        names,
        ["modelroutes.networking.serving.volcano.sh.yaml", "modelservers.networking.serving.volcano.sh.yaml"]
    );
    let documents: Vec<CustomResourceDefinition> =
        serde_saphyr::from_multiple(&crds_yaml()).expect("the text is valid YAML");
    assert_eq!(documents, crds());
}

#[test]
fn schemas_are_structural() {
    const COMBINATORS: [&str; 5] = ["anyOf", "oneOf", "allOf", "not", "$ref"];
    for (kind, schema) in schemas() {
        walk(&schema, &kind, &mut |path, schema| {
            for word in COMBINATORS {
                assert!(schema.get(word).is_none(), "{path} has {word}");
            }
            assert!(schema["type"].is_string(), "{path} has one type");
            assert!(schema.get("nullable").is_none(), "{path} is nullable");
            assert!(schema.get("title").is_none(), "{path} has a title");
            let has_both = schema.get("properties").is_some() && schema.get("additionalProperties").is_some();
            assert!(!has_both, "{path} is a map and a struct");
        });
    }
}

#[test]
fn integers_have_formats_that_kubernetes_knows() {
    for (kind, schema) in schemas() {
        walk(&schema, &kind, &mut |path, schema| {
            if schema["type"] == "integer" {
                let format = schema["format"].as_str();
                assert!(matches!(format, Some("int32" | "int64")), "{path} has format {format:?}");
            }
        });
    }
}

#[test]
fn every_field_is_described() {
    for (kind, schema) in schemas() {
        walk(&schema, &kind, &mut |path, schema| {
            for (name, property) in schema["properties"].as_object().into_iter().flatten() {
                let description = property["description"].as_str().unwrap_or_default();
                assert!(!description.is_empty() && !description.contains('\n'), "{path}.{name}: {description:?}");
            }
        });
    }
}

#[test]
fn defaults_and_bounds_are_those_of_the_api() {
    let schemas = schemas();
    let field = |kind: &str, pointer: &str| -> Value {
        let (_, schema) = schemas.iter().find(|(name, _)| name == kind).expect("the kind has a schema");
        let steps = pointer.split('.').fold(schema, |here, step| match step {
            "[]" => &here["items"],
            "{}" => &here["additionalProperties"],
            name => &here["properties"][name],
        });
        steps.clone()
    };
    let route = |pointer: &str| field("ModelRoute", pointer);
    let server = |pointer: &str| field("ModelServer", pointer);
    let weight = route("spec.rules.[].targetModels.[].weight");
    let cases = [
        ("loraAdapters", route("spec.loraAdapters")["maxItems"].clone(), 10.into()),
        ("rules", route("spec.rules")["maxItems"].clone(), 16.into()),
        ("most targets", route("spec.rules.[].targetModels")["maxItems"].clone(), 16.into()),
        ("least targets", route("spec.rules.[].targetModels")["minItems"].clone(), 1.into()),
        ("headers", route("spec.rules.[].modelMatch.headers")["maxProperties"].clone(), 64.into()),
        ("default weight", weight["default"].clone(), 100.into()),
        ("least weight", weight["minimum"].clone(), 0.0.into()),
        ("most weight", weight["maximum"].clone(), 100.0.into()),
        ("parent kind", route("spec.parentRefs.[].kind")["default"].clone(), "Gateway".into()),
        ("parent group", route("spec.parentRefs.[].group")["default"].clone(), "gateway.networking.k8s.io".into()),
        ("most tokens", route("spec.rateLimit.inputTokensPerUnit")["maximum"].clone(), 4_294_967_295.0.into()),
        ("least tokens", route("spec.rateLimit.outputTokensPerUnit")["minimum"].clone(), 1.0.into()),
        ("unit", route("spec.rateLimit.unit")["default"].clone(), "second".into()),
        ("model", server("spec.model")["maxLength"].clone(), 256.into()),
        ("engines", server("spec.inferenceEngine")["enum"].clone(), serde_json::json!(["vLLM", "SGLang"])),
        ("least port", server("spec.workloadPort.port")["minimum"].clone(), 1.0.into()),
        ("most port", server("spec.workloadPort.port")["maximum"].clone(), 65535.0.into()),
        ("protocol", server("spec.workloadPort.protocol")["default"].clone(), "http".into()),
        ("attempts", server("spec.trafficPolicy.retry.attempts")["maximum"].clone(), 10.0.into()),
        ("interval", server("spec.trafficPolicy.retry.retryInterval")["default"].clone(), "100ms".into()),
        ("connector", server("spec.kvConnector.type")["default"].clone(), "http".into()),
        ("matchLabels", server("spec.workloadSelector.matchLabels.{}")["type"].clone(), "string".into()),
    ];
    for (case, found, expected) in cases {
        assert_eq!(found, expected, "{case}");
    }
}

#[test]
fn rules_columns_and_names_are_generated() {
    let mut rules = BTreeSet::new();
    for (kind, schema) in schemas() {
        walk(&schema, &kind, &mut |path, schema| {
            for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
                assert!(rule["rule"].is_string() && rule["message"].is_string(), "{path}");
                rules.insert(path.to_owned());
            }
        });
    }
    let expected = [
        "ModelRoute.spec",
        "ModelRoute.spec.modelName",
        "ModelRoute.spec.rules.items.modelMatch.headers.additionalProperties",
        "ModelRoute.spec.rules.items.modelMatch.uri",
        "ModelRoute.spec.rules.items.targetModels.items",
    ];
    assert_eq!(rules.iter().map(String::as_str).collect::<Vec<_>>(), expected);

    let columns = |crd: &CustomResourceDefinition| -> Vec<String> {
        let columns = crd.spec.versions[0].additional_printer_columns.iter().flatten();
        columns.map(|column| column.name.clone()).collect()
    };
    let crds = crds();
    assert_eq!(columns(&crds[0]), ["Model", "Accepted", "Age"]);
    assert_eq!(columns(&crds[1]), ["Engine", "Port", "Protocol", "Ready endpoints", "Age"]);
    for (crd, short_name) in crds.iter().zip(["mr", "ms"]) {
        assert_eq!(crd.spec.names.short_names.as_deref(), Some(&[short_name.to_owned()][..]));
        assert_eq!(crd.spec.names.categories.as_deref(), Some(&["kthena".to_owned()][..]));
        assert!(crd.spec.versions[0].subresources.as_ref().is_some_and(|subresources| subresources.status.is_some()));
        assert_eq!(crd.metadata.annotations, None);
    }
}
