use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::flow::order::SLACK;
use crate::flow::room::Seen;

const EVEN: Settings = Settings {
    enabled: true,
    time_to_live: Duration::from_secs(60),
    most_requests: 100,
    most_bytes: usize::MAX,
    most_flows: 16,
    priority_weight: 4,
    weights: super::super::settings::Weights { input: 1.0, output: 2.0, request: 0.0 },
    kept_percent: 0,
    per_endpoint: None,
    per_pool: None,
    hold: Duration::ZERO,
    most_held: 0,
    most_sessions: 0,
};

fn asked(priority: i32, flow: u64, cost: Service) -> Asked {
    let (arrived, work) = (Duration::ZERO, Duration::ZERO);
    Asked { rank: Rank { priority, boosted: false }, flow: FlowId(flow), cost, bytes: 0, arrived, work }
}

/// A request of a flow that came after so many milliseconds, and takes an endpoint as many.
fn timed(flow: u64, arrived: u64, work: u64) -> Asked {
    Asked { arrived: Duration::from_millis(arrived), work: Duration::from_millis(work), ..asked(0, flow, 10) }
}

/// Lets requests wait, and returns those that are served, in order.
fn order(requests: &[(&'static str, Asked)]) -> Vec<&'static str> {
    let mut queue = FlowQueue::default();
    for (name, asked) in requests {
        assert!(queue.push(*asked, &EVEN, *name).place.is_some());
    }
    std::iter::from_fn(|| queue.pop(&EVEN)).map(|(_, name)| name).collect()
}

#[test]
fn flows_take_turns_and_equal_requests_of_a_flow_are_served_in_order() {
    let (flood, quiet) = (asked(0, 1, 10), asked(0, 2, 10));
    assert_eq!(order(&[("a1", flood), ("a2", flood), ("a3", flood), ("b1", quiet)]), ["b1", "a1", "a2", "a3"]);
    let large = asked(0, 1, 30);
    let small = asked(0, 2, 10);
    let served = order(&[("l1", large), ("l2", large), ("s1", small), ("s2", small), ("s3", small), ("s4", small)]);
    assert_eq!(served, ["s1", "l1", "s2", "s3", "s4", "l2"], "tokens count, and not requests");
}

#[test]
fn a_flow_s_short_requests_go_first_and_its_long_ones_in_their_time() {
    let first = [("miss", timed(1, 0, 500)), ("hit", timed(1, 100, 20)), ("miss 2", timed(1, 200, 500))];
    assert_eq!(
        order(&[&first[..], &[("late hit", timed(1, 3000, 20))]].concat()),
        ["hit", "late hit", "miss", "miss 2"]
    );
    assert_eq!(
        order(&[&first[..], &[("too late", timed(1, 9000, 20))]].concat()),
        ["hit", "miss", "miss 2", "too late"]
    );
    let huge = [("hour", timed(1, 0, 3_600_000)), ("hit", timed(1, 14_000, 20)), ("later", timed(1, 16_000, 20))];
    assert_eq!(order(&huge), ["hit", "hour", "later"], "a quarter of the time that it may wait");
    let of_two = [("miss", timed(1, 0, 500)), ("hit", timed(1, 1, 20)), ("another's", timed(2, 2, 9000))];
    assert_eq!(order(&of_two), ["another's", "hit", "miss"], "between flows it is their service that counts");
}

#[test]
fn a_short_request_is_sent_to_endpoints_that_compute_and_a_long_one_waits_for_one_that_does_not() {
    let room = |busy| Room::of([Seen { limit: 32, load: 8, busy }; 4], 25);
    let mut queue = FlowQueue::default();
    for (name, asked) in [("miss", timed(1, 0, 500)), ("hit", timed(1, 0, 20))] {
        queue.push(asked, &EVEN, name);
    }
    assert_eq!(queue.pop_within(room(0.5), &EVEN).map(|(_, name)| name), Some("hit"));
    assert_eq!(queue.pop_within(room(0.5), &EVEN), None, "it would wait in an engine, where nobody can go before it");
    assert_eq!(queue.pop_within(room(0.0), &EVEN).map(|(_, name)| name), Some("miss"));
}

#[test]
fn a_flow_that_was_away_gains_nothing_by_it() {
    let mut queue = FlowQueue::default();
    for _ in 0..50 {
        queue.push(asked(0, 1, 10), &EVEN, 'a');
    }
    let first: String = std::iter::repeat_with(|| queue.pop(&EVEN).unwrap().1).take(20).collect();
    assert_eq!(first, "a".repeat(20));
    for _ in 0..50 {
        queue.push(asked(0, 2, 10), &EVEN, 'b');
    }
    let next: String = std::iter::repeat_with(|| queue.pop(&EVEN).unwrap().1).take(20).collect();
    assert!(next.matches('b').count() <= 11, "{next}: it is not served for what it missed");
}

#[test]
fn a_quiet_flow_takes_any_place_and_others_leave_it_room_for_a_while() {
    let room = |busy| Room::of([Seen { limit: 32, load: 8, busy }; 4], 25);
    let (idle, computing, full) = (room(0.0), room(0.3), room(9.0));
    let mut queue = FlowQueue::default();
    let flood = |queue: &mut FlowQueue<char>| queue.push(asked(0, 1, 10), &EVEN, 'a').place.is_some();
    assert!((0..20).all(|_| flood(&mut queue)));
    assert!(queue.pop_within(full, &EVEN).is_none(), "prompts would wait in the engines");
    let served = std::iter::repeat_with(|| queue.pop_within(computing, &EVEN).unwrap().1).take(6).collect::<String>();
    assert_eq!(served, "aaaaaa", "nobody else is about");
    queue.push(asked(0, 2, 10), &EVEN, 'b');
    let (quiet, name) = queue.pop_within(full, &EVEN).unwrap();
    assert_eq!(name, 'b');
    queue.settle(quiet, 10);
    assert!(queue.pop_within(computing, &EVEN).is_none(), "the next request of the quiet flow would wait for it");
    for _ in 0..MEMORY {
        assert!(flood(&mut queue));
        let (served, name) = queue.pop_within(idle, &EVEN).unwrap();
        assert_eq!(name, 'a');
        queue.settle(served, 10);
    }
    assert!(queue.pop_within(computing, &EVEN).is_some(), "it has not come back");
}

#[test]
fn what_was_really_used_counts() {
    let mut queue = FlowQueue::default();
    for flow in [1, 2] {
        for _ in 0..10 {
            queue.push(asked(0, flow, 10), &EVEN, flow);
        }
    }
    let mut served = BTreeMap::<u64, u32>::new();
    for _ in 0..12 {
        let (ticket, flow) = queue.pop(&EVEN).unwrap();
        // What the first flow gets as an answer is three times as long as it was thought to be.
        queue.settle(ticket, if flow == 1 { 30 } else { 10 });
        *served.entry(flow).or_default() += 1;
    }
    assert_eq!(served, BTreeMap::from([(1, 3), (2, 9)]));
}

#[test]
fn bands_share_by_weight_and_none_starves() {
    let mut queue = FlowQueue::default();
    let mut served = BTreeMap::<i32, u32>::new();
    for priority in [-5, 0, 10] {
        for _ in 0..2 {
            queue.push(asked(priority, 1, 10), &EVEN, priority);
        }
    }
    for _ in 0..2100 {
        let (_, priority) = queue.pop(&EVEN).unwrap();
        *served.entry(priority).or_default() += 1;
        queue.push(asked(priority, 1, 10), &EVEN, priority);
    }
    assert_eq!(served, BTreeMap::from([(-5, 100), (0, 400), (10, 1600)]));
}

#[test]
fn a_higher_band_goes_first_and_a_boosted_session_before_others_of_its_priority() {
    let boosted = Asked { rank: Rank { priority: 0, boosted: true }, ..asked(0, 2, 10) };
    assert_eq!(order(&[("low", asked(-1, 1, 10)), ("high", asked(1, 1, 10))]), ["high", "low"]);
    assert_eq!(order(&[("new", asked(0, 1, 10)), ("known", boosted)]), ["known", "new"]);
}

#[test]
fn nobody_fills_the_queue_for_others() {
    let mut queue = FlowQueue::default();
    for number in 0..100 {
        assert!(queue.push(asked(0, 1, 10), &EVEN, number).place.is_some());
    }
    assert_eq!(queue.push(asked(0, 1, 10), &EVEN, 100), Pushed { place: None, driven_out: vec![] });
    let quiet = queue.push(asked(0, 2, 10), &EVEN, 101);
    assert_eq!((quiet.place.is_some(), quiet.driven_out), (true, vec![99]), "the newest of the flood makes room");
    assert!(queue.push(asked(1, 1, 10), &EVEN, 102).place.is_some(), "each band has a room of its own");
    assert_eq!(queue.waiting(), 101);
}

#[test]
fn bytes_are_bounded() {
    let tight = Settings { most_bytes: 3 * OVERHEAD_BYTES + 1100, ..EVEN };
    let mut queue = FlowQueue::default();
    let of = |flow, bytes| Asked { bytes, ..asked(0, flow, 1) };
    for name in ["a", "b", "c"] {
        assert!(queue.push(of(1, 300), &tight, name).place.is_some());
    }
    assert!(queue.push(of(1, 200), &tight, "d").place.is_none());
    let driven = queue.push(of(2, 500), &tight, "e");
    assert_eq!((driven.place.is_some(), driven.driven_out), (true, vec!["c"]));
    assert!(queue.push(of(3, 1 << 30), &tight, "f").place.is_none(), "what never fits is refused");
    assert!(queue.bytes() <= tight.most_bytes);
}

#[test]
fn a_hundred_thousand_flows_take_no_more_room_than_are_told_apart() {
    let wide = Settings { most_requests: usize::MAX, ..EVEN };
    let mut queue = FlowQueue::default();
    for flow in 0..100_000 {
        assert!(queue.push(asked(0, flow, 1), &wide, flow).place.is_some());
        assert!(queue.flows() <= EVEN.most_flows + 1);
    }
    let mut served = BTreeSet::new();
    while let Some((ticket, flow)) = queue.pop(&wide) {
        queue.settle(ticket, 1);
        served.insert(flow);
    }
    assert_eq!(served.len(), 100_000, "all of them are served");
    assert!(queue.flows() <= EVEN.most_flows + 1);
}

#[test]
fn priorities_without_end_take_no_more_room_than_bands() {
    let mut queue = FlowQueue::default();
    for priority in 0..1000 {
        assert!(queue.push(asked(priority, 1, 1), &EVEN, priority).place.is_some() || priority >= 100);
    }
    assert!(queue.bands().count() <= MOST_BANDS);
    while let Some((ticket, _)) = queue.pop(&EVEN) {
        queue.settle(ticket, 1);
    }
    assert!(queue.push(asked(5000, 1, 1), &EVEN, 5000).place.is_some(), "a band that is idle makes room for another");
}

#[derive(Clone, Debug)]
enum Step {
    Push(i32, u64, Service, usize, u64),
    Pop,
    Cancel(usize),
    Settle(usize, Service),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..4_i32, 0..24_u64, 1..100_u64, 0..5000_usize, 0..4000_u64)
            .prop_map(|(p, f, c, b, work)| Step::Push(p, f, c, b, work)),
        2 => Just(Step::Pop),
        1 => any::<usize>().prop_map(Step::Cancel),
        1 => (any::<usize>(), 0..200_u64).prop_map(|(which, used)| Step::Settle(which, used)),
    ]
}

proptest! {
    /// Nothing is lost, nothing is served twice, a flow is served in order, and no place is left behind.
    #[test]
    fn what_waits_is_served_once_or_leaves(steps in prop::collection::vec(step(), 1..400)) {
        let settings = Settings { most_requests: 20, most_bytes: 40 * OVERHEAD_BYTES, most_flows: 4, ..EVEN };
        let (mut queue, mut waiting, mut out) = (FlowQueue::default(), BTreeMap::new(), Vec::new());
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Push(priority, flow, cost, bytes, work) => {
                    let (arrived, work) = (Duration::from_secs(number as u64), Duration::from_millis(work));
                    let asked = Asked { bytes, arrived, work, ..asked(priority, flow, cost) };
                    let Pushed { place, driven_out } = queue.push(asked, &settings, number);
                    for gone in driven_out {
                        prop_assert!(waiting.remove(&gone).is_some());
                    }
                    if let Some(place) = place {
                        waiting.insert(number, place);
                    }
                }
                Step::Pop => match queue.pop(&settings) {
                    Some((served, number)) => {
                        let place: Place = waiting.remove(&number).unwrap();
                        let goes_first = |other: &Place| {
                            (other.rank, other.flow) == (place.rank, place.flow) && other.turn < place.turn
                        };
                        prop_assert!(!waiting.values().any(goes_first), "a flow is served in order");
                        out.push(served);
                    }
                    None => prop_assert!(waiting.is_empty()),
                },
                Step::Cancel(which) if !waiting.is_empty() => {
                    let number = *waiting.keys().nth(which % waiting.len()).unwrap();
                    let place = waiting.remove(&number).unwrap();
                    prop_assert_eq!(queue.cancel(place), Some(number));
                    prop_assert_eq!(queue.cancel(place), None);
                }
                Step::Settle(which, used) if !out.is_empty() => queue.settle(out.swap_remove(which % out.len()), used),
                Step::Cancel(_) | Step::Settle(..) => {}
            }
            prop_assert_eq!(queue.waiting(), waiting.len());
            prop_assert_eq!(queue.bands().map(|(_, count)| count).sum::<usize>(), waiting.len());
            prop_assert!(queue.bytes() <= settings.most_bytes && queue.bytes() >= waiting.len() * OVERHEAD_BYTES);
            prop_assert!(queue.flows() <= 4 * (settings.most_flows + 1));
        }
        while let Some((_, number)) = queue.pop(&settings) {
            prop_assert!(waiting.remove(&number).is_some());
        }
        prop_assert!(waiting.is_empty());
        prop_assert_eq!((queue.waiting(), queue.bytes()), (0, 0));
    }

    /// Nobody starves: a request is passed by those of its flow alone that came before it, or within its slack after.
    #[test]
    fn later_requests_pass_within_the_slack_of_a_request_alone(
        requests in prop::collection::vec((0..3000_u64, 0..5000_u64), 2..60),
    ) {
        let (mut queue, mut clock, mut asked) = (FlowQueue::default(), 0, Vec::new());
        for (number, (pause, work)) in requests.into_iter().enumerate() {
            clock += pause;
            asked.push(timed(1, clock, work));
            prop_assert!(queue.push(asked[number], &EVEN, number).place.is_some());
        }
        let served: Vec<_> = std::iter::from_fn(|| queue.pop(&EVEN)).map(|(_, number)| number).collect();
        for (place, number) in served.iter().enumerate() {
            let of = asked[*number];
            let slack = (of.work * SLACK).min(EVEN.time_to_live / 4);
            for passing in served[..place].iter().filter(|passing| *passing > number) {
                prop_assert!(asked[*passing].arrived <= of.arrived + slack);
                prop_assert!(asked[*passing].work < of.work, "of equal work nobody passes");
            }
        }
    }

    /// While all of them wait, no flow gets more service than another by more than one request of each.
    #[test]
    fn flows_that_wait_get_equal_service(costs in prop::collection::vec(1..1000_u64, 2..8), turns in 20..200_usize) {
        let mut queue = FlowQueue::default();
        for (flow, cost) in costs.iter().enumerate() {
            queue.push(asked(0, flow as u64 + 1, *cost), &EVEN, flow);
            queue.push(asked(0, flow as u64 + 1, *cost), &EVEN, flow);
        }
        let mut service = vec![0; costs.len()];
        for _ in 0..turns {
            let (_, flow) = queue.pop(&EVEN).unwrap();
            service[flow] += costs[flow];
            queue.push(asked(0, flow as u64 + 1, costs[flow]), &EVEN, flow);
        }
        let (least, most) = (*service.iter().min().unwrap(), *service.iter().max().unwrap());
        prop_assert!(most - least <= 2 * costs.iter().max().unwrap(), "{service:?} by {costs:?}");
    }
}
