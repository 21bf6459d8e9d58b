//! Prefill and decode on different Pods: the Go router's examples as users apply them with `kubectl`, and what becomes of
//! Pods whose labels change. The engines refuse whatever does not belong together.

use anyhow::{Context, Result, ensure};
use kthena_router_integration::cluster::name_of;
use kthena_router_integration::kinds::MODEL_SERVER;
use kthena_router_integration::load::{Load, Wish};
use kthena_router_integration::rig::Rig;
use kthena_router_integration::wait::eventually;
use serde_json::{Value, json};

use self::examples::{Example, LEADERS_OF_SGLANG, LEADERS_OF_VLLM, PAIR_OF_SGLANG, PAIRS_OF_VLLM, Part};
use self::fleet::{Fleet, long_prompt};

mod examples;
mod fleet;

/// The scheduler's file by which prompts go to a prefill Pod even while its decode Pod is idle.
const ALWAYS: &str = "scheduler: {pluginConfig: [{name: remote-prefill, args: {always: 1}}]}\n";

pub(crate) async fn the_examples_of_vllm_are_served_by_pairs(rig: &Rig) -> Result<()> {
    rig.router.set_scheduler(ALWAYS).await?;
    for example in PAIRS_OF_VLLM.iter().chain([&LEADERS_OF_VLLM]) {
        is_served_by_a_pair(rig, example).await.with_context(|| format!("the example `{}`", example.name))?;
    }
    Ok(())
}

pub(crate) async fn the_examples_of_sglang_are_served_by_pairs(rig: &Rig) -> Result<()> {
    for example in [&PAIR_OF_SGLANG, &LEADERS_OF_SGLANG] {
        is_served_by_a_pair(rig, example).await.with_context(|| format!("the example `{}`", example.name))?;
    }
    Ok(())
}

/// Applies an example, and asks for answers, as a stream and whole: each is computed by one engine and given by another.
async fn is_served_by_a_pair(rig: &Rig, example: &Example) -> Result<()> {
    let sandbox = rig.sandbox(example.name).await?;
    let fleet = Fleet::apply(rig, &sandbox, example, 1).await?;
    fleet.has_paired("True", &["Paired", "1 pairs in 1 groups"]).await?;
    // The scheduler's file may have been written a moment ago.
    eventually("a prompt is computed by the prefill Pod", async || {
        fleet.chat(false).await?;
        ensure!(fleet.count(Part::Prefill, "prefills").await? > 0.0, "it has got none");
        Ok(())
    })
    .await?;
    let before = fleet.counts().await?;
    for stream in [false, true, false, true] {
        fleet.chat(stream).await?;
        fleet.complete(stream).await?;
    }
    let after = fleet.counts().await?;
    let [prefills, decodes] = [after.0 - before.0, after.1 - before.1];
    ensure!((prefills, decodes) == (8.0, 8.0), "of 8 prompts {prefills} were computed and {decodes} were fetched");
    fleet.nothing_is_wrong().await
}

pub(crate) async fn roles_may_change_while_requests_run(rig: &Rig) -> Result<()> {
    rig.router.set_scheduler(ALWAYS).await?;
    let sandbox = rig.sandbox("roles").await?;
    let example = Example { speaks: ["--kv-connector=nixl", "--kv-role=both"], ..PAIRS_OF_VLLM[1] };
    let fleet = Fleet::apply(rig, &sandbox, &example, 2).await?;
    fleet.has_paired("True", &["4 pairs in 1 groups"]).await?;
    fleet.chat(false).await?;
    let wish = Wish {
        base: rig.base().await?,
        model: fleet.model.clone(),
        prompt: long_prompt(),
        answers: vec![example.model.to_owned()],
    };
    let load = Load::start(&wish, 8);
    load.goes_on(100).await?;
    let outcome = change_roles(&fleet, &load).await;
    let tally = load.stop().await;
    rig.note(tally.summary());
    outcome?;
    tally.ensure_clean()?;
    fleet.nothing_is_wrong().await
}

/// Gives Pods other labels, and waits until the router says so and requests have gone on.
async fn change_roles(fleet: &Fleet<'_>, load: &Load) -> Result<()> {
    let [prefill, other_prefill] = [fleet.pod(Part::Prefill, 0), fleet.pod(Part::Prefill, 1)];
    let decode = fleet.pod(Part::Decode, 0);
    let (role, group) = ("modelserving.volcano.sh/role", "modelserving.volcano.sh/group-name");
    let whole = format!("{}-0", fleet.example.workload());
    for (pod, label, status, expected) in [
        (&prefill, format!("{role}=decode"), "True", vec!["3 pairs in 1 groups".to_owned()]),
        (&decode, format!("{role}=prefill"), "True", vec!["4 pairs in 1 groups".to_owned()]),
        (&prefill, format!("{role}=prefill"), "True", vec!["3 pairs in 1 groups".to_owned()]),
        (&decode, format!("{role}=decode"), "True", vec!["4 pairs in 1 groups".to_owned()]),
        (&decode, format!("{group}-"), "False", vec!["GroupMissing".to_owned(), format!("`{decode}`")]),
        (&decode, format!("{group}={whole}"), "True", vec!["4 pairs in 1 groups".to_owned()]),
        // The last Pods that compute prompts: those that answer do all of it.
        (&prefill, format!("{role}-"), "True", vec![format!("`{prefill}` without a role")]),
        (&other_prefill, format!("{role}=decode"), "False", vec!["GroupIncomplete".to_owned(), whole.clone()]),
        (&prefill, format!("{role}=prefill"), "True", vec!["3 pairs in 1 groups".to_owned()]),
        (&other_prefill, format!("{role}=prefill"), "True", vec!["4 pairs in 1 groups".to_owned()]),
    ] {
        fleet.label(pod, &label).await?;
        fleet.has_paired(status, &expected.iter().map(String::as_str).collect::<Vec<_>>()).await?;
        load.goes_on(100).await?;
    }
    Ok(())
}

pub(crate) async fn a_group_with_one_role_is_named_in_the_status(rig: &Rig) -> Result<()> {
    rig.router.set_scheduler(ALWAYS).await?;
    let sandbox = rig.sandbox("half").await?;
    let example = &PAIRS_OF_VLLM[1];
    let fleet = Fleet::apply(rig, &sandbox, example, 1).await?;
    fleet.has_paired("True", &["1 pairs in 1 groups"]).await?;

    let half = format!("{}-1", example.workload());
    fleet.add(Part::Prefill, 1, 0).await?;
    fleet.has_paired("False", &["GroupIncomplete", "no decode Pod in the group", &half]).await?;
    eventually("an Event warns of it", async || {
        let events = sandbox.events(MODEL_SERVER, example.name).await?;
        let is_it = |event: &Value| event["type"] == "Warning" && event["reason"] == "GroupIncomplete";
        ensure!(events.iter().any(is_it), "there are {events:?}");
        Ok(())
    })
    .await?;
    for stream in [false, true] {
        fleet.chat(stream).await?;
    }

    let both = fleet.add(Part::Decode, 1, 0).await?;
    fleet.has_paired("True", &["2 pairs in 2 groups"]).await?;
    // A Pod has one value of a label: it is the selectors of both roles that may fit it.
    let labels = json!({"modelserving.volcano.sh/role": null, "modelserving.volcano.sh/name": example.workload()});
    let overlap = json!({"spec": {"workloadSelector": {"pdGroup": {"prefillLabels": labels}}}});
    rig.cluster.merge(MODEL_SERVER, &sandbox.namespace, example.name, "", &overlap).await?;
    fleet.has_paired("False", &["RoleConflict", name_of(&both)]).await?;
    for stream in [false, true] {
        fleet.chat(stream).await?;
    }
    fleet.nothing_is_wrong().await
}
