//! Composes the values of YAML documents from the events of a parser.
//!
//! The stack of open lists and mappings is a vector, so that a text that nests deeply cannot exhaust that of the
//! thread. Aliases share what they repeat until it is turned into JSON, and are counted before that: what they add to a
//! text is bounded, however it is arranged.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use serde_saphyr::granit_parser::{self, ErrorKind, Event, Marker, Parser, ScalarStyle, ScanError, StrInput, Tag};

use super::scalar::resolve;
use super::tree::{Content, Entry, Mark, Node};
use super::{LineFault, MAX_ALIASED_VALUES, MAX_DEPTH};

/// Goes through the documents of a text: each is a value, or the first thing that is wrong with it.
pub(super) struct Composer<'a> {
    text: &'a str,
    parser: Parser<'a, StrInput<'a>>,
    /// The lists and mappings around the next value, the outermost first.
    open: Vec<Open>,
    /// The values of the document that have an anchor, by the parser's number for it.
    anchors: HashMap<usize, Rc<Node>>,
    root: Option<Node>,
    /// How many values aliases may still add, in this document and the following ones.
    allowance: usize,
}

/// A list or mapping whose end has not been seen.
struct Open {
    mark: Mark,
    anchor: usize,
    inside: Inside,
}

enum Inside {
    List(Vec<Node>),
    Map {
        entries: Vec<Entry>,
        /// The values of merge keys.
        merged: Vec<Node>,
        /// The key whose value comes next.
        key: Option<Key>,
    },
}

struct Key {
    text: String,
    mark: Mark,
    /// Whether it is `<<`, which stands for the entries of its value.
    is_merge: bool,
}

/// What is wrong with a document, and where.
struct Trouble(Mark, String);

impl<'a> Composer<'a> {
    /// Starts at the first document of a text.
    pub(super) fn new(text: &'a str) -> Self {
        let mut options = granit_parser::options! { flow_nesting_limit: MAX_DEPTH, block_nesting_limit: MAX_DEPTH };
        options.set_emit_comments(false);
        Self {
            text,
            parser: Parser::new_from_str_with_options(text, options),
            open: Vec::new(),
            anchors: HashMap::new(),
            root: None,
            allowance: MAX_ALIASED_VALUES,
        }
    }

    /// Takes in one event; returns the document's value when it is complete.
    fn take(&mut self, event: Event<'_>, start: Marker) -> Result<Option<Node>, Trouble> {
        let mark = Mark::from(start);
        match event {
            Event::DocumentStart(..) => self.forget(),
            Event::DocumentEnd => return Ok(self.root.take()),
            Event::SequenceStart(_, anchor, _) => self.enter(mark, anchor, Inside::List(Vec::new()))?,
            Event::MappingStart(_, anchor, _) => {
                self.enter(mark, anchor, Inside::Map { entries: Vec::new(), merged: Vec::new(), key: None })?;
            }
            Event::SequenceEnd | Event::MappingEnd => self.leave()?,
            Event::Scalar(text, style, anchor, tag) => {
                let is_merge = style == ScalarStyle::Plain && tag.is_none() && text == "<<";
                let content = scalar(&text, style, tag.as_deref());
                self.complete(Node::new(mark, content), anchor, is_merge)?;
            }
            Event::Alias(anchor) => {
                let Some(node) = self.anchors.get(&anchor).cloned() else {
                    return Err(Trouble(
                        mark,
                        "not valid YAML: an alias cannot stand inside what it repeats".to_owned(),
                    ));
                };
                self.charge(node.size(), mark)?;
                self.check_depth(node.height(), mark)?;
                self.push(Node::new(node.mark, Content::Shared(node)), false)?;
            }
            _ => {}
        }
        Ok(None)
    }

    fn enter(&mut self, mark: Mark, anchor: usize, inside: Inside) -> Result<(), Trouble> {
        self.check_depth(1, mark)?;
        self.open.push(Open { mark, anchor, inside });
        Ok(())
    }

    fn leave(&mut self) -> Result<(), Trouble> {
        let Some(Open { mark, anchor, inside }) = self.open.pop() else { return Ok(()) };
        let content = match inside {
            Inside::List(items) => Content::List(items),
            Inside::Map { entries, merged, .. } => Content::Map(self.merge(entries, merged)?),
        };
        self.complete(Node::new(mark, content), anchor, false)
    }

    /// Adds the entries that merge keys stand for; keys that are written out, and earlier sources, go first.
    fn merge(&mut self, mut entries: Vec<Entry>, merged: Vec<Node>) -> Result<Vec<Entry>, Trouble> {
        if merged.is_empty() {
            return Ok(entries);
        }
        let mut keys: HashSet<String> = entries.iter().map(|entry| entry.key.clone()).collect();
        let mut sources = merged;
        sources.reverse();
        while let Some(source) = sources.pop() {
            let mark = source.mark;
            match source.into_content() {
                Content::Map(inherited) => {
                    for entry in inherited.into_iter().rev().filter(|entry| keys.insert(entry.key.clone())) {
                        self.charge(entry.value.size(), mark)?;
                        entries.push(entry);
                    }
                }
                Content::List(maps) if maps.iter().all(|map| matches!(map.content(), Content::Map(_))) => {
                    sources.extend(maps.into_iter().rev());
                }
                other => {
                    let found = other.description();
                    return Err(Trouble(mark, format!("the merge key `<<` needs a mapping, found {found}")));
                }
            }
        }
        Ok(entries)
    }

    /// Files a value under its anchor and puts it where it belongs.
    fn complete(&mut self, node: Node, anchor: usize, is_merge: bool) -> Result<(), Trouble> {
        if anchor == 0 {
            return self.push(node, is_merge);
        }
        let node = Rc::new(node);
        self.anchors.insert(anchor, Rc::clone(&node));
        self.push(Node::new(node.mark, Content::Shared(node)), is_merge)
    }

    fn push(&mut self, node: Node, is_merge: bool) -> Result<(), Trouble> {
        match self.open.last_mut().map(|open| &mut open.inside) {
            None => self.root = Some(node),
            Some(Inside::List(items)) => items.push(node),
            Some(Inside::Map { entries, merged, key }) => match key.take() {
                None => *key = Some(Key { mark: node.mark, text: key_text(&node)?, is_merge }),
                Some(Key { is_merge: true, .. }) => merged.push(node),
                Some(Key { text, mark, .. }) => entries.push(Entry { key: text, mark, value: node }),
            },
        }
        Ok(())
    }

    fn charge(&mut self, values: usize, mark: Mark) -> Result<(), Trouble> {
        self.allowance = self.allowance.checked_sub(values).ok_or_else(|| {
            Trouble(mark, format!("the aliases of a file may add {MAX_ALIASED_VALUES} values to it, not more"))
        })?;
        Ok(())
    }

    fn check_depth(&self, height: usize, mark: Mark) -> Result<(), Trouble> {
        if self.open.len() + height <= MAX_DEPTH {
            return Ok(());
        }
        Err(Trouble(mark, too_deep()))
    }

    fn forget(&mut self) {
        self.open.clear();
        self.anchors.clear();
        self.root = None;
    }

    /// Goes on after the document at hand.
    fn recover(&mut self) {
        self.forget();
        // An error here means that the text has no further document, and so does the parser's next event.
        self.parser.proceed_next_document().ok();
    }

    fn fault(&self, Trouble(mark, message): Trouble, offset: Option<usize>) -> LineFault {
        const ENDS: [char; 2] = ['\n', '\r'];
        let before = offset.and_then(|offset| self.text.get(..offset)).unwrap_or_default();
        let line = &self.text[before.rfind(ENDS).map_or(0, |end| end + 1)..];
        let is_template = line.split(ENDS).next().is_some_and(|line| line.contains("{{"));
        let hint = if is_template { " (a template must be rendered first)" } else { "" };
        LineFault {
            line: mark.line,
            column: Some(mark.column),
            path: String::new(),
            message: format!("{message}{hint}"),
        }
    }
}

impl Iterator for Composer<'_> {
    type Item = Result<Node, LineFault>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (trouble, offset) = match self.parser.next()? {
                Ok((event, span)) => match self.take(event, span.start) {
                    Ok(None) => continue,
                    Ok(Some(root)) => return Some(Ok(root)),
                    Err(trouble) => (trouble, span.start.byte_offset()),
                },
                Err(error) => (Trouble::from(&error), error.marker().byte_offset()),
            };
            let fault = self.fault(trouble, offset);
            self.recover();
            return Some(Err(fault));
        }
    }
}

impl From<Marker> for Mark {
    fn from(marker: Marker) -> Self {
        Self { line: marker.line().max(1), column: marker.col() + 1 }
    }
}

impl From<&ScanError> for Trouble {
    fn from(error: &ScanError) -> Self {
        let message = match error.kind() {
            ErrorKind::RecursionLimitExceeded => too_deep(),
            _ => format!("not valid YAML: {}", error.info().replace(char::is_control, " ")),
        };
        Self(Mark::from(*error.marker()), message)
    }
}

fn too_deep() -> String {
    format!("lists and mappings may be {MAX_DEPTH} levels deep, not more")
}

/// Makes a value of a scalar; a quoted one is a string unless its tag says otherwise.
fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Content {
    let is_resolved = match tag {
        None => style == ScalarStyle::Plain,
        Some(tag) => tag.core_suffix().is_some_and(|suffix| suffix != "str"),
    };
    if is_resolved { resolve(text) } else { Content::Text(text.to_owned()) }
}

/// Returns the text of a key; JSON has no keys but strings.
fn key_text(node: &Node) -> Result<String, Trouble> {
    match node.content() {
        Content::Null => Ok("null".to_owned()),
        Content::Bool(value) => Ok(value.to_string()),
        Content::Number(value) => Ok(value.to_string()),
        Content::Text(value) => Ok(value.clone()),
        other => Err(Trouble(node.mark, format!("expected a string as a key, found {}", other.description()))),
    }
}
