use proptest::prelude::*;

use super::*;

const PAUSE: Duration = Duration::from_millis(25);
const NOW: Duration = Duration::ZERO;

/// Returns what follows a row of attempts that all end in the same way, up to the first that is followed by none.
fn course(policy: &RetryPolicy, repeatable: Repeatable, adapter: bool, outcome: Outcome) -> Vec<Next> {
    let mut attempts = policy.begin(repeatable, adapter);
    std::iter::from_fn(|| Some(attempts.after(outcome))).take_while(|next| *next != Next::Stop).collect()
}

#[test]
fn what_nobody_wrote_is_repeated_only_where_it_does_no_harm() {
    use Outcome::{Answered, Broken, Late, Malformed, Unsent};
    use Repeatable::{Idempotent, Inference, No};
    let (backend, engines) = (RetryPolicy::Backend, RetryPolicy::Engines);
    let others = vec![Next::Other(NOW); 2];
    for (case, policy, repeatable, outcome, expected) in [
        ("refused connections move on", &backend, No, Unsent, others.clone()),
        ("a POST that may have been seen is lost", &backend, No, Broken, vec![]),
        ("a GET may be sent again", &backend, Idempotent, Broken, vec![Next::Same(NOW)]),
        ("a poisonous prompt sees two engines at most", &engines, Inference, Broken, vec![Next::Other(NOW)]),
        ("an upload to an engine is not repeated", &engines, No, Broken, vec![]),
        ("a Service's 503 is its word", &backend, Idempotent, Answered(503), vec![]),
        ("an engine's 503 is not that of the pool", &engines, Inference, Answered(503), others.clone()),
        ("an engine's 502 likewise", &engines, Inference, Answered(502), others),
        ("an engine that fails is followed by one other", &engines, Inference, Answered(500), vec![Next::Other(NOW)]),
        ("one that has too much to do likewise", &engines, Inference, Answered(429), vec![Next::Other(NOW)]),
        ("one that is silent likewise", &engines, Inference, Late, vec![Next::Other(NOW)]),
        ("what the client did wrong is its own", &engines, Inference, Answered(400), vec![]),
        ("a 500 to an upload is the engine's word", &engines, No, Answered(500), vec![]),
        ("a GET of a stored response waits for its engine", &engines, Idempotent, Late, vec![]),
        ("a Service's 500 is its word", &backend, Inference, Answered(500), vec![]),
        ("a Service that is slow has its time", &backend, Inference, Late, vec![]),
        ("what is no HTTP will not become it", &engines, Inference, Malformed, vec![]),
    ] {
        assert_eq!(course(policy, repeatable, false, outcome), expected, "{case}");
    }
}

#[test]
fn a_decode_that_fails_is_followed_by_another_pair() {
    use Outcome::{Answered, Broken, Late};
    let (never, twice) = (RetryPolicy::of_engines(0, PAUSE), RetryPolicy::of_engines(2, PAUSE));
    let engines = RetryPolicy::Engines;
    let [other, paused] = [NOW, PAUSE].map(Next::Other);
    for (case, policy, outcome, expected) in [
        ("any error, by default", &engines, Answered(500), vec![other, other]),
        ("the same, as written", &twice, Answered(501), vec![paused, paused]),
        ("the same, where nothing may follow", &never, Answered(500), vec![]),
        ("what the client did wrong is its own", &engines, Answered(400), vec![]),
        ("a poisonous prompt sees two engines at most", &engines, Broken, vec![other]),
        ("an engine that hangs", &engines, Late, vec![other]),
    ] {
        let mut attempts = policy.begin(Repeatable::Inference, false);
        let course = std::iter::from_fn(|| Some(attempts.after_decode(outcome)));
        let course: Vec<_> = course.take_while(|next| *next != Next::Stop).take(9).collect();
        assert_eq!(course, expected, "{case}");
    }
}

#[test]
fn a_prompt_that_cannot_be_computed_elsewhere_is_computed_where_the_answer_is_made() {
    use Outcome::{Answered, Broken, Late, Malformed, Unsent};
    let (other, alone) = (Next::Other(NOW), Next::Alone(NOW));
    let never = RetryPolicy::of_engines(0, PAUSE);
    let engines = RetryPolicy::Engines;
    for (case, policy, outcome, may, expected) in [
        ("refused", &engines, Unsent, true, vec![other, other, alone]),
        ("refused, and nobody decodes alone", &engines, Unsent, false, vec![other, other]),
        ("any error of an engine", &engines, Answered(500), true, vec![other, other, alone]),
        ("what the client did wrong is its own", &engines, Answered(400), true, vec![]),
        ("a poisonous prompt sees two engines at most", &engines, Broken, true, vec![other]),
        ("an engine that hangs", &engines, Late, true, vec![alone]),
        ("an engine that hangs, and nobody decodes alone", &engines, Late, false, vec![other]),
        ("an answer that cannot be used", &engines, Malformed, true, vec![alone]),
        ("`attempts: 0`", &never, Unsent, true, vec![]),
    ] {
        let mut attempts = policy.begin(Repeatable::Inference, false);
        let course = std::iter::from_fn(|| Some(attempts.after_prefill(outcome, may)));
        let course: Vec<_> = course.take_while(|next| *next != Next::Stop).take(9).collect();
        assert_eq!(course, expected, "{case}");
    }
}

#[test]
fn what_is_written_is_followed() {
    use Outcome::{Answered, Broken, Late, Malformed, Stale, Unsent};
    let never = RetryPolicy::of_engines(0, PAUSE);
    for outcome in [Unsent, Broken, Malformed, Late, Answered(503)] {
        assert_eq!(course(&never, Repeatable::Inference, true, outcome), [], "`attempts: 0` after {outcome:?}");
    }
    let engines = RetryPolicy::of_engines(1, PAUSE);
    let rule = RetryPolicy::of_rule(1, vec![500], PAUSE);
    let (same, other) = (Next::Same(PAUSE), Next::Other(PAUSE));
    let moves = [Next::Other(NOW); 2];
    for (case, policy, outcome, expected) in [
        ("a written attempt, and then the moves", &engines, Unsent, [&[same][..], &moves].concat()),
        ("a broken connection", &engines, Broken, vec![same]),
        ("a stale connection", &engines, Stale, vec![Next::Again]),
        ("another engine where one is late", &engines, Late, vec![other]),
        ("another engine where one is unavailable", &engines, Answered(503), vec![other]),
        ("another engine where one has failed", &engines, Answered(500), vec![other]),
        ("another engine where one has too much to do", &engines, Answered(429), vec![other]),
        ("what the client did wrong is its own", &engines, Answered(400), vec![]),
        ("no HTTP", &engines, Malformed, vec![]),
        ("a rule may ask the only endpoint again", &rule, Answered(500), vec![same]),
        ("a rule's statuses are all there are", &rule, Answered(503), vec![]),
        ("a rule's late attempt", &rule, Late, vec![same]),
    ] {
        assert_eq!(course(policy, Repeatable::No, false, outcome), expected, "{case}");
    }
}

#[test]
fn an_adapter_is_looked_for_on_other_engines() {
    let moves = [Next::Other(NOW); 2];
    for policy in [RetryPolicy::Engines, RetryPolicy::of_engines(1, PAUSE)] {
        assert_eq!(course(&policy, Repeatable::Inference, true, Outcome::Answered(404)), moves);
        assert_eq!(course(&policy, Repeatable::Inference, false, Outcome::Answered(404)), []);
    }
}

#[test]
fn a_stale_connection_is_followed_by_a_fresh_one_where_a_second_run_does_no_harm() {
    for (case, policy, repeatable, expected) in [
        ("inference", RetryPolicy::Engines, Repeatable::Inference, vec![Next::Again]),
        ("an idempotent method", RetryPolicy::Backend, Repeatable::Idempotent, vec![Next::Again]),
        ("what may change something", RetryPolicy::Backend, Repeatable::No, vec![]),
        ("nobody wants it", RetryPolicy::of_engines(0, PAUSE), Repeatable::Inference, vec![]),
    ] {
        assert_eq!(course(&policy, repeatable, false, Outcome::Stale), expected, "{case}");
        let mut attempts = policy.begin(repeatable, false);
        assert_eq!(attempts.may_refresh(), !expected.is_empty(), "{case}: foreseen");
        attempts.after(Outcome::Stale);
        assert!(!attempts.may_refresh(), "{case}: once");
    }
    for (case, second, then) in
        [("the engine is gone", Outcome::Unsent, Next::Other(NOW)), ("it breaks again", Outcome::Broken, Next::Stop)]
    {
        let mut attempts = RetryPolicy::Engines.begin(Repeatable::Inference, false);
        let course = [Outcome::Stale, second, Outcome::Broken].map(|outcome| attempts.after(outcome));
        assert_eq!(course, [Next::Again, then, Next::Stop], "{case}: a poisonous prompt is run twice at most");
    }
}

#[test]
fn what_is_done_once_is_done_once_in_all() {
    let outcomes = [Outcome::Late, Outcome::Answered(500), Outcome::Answered(429), Outcome::Broken];
    for (first, second) in outcomes.iter().flat_map(|first| outcomes.map(|second| (*first, second))) {
        let mut attempts = RetryPolicy::Engines.begin(Repeatable::Inference, false);
        let course = [first, second].map(|outcome| attempts.after(outcome));
        assert_eq!(course, [Next::Other(NOW), Next::Stop], "{first:?}, {second:?}");
    }
}

proptest! {
    #[test]
    fn attempts_end(outcomes in prop::collection::vec(0_usize..7, 32), written in prop::option::of(0_u32..5)) {
        let all = [
            Outcome::Unsent, Outcome::Broken, Outcome::Malformed, Outcome::Late, Outcome::Answered(503),
            Outcome::Answered(404), Outcome::Stale,
        ];
        let policy = written.map_or(RetryPolicy::Engines, |attempts| RetryPolicy::of_engines(attempts, PAUSE));
        let mut attempts = policy.begin(Repeatable::Inference, true);
        let followed = outcomes.iter().filter(|outcome| attempts.after(all[**outcome]) != Next::Stop).count();
        prop_assert!(followed <= (written.unwrap_or(0) + MOVES + RERUNS) as usize);
    }
}
