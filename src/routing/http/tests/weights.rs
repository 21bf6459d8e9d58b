//! Which backend of a rule a request goes to.

use super::scene::{BACKENDS, Scene, entry, key, prefix, route, route_of};
use crate::object::Kind;
use crate::routing::http::entry::{Destination, Unreachable};
use crate::routing::http::filters::Share;

/// Returns how many of the tickets 0 to `tickets` lead where, as `name: number`.
fn shares(scene: &Scene, line: &str, tickets: u64) -> Vec<String> {
    let mut shares: Vec<(String, usize)> = Vec::new();
    for ticket in 0..tickets {
        let mut bound = None;
        let outcome = scene.decide(line, &[], |decision, _| {
            let matched = decision.unwrap();
            match matched.choose(|limit| {
                bound = Some(limit);
                ticket
            }) {
                Ok(target) => BACKENDS[target.destination.pool.0].to_owned(),
                Err(Unreachable::Invalid(reason)) => reason.to_owned(),
                Err(Unreachable::NoEndpoints) => "no endpoints".to_owned(),
            }
        });
        assert!(bound.is_none_or(|bound| bound == tickets), "{line}: drawn below {bound:?}");
        match shares.iter_mut().find(|(name, _)| *name == outcome) {
            Some((_, count)) => *count += 1,
            None => shares.push((outcome, 1)),
        }
    }
    shares.into_iter().map(|(name, count)| format!("{name}: {count}")).collect()
}

#[test]
fn shares_follow_the_weights_and_a_broken_backend_keeps_its_own() {
    let rule = |path: &str, backends: &str| format!("- matches: [{{{}}}]\n  backendRefs: [{backends}]\n", prefix(path));
    let rules =
        rule("/weights", "{name: v1, port: 1, weight: 70}, {name: v2, port: 1, weight: 30}, {name: v3, weight: 0}")
            + &rule("/default", "{name: v1, port: 1}, {name: v2, port: 1, weight: 3}")
            + &rule("/broken", "{name: v1, port: 1, weight: 1}, {name: missing, port: 1, weight: 1}")
            + &rule("/zero", "{name: v1, port: 1, weight: 0}")
            + &rule("/empty", "")
            + "- matches: [{path: {value: /omitted}}]\n";
    let scene = Scene::new(&route("route", "[]", &rules));
    for (line, tickets, expected) in [
        ("GET a/weights", 100, &["v1: 70", "v2: 30"][..]),
        ("GET a/default", 4, &["v1: 1", "v2: 3"]),
        ("GET a/broken", 2, &["v1: 1", "the backend of the rule cannot be used: 1"]),
        ("GET a/zero", 1, &["the rule has no backend: 1"]),
        ("GET a/empty", 1, &["the rule has no backend: 1"]),
        ("GET a/omitted", 1, &["the rule has no backend: 1"]),
    ] {
        assert_eq!(shares(&scene, line, tickets), expected, "{line}");
    }
}

#[test]
fn references_that_lead_nowhere_are_told_once() {
    let mirror =
        |name: &str| format!("{{type: RequestMirror, requestMirror: {{backendRef: {{name: {name}, port: 8080}}}}}}");
    let rules = format!(
        "- filters: [{}, {}]\n  backendRefs: [{{name: missing, port: 1}}, {{name: v1, port: 1, filters: [{}]}}]\n",
        mirror("v3"),
        mirror("missing"),
        mirror("v2"),
    );
    let route = route_of(&rules);
    let entry = entry(&route);
    let messages: Vec<_> = entry.faults.iter().map(|fault| &*fault.message).collect();
    assert_eq!(messages, ["there is no Service `default/missing`"]);
    for (name, expected) in [("v1", true), ("v2", true), ("v3", true), ("missing", true), ("v4", false)] {
        assert_eq!(route.refers_to(Kind::Service, &key(name)), expected, "{name}");
        assert!(!route.refers_to(Kind::ModelServer, &key(name)), "{name}");
    }
    Scene::on(&[("", &[route])]).decide("GET a/", &[], |decision, _| {
        let matched = decision.unwrap();
        let pools = |mirrors: &[(Share, Destination)]| -> Vec<_> {
            mirrors.iter().map(|(_, destination)| destination.pool.0).collect()
        };
        assert_eq!(pools(matched.mirrors()), [2], "the rule's mirror that exists");
        let Ok(target) = matched.choose(|_| 1) else { panic!("the second backend is drawn") };
        assert_eq!((target.destination.pool.0, pools(target.mirrors)), (0, vec![1]), "the backend's own mirror");
    });
}

#[test]
fn mirrors_copy_their_share() {
    for (settings, tickets, expected) in [
        ("", 10, 10),
        (", percent: 20", 100, 20),
        (", percent: 0", 100, 0),
        (", percent: 100", 100, 100),
        (", fraction: {numerator: 25, denominator: 50}", 50, 25),
        (", fraction: {numerator: 35}", 100, 35),
    ] {
        let filter = format!("{{type: RequestMirror, requestMirror: {{backendRef: {{name: v2, port: 1}}{settings}}}}}");
        let route = route_of(&format!("- filters: [{filter}]\n"));
        assert_eq!(route.faults, [], "{settings}");
        let mirror = &route.rules[0].filters.mirrors[0];
        assert_eq!((0..tickets).filter(|ticket| mirror.share.is_drawn(|_| *ticket)).count(), expected, "{settings}");
    }
}
