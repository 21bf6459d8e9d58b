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
    /// Returns all complaints, each once. That a port is not open yet is none, and neither are ModelServers without Pods.
    pub fn complaints(&self) -> BTreeSet<Complaint> {
        let mut complaints = BTreeSet::new();
        let mut add = |kind: Kind, key: &ObjectKey, part: &str, conditions: &[Condition]| {
            complaints.extend(conditions.iter().filter(|condition| is_fault(condition)).map(|condition| {
                let status = if condition.status { "True" } else { "False" };
                let Condition { kind: of, reason, message, .. } = condition;
                Complaint { kind, key: key.clone(), text: format!("{part}{of} is {status} ({reason}): {message}") }
            }));
        };
        let owners =
            self.gateways.iter().map(|(key, report)| (Kind::Gateway, key, &report.conditions, &report.listeners));
        let sets = self.listener_sets.iter();
        let sets = sets.map(|(key, report)| (Kind::ListenerSet, key, &report.conditions, &report.listeners));
        for (kind, key, conditions, listeners) in owners.chain(sets) {
            add(kind, key, "", conditions);
            for listener in listeners {
                add(kind, key, &format!("listener `{}`: ", listener.name), &listener.conditions);
            }
        }
        for (key, report) in &self.http_routes {
            report.parents.iter().for_each(|(_, conditions)| add(Kind::HttpRoute, key, "", conditions));
        }
        for (key, report) in &self.policies {
            report.ancestors.iter().for_each(|(_, conditions)| add(Kind::BackendTlsPolicy, key, "", conditions));
        }
        for (key, report) in &self.inference_pools {
            report.parents.iter().for_each(|(_, conditions)| add(Kind::InferencePool, key, "", conditions));
        }
        for (key, report) in &self.routes {
            add(Kind::ModelRoute, key, "", &report.conditions);
            report.parents.iter().for_each(|parent| add(Kind::ModelRoute, key, "", &parent.conditions));
        }
        complaints
    }
}

/// Returns whether a condition is bad news: two of them are when they hold.
fn is_fault(condition: &Condition) -> bool {
    match condition.kind {
        kind::CONFLICTED | kind::PARTIALLY_INVALID => condition.status,
        kind::INSECURE_FRONTEND | kind::OVERLAPPING_TLS => false,
        // A listener that is at fault says so by other conditions, and one that is not open yet will be.
        kind::PROGRAMMED => !condition.status && ![reason::PENDING, reason::INVALID].contains(&condition.reason),
        _ => !condition.status,
    }
}
