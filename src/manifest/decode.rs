//! Turns the JSON of an object into its type, and collects everything that does not fit.
//!
//! A deserializer stops at the first error. A user who has made three mistakes should learn of three, so the value that
//! did not fit is taken out and the rest is tried again. An object with such an error is not returned; a field that the
//! type does not know is reported and left aside, as `kubectl` does with strict validation.

use std::collections::HashSet;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_path_to_error::Track;

use super::LineFault;
use super::explain::explain;
use super::path::{FieldPath, Step};
use super::place::Place;
use super::suggest::unknown_field;

/// The most type errors that are reported of one object.
const MAX_TYPE_FAULTS: usize = 16;

/// Makes a typed object of a JSON value; `None` if a part of it does not fit its type.
pub(super) fn decode<T: DeserializeOwned + JsonSchema>(
    mut value: Value,
    places: &Place,
    faults: &mut Vec<LineFault>,
) -> Option<T> {
    let mut pruned = places.clone();
    let mut removed: HashSet<FieldPath> = HashSet::new();
    let mut unknown: HashSet<FieldPath> = HashSet::new();
    let mut type_faults = 0;
    loop {
        let (result, ignored) = attempt::<T>(&value);
        for path in ignored {
            let path = pruned.original(&path);
            // Some types leave these two to their caller.
            let is_header = matches!(&path.0[..], [Step::Key(key)] if key == "apiVersion" || key == "kind");
            if !is_header && unknown.insert(path.clone()) {
                faults.push(line_fault(places, &path, unknown_field::<T>(&path)));
            }
        }
        let (path, reason) = match result {
            Ok(object) => return (type_faults == 0).then_some(object),
            Err(failure) => failure,
        };
        let original = pruned.original(&path);
        let missing = reason.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`'));
        // A field that is missing because it was taken out has been reported already.
        if !missing.is_some_and(|field| removed.contains(&original.child(field))) {
            faults.push(line_fault(places, &original, explain(&reason)));
            type_faults += 1;
        }
        removed.insert(original);
        if type_faults == MAX_TYPE_FAULTS || !pruned.remove(&path, &mut value) {
            return None;
        }
    }
}

/// Reports a fault at a field.
pub(super) fn line_fault(places: &Place, path: &FieldPath, message: String) -> LineFault {
    let mark = places.nearest(path);
    LineFault { line: mark.line, column: Some(mark.column), path: path.to_string(), message }
}

/// The object, or the first field that does not fit and why.
type Attempt<T> = Result<T, (FieldPath, String)>;

/// Deserializes once; returns with the result the fields that the type does not know.
fn attempt<T: DeserializeOwned>(value: &Value) -> (Attempt<T>, Vec<FieldPath>) {
    let mut track = Track::new();
    let mut ignored = Vec::new();
    let result = serde_ignored::deserialize(serde_path_to_error::Deserializer::new(value, &mut track), |path| {
        ignored.push(FieldPath::from(&path));
    });
    let result = result.map_err(|error: serde_json::Error| (FieldPath::from(&track.path()), error.to_string()));
    (result, ignored)
}
