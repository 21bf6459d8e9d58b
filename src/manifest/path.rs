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

/// The way from an object to a value, kept on the call stack while a value is gone through.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Trail<'a> {
    parent: Option<&'a Trail<'a>>,
    step: Option<StepRef<'a>>,
}

/// One step of a trail.
#[derive(Clone, Copy, Debug)]
pub(super) enum StepRef<'a> {
    Key(&'a str),
    Index(usize),
}

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

    /// Returns the name of the field; `None` for an item of a list.
    pub(super) fn field(&self) -> Option<&str> {
        match self.0.last() {
            Some(Step::Key(name)) => Some(name),
            Some(Step::Index(_)) | None => None,
        }
    }

    /// Returns the path to the value of a key inside this one.
    pub(super) fn child(&self, key: &str) -> Self {
        let mut steps = self.0.clone();
        steps.push(Step::Key(key.to_owned()));
        Self(steps)
    }
}

impl Trail<'_> {
    /// Goes one step further.
    pub(super) fn then<'a>(&'a self, step: StepRef<'a>) -> Trail<'a> {
        Trail { parent: Some(self), step: Some(step) }
    }

    /// Returns the path to where the trail has come.
    pub(super) fn to_path(self) -> FieldPath {
        let mut steps = Vec::new();
        let mut here = Some(&self);
        while let Some(trail) = here {
            steps.extend(trail.step.map(|step| match step {
                StepRef::Key(key) => Step::Key(key.to_owned()),
                StepRef::Index(index) => Step::Index(index),
            }));
            here = trail.parent;
        }
        steps.reverse();
        FieldPath(steps)
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
