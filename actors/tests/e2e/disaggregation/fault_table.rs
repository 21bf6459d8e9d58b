//! The fault table of docs/disaggregation.md: what a client reads when one of two engines fails, at each point, with each
//! connector, streaming and not. No answer is doubled or mixed, no request is counted for ever, and no engine is left busy.

use actix_web::rt;
use simulated_engine::{Engine, HandoverFault};

use super::fleet::{self, DIALECTS, Dialect, Fleet, HTTP, LMCACHE, MOONCAKE, NIXL, Read, SGLANG, chat};

/// Time for an attempt, where an engine hangs.
const IMPATIENT: &str = "  trafficPolicy: {timeout: 400ms}";

/// A point of failure.
struct Row {
    name: &'static str,
    fail: fn(&mut Fleet),
    /// What belongs to the spec of the ModelServer.
    spec: &'static str,
    /// What comes of it where engines share a store; where one hands over to the other; and with SGLang.
    expected: [Expected; 3],
}

/// What a client reads.
#[derive(Clone, Copy)]
enum Expected {
    Whole,
    Status(u16),
    /// The answer breaks off after so many tokens.
    Broken(usize),
}

use Expected::{Broken, Status, Whole};

fn prefill(fleet: &Fleet) -> &Engine {
    &fleet.prefills[0]
}

fn decode(fleet: &Fleet) -> &Engine {
    &fleet.decodes[0]
}

fn answers(engine: &Engine, status: u16) {
    engine.faults().set_error_status(status).unwrap();
    engine.faults().set_error_rate(1.0).unwrap();
}

const ROWS: &[Row] = &[
    Row { name: "nothing", fail: |_| {}, spec: "", expected: [Whole, Whole, Whole] },
    Row {
        name: "the prefill engine is gone",
        fail: |fleet| fleet.prefills.clear(),
        spec: "",
        expected: [Whole, Whole, Status(503)],
    },
    Row {
        name: "the prefill is answered with 500",
        fail: |fleet| answers(prefill(fleet), 500),
        spec: "",
        expected: [Whole, Whole, Status(500)],
    },
    Row {
        name: "the prefill is answered with 503",
        fail: |fleet| answers(prefill(fleet), 503),
        spec: "",
        expected: [Whole, Whole, Status(503)],
    },
    Row {
        name: "the prefill is answered with 400",
        fail: |fleet| answers(prefill(fleet), 400),
        spec: "",
        expected: [Status(400), Status(400), Status(400)],
    },
    Row {
        name: "the prefill's connection is reset",
        fail: |fleet| prefill(fleet).faults().set_reset(true),
        spec: "",
        expected: [Whole, Whole, Status(503)],
    },
    Row {
        name: "the prefill's answer breaks off",
        fail: |fleet| prefill(fleet).faults().set_reset_after(Some(0)),
        spec: "",
        expected: [Whole, Whole, Status(503)],
    },
    Row {
        name: "the prefill hangs",
        fail: |fleet| prefill(fleet).faults().set_hang(true),
        spec: IMPATIENT,
        expected: [Whole, Whole, Status(504)],
    },
    Row {
        name: "the prefill's answer hands nothing over",
        fail: |fleet| prefill(fleet).faults().set_handover(HandoverFault::Missing),
        spec: "",
        expected: [Whole, Whole, Whole],
    },
    Row {
        name: "the prefill's answer is not JSON",
        fail: |fleet| prefill(fleet).faults().set_handover(HandoverFault::Malformed),
        spec: "",
        expected: [Whole, Whole, Whole],
    },
    Row {
        name: "the prefill's answer has 10 MB",
        fail: |fleet| prefill(fleet).faults().set_handover(HandoverFault::Huge),
        spec: "",
        expected: [Whole, Whole, Status(503)],
    },
    Row {
        name: "the decode engine is gone",
        fail: |fleet| fleet.decodes.clear(),
        spec: "",
        expected: [Status(503), Status(503), Status(503)],
    },
    Row {
        name: "the decode is answered with 500",
        fail: |fleet| answers(decode(fleet), 500),
        spec: "",
        expected: [Status(500), Status(500), Status(500)],
    },
    Row {
        name: "the decode is answered with 503",
        fail: |fleet| answers(decode(fleet), 503),
        spec: "",
        expected: [Status(503), Status(503), Status(503)],
    },
    Row {
        name: "the decode's connection is reset",
        fail: |fleet| decode(fleet).faults().set_reset(true),
        spec: "",
        expected: [Status(503), Status(503), Status(503)],
    },
    Row {
        name: "the decode hangs",
        fail: |fleet| decode(fleet).faults().set_hang(true),
        spec: IMPATIENT,
        expected: [Status(504), Status(504), Status(504)],
    },
    Row {
        name: "the decode's answer breaks off",
        fail: |fleet| decode(fleet).faults().set_reset_after(Some(4)),
        spec: "",
        expected: [Broken(3), Broken(3), Broken(3)],
    },
];

/// Has every row happen with a connector, and compares what a client reads.
async fn check(dialect: Dialect) {
    let column = match dialect {
        HTTP | LMCACHE => 0,
        NIXL | MOONCAKE => 1,
        _ => 2,
    };
    let (mut found, mut expected) = (Vec::new(), Vec::new());
    for Row { name, fail, spec, expected: of } in ROWS {
        let mut fleet = Fleet::start(dialect, 1, spec).await;
        fail(&mut fleet);
        for stream in [false, true] {
            let case = format!("{}, {name}, stream {stream}", dialect.0);
            found.push(format!("{case}: {:?}", fleet.ask(stream).await));
            let read = match of[column] {
                Whole => Read::Whole,
                Status(status) => Read::Status(status),
                Broken(tokens) if stream => Read::Told(tokens),
                Broken(_) => Read::Cut,
            };
            expected.push(format!("{case}: {read:?}"));
            fleet.engines().for_each(|engine| engine.faults().set_hang(false));
            fleet.is_idle(&case).await;
            fail(&mut fleet);
        }
    }
    assert_eq!(found.join("\n"), expected.join("\n"));
}

#[actix_web::test]
async fn each_failure_ends_as_documented_with_http() {
    check(HTTP).await;
}

#[actix_web::test]
async fn each_failure_ends_as_documented_with_lmcache() {
    check(LMCACHE).await;
}

#[actix_web::test]
async fn each_failure_ends_as_documented_with_nixl() {
    check(NIXL).await;
}

#[actix_web::test]
async fn each_failure_ends_as_documented_with_mooncake() {
    check(MOONCAKE).await;
}

#[actix_web::test]
async fn each_failure_ends_as_documented_with_sglang() {
    check(SGLANG).await;
}

#[actix_web::test]
async fn an_engine_that_dies_between_the_legs_takes_no_answer_with_it() {
    for dialect in [NIXL, MOONCAKE, SGLANG] {
        for stream in [false, true] {
            let mut fleet = Fleet::start(dialect, 1, "").await;
            prefill(&fleet).faults().set_stall_transfers(true);
            let asked = rt::spawn(fleet::read(fleet.request(), chat(stream)));
            fleet.harness.until("the transfer has begun", async || prefill(&fleet).transfers().sending == 1).await;
            fleet.prefills.pop().unwrap().stop().await;
            let read = asked.await.unwrap();
            // Of SGLang both legs are under way, and either may be the first to fail.
            let is_expected = match read {
                Read::Status(500) => true,
                Read::Status(503) => dialect == SGLANG,
                _ => false,
            };
            assert!(is_expected, "{}, stream {stream}: {read:?}", dialect.0);
            fleet.is_idle(dialect.0).await;
        }
    }
}

#[actix_web::test]
async fn a_client_that_leaves_frees_both_engines_wherever_they_are() {
    for dialect in DIALECTS {
        for stream in [false, true] {
            let fleet = Fleet::start(dialect, 1, "").await;
            let begin = || rt::spawn(fleet::read(fleet.request(), chat(stream)));
            let case = |point: &str| format!("{}, {point}, stream {stream}", dialect.0);

            prefill(&fleet).faults().set_hang(true);
            let asked = begin();
            fleet.harness.until("the prompt is computed", async || prefill(&fleet).running() == 1).await;
            asked.abort();
            fleet.is_idle(&case("in the prefill")).await;
            prefill(&fleet).faults().clear();

            if ![HTTP, LMCACHE].contains(&dialect) {
                prefill(&fleet).faults().set_stall_transfers(true);
                let asked = begin();
                fleet.harness.until("the transfer has begun", async || prefill(&fleet).transfers().sending == 1).await;
                asked.abort();
                fleet.is_idle(&case("in the transfer")).await;
                prefill(&fleet).faults().clear();
            }

            decode(&fleet).faults().set_hang_after(Some(2));
            let asked = begin();
            fleet.harness.until("the text is written", async || decode(&fleet).running() == 1).await;
            asked.abort();
            fleet.is_idle(&case("in the text")).await;
            decode(&fleet).faults().clear();
            assert_eq!(fleet.ask(stream).await, Read::Whole, "{}", case("afterwards"));
        }
    }
}

#[actix_web::test]
async fn a_pair_that_fails_is_followed_by_another_one() {
    type Fail = fn(&mut Fleet);
    let failures: [(&str, Fail); 7] = [
        ("a prefill engine is gone", |fleet| drop(fleet.prefills.remove(0))),
        ("a prefill is answered with 500", |fleet| answers(prefill(fleet), 500)),
        ("a prefill's connection is reset", |fleet| prefill(fleet).faults().set_reset(true)),
        ("a decode engine is gone", |fleet| drop(fleet.decodes.remove(0))),
        ("a decode is answered with 500", |fleet| answers(decode(fleet), 500)),
        ("a decode is answered with 503", |fleet| answers(decode(fleet), 503)),
        ("a decode's connection is reset", |fleet| decode(fleet).faults().set_reset(true)),
    ];
    for dialect in DIALECTS {
        for (name, fail) in failures {
            let mut fleet = Fleet::start(dialect, 2, "").await;
            fail(&mut fleet);
            for number in 0..8 {
                let case = format!("{}, {name}, request {number}", dialect.0);
                assert_eq!(fleet.ask(number % 2 == 0).await, Read::Whole, "{case}");
            }
            fleet.is_idle(name).await;
        }
    }
}
