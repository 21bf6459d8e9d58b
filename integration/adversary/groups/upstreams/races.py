"""Kept connections that a backend closes at the worst moment."""

from __future__ import annotations

import random
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from cases import Group, Outcome, Room, within
from groups.upstreams.client import ask1
from rig.backend import OK, Connection, Play, plain
from rig.router import wait_for
from rig.stage import Stage
from wire.http1 import chunk, fetch, request
from wire.stream import Closed

CLIENTS, REQUESTS = 24, 5
"""Clients, each with a backend of its own, and requests of each."""
IDLE, SPREAD = 1.6, 0.004
"""How long a backend keeps an idle connection, in seconds, and how far around that moment requests come."""
PACES = (0.9, 0.99, 1.0, 1.01)
"""The pauses between requests to engines that keep a connection for one second."""
PACED = 20
"""How many requests each client sends at such a pace."""
BODY_OF_PACED = 100
MEBIBYTE = 1 << 20


def keeping(seconds: float, answer: bytes = OK) -> Play:
    """Returns a play that answers, and closes connections that are idle for so long."""

    def play(connection: Connection) -> None:
        while (seen := connection.head()) is not None:
            if not connection.read_body(seen) or not connection.send(answer):
                return
            try:
                connection.stream.put_back(connection.stream.receive(time.monotonic() + seconds))
            except (TimeoutError, Closed):
                return

    return play


def scene(stage: Stage) -> None:
    """Leads a path and a model for each client to a backend that closes idle connections."""
    for number in range(CLIENTS):
        backend = stage.backend(keeping(IDLE))
        stage.serve(f"race-{number}", f"/race-{number}", [backend])
        stage.serve_model(f"race-{number}", [backend])
    stage.start()


@dataclass(frozen=True)
class Body:
    """A body of some size, whether its length is not said, and whether it is a model's; how many may be lost."""

    size: int
    chunked: bool = False
    is_model: bool = False
    limit: float = 1

    def raw(self, number: int) -> bytes:
        """Returns the request of a client."""
        if self.is_model:
            prefix = b'{"model":"race-%d","prompt":"' % number
            return request("POST", "/v1/completions", body=prefix + b"x" * (self.size - len(prefix) - 2) + b'"}')
        path = f"/race-{number}/x"
        if self.chunked:
            pieces = b"".join(chunk(bytes(10_000)) for _ in range(self.size // 10_000)) + chunk(b"")
            return request("POST", path, [("transfer-encoding", "chunked")], pieces)
        return request("POST", path, body=bytes(self.size))


def raced(stage: Stage, body: Body) -> Outcome:
    """Sends POSTs at the moments at which idle connections are closed: none is lost."""
    failed: list[int] = []

    def client(number: int) -> None:
        raw, pauses = body.raw(number), random.Random(number)
        for _ in range(REQUESTS):
            got = fetch(stage.address, raw)
            moment = time.perf_counter() + IDLE + pauses.uniform(-SPREAD, SPREAD)
            if got is None or got.status != 200:
                failed.append(got.status if got else 0)
            time.sleep(max(moment - time.perf_counter(), 0.0))

    with ThreadPoolExecutor(CLIENTS) as executor:
        list(executor.map(client, range(CLIENTS)))
    return within(len(failed), body.limit, f"of {CLIENTS * REQUESTS} lost", str(failed[:5]))


@dataclass(frozen=True)
class Pool:
    """Pools of engines that keep an idle connection for one second, one for each client that paces its requests."""

    clients: int
    engines: int = 1
    size: int = BODY_OF_PACED
    answer: bytes = OK

    def scene(self, stage: Stage) -> None:
        """Leads a model to each pool."""
        for number in range(self.clients):
            stage.serve_model(f"paced-{number}", [stage.backend(keeping(1.0, self.answer)) for _ in range(self.engines)])
        # One thread has all connections, so that the pace is that of each connection.
        stage.start("--workers=1")

    def raw(self, number: int, tag: str) -> bytes:
        """Returns a request of a client."""
        prefix = b'{"model":"paced-%d","prompt":"' % number
        body = prefix + b"x" * (self.size - len(prefix) - 2) + b'"}'
        return request("POST", "/v1/completions", [("x-tag", tag)], body)


def paced(stage: Stage, pool: Pool) -> Outcome:
    """Sends requests at the paces: each is answered, by the engine that it was sent to first, which loses nothing by it."""
    failed: list[int] = []
    tags: list[list[str]] = [[stage.tag() for _ in range(PACED)] for _ in range(pool.clients)]

    def client(number: int) -> None:
        for turn, tag in enumerate(tags[number]):
            got = fetch(stage.address, pool.raw(number, tag))
            moment = time.perf_counter() + PACES[(number + turn) % len(PACES)]
            if got is None or got.status != 200:
                failed.append(got.status if got else 0)
            time.sleep(max(moment - time.perf_counter(), 0.0))

    with ThreadPoolExecutor(pool.clients) as executor:
        list(executor.map(client, range(pool.clients)))
    visits = ((seen, number) for number, backend in enumerate(stage.backends) for seen in backend.requests)
    times = Counter((seen.values("x-tag")[0], number) for seen, number in visits)
    engines = Counter(tag for tag, _ in times)
    wrong = [f"{len(failed)} lost {failed[:5]}"] if failed else []
    wrong += ["sent to two engines"] if any(count > 1 for count in engines.values()) else []
    wrong += ["sent more than twice"] if any(count > 2 for count in times.values()) else []
    wrong += ["an engine ejected"] if stage.router.metric("kthena_router_endpoint_ejections_total") else []
    again = sum(count > 1 for count in times.values())
    return Outcome("; ".join(wrong) or "answered once", f"{pool.clients * PACED} requests, {again} of them sent again")


@dataclass(frozen=True)
class Sent:
    """A request as it is sent."""

    raw: bytes


def closing(connection: Connection) -> None:
    """Answers, and closes the connection a moment later without a word."""
    if connection.request() is not None and connection.send(OK):
        connection.wait(0.02)


def closed_scene(stage: Stage) -> None:
    """Leads a path to a backend that closes its connections as soon as they are idle."""
    stage.serve("closed", "/closed", [stage.backend(closing)])
    stage.start()


def after_close(stage: Stage, body: Sent) -> Outcome:
    """Sends a POST when the kept connection has been closed for a while: that is noticed before the body is spent."""
    failed = []
    for _ in range(10):
        ask1(stage, "GET", "/closed/warm", "warm")
        wait_for(lambda: stage.backends[0].open_connections() == 0, 3.0)
        time.sleep(0.01)
        got = fetch(stage.address, body.raw)
        if got is None or got.status != 200:
            failed.append(got.status if got else 0)
    return within(len(failed), 0, "of 10 lost", str(failed))


def add_to(group: Group) -> None:
    """Adds the families."""
    sizes = {
        # A body that is there whole is sent at once, and may meet a farewell that is on its way.
        "small": Body(100, limit=CLIENTS * REQUESTS / 20),
        "100 KB": Body(100_000),
        "100 KB in chunks": Body(100_000, chunked=True),
        "a model": Body(1_000, is_model=True, limit=CLIENTS * REQUESTS / 20),
        "a model, 200 KB": Body(200_000, is_model=True, limit=CLIENTS * REQUESTS / 20),
    }
    promise = (
        "docs/gateway-api.md, bodies are streamed: a kept connection is not trusted with what cannot be sent again"
    )
    group.family("idle connections that close", promise, scene, raced, sizes, {"within"}, room=Room.OWN)
    pools = {
        "one engine, 100 bytes": Pool(50),
        "two engines, 100 bytes": Pool(50, engines=2),
        "one engine, 1 MiB": Pool(10, size=MEBIBYTE),
        "two engines, 1 MiB": Pool(10, engines=2, size=MEBIBYTE),
        "one engine that names its time": Pool(20, answer=plain(200, b"{}", "keep-alive: timeout=1")),
    }
    promise_of_paced = "docs/timeouts.md, connections: an engine that closes idle connections costs no request"
    for name, pool in pools.items():
        variants, kept = {name: pool}, {"answered once"}
        group.family("idle connections of one second", promise_of_paced, pool.scene, paced, variants, kept, room=Room.OWN)
    pieces = b"".join(chunk(bytes(10_000)) for _ in range(10)) + chunk(b"")
    closed = {
        "small": Sent(request("POST", "/closed", body=bytes(100))),
        "100 KB": Sent(request("POST", "/closed", body=bytes(100_000))),
        "100 KB in chunks": Sent(request("POST", "/closed", [("transfer-encoding", "chunked")], pieces)),
    }
    group.family("idle connections that are closed", promise, closed_scene, after_close, closed, {"within"}, room=Room.OWN)
