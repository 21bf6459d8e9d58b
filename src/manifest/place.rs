//! Tells where the fields of an object stand, and turns the object into JSON on the way.

use std::collections::BTreeMap;
use std::rc::Rc;

use serde_json::{Map, Value};

use super::LineFault;
use super::path::{FieldPath, Step, StepRef, Trail};
use super::tree::{Content, Entry, Mark, Node};

/// Where a value and everything inside it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Where the value's key stands, or the value itself if it has none.
    pub(super) mark: Mark,
    inside: Inside,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Inside {
    Nothing,
    /// The items, each with the index that it has in the text.
    List(Vec<(usize, Place)>),
    Map(BTreeMap<String, Place>),
}

impl Place {
    /// Returns the place of a field, or of the nearest value around it that exists.
    pub(super) fn nearest(&self, path: &FieldPath) -> Mark {
        let mut here = self;
        for step in &path.0 {
            let Some((_, next)) = here.child(step) else { break };
            here = next;
        }
        here.mark
    }

    /// Translates a path into the indices of the text, which differ where items were removed.
    pub(super) fn original(&self, path: &FieldPath) -> FieldPath {
        let mut here = Some(self);
        let steps = path.0.iter().map(|step| {
            let child = here.and_then(|place| place.child(step));
            here = child.as_ref().map(|(_, place)| *place);
            child.map_or_else(|| step.clone(), |(original, _)| original)
        });
        FieldPath(steps.collect())
    }

    /// Removes a field from the places and from the value that they belong to; returns whether there was one.
    pub(super) fn remove(&mut self, path: &FieldPath, value: &mut Value) -> bool {
        let Some((last, parents)) = path.0.split_last() else { return false };
        let (mut place, mut value) = (self, value);
        for step in parents {
            let (Some(inner_place), Some(inner_value)) = (place.child_mut(step), value_mut(value, step)) else {
                return false;
            };
            (place, value) = (inner_place, inner_value);
        }
        match (last, &mut place.inside, value) {
            (Step::Key(key), Inside::Map(places), Value::Object(values)) => {
                places.remove(key);
                values.remove(key).is_some()
            }
            (Step::Index(index), Inside::List(places), Value::Array(values)) if *index < values.len() => {
                places.remove(*index);
                values.remove(*index);
                true
            }
            _ => false,
        }
    }

    fn child(&self, step: &Step) -> Option<(Step, &Self)> {
        match (&self.inside, step) {
            (Inside::List(items), Step::Index(index)) => {
                items.get(*index).map(|(original, place)| (Step::Index(*original), place))
            }
            (Inside::Map(entries), Step::Key(key)) => entries.get(key).map(|place| (step.clone(), place)),
            (Inside::Map(entries), Step::Index(index)) => {
                entries.get(&index.to_string()).map(|place| (step.clone(), place))
            }
            (Inside::Nothing, _) | (Inside::List(_), Step::Key(_)) => None,
        }
    }

    fn child_mut(&mut self, step: &Step) -> Option<&mut Self> {
        match (&mut self.inside, step) {
            (Inside::List(items), Step::Index(index)) => items.get_mut(*index).map(|(_, place)| place),
            (Inside::Map(entries), Step::Key(key)) => entries.get_mut(key),
            _ => None,
        }
    }
}

/// Separates an object into its JSON value and its places, and reports repeated keys; the last one counts.
///
/// Keys without a value are left out of the JSON, as an API server leaves them out.
pub(super) fn separate(node: Node, faults: &mut Vec<LineFault>) -> (Value, Place) {
    convert(node, Trail::default(), faults)
}

fn convert(node: Node, trail: Trail<'_>, faults: &mut Vec<LineFault>) -> (Value, Place) {
    let mark = node.mark;
    let (value, inside) = match node.into_content() {
        Content::Null => (Value::Null, Inside::Nothing),
        Content::Bool(value) => (Value::Bool(value), Inside::Nothing),
        Content::Number(value) => (Value::Number(value), Inside::Nothing),
        Content::Text(value) => (Value::String(value), Inside::Nothing),
        Content::List(items) => {
            let (mut values, mut places) = (Vec::with_capacity(items.len()), Vec::with_capacity(items.len()));
            for (index, item) in items.into_iter().enumerate() {
                let (value, place) = convert(item, trail.then(StepRef::Index(index)), faults);
                values.push(value);
                places.push((index, place));
            }
            (Value::Array(values), Inside::List(places))
        }
        Content::Shared(node) => return convert(Rc::unwrap_or_clone(node), trail, faults),
        Content::Map(entries) => {
            let (values, places) = convert_map(entries, trail, faults);
            (Value::Object(values), Inside::Map(places))
        }
    };
    (value, Place { mark, inside })
}

fn convert_map(
    entries: Vec<Entry>,
    trail: Trail<'_>,
    faults: &mut Vec<LineFault>,
) -> (Map<String, Value>, BTreeMap<String, Place>) {
    let mut values = Map::new();
    let mut places: BTreeMap<String, Place> = BTreeMap::new();
    for Entry { key, mark, value } in entries {
        let here = trail.then(StepRef::Key(&key));
        let (value, mut place) = convert(value, here, faults);
        place.mark = mark;
        if let Some(first) = places.get(&key) {
            let message = format!("duplicate key `{key}`: line {} has it too, and only one can count", first.mark.line);
            let path = here.to_path().to_string();
            faults.push(LineFault { line: mark.line, column: Some(mark.column), path, message });
            values.remove(&key);
        }
        if !value.is_null() {
            values.insert(key.clone(), value);
        }
        places.insert(key, place);
    }
    (values, places)
}

fn value_mut<'a>(value: &'a mut Value, step: &Step) -> Option<&'a mut Value> {
    match step {
        Step::Key(key) => value.as_object_mut()?.get_mut(key),
        Step::Index(index) => value.as_array_mut()?.get_mut(*index),
    }
}
