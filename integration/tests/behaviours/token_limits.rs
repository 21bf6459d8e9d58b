//! Three replicas of the router count the tokens of one ModelRoute together, in a Redis of the cluster.

use anyhow::{Context, Result, ensure};
use kthena_router_integration::cluster::{condition, text};
use kthena_router_integration::kinds::{MODEL_ROUTE, POD};
use kthena_router_integration::objects::{Engines, model_route};
use kthena_router_integration::rig::Rig;
use kthena_router_integration::router::DEFAULT_GATEWAY;
use kthena_router_integration::sandbox::Sandbox;
use kthena_router_integration::wait::eventually;
use serde_json::{Value, json};

/// Tokens of the prompt that clients send here.
const PROMPT: u64 = 5;
/// Tokens of all prompts in an hour.
const LIMIT: u64 = 100;

pub(crate) async fn replicas_share_a_limit_in_redis_and_serve_without_it(rig: &Rig) -> Result<()> {
    let sandbox = rig.sandbox("limits").await?;
    sandbox.engines(&[Engines::one("a")]).await?;
    rig.router.scale(3).await?;
    let redis = start_redis(rig, &sandbox).await?;
    let model = limited(rig, &sandbox, "limited", &redis).await?;
    // Another model of the same engines: the router has the routes, and nothing of the limit is used.
    let free = sandbox.route("free", "a").await?;
    sandbox.serves(&free, "a").await?;

    let routers = rig.router.all_pods().await?;
    ensure!(routers.len() == 3, "{} routers", routers.len());
    let mut answers = Vec::new();
    for router in &routers {
        let base = format!("http://{}:8080", text(router, "/status/podIP"));
        eventually("each router has the route", async || rig.http.ensure_answer(&base, &free, "a").await).await?;
        for _ in 0..12 {
            answers.push(rig.http.complete(&base, &model).await?);
        }
    }
    let served = answers.iter().filter(|answer| answer.status == 200).count() as u64;
    rig.note(format!("{served} of {} requests served by three routers, {} allowed", answers.len(), LIMIT / PROMPT));
    ensure!(served == LIMIT / PROMPT, "{served} requests of {PROMPT} tokens were served under a limit of {LIMIT}");
    let refused = answers.last().context("an answer")?;
    ensure!(refused.status == 429 && refused.text().contains("rate limit"), "{}", refused.said());

    rig.cluster.delete_at_once(POD, &sandbox.namespace, "redis").await?;
    let base = rig.base().await?;
    for _ in 0..5 {
        let answer = rig.http.complete(&base, &model).await?;
        ensure!(answer.status == 200, "a limit that nobody counts refuses: {}", answer.said());
    }
    let reason = eventually("the route says so", async || {
        let route = sandbox.get(MODEL_ROUTE, "limited").await?;
        let told = condition(&route["status"], "UnservedFields").context("no condition")?;
        Ok(text(told, "/reason").to_owned())
    });
    ensure!(reason.await? == "RedisUnavailable");
    Ok(())
}

/// Starts a Redis, and returns its address.
async fn start_redis(rig: &Rig, sandbox: &Sandbox<'_>) -> Result<String> {
    let arguments = ["--bind", "0.0.0.0", "--protected-mode", "no", "--save", "", "--appendonly", "no"];
    rig.cluster
        .create(&json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "redis", "namespace": sandbox.namespace, "labels": {"app": "redis"}},
            "spec": {
                "automountServiceAccountToken": false,
                "containers": [{"name": "redis", "image": "redis", "args": arguments}],
            },
        }))
        .await?;
    let address = eventually("redis runs", async || {
        let pods = sandbox.ready_pods("redis").await?;
        let pod = pods.first().context("it is not ready")?;
        Ok(text(pod, "/status/podIP").to_owned())
    });
    Ok(format!("{}:6379", address.await?))
}

/// Makes a route to the engines whose tokens are counted in Redis, and returns its model.
async fn limited(rig: &Rig, sandbox: &Sandbox<'_>, name: &str, redis: &str) -> Result<String> {
    let model = sandbox.model(name);
    let mut route: Value = model_route(&sandbox.namespace, name, &model, DEFAULT_GATEWAY, "a");
    route["spec"]["rateLimit"] =
        json!({"inputTokensPerUnit": LIMIT, "unit": "hour", "global": {"redis": {"address": redis}}});
    rig.cluster.apply(&route).await?;
    Ok(model)
}
