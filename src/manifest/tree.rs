//! The values of a YAML document, each with the place at which it stands.

use std::rc::Rc;

use serde_json::Number;

/// How many bytes of text count as a further value.
const BYTES_PER_VALUE: usize = 100;

/// Where a value stands in the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    /// The line, counted from 1.
    pub(super) line: usize,
    /// The column in characters, counted from 1.
    pub(super) column: usize,
}

/// A value and where it stands; a value that an alias repeats stands where it is written.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) mark: Mark,
    content: Content,
    /// How many values it is made of, itself and keys included.
    size: usize,
    /// How many lists and mappings are inside each other in it.
    height: usize,
}

/// A value.
#[derive(Clone, Debug)]
pub(super) enum Content {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Node>),
    /// The entries in the order of the text, with keys that repeat.
    Map(Vec<Entry>),
    /// A value that has an anchor, and so perhaps other owners.
    Shared(Rc<Node>),
}

/// A key and its value.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    /// Where the key stands.
    pub(super) mark: Mark,
    pub(super) value: Node,
}

impl Node {
    /// Makes a node of a value whose parts are complete.
    pub(super) fn new(mark: Mark, content: Content) -> Self {
        let (size, height) = match &content {
            Content::List(items) => {
                items.iter().fold((1, 1), |(size, height), item| (size + item.size, height.max(item.height + 1)))
            }
            Content::Map(entries) => entries.iter().fold((1, 1), |(size, height), Entry { value, .. }| {
                (size + 1 + value.size, height.max(value.height + 1))
            }),
            Content::Shared(node) => (node.size, node.height),
            Content::Text(text) => (1 + text.len() / BYTES_PER_VALUE, 0),
            Content::Null | Content::Bool(_) | Content::Number(_) => (1, 0),
        };
        Self { mark, content, size, height }
    }

    /// Returns the value.
    pub(super) fn content(&self) -> &Content {
        match &self.content {
            Content::Shared(node) => node.content(),
            content => content,
        }
    }

    /// Gives the value away, as a copy if it has other owners.
    pub(super) fn into_content(self) -> Content {
        match self.content {
            Content::Shared(node) => Rc::unwrap_or_clone(node).into_content(),
            content => content,
        }
    }

    /// Returns how many values it is made of, itself and keys included; a long text counts as several.
    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// Returns how many lists and mappings are inside each other in it.
    pub(super) fn height(&self) -> usize {
        self.height
    }

    /// Returns the value of a key of a mapping; of the last one if the key repeats.
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        let Content::Map(entries) = self.content() else { return None };
        entries.iter().rev().find(|entry| entry.key == key).map(|entry| &entry.value)
    }

    /// Returns the text of a string.
    pub(super) fn text(&self) -> Option<&str> {
        match self.content() {
            Content::Text(text) => Some(text),
            _ => None,
        }
    }
}

impl Content {
    /// Returns what the value is, in words of YAML.
    pub(super) fn description(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool(_) => "a boolean",
            Self::Number(_) => "a number",
            Self::Text(_) => "a string",
            Self::List(_) => "a list",
            Self::Map(_) => "a mapping",
            Self::Shared(node) => node.content().description(),
        }
    }
}
