//! The CustomResourceDefinitions of the router's own kinds, generated from their types.
//!
//! What the derive macros generate is not yet what an API server should store. They mark every optional field
//! `nullable`, although an explicit null means nothing here, and they give unsigned integers formats that Kubernetes
//! does not know. Both are put right in one walk over the schemas, so that the CRDs are structural and free of
//! surprises.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::CustomResourceExt;

use super::model_route::ModelRoute;
use super::model_server::ModelServer;

/// The largest 32-bit unsigned integer, as schemas write numbers.
const MAX_UINT32: f64 = u32::MAX as f64;

/// The first line of every generated file.
const HEADER: &str = "# Generated from the types in src/kinds; `just crds` writes it anew.\n";

/// Returns the CRDs of the router's own kinds, ordered by name.
pub fn crds() -> Vec<CustomResourceDefinition> {
    let mut crds = vec![ModelRoute::crd(), ModelServer::crd()];
    for crd in &mut crds {
        for version in &mut crd.spec.versions {
            if let Some(schema) = version.schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut()) {
                settle(schema);
            }
        }
    }
    crds
}

/// Returns the CRDs as files: the name of each under `manifests/crds`, and its YAML.
pub fn crd_files() -> Vec<(String, String)> {
    crds().iter().map(|crd| (format!("{}.yaml", crd.metadata.name.as_deref().unwrap_or_default()), yaml(crd))).collect()
}

/// Returns the CRDs as one YAML text of several documents.
pub fn crds_yaml() -> String {
    let documents: Vec<String> = crd_files().into_iter().map(|(_, yaml)| yaml).collect();
    documents.join("---\n")
}

fn yaml(crd: &CustomResourceDefinition) -> String {
    let body = serde_saphyr::to_string(crd).expect("a CRD is made of maps with text keys, lists and scalars");
    format!("{HEADER}{body}")
}

/// Makes a generated schema, and every schema in it, one that an API server takes at its word.
fn settle(schema: &mut JSONSchemaProps) {
    schema.nullable = None;
    // The titles are names of Rust types, and the line breaks of descriptions are those of Rust comments.
    schema.title = None;
    schema.description = schema.description.take().map(|text| text.replace('\n', " "));
    match schema.format.as_deref() {
        // All bounds of the smaller unsigned integers fit the signed format.
        Some("uint8" | "uint16") => schema.format = Some("int32".to_owned()),
        Some("uint32") => {
            let maximum = schema.maximum.unwrap_or(MAX_UINT32);
            let fits = maximum <= i32::MAX.into();
            schema.maximum = Some(maximum);
            schema.format = Some(if fits { "int32" } else { "int64" }.to_owned());
        }
        _ => {}
    }
    for property in schema.properties.iter_mut().flat_map(|properties| properties.values_mut()) {
        settle(property);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut schema.items {
        settle(items);
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &mut schema.additional_properties {
        settle(values);
    }
}

#[cfg(test)]
mod tests;
