//! The walk-through of the announcement of Gateway API support, as a user types it: "Using Gateway API with Native
//! ModelRoute/ModelServer", steps 1 to 4. What differs is where the example files come from, and the port 8081, which
//! the router's Service has without the manual edit.

use anyhow::{Result, ensure};
use kthena_router_integration::cluster::{name_of, text};
use kthena_router_integration::kinds::SERVICE;
use kthena_router_integration::rig::Rig;
use kthena_router_integration::router::{NAME, NAMESPACE};
use kthena_router_integration::wait::eventually;

const SMALL: &str = "This is simulated message from deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B!";
const LARGE: &str = "This is simulated message from deepseek-ai/DeepSeek-R1-Distill-Qwen-7B!";

const STEP_1: &str = "
kubectl apply -f examples/gateway-api/1-mock-engines.yaml
kubectl apply -f examples/gateway-api/2-model-servers.yaml

kubectl wait --for=condition=ready pod -l app=deepseek-r1-1-5b --timeout=300s
kubectl wait --for=condition=ready pod -l app=deepseek-r1-7b --timeout=300s
";

const STEP_2: &str = "
cat <<EOF | kubectl apply -f -
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata:
  name: kthena-gateway-8081
  namespace: default
spec:
  gatewayClassName: kthena-router
  listeners:
  - name: http
    port: 8081  # Using a different port
    protocol: HTTP
EOF
";

/// The editor adds what the announcement says.
const STEP_2_EDIT: &str = r#"
editor=$(mktemp)
trap 'rm "$editor"' EXIT
cat >"$editor" <<'SCRIPT'
#!/bin/sh
exec sed -i 's/^  ports:$/&\
  - name: http-81  # Add new port\
    port: 81\
    targetPort: 8081\
    protocol: TCP/' "$1"
SCRIPT
chmod +x "$editor"
KUBE_EDITOR=$editor kubectl edit service kthena-router -n kthena-system
"#;

const STEP_3: &str = r#"
cat <<EOF | kubectl apply -f -
apiVersion: networking.serving.volcano.sh/v1alpha1
kind: ModelRoute
metadata:
  name: deepseek-default-route
  namespace: default
spec:
  modelName: "deepseek-r1"
  parentRefs:
  - name: "default"      # Bind to the default Gateway
    namespace: "kthena-system"
    kind: "Gateway"
  rules:
  - name: "default"
    targetModels:
    - modelServerName: "deepseek-r1-1-5b"  # Backend ModelServer
EOF

cat <<EOF | kubectl apply -f -
apiVersion: networking.serving.volcano.sh/v1alpha1
kind: ModelRoute
metadata:
  name: deepseek-route-8081
  namespace: default
spec:
  modelName: "deepseek-r1"  # Same modelName as the default Gateway's ModelRoute
  parentRefs:
  - name: "kthena-gateway-8081"  # Bind to the new Gateway
    namespace: "default"
    kind: "Gateway"
  rules:
  - name: "default"
    targetModels:
    - modelServerName: "deepseek-r1-7b"  # Using a different backend
EOF
"#;

const ROUTER_IP: &str = "
ROUTER_IP=$(kubectl get service kthena-router -n kthena-system -o jsonpath='{.status.loadBalancer.ingress[0].ip}')
";

const STEP_4: &str = r#"
curl --silent --show-error --max-time 10 http://${ROUTER_IP}:PORT/v1/completions \
  -H "Content-Type: application/json" \
  -d '{
    "model": "deepseek-r1",
    "prompt": "What is Kubernetes?",
    "max_tokens": 100,
    "temperature": 0
  }'
"#;

const TIDY_UP: &str = "
kubectl delete --ignore-not-found --wait=false modelroute deepseek-default-route deepseek-route-8081
kubectl delete --ignore-not-found gateway kthena-gateway-8081
kubectl delete --ignore-not-found --wait=false -f examples/gateway-api/2-model-servers.yaml
kubectl delete --ignore-not-found --wait=false -f examples/gateway-api/1-mock-engines.yaml
kubectl delete --ignore-not-found --grace-period=0 --force pod -l 'app in (deepseek-r1-1-5b, deepseek-r1-7b)'
";

pub(crate) async fn the_steps_of_the_announcement_work_as_they_are_written(rig: &Rig) -> Result<()> {
    let outcome = steps(rig).await;
    let tidied = rig.shell.script("", TIDY_UP).await;
    outcome?;
    tidied.map(drop)
}

async fn steps(rig: &Rig) -> Result<()> {
    rig.shell.script("", STEP_1).await?;
    rig.shell.script("", STEP_2).await?;
    is_programmed(rig, "kthena-gateway-8081 -n default").await?;
    is_programmed(rig, "default -n kthena-system").await?;
    has_port(rig, 8081).await?;
    rig.shell.script("", STEP_3).await?;
    curl_says(rig, 80, SMALL).await?;
    curl_says(rig, 8081, LARGE).await?;

    rig.shell.script("", STEP_2_EDIT).await?;
    curl_says(rig, 81, LARGE).await?;
    curl_says(rig, 80, SMALL).await?;
    rig.shell.kubectl("delete gateway kthena-gateway-8081 -n default").await?;
    eventually("the Service has the user's port, and the router's no more", async || {
        let ports = rig.router.service_ports().await?;
        let mine = (81, "http-81".to_owned(), "8081".to_owned());
        ensure!(ports.contains(&mine), "the user's port is gone: {ports:?}");
        ensure!(ports.iter().all(|(port, ..)| *port != 8081), "{ports:?}");
        Ok(())
    })
    .await
}

/// Runs the commands that `examples/gateway-api/README.md` shows.
pub(crate) async fn the_commands_of_the_example_work_as_they_are_written(rig: &Rig) -> Result<()> {
    let text = std::fs::read_to_string(rig.shell.path("examples/gateway-api/README.md"))?;
    let commands = commands(&text);
    ensure!(commands.contains("kubectl apply") && commands.contains("curl"), "the README shows no commands");
    let outcome = rig.shell.script("examples/gateway-api", &commands).await;
    let tidied = rig.shell.script("", TIDY_UP).await;
    let printed = outcome?;
    for expected in [SMALL, LARGE] {
        ensure!(printed.contains(expected), "`{expected}` is missing from:\n{printed}");
    }
    tidied.map(drop)
}

/// Returns the lines of all blocks of shell commands.
fn commands(markdown: &str) -> String {
    let blocks = markdown.split("```bash\n").skip(1);
    blocks.filter_map(|block| block.split("```").next()).collect()
}

/// Waits until `kubectl get gateway` shows that a Gateway is programmed.
pub(crate) async fn is_programmed(rig: &Rig, which: &str) -> Result<()> {
    let shown = eventually(&format!("`kubectl get gateway {which}` shows PROGRAMMED True"), async || {
        let shown = rig.shell.kubectl(&format!("get gateway {which}")).await?;
        let [header, row] = shown.lines().collect::<Vec<_>>()[..] else { anyhow::bail!("{shown}") };
        let column = header.find("PROGRAMMED").unwrap_or_default();
        ensure!(column > 0 && row.get(column..).is_some_and(|rest| rest.starts_with("True")), "{shown}");
        Ok(row.to_owned())
    })
    .await?;
    rig.note(shown);
    Ok(())
}

async fn has_port(rig: &Rig, port: u64) -> Result<()> {
    eventually(&format!("the Service has port {port}"), async || {
        let ports = rig.router.service_ports().await?;
        ensure!(ports.iter().any(|(known, ..)| *known == port), "it has {ports:?}");
        Ok(())
    })
    .await
}

async fn curl_says(rig: &Rig, port: u16, expected: &str) -> Result<()> {
    let script = format!("{ROUTER_IP}{}", STEP_4.replace("PORT/", &format!("{port}/")));
    eventually(&format!("curl to port {port} prints `{expected}`"), async || {
        let printed = rig.shell.script("", &script).await?;
        ensure!(printed.contains(expected), "it prints {printed}");
        Ok(())
    })
    .await?;
    let service = rig.cluster.get(SERVICE, NAMESPACE, NAME).await?;
    let address = text(&service, "/status/loadBalancer/ingress/0/ip");
    rig.note(format!("curl {}:{port} at {address}: {expected}", name_of(&service)));
    Ok(())
}
