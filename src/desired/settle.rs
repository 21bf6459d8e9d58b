//! Compares the status that is to be with the status that is.
//!
//! Source: Kubernetes API conventions, "Typical status properties": `lastTransitionTime` changes when a condition's
//! status does, and not with its reason or message.

use serde_json::{Map, Value, json};

use crate::conditions::kind::{BAD_NEWS, OCCASIONAL};
use crate::conditions::reason;

/// The time of a condition that is not new.
const TIME: &str = "lastTransitionTime";

/// What tells the items of a list apart, each kind of item having some of it.
const ITEM_KEYS: &[&str] = &["name", "parentRef", "ancestorRef", "controllerName"];

/// A condition whose status changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    /// Whether that is good news.
    pub is_good: bool,
    /// Why, in one CamelCase word.
    pub reason: String,
    /// What happened, in a sentence.
    pub message: String,
}

/// Compares a status that is to be with the one that is, and returns whether they differ.
///
/// Conditions whose status stays keep their time; those whose status changes are added to `transitions`. Fields that
/// only the present status has belong to someone else.
pub(super) fn settle(desired: &mut Value, observed: Option<&Value>, transitions: &mut Vec<Transition>) -> bool {
    match desired {
        Value::Object(fields) => {
            let mut differs = false;
            for (name, field) in fields {
                let observed = observed.and_then(|observed| observed.get(name));
                differs |= match (name.as_str(), field) {
                    ("conditions", Value::Array(conditions)) => settle_conditions(conditions, observed, transitions),
                    ("listeners" | "parents" | "ancestors", Value::Array(items)) => {
                        settle_items(items, observed, transitions)
                    }
                    (_, field) => settle(field, observed, transitions),
                };
            }
            differs
        }
        Value::Array(items) if items.is_empty() => observed.is_some_and(|observed| *observed != json!([])),
        other => observed != Some(&*other),
    }
}

/// Compares lists whose items are told apart by name, or by reference and controller.
fn settle_items(items: &mut [Value], observed: Option<&Value>, transitions: &mut Vec<Transition>) -> bool {
    let observed = array(observed);
    let mut differs = items.len() != observed.len();
    for item in items {
        let counterpart = observed.iter().find(|other| ITEM_KEYS.iter().all(|key| other.get(key) == item.get(key)));
        differs |= settle(item, counterpart, transitions);
    }
    differs
}

fn settle_conditions(conditions: &mut [Value], observed: Option<&Value>, transitions: &mut Vec<Transition>) -> bool {
    // An occasional condition of the router's own that is still there must go.
    let is_gone = |other: &&Value| {
        let named = |kind: &&str| other.get("type").is_some_and(|name| name == kind);
        OCCASIONAL.iter().any(named) && !conditions.iter().any(|condition| condition.get("type") == other.get("type"))
    };
    let mut differs = array(observed).iter().any(|other| is_gone(&other));
    for condition in conditions.iter_mut().filter_map(Value::as_object_mut) {
        let before = array(observed).iter().find(|other| other.get("type") == condition.get("type"));
        let keeps_status = before.is_some_and(|before| before.get("status") == condition.get("status"));
        let fields = ["status", "reason", "message", "observedGeneration"];
        differs |= before.is_none_or(|before| fields.iter().any(|field| before.get(field) != condition.get(*field)));
        match before.and_then(|before| before.get(TIME)) {
            Some(time) if keeps_status => drop(condition.insert(TIME.to_owned(), time.clone())),
            _ => note_transition(condition, before, transitions),
        }
    }
    differs
}

fn note_transition(condition: &Map<String, Value>, before: Option<&Value>, transitions: &mut Vec<Transition>) {
    let text = |field: &str| condition.get(field).and_then(Value::as_str).unwrap_or_default();
    let is_good = (text("status") == "True") != BAD_NEWS.contains(&text("type"));
    let was_known = before.is_some_and(|before| before["status"] != "Unknown");
    // That a new object is well is no news, and neither is that its ports are about to be opened.
    if (is_good && !was_known) || text("reason") == reason::PENDING || text("reason") == reason::NO_CONFLICTS {
        return;
    }
    let message = match text("message") {
        "" => format!("{} is {}", text("type"), text("status")),
        message => format!("{} is {}: {message}", text("type"), text("status")),
    };
    let transition = Transition { is_good, reason: text("reason").to_owned(), message };
    // A route has the same condition once for itself and once for each parent.
    if !transitions.contains(&transition) {
        transitions.push(transition);
    }
}

/// Gives every condition that has none the time `now`, as RFC 3339 text.
pub fn stamp(body: &mut Value, now: &str) {
    match body {
        Value::Object(fields) => {
            for (name, field) in fields {
                match field {
                    Value::Array(conditions) if name == "conditions" => {
                        for condition in conditions.iter_mut().filter_map(Value::as_object_mut) {
                            condition.entry(TIME).or_insert_with(|| now.into());
                        }
                    }
                    other => stamp(other, now),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| stamp(item, now)),
        _ => {}
    }
}

fn array(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}
