//! Bodies of all kinds, as clients may write them.

use std::ops::Range;

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

/// JSON as a client may write it: `choices` decide on white space and escapes.
pub(super) struct Writer<'a> {
    pub(super) text: String,
    pub(super) choices: std::iter::Cycle<std::slice::Iter<'a, u8>>,
    /// Where the top-level `model` is.
    pub(super) model: Range<usize>,
}

impl Writer<'_> {
    fn space(&mut self) {
        let spaces = ["", "", "", " ", "\n", "\t\r\n "];
        let choice = usize::from(*self.choices.next().unwrap());
        self.text.push_str(spaces[choice % spaces.len()]);
    }

    fn token(&mut self, token: &str) {
        self.space();
        self.text.push_str(token);
        self.space();
    }

    fn string(&mut self, text: &str) {
        self.text.push('"');
        for letter in text.chars() {
            if self.choices.next().unwrap().is_multiple_of(8) {
                let mut units = [0; 2];
                for unit in letter.encode_utf16(&mut units) {
                    self.text.push_str(&format!("\\u{unit:04x}"));
                }
            } else {
                let quoted = json!(letter.to_string()).to_string();
                self.text.push_str(&quoted[1..quoted.len() - 1]);
            }
        }
        self.text.push('"');
    }

    pub(super) fn value(&mut self, value: &Value, top: bool) {
        match value {
            Value::String(text) => self.string(text),
            Value::Array(items) => {
                self.token("[");
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        self.token(",");
                    }
                    self.value(item, false);
                }
                self.token("]");
            }
            Value::Object(fields) => {
                self.token("{");
                for (index, (key, field)) in fields.iter().enumerate() {
                    if index > 0 {
                        self.token(",");
                    }
                    self.string(key);
                    self.token(":");
                    let start = self.text.len();
                    self.value(field, false);
                    if top && key == "model" {
                        self.model = start..self.text.len();
                    }
                }
                self.token("}");
            }
            scalar => self.text.push_str(&scalar.to_string()),
        }
    }
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<i32>().prop_map(|eighths| Value::from(f64::from(eighths) / 8.0)),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            vec((key(), inner), 0..4).prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

fn key() -> impl Strategy<Value = String> {
    prop_oneof![any::<String>(), "(model|stream|stream_options|include_usage|[a-c])"]
}

/// An object with a proper model and every kind of `stream_options`.
pub(super) fn any_body() -> impl Strategy<Value = Map<String, Value>> {
    let options = prop_oneof![
        Just(None),
        any_value().prop_map(Some),
        (any_value(), any::<Option<bool>>(), any::<bool>()).prop_map(|(other, flag, named)| {
            let mut options = json!({ "other": other });
            if named {
                options["include_usage"] = json!(flag);
            }
            Some(options)
        }),
    ];
    (vec((key(), any_value()), 0..5), "[a-z\\\\\"/é字]{1,9}", options).prop_map(|(fields, model, options)| {
        let mut body: Map<String, Value> = fields.into_iter().collect();
        body.insert("model".to_owned(), json!(model));
        body.remove("stream_options");
        body.extend(options.map(|options| ("stream_options".to_owned(), options)));
        body
    })
}

/// What [`Edit::include_usage`] has to make of a body, said on values.
pub(super) fn include_usage(body: &mut Map<String, Value>) {
    let options = body.entry("stream_options").or_insert(Value::Null);
    if options.is_null() {
        *options = json!({});
    }
    if let Some(flag) = options.as_object_mut().map(|options| options.entry("include_usage").or_insert(Value::Null))
        && (flag.is_null() || *flag == json!(false))
    {
        *flag = json!(true);
    }
}
