"""Floods of one tenant beside a quiet one on the same port."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass

from cases import Group, Outcome, Room, within
from rig import manifests
from rig.backend import Connection
from rig.crowd import Crowd, pipelining, quiet_client
from rig.router import wait_for
from rig.stage import Stage
from wire.http1 import fetch, request
from wire.http2 import INITIAL_WINDOW_SIZE, Http2, get, post
from wire.stream import Stream

FLOODED, QUIET = "flooded.org", "quiet.org"
SHARED = 8090
QUIET_GET = request("GET", "/x", host=QUIET)
PATIENCE = 1.0
"""The longest that a quiet tenant's answer may take beside a flood, in seconds; alone it is milliseconds."""


def _never(connection: Connection) -> None:
    """Reads requests and does not answer."""
    while connection.request() is not None:
        connection.wait(20.0)


def serve(stage: Stage, quiet: str | None = None) -> None:
    """Two Gateways on one port, each with a host and a backend of its own; one of them also has one that hangs.

    The quiet one's backend is at the given address, if there is one.
    """
    for name, host, backend in (("flooded", FLOODED, None), ("quiet", QUIET, quiet)):
        rules = [manifests.rule("/", name)]
        objects = manifests.service(name, [backend or stage.backend().address])
        if name == "flooded":
            rules = [manifests.rule("/served", name), manifests.rule("/never", "never")]
            objects += manifests.service("never", [stage.backend(_never).address])
        listener = manifests.listener("l", SHARED, host)
        route = manifests.http_route(name, name, rules)
        stage.write(f"{name}.yaml", [*objects, manifests.gateway(name, [listener]), route])


def scene(stage: Stage) -> None:
    """The two tenants, and a router as it is by default."""
    serve(stage)
    stage.start()


def small(stage: Stage) -> None:
    """The two tenants, and a router that takes 100 requests at a time."""
    serve(stage)
    stage.start("--max-inflight=100")


def beside_pipelines(stage: Stage, data: bytes) -> Outcome:
    """Pipelines without pause on two connections: the quiet tenant is served in time."""
    is_over = threading.Event()
    threads = [
        threading.Thread(target=pipelining, args=(stage.at(SHARED), data, is_over.is_set), daemon=True)
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    try:
        quiet = quiet_client(stage.at(SHARED), QUIET_GET, 20, 0.05, patience=4.0, is_kept=False)
    finally:
        is_over.set()
        for thread in threads:
            thread.join(5.0)
    worst = quiet.quantile(1.0)
    label = "in time" if quiet.failures == 0 and worst < PATIENCE else "starved"
    return Outcome(label, f"{quiet.told()}, worst {worst * 1000:.0f} ms")


PIPELINES = {
    "own answers": request("GET", "/nope", host=FLOODED),
    "own answers of another host": request("GET", "/nope", host="nobody.org"),
    "served": request("GET", "/served", host=FLOODED),
    "small POSTs": request("POST", "/served", body=b"x", host=FLOODED),
    "HEAD": request("HEAD", "/nope", host=FLOODED),
    "a model that is not there": request("POST", "/v1/completions", body=b'{"model":"x"}', host=FLOODED),
}


def silent(stage: Stage, data: bytes) -> Outcome:
    """Opens connections that send a few bytes: they cost no CPU while they wait."""
    with Crowd(stage.at(SHARED), 2000, data) as crowd:
        time.sleep(0.3)
        before = stage.router.cpu_seconds()
        time.sleep(2.0)
        used = (stage.router.cpu_seconds() - before) / 2
        quiet = quiet_client(stage.at(SHARED), QUIET_GET, 20, 0.01)
        count = len(crowd.connections)
    if quiet.failures:
        return Outcome("others fail", quiet.told())
    return within(used, 0.10, "cores", f"{count} connections, {quiet.told()}:")


def noticed(stage: Stage, data: bytes) -> Outcome:
    """Opens connections and closes them at once: their descriptors are free soon after."""
    fetch(stage.at(SHARED), QUIET_GET)
    before = stage.router.descriptors()
    with Crowd(stage.at(SHARED), 1000, data):
        time.sleep(0.3)
    begun = time.monotonic()
    gone = wait_for(lambda: stage.router.descriptors() <= before + 20, 4.0, 0.05)
    told = f"{stage.router.descriptors()} descriptors, {before} before, after {time.monotonic() - begun:.1f} s"
    return Outcome("noticed" if gone else "kept", told)


FEW_BYTES = {
    "nothing": b"",
    "one byte": b"P",
    "half a preface": b"PRI * HTTP/2.0\r\n\r\n",
    "half a line": b"GET /x HT",
    "half a head": b"GET /x HTTP/1.1\r\nhost: quiet.org\r\n",
    "a preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
}


@dataclass(frozen=True)
class Held:
    """How requests are held: over which version, and what holds them."""

    hold: Callable[[Stage, ExitStack], None]


def _hanging1(stage: Stage, stack: ExitStack) -> None:
    stack.enter_context(Crowd(stage.at(SHARED), 300, request("GET", "/never", host=FLOODED)))


def _hanging2(stage: Stage, stack: ExitStack) -> None:
    for _ in range(2):
        client = stack.enter_context(Http2.connect(stage.at(SHARED)))
        for _ in range(150):
            client.open(get("/never", FLOODED))


def _uploads1(stage: Stage, stack: ExitStack) -> None:
    head = request("POST", "/served", [("content-length", "1000")], b"x", FLOODED)
    stack.enter_context(Crowd(stage.at(SHARED), 300, head))


def _uploads2(stage: Stage, stack: ExitStack) -> None:
    for _ in range(2):
        client = stack.enter_context(Http2.connect(stage.at(SHARED)))
        for _ in range(150):
            client.data(client.open(post("/served", FLOODED), end=False), b"x")


def _zero_windows(stage: Stage, stack: ExitStack) -> None:
    for _ in range(2):
        client = stack.enter_context(Http2.connect(stage.at(SHARED), ((INITIAL_WINDOW_SIZE, 0),)))
        for _ in range(150):
            client.open(get("/served", FLOODED))


HOLDS: Mapping[str, Callable[[Stage, ExitStack], None]] = {
    "HTTP/1 answers that do not come": _hanging1,
    "HTTP/2 answers that do not come": _hanging2,
    "HTTP/1 half uploads": _uploads1,
    "HTTP/2 half uploads": _uploads2,
    "windows of 0": _zero_windows,
}


def shared(stage: Stage, hold: Callable[[Stage, ExitStack], None]) -> Outcome:
    """Holds more requests on one Gateway than the port takes: the other Gateway's are served."""
    with ExitStack() as stack:
        hold(stage, stack)
        time.sleep(0.8)
        quiet = quiet_client(stage.at(SHARED), QUIET_GET, 10, 0.02)
    return Outcome("served" if quiet.failures == 0 else "refused", quiet.told())


def churn(stage: Stage, count: int) -> Outcome:
    """Opens and resets connections without pause: others are served, and nothing is left."""
    fetch(stage.at(SHARED), QUIET_GET)
    before, memory = stage.router.descriptors(), stage.router.resident()
    is_over = threading.Event()

    def flood() -> None:
        while not is_over.is_set():
            try:
                stream = Stream.connect(stage.at(SHARED))
                stream.try_send(request("GET", "/never", host=FLOODED))
                stream.reset()
            except OSError:
                time.sleep(0.001)

    threads = [threading.Thread(target=flood, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        quiet = quiet_client(stage.at(SHARED), QUIET_GET, 40, 0.05)
    finally:
        is_over.set()
        for thread in threads:
            thread.join(6.0)
    gone = wait_for(lambda: stage.router.descriptors() <= before + 20, 4.0, 0.05)
    growth = stage.router.resident() - memory
    told = f"{quiet.told()}; {growth:.0f} MB more; {stage.router.descriptors()} descriptors, {before} before"
    return Outcome("served" if not quiet.failures and gone and growth < 60 else "harmed", told)


def add_to(group: Group) -> None:
    """Adds the families."""
    fair = "docs/security.md: connections yield after a bounded amount of work, whatever they ask"
    group.family("pipelines", fair, scene, beside_pipelines, PIPELINES, {"in time"}, room=Room.ALONE)
    wait = "docs/security.md: a connection costs nothing while it waits"
    group.family("silent connections", wait, scene, silent, FEW_BYTES, {"within"}, room=Room.ALONE)
    end = "docs/security.md: the end of a connection is noticed at once"
    group.family("connections that end", end, scene, noticed, FEW_BYTES, {"noticed"}, room=Room.ALONE)
    share = "docs/security.md: --max-inflight is shared between a port's Gateways, so that one cannot take all"
    group.family("held requests", share, small, shared, HOLDS, {"served"}, room=Room.OWN)
    counts = {f"{count} at a time": count for count in (2, 6)}
    group.family("connections without pause", fair, scene, churn, counts, {"served"}, room=Room.ALONE)


GROUP = Group("floods")
add_to(GROUP)
