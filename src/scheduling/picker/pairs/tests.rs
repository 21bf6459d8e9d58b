use std::time::Instant;

use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::*;
use crate::inference::exposition::EndpointMetrics;
use crate::inference::prompt::BlockHash;
use crate::object::ObjectKey;
use crate::scheduling::config::SchedulerConfig;
use crate::scheduling::endpoint::{Endpoint, Observation};
use crate::scheduling::ledger::Ledger;
use crate::scheduling::request::RequestFacts;

const ALONE: Split = Split::Allowed { alone: true, anywhere: false };
const ANYWHERE: Split = Split::Allowed { alone: true, anywhere: true };
const PAIRED: Split = Split::Allowed { alone: false, anywhere: false };
const ALWAYS: &str = "scheduler: {pluginConfig: [{name: remote-prefill, args: {always: 1}}]}";

/// One endpoint of a pool.
#[derive(Clone, Copy, Debug)]
struct Case {
    role: Role,
    group: &'static str,
    in_flight: u32,
    /// Prompt tokens that wait there.
    backlog: u32,
    cached: u32,
    /// The part of its KV cache of 10 000 tokens that is in use.
    usage: f64,
    tried: bool,
}

const P: Case = Case { role: Role::Prefill, group: "a", in_flight: 0, backlog: 0, cached: 0, usage: 0.0, tried: false };
const D: Case = Case { role: Role::Decode, ..P };

/// A pick that sees why.
#[derive(Default)]
struct Seen(Option<Course>);

impl Witness for Seen {
    fn split(&mut self, course: &Course) {
        self.0 = Some(*course);
    }
}

#[expect(clippy::disallowed_methods, reason = "the library is given a time, and a test is who gives it")]
fn moment() -> Instant {
    Instant::now()
}

/// Picks for a prompt of so many tokens, and returns the places of prefill and decode and the reason.
fn pick(
    cases: &[Case],
    (tokens, split, session): (u32, Split, Option<&str>),
    config: &str,
) -> Result<(Option<usize>, usize, &'static str), PickError> {
    let endpoints: Vec<_> = cases
        .iter()
        .zip(1..)
        .map(|(case, host)| Endpoint {
            role: case.role,
            group: Some(case.group.into()),
            ..Endpoint::new(ObjectKey::new("default", format!("p{host}").as_str()), [10, 0, 0, host].into(), 8000)
        })
        .collect();
    let observations: Vec<_> = cases
        .iter()
        .map(|case| Observation {
            metrics: Some(EndpointMetrics {
                kv_cache_usage: Some(case.usage),
                cache_tokens: Some(10_000),
                ..EndpointMetrics::default()
            }),
            ..Observation::default()
        })
        .collect();
    let ledgers: Vec<_> = cases.iter().map(|_| Ledger::default()).collect();
    for (case, ledger) in cases.iter().zip(&ledgers) {
        let waiting = RequestFacts { tokens: case.backlog, prefix: vec![BlockHash(1)], ..RequestFacts::default() };
        ledger.open(&waiting.attempt(&[]), 0, None);
    }
    let candidate = |(position, case): (usize, &Case)| Candidate {
        endpoint: &endpoints[position],
        position,
        in_flight: case.in_flight,
        elsewhere: 0,
        observation: &observations[position],
        penalty: 0,
        ledger: &ledgers[position],
        cached: case.cached,
        counted: case.cached,
    };
    let tried: Vec<_> =
        endpoints.iter().zip(cases).filter(|(_, case)| case.tried).map(|(endpoint, _)| endpoint.socket()).collect();
    let facts = RequestFacts { tokens, split, session: session.map(Into::into), ..RequestFacts::default() };
    let pool = PoolFacts { now: moment(), is_shared: false, has_roles: true };
    let (mut candidates, mut seen) = (cases.iter().enumerate().map(candidate).collect(), Seen::default());
    let picker = SchedulerConfig::parse(config).unwrap().picker();
    let legs = picker.pick(&facts.attempt(&tried), &pool, &mut candidates, &mut StdRng::seed_from_u64(1), &mut seen)?;
    let why = seen.0.unwrap().why;
    Ok(match legs {
        Legs::One(picked) => (None, picked.position, why),
        Legs::Two { prefill, decode } => (Some(prefill.position), decode.position, why),
    })
}

#[test]
fn a_pair_is_the_best_of_both_sides_of_one_group() {
    let b = |case: Case| Case { group: "b", ..case };
    for (case, pods, expected) in [
        ("the only pair", vec![P, D], (Some(0), 1)),
        ("what waits for a prefill counts", vec![Case { backlog: 9000, ..P }, P, D], (Some(1), 2)),
        ("what a prefill has cached counts", vec![P, Case { cached: 4000, ..P }, D], (Some(1), 2)),
        ("the load of a decode counts", vec![P, Case { in_flight: 9, ..D }, D], (Some(0), 2)),
        ("never across groups", vec![P, Case { in_flight: 50, ..D }, b(D)], (Some(0), 1)),
        (
            "a group counts by both of its sides",
            vec![Case { backlog: 50_000, ..P }, D, b(P), b(Case { in_flight: 1, ..D })],
            (Some(2), 3),
        ),
        (
            "room for the prompt comes before load",
            vec![P, Case { usage: 0.9, ..D }, Case { in_flight: 9, ..D }],
            (Some(0), 2),
        ),
        (
            "without room anywhere, load counts",
            vec![P, Case { usage: 0.9, ..D }, Case { usage: 0.9, in_flight: 9, ..D }],
            (Some(0), 1),
        ),
        ("one that failed is left out", vec![Case { tried: true, ..P }, P, D], (Some(1), 2)),
        ("what has no partner is left out", vec![P, Case { in_flight: 9, ..D }, b(D), b(D)], (Some(0), 1)),
    ] {
        for split in [ALONE, PAIRED] {
            let (prefill, decode, why) = pick(&pods, (4000, split, None), ALWAYS).unwrap();
            assert_eq!((prefill, decode, why), (expected.0, expected.1, Course::REMOTE), "{case}, {split:?}");
        }
    }
}

#[test]
fn what_cannot_have_two_endpoints_has_one_that_decodes_or_none() {
    let tried = |case: Case| Case { tried: true, ..case };
    let b = |case: Case| Case { group: "b", ..case };
    for (case, pods, split, expected) in [
        ("no prompt", vec![P, D], Split::default(), Ok((1, "no_prompt"))),
        ("a call that cannot be split", vec![P, D], Split::Never("samples"), Ok((1, "samples"))),
        ("nobody prefills", vec![D], ALONE, Ok((0, "no_prefill"))),
        ("nobody prefills, and that is needed", vec![D], PAIRED, Err(PickError::NoPair)),
        ("nobody prefills in the group", vec![P, b(D)], ALONE, Ok((1, "no_prefill"))),
        ("the same, and it is needed", vec![P, b(D)], PAIRED, Err(PickError::NoPair)),
        ("all that prefill have failed", vec![tried(P), D], ALONE, Ok((1, "prefill_failed"))),
        ("the same, and it is needed", vec![tried(P), D], PAIRED, Err(PickError::AllTried)),
        ("the last that decodes has failed", vec![P, tried(D)], ALONE, Err(PickError::AllTried)),
        ("nobody decodes", vec![P, P], ALONE, Err(PickError::NoEndpoints)),
        ("nobody decodes, and there is no prompt", vec![P], Split::default(), Err(PickError::NoEndpoints)),
    ] {
        let picked = pick(&pods, (4000, split, None), ALWAYS).map(|(prefill, decode, why)| {
            assert_eq!(prefill, None, "{case}");
            (decode, why)
        });
        assert_eq!(picked, expected, "{case}");
    }
}

#[test]
fn a_prompt_goes_elsewhere_only_if_that_costs_less() {
    let busy = Case { in_flight: 30, ..D };
    for (case, pods, tokens, expected) in [
        ("a short prompt", vec![P, busy], 200, "short"),
        ("an idle decode computes as quickly", vec![P, D], 8000, "short"),
        ("a long prompt would hold up many answers", vec![P, busy], 8000, "remote"),
        ("what is cached need not be computed", vec![P, Case { cached: 7900, ..busy }], 8000, "cached"),
        ("a long queue at the prefill", vec![Case { backlog: 200_000, ..P }, busy], 8000, "short"),
        ("the quickest prefill counts", vec![Case { backlog: 200_000, ..P }, P, busy], 8000, "remote"),
    ] {
        let (_, _, why) = pick(&pods, (tokens, ALONE, None), "scheduler: {}").unwrap();
        assert_eq!(why, expected, "{case}");
    }
    let (_, _, why) = pick(&[P, D], (10, PAIRED, None), "scheduler: {}").unwrap();
    assert_eq!(why, "remote", "whatever it costs, where nobody decodes alone");
}

#[test]
fn a_short_prompt_goes_where_the_least_waits_if_whoever_prefills_can_answer() {
    let busy = Case { in_flight: 30, ..D };
    let never = "scheduler: {pluginConfig: [{name: remote-prefill, args: {shortAnywhere: 0}}]}";
    for (case, pods, (tokens, split, session), config, expected) in [
        ("an idle one that prefills", vec![P, busy], (200, ANYWHERE, None), "{}", (None, 0, "short")),
        (
            "an idle one that decodes",
            vec![Case { in_flight: 3, ..P }, D],
            (200, ANYWHERE, None),
            "{}",
            (None, 1, "short"),
        ),
        (
            "one that has a long prompt",
            vec![Case { backlog: 90_000, ..P }, busy],
            (200, ANYWHERE, None),
            "{}",
            (None, 1, "short"),
        ),
        ("it cannot answer", vec![P, busy], (200, ALONE, None), "{}", (None, 1, "short")),
        ("a session has a home", vec![P, busy], (200, ANYWHERE, Some("s")), "{}", (None, 1, "short")),
        ("a long prompt", vec![P, busy], (8000, ANYWHERE, None), "{}", (Some(0), 1, "remote")),
        (
            "a long prompt that is cached",
            vec![P, Case { cached: 7990, ..busy }],
            (8000, ANYWHERE, None),
            "{}",
            (None, 1, "cached"),
        ),
        ("not wanted", vec![P, busy], (200, ANYWHERE, None), never, (None, 1, "short")),
        ("always elsewhere", vec![P, busy], (200, ANYWHERE, None), ALWAYS, (Some(0), 1, "remote")),
    ] {
        let config = if config == "{}" { "scheduler: {}" } else { config };
        assert_eq!(pick(&pods, (tokens, split, session), config), Ok(expected), "{case}");
    }
}

#[test]
fn a_session_keeps_its_decode_and_the_prefill_is_of_that_group() {
    let b = |case: Case| Case { group: "b", ..case };
    let pods = [P, D, D, b(P), b(D), b(D)];
    let home = |session: &str| pick(&pods, (4000, ALONE, Some(session)), ALWAYS).unwrap();
    let mut homes = std::collections::BTreeSet::new();
    for number in 0..40 {
        let session = number.to_string();
        let (prefill, decode, _) = home(&session);
        assert_eq!(prefill, Some(if decode < 3 { 0 } else { 3 }));
        assert_eq!(home(&session).1, decode, "it stays there");
        homes.insert(decode);
    }
    assert_eq!(homes.len(), 4, "sessions are spread");
}

fn any_case() -> impl Strategy<Value = Case> {
    let role = prop::sample::select(vec![Role::Prefill, Role::Decode, Role::Whole]);
    let group = prop::sample::select(vec!["a", "b", "c"]);
    (role, group, 0_u32..40, 0_u32..20_000, 0_u32..9000, 0.0..1.0_f64, prop::bool::weighted(0.2)).prop_map(
        |(role, group, in_flight, backlog, cached, usage, tried)| Case {
            role,
            group,
            in_flight,
            backlog,
            cached,
            usage,
            tried,
        },
    )
}

proptest! {
    #[test]
    fn a_pair_is_of_one_group_and_of_two_roles(
        cases in prop::collection::vec(any_case(), 0..12), tokens in 0_u32..20_000, alone: bool, anywhere: bool, always: bool,
    ) {
        let config = if always { ALWAYS } else { "scheduler: {}" };
        match pick(&cases, (tokens, Split::Allowed { alone, anywhere }, None), config) {
            Ok((Some(prefill), decode, _)) => {
                let (prefill, decode) = (cases[prefill], cases[decode]);
                prop_assert_eq!(prefill.group, decode.group);
                prop_assert!(prefill.role == Role::Prefill && decode.role != Role::Prefill);
                prop_assert!(!prefill.tried && !decode.tried);
            }
            Ok((None, decode, _)) => {
                let may_answer = cases[decode].role != Role::Prefill || (anywhere && !always && tokens < 256);
                prop_assert!(alone && may_answer && !cases[decode].tried);
            }
            Err(_) => {
                let there = |prefills: bool| cases.iter().filter(move |case| !case.tried && (case.role == Role::Prefill) == prefills);
                let has_pair = there(true).any(|prefill| there(false).any(|decode| decode.group == prefill.group));
                prop_assert!(if alone { there(false).count() == 0 } else { !has_pair }, "somebody could have served it");
            }
        }
    }
}
