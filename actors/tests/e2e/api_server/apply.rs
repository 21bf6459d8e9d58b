//! How an API server takes writes.
//!
//! Source: Kubernetes, "Server-Side Apply": maps are merged, list items are told apart by the keys of their list, what
//! a field manager no longer applies is removed, and another's value is only overwritten by force.

use serde_json::{Value, json};

use super::store::{Place, Store, Write};

/// Why a request is refused: its HTTP status, the reason for programs, and the object.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) code: u16,
    pub(super) reason: &'static str,
    pub(super) place: Place,
}

impl Refusal {
    fn new(code: u16, reason: &'static str, place: &Place) -> Self {
        Self { code, reason, place: place.clone() }
    }

    pub(super) fn not_found(place: &Place) -> Self {
        Self::new(404, "NotFound", place)
    }
}

impl Store {
    /// Creates an object.
    pub(super) fn create(&mut self, write: &Write) -> Result<Value, Refusal> {
        match self.find(&write.place) {
            Some(_) => Err(Refusal::new(409, "AlreadyExists", &write.place)),
            None => Ok(self.put(write.place.clone(), write.body.clone())),
        }
    }

    /// Applies fields of an object, or merges a patch into it.
    pub(super) fn patch(&mut self, write: &Write) -> Result<Value, Refusal> {
        let Write { place, body, .. } = write;
        let Some(present) = self.find(place) else { return Err(Refusal::not_found(place)) };
        let uid = &body["metadata"]["uid"];
        if !uid.is_null() && *uid != present["metadata"]["uid"] {
            return Err(Refusal::new(409, "Conflict", place));
        }
        let part = if write.subresource == "status" { "status" } else { "spec" };
        let mut patched = present.clone();
        let applied = body.get(part).cloned().unwrap_or_default();
        if write.verb == "apply" {
            let owner = (place.clone(), format!("{} {part}", write.manager));
            let before = self.applied.get(&owner).unwrap_or(&Value::Null);
            if !write.force && conflicts(&patched[part], &applied, before) {
                return Err(Refusal::new(409, "Conflict", place));
            }
            apply(part, &mut patched[part], &applied, before);
            self.applied.insert(owner, applied);
        } else if place.plural == "events" {
            merge(&mut patched, body);
        } else {
            merge(&mut patched[part], &applied);
        }
        // A patch that changes nothing makes no new version.
        Ok(if self.find(place) == Some(&patched) { patched } else { self.put(place.clone(), patched) })
    }
}

/// Returns whether a field would change that someone else has set.
fn conflicts(present: &Value, applied: &Value, before: &Value) -> bool {
    match (present, applied) {
        (Value::Null, _) => false,
        (Value::Object(present), Value::Object(applied)) => applied
            .iter()
            .any(|(name, field)| present.get(name).is_some_and(|present| conflicts(present, field, &before[name]))),
        (present, applied) => present != applied && present != before,
    }
}

/// Applies what a manager applies now, where it applied `before` the last time, to the field called `name`.
fn apply(name: &str, present: &mut Value, applied: &Value, before: &Value) {
    match (&mut *present, applied, keys(name)) {
        (Value::Object(present), Value::Object(applied), _) => {
            present.retain(|name, _| before.get(name).is_none() || applied.contains_key(name));
            for (name, field) in applied {
                apply(name, present.entry(name).or_insert(Value::Null), field, &before[name]);
            }
        }
        (Value::Array(present), Value::Array(applied), Some(keys)) => {
            let alike = |first: &Value, second: &Value| keys.iter().all(|key| first[key] == second[key]);
            let no_items = Vec::new();
            let before = before.as_array().unwrap_or(&no_items);
            let has = |items: &[Value], item: &Value| items.iter().any(|other| alike(other, item));
            present.retain(|item| !has(before, item) || has(applied, item));
            for item in applied {
                let before = before.iter().find(|other| alike(other, item)).unwrap_or(&Value::Null);
                match present.iter_mut().find(|other| alike(other, item)) {
                    Some(known) => apply("", known, item, before),
                    None => present.push(item.clone()),
                }
            }
        }
        _ => *present = applied.clone(),
    }
}

/// Returns the fields that tell the items of a list apart; none where the list is replaced as a whole.
fn keys(list: &str) -> Option<&'static [&'static str]> {
    match list {
        "ports" => Some(&["port", "protocol"]),
        "conditions" => Some(&["type"]),
        "listeners" => Some(&["name"]),
        _ => None,
    }
}

/// Merges a patch as RFC 7396 says: null removes.
fn merge(present: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else {
        *present = patch.clone();
        return;
    };
    if !present.is_object() {
        *present = json!({});
    }
    for (name, field) in fields {
        if field.is_null() {
            present.as_object_mut().unwrap().remove(name);
        } else {
            merge(&mut present[name], field);
        }
    }
}
