//! Turns the JSON of an object into its type, and collects everything that does not fit.
//!
//! A deserializer stops at the first error. A user who has made three mistakes should learn of three, so the value that
//! did not fit is taken out and the rest is tried again. An object with such an error is not returned; a field that the
//! type does not know is reported and left aside, as `kubectl` does with strict validation.

use std::collections::HashSet;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::LineFault;
use super::deserializer::{Reading, UnknownField, deserialize};
use super::explain::{type_error, unknown_field};
use super::path::{FieldPath, Step};
use super::place::Place;
use crate::kinds::Fault;

/// The most type errors that are reported of one object.
const MAX_TYPE_FAULTS: usize = 16;

/// Makes a typed object of a JSON value; `None` if a part of it does not fit its type.
pub(super) fn decode<T: DeserializeOwned>(mut value: Value, places: &Place, faults: &mut Vec<LineFault>) -> Option<T> {
    let Reading { result, mut unknown } = deserialize(&value);
    let mut failure = match result {
        Ok(object) => {
            report_unknown(unknown, places, faults);
            return Some(object);
        }
        Err(failure) => failure,
    };
    let mut pruned = places.clone();
    let mut removed: HashSet<FieldPath> = HashSet::new();
    for _ in 0..MAX_TYPE_FAULTS {
        let (path, reason) = failure;
        let original = pruned.original(&path);
        let missing = reason.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`'));
        // A field that is missing because it was taken out has been reported already.
        if !missing.is_some_and(|field| removed.contains(&original.child(field))) {
            faults.push(line_fault(places, &original, type_error(original.field(), &reason)));
        }
        removed.insert(original);
        if !pruned.remove(&path, &mut value) {
            break;
        }
        let next: Reading<T> = deserialize(&value);
        unknown
            .extend(next.unknown.into_iter().map(|field| UnknownField { path: pruned.original(&field.path), ..field }));
        match next.result {
            Ok(_) => break,
            Err(next) => failure = next,
        }
    }
    report_unknown(unknown, places, faults);
    None
}

/// Makes a typed object of the JSON that an API server sends; fields that the type does not know are newer than it.
///
/// # Errors
///
/// Returns the first field that does not fit its type.
pub fn from_json<T: DeserializeOwned>(value: &Value) -> Result<T, Fault> {
    // Saying where an error is costs more than finding it, and there hardly ever is one.
    T::deserialize(value).or_else(|_| {
        let reading = deserialize(value).result;
        reading.map_err(|(path, reason)| Fault { message: type_error(path.field(), &reason), path: path.to_string() })
    })
}

/// Reports a fault at a field.
pub(super) fn line_fault(places: &Place, path: &FieldPath, message: String) -> LineFault {
    let mark = places.nearest(path);
    LineFault { line: mark.line, column: Some(mark.column), path: path.to_string(), message }
}

/// Reports unknown fields, each once.
fn report_unknown(unknown: Vec<UnknownField>, places: &Place, faults: &mut Vec<LineFault>) {
    let mut reported: HashSet<FieldPath> = HashSet::new();
    for UnknownField { path, known } in unknown {
        // These two say what the type is, and some types leave them out.
        if matches!(&path.0[..], [Step::Key(key)] if key == "apiVersion" || key == "kind") {
            continue;
        }
        if let (Some(Step::Key(name)), true) = (path.0.last(), reported.insert(path.clone())) {
            faults.push(line_fault(places, &path, unknown_field(name, known)));
        }
    }
}
