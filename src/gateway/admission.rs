//! Whom a listener or a Gateway lets in: by namespace and by kind.
//!
//! Source: Gateway API, `AllowedRoutes` and `AllowedListeners`.

use std::collections::BTreeMap;

use crate::conditions::{Problem, reason};
use crate::kinds::gateway::{AllowedRoutes, From, FromNamespaces};
use crate::object::{Kind, ObjectKey};
use crate::selector::{Expression, Labels, has_all};

/// The label that Kubernetes gives every Namespace: its own name.
const NAMESPACE_NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// The kinds of route that HTTP and HTTPS listeners serve.
pub const SERVED_ROUTES: &[Kind] = &[Kind::HttpRoute, Kind::ModelRoute];

/// Some namespaces, as seen from one of them.
#[derive(Clone, Copy, Debug)]
pub struct Namespaces<'n> {
    /// Which ones; `otherwise` decides if absent.
    pub allowed: Option<&'n FromNamespaces>,
    /// Which ones are meant where the spec does not say.
    pub otherwise: From,
    /// The namespace of what lets in.
    pub own: &'n str,
}

impl Namespaces<'_> {
    /// Returns whether `namespace` is one of them; `labels` are those of all Namespaces.
    pub fn contain(&self, namespace: &str, labels: &BTreeMap<ObjectKey, Labels>) -> bool {
        match self.allowed.and_then(|allowed| allowed.from).unwrap_or(self.otherwise) {
            From::All => true,
            From::None => false,
            From::Same => namespace == self.own,
            From::Selector => self.selects(namespace, labels),
        }
    }

    fn selects(&self, namespace: &str, labels: &BTreeMap<ObjectKey, Labels>) -> bool {
        let Some(selector) = self.allowed.and_then(|allowed| allowed.selector.as_ref()) else { return false };
        let mut labels = labels.get(&ObjectKey::new("", namespace)).cloned().unwrap_or_default();
        labels.entry(NAMESPACE_NAME_LABEL.to_owned()).or_insert_with(|| namespace.to_owned());
        selector.match_labels.as_ref().is_none_or(|required| has_all(&labels, required))
            && selector.match_expressions.iter().flatten().all(|expression| {
                let values = expression.values.as_deref().unwrap_or_default();
                Expression { key: &expression.key, operator: &expression.operator, values }.holds(&labels)
            })
    }
}

/// Returns the kinds of route that a listener takes, and the problem with the kinds that it allows, if there is one.
///
/// Without a word on kinds it takes every kind of `served`. A group that is absent stands for whatever group the kind
/// has, which forgives a ModelRoute without its group.
pub fn route_kinds(allowed: Option<&AllowedRoutes>, served: &[Kind]) -> (Vec<Kind>, Option<Problem>) {
    let allowed = allowed.map(|allowed| &*allowed.kinds).unwrap_or_default();
    if allowed.is_empty() {
        return (served.to_vec(), None);
    }
    let mut kinds = Vec::new();
    let mut unknown = Vec::new();
    for entry in allowed {
        let names = |kind: &&Kind| {
            kind.as_str() == entry.kind && entry.group.as_deref().is_none_or(|group| group == kind.group())
        };
        match served.iter().find(names) {
            Some(kind) if kinds.contains(kind) => {}
            Some(kind) => kinds.push(*kind),
            None => unknown.push(format!("`{}`", entry.kind)),
        }
    }
    let problem = (!unknown.is_empty()).then(|| {
        let message = format!("allowedRoutes.kinds has {}, which the protocol does not serve", unknown.join(", "));
        Problem::new(reason::INVALID_ROUTE_KINDS, message)
    });
    (kinds, problem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_those_that_are_allowed_and_served() {
        for (case, kinds, expected, is_problem) in [
            ("no word of kinds", "[]", vec![Kind::HttpRoute, Kind::ModelRoute], false),
            ("one kind", "[{kind: HTTPRoute}]", vec![Kind::HttpRoute], false),
            ("the same kind twice", "[{kind: HTTPRoute}, {kind: HTTPRoute}]", vec![Kind::HttpRoute], false),
            ("a ModelRoute without its group", "[{kind: ModelRoute}]", vec![Kind::ModelRoute], false),
            (
                "a ModelRoute with its group",
                "[{group: networking.serving.volcano.sh, kind: ModelRoute}]",
                vec![Kind::ModelRoute],
                false,
            ),
            ("another group", "[{group: example.com, kind: HTTPRoute}]", vec![], true),
            ("an unknown kind", "[{kind: InvalidRoute}]", vec![], true),
            (
                "an unknown kind beside another",
                "[{kind: InvalidRoute}, {kind: HTTPRoute}]",
                vec![Kind::HttpRoute],
                true,
            ),
        ] {
            let allowed: AllowedRoutes = serde_saphyr::from_str(&format!("{{kinds: {kinds}}}")).expect("it is read");
            let (kinds, problem) = route_kinds(Some(&allowed), SERVED_ROUTES);
            assert_eq!(kinds, expected, "{case}");
            assert_eq!(problem.is_some(), is_problem, "{case}");
        }
        assert_eq!(route_kinds(None, &[]), (vec![], None), "a protocol that serves none");
    }

    #[test]
    fn namespaces_are_let_in_as_the_word_says() {
        let labels =
            BTreeMap::from([(ObjectKey::new("", "labelled"), Labels::from([("team".to_owned(), "a".to_owned())]))]);
        for (case, allowed, otherwise, own, labelled, other) in [
            ("absent for routes", "{}", From::Same, true, false, false),
            ("absent for ListenerSets", "{}", From::None, false, false, false),
            ("all", "{from: All}", From::None, true, true, true),
            ("none", "{from: None}", From::Same, false, false, false),
            ("an unknown word", "{from: Whoever}", From::Same, false, false, false),
            ("labels", "{from: Selector, selector: {matchLabels: {team: a}}}", From::Same, false, true, false),
            ("a selector that is missing", "{from: Selector}", From::Same, false, false, false),
            (
                "its name",
                "{from: Selector, selector: {matchLabels: {kubernetes.io/metadata.name: other}}}",
                From::Same,
                false,
                false,
                true,
            ),
        ] {
            let allowed: FromNamespaces = serde_saphyr::from_str(allowed).expect("it is read");
            let namespaces = Namespaces { allowed: Some(&allowed), otherwise, own: "own" };
            let found = ["own", "labelled", "other"].map(|namespace| namespaces.contain(namespace, &labels));
            assert_eq!(found, [own, labelled, other], "{case}");
        }
    }
}
