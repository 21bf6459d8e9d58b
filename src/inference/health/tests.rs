#![expect(clippy::disallowed_methods, reason = "each test begins at a moment of its own")]

use proptest::prelude::*;

use super::*;

const BAD: Outcome = Outcome::Answered(500);

fn address(index: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], 8000 + index))
}

fn pool(size: u16, now: Instant) -> PoolHealth {
    let mut health = PoolHealth::default();
    for index in 0..size {
        health.add(address(index), Standing::Serving, now);
    }
    health
}

/// Lets a row of attempts fail.
fn fail(health: &mut PoolHealth, index: u16, outcome: Outcome, now: Instant) -> Option<Change> {
    let row = outcome.cause().map_or(0, Cause::in_a_row);
    (1..=row).map(|in_a_row| health.note(address(index), outcome, in_a_row, now)).last().flatten()
}

fn idle(_: SocketAddr) -> Signs {
    Signs::default()
}

#[test]
fn each_kind_of_failure_ejects_an_endpoint_after_a_row_and_not_before() {
    let now = Instant::now();
    for (outcome, cause, row) in [
        (Outcome::Refused, Cause::Refused, 3),
        (Outcome::Handshake, Cause::Handshake, 3),
        (Outcome::Reset, Cause::Reset, 3),
        (Outcome::Malformed, Cause::Malformed, 3),
        (Outcome::Late, Cause::Late, 2),
        (Outcome::Answered(500), Cause::Status, 5),
        (Outcome::Answered(503), Cause::Status, 5),
    ] {
        let mut health = pool(3, now);
        for in_a_row in 1..row {
            assert_eq!(health.note(address(0), outcome, in_a_row, now), None, "{cause:?} {in_a_row}");
        }
        let ejected = Some(Change::Ejected { cause, time: FIRST });
        assert_eq!(health.note(address(0), outcome, row, now), ejected, "{cause:?}");
        assert_eq!(health.standing(address(0)), Standing::Ejected(cause));
        assert_eq!(health.note(address(0), outcome, row + 1, now), None, "{cause:?}: once");
    }
}

#[test]
fn what_a_client_provokes_is_no_failure() {
    for status in [200, 307, 400, 404, 429, 499, 501, 505] {
        assert_eq!(Outcome::Answered(status).cause(), None, "{status}");
    }
}

#[test]
fn soft_causes_eject_half_of_a_pool_at_most_and_hard_ones_any_part_of_it() {
    let now = Instant::now();
    for (size, soft) in [(1, 0), (2, 1), (3, 1), (4, 2), (5, 2), (8, 4)] {
        for (outcome, expected) in [(BAD, soft), (Outcome::Refused, usize::from(size))] {
            let mut health = pool(size, now);
            let ejected = (0..size).filter(|index| fail(&mut health, *index, outcome, now).is_some()).count();
            assert_eq!(ejected, expected, "{size} endpoints, {outcome:?}");
        }
    }
}

#[test]
fn a_spared_endpoint_is_ejected_once_there_is_room() {
    let now = Instant::now();
    let mut health = pool(3, now);
    assert!(fail(&mut health, 0, BAD, now).is_some());
    assert_eq!(fail(&mut health, 1, BAD, now), None);
    let failing = |_| Signs { in_flight: 0, failing: true };
    assert_eq!(health.advance(now, failing), []);
    assert_eq!(health.note(address(0), Outcome::Answered(200), 0, now), Some(Change::Recovered));
    let ejected = Change::Ejected { cause: Cause::Status, time: FIRST };
    assert_eq!(health.clone().advance(now, failing), [(address(1), ejected)]);
    assert_eq!(health.advance(now, idle), [], "it has answered well in the meantime");
    assert_eq!(health.advance(now, failing), []);
}

#[test]
fn a_trial_brings_an_endpoint_back_or_ejects_it_for_longer() {
    let mut now = Instant::now();
    let mut health = pool(2, now);
    assert!(fail(&mut health, 0, BAD, now).is_some());
    for seconds in [1, 2, 4, 8, 8] {
        let time = Duration::from_secs(seconds);
        assert_eq!(health.advance(now + time - Duration::from_millis(1), idle), [], "{seconds}");
        now += time;
        assert_eq!(health.advance(now, idle), [(address(0), Change::Tried)]);
        assert!(health.standing(address(0)).admits(0) && !health.standing(address(0)).admits(1), "{seconds}");
        let change = health.note(address(0), Outcome::Reset, 1, now);
        assert_eq!(change, Some(Change::Ejected { cause: Cause::Reset, time: (time * 2).min(LONGEST) }));
    }
    now += LONGEST;
    assert_eq!(health.advance(now, idle), [(address(0), Change::Tried)]);
    assert_eq!(health.note(address(0), Outcome::Answered(404), 0, now), Some(Change::Recovered));
    // Soon after, it is remembered; after a good time it is forgiven.
    for (later, time) in [(Duration::from_secs(1), LONGEST), (FORGIVEN_AFTER, FIRST)] {
        let mut health = health.clone();
        let change = fail(&mut health, 0, BAD, now + later);
        assert_eq!(change, Some(Change::Ejected { cause: Cause::Status, time }), "{later:?}");
    }
}

#[test]
fn a_trial_lets_one_request_through_beside_the_old_ones() {
    let now = Instant::now();
    let mut health = pool(2, now);
    assert!(fail(&mut health, 0, Outcome::Late, now).is_some());
    assert!(!health.standing(address(0)).admits(0));
    let hung = |in_flight| move |_| Signs { in_flight, failing: true };
    health.advance(now + FIRST, hung(7));
    let standing = health.standing(address(0));
    assert_eq!((standing.admits(7), standing.admits(8)), (true, false));
    // The request on trial hangs like the others: another one is let through after a time.
    let later = now + FIRST + FIRST;
    assert_eq!(health.advance(later, hung(8)), [(address(0), Change::Tried)]);
    let standing = health.standing(address(0));
    assert_eq!((standing.admits(8), standing.admits(9)), (true, false));
}

#[test]
fn a_scrape_or_a_probe_answers_only_the_causes_that_it_would_have_met() {
    let now = Instant::now();
    for (cause, outcome, by_scrape, by_probe) in [
        (Cause::Refused, Outcome::Refused, true, true),
        (Cause::Handshake, Outcome::Handshake, true, false),
        (Cause::Reset, Outcome::Reset, false, false),
        (Cause::Late, Outcome::Late, false, false),
        (Cause::Status, BAD, false, false),
    ] {
        for (is_scrape, recovers) in [(true, by_scrape), (false, by_probe)] {
            let mut health = pool(2, now);
            assert!(fail(&mut health, 0, outcome, now).is_some());
            let change = health.note_contact(address(0), is_scrape, now);
            assert_eq!(change, recovers.then_some(Change::Recovered), "{cause:?}, scrape {is_scrape}");
        }
    }
    let mut health = pool(2, now);
    assert_eq!(health.note_missed_scrape(address(0), 1, now), None);
    assert!(health.note_missed_scrape(address(0), 2, now).is_some(), "a hung engine is ejected");
    assert_eq!(health.note_contact(address(0), true, now), Some(Change::Recovered));
}

#[test]
fn an_engine_that_still_hangs_on_trial_is_ejected_for_longer() {
    let now = Instant::now();
    let mut health = pool(2, now);
    assert!(health.note_missed_scrape(address(0), 2, now).is_some());
    let trial = now + FIRST;
    assert_eq!(health.advance(trial, idle), [(address(0), Change::Tried)]);
    let longer = Change::Ejected { cause: Cause::Scrape, time: FIRST * 2 };
    assert_eq!(health.note_missed_scrape(address(0), 3, trial), Some(longer));
}

#[test]
fn refused_connections_are_probed_and_no_request_has_to_try_them() {
    let now = Instant::now();
    let mut health = pool(2, now);
    assert!(fail(&mut health, 0, Outcome::Refused, now).is_some());
    assert_eq!(health.advance(now + LONGEST * 9, idle), []);
}

proptest! {
    #[test]
    fn soft_causes_never_take_the_greater_half(
        size in 1_u16..9,
        steps in prop::collection::vec((0_u16..9, 0_u8..5, 0_u64..3000), 0..200),
    ) {
        let mut now = Instant::now();
        let mut health = pool(size, now);
        for (index, step, milliseconds) in steps {
            now += Duration::from_millis(milliseconds);
            let index = index % size;
            match step {
                0 => { let _ = health.note(address(index), Outcome::Answered(200), 0, now); }
                1 => { let _ = fail(&mut health, index, BAD, now); }
                2 => { let _ = fail(&mut health, index, Outcome::Reset, now); }
                3 => { let _ = health.note_missed_scrape(address(index), 9, now); }
                _ => { let _ = health.advance(now, |_| Signs { in_flight: 0, failing: true }); }
            }
            let out = (0..size).filter(|index| health.standing(address(*index)) != Standing::Serving).count();
            prop_assert!(out * 2 <= usize::from(size), "{out} of {size}");
        }
    }
}
