//! Limits on the tokens of a ModelRoute: counted by each router, or by all of them in Redis.

use std::cell::Cell;
use std::time::Duration;

use futures::StreamExt;
use futures::future::join_all;
use redis::AsyncCommands;
use serde_json::{Value, json};
use simulated_engine::{Engine, EngineConfig};

use crate::harness::{Answer, Harness, Network, PORT, free_port, read, route_with};
use crate::redis_server::{Redis, certificate};

/// A router with one engine, whose answers have ten tokens, and the route `m` with this limit, as YAML.
pub(crate) async fn router(limit: &str) -> (Harness, Engine) {
    let network = Network::new();
    let engine = network.engine_with(10, answering(10)).await;
    network.model_server("s", "m", &[10]);
    network.write("route.yaml", &limited("m", limit));
    (network.start(&[]).await, engine)
}

pub(crate) fn answering(output_tokens: u64) -> EngineConfig {
    EngineConfig { output_tokens: Some(output_tokens), loras: vec!["adapter".to_owned()], ..EngineConfig::new("m") }
}

/// A route of the model and of an adapter; the same limit is its own.
pub(crate) fn limited(model: &str, limit: &str) -> String {
    let serves = format!("modelName: {model}\n  loraAdapters: [adapter]\n  rateLimit: {limit}");
    route_with("r", &serves, "default", "- targetModels: [{modelServerName: s}]")
}

/// Ten tokens, as the router and the Go router estimate them.
pub(crate) fn hello(model: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": "hello world"}], "max_tokens": 10})
}

pub(crate) async fn send(harness: &Harness, body: &Value) -> Answer {
    read(harness.post_to(PORT, "/v1/chat/completions").send_body(body.to_string()).await.unwrap()).await
}

pub(crate) fn number(answer: &Answer, header: &str) -> u64 {
    answer.header(header).unwrap_or_else(|| panic!("{header} in {answer:?}")).parse().unwrap()
}

#[actix_web::test]
async fn what_is_more_than_the_limit_is_refused_before_it_is_sent() {
    let (harness, engine) = router("{inputTokensPerUnit: 30, unit: hour}").await;
    for left in [20, 10, 0] {
        let answer = send(&harness, &hello("m")).await;
        assert_eq!(answer.status, 200);
        assert_eq!(number(&answer, "x-ratelimit-limit-input-tokens"), 30);
        assert_eq!(number(&answer, "x-ratelimit-remaining-input-tokens"), left);
    }
    let refused = send(&harness, &hello("m")).await;
    let error = &refused.json()["error"];
    assert_eq!(
        (refused.status, &error["type"], &error["code"]),
        (429, &json!("rate_limit_error"), &json!("rate_limit_exceeded"))
    );
    assert!(
        error["message"].as_str().unwrap().contains("rate limit exceeded: the model `m` has 30 input tokens per hour"),
        "{error}"
    );
    let wait = number(&refused, "retry-after");
    assert!((1100..=1200).contains(&wait), "a third of an hour, not {wait} s");
    assert_eq!(send(&harness, &hello("adapter")).await.status, 429, "an adapter is limited with its route");
    assert_eq!(engine.requests(), 3);

    // A changed limit gives nothing back; a route without limit is free.
    for more in
        ["{inputTokensPerUnit: 29, unit: hour}", "{inputTokensPerUnit: 31, outputTokensPerUnit: 1000, unit: hour}"]
    {
        let generation = harness.registry().await.generation;
        harness.write("route.yaml", &limited("m", more));
        harness.until("the change is planned", async || harness.registry().await.generation > generation).await;
        assert_eq!(send(&harness, &hello("m")).await.status, 429, "{more}");
    }
    harness.write("route.yaml", &limited("m", "{unit: hour}"));
    harness.until("the limit is gone", async || send(&harness, &hello("m")).await.status == 200).await;
    let exceeded = harness.metric("kthena_router_rate_limit_exceeded_total", &["model=\"m\""]).await;
    assert_eq!(exceeded, 0.0, "a series ends with its limit");
}

#[actix_web::test]
async fn refusals_are_counted_and_logged() {
    let (harness, _engine) = router("{inputTokensPerUnit: 10, unit: hour}").await;
    assert_eq!(send(&harness, &hello("m")).await.status, 200);
    for _ in 0..3 {
        assert_eq!(send(&harness, &hello("m")).await.status, 429);
    }
    let labels = ["model=\"m\"", "limit_type=\"input_tokens\"", "path=\"/v1/chat/completions\""];
    assert_eq!(harness.metric("kthena_router_rate_limit_exceeded_total", &labels).await, 3.0);
    let log = harness.logged("rate_limit_exceeded").await;
    assert!(log.contains("429"), "{log}");
}

#[actix_web::test]
async fn requests_at_the_same_time_take_no_more_than_there_is() {
    let (harness, engine) = router("{outputTokensPerUnit: 100, unit: hour}").await;
    let body = hello("m");
    let answers = join_all((0..200).map(|_| send(&harness, &body))).await;
    let served = answers.iter().filter(|answer| answer.status == 200).count();
    assert!((1..=10).contains(&served), "{served} answers of ten tokens each");
    assert_eq!(engine.requests(), served as u64);
    assert!(answers.iter().all(|answer| [200, 429].contains(&answer.status)));
}

#[actix_web::test]
async fn a_client_that_leaves_pays_for_what_it_saw() {
    let network = Network::new();
    let pace = Duration::from_millis(5);
    let _engine = network.engine_with(10, EngineConfig { time_per_output_token: pace, ..answering(1000) }).await;
    network.model_server("s", "m", &[10]);
    network.write("route.yaml", &limited("m", "{inputTokensPerUnit: 1000, outputTokensPerUnit: 1000, unit: hour}"));
    let harness = network.start(&[]).await;
    let mut body = hello("m");
    (body["stream"], body["max_tokens"]) = (json!(true), json!(1000));
    let mut answer = harness.post_to(PORT, "/v1/chat/completions").send_body(body.to_string()).await.unwrap();
    assert_eq!(answer.headers().get("x-ratelimit-remaining-output-tokens").unwrap(), "0");
    let mut seen = 0;
    while seen < 10 {
        let piece = answer.next().await.unwrap().unwrap();
        seen += piece.windows(2).filter(|pair| pair == b"\n\n").count();
    }
    drop(answer);
    let (short, mut charged) = (hello("m"), None);
    harness
        .until("the rest is given back", async || {
            let answer = send(&harness, &short).await;
            answer.status == 200
        })
        .await;
    let answer = send(&harness, &short).await;
    charged.replace(1000 - number(&answer, "x-ratelimit-remaining-output-tokens"));
    let charged = charged.unwrap();
    assert!((10..300).contains(&charged), "{charged} tokens for about {seen} and two short answers that have ten");
}

#[actix_web::test]
async fn work_that_was_not_done_is_not_charged_and_other_work_once() {
    let network = Network::new();
    let engines = [network.engine_with(10, answering(10)).await, network.engine_with(11, answering(10)).await];
    network.model_server("s", "m", &[10, 11]);
    network
        .write("route.yaml", &limited("m", "{inputTokensPerUnit: 100000, outputTokensPerUnit: 100000, unit: month}"));
    let harness = network.start(&[]).await;
    let left =
        |answer: &Answer| ["input", "output"].map(|way| number(answer, &format!("x-ratelimit-remaining-{way}-tokens")));
    let fail = |status| {
        for engine in &engines {
            engine.faults().set_error_status(status).unwrap();
            engine.faults().set_error_rate(1.0).unwrap();
        }
    };
    for status in [400, 503] {
        fail(status);
        for _ in 0..5 {
            assert_eq!(send(&harness, &hello("m")).await.status, status);
        }
    }
    engines.iter().for_each(|engine| engine.faults().clear());
    let answer = send(&harness, &hello("m")).await;
    assert_eq!(left(&answer), [99_990, 99_990], "this one alone has taken");

    // One of two endpoints fails: a request that is sent twice is charged once.
    engines[0].faults().set_error_status(503).unwrap();
    engines[0].faults().set_error_rate(1.0).unwrap();
    let (before, served) = (engines[0].requests(), Cell::new(1));
    harness
        .until("a request was sent twice", async || {
            served.set(served.get() + 1);
            assert_eq!(send(&harness, &hello("m")).await.status, 200);
            engines[0].requests() > before
        })
        .await;
    let charged = 10 * (served.get() + 1);
    assert_eq!(left(&send(&harness, &hello("m")).await), [100_000 - charged; 2], "after {} answers", served.get());
    harness.write("server-s.yaml", "# nothing\n");
    harness.until("nobody is there", async || send(&harness, &hello("m")).await.status >= 500).await;
}

#[actix_web::test]
async fn routers_count_together_in_redis_and_go_on_without_it() {
    let (mut redis, mut connection) = Redis::start().await;
    let limit = format!(
        "{{inputTokensPerUnit: 100, outputTokensPerUnit: 1000, unit: hour, global: {{redis: {{address: \"127.0.0.1:{}\"}}}}}}",
        redis.port
    );
    let routers = [router(&limit).await, router(&limit).await, router(&limit).await];
    let body = hello("m");
    let mut answers = Vec::new();
    for (harness, _) in &routers {
        answers.extend(join_all((0..20).map(|_| send(harness, &body))).await);
    }
    let served = answers.iter().filter(|answer| answer.status == 200).count();
    let mut unchecked = 0.0;
    for (harness, _) in &routers {
        unchecked += harness.metric("kthena_router_rate_limit_unchecked_total", &["model=\"m\""]).await;
    }
    // On a busy machine Redis is late for some, which are let through.
    assert!(served as f64 <= 10.0 + unchecked, "{served} of ten tokens each, {unchecked} of them unchecked");
    assert!(answers.iter().any(|answer| answer.status == 429 && answer.text().contains("rate limit")));
    let tokens: f64 = connection.hget("kthena:ratelimit:m:input", "tokens").await.unwrap();
    assert!(tokens < 10.0, "{tokens} are left");
    let expires: i64 = connection.ttl("kthena:ratelimit:m:output").await.unwrap();
    assert!((10_000..=10_800).contains(&expires), "three units, not {expires} s");

    redis.server.kill().unwrap();
    redis.server.wait().unwrap();
    let (harness, _engine) = &routers[0];
    assert_eq!(send(harness, &body).await.status, 200, "a limit that cannot be checked lets through");
    assert!(harness.metric("kthena_router_rate_limit_unchecked_total", &["model=\"m\""]).await >= 1.0);
    harness.until("the route says so", async || says_unavailable(harness).await).await;
    let (server, mut connection) = Redis::start_on(redis.port).await;
    redis.server = server;
    connection
        .hset_multiple::<_, _, _, ()>("kthena:ratelimit:m:input", &[("tokens", "0"), ("last_update", "99999999999")])
        .await
        .unwrap();
    harness.until("it is checked again", async || send(harness, &body).await.status == 429).await;
    harness.until("the route says so", async || !says_unavailable(harness).await).await;
    // What is there in another type is an error of Redis, and no refusal.
    connection.del::<_, ()>("kthena:ratelimit:m:input").await.unwrap();
    connection.set::<_, _, ()>("kthena:ratelimit:m:input", "text").await.unwrap();
    assert_eq!(send(harness, &body).await.status, 200);
}

pub(crate) async fn says_unavailable(harness: &Harness) -> bool {
    harness.dump("modelroutes").await.text().contains("RedisUnavailable")
}

#[actix_web::test]
async fn a_redis_that_is_not_there_limits_nobody() {
    let (harness, engine) =
        router("{inputTokensPerUnit: 1, unit: hour, global: {redis: {address: \"nowhere.invalid:6379\"}}}").await;
    harness.until("the route says so before a request", async || says_unavailable(&harness).await).await;
    for _ in 0..5 {
        assert_eq!(send(&harness, &hello("m")).await.status, 200);
    }
    assert_eq!(engine.requests(), 5);
    assert_eq!(harness.metric("kthena_router_rate_limit_unchecked_total", &["model=\"m\""]).await, 5.0);
}

#[actix_web::test]
async fn requests_are_counted_whatever_becomes_of_them() {
    let (harness, engine) = router("{requestsPerUnit: 3, unit: hour}").await;
    let answer = send(&harness, &hello("m")).await;
    assert_eq!((answer.status, number(&answer, "x-ratelimit-remaining-requests")), (200, 2));
    engine.faults().set_error_status(400).unwrap();
    engine.faults().set_error_rate(1.0).unwrap();
    assert_eq!(send(&harness, &hello("m")).await.status, 400);
    engine.faults().clear();
    let answer = send(&harness, &hello("m")).await;
    assert_eq!((answer.status, number(&answer, "x-ratelimit-remaining-requests")), (200, 0), "a refused one counts");
    let refused = send(&harness, &hello("m")).await;
    assert!(refused.text().contains("has 3 requests per hour"), "{}", refused.text());
    assert_eq!((refused.status, number(&refused, "x-ratelimit-limit-requests")), (429, 3));
    let labels = ["model=\"m\"", "limit_type=\"requests\""];
    assert_eq!(harness.metric("kthena_router_rate_limit_exceeded_total", &labels).await, 1.0);
}

#[actix_web::test]
async fn so_many_requests_are_under_way_at_a_time() {
    let network = Network::new();
    let engine = network.engine_with(10, EngineConfig { time_to_first_token: Duration::from_mins(5), ..answering(10) });
    let engine = engine.await;
    network.model_server("s", "m", &[10]);
    network.write("route.yaml", &limited("m", "{concurrentRequests: 2}"));
    let harness = network.start(&[]).await;
    let (harness_ref, body) = (&harness, hello("m"));
    let mut open: Vec<_> = (0..2).map(|_| Box::pin(send(harness_ref, &body))).collect();
    let served = harness.until("two are under way", async || engine.requests() == 2);
    futures::future::select(join_all(&mut open), Box::pin(served)).await;
    let refused = send(&harness, &body).await;
    assert!(refused.text().contains("has 2 requests at a time"), "{}", refused.text());
    assert_eq!((refused.status, refused.header("retry-after")), (429, Some("1")));
    let labels = ["limit_type=\"concurrent_requests\""];
    assert_eq!(harness.metric("kthena_router_rate_limit_exceeded_total", &labels).await, 1.0);
    // A client that leaves makes room.
    open.pop();
    let mut third = Box::pin(send(&harness, &body));
    let let_in = harness.until("a third one is served", async || engine.requests() == 3);
    futures::future::select(&mut third, Box::pin(let_in)).await;
    assert_eq!(engine.requests(), 3);
}

#[actix_web::test]
async fn each_client_has_limits_of_its_own() {
    let sources = "[{type: Header, name: authorization}, {type: Header, name: x-api-key}]";
    let limit = format!("{{requestsPerUnit: 2, unit: hour, perClient: {{sources: {sources}}}}}");
    let (harness, engine) = router(&limit).await;
    let ask = async |name: &str, key: &str| {
        let request = harness.post_to(PORT, "/v1/chat/completions").insert_header((name, key));
        read(request.send_body(hello("m").to_string()).await.unwrap()).await.status
    };
    for (name, key) in
        [("authorization", "Bearer a"), ("authorization", "Bearer b"), ("x-api-key", "a"), ("x-other", "")]
    {
        let statuses = [ask(name, key).await, ask(name, key).await, ask(name, key).await];
        assert_eq!(statuses, [200, 200, 429], "{name}: {key}");
    }
    assert_eq!(engine.requests(), 8);
}

#[actix_web::test]
async fn clients_are_counted_together_in_redis_without_their_keys() {
    let (redis, mut connection) = Redis::start().await;
    let limit = format!(
        "{{requestsPerUnit: 2, unit: hour, perClient: {{sources: [{{type: Header, name: x-user}}]}}, \
         global: {{redis: {{address: \"127.0.0.1:{}\"}}}}}}",
        redis.port
    );
    let routers = [router(&limit).await, router(&limit).await];
    let ask = async |router: usize, user: &str| {
        let request = routers[router].0.post_to(PORT, "/v1/chat/completions").insert_header(("x-user", user));
        read(request.send_body(hello("m").to_string()).await.unwrap()).await.status
    };
    // The first question to Redis may come too late on a busy machine, and lets its request through.
    for router in [0, 1] {
        routers[router].0.until("redis is asked", async || ask(router, "first").await == 429).await;
    }
    for user in ["a", "b"] {
        assert_eq!(
            [ask(0, user).await, ask(1, user).await, ask(0, user).await, ask(1, user).await],
            [200, 200, 429, 429]
        );
    }
    let keys: Vec<String> = connection.keys("kthena:ratelimit:m:requests:*").await.unwrap();
    assert_eq!(keys.len(), 3, "{keys:?}");
    assert!(keys.iter().all(|key| key.len() == "kthena:ratelimit:m:requests:".len() + 32), "{keys:?}");
}

/// Two clusters share a Redis that lets in only who speaks TLS and is a user of its own.
#[actix_web::test]
async fn routers_of_two_clusters_count_apart_in_a_redis_that_wants_tls_and_a_user() {
    let (_files, [certificate, key]) = certificate();
    let tls_port = free_port(std::net::Ipv4Addr::LOCALHOST.into());
    let port = tls_port.to_string();
    let tls =
        ["--tls-port", &port, "--tls-cert-file", &certificate, "--tls-key-file", &key, "--tls-auth-clients", "no"];
    let mut user = vec!["--user", "limits", "on", ">secret", "~*kthena:ratelimit:*"];
    user.extend(["+evalsha", "+eval", "+hmget", "+hset", "+expire", "+time", "+ping"]);
    let (_redis, mut connection) = Redis::start_with(&[&tls[..], &user].concat()).await;
    let limit = format!(
        "{{requestsPerUnit: 2, unit: hour, global: {{redis: {{address: \"rediss://127.0.0.1:{tls_port}\"}}}}}}"
    );
    let (own, authorities) = (format!("--redis-port={tls_port}"), format!("--redis-ca-file={certificate}"));
    let mut counted = Vec::new();
    for cluster in ["east", "west"] {
        let network = Network::new();
        let engine = network.engine_with(10, answering(10)).await;
        network.model_server("s", "m", &[10]);
        network.write("route.yaml", &limited("m", &limit));
        let namespace = format!("--redis-key-namespace={cluster}");
        let user = ["--redis-host=127.0.0.1", "--redis-username=limits", "--redis-password=secret"];
        let harness = network.start(&[&user[..], &[&own, &authorities, &namespace]].concat()).await;
        // The first question to Redis may come too late on a busy machine, and lets its request through.
        harness.until("redis is asked", async || send(&harness, &hello("m")).await.status == 429).await;
        assert!(engine.requests() >= 2, "{cluster}: one cluster's requests do not count in the other");
        let key = format!("{cluster}:kthena:ratelimit:m:requests");
        counted.push(connection.hget::<_, _, f64>(&key, "tokens").await.unwrap() < 1.0);
    }
    assert_eq!(counted, [true, true]);
    let others: Vec<String> = connection.keys("kthena:*").await.unwrap();
    assert!(others.is_empty(), "{others:?}");
}
