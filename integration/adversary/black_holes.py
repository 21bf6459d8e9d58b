"""Prints how many requests see an endpoint that fails, by the way in which it fails and by what it stands behind.

One of three endpoints answers 500 or 503, resets, hangs, or trickles, behind a ModelServer, an InferencePool and a
Service. Its own answers may pass (a 500 is an engine's word), but it is left within a few requests, and comes back
soon after it has recovered. Where all endpoints fail, their answers pass: nothing is ejected to zero.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from options import end_in_order, router_option
from rig import manifests
from rig.backend import Backend, Connection, plain
from rig.crowd import quiet_client
from rig.manifests import Object
from rig.stage import Stage
from wire.http1 import fetch, request

CLIENTS = 6
REQUESTS = 120
LEFT_WITHIN = 10
"""How many requests the bad endpoint may get before it is left."""
PROBES = 5
"""How many more it may get to be tried again while it is still bad."""
BACK_SECONDS = 10.0
PATIENCE = 2.0
"""How long a client waits, in seconds."""


class Endpoint:
    """An endpoint that fails in a way that can be changed."""

    def __init__(self, stage: Stage) -> None:
        self.failure: str | None = None
        self.backend: Backend = stage.backend(self.play)

    def play(self, connection: Connection) -> None:
        """Answers as it should, or fails."""
        while connection.request() is not None:
            if not self._answer(connection):
                return

    def _answer(self, connection: Connection) -> bool:
        if self.failure is None:
            # A good engine takes its time: a bad one looks idle beside it.
            time.sleep(0.005)
            return connection.send(plain(200, b'{"ok":true}'))
        if self.failure in ("500", "503"):
            return connection.send(plain(int(self.failure), b'{"bad":true}'))
        if self.failure == "reset":
            connection.stream.reset()
        elif self.failure == "hang":
            connection.gone(PATIENCE * 2)
        else:
            connection.send(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
            for _ in range(20):
                if not connection.send(b"x"):
                    break
                time.sleep(0.2)
        return False

    @property
    def asked(self) -> int:
        """Returns how many requests it has seen."""
        return len(self.backend.requests)


FAILURES = ("500", "503", "reset", "hang", "trickle")
BODY = b'{"model":"m","prompt":"x"}'


def behind_model(addresses: list[str]) -> list[Object]:
    """Returns the objects of a ModelServer."""
    return [*manifests.pods("m", addresses), manifests.model_server("m"), manifests.model_route("m", "m", "m")]


def behind_pool(addresses: list[str]) -> list[Object]:
    """Returns the objects of an InferencePool."""
    route = manifests.http_route("p", "default", [manifests.pool_rule("/", "p")])
    return [*manifests.pods("p", addresses), manifests.inference_pool("p", "p"), route]


def behind_service(addresses: list[str]) -> list[Object]:
    """Returns the objects of a Service."""
    return [*manifests.service("s", addresses), manifests.http_route("s", "default", [manifests.rule("/", "s")])]


BEHIND: Mapping[str, Callable[[list[str]], list[Object]]] = {
    "ModelServer": behind_model,
    "InferencePool": behind_pool,
    "Service": behind_service,
}


@dataclass(frozen=True)
class Row:
    """What came of one failure behind one thing."""

    behind: str
    failure: str
    failed: int
    asked: int
    back: float | None
    all_bad: str
    faults: tuple[str, ...]


def tried(binary: Path, behind: str, failure: str) -> Row:
    """Tries one failure."""
    stage = Stage(binary)
    try:
        endpoints = [Endpoint(stage) for _ in range(3)]
        stage.write("all.yaml", BEHIND[behind]([endpoint.backend.address for endpoint in endpoints]))
        stage.start("--enable-gateway-api-inference-extension", "--connect-timeout=1s")
        data = request("POST", "/v1/completions", body=BODY)
        quiet_client(stage.address, data, 12, 0.0)
        bad = endpoints[0]
        before, bad.failure = bad.asked, failure
        failures = _load(stage, data)
        asked = bad.asked - before
        bad.failure = None
        back = _back(stage, bad, data)
        for endpoint in endpoints:
            endpoint.failure = failure
        word = _all_bad(stage, data, failure)
        faults = []
        # Those that were under way at that moment have been sent already.
        if asked > LEFT_WITHIN + CLIENTS + PROBES:
            faults.append(f"asked {asked} times")
        if back is None:
            faults.append("does not come back")
        if failure in ("500", "503") and word != failure:
            faults.append(f"all bad: {word}")
        return Row(behind, failure, failures, asked, back, word, tuple(faults))
    finally:
        stage.close()


def _load(stage: Stage, data: bytes) -> int:
    """Sends requests from several clients, as a load that makes a fast endpoint look idle, and counts failures."""
    with ThreadPoolExecutor(CLIENTS) as executor:
        each = REQUESTS // CLIENTS
        clients = [
            executor.submit(quiet_client, stage.address, data, each, 0.0, PATIENCE, is_kept=False)
            for _ in range(CLIENTS)
        ]
        return sum(client.result().failures for client in clients)


def _back(stage: Stage, bad: Endpoint, data: bytes) -> float | None:
    """Returns after how many seconds an endpoint that has recovered gets its share again."""
    begun = time.monotonic()
    while time.monotonic() - begun < BACK_SECONDS:
        before = bad.asked
        quiet_client(stage.address, data, 12, 0.005, PATIENCE)
        if bad.asked - before >= 2:
            return time.monotonic() - begun
    return None


def _all_bad(stage: Stage, data: bytes, failure: str) -> str:
    """Returns what a client sees when all endpoints fail, after they have failed for a while."""
    if failure not in ("500", "503"):
        return "-"
    quiet_client(stage.address, data, 40, 0.0, PATIENCE)
    answers = [fetch(stage.address, data) for _ in range(10)]
    words = {failure if got and got.status == int(failure) and b"bad" in got.body else "own" for got in answers}
    return "/".join(sorted(words))


def main() -> int:
    """Prints the table."""
    end_in_order()
    parser = router_option(__doc__ or "", " black_holes.py")
    parser.add_argument("--behind", choices=list(BEHIND), action="append")
    parser.add_argument("--failure", choices=FAILURES, action="append")
    options = parser.parse_args()
    print(f"of {REQUESTS} requests, one of three endpoints fails:\n")
    print(f"{'behind':<14} {'failure':<8} {'failed':>6} {'asked':>6} {'back after':>11} {'all bad':>8}")
    lost = False
    for behind in options.behind or BEHIND:
        for failure in options.failure or FAILURES:
            row = tried(options.router.resolve(), behind, failure)
            back = "never" if row.back is None else f"{row.back:.1f} s"
            faults = f"  MISSED: {', '.join(row.faults)}" if row.faults else ""
            print(
                f"{behind:<14} {failure:<8} {row.failed:>6} {row.asked:>6} {back:>11} {row.all_bad:>8}{faults}",
                flush=True,
            )
            lost = lost or bool(row.faults)
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
