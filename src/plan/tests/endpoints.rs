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
        ("prefill", ", group: a, role: prefill", Some((Role::Prefill, "a"))),
        ("decode", ", group: b, role: decode", Some((Role::Decode, "b"))),
        ("a rollout", ", group: b, role: decode, modelserving.volcano.sh/revision: r1", Some((Role::Decode, "b (r1)"))),
        ("no group", ", role: decode", None),
        ("no role", ", group: a", None),
    ] {
        let plan = plan_of(&(SERVER.to_owned() + &plain_pod("p", labels)));
        let pool = &plan.pools[0];
        let found =
            pool.endpoints.first().map(|endpoint| (endpoint.role, endpoint.group.as_deref().unwrap_or_default()));
        assert_eq!(found, expected, "{case}");
        assert_eq!(pool.selected, 1, "{case}: it is selected all the same");
    }
}

#[test]
fn each_data_parallel_rank_is_an_endpoint() {
    let ports = |annotation: &str| {
        let annotated =
            format!("name: pd, annotations: {{networking.serving.volcano.sh/data-parallel-size: '{annotation}'}}");
        let server = SERVER.replacen("name: pd", &annotated, 1);
        let plan = plan_of(&(server + &plain_pod("p", ", group: a, role: decode")));
        let endpoints = plan.pools.first().map(|pool| pool.endpoints.clone());
        endpoints.map(|of| of.iter().map(|endpoint| (endpoint.port, endpoint.rank)).collect::<Vec<_>>())
    };
    assert_eq!(ports("1"), Some(vec![(8000, 0)]));
    assert_eq!(ports("3"), Some(vec![(8000, 0), (8001, 1), (8002, 2)]));
    assert_eq!(ports("none"), None, "a fault of the ModelServer");
}

#[test]
fn a_pod_that_is_draining_is_no_endpoint_and_still_selected() {
    for (case, value, endpoints) in [("draining", "'true'", 0), ("not any more", "'false'", 1), ("nonsense", "''", 1)] {
        let labels = format!(", group: a, role: decode, modelserving.volcano.sh/traffic-draining: {value}");
        let pool = &plan_of(&(SERVER.to_owned() + &plain_pod("p", &labels))).pools[0];
        assert_eq!((pool.endpoints.len(), pool.selected), (endpoints, 1), "{case}");
    }
}

fn plain_pod(name: &str, labels: &str) -> String {
    pod(name, labels, name, "2026-01-01T00:00:00Z")
}

/// Returns the condition `Paired` of the one ModelServer, or of the one InferencePool.
fn paired(plan: &Plan) -> (bool, &'static str, String) {
    let report = plan.reports.servers.values().next().unwrap();
    let condition = report.conditions().find(|condition| condition.kind == "Paired").unwrap();
    (condition.status, condition.reason, condition.message.to_string())
}

#[test]
fn pods_that_cannot_be_paired_are_named() {
    let (prefill, decode) = (", group: a, role: prefill", ", group: a, role: decode");
    for (case, pods, status, reason, named) in [
        ("a pair", vec![("p", prefill), ("d", decode)], true, "Paired", "1 pairs in 1 groups"),
        (
            "unequal numbers",
            vec![
                ("p", prefill),
                ("d", decode),
                ("e", decode),
                ("q", ", group: b, role: prefill"),
                ("f", ", group: b, role: decode"),
            ],
            true,
            "Paired",
            "3 pairs in 2 groups",
        ),
        ("nobody prefills", vec![("d", decode)], false, "GroupIncomplete", "no prefill Pod in the group `a`"),
        ("nobody decodes", vec![("p", prefill)], false, "GroupIncomplete", "no decode Pod in the group `a`"),
        (
            "a rollout",
            vec![
                ("p", ", group: a, role: prefill, modelserving.volcano.sh/revision: one"),
                ("d", ", group: a, role: decode, modelserving.volcano.sh/revision: two"),
            ],
            false,
            "GroupIncomplete",
            "no prefill Pod in the group `a (two)`; no decode Pod in the group `a (one)`",
        ),
        (
            "both roles",
            vec![("p", prefill), ("d", decode), ("x", ", group: a, role: decode, also: prefill")],
            true,
            "Paired",
            "2 pairs",
        ),
        (
            "no group",
            vec![("p", prefill), ("d", decode), ("x", ", role: decode")],
            false,
            "GroupMissing",
            "the Pod `x`",
        ),
        (
            "no role",
            vec![("p", prefill), ("d", decode), ("x", ", group: a")],
            true,
            "Paired",
            "the Pod `x` without a role",
        ),
        ("nobody", vec![], false, "GroupIncomplete", "no selected Pod has a role"),
    ] {
        let pods: String = pods.iter().map(|(name, labels)| plain_pod(name, labels)).collect();
        let plan = plan_of(&(SERVER.to_owned() + &pods));
        let (found, why, message) = paired(&plan);
        assert_eq!((found, why), (status, reason), "{case}: {message}");
        assert!(message.contains(named), "{case}: {message}");
        assert_eq!(plan.reports.complaints().is_empty(), status, "{case}");
        assert!(plan.reports.unserved().is_empty(), "{case}: the group is served");
    }
}

#[test]
fn a_pod_says_where_its_engine_is_met() {
    let (prefill, decode) = (", group: a, role: prefill", ", group: a, role: decode");
    for (annotation, labels, expected, is_read) in [
        ("", prefill, None, true),
        ("sglang.ai/bootstrap-port: '9001'", prefill, Some(9001), true),
        ("vllm.ai/bootstrap-port: ' 9002 '", prefill, Some(9002), true),
        ("vllm.ai/bootstrap-port: '9002', sglang.ai/bootstrap-port: '9001'", prefill, Some(9001), true),
        ("sglang.ai/bootstrap-port: '9001'", decode, None, true),
        ("sglang.ai/bootstrap-port: '0'", prefill, None, false),
        ("sglang.ai/bootstrap-port: '9001,9002'", prefill, None, false),
        ("sglang.ai/bootstrap-port: nine", prefill, None, false),
    ] {
        let named = |name: &str, labels: &str| plain_pod(name, labels);
        let other = if labels == prefill { decode } else { prefill };
        let pod = named("x", labels).replace("uid: x,", &format!("uid: x, annotations: {{{annotation}}},"));
        let plan = plan_of(&(SERVER.to_owned() + &pod + &named("other", other)));
        let endpoint = plan.pools[0].endpoints.iter().find(|endpoint| &*endpoint.pod.name == "x").unwrap();
        assert_eq!(endpoint.bootstrap_port, expected, "{annotation}");
        let (status, reason, message) = paired(&plan);
        assert_eq!(status, is_read, "{annotation}: {message}");
        if !is_read {
            assert_eq!(reason, "InvalidBootstrapPort");
            assert!(message.contains("the Pod `x`") && message.contains("sglang.ai/bootstrap-port"), "{message}");
        }
    }
}

#[test]
fn a_pod_with_the_labels_of_both_roles_decodes_and_is_named() {
    let server = SERVER.replace("prefillLabels: {role: prefill}", "prefillLabels: {computes: prompts}");
    let pods = plain_pod("x", ", group: a, role: decode, computes: prompts")
        + &plain_pod("p", ", group: a, computes: prompts");
    let plan = plan_of(&(server + &pods));
    let roles: Vec<_> = plan.pools[0].endpoints.iter().map(|endpoint| (&*endpoint.pod.name, endpoint.role)).collect();
    assert_eq!(roles, [("p", Role::Prefill), ("x", Role::Decode)]);
    let (status, reason, message) = paired(&plan);
    assert_eq!((status, reason), (false, "RoleConflict"), "{message}");
    assert!(message.contains("the Pod `x`"), "{message}");
}

#[test]
fn a_role_that_is_not_ready_is_told_and_is_no_complaint() {
    let late = plain_pod("p", ", group: a, role: prefill").replace("podIP: 10.1.0.1,", "");
    let plan = plan_of(&(SERVER.to_owned() + &late + &plain_pod("d", ", group: a, role: decode")));
    let (status, reason, message) = paired(&plan);
    assert_eq!((status, reason), (false, "GroupNotReady"), "{message}");
    assert!(message.contains("no ready prefill Pod in the group `a`"), "{message}");
    assert_eq!(plan.reports.complaints().len(), 0);
}

#[test]
fn of_an_engine_on_several_nodes_the_entry_takes_requests() {
    let serving = |role: &str, entry: &str| {
        format!(
            ", group: a, role: {role}, modelserving.volcano.sh/group-name: g, modelserving.volcano.sh/role: {role}, \
             modelserving.volcano.sh/role-id: {role}-0{entry}"
        )
    };
    let entry = ", modelserving.volcano.sh/entry: 'true'";
    let pods: String = [("prefill", entry), ("prefill", ""), ("decode", entry), ("decode", "")]
        .iter()
        .enumerate()
        .map(|(number, (role, entry))| plain_pod(&format!("p{number}"), &serving(role, entry)))
        .collect();
    let plan = plan_of(&(SERVER.to_owned() + &pods));
    let names: Vec<_> = plan.pools[0].endpoints.iter().map(|endpoint| &*endpoint.pod.name).collect();
    assert_eq!(names, ["p0", "p2"]);
    assert_eq!(paired(&plan), (true, "Paired", "1 pairs in 1 groups".to_owned()), "workers are nothing to complain of");
}

#[test]
fn an_engine_that_was_started_anew_is_another_endpoint() {
    let life = |uid, started| {
        plan_of(&(SERVER.to_owned() + &pod("p", ", group: a, role: decode", uid, started))).pools[0].endpoints[0]
            .clone()
    };
    let first = life("u", "2026-01-01T00:00:00Z");
    assert_eq!(first, life("u", "2026-01-01T00:00:00Z"));
    assert_ne!(first, life("u", "2026-01-01T00:00:09Z"), "a restarted container");
    assert_ne!(first, life("v", "2026-01-01T00:00:00Z"), "a Pod that was made anew");
}
