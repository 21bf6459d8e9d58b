//! Reads a `multipart/form-data` body as far as routing needs it, while it arrives: which model it names, and where.
//!
//! A file may be in front of the model or behind it, so the body is looked through to its end, and nothing of it is kept but
//! a line or a name. What two readers may understand differently is refused: an engine must not run another model than
//! the one that was routed by. Sources: RFC 7578; RFC 2046, section 5.1; OpenAI API reference, "Create transcription".

use std::ops::Range;

use memchr::memmem;
use thiserror::Error;

use super::parameters::Parameters;
use super::understood::{MAX_MODEL_NAME, NotUnderstood};

/// The longest head of a part in bytes.
const MAX_HEAD: usize = 8 << 10;
/// The longest boundary in bytes (RFC 2046, section 5.1.1).
const MAX_BOUNDARY: usize = 70;
/// What stands before the first boundary's line, for those who look for a line.
const BEFORE: &[u8] = b"\r\n";

/// A form while it arrives.
#[derive(Clone, Debug)]
pub struct Form {
    /// What separates parts: a line break, two hyphens, and the boundary.
    delimiter: Vec<u8>,
    state: State,
    /// What was taken in, and is looked at again when there is more.
    held: Vec<u8>,
    /// The place of `held` in the body, behind [`BEFORE`].
    at: usize,
    model: Option<FormModel>,
    streams: bool,
}

/// The model that a form names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormModel {
    /// Its name.
    pub name: String,
    /// Where it stands in the body.
    pub at: Range<usize>,
}

/// Why a form cannot be routed; the text is what the API user reads.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum FormFault {
    /// The header names no boundary, or one that is none.
    #[error("the type `multipart/form-data` of the request body has no usable boundary")]
    Boundary,
    /// It is no form.
    #[error("the request body is no valid form: {0}")]
    Malformed(&'static str),
    /// It has no `model`.
    #[error("the form in the request body has no field `model`")]
    MissingModel,
    /// It has several.
    #[error("field `model` occurs more than once in the form")]
    DuplicateModel,
    /// The `model` is a file, or encoded.
    #[error("field `model` of the form must be plain text")]
    NotText,
    /// The `model` is empty or white space.
    #[error("field `model` of the form must not be blank")]
    BlankModel,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before the first boundary.
    Preamble,
    /// Behind a boundary: a part's head follows, or the end.
    Boundary,
    /// Within the head of a part.
    Head,
    Content(Field),
    Ended,
}

/// What the content of a part is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Model,
    Stream,
    Other,
}

impl Form {
    /// Begins a form, if a body of this type is one.
    ///
    /// # Errors
    ///
    /// Returns an error for a form without a boundary.
    pub fn of(content_type: &str) -> Result<Option<Self>, FormFault> {
        let (media, parameters) = Parameters::of(content_type);
        if !media.eq_ignore_ascii_case("multipart/form-data") {
            return Ok(None);
        }
        let boundary = parameters.only("boundary").ok().flatten().ok_or(FormFault::Boundary)?;
        if boundary.is_empty() || boundary.len() > MAX_BOUNDARY {
            return Err(FormFault::Boundary);
        }
        let delimiter = [b"\r\n--", boundary.as_bytes()].concat();
        let (held, state) = (BEFORE.to_vec(), State::Preamble);
        Ok(Some(Self { delimiter, state, held, at: 0, model: None, streams: false }))
    }

    /// Returns the model, once its part has arrived whole.
    pub fn model(&self) -> Option<&FormModel> {
        self.model.as_ref()
    }

    /// Returns whether a stream is asked for, as far as the form has arrived.
    pub fn streams(&self) -> bool {
        self.streams
    }

    /// Takes in a piece of the body.
    ///
    /// # Errors
    ///
    /// Returns an error for what is no form, or names its model in a way that others may read differently.
    pub fn feed(&mut self, piece: &[u8]) -> Result<(), NotUnderstood> {
        if self.state == State::Ended {
            return Ok(());
        }
        let mut held = std::mem::take(&mut self.held);
        held.extend_from_slice(piece);
        let mut from = 0;
        while let Some(next) = self.step(&held[from..], self.at + from)? {
            from += next;
        }
        self.at += from;
        // What was a large piece is not kept for the few bytes at its end.
        self.held = if from > 0 { held.split_off(from) } else { held };
        Ok(())
    }

    /// Says that nothing follows.
    ///
    /// # Errors
    ///
    /// Returns an error for a form that has not ended, or names no model.
    pub fn end(&self) -> Result<(), FormFault> {
        match (self.state, &self.model) {
            (State::Ended, Some(_)) => Ok(()),
            (State::Ended, None) => Err(FormFault::MissingModel),
            (..) => Err(FormFault::Malformed("it ends before its last boundary")),
        }
    }

    /// Looks at what is held from a place in the body on, and returns how much of it is done with; `None` if that is all
    /// for now.
    fn step(&mut self, held: &[u8], at: usize) -> Result<Option<usize>, NotUnderstood> {
        match self.state {
            State::Ended => Ok(None),
            State::Preamble | State::Content(_) => self.content(held, at),
            State::Boundary => Ok(match held {
                [b'-', b'-', ..] => {
                    self.state = State::Ended;
                    Some(2)
                }
                // The line break stays: it is the first one of a head without lines.
                [b'\r', b'\n', ..] => {
                    self.state = State::Head;
                    Some(0)
                }
                [] | [b'-' | b'\r'] => None,
                _ => return Err(FormFault::Malformed("a boundary is followed by something else").into()),
            }),
            State::Head => {
                let Some(end) = memmem::find(held, b"\r\n\r\n") else {
                    let is_too_long = held.len() > MAX_HEAD;
                    let too_long = FormFault::Malformed("the head of a part is too long");
                    return if is_too_long { Err(too_long.into()) } else { Ok(None) };
                };
                let field = field(&held[..end])?;
                if field == Field::Model && self.model.is_some() {
                    return Err(FormFault::DuplicateModel.into());
                }
                self.state = State::Content(field);
                Ok(Some(end + 4))
            }
        }
    }

    /// Looks for the boundary behind what is held.
    fn content(&mut self, held: &[u8], at: usize) -> Result<Option<usize>, NotUnderstood> {
        let Some(length) = memmem::find(held, &self.delimiter) else {
            let is_long = held.len() > MAX_MODEL_NAME + self.delimiter.len();
            match self.state {
                State::Content(Field::Model) if is_long => return Err(NotUnderstood::LongModel),
                // No word that asks for a stream is as long.
                State::Content(Field::Stream) if is_long => self.state = State::Content(Field::Other),
                _ => {}
            }
            let is_kept = matches!(self.state, State::Content(Field::Model | Field::Stream));
            // The boundary may have begun.
            let passed = if is_kept { 0 } else { (held.len() + 1).saturating_sub(self.delimiter.len()) };
            return Ok(Some(passed).filter(|passed| *passed > 0));
        };
        match self.state {
            State::Content(Field::Model) => self.model = Some(model(&held[..length], at - BEFORE.len())?),
            State::Content(Field::Stream) => {
                self.streams = held[..length].eq_ignore_ascii_case(b"true") || held[..length] == *b"1";
            }
            _ => {}
        }
        self.state = State::Boundary;
        Ok(Some(length + self.delimiter.len()))
    }
}

/// Reads the head of a part, whose lines begin with a line break.
fn field(head: &[u8]) -> Result<Field, NotUnderstood> {
    const UNREADABLE: FormFault = FormFault::Malformed("the head of a part cannot be read");
    let head = str::from_utf8(head).map_err(|_| UNREADABLE)?;
    let (mut disposition, mut is_encoded) = (None, false);
    for line in head.split("\r\n").filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':').ok_or(UNREADABLE)?;
        if name.eq_ignore_ascii_case("content-disposition") && disposition.replace(value).is_some() {
            return Err(FormFault::Malformed("a part has two dispositions").into());
        }
        let is_plain = ["7bit", "8bit", "binary"].iter().any(|plain| value.trim().eq_ignore_ascii_case(plain));
        is_encoded |= name.eq_ignore_ascii_case("content-transfer-encoding") && !is_plain;
    }
    let (kind, parameters) = Parameters::of(disposition.ok_or(FormFault::Malformed("a part has no disposition"))?);
    let name = parameters.only("name").map_err(|_| UNREADABLE)?;
    let is_file = parameters.into_iter().flatten().any(|(name, _)| name.to_ascii_lowercase().starts_with("filename"));
    let is_doubtful = parameters.into_iter().flatten().any(|(name, _)| name.eq_ignore_ascii_case("name*"));
    let Some(name) = name.filter(|_| kind.eq_ignore_ascii_case("form-data") && !is_doubtful) else {
        return Err(FormFault::Malformed("a part has no plain name").into());
    };
    match &*name {
        "model" if is_file || is_encoded => Err(FormFault::NotText.into()),
        "model" => Ok(Field::Model),
        "stream" if !is_file => Ok(Field::Stream),
        _ => Ok(Field::Other),
    }
}

fn model(value: &[u8], at: usize) -> Result<FormModel, NotUnderstood> {
    let name = str::from_utf8(value).map_err(|_| FormFault::NotText)?;
    if name.trim().is_empty() {
        return Err(FormFault::BlankModel.into());
    }
    if name.len() > MAX_MODEL_NAME {
        return Err(NotUnderstood::LongModel);
    }
    Ok(FormModel { name: name.to_owned(), at: at..at + value.len() })
}

#[cfg(test)]
mod tests;
