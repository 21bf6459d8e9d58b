//! The rules of ModelRoutes in the order in which they are asked, for whoever wants to know why one of them won.

use super::entry::RouteEntry;
use super::table::ModelTable;
use crate::request_head::RequestHead;
use crate::routing::contender::{Contender, Matching, Standing};

impl ModelTable {
    /// Returns every rule of every route for a model, in the order in which they are asked.
    pub(in crate::routing) fn standings(&self, head: &RequestHead<'_>, model: &str, remembered: bool) -> Vec<Standing> {
        let routes = self.routes_of(model).map(|(routes, _)| routes).unwrap_or_default();
        routes.iter().flat_map(|route| standings(route, head, model, remembered)).collect()
    }
}

fn standings(entry: &RouteEntry, head: &RequestHead<'_>, model: &str, remembered: bool) -> Vec<Standing> {
    let rules = entry.route.rules.as_deref().unwrap_or_default();
    let standing = |(place, rule): (usize, &super::route::CompiledRule)| Standing {
        contender: Contender {
            kind: "ModelRoute".to_owned(),
            route: entry.key().to_string(),
            rule: place,
            asks: rule.words(model),
            won: false,
            why: String::new(),
        },
        matching: rule.matching(head, model, remembered),
        criteria: vec![
            ("the age or the name of its route", entry.key().to_string()),
            ("the order of rules", place.to_string()),
        ],
    };
    rules.iter().enumerate().map(standing).collect()
}

impl super::route::CompiledRule {
    /// Returns what of a request is not as the rule asks, or is not known to be.
    fn matching(&self, head: &RequestHead<'_>, model: &str, remembered: bool) -> Matching {
        if self.body_model.as_deref().is_some_and(|required| required != model) {
            return Matching::No("the model in the body".to_owned());
        }
        if self.uri.as_ref().is_some_and(|uri| !uri.matches(head.path)) {
            return Matching::No("the path".to_owned());
        }
        Matching::of_values(&self.headers, &[], head, remembered)
    }

    /// Says what the rule asks for.
    fn words(&self, model: &str) -> String {
        let uri = self.uri.iter().map(|_| "a path".to_owned());
        let headers = self.headers.iter().map(|header| format!("header {}", header.name));
        std::iter::once(format!("model {model}")).chain(uri).chain(headers).collect::<Vec<_>>().join(", ")
    }
}
