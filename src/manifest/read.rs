//! Goes through the documents of a text and the items of its lists, and makes objects of them.

use serde_json::{Map, Value};

use super::compose::Composer;
use super::decode::line_fault;
use super::object::{Object, Recognized, recognize};
use super::path::FieldPath;
use super::place::{Place, separate};
use super::tree::{Content, Node};
use super::{IgnoredKind, LineFault, Located, Manifest};
use crate::kinds::names::{is_dns_label, is_dns_subdomain};
use crate::object::Kind;

/// What a name may be made of.
const NAME_RULE: &str = "expected lower-case letters, digits and inner hyphens";

/// What a value says of itself, or its list of it.
#[derive(Clone, Debug, Default)]
struct Header {
    api_version: Option<String>,
    kind: Option<String>,
}

/// Reads a text; whatever is wrong with it is in the result.
pub fn read(text: &str) -> Manifest {
    let mut manifest = Manifest::default();
    for document in Composer::new(text) {
        match document {
            Ok(root) => manifest.absorb(root, &Header::default()),
            Err(fault) => {
                manifest.faults.push(fault);
                manifest.unreadable += 1;
            }
        }
    }
    // A parser may find at the end of the text what it sees as the start of a further line.
    let lines = count_lines(text);
    for fault in &mut manifest.faults {
        fault.line = fault.line.clamp(1, lines);
    }
    manifest.faults.sort_by_key(|fault| (fault.line, fault.column));
    manifest
}

/// Counts lines as YAML does: a line ends with LF, CR or both; an empty text has one.
pub(super) fn count_lines(text: &str) -> usize {
    let mut ends = 0;
    let mut bytes = text.bytes().peekable();
    while let Some(byte) = bytes.next() {
        ends += usize::from(byte == b'\n' || (byte == b'\r' && bytes.peek() != Some(&b'\n')));
    }
    (ends + usize::from(!text.ends_with(['\n', '\r']))).max(1)
}

impl Manifest {
    /// Takes in a value: an object, a list of objects or nothing.
    fn absorb(&mut self, node: Node, inherited: &Header) {
        match node.content() {
            Content::Null => return,
            Content::Map(_) => {}
            other => {
                let found = other.description();
                let message = format!("expected an object with apiVersion, kind and metadata, found {found}");
                return self.fault(&node, "", message);
            }
        }
        let header = Header::of(&node).or(inherited);
        match items(&node, header.kind.as_deref()) {
            Some(Err(found)) => self.fault(&node, "items", format!("expected a list, found {found}")),
            Some(Ok(())) => {
                let of_items = header.of_items();
                let (items, rest) = take_items(node);
                separate(rest, &mut self.faults);
                for item in items {
                    self.absorb(item, &of_items);
                }
            }
            None => self.absorb_object(node, header),
        }
    }

    fn absorb_object(&mut self, node: Node, header: Header) {
        let missing = if header.kind.is_none() { "kind" } else { "apiVersion" };
        let (Some(api_version), Some(name)) = (header.api_version, header.kind) else {
            let message = match node.get(missing).map(|value| value.content().description()) {
                Some(found) => format!("expected a string, found {found}"),
                None => format!("missing field `{missing}`: an object names its apiVersion and its kind"),
            };
            return self.fault(&node, missing, message);
        };
        match recognize(&api_version, &name) {
            Recognized::Read(kind) => self.read_object(node, kind, &api_version),
            Recognized::WrongVersion(expected) => {
                let message = format!("expected apiVersion `{expected}` for a {name}, found `{api_version}`");
                self.fault(&node, "apiVersion", message);
            }
            Recognized::Unknown => {
                let message = format!("`{api_version}` has no kind `{name}`");
                self.fault(&node, "kind", message);
            }
            Recognized::Ignored => {
                self.ignored.push(IgnoredKind { line: node.mark.line, api_version, kind: name });
            }
        }
    }

    fn read_object(&mut self, node: Node, kind: Kind, api_version: &str) {
        let line = node.mark.line;
        let (mut value, places) = separate(node, &mut self.faults);
        // An item of a typed list need not repeat what the list says, but its type asks for it.
        value["apiVersion"] = api_version.into();
        value["kind"] = kind.as_str().into();
        // Without metadata there is no name, and that is what is reported.
        if value["metadata"].is_null() {
            value["metadata"] = Value::Object(Map::new());
        }
        let has_name = self.check_name(kind, &value, &places);
        let Some(object) = Object::from_json(kind, value, &places, &mut self.faults) else {
            self.unreadable += 1;
            return;
        };
        for fault in object.faults() {
            let found = line_fault(&places, &FieldPath::parse(&fault.path), fault.message);
            self.faults.push(LineFault { path: fault.path, ..found });
        }
        if has_name {
            self.objects.push(Located { line, object, places });
        } else {
            self.unreadable += 1;
        }
    }

    /// Reports what is wrong with an object's name and namespace; returns whether it has a name.
    fn check_name(&mut self, kind: Kind, value: &Value, places: &Place) -> bool {
        let field = |name: &str| value["metadata"][name].as_str();
        let mut fault = |path: &str, message: String| {
            self.faults.push(line_fault(places, &FieldPath::parse(path), message));
        };
        if let Some(namespace) = field("namespace").filter(|namespace| !is_dns_label(namespace)) {
            fault("metadata.namespace", format!("`{namespace}` is not the name of a namespace: {NAME_RULE}"));
        }
        match field("name") {
            Some(name) if !name.is_empty() => {
                let is_name = if kind == Kind::Namespace { is_dns_label } else { is_dns_subdomain };
                if !is_name(name) {
                    fault("metadata.name", format!("`{name}` is not the name of a {kind}: {NAME_RULE}"));
                }
                true
            }
            // A name or metadata of another type is reported as such.
            _ if !value["metadata"]["name"].is_null() && !value["metadata"]["name"].is_string() => false,
            _ => {
                fault("metadata.name", "missing field `name`: every object needs a name".to_owned());
                false
            }
        }
    }

    fn fault(&mut self, node: &Node, path: &str, message: String) {
        self.unreadable += 1;
        let mark = node.get(path).map_or(node.mark, |value| value.mark);
        let path = path.to_owned();
        self.faults.push(LineFault { line: mark.line, column: Some(mark.column), path, message });
    }
}

impl Header {
    fn of(node: &Node) -> Self {
        let text = |key: &str| node.get(key).and_then(Node::text).map(str::to_owned);
        Self { api_version: text("apiVersion"), kind: text("kind") }
    }

    /// Fills in what the value does not say of itself.
    fn or(self, inherited: &Self) -> Self {
        Self {
            api_version: self.api_version.or_else(|| inherited.api_version.clone()),
            kind: self.kind.or_else(|| inherited.kind.clone()),
        }
    }

    /// Returns what a list says of its items: a PodList that they are Pods, a plain List nothing.
    fn of_items(self) -> Self {
        match self.kind.as_deref().and_then(|kind| kind.strip_suffix("List")) {
            Some(kind) if !kind.is_empty() => Self { kind: Some(kind.to_owned()), ..self },
            _ => Self::default(),
        }
    }
}

/// Tells whether a value is a list of objects, or what a plain List has in place of items; `None` for any other value.
fn items(node: &Node, kind: Option<&str>) -> Option<Result<(), &'static str>> {
    let kind = kind.filter(|kind| kind.ends_with("List"))?;
    match node.get("items").map(Node::content) {
        Some(Content::List(_)) => Some(Ok(())),
        _ if kind != "List" => None,
        Some(Content::Null) | None => Some(Ok(())),
        Some(other) => Some(Err(other.description())),
    }
}

/// Takes the items out of a list of objects; the key stays, so that it is seen if it repeats.
fn take_items(node: Node) -> (Vec<Node>, Node) {
    let mark = node.mark;
    let Content::Map(mut entries) = node.into_content() else { return (Vec::new(), Node::new(mark, Content::Null)) };
    let mut items = Vec::new();
    if let Some(entry) = entries.iter_mut().rev().find(|entry| entry.key == "items") {
        let value = std::mem::replace(&mut entry.value, Node::new(mark, Content::Null));
        if let Content::List(found) = value.into_content() {
            items = found;
        }
    }
    (items, Node::new(mark, Content::Map(entries)))
}
