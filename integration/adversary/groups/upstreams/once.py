"""A POST that breaks off at each point: whoever may have seen it does not get it again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

from cases import Group, Outcome
from groups.upstreams.client import ask1
from rig import manifests
from rig.backend import OK, Backend, Connection, Seen
from rig.backend2 import Script, Session
from rig.stage import Stage
from wire.http2 import rst_stream

POINTS = ("head", "body", "work", "half an answer's head")
WAYS = ("close", "reset")
BODY = b'{"model":"MODEL","prompt":"' + b"x" * 200 + b'"}'
BODY_OF_A_STREAM = 100_000
"""Larger than what an HTTPRoute reads before it asks."""


@dataclass(frozen=True)
class Break:
    """Where a backend breaks a connection off, how, and whether it has answered on it before."""

    point: str
    way: str
    kept: bool

    @property
    def slug(self) -> str:
        """A part of a path, and of a model's name."""
        return f"{self.point.split(' ', 1)[0]}-{self.way}-{'kept' if self.kept else 'new'}"


def breaking(broken: Break) -> Callable[[Connection], None]:
    """Returns a play of HTTP/1.1 that answers what warms a connection, and breaks off what follows."""

    def play(connection: Connection) -> None:
        while (seen := connection.head()) is not None and is_warming(seen):
            connection.read_body(seen)
            connection.send(OK)
        if seen is None:
            return
        if broken.point != "head":
            connection.read_body(seen)
        if broken.point == "work":
            connection.wait(0.3)
        if broken.point.startswith("half"):
            connection.send(b"HTTP/1.1 200 OK\r\nconte")
        if broken.way == "reset":
            connection.stream.reset()

    return play


def breaking2(broken: Break) -> Script:
    """Returns the same for HTTP/2; an answer's head is not half there, so the stream is reset in place of it."""

    def end(session: Session, seen: Seen) -> None:
        if broken.point == "work":
            session.step(0.3)
        if broken.point.startswith("half"):
            session.send(rst_stream(seen.stream, 2))
        elif broken.way == "reset":
            session.wire.reset()
            session.is_over = True
        else:
            session.is_over = True

    def head(session: Session, seen: Seen) -> None:
        if broken.point == "head" and not is_warming(seen):
            end(session, seen)

    def complete(session: Session, seen: Seen) -> None:
        if is_warming(seen):
            session.answer(seen.stream)
        elif broken.point != "head":
            end(session, seen)

    return Script(head=head, complete=complete)


def is_warming(seen: Seen) -> bool:
    """Says whether a request is there to leave a kept connection behind."""
    return "warm" in seen.values("x-tag")


BREAKS = [Break(*each) for each in product(POINTS, WAYS, (True, False))]


def scene(stage: Stage) -> None:
    """Leads each break by each road to two backends."""
    for broken in BREAKS:
        for road, serve in ROADS.items():
            serve.put(stage, f"{road}-{broken.slug}", broken)
    stage.start("--enable-gateway-api-inference-extension")


@dataclass(frozen=True)
class Road:
    """A way to two backends, and how often they may see a POST together."""

    put: Callable[[Stage, str, Break], None]
    allowed: frozenset[str]
    is_model: bool = False


def _two(stage: Stage, broken: Break) -> list[Backend]:
    return [stage.backend(breaking(broken)) for _ in range(2)]


def _route(stage: Stage, name: str, broken: Break) -> None:
    stage.serve(name, f"/{name}", _two(stage, broken))


def _h2c(stage: Stage, name: str, broken: Break) -> None:
    stage.serve(name, f"/{name}", [stage.backend2(breaking2(broken)) for _ in range(2)], "kubernetes.io/h2c")


def _pool(stage: Stage, name: str, broken: Break) -> None:
    addresses = [backend.address for backend in _two(stage, broken)]
    route = manifests.http_route(name, "default", [manifests.pool_rule(f"/{name}", name)])
    stage.write(f"{name}.yaml", [*manifests.pods(name, addresses), manifests.inference_pool(name, name), route])


def _model(stage: Stage, name: str, broken: Break) -> None:
    stage.serve_model(name, _two(stage, broken))


def _model_once(stage: Stage, name: str, broken: Break) -> None:
    policy = {"retry": {"attempts": 0, "retryInterval": "1ms"}}
    stage.serve_model(name, _two(stage, broken), trafficPolicy=policy)


ONCE = frozenset({"seen once"})
# Generation may by default be run once more: by another endpoint, or after the end of a kept connection by the same one.
TWICE = frozenset({"seen once", "seen by both"})
ROADS = {
    "route": Road(_route, ONCE),
    "large": Road(_route, ONCE),
    "h2c": Road(_h2c, ONCE),
    "pool": Road(_pool, ONCE),
    "model": Road(_model, TWICE, is_model=True),
    "never": Road(_model_once, ONCE, is_model=True),
}


@dataclass(frozen=True)
class Sent:
    """A break, and the road to it."""

    broken: Break
    road: str

    def allowed(self) -> frozenset[str]:
        """Returns who may see it how often.

        A kept connection that is closed at once when it is written to has in all likelihood been closed before: what may be
        run twice is sent once more to the same endpoint then.
        """
        looks_closed = self.broken.kept and self.broken.way == "close" and self.broken.point in ("head", "body")
        allowed = ROADS[self.road].allowed
        return allowed | {"seen twice by one"} if looks_closed and allowed is TWICE else allowed


def counted(stage: Stage, sent: Sent) -> Outcome:
    """Sends a POST, over a kept connection or a new one, and counts who has seen it."""
    tag = stage.tag()
    name = f"{sent.road}-{sent.broken.slug}"
    path = "/v1/completions" if ROADS[sent.road].is_model else f"/{name}/x"
    body = BODY.replace(b"MODEL", name.encode())
    for _ in range(4 if sent.broken.kept else 0):
        ask1(stage, "POST", path, "warm", body)
    if sent.road == "large":
        body = bytes(BODY_OF_A_STREAM)
    view = ask1(stage, "POST", path, tag, body)
    counts = [count for backend in stage.backends if (count := len(backend.of(tag)))]
    told = f"{counts}; {view.told()}"
    if view.label == "hangs":
        return Outcome("hangs", told)
    if counts == [1]:
        return Outcome("seen once", told)
    if counts == [1, 1]:
        return Outcome("seen by both", told)
    return Outcome("seen twice by one" if counts == [2] else f"seen {sum(counts)} times", told)


def add_to(group: Group) -> None:
    """Adds all points, ways and roads."""
    promise = "RFC 9110, section 9.2.2: a request that is not idempotent is not sent again once it may have been seen"
    for name in ROADS:
        variants = {
            f"{broken.point}, {broken.way}, {'kept' if broken.kept else 'new'}": Sent(broken, name) for broken in BREAKS
        }
        group.family(f"POST once, {name}", promise, scene, counted, variants, Sent.allowed)
