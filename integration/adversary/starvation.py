"""Prints how a quiet tenant fares beside floods on its port, and alone.

Beside two pipelining connections, 3 000 silent ones and a flood on another Gateway of the same port. The aim is a p99
under 5 times of alone; what is asserted is the order of magnitude, because machines have other work as well.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from bounds import Figure, finish
from groups.floods import FLOODED, QUIET_GET, SHARED, serve
from options import end_in_order, router_option
from rig.crowd import Crowd, Quiet, pipelining, quiet_client
from rig.stage import Stage
from wire.http1 import request
from wire.http2 import Http2, get, post

REQUESTS = 400
SETTLE_SECONDS = 2.0
"""How long requests that are held get to reach their backends, which are threads of this program."""
AIM = 5.0
ASSERTED_MILLISECONDS = 250.0
"""A starved tenant waits for seconds."""


def alone(stage: Stage) -> Quiet:
    """Measures the quiet tenant."""
    return quiet_client(stage.at(SHARED), QUIET_GET, REQUESTS, 0.005)


@contextmanager
def running(*works: Callable[[Callable[[], bool]], None]) -> Iterator[None]:
    """Runs work on threads for as long as the context lasts."""
    is_over = threading.Event()
    threads = [threading.Thread(target=work, args=(is_over.is_set,), daemon=True) for work in works]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        is_over.set()
        for thread in threads:
            thread.join(5.0)


def held_requests(stage: Stage, stack: ExitStack) -> None:
    """Holds requests of the other Gateway: answers that do not come, and half uploads."""
    for number in range(4):
        client = stack.enter_context(Http2.connect(stage.at(SHARED)))
        for _ in range(200):
            if number % 2:
                client.open(get("/never", FLOODED))
            else:
                client.data(client.open(post("/served", FLOODED), end=False), b"x")


def main() -> int:
    """Prints the table."""
    end_in_order()
    parser = router_option(__doc__ or "", " starvation.py")
    parser.add_argument("--strict", action="store_true", help=f"fail beyond {AIM:g} times of alone")
    options = parser.parse_args()
    stage = Stage(options.router.resolve())
    address = stage.at(SHARED)
    nope = request("GET", "/nope", host=FLOODED)
    try:
        serve(stage)
        # The log of a flood would fill the disk.
        stage.start("--max-inflight=500", "--access-log-output=/dev/null")
        before = alone(stage)
        rows = [("alone", before)]
        with running(*(lambda over: pipelining(address, nope, over) for _ in range(2))):
            time.sleep(0.5)
            rows.append(("beside two pipelines", alone(stage)))
        with Crowd(address, 3000), Crowd(address, 500, b"P"):
            rows.append(("beside 3 500 silent connections", alone(stage)))
        with ExitStack() as stack:
            held_requests(stage, stack)
            time.sleep(SETTLE_SECONDS)
            rows.append(("beside 800 held requests, 500 allowed", alone(stage)))
        with ExitStack() as stack, running(*(lambda over: pipelining(address, nope, over) for _ in range(2))):
            stack.enter_context(Crowd(address, 3000))
            held_requests(stage, stack)
            time.sleep(SETTLE_SECONDS)
            rows.append(("beside all of them", alone(stage)))
    finally:
        stage.close()
    usual = before.quantile(0.99) * 1000
    limit = usual * AIM if options.strict else max(usual * 10, ASSERTED_MILLISECONDS)
    figures = [
        Figure(f"{name}, p99", quiet.quantile(0.99) * 1000, "ms", None if name == "alone" else limit, quiet.told())
        for name, quiet in rows
    ]
    figures += [Figure(f"{name}, failures", quiet.failures, f"of {REQUESTS}", 0) for name, quiet in rows]
    return finish(figures)


if __name__ == "__main__":
    sys.exit(main())
