//! The walk-through of the announcement, "Using Gateway API with Inference Extension", steps 3 to 6 as a user types
//! them, and what its conclusion promises: both APIs at once. What differs is where the definitions come from, and that
//! simulated engines have the labels of the model that step 2 deploys.

use anyhow::{Context, Result, ensure};
use kthena_router_integration::cluster::{condition_status, text};
use kthena_router_integration::kinds::{HTTP_ROUTE, INFERENCE_POOL, SERVICE};
use kthena_router_integration::kubectl::table;
use kthena_router_integration::objects::{Engines, inference_pool, pool_route};
use kthena_router_integration::rig::Rig;
use kthena_router_integration::router::{
    INFERENCE_EXTENSION, NAME, NAMESPACE, inference_extension_definitions, install_inference_extension,
};
use kthena_router_integration::sandbox::Sandbox;
use kthena_router_integration::wait::eventually;
use serde_json::{Value, json};

use crate::walk_through::is_programmed;

/// A page that the engines of the tests have, and that the router neither answers nor knows.
const ENGINE_PAGE: &str = "/simulate/faults";

/// The model of the announcement.
const MODEL: &str = "Qwen2.5-0.5B-Instruct";

const STEP_2: &str = "
kubectl wait --for=condition=ready pod -l workload.serving.volcano.sh/model-name=demo --timeout=300s
kubectl get pods -l workload.serving.volcano.sh/managed-by=workload.serving.volcano.sh --show-labels
";

const STEP_3: &str = "
cat <<EOF | kubectl apply -f -
apiVersion: inference.networking.k8s.io/v1
kind: InferencePool
metadata:
  name: kthena-demo
spec:
  targetPorts:
    - number: 8000  # Adjust based on your model server port
  selector:
    matchLabels:
      workload.serving.volcano.sh/model-name: demo
EOF
";

const STEP_4: &str = r#"
kubectl patch deployment kthena-router -n kthena-system --type='json' -p='[
  {
    "op": "add",
    "path": "/spec/template/spec/containers/0/args/-",
    "value": "--enable-gateway-api=true"
  },
  {
    "op": "add",
    "path": "/spec/template/spec/containers/0/args/-",
    "value": "--enable-gateway-api-inference-extension=true"
  }
]'

kubectl rollout status deployment/kthena-router -n kthena-system
"#;

const STEP_5: &str = "
cat <<EOF | kubectl apply -f -
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata:
  name: inference-gateway
spec:
  gatewayClassName: kthena-router
  listeners:
  - name: http
    port: 8080
    protocol: HTTP
EOF

cat <<EOF | kubectl apply -f -
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata:
  name: kthena-demo-route
spec:
  parentRefs:
  - group: gateway.networking.k8s.io
    kind: Gateway
    name: inference-gateway
  rules:
  - backendRefs:
    - group: inference.networking.k8s.io
      kind: InferencePool
      name: kthena-demo
    matches:
    - path:
        type: PathPrefix
        value: /
    timeouts:
      request: 300s
EOF
";

/// The commands that show the status, each with what it has to print.
const STEP_6: [(&str, &[&str]); 3] = [
    ("get gateway inference-gateway -o yaml", &["type: Programmed"]),
    ("get httproute kthena-demo-route -o yaml", &["type: Accepted", "type: ResolvedRefs"]),
    ("get inferencepool kthena-demo -o yaml", &["parents:", "name: inference-gateway"]),
];

const STEP_6_CURL: &str = r#"
ROUTER_IP=$(kubectl get service kthena-router -n kthena-system -o jsonpath='{.status.loadBalancer.ingress[0].ip}')

curl --silent --show-error --max-time 10 http://${ROUTER_IP}:80/v1/completions \
  -H "Content-Type: application/json" \
  -d '{
    "model": "Qwen2.5-0.5B-Instruct",
    "prompt": "Write as if you were a critic: San Francisco",
    "max_tokens": 100,
    "temperature": 0
  }'
"#;

const TIDY_UP: &str = "
kubectl delete --ignore-not-found --wait=false httproute kthena-demo-route
kubectl delete --ignore-not-found inferencepool kthena-demo
kubectl delete --ignore-not-found gateway inference-gateway
kubectl delete --ignore-not-found --wait=false deployment demo-backend1
kubectl delete --ignore-not-found --grace-period=0 --force pod -l workload.serving.volcano.sh/model-name=demo
";

pub(crate) async fn the_steps_of_the_announcement_work_as_they_are_written(rig: &Rig) -> Result<()> {
    install_inference_extension(&rig.shell).await?;
    let outcome = steps(rig).await;
    let tidied = rig.shell.script("", TIDY_UP).await;
    outcome?;
    tidied.map(drop)
}

async fn steps(rig: &Rig) -> Result<()> {
    rig.cluster.apply(&demo(rig.router.image())).await?;
    let printed = eventually("the model's Pods are ready", async || rig.shell.script("", STEP_2).await).await?;
    ensure!(printed.contains("workload.serving.volcano.sh/model-name=demo"), "no labels in {printed}");
    for step in [STEP_3, STEP_4, STEP_5] {
        rig.shell.script("", step).await?;
    }
    is_programmed(rig, "inference-gateway").await?;
    gateway_has_the_address_of_the_service(rig).await?;
    is_served(rig, "default", "inference-gateway", "kthena-demo-route", "kthena-demo").await?;
    for (command, expected) in STEP_6 {
        let printed = rig.shell.kubectl(command).await?;
        let missing = expected.iter().find(|part| !printed.contains(**part));
        ensure!(missing.is_none(), "`kubectl {command}` does not print {missing:?}:\n{printed}");
    }
    let expected = format!("This is simulated message from {MODEL}!");
    eventually("the curl of step 6 prints what the engine says", async || {
        let printed = rig.shell.script("", STEP_6_CURL).await?;
        ensure!(printed.contains(&expected), "it prints {printed}");
        Ok(())
    })
    .await
}

/// Returns engines with the labels that the announcement shows.
fn demo(image: &str) -> Value {
    let engines = Engines { model: MODEL.to_owned(), ..Engines::many("demo-backend1", 2) };
    let mut deployment = engines.deployment("default", image);
    let labels = json!({
        "modelserving.volcano.sh/name": "demo-backend1",
        "modelserving.volcano.sh/group-name": "demo-backend1-0",
        "modelserving.volcano.sh/role": "leader",
        "workload.serving.volcano.sh/model-name": "demo",
        "workload.serving.volcano.sh/backend-name": "backend1",
        "workload.serving.volcano.sh/managed-by": "workload.serving.volcano.sh",
    });
    deployment["spec"]["selector"]["matchLabels"].clone_from(&labels);
    deployment["spec"]["template"]["metadata"]["labels"] = labels;
    deployment
}

/// Compares what `kubectl get gateway` prints with the output that the announcement expects.
async fn gateway_has_the_address_of_the_service(rig: &Rig) -> Result<()> {
    let service = rig.cluster.get(SERVICE, NAMESPACE, NAME).await?;
    let address = text(&service, "/status/loadBalancer/ingress/0/ip").to_owned();
    eventually("the Gateway has the address of the router's Service", async || {
        let printed = rig.shell.kubectl("get gateway inference-gateway").await?;
        let row = table(&printed).into_iter().next().unwrap_or_default();
        ensure!(row.get("CLASS").is_some_and(|class| class == "kthena-router"), "{printed}");
        ensure!(row.get("ADDRESS").is_some_and(|shown| *shown == address), "`{address}` expected: {printed}");
        Ok(())
    })
    .await
}

/// Waits until a route and its pool have the conditions of those that a Gateway of the same namespace serves.
async fn is_served(rig: &Rig, namespace: &str, gateway: &str, route: &str, pool: &str) -> Result<()> {
    eventually("the route and the pool are accepted, and what they refer to is found", async || {
        for (kind, name) in [(HTTP_ROUTE, route), (INFERENCE_POOL, pool)] {
            let object = rig.cluster.get(kind, namespace, name).await?;
            let mut parents = object["status"]["parents"].as_array().into_iter().flatten();
            let parent = parents.find(|parent| text(parent, "/parentRef/name") == gateway);
            let parent = parent.with_context(|| format!("`{name}` has no such parent: {}", object["status"]))?;
            for condition in ["Accepted", "ResolvedRefs"] {
                ensure!(condition_status(parent, condition) == Some("True"), "`{name}`: {parent}");
            }
        }
        Ok(())
    })
    .await
}

/// Where the definitions are of a release before v1.6, every pool has to name a Service as its picker. With
/// `--prefer-builtin-picker` any Service will do, because nobody asks it.
pub(crate) async fn an_older_definition_that_demands_a_picker_is_no_obstacle(rig: &Rig) -> Result<()> {
    install_inference_extension(&rig.shell).await?;
    let outcome = with_an_older_definition(rig).await;
    let restored = install_inference_extension(&rig.shell).await;
    outcome?;
    restored
}

async fn with_an_older_definition(rig: &Rig) -> Result<()> {
    demand_a_picker(rig).await?;
    let sandbox = rig.sandbox("older").await?;
    let engines = Engines::many("a", 2);
    rig.cluster.apply(&engines.service(&sandbox.namespace)).await?;
    sandbox.engines(&[engines]).await?;
    let mut pool = inference_pool(&sandbox.namespace, "a");
    let refusal = eventually("the API server demands a picker", async || {
        let refused = rig.cluster.apply(&pool).await.err();
        refused.map(|error| format!("{error:#}")).context("it takes a pool without one")
    })
    .await?;
    ensure!(refusal.contains("spec.endpointPickerRef"), "it says: {refusal}");

    pool["spec"]["endpointPickerRef"] = json!({"name": "there-is-none", "port": {"number": 9002}});
    rig.cluster.apply(&pool).await?;
    rig.router.add_arguments(&[INFERENCE_EXTENSION]).await?;
    let base = route_to_pool(rig, &sandbox, 8171).await?;
    eventually("a missing picker is reported, and requests fail", async || {
        let pool = sandbox.get(INFERENCE_POOL, "a").await?;
        let parent = &pool["status"]["parents"][0];
        ensure!(condition_status(parent, "Accepted") == Some("True"), "{}", pool["status"]);
        ensure!(condition_status(parent, "ResolvedRefs") == Some("False"), "{}", pool["status"]);
        ensure_failure(rig, &base).await
    })
    .await?;

    pool["spec"]["endpointPickerRef"] = json!({"name": "a", "port": {"number": 80}});
    rig.cluster.apply(&pool).await?;
    is_served(rig, &sandbox.namespace, "g", "h", "a").await?;
    // An engine is a Service, but no picker.
    ensure_failure(rig, &base).await?;
    rig.router.add_arguments(&["--prefer-builtin-picker"]).await?;
    is_served(rig, &sandbox.namespace, "g", "h", "a").await?;
    eventually("the built-in picker picks", async || rig.http.ensure_answer(&base, "a", "a").await).await
}

/// Makes the definition of InferencePools demand a picker, as those of releases before v1.6 do.
async fn demand_a_picker(rig: &Rig) -> Result<()> {
    let required = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/required/-";
    let patch = json!([{"op": "add", "path": required, "value": "endpointPickerRef"}]).to_string();
    let file = format!("{}/inference.networking.k8s.io_inferencepools.yaml", inference_extension_definitions()?);
    rig.shell.kubectl_with(&format!("patch --type=json --patch-file=/dev/stdin -f {file}"), &patch).await.map(drop)
}

/// Makes a Gateway `g` of the sandbox whose HTTPRoute `h` leads to the pool `a`, and returns where it is reached.
async fn route_to_pool(rig: &Rig, sandbox: &Sandbox<'_>, port: u16) -> Result<String> {
    sandbox.programmed_gateway("g", port).await?;
    rig.cluster.apply(&pool_route(&sandbox.namespace, "h", "g", "a")).await?;
    rig.router.base(port).await
}

/// ModelRoutes and HTTPRoutes lead to the same Pods, on two Gateways and on one.
pub(crate) async fn both_apis_serve_the_same_pods_at_once(rig: &Rig) -> Result<()> {
    install_inference_extension(&rig.shell).await?;
    rig.router.add_arguments(&[INFERENCE_EXTENSION]).await?;
    let sandbox = rig.sandbox("both").await?;
    let namespace = &*sandbox.namespace;
    sandbox.engines(&[Engines::many("a", 2)]).await?;
    rig.cluster.apply(&inference_pool(namespace, "a")).await?;

    let pool_base = route_to_pool(rig, &sandbox, 8172).await?;
    sandbox.programmed_gateway("native", 8173).await?;
    let native_base = rig.router.base(8173).await?;
    let model = sandbox.route_on((namespace, "native"), "m", "a").await?;
    is_served(rig, namespace, "g", "h", "a").await?;
    eventually("each Gateway serves its own route", async || {
        rig.http.ensure_answer(&pool_base, "a", "a").await?;
        has_status(rig, &pool_base, ENGINE_PAGE, 200).await?;
        rig.http.ensure_answer(&native_base, &model, "a").await?;
        rig.http.ensure_refusal(&native_base, "a", 404).await?;
        has_status(rig, &native_base, ENGINE_PAGE, 404).await
    })
    .await?;

    // On one Gateway, the ModelRoute's model is its own, and the pool gets everything else.
    rig.cluster.apply(&pool_route(namespace, "h-native", "native", "a")).await?;
    is_served(rig, namespace, "native", "h-native", "a").await?;
    eventually("one Gateway serves both", async || {
        rig.http.ensure_answer(&native_base, &model, "a").await?;
        rig.http.ensure_answer(&native_base, "a", "a").await?;
        has_status(rig, &native_base, ENGINE_PAGE, 200).await
    })
    .await?;
    the_pool_forgets_a_gateway_without_routes(rig, &sandbox, &pool_base).await
}

/// The pool's status names the Gateways whose routes lead to it, and no others.
async fn the_pool_forgets_a_gateway_without_routes(rig: &Rig, sandbox: &Sandbox<'_>, base: &str) -> Result<()> {
    let parents = async || -> Result<Vec<String>> {
        let pool = sandbox.get(INFERENCE_POOL, "a").await?;
        let entries = pool["status"]["parents"].as_array().into_iter().flatten();
        let mut names: Vec<String> = entries.map(|entry| text(entry, "/parentRef/name").to_owned()).collect();
        names.sort();
        Ok(names)
    };
    let both = parents().await?;
    ensure!(both == ["g", "native"], "its parents are {both:?}");
    sandbox.delete(HTTP_ROUTE, "h").await?;
    eventually("the Gateway of the deleted route is no parent, and answers 404", async || {
        let left = parents().await?;
        ensure!(left == ["native"], "its parents are {left:?}");
        rig.http.ensure_refusal(base, "a", 404).await.map(drop)
    })
    .await
}

async fn ensure_failure(rig: &Rig, base: &str) -> Result<()> {
    let answer = rig.http.complete(base, "a").await?;
    ensure!(answer.status >= 500, "expected a status of 500 or more: {}", answer.said());
    Ok(())
}

async fn has_status(rig: &Rig, base: &str, path: &str, status: u16) -> Result<()> {
    let answer = rig.http.get(&format!("{base}{path}")).await?;
    ensure!(answer.status == status, "expected status {status} for `{path}`: {}", answer.said());
    Ok(())
}
