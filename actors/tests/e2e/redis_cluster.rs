//! Limits that routers count together in a Redis Cluster of three nodes, each with a third of the slots.

use futures::future::join_all;
use redis::aio::MultiplexedConnection;
use redis::{AsyncCommands, FromRedisValue, ToRedisArgs};
use tempfile::TempDir;

use crate::harness::{Answer, Harness, Network, free_port, route_with, until};
use crate::rate_limits::{answering, hello, limited, router, says_unavailable, send};
use crate::redis_server::{Redis, certificate};

const SLOTS: [(u16, u16); 3] = [(0, 5460), (5461, 10_922), (10_923, 16_383)];
const LEFT: &str = "x-ratelimit-remaining-input-tokens";

pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Node>,
    /// What its nodes know of each other.
    _files: TempDir,
}

pub(crate) struct Node {
    pub(crate) redis: Redis,
    connection: MultiplexedConnection,
    options: Vec<String>,
    bus: u16,
    id: String,
}

impl Node {
    async fn start(files: &TempDir, number: usize, more: &[&str]) -> Self {
        let bus = free_port(std::net::Ipv4Addr::LOCALHOST.into());
        let config = files.path().join(format!("nodes-{number}.conf"));
        let own =
            ["--cluster-enabled", "yes", "--cluster-require-full-coverage", "no", "--cluster-node-timeout", "1000"];
        let mut options: Vec<_> = own.iter().chain(more).map(ToString::to_string).collect();
        options.extend(["--cluster-announce-ip", "127.0.0.1", "--cluster-config-file"].map(str::to_owned));
        options.extend([config.to_str().unwrap().to_owned(), "--cluster-port".to_owned(), bus.to_string()]);
        let (redis, connection) = Redis::start_with(&texts(&options)).await;
        let mut node = Self { redis, connection, options, bus, id: String::new() };
        node.id = node.ask(&["MYID"]).await;
        node
    }

    /// Runs a command that is about the cluster.
    async fn ask<T: FromRedisValue>(&self, arguments: &[impl ToRedisArgs]) -> T {
        redis::cmd("CLUSTER").arg(arguments).query_async(&mut self.connection.clone()).await.unwrap()
    }

    fn ends(&mut self) {
        self.redis.server.kill().unwrap();
        self.redis.server.wait().unwrap();
    }

    async fn begins_again(&mut self) {
        (self.redis.server, self.connection) = Redis::serve(self.redis.port, &texts(&self.options)).await;
    }
}

impl Cluster {
    /// Starts one; `more` are further options of each of its nodes.
    pub(crate) async fn start(more: [&[&str]; 3]) -> Self {
        let files = tempfile::tempdir().unwrap();
        let mut nodes = Vec::new();
        for (number, ((first, last), more)) in SLOTS.into_iter().zip(more).enumerate() {
            let node = Node::start(&files, number, more).await;
            node.ask::<()>(&["ADDSLOTSRANGE".to_owned(), first.to_string(), last.to_string()]).await;
            node.ask::<()>(&["SET-CONFIG-EPOCH".to_owned(), (number + 1).to_string()]).await;
            nodes.push(node);
        }
        let cluster = Self { nodes, _files: files };
        for node in &cluster.nodes[1..] {
            let place = ["127.0.0.1".to_owned(), node.redis.port.to_string(), node.bus.to_string()];
            cluster.nodes[0].ask::<()>(&[&["MEET".to_owned()][..], &place].concat()).await;
        }
        let knows_all = async |node: &Node| {
            let info: String = node.ask(&["INFO"]).await;
            info.contains("cluster_state:ok") && info.contains("cluster_slots_assigned:16384")
        };
        until("all nodes know all slots", async || {
            join_all(cluster.nodes.iter().map(knows_all)).await.into_iter().all(|knows| knows)
        })
        .await;
        cluster
    }

    fn address(&self) -> String {
        format!("redis+cluster://127.0.0.1:{}", self.nodes[0].redis.port)
    }

    /// Returns the slot of a model's counts, and the place of its node.
    async fn place(&self, model: &str) -> (u16, usize) {
        let slot = self.nodes[0].ask(&["KEYSLOT", &key(model, "input")]).await;
        (slot, SLOTS.iter().position(|(first, last)| (*first..=*last).contains(&slot)).unwrap())
    }

    /// Returns the name of a model that is counted at this node.
    async fn model_at(&self, node: usize) -> String {
        let mut number = 0;
        loop {
            let model = format!("m{number}");
            if self.place(&model).await.1 == node {
                return model;
            }
            number += 1;
        }
    }
}

fn texts(options: &[String]) -> Vec<&str> {
    options.iter().map(String::as_str).collect()
}

fn key(model: &str, quantity: &str) -> String {
    format!("kthena:ratelimit:{{{model}}}:{quantity}")
}

fn limit(input: u32, unit: &str, address: &str) -> String {
    format!(
        "{{inputTokensPerUnit: {input}, outputTokensPerUnit: 1000000, unit: {unit}, global: {{redis: {{address: \"{address}\"}}}}}}"
    )
}

async fn unchecked(harness: &Harness) -> f64 {
    harness.metric("kthena_router_rate_limit_unchecked_total", &[]).await
}

/// Sends requests, none of which may get lost, until one was counted; returns how many there were.
async fn send_until_counted(harness: &Harness, model: &str) -> f64 {
    let sent = std::cell::Cell::new(0.0);
    harness
        .until("a request was counted", async || {
            sent.set(sent.get() + 1.0);
            let answer = send(harness, &hello(model)).await;
            assert_eq!(answer.status, 200, "{}", answer.text());
            answer.header(LEFT).is_some()
        })
        .await;
    sent.get()
}

#[actix_web::test]
async fn routers_count_together_in_a_cluster() {
    let cluster = Cluster::start([&[]; 3]).await;
    let limit = limit(100, "hour", &cluster.address());
    let routers = [router(&limit).await, router(&limit).await];
    let body = hello("m");
    let mut answers: Vec<Answer> = Vec::new();
    for (harness, _) in &routers {
        answers.extend(join_all((0..20).map(|_| send(harness, &body))).await);
    }
    let served = answers.iter().filter(|answer| answer.status == 200).count();
    // On a busy machine Redis is late for some, which are let through.
    let late = unchecked(&routers[0].0).await + unchecked(&routers[1].0).await;
    assert!(served as f64 <= 10.0 + late, "{served} of ten tokens each, {late} of them unchecked");
    assert!(answers.iter().all(|answer| [200, 429].contains(&answer.status)));
    routers[0].0.until("one is refused", async || send(&routers[0].0, &hello("m")).await.status == 429).await;
    let mut node = cluster.nodes[cluster.place("m").await.1].connection.clone();
    let tokens: f64 = node.hget(key("m", "input"), "tokens").await.unwrap();
    assert!(tokens < 10.0, "{tokens} are left");
}

#[actix_web::test]
async fn no_request_gets_lost_while_a_slot_moves_to_another_node() {
    let cluster = Cluster::start([&[]; 3]).await;
    let (slot, owner) = cluster.place("m").await;
    let (from, to) = (&cluster.nodes[owner], &cluster.nodes[(owner + 1) % 3]);
    let limit = limit(1_000_000, "month", &cluster.address());
    let routers = [router(&limit).await, router(&limit).await];
    let sent = std::cell::Cell::new(0.0);
    let both_count = async || {
        for (harness, _) in &routers {
            sent.set(sent.get() + send_until_counted(harness, "m").await);
        }
    };
    let move_keys = async |quantities: &[&str]| {
        let mut migrate = redis::cmd("MIGRATE");
        migrate.arg("127.0.0.1").arg(to.redis.port).arg("").arg(0).arg(5000).arg("KEYS");
        for quantity in quantities {
            migrate.arg(key("m", quantity));
        }
        migrate.exec_async(&mut from.connection.clone()).await.unwrap();
    };
    let set_slot = async |node: &Node, state: &str, of: &Node| {
        node.ask::<()>(&["SETSLOT", &slot.to_string(), state, &of.id]).await;
    };
    both_count().await;
    set_slot(to, "IMPORTING", from).await;
    set_slot(from, "MIGRATING", to).await;
    both_count().await;
    move_keys(&["input"]).await;
    for (harness, _) in &routers {
        assert_eq!(send(harness, &hello("m")).await.status, 200, "no node has all keys");
        sent.set(sent.get() + 1.0);
    }
    move_keys(&["output"]).await;
    both_count().await;
    for node in [to, from, &cluster.nodes[(owner + 2) % 3]] {
        set_slot(node, "NODE", to).await;
    }
    both_count().await;
    let tokens: f64 = to.connection.clone().hget(key("m", "input"), "tokens").await.unwrap();
    let (used, sent) = (1_000_000.0 - tokens, sent.get());
    let counted = sent - unchecked(&routers[0].0).await - unchecked(&routers[1].0).await;
    // Those that Redis was late for may have been counted there, and a few tokens have flowed back.
    assert!((10.0 * counted - 50.0..=10.0 * sent).contains(&used), "{used} tokens for {counted} of {sent} requests");
}

#[actix_web::test]
async fn no_request_gets_lost_when_a_node_ends() {
    let mut cluster = Cluster::start([&[]; 3]).await;
    let (kept, lost) = (cluster.model_at(1).await, cluster.model_at(2).await);
    let network = Network::new();
    let _engine = network.engine_with(10, answering(10)).await;
    network.model_server("s", "m", &[10]);
    let route = |model: &str| {
        let limit = limit(1_000_000, "month", &cluster.address());
        let serves = format!("modelName: {model}\n  rateLimit: {limit}");
        route_with(model, &serves, "default", "- targetModels: [{modelServerName: s}]")
    };
    network.write("route.yaml", &(route(&kept) + &route(&lost)));
    let harness = network.start(&[]).await;
    for model in [&kept, &lost] {
        send_until_counted(&harness, model).await;
    }
    cluster.nodes[2].ends();
    let answer = send(&harness, &hello(&lost)).await;
    assert_eq!((answer.status, answer.header(LEFT)), (200, None), "a limit that cannot be checked lets through");
    assert!(unchecked(&harness).await >= 1.0);
    harness.until("the routes say so", async || says_unavailable(&harness).await).await;
    send_until_counted(&harness, &kept).await;
    cluster.nodes[2].begins_again().await;
    send_until_counted(&harness, &lost).await;
    harness.until("the routes say so no more", async || !says_unavailable(&harness).await).await;
}

/// The router's own Redis is a cluster that lets in only who speaks TLS and is a user of its own.
#[actix_web::test]
async fn a_cluster_may_want_tls_and_a_user() {
    let (_files, [certificate, secret]) = certificate();
    let ports = [(); 3].map(|()| free_port(std::net::Ipv4Addr::LOCALHOST.into()).to_string());
    let options = ports.each_ref().map(|port| {
        let mut options = vec!["--tls-port", port, "--tls-cert-file", &certificate, "--tls-key-file", &secret];
        options.extend(["--tls-ca-cert-file", &certificate, "--tls-auth-clients", "no", "--tls-cluster", "yes"]);
        options.extend(["--user", "limits", "on", ">secret", "~*kthena:ratelimit:*", "+evalsha", "+eval", "+hmget"]);
        options.extend(["+hset", "+expire", "+time", "+ping", "+asking", "+cluster|slots", "+cluster|info"]);
        options
    });
    let cluster = Cluster::start(options.each_ref().map(Vec::as_slice)).await;
    let network = Network::new();
    let engine = network.engine_with(10, answering(10)).await;
    network.model_server("s", "m", &[10]);
    network.write("route.yaml", &limited("m", &limit(1_000_000, "month", &format!("127.0.0.1:{}", ports[0]))));
    let (own, authorities) = (format!("--redis-port={}", ports[0]), format!("--redis-ca-file={certificate}"));
    let user = ["--redis-host=127.0.0.1", "--redis-username=limits", "--redis-password=secret"];
    let harness = network.start(&[&user[..], &["--redis-cluster", "--redis-tls", &own, &authorities]].concat()).await;
    send_until_counted(&harness, "m").await;
    harness.until("it answers the watch as well", async || !says_unavailable(&harness).await).await;
    assert!(engine.requests() >= 1);
    let mut node = cluster.nodes[cluster.place("m").await.1].connection.clone();
    assert!(node.exists::<_, bool>(key("m", "input")).await.unwrap());
}
