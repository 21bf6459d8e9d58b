//! Says of an unknown field which known one was probably meant.
//!
//! The known fields come from the JSON schema of the object's type, which names the fields of the kinds of Kubernetes
//! and the Gateway API as well as of the router's own.

use schemars::{JsonSchema, SchemaGenerator};
use serde_json::Value;

use super::path::{FieldPath, Step};

/// The most fields that are listed when none is similar.
const MAX_LISTED: usize = 12;

/// The most edits between an unknown field and one that may be meant.
const MAX_EDITS: usize = 2;

/// Returns the message for a field that the type does not know.
pub(super) fn unknown_field<T: JsonSchema>(path: &FieldPath) -> String {
    let Some(Step::Key(name)) = path.0.last() else { return "unknown field".to_owned() };
    let schema = SchemaGenerator::default().into_root_schema_for::<T>();
    let known = known_fields(schema.as_value(), &path.parent());
    let closest = known.iter().map(|field| (edits(name, field), *field)).min();
    match closest {
        Some((edits, field)) if edits <= MAX_EDITS.min(field.len() / 2) => {
            format!("unknown field `{name}`, did you mean `{field}`?")
        }
        Some(_) if known.len() <= MAX_LISTED => {
            format!("unknown field `{name}`, expected one of `{}`", known.join("`, `"))
        }
        _ => format!("unknown field `{name}`"),
    }
}

/// Returns the fields that the schema knows at a path, in alphabetical order; none if it does not describe the path.
fn known_fields<'a>(root: &'a Value, path: &FieldPath) -> Vec<&'a str> {
    let mut here = Some(resolve(root, root));
    for step in &path.0 {
        let next = here.and_then(|schema| match step {
            Step::Key(key) => schema.get("properties")?.get(key),
            Step::Index(_) => schema.get("items"),
        });
        here = next.map(|schema| resolve(root, schema));
    }
    let properties = here.and_then(|schema| schema.get("properties")).and_then(Value::as_object);
    let mut fields: Vec<&str> = properties.into_iter().flat_map(|fields| fields.keys().map(String::as_str)).collect();
    fields.sort_unstable();
    fields
}

/// Follows references, and the choice between a schema and null that stands for an optional field.
fn resolve<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    let mut here = schema;
    loop {
        let target = here.get("$ref").and_then(Value::as_str).and_then(|pointer| root.pointer(&pointer[1..]));
        let choice = ["anyOf", "allOf"].iter().find_map(|word| here.get(word)?.as_array()?.first());
        match target.or(choice) {
            Some(next) => here = next,
            None => return here,
        }
    }
}

/// Counts the characters to insert, delete or replace to make one text of the other; case does not count.
fn edits(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.to_lowercase().chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (index, letter) in one.to_lowercase().chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = index + 1;
        for column in 0..other.len() {
            let replaced = diagonal + usize::from(other[column] != letter);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;

    use super::*;
    use crate::kinds::ModelRoute;

    #[test]
    fn edits_are_counted_without_regard_to_case() {
        for (one, other, expected) in [
            ("", "", 0),
            ("a", "", 1),
            ("weigth", "weight", 2),
            ("modelname", "modelName", 0),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(edits(one, other), expected, "{one} {other}");
        }
    }

    #[test]
    fn an_unknown_field_gets_the_known_one_that_is_closest() {
        let route = |path: &str| unknown_field::<ModelRoute>(&FieldPath::parse(path));
        let cases = [
            (route("spec.rules[3].targetModels[0].weigth"), "unknown field `weigth`, did you mean `weight`?"),
            (route("spec.modelname"), "unknown field `modelname`, did you mean `modelName`?"),
            (
                route("spec.rules[0].modelMatch.method"),
                "unknown field `method`, expected one of `body`, `headers`, `uri`",
            ),
            (route("spec.rateLimit.units"), "unknown field `units`, did you mean `unit`?"),
            (route("metadata.nmae"), "unknown field `nmae`"),
            (route("nowhere.at.all"), "unknown field `all`"),
            (
                unknown_field::<Pod>(&FieldPath::parse("spec.containers[0].ports[0].containerport")),
                "unknown field `containerport`, did you mean `containerPort`?",
            ),
        ];
        for (message, expected) in cases {
            assert_eq!(message, expected);
        }
    }
}
