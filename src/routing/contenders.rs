//! Why a request falls under one rule and not under another: the rules of its listeners in the order in which they are
//! asked.
//!
//! Decisions are made by way of indexes, which never look at most of the rules that lose. So a decision is read back by
//! going through the rules one by one, in the order that the indexes are made of; a property test holds that the first
//! rule that matches is the one that was decided on.

use super::contender::{Contender, Matching, Standing};
use super::decision::Asked;
use super::table::RouteTable;
use crate::object::Bind;
use crate::request_head::RequestHead;

/// The most rules that are told of.
const MOST: usize = 200;

/// The rules that stood for a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contenders {
    /// In the order in which they are asked.
    pub rules: Vec<Contender>,
    /// How many more there are.
    pub omitted: usize,
}

/// The rule that serves a request: the kind of its route, the route's namespace and name, and its place.
pub type Winner<'w> = (&'w str, &'w str, usize);

impl RouteTable {
    /// Returns the rules of the listeners that a request came to, and why each of them does or does not serve it.
    ///
    /// Where the request is `remembered`, its headers and its query are not known. Then a rule that was asked before
    /// the winner, and that has the right path and method, must have failed by what it asks of these.
    pub fn contenders(
        &self,
        bind: Bind,
        head: &RequestHead<'_>,
        asked: Asked<'_>,
        remembered: bool,
        winner: Option<Winner<'_>>,
    ) -> Contenders {
        let listeners = self.listeners(bind, head.host);
        let mut standings = Vec::new();
        if let Asked::Model(model) = asked {
            standings.extend(listeners.iter().flat_map(|listener| listener.models.standings(head, model, remembered)));
        }
        standings.extend(listeners.iter().flat_map(|listener| listener.http.standings(head, remembered)));
        let won = standings.iter().position(|standing| is(winner, &standing.contender));
        let mut rules: Vec<_> = (0..standings.len()).map(|place| judge(&standings, place, won)).collect();
        let omitted = rules.len().saturating_sub(MOST);
        rules.truncate(MOST);
        Contenders { rules, omitted }
    }
}

fn is(winner: Option<Winner<'_>>, Contender { kind, route, rule, .. }: &Contender) -> bool {
    winner == Some((kind.as_str(), route.as_str(), *rule))
}

/// Says of a rule whether it won, and if not, why.
fn judge(standings: &[Standing], place: usize, winner: Option<usize>) -> Contender {
    let standing = &standings[place];
    let mut contender = standing.contender.clone();
    contender.won = winner == Some(place);
    let later = winner.filter(|winner| *winner < place);
    contender.why = match (&standing.matching, later) {
        _ if contender.won => String::new(),
        (Matching::No(what), _) => format!("{what} does not match"),
        (Matching::Yes | Matching::Unknown(_), Some(winner)) => standing.yields_to(&standings[winner]),
        (Matching::Unknown(what), None) => format!("{what} does not match"),
        (Matching::Yes, None) => "it matches, and was not there or not asked at the time".to_owned(),
    };
    contender
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{Pairs, bind, plan_of};

    const ROUTES: &str = include_str!("contenders/routes.yaml");

    /// Returns each rule as `route rule: why`, where the winner has a star.
    fn told(headers: &[(&str, &str)], remembered: bool, winner: Winner<'_>) -> Vec<String> {
        let plan = plan_of(ROUTES);
        let (path, headers) = ("/v1/completions", &Pairs(headers));
        let head = RequestHead { method: "POST", host: "a.example.com", path, query: "", headers };
        let contenders = plan.table.contenders(bind(80), &head, Asked::Model("m"), remembered, Some(winner));
        let told = |Contender { route, rule, won, why, .. }: Contender| match won {
            true => format!("{route} {rule} *"),
            false => format!("{route} {rule}: {why}"),
        };
        contenders.rules.into_iter().map(told).collect()
    }

    const LATER: [&str; 3] = [
        "default/by-path 1: the path does not match",
        "default/by-path 0: ModelRoutes are asked first",
        "default/elsewhere 0: the host does not match",
    ];

    #[test]
    fn each_rule_is_told_of_in_the_order_in_which_they_are_asked() {
        let gold = told(&[("x-tier", "gold")], false, ("ModelRoute", "default/tiers", 0));
        assert_eq!(gold[0], "default/tiers 0 *");
        assert_eq!(gold[1], "default/tiers 1: it matches, and another goes first by the order of rules");
        assert_eq!(gold[2..], LATER);
        let other = told(&[], false, ("ModelRoute", "default/tiers", 1));
        assert_eq!(other[0], "default/tiers 0: the header `x-tier` does not match");
        assert_eq!(other[1], "default/tiers 1 *");
    }

    #[test]
    fn what_is_not_remembered_is_inferred_from_the_outcome() {
        let other = told(&[], true, ("ModelRoute", "default/tiers", 1));
        assert_eq!(other[0], "default/tiers 0: the header `x-tier` does not match");
        let gold = told(&[], true, ("ModelRoute", "default/tiers", 0));
        assert_eq!(gold[..1], ["default/tiers 0 *"]);
        assert_eq!(gold[2..], LATER);
    }
}
