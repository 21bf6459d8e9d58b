"""Engines, routes and ports that come and go under load: no request notices."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Mapping

from cases import Group, Outcome, Room, within
from rig import manifests
from rig.backend import Backend, named
from rig.certificates import Authority
from rig.crowd import quiet_client
from rig.network import accepts
from rig.router import wait_for
from rig.stage import Stage
from wire.http1 import request

POST = request("POST", "/v1/completions", body=b'{"model":"m","prompt":"x"}')
Churn = Callable[[Stage], None]
"""Changes something for about two seconds."""


def nothing(_: Stage) -> None:
    """Starts no router: these cases do."""


def unnoticed(stage: Stage, churn: Churn) -> Outcome:
    """Sends requests while something else changes."""
    stage.serve_model("m", [stage.backend(), stage.backend()])
    stage.start()
    worker = threading.Thread(target=churn, args=(stage,), daemon=True)
    worker.start()
    quiet = quiet_client(stage.address, POST, 250, 0.005)
    worker.join(10.0)
    return within(quiet.failures, 0, "failures of 250", quiet.told())


def other_routes(stage: Stage) -> None:
    """Adds and removes other routes 20 times a second."""
    backend = stage.backend()
    for number in range(40):
        objects = [
            *manifests.service("o", [backend.address]),
            manifests.http_route("o", "default", [manifests.rule("/o", "o")]),
        ]
        stage.write("other.yaml", objects if number % 2 else [])
        time.sleep(0.05)


def other_ports(stage: Stage) -> None:
    """Adds and removes other ports."""
    for number in range(20):
        stage.write("ports.yaml", [manifests.gateway("g", [manifests.listener(f"l{number}", 8100 + number)])])
        time.sleep(0.1)


def more_pods(stage: Stage) -> None:
    """Adds and removes a Pod of the pool itself."""
    extra = Backend(stage.network.host(100), named("{}"))
    stage.backends.append(extra)
    for number in range(20):
        stage.write("pods.yaml", manifests.pods("m", [extra.address]) if number % 2 else [])
        time.sleep(0.1)


def certificates(stage: Stage) -> None:
    """Replaces a certificate of another port."""
    authority = Authority()
    for _ in range(20):
        secret = manifests.tls_secret("pair", *authority.issue("a.org"))
        stage.write("tls.yaml", [secret, manifests.gateway("g", [manifests.listener("l", 8443, "a.org", "pair")])])
        time.sleep(0.1)


def broken_files(stage: Stage) -> None:
    """Writes files that are no manifests."""
    for number in range(20):
        (stage.manifests.directory / "broken.yaml").write_text(f"kind: [{number}")
        time.sleep(0.1)


CHURN: Mapping[str, Churn] = {
    "other routes": other_routes,
    "other ports": other_ports,
    "Pods of the pool": more_pods,
    "certificates": certificates,
    "broken files": broken_files,
}


def restarted(stage: Stage, seconds: float) -> Outcome:
    """Ends one of two engines and starts it again: requests are served by the other one meanwhile."""
    addresses = [stage.network.host(host) for host in (10, 11)]

    def start(address: str) -> subprocess.Popen[bytes]:
        command = [str(stage.binary), "engine", "--model", "m", "--address", address, "--port", "8000"]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    processes = [start(address) for address in addresses]
    try:
        wait_for(lambda: all(accepts(address, 8000) for address in addresses), 5.0)
        pods, server = manifests.pods("m", addresses), manifests.model_server("m")
        stage.write("m.yaml", [*pods, server, manifests.model_route("m", "m", "m")])
        stage.start()

        def restart() -> None:
            time.sleep(0.3)
            processes[0].kill()
            processes[0].wait(5.0)
            time.sleep(seconds)
            processes[0] = start(addresses[0])

        worker = threading.Thread(target=restart, daemon=True)
        worker.start()
        quiet = quiet_client(stage.address, POST, 300, 0.005)
        worker.join(10.0)
    finally:
        for process in processes:
            process.kill()
            process.wait(5.0)
    return within(quiet.failures, 0, "failures of 300", quiet.told())


def add_restarts(group: Group) -> None:
    """Adds the families."""
    promise = "docs/architecture.md: changes of the plan are not noticed by requests that they are not about"
    group.family("changes under load", promise, nothing, unnoticed, CHURN, {"within"}, room=Room.OWN)
    promise = "a request whose engine ends is served by another one"
    times = {f"{seconds} s": seconds for seconds in (0.1, 1.0)}
    group.family("an engine that restarts", promise, nothing, restarted, times, {"within"}, room=Room.OWN)
