"""Kept connections that a backend closes at the worst moment."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass

from cases import Group, Outcome, Room, within
from groups.upstreams.client import ask1
from rig.backend import OK, Connection
from rig.stage import Stage
from wire.http1 import answer, chunk, request
from wire.stream import Closed, Stream

REQUESTS = 300
IDLE = 0.005
"""How long a backend keeps an idle connection, in seconds."""


def impatient(connection: Connection) -> None:
    """Answers, and closes connections that are idle for a moment."""
    while (seen := connection.head()) is not None:
        if not connection.read_body(seen) or not connection.send(OK):
            return
        try:
            connection.stream.put_back(connection.stream.receive(time.monotonic() + IDLE))
        except (TimeoutError, Closed):
            return


def scene(stage: Stage) -> None:
    """Leads a path and a model to backends that close idle connections."""
    stage.serve("race", "/race", [stage.backend(impatient)])
    stage.serve("closed", "/closed", [stage.backend(impatient)])
    stage.serve_model("race", [stage.backend(impatient)])
    stage.start()


@dataclass(frozen=True)
class Body:
    """A body, and whether its length is not said."""

    path: str
    size: int
    chunked: bool = False

    def raw(self) -> bytes:
        """Returns the request."""
        if self.path.startswith("/v1"):
            prefix = b'{"model":"race","prompt":"'
            return request("POST", self.path, body=prefix + b"x" * (self.size - len(prefix) - 2) + b'"}')
        if self.chunked:
            pieces = b"".join(chunk(bytes(10_000)) for _ in range(self.size // 10_000)) + chunk(b"")
            return request("POST", self.path, [("transfer-encoding", "chunked")], pieces)
        return request("POST", self.path, body=bytes(self.size))


def raced(stage: Stage, body: Body) -> Outcome:
    """Sends POSTs when idle connections are being closed: none is lost."""
    failed = []
    raw, pauses = body.raw(), random.Random(7)
    stream = Stream.connect(stage.address)
    for _ in range(REQUESTS):
        stream.try_send(raw)
        got = answer(stream)
        if got is None or got.status != 200:
            failed.append(got.status if got else 0)
            stream.close()
            stream = Stream.connect(stage.address)
        # Around the moment at which the backend closes; a sleep would miss it by more than it lasts.
        moment = time.perf_counter() + IDLE * pauses.uniform(0.7, 1.3)
        while time.perf_counter() < moment:
            pass
    stream.close()
    return within(len(failed), REQUESTS / 100, f"of {REQUESTS} lost", str(failed[:5]))


def after_close(stage: Stage, body: Body) -> Outcome:
    """Sends a POST when the kept connection has been closed for a while: that is noticed before the body is spent."""
    failed = []
    for _ in range(10):
        ask1(stage, "GET", "/closed/warm", "warm")
        time.sleep(IDLE * 10)
        with Stream.connect(stage.address) as stream:
            stream.try_send(body.raw())
            got = answer(stream)
        if got is None or got.status != 200:
            failed.append(got.status if got else 0)
    return within(len(failed), 0, "of 10 lost", str(failed))


def add_to(group: Group) -> None:
    """Adds the families."""
    sizes = {
        "small": Body("/race", 100),
        "100 KB": Body("/race", 100_000),
        "100 KB in chunks": Body("/race", 100_000, chunked=True),
        "a model": Body("/v1/completions", 1_000),
        "a model, 200 KB": Body("/v1/completions", 200_000),
    }
    promise = (
        "docs/gateway-api.md, bodies are streamed: a kept connection is not trusted with what cannot be sent again"
    )
    group.family("idle connections that close", promise, scene, raced, sizes, {"within"}, room=Room.ALONE)
    closed = {
        "small": Body("/closed", 100),
        "100 KB": Body("/closed", 100_000),
        "100 KB in chunks": Body("/closed", 100_000, chunked=True),
    }
    group.family("idle connections that are closed", promise, scene, after_close, closed, {"within"})
