//! Reads Kubernetes YAML: text in, typed objects and faults with lines out.
//!
//! A manifest may hold several documents and lists of objects, with anchors, comments, CRLF line ends and a byte-order
//! mark. Nothing in it is an error of the reader: what does not fit is a [`LineFault`] and the rest is still read. What
//! is accepted is what `kubectl apply` with strict validation accepts, from YAML 1.1 booleans to unknown and duplicate
//! fields, with two limits of its own: values may be [`MAX_DEPTH`] levels deep, and the aliases of a text may add
//! [`MAX_ALIASED_VALUES`] values to it, so that a small file cannot grow into a large one.
//!
//! ```text
//! text ──compose──> values with marks ──place──> JSON + places of the fields ──decode──> object, faults
//! ```

use std::fmt;

use path::FieldPath;
use place::Place;

mod compose;
mod decode;
mod deserializer;
mod explain;
mod object;
mod path;
mod place;
#[cfg(test)]
mod properties;
mod read;
mod scalar;
mod settling;
#[cfg(test)]
mod tests;
mod tree;

pub use decode::from_json;
pub use object::{DEFAULT_NAMESPACE, Object};
pub use read::read;
pub use settling::{Due, Fingerprint, Seen, Settling};

/// The most levels of lists and mappings inside each other.
pub const MAX_DEPTH: usize = 128;

/// The most values that the aliases (`*name`) of one text may add to those that are written in it; a long string counts
/// as several.
pub const MAX_ALIASED_VALUES: usize = 100_000;

/// Everything that a text holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Manifest {
    /// The objects of the kinds that the router reads, in the order of the text. Those whose types do not fit or that
    /// have no name are left out; those with other faults are here all the same.
    pub objects: Vec<Located>,
    /// What is wrong, in the order of the lines.
    pub faults: Vec<LineFault>,
    /// The objects of other kinds, in the order of the text.
    pub ignored: Vec<IgnoredKind>,
    /// How many documents and list items should be in `objects` and are not, because they could not be read.
    pub unreadable: usize,
}

/// An object and where its fields stand.
#[derive(Clone, Debug, PartialEq)]
pub struct Located {
    /// The line at which the object's content starts, counted from 1.
    pub line: usize,
    /// The object; its namespace is filled in if it has one.
    pub object: Object,
    places: Place,
}

/// Something that is wrong in a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineFault {
    /// The line, counted from 1.
    pub line: usize,
    /// The column in characters, counted from 1.
    pub column: Option<usize>,
    /// The field from the object's root, such as `spec.rules[0].name`; empty if the fault is not about a field.
    pub path: String,
    /// What is wrong and what was expected; lower-case, without a period.
    pub message: String,
}

/// An object of a kind that the router does not read, which is not a fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IgnoredKind {
    /// The line at which the object's content starts, counted from 1.
    pub line: usize,
    /// The object's `apiVersion`.
    pub api_version: String,
    /// The object's `kind`.
    pub kind: String,
}

impl Located {
    /// Returns the line of a field such as `spec.rules[0].name`, or of the nearest value around it that the text has.
    pub fn line_of(&self, path: &str) -> usize {
        self.places.nearest(&FieldPath::parse(path)).line
    }
}

impl fmt::Display for LineFault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "line {}: ", self.line)?;
        if !self.path.is_empty() {
            write!(formatter, "{}: ", self.path)?;
        }
        formatter.write_str(&self.message)
    }
}
