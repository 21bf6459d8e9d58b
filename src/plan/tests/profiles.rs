//! Pools that name a profile of the scheduler.

use std::collections::BTreeSet;

use crate::controller::Controller;
use crate::fixtures::{controller, world};
use crate::plan::plan;

const SERVER: &str = "
apiVersion: networking.serving.volcano.sh/v1alpha1
kind: ModelServer
metadata: {name: s, annotations: {networking.serving.volcano.sh/scheduler-profile: documents}}
spec:
  inferenceEngine: vLLM
  workloadSelector: {matchLabels: {app: s}}
  workloadPort: {port: 8000}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: g}
spec:
  gatewayClassName: kthena-router
  listeners: [{name: all, port: 80, protocol: HTTP}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: r}
spec:
  parentRefs: [{name: g}]
  rules: [{backendRefs: [{group: inference.networking.k8s.io, kind: InferencePool, name: p}]}]
---
apiVersion: inference.networking.k8s.io/v1
kind: InferencePool
metadata: {name: p, annotations: {networking.serving.volcano.sh/scheduler-profile: documents}}
spec: {selector: {matchLabels: {app: p}}, targetPorts: [{number: 8000}]}
";

#[test]
fn a_profile_that_is_not_there_is_a_condition() {
    for (profiles, complaints) in [(vec!["documents"], 0), (vec!["other"], 2), (vec![], 2)] {
        let profiles: BTreeSet<_> = profiles.into_iter().map(Into::into).collect();
        let controller = Controller { inference_extension: true, profiles, ..controller() };
        let plan = plan(&world(SERVER), &controller);
        let named: Vec<_> = plan.pools.iter().map(|pool| pool.profile.as_deref()).collect();
        assert_eq!(named, [Some("documents"); 2]);
        let unserved = plan.reports.unserved();
        assert_eq!(unserved.len(), complaints, "{unserved:?}");
        assert!(unserved.iter().all(|complaint| complaint.text.contains("the profile `documents`")), "{unserved:?}");
    }
}
