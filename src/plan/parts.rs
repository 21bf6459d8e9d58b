//! Which part of a request each Pod of a pool works on, and with which others.
//!
//! Source: the ModelServer API, `workloadSelector.pdGroup`: Pods whose label `groupKey` has one value work together, those
//! with `decodeLabels` and those with `prefillLabels` in their roles, decode first, as in the Go router. Of an InferencePool
//! the label [`ROLE_LABEL`] of llm-d tells, and all Pods of the pool work together. Every plan reads the labels anew.
//!
//! - Pods of one group that carry different rollout revisions do not work together: their KV caches may differ in layout.
//! - Of an engine that runs on several nodes only the entry Pod takes requests.
//! - A Pod that cannot be used, and a group that is not whole, is named in the condition `Paired`.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::conditions::{Condition, Problem, kind, reason};
use crate::kinds::model_server::PdGroup;
use crate::object::ObjectKey;
use crate::scheduling::endpoint::Role;
use crate::selector::{Labels, has_all};
use crate::world::{BOOTSTRAP_PORTS, PodFacts};

/// The label by which Pods of an InferencePool tell their role: `prefill`, `decode`, `prefill-decode` or `both`.
pub const ROLE_LABEL: &str = "llm-d.ai/role";
/// The label of ModelServing that tells the rollout that a Pod is of.
const REVISION_LABEL: &str = "modelserving.volcano.sh/revision";
/// The label of ModelServing that is `true` at the Pod of a role that takes requests.
const ENTRY_LABEL: &str = "modelserving.volcano.sh/entry";
/// The labels of ModelServing that the Pods of one engine on several nodes have in common.
const REPLICA_LABELS: [&str; 3] =
    ["modelserving.volcano.sh/group-name", "modelserving.volcano.sh/role", "modelserving.volcano.sh/role-id"];
/// The name of the one group of an InferencePool.
const WHOLE_POOL: &str = "all";
/// The most Pods or groups that one sentence names.
const MOST_NAMES: usize = 8;

/// How the Pods of a pool share the work on a request.
#[derive(Clone, Copy, Debug)]
pub(super) enum Sharing<'w> {
    /// Each does all of it.
    None,
    /// As a ModelServer says.
    Groups(&'w PdGroup),
    /// As the Pods' own label says, if any of them only prefills or `always` holds.
    Labels {
        /// Whether roles count even while no Pod only prefills.
        always: bool,
    },
}

/// What the Pods of a pool are in a pool that disaggregates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// The groups by their names.
    pub groups: BTreeMap<Arc<str>, Group>,
    /// The Pods that have the labels of both roles; they decode.
    pub both: Vec<Arc<str>>,
    /// The Pods that have a role and not the label of the group; they get no requests.
    pub ungrouped: Vec<Arc<str>>,
    /// The Pods that have no role; they get no requests.
    pub idle: Vec<Arc<str>>,
    /// The Pods that prefill and say in a way that cannot be read where they are met.
    pub unmet: Vec<Arc<str>>,
}

/// The Pods that work together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Group {
    /// Those that prefill.
    pub prefill: Count,
    /// Those that decode, and those that do all of a request.
    pub decode: Count,
}

/// Pods of one role in a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// All of them.
    pub selected: usize,
    /// Those that can take requests.
    pub ready: usize,
}

/// What one Pod is.
pub(super) enum Part {
    /// An endpoint with this role in this group.
    Endpoint(Role, Option<Arc<str>>),
    /// It gets no requests.
    None,
}

/// Sorts the Pods of a pool.
pub(super) struct Sorter<'w> {
    sharing: Sharing<'w>,
    /// The engines on several nodes, by the labels that their Pods have in common.
    entries: BTreeSet<[&'w str; 3]>,
    groups: BTreeSet<Arc<str>>,
    parts: Parts,
}

impl<'w> Sorter<'w> {
    /// Makes a sorter of these Pods.
    pub(super) fn new(sharing: Sharing<'w>, pods: &[(&'w ObjectKey, &'w PodFacts)]) -> Self {
        let only_prefills =
            |pod: &PodFacts| pod.labels.get(ROLE_LABEL).is_some_and(|role| role_of(role) == Some(Role::Prefill));
        let sharing = match sharing {
            Sharing::Labels { always: false } if !pods.iter().any(|(_, pod)| only_prefills(pod)) => Sharing::None,
            sharing => sharing,
        };
        let entries = match sharing {
            Sharing::None => BTreeSet::new(),
            _ => pods
                .iter()
                .filter(|(_, pod)| is_entry(&pod.labels))
                .filter_map(|(_, pod)| replica(&pod.labels))
                .collect(),
        };
        Self { sharing, entries, groups: BTreeSet::new(), parts: Parts::default() }
    }

    /// Says what a Pod is.
    pub(super) fn sort(&mut self, key: &ObjectKey, pod: &PodFacts, ready: bool) -> Part {
        if !is_entry(&pod.labels) && replica(&pod.labels).is_some_and(|replica| self.entries.contains(&replica)) {
            return Part::None;
        }
        let (role, group) = match self.sharing {
            Sharing::None => return Part::Endpoint(Role::Whole, None),
            Sharing::Groups(groups) => (self.role_in(groups, key, &pod.labels), pod.labels.get(&groups.group_key)),
            Sharing::Labels { .. } => {
                // A Pod without the label serves whole requests, as those of other pools do.
                let role = pod.labels.get(ROLE_LABEL).map_or(Some(Role::Whole), |role| role_of(role));
                (role, None)
            }
        };
        let Some(role) = role else {
            self.parts.idle.push(Arc::clone(&key.name));
            return Part::None;
        };
        let group = match (self.sharing, group) {
            (Sharing::Labels { .. }, _) => WHOLE_POOL,
            (_, Some(group)) => group.as_str(),
            (_, None) => {
                self.parts.ungrouped.push(Arc::clone(&key.name));
                return Part::None;
            }
        };
        let group = self.name(group, pod.labels.get(REVISION_LABEL));
        self.parts.groups.entry(Arc::clone(&group)).or_default().count(role, ready);
        Part::Endpoint(role, Some(group))
    }

    /// Returns where the engines of a Pod meet those that decode, one port for all of its ports or one for each of them;
    /// none where it does not say, or nobody has to be told.
    pub(super) fn bootstrap_ports(
        &mut self,
        key: &ObjectKey,
        pod: &PodFacts,
        (role, ports): (Role, usize),
    ) -> Vec<u16> {
        let Some(text) = pod.bootstrap_ports.as_deref().filter(|_| role == Role::Prefill) else { return Vec::new() };
        let port = |text: &str| text.trim().parse::<u16>().ok().filter(|port| *port > 0);
        let read: Option<Vec<u16>> = text.split(',').map(port).collect();
        read.filter(|read| read.len() == 1 || read.len() == ports).unwrap_or_else(|| {
            self.parts.unmet.push(Arc::clone(&key.name));
            Vec::new()
        })
    }

    /// Returns what the Pods are; `None` in a pool that does not disaggregate.
    pub(super) fn finish(self) -> Option<Parts> {
        (!matches!(self.sharing, Sharing::None)).then_some(self.parts)
    }

    fn role_in(&mut self, groups: &PdGroup, key: &ObjectKey, labels: &Labels) -> Option<Role> {
        match (has_all(labels, &groups.decode_labels), has_all(labels, &groups.prefill_labels)) {
            (true, prefills) => {
                if prefills {
                    self.parts.both.push(Arc::clone(&key.name));
                }
                Some(Role::Decode)
            }
            (false, true) => Some(Role::Prefill),
            (false, false) => None,
        }
    }

    /// Returns the name of a group, one value for all of its Pods.
    fn name(&mut self, group: &str, revision: Option<&String>) -> Arc<str> {
        let name = revision.map_or(Cow::Borrowed(group), |revision| format!("{group} ({revision})").into());
        if let Some(known) = self.groups.get(&*name) {
            return Arc::clone(known);
        }
        let name: Arc<str> = name.into();
        self.groups.insert(Arc::clone(&name));
        name
    }
}

impl Group {
    fn count(&mut self, role: Role, ready: bool) {
        let count = match role {
            Role::Prefill => &mut self.prefill,
            Role::Whole | Role::Decode => &mut self.decode,
        };
        count.selected += 1;
        count.ready += usize::from(ready);
    }

    /// Returns how many pairs can be made of the Pods that can take requests.
    pub fn pairs(self) -> usize {
        self.prefill.ready * self.decode.ready
    }
}

impl Parts {
    /// Returns the condition `Paired`.
    pub fn condition(&self) -> Condition {
        let problems = self.problems();
        if !problems.is_empty() {
            return Condition::judge(kind::PAIRED, reason::PAIRED, &problems);
        }
        let pairs: usize = self.groups.values().map(|group| group.pairs()).sum();
        let mut message = format!("{pairs} pairs in {} groups", self.groups.len());
        if !self.idle.is_empty() {
            message = format!("{message}; {} without a role, which get no requests", pods(&self.idle));
        }
        Condition { message: message.into(), ..Condition::holds(kind::PAIRED, reason::PAIRED) }
    }

    fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if !self.both.is_empty() {
            let message = format!("{} with the labels of both roles, used for decode only", pods(&self.both));
            problems.push(Problem::new(reason::ROLE_CONFLICT, message));
        }
        if !self.ungrouped.is_empty() {
            let message = format!("{} without the label of `groupKey`, which get no requests", pods(&self.ungrouped));
            problems.push(Problem::new(reason::GROUP_MISSING, message));
        }
        if !self.unmet.is_empty() {
            let annotations = BOOTSTRAP_PORTS.map(|name| format!("`{name}`")).join(" or ");
            let message = format!("{} with an annotation {annotations} that is no port", pods(&self.unmet));
            problems.push(Problem::new(reason::INVALID_BOOTSTRAP_PORT, message));
        }
        if self.groups.is_empty() {
            problems.push(Problem::new(reason::GROUP_INCOMPLETE, "no selected Pod has a role in a group"));
        }
        let lacks = |has: fn(&Group) -> usize| -> Vec<Arc<str>> {
            self.groups.iter().filter(|(_, group)| has(group) == 0).map(|(name, _)| Arc::clone(name)).collect()
        };
        for (reason, what, has) in [
            (reason::GROUP_INCOMPLETE, "prefill Pod", (|group| group.prefill.selected) as fn(&Group) -> usize),
            (reason::GROUP_INCOMPLETE, "decode Pod", |group| group.decode.selected),
            (reason::GROUP_NOT_READY, "ready prefill Pod", |group| ready(group.prefill)),
            (reason::GROUP_NOT_READY, "ready decode Pod", |group| ready(group.decode)),
        ] {
            let groups = lacks(has);
            if !groups.is_empty() {
                let word = if groups.len() == 1 { "the group" } else { "the groups" };
                problems.push(Problem::new(reason, format!("no {what} in {word} {}", names(&groups))));
            }
        }
        problems
    }
}

/// Returns the Pods that can take requests, or a number above 0 where a missing role was told of already.
fn ready(count: Count) -> usize {
    if count.selected == 0 { usize::MAX } else { count.ready }
}

/// Reads the label of a Pod; `None` for a role that serves no requests of clients.
fn role_of(label: &str) -> Option<Role> {
    match label {
        "prefill" => Some(Role::Prefill),
        "decode" => Some(Role::Decode),
        "prefill-decode" | "both" => Some(Role::Whole),
        _ => None,
    }
}

fn is_entry(labels: &Labels) -> bool {
    labels.get(ENTRY_LABEL).is_some_and(|entry| entry == "true")
}

/// Returns what the Pods of one engine have in common, if the labels tell.
fn replica(labels: &Labels) -> Option<[&str; 3]> {
    let [group, role, id] = REPLICA_LABELS.map(|label| labels.get(label).map(String::as_str));
    Some([group?, role?, id?])
}

fn pods(names: &[Arc<str>]) -> String {
    let word = if names.len() == 1 { "the Pod" } else { "the Pods" };
    format!("{word} {}", self::names(names))
}

fn names(names: &[Arc<str>]) -> String {
    let mut listed: Vec<_> = names.iter().take(MOST_NAMES).map(|name| format!("`{name}`")).collect();
    if names.len() > MOST_NAMES {
        listed.push(format!("{} more", names.len() - MOST_NAMES));
    }
    listed.join(", ")
}
