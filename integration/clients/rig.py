"""A router with two engines, which clients reach through ModelRoutes and through HTTPRoutes."""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import fidelity
import media_engine

NETWORK = "127.91.0"
TEXT_MODEL = "org/model"
START_SECONDS = 30.0
API = "networking.serving.volcano.sh/v1alpha1"
GATEWAY_API = "gateway.networking.k8s.io/v1"
POOL_API = "inference.networking.k8s.io"


@dataclass(frozen=True)
class Road:
    """A way to the engines: by which kind of route, where, and what the models are called there."""

    name: str
    base: str
    model: str
    media: str
    echo: str


ROADS = (
    Road("ModelRoute", f"http://{NETWORK}.1:8080", "public", "public-media", "public-echo"),
    Road("HTTPRoute", f"http://{NETWORK}.1:8081", TEXT_MODEL, media_engine.MODEL, fidelity.MODEL),
)


class Rig:
    """The engines and the router, until they are closed."""

    def __init__(self, binary: Path) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="clients-")
        directory = Path(self._directory.name)
        self._processes: list[subprocess.Popen[bytes]] = []
        self._output = (directory / "output.log").open("wb")
        self._media = media_engine.MediaEngine(f"{NETWORK}.11", 8000)
        self.echo = fidelity.Engine(f"{NETWORK}.12", 8000)
        manifests = directory / "manifests"
        manifests.mkdir()
        (manifests / "all.json").write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": _objects()}))
        text = ["engine", "--model", TEXT_MODEL, "--address", f"{NETWORK}.10", "--port", "8000"]
        router = [
            f"--manifests={manifests}",
            "--pod-namespace=default",
            f"--bind-address={NETWORK}.1",
            "--port=8080",
            "--metrics-port=18090",
            "--debug-port=18091",
            "--workers=1",
            "--enable-gateway-api-inference-extension",
            f"--access-log-output={directory / 'access.log'}",
        ]
        for command in (text, router):
            process = subprocess.Popen([str(binary), *command], stdout=self._output, stderr=self._output)
            self._processes.append(process)
        self._wait(f"http://{NETWORK}.1:18090/readyz")
        for road in ROADS:
            self._wait(f"{road.base}/v1/models")

    def close(self) -> None:
        """Ends the router and the engines."""
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.wait(20.0)
        self._media.close()
        self.echo.close()
        self._output.close()
        self._directory.cleanup()

    def _wait(self, url: str) -> None:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                with urllib.request.urlopen(url, timeout=2.0):
                    return
            except (urllib.error.URLError, OSError) as fault:
                if time.monotonic() > deadline:
                    output = Path(self._output.name).read_text(errors="replace")
                    raise RuntimeError(f"{url} does not come up: {fault}\n{output}") from fault
                time.sleep(0.05)


def _objects() -> list[dict[str, object]]:
    objects: list[dict[str, object]] = []
    media_paths = ["/v1/audio", "/v1/realtime", "/v1/messages/count_tokens"]
    for app, model, host, public, paths, names in (
        ("text", TEXT_MODEL, 10, ROADS[0].model, ["/"], []),
        ("media", media_engine.MODEL, 11, ROADS[0].media, media_paths, []),
        ("echo", fidelity.MODEL, 12, ROADS[0].echo, ["/"], [fidelity.HOST]),
    ):
        hostnames = {"hostnames": names} if names else {}
        labels = {"app": app}
        pool = {"group": POOL_API, "kind": "InferencePool", "name": app}
        matches = [{"path": {"type": "PathPrefix", "value": path}} for path in paths]
        objects += [
            _object("v1", "Pod", app, labels=labels, status={"podIP": f"{NETWORK}.{host}"}),
            _object(
                API,
                "ModelServer",
                app,
                spec={
                    "model": model,
                    "inferenceEngine": "vLLM",
                    "workloadSelector": {"matchLabels": labels},
                    "workloadPort": {"port": 8000},
                },
            ),
            _object(
                API,
                "ModelRoute",
                app,
                spec={
                    "modelName": public,
                    "parentRefs": [{"name": "default"}],
                    "rules": [{"targetModels": [{"modelServerName": app}]}],
                },
            ),
            _object(
                f"{POOL_API}/v1",
                "InferencePool",
                app,
                spec={"targetPorts": [{"number": 8000}], "selector": {"matchLabels": labels}},
            ),
            _object(
                GATEWAY_API,
                "HTTPRoute",
                app,
                spec={
                    "parentRefs": [{"name": "pools"}],
                    "rules": [{"matches": matches, "backendRefs": [pool]}],
                    **hostnames,
                },
            ),
        ]
    listener = {"name": "http", "port": 8081, "protocol": "HTTP"}
    spec = {"gatewayClassName": "kthena-router", "listeners": [listener]}
    return [*objects, _object(GATEWAY_API, "Gateway", "pools", spec=spec)]


def _object(version: str, kind: str, name: str, labels: object = None, **fields: object) -> dict[str, object]:
    metadata = {"name": name, "namespace": "default", **({"labels": labels} if labels else {})}
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **fields}
