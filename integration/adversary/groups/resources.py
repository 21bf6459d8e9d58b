"""What a client can make the router hold: memory, places, descriptors."""

from __future__ import annotations

import gzip
import json
import os
import signal
import threading
import time
import zlib
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

from cases import Group, Outcome, Room, within
from rig import manifests
from rig.backend import Connection, answering, plain
from rig.crowd import Crowd
from rig.router import wait_for
from rig.stage import Stage
from wire.http1 import answer, chunk, fetch, request
from wire.http2 import INITIAL_WINDOW_SIZE, Http2, get, post
from wire.stream import Stream

LARGE = 4_000_000
NAME = 60_000_000


def _large(connection: Connection) -> None:
    """Answers with more than buffers hold."""
    while connection.request() is not None and connection.send(plain(200, bytes(LARGE))):
        pass


def scene(stage: Stage) -> None:
    """A model, a prefix, one with retries, and one with large answers."""
    serve(stage)
    stage.start("--client-timeout=2s", "--client-keep-alive=2s", "--max-body-bytes=67108864")


def serve(stage: Stage) -> None:
    """Writes the manifests of the scene."""
    stage.serve_model("m", [stage.backend()])
    backend = stage.backend(answering(lambda seen: plain(200, b"%d" % len(seen.body))))
    stage.serve("r", "/r", [backend])
    stage.serve("retry", "/retry", [backend], retry={"attempts": 1, "codes": [503]})
    stage.serve("large", "/large", [stage.backend(_large)])


DOORS = {"model": "/v1/completions", "route": "/r/x", "retry": "/retry/x"}


@dataclass(frozen=True)
class Promise:
    """Bodies that are announced and do not come."""

    path: str
    length: int
    version: int


def announced(stage: Stage, promise: Promise) -> Outcome:
    """Announces bodies and sends one byte of each: memory is for what was sent."""
    before = stage.router.resident()
    lines = [("content-length", str(promise.length)), ("content-type", "application/json")]
    with ExitStack() as stack:
        if promise.version == 2:
            for _ in range(4):
                client = stack.enter_context(Http2.connect(stage.address))
                for _ in range(100):
                    client.data(client.open(post(promise.path, more=lines), end=False), b"{")
        else:
            stack.enter_context(Crowd(stage.address, 400, request("POST", promise.path, lines, b"{")))
        time.sleep(0.8)
        growth = stage.router.resident() - before
    return within(growth, 40.0, "MB more", "400 requests:")


def long_name(stage: Stage, make: Callable[[], bytes]) -> Outcome:
    """Asks for something with a very long name: neither the answer nor the log repeats it."""
    got = fetch(stage.address, request("POST", "/v1/completions", body=make()), 20.0)
    if got is None:
        return Outcome("no answer")
    time.sleep(0.3)
    longest = max(map(len, stage.router.logged().splitlines()), default=0)
    told = f"{got.status}, answer of {len(got.body)} bytes, longest line of the log {longest}"
    refused = 400 <= got.status < 500
    return Outcome("bounded" if refused and len(got.body) < 65536 and longest < 65536 else "repeated", told)


# They are large, and made when they are needed.
LONG: Mapping[str, Callable[[], bytes]] = {
    "a model": lambda: b'{"model":"' + b"x" * NAME + b'"}',
    "a model of escapes": lambda: b'{"model":"' + b"\\u0041" * (NAME // 60) + b'"}',
    "a model of line breaks": lambda: b'{"model":"' + b"\\n" * (NAME // 20) + b'"}',
    "a field that is no model": lambda: b'{"' + b"x" * NAME + b'":1}',
    "no JSON": lambda: b"x" * NAME,
}


def stalled(stage: Stage, version: int) -> Outcome:
    """Asks for large answers and does not read them: their places come back, and so do the backend's connections."""
    backend = stage.backends[2]
    with ExitStack() as stack:
        if version == 2:
            client = stack.enter_context(Http2.connect(stage.address, ((INITIAL_WINDOW_SIZE, 0),)))
            for _ in range(20):
                client.open(get("/large/x"))
            # It reads, answers PING, and yet gives no window.
            reader = threading.Thread(target=client.read, args=(12.0,), daemon=True)
            reader.start()
        else:
            for _ in range(20):
                stream = stack.enter_context(Stream.connect(stage.address, receive_buffer=4096))
                stream.try_send(request("GET", "/large/x"))
        wait_for(lambda: backend.connections >= 20, 3.0)
        begun = time.monotonic()
        back = wait_for(lambda: backend.open_connections() == 0, 10.0)
        told = f"{backend.open_connections()} of {backend.connections} held after {time.monotonic() - begun:.1f} s"
    return Outcome("given back" if back else "held", told)


def too_large(stage: Stage, data: bytes) -> Outcome:
    """Sends a body beyond --max-body-bytes."""
    got = fetch(stage.address, data, 8.0)
    whole = [seen for backend in stage.backends for seen in backend.requests if seen.whole and seen.method == "POST"]
    told = f"{got and got.status}, {len(whole)} whole at backends"
    return Outcome("passed on" if whole else str(got.status) if got else "closed", told)


def small_scene(stage: Stage) -> None:
    """The same with a small limit of bodies."""
    serve(stage)
    stage.start("--max-body-bytes=100000")


def _bodies() -> dict[str, bytes]:
    content = bytes(150_000)
    chunked = b"".join(chunk(content[:10_000]) for _ in range(15)) + chunk(b"")
    made = {}
    for name, path in DOORS.items():
        made[f"{name}, a length"] = request("POST", path, body=content)
        made[f"{name}, chunks"] = request("POST", path, [("transfer-encoding", "chunked")], chunked)
    return made


BOMB = 10_000_000_000
"""How long a bomb is when it is decoded."""
BODY_LIMIT_MB = 64.0
"""What a body may have by default, in MiB."""


def zeros_in(wbits: int) -> bytes:
    """Returns zeros in a coding of zlib, of which what it makes of a MiB is repeated."""
    encoder = zlib.compressobj(9, wbits=wbits)
    first, block = (encoder.compress(bytes(2**20)) + encoder.flush(zlib.Z_SYNC_FLUSH) for _ in range(2))
    return first + block * (BOMB >> 20)


# They are large, and made when they are needed.
BOMBS: Mapping[str, tuple[str, Callable[[], bytes]]] = {
    "gzip": ("gzip", lambda: zeros_in(31)),
    "gzip in members": ("x-gzip", lambda: gzip.compress(bytes(2**20)) * ((BOMB >> 20) + 1)),
    "zlib": ("deflate", lambda: zeros_in(15)),
    "bare deflate": ("deflate", lambda: zeros_in(-15)),
    "gzip in gzip, of 22 KB": ("gzip, gzip", lambda: gzip.compress(zeros_in(31))),
}


def by_default(stage: Stage) -> None:
    """A model, with the limits that nobody changes."""
    serve(stage)
    stage.start()


def bomb(stage: Stage, which: tuple[str, Callable[[], bytes]]) -> Outcome:
    """Sends a bomb four times: each is refused, and never more of it is kept than a body may have."""
    coding, make = which
    data = request("POST", "/v1/completions", [("content-encoding", coding)], make())
    before = stage.router.resident()
    stage.router.forget_peak()
    for _ in range(4):
        with Stream.connect(stage.address) as stream:
            # The answer comes while it is still being sent.
            stream.try_send(data, 10.0)
            got = answer(stream, "POST", 10.0)
        if got is None or got.status != 413:
            return Outcome("no 413", str(got and got.status))
    growth = stage.router.peak() - before
    return within(growth, 2.0 * BODY_LIMIT_MB, "MB more", f"{len(data) // 1000} KB, four times:")


def unread_log(stage: Stage, which: str) -> Outcome:
    """Leaves what the router writes unread, and makes it write: it serves, and it ends when it is told to."""
    read, write = os.pipe()
    try:
        if which == "stderr":
            router = stage.start("--client-timeout=2s", stderr=write)
        else:
            router = stage.start("--client-timeout=2s", "--access-log-output=stderr", stderr=write)
        os.close(write)
        write = -1
        raw = (
            b"GET / HTTP/1.1\r\nhost: a b\r\ncontent-length: x\r\n\r\n" if which == "stderr" else request("GET", "/r/x")
        )
        for _ in range(2500):
            with Stream.connect(stage.address) as stream:
                if not stream.try_send(raw, 1.0):
                    continue
        served = [fetch(stage.address, request("GET", "/r/x"), 2.0) for _ in range(5)]
        alive = all(got is not None and got.status == 200 for got in served)
        router.signal(signal.SIGTERM)
        code = router.exit_code(8.0)
    except TimeoutError:
        alive, code = False, None
    finally:
        os.close(read)
        if write >= 0:
            os.close(write)
    return Outcome("served and ended" if alive and code == 0 else "stuck", f"served {alive}, exit code {code}")


def nothing(stage: Stage) -> None:
    """Writes the manifests; the case starts the router."""
    serve(stage)


def deleted_series(stage: Stage, kind: str) -> Outcome:
    """Creates, uses and deletes many routes: their series go with them."""
    stage.start()
    fetch(stage.address, request("GET", "/r/x"))
    before = len(stage.router.page("/metrics")[1])
    addresses = [stage.backends[1].address]
    count = 60
    for place in range(3):
        names = [f"gone-{place}-{number}" for number in range(count)]
        if kind == "HTTPRoutes":
            objects = [manifests.http_route(name, "default", [manifests.rule(f"/{name}", "r")]) for name in names]
            data = [request("GET", f"/{name}/x") for name in names]
        else:
            objects = [each for name in names for each in _model(name, addresses)]
            data = [request("POST", "/v1/completions", body=json.dumps({"model": name}).encode()) for name in names]
        stage.write("gone.yaml", objects)
        wait_for(partial(_is_served, stage, data[0]), 5.0)
        for each in data:
            fetch(stage.address, each)
        stage.manifests.remove("gone.yaml")
        time.sleep(0.5)
    wait_for(lambda: len(stage.router.page("/metrics")[1]) < before * 2, 5.0, 0.25)
    after = len(stage.router.page("/metrics")[1])
    return within(after / 1024, before * 2 / 1024, "KB of metrics", f"{before / 1024:.0f} KB before, then")


def _model(name: str, addresses: list[str]) -> list[manifests.Object]:
    server = manifests.model_server(name)
    return [*manifests.pods(name, addresses), server, manifests.model_route(name, name, name)]


def _is_served(stage: Stage, data: bytes) -> bool:
    got = fetch(stage.address, data)
    return got is not None and got.status == 200


def unknown_labels(stage: Stage, template: str) -> Outcome:
    """Asks for many things that are not there: metrics do not grow with what clients make up."""
    stage.start()
    fetch(stage.address, request("GET", "/r/x"))
    before = len(stage.router.page("/metrics")[1])
    for number in range(400):
        name = f"made-up-{number}"
        method, _, path = template.replace("NAME", name).partition(" ")
        path, _, host = path.partition(" ")
        body = json.dumps({"model": name}).encode() if method == "POST" else b""
        fetch(stage.address, request(method, path, body=body, host=host or "router"))
    after = len(stage.router.page("/metrics")[1])
    return within(after / 1024, before * 1.5 / 1024 + 8, "KB of metrics", f"{before / 1024:.0f} KB before, then")


LABELS: Mapping[str, str] = {
    "models": "POST /v1/completions",
    "paths": "GET /NAME",
    "calls": "POST /v1/NAME",
    "methods": "NAME /r/x",
    "hosts": "GET /r/x NAME",
}


def add_to(group: Group) -> None:
    """Adds the families."""
    cost = "docs/security.md: memory is bounded by what was really received"
    promises = {
        f"{name}, {length} bytes, HTTP/{version}": Promise(path, length, version)
        for name, path in DOORS.items()
        for length in (65_536, 2**20, 60_000_000)
        for version in (1, 2)
    }
    group.family("announced bodies", cost, scene, announced, promises, {"within"}, room=Room.OWN)
    names = "docs/security.md, limits on names: an answer and a line of the log do not repeat what is longer"
    group.family("long names", names, scene, long_name, LONG, {"bounded"}, room=Room.OWN)
    stall = "docs/security.md: a write that makes no progress for a limit ends, and its place comes back"
    group.family("stalled readers", stall, scene, stalled, {"HTTP/1": 1, "HTTP/2": 2}, {"given back"}, room=Room.OWN)
    body = "--max-body-bytes: larger bodies are answered with 413"
    group.family("large bodies", body, small_scene, too_large, _bodies(), {"413", "closed"}, room=Room.OWN)
    bombs = "docs/clients.md, compressed requests: 413 beyond --max-body-bytes, and no more memory than that"
    group.family("bombs of codings", bombs, by_default, bomb, BOMBS, {"within"}, room=Room.ALONE)
    log = "docs/security.md: logging never blocks a worker, and SIGTERM works whatever the log does"
    outputs = {"stderr with malformed requests": "stderr", "an access log": "access"}
    group.family("unread logs", log, nothing, unread_log, outputs, {"served and ended"}, room=Room.OWN)
    series = "series of what is deleted go"
    kinds = {name: name for name in ("HTTPRoutes", "ModelRoutes")}
    group.family("deleted routes", series, nothing, deleted_series, kinds, {"within"}, room=Room.OWN)
    labels = "metrics' labels are bounded, whatever clients ask for"
    group.family("made up labels", labels, nothing, unknown_labels, LABELS, {"within"}, room=Room.OWN)


GROUP = Group("resources")
add_to(GROUP)
