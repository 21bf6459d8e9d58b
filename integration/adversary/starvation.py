"""Prints how a quiet tenant fares beside floods on its port, and alone.

Beside two pipelining connections, 3 500 silent ones and a flood on another Gateway of the same port. The aim is a p99
under 5 times of alone; what is asserted is the order of magnitude, because machines have other work as well. The quiet
tenant, its backend and each pipelining connection are processes of their own, and so they are when it is alone.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from bounds import Figure, finish
from groups.floods import FLOODED, QUIET_GET, SHARED, serve
from options import end_in_order, router_option
from rig import apart
from rig.crowd import Crowd, Quiet
from rig.stage import Stage
from wire.http1 import request
from wire.http2 import Http2, get, post

NOPE = request("GET", "/nope", host=FLOODED)
REQUESTS = 1000
SETTLE_SECONDS = 2.0
"""How long floods get to be in full flow, and held requests to reach their backends."""
AIM = 5.0
ASSERTED_MILLISECONDS = 250.0
"""A starved tenant waits for seconds."""


def pipelines(stage: Stage, stack: ExitStack) -> None:
    """Pipelines requests of the other Gateway on two connections; the router answers them itself."""
    for _ in range(2):
        stack.enter_context(apart.pipeline(stage.at(SHARED), NOPE))


def silent_connections(stage: Stage, stack: ExitStack) -> None:
    """Opens connections that say nothing, or little."""
    stack.enter_context(Crowd(stage.at(SHARED), 3000))
    stack.enter_context(Crowd(stage.at(SHARED), 500, b"P"))


def held_requests(stage: Stage, stack: ExitStack) -> None:
    """Holds requests of the other Gateway: answers that do not come, and half uploads."""
    for number in range(4):
        client = stack.enter_context(Http2.connect(stage.at(SHARED)))
        for _ in range(200):
            if number % 2:
                client.open(get("/never", FLOODED))
            else:
                client.data(client.open(post("/served", FLOODED), end=False), b"x")


FLOODS: Mapping[str, Sequence[Callable[[Stage, ExitStack], None]]] = {
    "alone": (),
    "beside two pipelines": (pipelines,),
    "beside 3 500 silent connections": (silent_connections,),
    "beside 800 held requests, 500 allowed": (held_requests,),
    "beside all of them": (silent_connections, held_requests, pipelines),
}


@dataclass(frozen=True)
class Row:
    """How the quiet tenant fared beside floods, and for which share of the time the router waited for a core."""

    name: str
    quiet: Quiet
    waited: float

    def told(self) -> str:
        """Returns it in one line."""
        return f"{self.quiet.told()}; the router waited for a core {self.waited:.0%} of the time"

    @property
    def milliseconds(self) -> float:
        """The p99."""
        return self.quiet.quantile(0.99) * 1000


def measured(stage: Stage, name: str) -> Row:
    """Measures the quiet tenant beside floods."""
    with ExitStack() as stack:
        for flood in FLOODS[name]:
            flood(stage, stack)
        time.sleep(SETTLE_SECONDS)
        begun, waited = time.monotonic(), stage.router.waited_seconds()
        quiet = apart.quiet(stage.at(SHARED), QUIET_GET, REQUESTS, 0.005)
        return Row(name, quiet, (stage.router.waited_seconds() - waited) / (time.monotonic() - begun))


def main() -> int:
    """Prints the table."""
    end_in_order()
    parser = router_option(__doc__ or "", " starvation.py")
    parser.add_argument("--strict", action="store_true", help=f"fail beyond {AIM:g} times of alone")
    options = parser.parse_args()
    stage = Stage(options.router.resolve())
    host = stage.free_host()
    try:
        serve(stage, host)
        with apart.on_its_own_core():
            # The log of a flood would fill the disk.
            stage.start("--max-inflight=500", "--access-log-output=/dev/null")
        with apart.backend(host):
            # Who comes first pays for what all use: first calls, pages, connections.
            measured(stage, "alone")
            rows = [measured(stage, name) for name in FLOODS]
    finally:
        stage.close()
    usual = rows[0].milliseconds
    limit = usual * AIM if options.strict else max(usual * 10, ASSERTED_MILLISECONDS)
    p99 = [(row, limit if FLOODS[row.name] else None) for row in rows]
    figures = [Figure(f"{row.name}, p99", row.milliseconds, "ms", most, row.told()) for row, most in p99]
    figures += [Figure(f"{row.name}, failures", row.quiet.failures, f"of {REQUESTS}", 0) for row in rows]
    return finish(figures)


if __name__ == "__main__":
    sys.exit(main())
