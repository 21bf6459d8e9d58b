"""The scene of HTTP/2: a model, a prefix with a backend that remembers, and one with a backend that does not read."""

from __future__ import annotations

from rig import manifests
from rig.backend import Connection, Seen, answering, plain
from rig.stage import Stage
from wire.http2 import Http2

LARGE = 1_000_000


def _reply(seen: Seen) -> bytes:
    if "large" in seen.target:
        return plain(200, bytes(LARGE))
    return plain(200, b"%d" % len(seen.body))


def _deaf(connection: Connection) -> None:
    """Reads the head and nothing behind it."""
    if connection.head():
        connection.wait(20.0)


def scene(stage: Stage) -> None:
    """Serves what `serve` says, with a router that loses patience soon."""
    serve(stage)
    stage.start("--client-timeout=3s", "--client-keep-alive=3s")


def patient(stage: Stage) -> None:
    """Serves the same, with the patience that is the default."""
    serve(stage)
    stage.start()


def serve(stage: Stage) -> None:
    """Serves `m`, `/r`, `/admin` and `/deaf`, and every path of a host of its own."""
    stage.serve_model("m", [stage.backend()])
    stage.serve("r", "/r", [stage.backend(answering(_reply))])
    stage.serve("admin", "/admin", [stage.backend()])
    stage.serve("deaf", "/deaf", [stage.backend(_deaf, receive_buffer=65536)])
    all_paths = stage.backend()
    route = manifests.http_route("all", "default", [manifests.rule("/", "all")], ["all.org"])
    stage.write("all.yaml", [*manifests.service("all", [all_paths.address]), route])


def seen_whole(stage: Stage, tag: str) -> list[Seen]:
    """Returns the requests of a case that backends have seen whole."""
    return [seen for backend in stage.backends for seen in backend.of(tag) if seen.whole]


def serves_others(stage: Stage) -> bool:
    """Says whether another client is served."""
    with Http2.connect(stage.address) as other:
        return other.is_served("/r/others")
