//! A Pod is deleted while a stream comes from it: the stream ends as streams do, or visibly breaks off; nobody else is
//! hurt.

use anyhow::{Context, Result, bail, ensure};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use kthena_router_integration::cluster::{name_of, text};
use kthena_router_integration::exposition::Exposition;
use kthena_router_integration::kinds::POD;
use kthena_router_integration::objects::{ENGINE_PORT, Engines};
use kthena_router_integration::rig::Rig;
use kthena_router_integration::sandbox::Sandbox;
use kthena_router_integration::wait::eventually;

/// What the last event of a whole stream is.
const DONE: &str = "data: [DONE]";

pub(crate) async fn a_pod_deleted_during_a_stream_ends_it_clearly_and_others_go_on(rig: &Rig) -> Result<()> {
    let sandbox = rig.sandbox("streams").await?;
    let (seen, end) = stream_from(rig, &sandbox, async |pod| sandbox.delete(POD, pod).await).await?;
    rig.note(format!("deleted: {}", described(&seen, &end)));
    match end {
        Ok(()) => ensure!(is_whole(&seen) || seen.contains("\"error\""), "the stream ends as if it were whole"),
        Err(error) => ensure!(!is_whole(&seen), "a whole stream broke off: {error:#}"),
    }
    Ok(())
}

pub(crate) async fn a_pod_killed_during_a_stream_breaks_it_off_and_others_go_on(rig: &Rig) -> Result<()> {
    let sandbox = rig.sandbox("broken-streams").await?;
    let kill = async |pod: &str| rig.cluster.delete_at_once(POD, &sandbox.namespace, pod).await;
    let (seen, end) = stream_from(rig, &sandbox, kill).await?;
    rig.note(format!("killed: {}", described(&seen, &end)));
    ensure!(!is_whole(&seen), "the Pod was not killed in time");
    ensure!(end.is_err() || seen.contains("\"error\""), "the stream ends as if it were whole");
    Ok(())
}

fn described(seen: &str, end: &Result<()>) -> String {
    let end = end.as_ref().map_or_else(|error| format!("{error:#}"), |()| "its end".to_owned());
    format!("after {} events, {end}", seen.matches("data:").count())
}

fn is_whole(seen: &str) -> bool {
    seen.contains(DONE)
}

/// Begins a stream, ends the Pod that it comes from, and returns what came of the stream and how it ended; others are
/// served meanwhile and afterwards.
async fn stream_from(
    rig: &Rig,
    sandbox: &Sandbox<'_>,
    end_pod: impl AsyncFnOnce(&str) -> Result<()>,
) -> Result<(String, Result<()>)> {
    // Five seconds of a stream: more than enough to end a Pod in.
    let slow = Engines::many("slow", 2).with_flags(&["--time-per-output-token=50ms", "--output-tokens=100"]);
    sandbox.engines(&[slow, Engines::many("fast", 2)]).await?;
    let model = sandbox.route("slow", "slow").await?;
    let other = sandbox.route("fast", "fast").await?;
    sandbox.serves(&other, "fast").await?;

    let base = rig.base().await?;
    let begin = async || Ok(rig.http.stream(&base, &model).await?.into_body());
    let mut stream = eventually("the stream begins", begin).await?;
    let mut seen = String::new();
    while seen.matches("data:").count() < 5 {
        let piece = piece(&mut stream).await?;
        seen.push_str(&piece.context("the stream ends before the Pod does")?);
    }
    let serving = serving_pod(rig, sandbox).await?;
    let load = sandbox.load(&other, &["fast"], 2).await?;
    end_pod(&serving).await?;
    let end = end_of(stream, &mut seen).await;
    another_serves(rig, sandbox, &model).await?;
    load.goes_on(50).await?;
    let tally = load.stop().await;
    rig.note(format!("meanwhile {}", tally.summary()));
    tally.ensure_clean()?;
    Ok((seen, end))
}

/// Reads on to the end of the stream; an error says that it broke off.
async fn end_of(mut stream: Incoming, seen: &mut String) -> Result<()> {
    while let Some(text) = piece(&mut stream).await? {
        seen.push_str(&text);
    }
    Ok(())
}

/// Returns the next piece of a stream, or nothing at its end.
async fn piece(stream: &mut Incoming) -> Result<Option<String>> {
    let Some(frame) = stream.frame().await else { return Ok(None) };
    let bytes = frame.context("the stream breaks off")?.into_data().unwrap_or_default();
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

/// Returns the Pod that has a request in its engine.
async fn serving_pod(rig: &Rig, sandbox: &Sandbox<'_>) -> Result<String> {
    for pod in sandbox.ready_pods("slow").await? {
        let address = text(&pod, "/status/podIP");
        let url = format!("http://{address}:{ENGINE_PORT}/metrics");
        let page = match rig.control() {
            Ok(_) => rig.http.get(&url).await?.text(),
            Err(_) => rig.cluster.pod_page(&sandbox.namespace, name_of(&pod), ENGINE_PORT, "/metrics").await?,
        };
        if Exposition::new(page).sum("vllm:num_requests_running", &[]) > 0.0 {
            return Ok(name_of(&pod).to_owned());
        }
    }
    bail!("no engine says that a request is running")
}

/// Waits until a new stream begins: the Pod that goes is not asked any more.
async fn another_serves(rig: &Rig, sandbox: &Sandbox<'_>, model: &str) -> Result<()> {
    let base = rig.base().await?;
    let mut stream = rig.http.stream(&base, model).await.context("a new stream after the Pod was deleted")?.into_body();
    let first = piece(&mut stream).await.context("a new stream after the Pod was deleted")?;
    ensure!(first.is_some(), "a new stream in `{}` is empty", sandbox.namespace);
    Ok(())
}
