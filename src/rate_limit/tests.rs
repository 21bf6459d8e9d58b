use proptest::prelude::*;
use serde_json::{Value, json};

use super::shared::{Invocation, KeyNames, Verdict};
use super::told::{Standing, concurrent_limit, limit, span};
use super::*;

const MINUTE: Duration = Duration::from_secs(60);

fn limits(input: Option<u32>, output: Option<u32>) -> RateLimits {
    let rate = |amount: Option<u32>| amount.map(|amount| Rate { amount, unit: MINUTE });
    let key = LimitKey { namespace: "n".into(), model: "m".into() };
    RateLimits { key, rates: [None, rate(input), rate(output)], concurrent: None, redis: None }
}

fn of_yaml(limit: Value) -> Option<RateLimits> {
    let limit: RateLimit = serde_json::from_value(limit).unwrap();
    RateLimits::of(&ObjectKey::new("n", "r"), Some(&"m".into()), &limit)
}

#[test]
fn limits_are_read_from_a_route() {
    let full = of_yaml(json!({"inputTokensPerUnit": 3, "outputTokensPerUnit": 5, "unit": "hour",
        "global": {"redis": {"address": "redis:6379"}}}))
    .unwrap();
    assert_eq!(full.rate(Quantity::Input), Some(Rate { amount: 3, unit: MINUTE * 60 }));
    assert_eq!((full.rate(Quantity::Output).unwrap().amount, full.redis.as_deref()), (5, Some("redis:6379")));
    assert_eq!(full.key.to_string(), "n/m");
    for (unit, seconds) in [("second", 1), ("minute", 60), ("day", 86_400), ("month", 2_592_000)] {
        let read = of_yaml(json!({"inputTokensPerUnit": 1, "unit": unit})).unwrap();
        assert_eq!(
            (read.rate(Quantity::Input).unwrap().unit.as_secs(), read.rate(Quantity::Output)),
            (seconds, None),
            "{unit}"
        );
    }
    assert_eq!(of_yaml(json!({"unit": "minute"})), None, "nothing is limited");
    let requests = of_yaml(json!({"requestsPerUnit": 7, "concurrentRequests": 2, "unit": "minute"})).unwrap();
    assert_eq!(requests.rates, [Some(Rate { amount: 7, unit: MINUTE }), None, None]);
    assert_eq!(requests.concurrent, Some(2));
    let concurrent = of_yaml(json!({"concurrentRequests": 2, "global": {"redis": {"address": "redis:6379"}}})).unwrap();
    assert_eq!((concurrent.rates, concurrent.redis), ([None; 3], None), "there is nothing to count in Redis");
    let adapters: RateLimit = serde_json::from_value(json!({"outputTokensPerUnit": 1})).unwrap();
    let of_adapters = RateLimits::of(&ObjectKey::new("n", "r"), None, &adapters).unwrap();
    assert_eq!(of_adapters.key.to_string(), "n/r", "a route of adapters counts by its own name");
}

#[test]
fn a_prompt_is_estimated_as_the_go_router_does() {
    let chat = |content: Value| json!({"messages": [{"role": "user", "content": content}]});
    for (body, input) in [
        (chat(json!("hello world")), 10),
        (chat(json!("hi")), 8),
        (chat(json!([{"type": "text", "text": "hello"}, {"type": "text", "text": "world"}])), 10),
        (chat(json!([{"type": "image_url", "image_url": {"url": "data:..."}}])), 7),
        (chat(json!(null)), 0),
        (json!({"prompt": "12345678"}), 2),
        (json!({"prompt": "123456789"}), 3),
        (json!({"prompt": "größer\u{4f60}\u{597d}"}), 2),
        (json!({"prompt": ["12345", "1"]}), 3),
        (json!({"prompt": [1, 2, 3]}), 3),
        (json!({"prompt": [[1, 2, 3], [4]]}), 4),
        (json!({"input": "hello world"}), 10),
        (json!({"input": ["hello world", "x"]}), 4),
        (json!({"input": [{"role": "user", "content": "hello world"}]}), 10),
        (json!({"instructions": "be kind", "input": "hello world"}), 20),
        (json!({"system": "be kind", "messages": [{"role": "user", "content": "hello world"}]}), 19),
        (json!({"query": "who"}), 0),
    ] {
        let found = Estimate::of(body.to_string().as_bytes());
        assert_eq!(found, Estimate { input, most_output: None }, "{body}");
    }
    assert_eq!(Estimate::of(b"no JSON at all").input, 4);
}

#[test]
fn the_longest_answers_are_read_from_the_body() {
    for (body, most) in [
        (json!({"max_tokens": 5}), Some(5)),
        (json!({"max_tokens": 5, "max_completion_tokens": 7}), Some(7)),
        (json!({"max_output_tokens": 9}), Some(9)),
        (json!({"max_tokens": 5, "n": 3}), Some(15)),
        (json!({"max_tokens": 4_000_000_000_u32, "n": 3}), Some(u32::MAX)),
        (json!({"max_tokens": null}), None),
    ] {
        assert_eq!(Estimate::of(body.to_string().as_bytes()).most_output, most, "{body}");
    }
}

#[test]
fn tokens_flow_back_by_and_by() {
    let (meter, limits) = (Meter::default(), limits(Some(30), None));
    let take = |at: u64| meter.take(&limits, [0, 10, 0], Duration::from_secs(at));
    assert!((0..3).all(|_| take(0).is_ok()));
    let exceeded = Exceeded { quantity: Quantity::Input, wait: Duration::from_secs(20) };
    assert_eq!(take(0), Err(exceeded));
    assert_eq!(take(10), Err(Exceeded { wait: Duration::from_secs(10), ..exceeded }));
    assert!(take(20).is_ok(), "ten tokens have flowed back");
    let [standing] = meter.standings(&limits, Duration::from_secs(20))[..] else { panic!("one is limited") };
    assert_eq!((standing.left, standing.reset), (0, MINUTE));
    assert!((0..3).all(|_| take(80).is_ok()), "all of them have");
}

#[test]
fn what_was_taken_is_given_back_once() {
    let (meter, limits) = (Meter::default(), limits(Some(100), Some(100)));
    let now = Duration::from_secs(5);
    let left = |now| meter.standings(&limits, now).iter().map(|standing| standing.left).collect::<Vec<_>>();
    let taken = meter.take(&limits, [0, 40, 100], now).unwrap();
    assert_eq!(left(now), [60, 0]);
    assert_eq!(meter.take(&limits, [0, 1, 1], now).map_err(|exceeded| exceeded.quantity), Err(Quantity::Output));
    assert_eq!(left(now), [60, 0], "the other quantity was given back");
    meter.settle(&limits, taken, Charge { input: 50, output: 10, ..Charge::default() }, now);
    assert_eq!(left(now), [50, 90]);
    let taken = meter.take(&limits, [0, 50, 90], now).unwrap();
    meter.settle(&limits, taken, Charge::default(), now + MINUTE);
    assert_eq!(left(now + MINUTE), [100, 100]);
    assert!(meter.take(&limits, [0, 100, 100], now + MINUTE).is_ok());
    assert_eq!(left(now + MINUTE), [0, 0], "what had flowed back was not given back again");
}

#[test]
fn a_request_that_is_larger_than_the_limit_waits_for_a_full_bucket() {
    let (meter, limits) = (Meter::default(), limits(Some(10), None));
    assert!(meter.take(&limits, [0, 25, 0], Duration::ZERO).is_ok());
    let second = meter.take(&limits, [0, 1, 0], Duration::ZERO).unwrap_err();
    assert_eq!(second.wait, Duration::from_secs(96), "15 tokens are owed, and one is asked for");
}

#[test]
fn no_more_requests_are_under_way_than_there_may_be() {
    let meter = Arc::new(Meter::default());
    let (first, second) = (meter.enter(2), meter.enter(2));
    assert!(first.is_some() && second.is_some() && meter.enter(2).is_none());
    drop(first);
    assert!(meter.enter(2).is_some());
    assert!(meter.enter(1).is_none(), "a limit that was made smaller counts who is there");
}

#[test]
fn a_changed_limit_gives_nothing_back() {
    let (meter, now) = (Meter::default(), Duration::ZERO);
    assert!(meter.take(&limits(Some(10), None), [0, 10, 0], now).is_ok());
    for changed in [5, 10, 1000] {
        assert!(meter.take(&limits(Some(changed), None), [0, 1, 0], now).is_err(), "{changed}");
    }
}

#[test]
fn an_answer_is_foreseen_by_what_was_seen_and_what_is_allowed() {
    let (meter, wide, narrow) = (Meter::default(), limits(None, Some(100_000)), limits(None, Some(100)));
    let foresee = |limits, most_output| meter.foresee(limits, Estimate { input: 7, most_output });
    assert_eq!(foresee(&wide, None), [0, 0, 1024], "prompts are not limited");
    assert_eq!(foresee(&wide, Some(32_000)), [0, 0, 32_000]);
    assert_eq!((foresee(&narrow, None), foresee(&narrow, Some(0))), ([0, 0, 100], [0, 0, 1]));
    meter.note_answer(300);
    assert_eq!(
        (foresee(&wide, None), foresee(&wide, Some(32_000)), foresee(&wide, Some(8))),
        ([0, 0, 300], [0, 0, 300], [0, 0, 8])
    );
    (0..1000).for_each(|_| meter.note_answer(10));
    assert!(foresee(&wide, None)[2] < 80, "long ago");
}

#[test]
fn a_request_is_charged_for_the_work_that_it_caused() {
    let usage = Usage { prompt_tokens: 12, completion_tokens: 34 };
    let whole = Work { sent: true, answered: Some(200), whole: true, usage: Some(usage), events: 40 };
    let left = Work { whole: false, usage: None, ..whole };
    for (case, work, requests, input, output) in [
        ("whole", whole, 1, 12, 34),
        ("fewer than was estimated", Work { usage: Some(Usage { prompt_tokens: 3, ..usage }), ..whole }, 1, 10, 34),
        ("without a count", Work { usage: None, ..whole }, 1, 10, 40),
        ("broken off", left, 1, 10, 40),
        (
            "broken off after a first count",
            Work { usage: Some(Usage { completion_tokens: 1, ..usage }), ..left },
            1,
            12,
            40,
        ),
        ("left before the answer", Work { answered: None, events: 0, ..left }, 1, 10, 0),
        ("refused", Work { answered: Some(400), ..whole }, 1, 0, 0),
        ("failed", Work { answered: Some(503), usage: None, ..whole }, 1, 0, 0),
        ("never sent", Work::default(), 0, 0, 0),
    ] {
        assert_eq!(work.charge(10), Charge { requests, input, output }, "{case}");
    }
}

#[test]
fn limits_are_told_as_openai_tells_them() {
    let rate = Rate { amount: 30, unit: MINUTE };
    let standing = Standing { quantity: Quantity::Input, rate, left: 7, reset: Duration::from_millis(46_000) };
    let headers = standing.headers().map(|(name, value)| format!("{name}: {value}"));
    assert_eq!(
        headers,
        [
            "x-ratelimit-limit-input-tokens: 30",
            "x-ratelimit-remaining-input-tokens: 7",
            "x-ratelimit-reset-input-tokens: 46s"
        ]
    );
    for (millis, text) in [(0, "0ms"), (250, "250ms"), (7500, "7.5s"), (60_000, "1m0s"), (3_723_040, "1h2m3.04s")] {
        assert_eq!(span(Duration::from_millis(millis)), text);
    }
    assert_eq!(limit(Quantity::Input, rate), "30 input tokens per minute");
    assert_eq!(limit(Quantity::Requests, rate), "30 requests per minute");
    assert_eq!(concurrent_limit(1), "1 request at a time");
    assert_eq!(limit(Quantity::Output, Rate { amount: 1, unit: MINUTE * 43_200 }), "1 output token per month");
}

#[test]
fn redis_is_asked_for_all_quantities_at_once() {
    let limits = limits(Some(30), Some(100));
    let call = Invocation::take(&limits, None, [0, 10, 100]);
    let plain = KeyNames::default();
    assert_eq!(call.keys(&plain), ["kthena:ratelimit:m:input", "kthena:ratelimit:m:output"]);
    assert_eq!(call.arguments, ["1", "30", "60", "10", "100", "60", "100"]);
    let answer = |texts: &[&str]| call.verdict(&texts.iter().map(ToString::to_string).collect::<Vec<_>>());
    let Verdict { exceeded, standings } = answer(&["2", "20", "99.5"]).unwrap();
    assert_eq!(exceeded, Some(Exceeded { quantity: Quantity::Output, wait: Duration::from_millis(300) }));
    let standing = Standing {
        quantity: Quantity::Input,
        rate: limits.rate(Quantity::Input).unwrap(),
        left: 20,
        reset: MINUTE / 3,
    };
    assert_eq!(standings[0], standing);
    let owing = answer(&["0", "20", "-50"]).unwrap();
    assert_eq!((owing.exceeded, owing.standings[1].left, owing.standings[1].reset), (None, 0, MINUTE * 3 / 2));
    for wrong in [&[][..], &["0"], &["0", "1"], &["3", "1", "1"], &["0", "x", "1"], &["-1", "1", "1"]] {
        assert_eq!(answer(wrong), None, "{wrong:?}");
    }
    let settle = |input, output| Invocation::settle(&limits, None, [0, 10, 100], Charge { requests: 1, input, output });
    let settled = settle(12, 40).unwrap();
    assert_eq!(settled.arguments, ["0", "30", "60", "2", "100", "60", "-60"]);
    assert_eq!(settle(10, 100), None);
    let of_requests = RateLimits { rates: [limits.rate(Quantity::Input), None, None], ..limits.clone() };
    let client = Some(ClientId::of(""));
    let call = Invocation::take(&of_requests, client, [1, 10, 100]);
    assert_eq!(call.keys(&plain), ["kthena:ratelimit:m:requests:e3b0c44298fc1c149afbf4c8996fb924"]);
    let not_sent = Invocation::settle(&of_requests, client, [1, 10, 100], Charge::default()).unwrap();
    assert_eq!((not_sent.keys(&plain), &not_sent.arguments[3]), (call.keys(&plain), &"-1".to_owned()));
}

#[test]
fn the_keys_of_one_call_are_at_one_node_of_a_cluster() {
    let keys = |model: &str, namespace: Option<&str>, client| {
        let plain = limits(Some(30), Some(100));
        let key = LimitKey { model: model.into(), ..plain.key.clone() };
        let names = KeyNames { namespace: namespace.map(str::to_owned), tagged: true };
        Invocation::take(&RateLimits { key, ..plain }, client, [0, 10, 100]).keys(&names)
    };
    let client = "e3b0c44298fc1c149afbf4c8996fb924";
    for (model, namespace, of, expected) in [
        ("m", None, None, "kthena:ratelimit:{m}:"),
        ("m", Some("east"), None, "east:kthena:ratelimit:{m}:"),
        ("m", None, Some(ClientId::of("")), &format!("kthena:ratelimit:{{m:{client}}}:")),
        ("}{x}", None, None, "kthena:ratelimit:{%7D{x%7D}:"),
    ] {
        let keys = keys(model, namespace, of);
        assert_eq!(keys, [format!("{expected}input"), format!("{expected}output")], "{model}");
        // Redis: what is between the first `{` and the first `}` after it.
        let tag = |key: &str| key.split_once('{').and_then(|(_, rest)| rest.split_once('}')).unwrap().0.to_owned();
        assert!(!tag(&keys[0]).is_empty() && tag(&keys[0]) == tag(&keys[1]), "{keys:?}");
    }
}

proptest! {
    /// Whatever is asked for and used, and however requests overlap: no more than the limit and what has flowed back is
    /// used, and in the end nothing is kept.
    #[test]
    fn no_more_is_used_than_there_is_and_nothing_leaks(
        tokens in 1_u32..10_000,
        requests in prop::collection::vec((0_u64..30_000, 0_u32..20_000, 0_u32..=100, 0_usize..4), 1..60),
    ) {
        let (meter, limits) = (Meter::default(), limits(None, Some(tokens)));
        let (mut now, mut used, mut open) = (Duration::ZERO, 0_u64, Vec::new());
        for (pause, asked, percent, stays) in requests {
            now += Duration::from_millis(pause);
            let asked = asked.clamp(1, tokens);
            if let Ok(taken) = meter.take(&limits, [0, 0, asked], now) {
                open.push((taken, u64::from(asked * percent / 100)));
            }
            while open.len() > stays {
                let (taken, output) = open.remove(0);
                meter.settle(&limits, taken, Charge { output, ..Charge::default() }, now);
                used += output;
            }
            let bound = f64::from(tokens) * (1.0 + now.as_secs_f64() / 60.0);
            prop_assert!(used as f64 <= bound + 1.0, "{used} of {bound}");
        }
        for (taken, _) in open {
            meter.settle(&limits, taken, Charge::default(), now);
        }
        let whole = meter.standings(&limits, now)[0].reset;
        prop_assert!(whole <= Duration::from_nanos(limits.rate(Quantity::Output).unwrap().span(used)), "{whole:?} for {used}");
        prop_assert_eq!(meter.standings(&limits, now + MINUTE)[0].left, tokens);
    }
}
