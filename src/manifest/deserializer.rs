//! A deserializer of JSON that notes where it fails and which fields nobody asks for.
//!
//! It is stricter than that of serde_json in one point: a list cannot stand for a mapping whose fields it gives in
//! order, because no API server takes it for one.

use std::cell::RefCell;

use serde::de::value::BorrowedStrDeserializer;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Unexpected, Visitor,
};
use serde::forward_to_deserialize_any;
use serde_json::{Error, Map, Value};

use super::path::{FieldPath, StepRef, Trail};

/// What comes of reading a value as a type.
pub(super) struct Reading<T> {
    /// The typed value, or the field that does not fit and why.
    pub(super) result: Result<T, (FieldPath, String)>,
    /// The fields that the type does not know, up to the one that does not fit.
    pub(super) unknown: Vec<UnknownField>,
}

/// A field that the type does not know.
pub(super) struct UnknownField {
    pub(super) path: FieldPath,
    /// The fields that the type knows in its place.
    pub(super) known: &'static [&'static str],
}

/// Reads a JSON value as a type.
pub(super) fn deserialize<T: DeserializeOwned>(value: &Value) -> Reading<T> {
    let notes = RefCell::new(Notes::default());
    let result = T::deserialize(Noting { value, trail: Trail::default(), notes: &notes });
    let Notes { failed, unknown } = notes.into_inner();
    Reading { result: result.map_err(|error| (failed.unwrap_or_default(), error.to_string())), unknown }
}

#[derive(Default)]
struct Notes {
    /// Where the innermost value stands that did not fit.
    failed: Option<FieldPath>,
    unknown: Vec<UnknownField>,
}

#[derive(Clone, Copy)]
struct Noting<'de, 'n> {
    value: &'de Value,
    trail: Trail<'n>,
    notes: &'n RefCell<Notes>,
}

struct Items<'de, 'n> {
    rest: std::iter::Enumerate<std::slice::Iter<'de, Value>>,
    trail: Trail<'n>,
    notes: &'n RefCell<Notes>,
}

struct Entries<'de, 'n> {
    rest: serde_json::map::Iter<'de>,
    /// The entry whose key was given and whose value comes next.
    current: Option<(&'de str, &'de Value)>,
    trail: Trail<'n>,
    notes: &'n RefCell<Notes>,
}

impl<'de> Noting<'de, '_> {
    /// Reads the value with a seed; the innermost call that fails notes where.
    fn seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Error> {
        let result = seed.deserialize(self);
        if result.is_err() {
            self.notes.borrow_mut().failed.get_or_insert_with(|| self.trail.to_path());
        }
        result
    }

    fn note_unknown(&self, object: &Map<String, Value>, known: &'static [&'static str]) {
        for key in object.keys().filter(|key| !known.contains(&key.as_str())) {
            let path = self.trail.then(StepRef::Key(key)).to_path();
            self.notes.borrow_mut().unknown.push(UnknownField { path, known });
        }
    }
}

impl<'de> Deserializer<'de> for Noting<'de, '_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let Self { value, trail, notes } = self;
        match value {
            Value::Array(items) => visitor.visit_seq(Items { rest: items.iter().enumerate(), trail, notes }),
            Value::Object(entries) => visitor.visit_map(Entries { rest: entries.iter(), current: None, trail, notes }),
            scalar => scalar.deserialize_any(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.value.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.value {
            Value::Array(_) => return Err(Error::invalid_type(Unexpected::Seq, &visitor)),
            Value::Object(object) => self.note_unknown(object, fields),
            _ => {}
        }
        self.deserialize_any(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.value.deserialize_enum(name, variants, visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map identifier ignored_any
    }
}

impl<'de> SeqAccess<'de> for Items<'de, '_> {
    type Error = Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Error> {
        let Some((index, value)) = self.rest.next() else { return Ok(None) };
        let trail = self.trail.then(StepRef::Index(index));
        Noting { value, trail, notes: self.notes }.seed(seed).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.rest.len())
    }
}

impl<'de> MapAccess<'de> for Entries<'de, '_> {
    type Error = Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Error> {
        self.current = self.rest.next().map(|(key, value)| (key.as_str(), value));
        self.current.map(|(key, _)| seed.deserialize(BorrowedStrDeserializer::new(key))).transpose()
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Error> {
        let Some((key, value)) = self.current.take() else {
            return Err(Error::custom("a value was asked for before its key"));
        };
        let trail = self.trail.then(StepRef::Key(key));
        Noting { value, trail, notes: self.notes }.seed(seed)
    }
}
