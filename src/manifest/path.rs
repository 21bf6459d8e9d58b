//! Names a field of an object, as in `spec.rules[0].modelMatch.headers[x-user]`.

use std::fmt;

/// One step from a value to one inside it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Step {
    /// To the value of a key.
    Key(String),
    /// To an item of a list, counted from 0.
    Index(usize),
}

/// The steps from an object to one of its fields.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct FieldPath(pub(super) Vec<Step>);

impl FieldPath {
    /// Reads a path; a text that is none gives the steps up to where it goes wrong.
    pub(super) fn parse(text: &str) -> Self {
        let mut steps = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            if let Some(bracket) = rest.strip_prefix('[') {
                let Some((inside, after)) = bracket.split_once(']') else { break };
                steps.push(inside.parse().map_or_else(|_| Step::Key(inside.to_owned()), Step::Index));
                rest = after;
            } else {
                let name = rest.strip_prefix('.').unwrap_or(rest);
                let end = name.find(['.', '[']).unwrap_or(name.len());
                if end == 0 {
                    break;
                }
                steps.push(Step::Key(name[..end].to_owned()));
                rest = &name[end..];
            }
        }
        Self(steps)
    }

    /// Returns the path to the value that contains this one; the root's is the root.
    pub(super) fn parent(&self) -> Self {
        Self(self.0[..self.0.len().saturating_sub(1)].to_vec())
    }

    /// Returns the path to the value of a key inside this one.
    pub(super) fn child(&self, key: &str) -> Self {
        let mut steps = self.0.clone();
        steps.push(Step::Key(key.to_owned()));
        Self(steps)
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, step) in self.0.iter().enumerate() {
            match step {
                Step::Index(item) => write!(formatter, "[{item}]")?,
                Step::Key(key) if is_plain(key) => {
                    formatter.write_str(if index == 0 { "" } else { "." })?;
                    formatter.write_str(key)?;
                }
                Step::Key(key) => write!(formatter, "[{key}]")?,
            }
        }
        Ok(())
    }
}

impl From<&serde_path_to_error::Path> for FieldPath {
    fn from(path: &serde_path_to_error::Path) -> Self {
        use serde_path_to_error::Segment;
        let steps = path.iter().filter_map(|segment| match segment {
            Segment::Seq { index } => Some(Step::Index(*index)),
            Segment::Map { key } => Some(Step::Key(key.clone())),
            Segment::Enum { variant } => Some(Step::Key(variant.clone())),
            Segment::Unknown => None,
        });
        Self(steps.collect())
    }
}

impl From<&serde_ignored::Path<'_>> for FieldPath {
    fn from(path: &serde_ignored::Path<'_>) -> Self {
        use serde_ignored::Path;
        let mut steps = Vec::new();
        let mut here = path;
        loop {
            let parent = match here {
                Path::Root => break,
                Path::Seq { parent, index } => {
                    steps.push(Step::Index(*index));
                    parent
                }
                Path::Map { parent, key } => {
                    steps.push(Step::Key(key.clone()));
                    parent
                }
                Path::Some { parent } | Path::NewtypeStruct { parent } | Path::NewtypeVariant { parent } => parent,
            };
            here = parent;
        }
        steps.reverse();
        Self(steps)
    }
}

/// Returns whether the key can follow a dot: the names of fields can, those in free-form maps often cannot.
fn is_plain(key: &str) -> bool {
    key.starts_with(|first: char| first.is_ascii_alphabetic()) && key.chars().all(|other| other.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_read_as_it_is_written() {
        for text in
            ["", "spec", "spec.rules[0].name", "metadata.labels[a.b/c].x", "headers[x-user]", "a[1][2]", "a[x y]"]
        {
            assert_eq!(FieldPath::parse(text).to_string(), text, "{text}");
        }
    }

    #[test]
    fn a_text_that_is_no_path_gives_its_start() {
        for (text, expected) in [("a..b", "a"), ("a[0", "a"), ("a.[", "a"), (".a", "a"), ("a.b.", "a.b"), ("[", "")] {
            assert_eq!(FieldPath::parse(text).to_string(), expected, "{text}");
        }
    }
}
