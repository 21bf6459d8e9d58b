use super::*;
use crate::scheduling::endpoint::Role;

const SERVER: &str = "
{apiVersion: networking.serving.volcano.sh/v1alpha1, kind: ModelServer, metadata: {name: pd}, spec: {inferenceEngine: vLLM, workloadSelector: {matchLabels: {app: pd}, pdGroup: {groupKey: group, prefillLabels: {role: prefill}, decodeLabels: {role: decode}}}, workloadPort: {port: 8000}}}
---
";

fn pod(name: &str, labels: &str, uid: &str, started: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, uid: {uid}, labels: {{app: pd{labels}}}}}, \
         status: {{podIP: 10.1.0.1, containerStatuses: [{{name: engine, image: i, imageID: i, ready: true, restartCount: 0, \
         state: {{running: {{startedAt: '{started}'}}}}}}]}}}}\n---\n"
    )
}

#[test]
fn endpoints_know_their_part_of_the_work_and_their_group() {
    for (case, labels, expected) in [
        ("prefill", ", group: a, role: prefill", (Role::Prefill, Some("a"))),
        ("decode", ", group: b, role: decode", (Role::Decode, Some("b"))),
        ("no group", ", role: decode", (Role::Whole, None)),
        ("no role", ", group: a", (Role::Whole, None)),
    ] {
        let plan = plan_of(&(SERVER.to_owned() + &pod("p", labels, "u", "2026-01-01T00:00:00Z")));
        let endpoint = &plan.pools[0].endpoints[0];
        assert_eq!((endpoint.role, endpoint.group.as_deref()), expected, "{case}");
    }
}

#[test]
fn an_engine_that_was_started_anew_is_another_endpoint() {
    let life = |uid, started| plan_of(&(SERVER.to_owned() + &pod("p", "", uid, started))).pools[0].endpoints[0].clone();
    let first = life("u", "2026-01-01T00:00:00Z");
    assert_eq!(first, life("u", "2026-01-01T00:00:00Z"));
    assert_ne!(first, life("u", "2026-01-01T00:00:09Z"), "a restarted container");
    assert_ne!(first, life("v", "2026-01-01T00:00:00Z"), "a Pod that was made anew");
}
