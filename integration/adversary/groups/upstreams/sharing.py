"""One HTTP/2 session with a backend carries the requests of many clients: none of them may harm the others."""

from __future__ import annotations

from dataclasses import dataclass

from cases import Group, Outcome, Room
from groups.upstreams.client import ask1
from rig.backend import Seen
from rig.backend2 import Script, Session
from rig.stage import Stage
from wire import http2
from wire.http1 import request
from wire.http2 import Http2, get, post, rst_stream
from wire.stream import Stream

ANSWER, SMALL = 600_000, 5
HONEST, FIRST = bytes(200_000), 30_000


def pouring(streams: int | None) -> Script:
    """Returns a script whose answers are large, or small for those that ask so."""

    def complete(session: Session, seen: Seen) -> None:
        session.head(seen.stream)
        if "large" in seen.target:
            widened(session)
        else:
            session.pour(seen.stream, SMALL)

    def widened(session: Session) -> None:
        for number, seen in list(session.streams.items()):
            room = min(session.windows[0], session.windows[number], ANSWER - session.sent.get(number, 0))
            if "large" in seen.target and room > 0:
                session.pour(number, room, is_end=False)

    values = ((http2.MAX_CONCURRENT_STREAMS, streams),) if streams else ()
    return Script(settings=values, complete=complete, widened=widened)


def silenced(stage: Stage, streams: int | None) -> Outcome:
    """Asks for answers in windows of 0 on one connection: other clients of that backend get theirs whole."""
    stage.serve("shared", "/shared", [stage.backend2(pouring(streams))], "kubernetes.io/h2c")
    stage.start()
    with Http2.connect(stage.address, ((http2.INITIAL_WINDOW_SIZE, 0),)) as client:
        for _ in range(200):
            client.open(get("/shared/large"))
        client.read(1.0)
        views = [ask1(stage, "GET", "/shared/x", "x") for _ in range(3)]
        told = ", ".join(view.told() for view in views)
    return Outcome(
        "served" if all(len(view.body) == SMALL and view.label == "whole" for view in views) else "silenced", told
    )


@dataclass(frozen=True)
class Uploads:
    """How many uploads are given up, how large they are, and how."""

    count: int
    size: int
    by_reset: bool


def killed(stage: Stage, uploads: Uploads) -> Outcome:
    """Gives uploads up that the backend has not read yet: an honest one goes through, and so do all others."""
    backend = stage.backend2(Script(settings=((http2.INITIAL_WINDOW_SIZE, 2**20),), credits=False))
    stage.serve("killed", "/killed", [backend], "kubernetes.io/h2c")
    stage.start("--client-timeout=10s")
    for _ in range(uploads.count):
        _give_up(stage, uploads)
    with Http2.connect(stage.address) as client:
        client.read(0.05)
        honest = client.open(post("/killed/honest"), end=False)
        client.upload(honest, HONEST[:FIRST], 1.0, is_whole=False)
        client.read(0.3)
        # The backend reads at last, and gives back what the uploads that were given up had taken.
        for session in backend.sessions:
            session.send(http2.window_update(0, 2**22))
        sent = client.upload(honest, HONEST[FIRST:], 3.0)
        first = client.finish(honest, 3.0).label()
    later = [ask1(stage, "GET", "/killed/x", "x").label for _ in range(5)]
    told = f"honest {first}, all sent: {sent}; later {later}; {stage.backends[0].connections} connections"
    return Outcome("served" if set(later) == {"whole"} and first == "200" else "dead", told)


def _give_up(stage: Stage, uploads: Uploads) -> None:
    announced = [("content-length", str(uploads.size + 1))]
    if uploads.by_reset:
        with Http2.connect(stage.address) as client:
            client.read(0.05)
            stream = client.open(post("/killed/x", more=announced), end=False)
            client.upload(stream, bytes(uploads.size), 0.3, is_whole=False)
            client.read(0.1)
            client.send(rst_stream(stream))
            client.read(0.1)
        return
    with Stream.connect(stage.address) as stream1:
        stream1.try_send(request("POST", "/killed/x", announced) + bytes(uploads.size))
        stream1.rest(0.2)
        stream1.reset()


def nothing(_: Stage) -> None:
    """Starts no router: these cases do, with a backend of their own."""


def add_to(group: Group) -> None:
    """Adds the families."""
    share = "docs/security.md: what one client does not read, or gives up, is not missing to others of that backend"
    limits = {f"{streams or 'no'} limit": streams for streams in (None, 100, 250, 1000)}
    group.family("windows of 0 beside others", share, nothing, silenced, limits, {"served"}, room=Room.OWN)
    uploads = {
        f"{count} of {size}, {'reset' if by_reset else 'closed'}": Uploads(count, size, by_reset)
        for count in (1, 3, 6)
        for size in (70_000, 200_000)
        for by_reset in (True, False)
    }
    group.family("uploads that are given up", share, nothing, killed, uploads, {"served"}, room=Room.OWN)
