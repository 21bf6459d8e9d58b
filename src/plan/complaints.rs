//! What of the reports is bad news, as sentences for people: logs, and the check of manifests before they are deployed.

use std::collections::BTreeSet;

use super::Reports;
use crate::conditions::{Condition, kind, reason};
use crate::object::{Kind, ObjectKey};

/// Something that is not as an object asks for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Complaint {
    /// The object's kind.
    pub kind: Kind,
    /// The object.
    pub key: ObjectKey,
    /// What is wrong.
    pub text: String,
}

impl Reports {
    /// Returns all complaints, each once. A port that is not open yet is not a complaint, nor is a ModelServer without
    /// Pods, nor a field that is not served, of which [`Reports::unserved`] tells.
    pub fn complaints(&self) -> BTreeSet<Complaint> {
        self.collect(&is_fault)
    }

    /// Returns what objects ask for and do not get, although they are served.
    pub fn unserved(&self) -> BTreeSet<Complaint> {
        self.collect(&|condition| condition.kind == kind::UNSERVED_FIELDS)
    }

    fn collect(&self, counts: &dyn Fn(&Condition) -> bool) -> BTreeSet<Complaint> {
        let mut found = BTreeSet::new();
        self.each(&mut |kind, key, report| {
            report.each_condition(&mut |part, condition| {
                if counts(condition) {
                    let status = if condition.status { "True" } else { "False" };
                    let Condition { kind: of, reason, message, .. } = condition;
                    let text = format!("{part}{of} is {status} ({reason}): {message}");
                    found.insert(Complaint { kind, key: key.clone(), text });
                }
            });
        });
        found
    }
}

/// Returns whether a condition is bad news that somebody has to do something about.
fn is_fault(condition: &Condition) -> bool {
    condition.is_bad_news()
        && match condition.kind {
            kind::INSECURE_FRONTEND | kind::OVERLAPPING_TLS | kind::UNSERVED_FIELDS => false,
            // A listener that is at fault says so by other conditions, and one that is not open yet will be.
            kind::PROGRAMMED => ![reason::PENDING, reason::INVALID].contains(&condition.reason),
            kind::READY => condition.reason != reason::NO_READY_ENDPOINTS,
            kind::PAIRED => condition.reason != reason::GROUP_NOT_READY,
            _ => true,
        }
}
