"""HTTP/2 answers that are malformed, cut off, or break the protocol."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cases import Group, Outcome
from groups.upstreams.client import ask1, ask2
from rig.backend import Seen
from rig.backend2 import Script, Session
from rig.stage import Stage
from wire.http2 import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PADDED,
    PING,
    PUSH_PROMISE,
    frame,
    goaway,
    padded,
    rst_stream,
    settings,
    window_update,
)

Fields = list[tuple[str, str]]
Answer = Callable[[Session, int], bytes]
OK: Fields = [(":status", "200")]
REFUSED = frozenset({"own 500", "own 502", "own 503", "own 504"})
CUT, WHOLE = frozenset({"cut"}), frozenset({"whole"})
SIZE = 1_000_000


def block(fields: Fields, end: bool = False) -> Answer:
    """Returns the HEADERS of an answer."""
    flags = END_HEADERS | (END_STREAM if end else 0)
    return lambda session, stream: frame(HEADERS, flags, stream, session.encoder.encode(fields))


def then(*parts: Answer | bytes) -> Answer:
    """Returns frames one behind the other."""
    return lambda session, stream: b"".join(
        part if isinstance(part, bytes) else part(session, stream) for part in parts
    )


def data(content: bytes, end: bool = False) -> Answer:
    """Returns a DATA frame."""
    return lambda _, stream: frame(DATA, END_STREAM if end else 0, stream, content)


def on_stream(kind: int, flags: int, payload: bytes) -> Answer:
    """Returns a frame on the request's stream."""
    return lambda _, stream: frame(kind, flags, stream, payload)


def reset(code: int) -> Answer:
    """Returns a RST_STREAM."""
    return lambda _, stream: rst_stream(stream, code)


def shut(session: Session, _: int) -> bytes:
    """Closes the connection behind what was sent."""
    session.is_over = True
    return b""


def padded_body(session: Session, stream: int) -> bytes:
    """Sends a body of 10 000 bytes in 2 000 frames within the windows; the most of it is padding."""
    session.head(stream)
    for place in range(2000):
        for _ in range(100):
            if min(session.windows[0], session.windows[stream]) >= 261:
                break
            session.step(0.05)
        session.windows[0] -= 261
        session.windows[stream] -= 261
        session.send(padded(b"12345", 255, stream, end=place == 1999))
    return b""


HEAD = block(OK)
LIES: Mapping[str, tuple[Answer, frozenset[str]]] = {
    "reset at once": (reset(2), REFUSED),
    "reset as cancelled": (reset(8), REFUSED),
    "reset without an error": (reset(0), REFUSED),
    "reset behind the head": (then(HEAD, reset(2)), CUT | REFUSED),
    "reset behind data": (then(HEAD, data(b"x"), reset(2)), CUT | REFUSED),
    "reset without an error behind data": (then(HEAD, data(b"x"), reset(0)), CUT | REFUSED),
    "the connection ends": (then(goaway(2**31 - 1, 2), shut), REFUSED),
    "it ends behind the head": (then(HEAD, goaway(0, 2), shut), CUT | REFUSED),
    "no status": (block([("x-a", "b")], True), REFUSED),
    "two statuses": (block([*OK, (":status", "500")], True), REFUSED),
    "status of letters": (block([(":status", "abc")], True), REFUSED),
    "status 1000": (block([(":status", "1000")], True), REFUSED),
    "status 0": (block([(":status", "0")], True), REFUSED),
    # The router's HTTP/2 library passes over those that are known.
    "a pseudo-header field of requests": (block([*OK, (":path", "/")], True), REFUSED | WHOLE),
    "status behind a field": (block([("x-a", "b"), *OK], True), REFUSED),
    "a name in upper case": (block([*OK, ("X-Upper", "b")], True), REFUSED),
    "connection": (block([*OK, ("connection", "close")], True), REFUSED | WHOLE),
    "transfer-encoding": (block([*OK, ("transfer-encoding", "chunked")], True), REFUSED | WHOLE),
    "a value with CRLF": (block([*OK, ("x-a", "b\r\nx-c: d")], True), REFUSED),
    "a value with NUL": (block([*OK, ("x-a", "b\0")], True), REFUSED),
    "too little data": (then(block([*OK, ("content-length", "9")]), data(b"x", True)), CUT | REFUSED),
    "no data for a length": (block([*OK, ("content-length", "9")], True), CUT | REFUSED),
    "too much data": (then(block([*OK, ("content-length", "1")]), data(b"xyz", True)), CUT | REFUSED),
    "two lengths": (
        then(block([*OK, ("content-length", "1"), ("content-length", "3")]), data(b"xyz", True)),
        CUT | REFUSED,
    ),
    "a length of letters": (then(block([*OK, ("content-length", "abc")]), data(b"xyz", True)), CUT | REFUSED),
    "data before the head": (then(data(b"x"), HEAD), REFUSED),
    "data on another stream": (lambda _, stream: frame(DATA, 0, stream + 100, b"x"), REFUSED),
    "data on the connection": (then(frame(DATA, 0, 0, b"x")), REFUSED),
    "a head on the connection": (then(frame(HEADERS, END_HEADERS, 0, b"\x88")), REFUSED),
    "a promise": (on_stream(PUSH_PROMISE, END_HEADERS, b"\0\0\0\2\x82"), REFUSED),
    "padding of the whole frame": (then(HEAD, on_stream(DATA, PADDED, b"\5\0\0")), CUT | REFUSED),
    "a frame beyond the largest": (then(HEAD, on_stream(DATA, 0, bytes(2**20))), CUT | REFUSED),
    "an index that HPACK does not have": (on_stream(HEADERS, END_HEADERS, b"\xff\xff\x7f"), REFUSED),
    "half a head, then PING": (then(on_stream(HEADERS, 0, b"\x88"), frame(PING, 0, 0, bytes(8))), REFUSED),
    "a head without end": (
        then(on_stream(HEADERS, 0, b"\x88"), lambda _, stream: frame(CONTINUATION, 0, stream, bytes(100)) * 20_000),
        REFUSED,
    ),
    "a head of 1 MB": (
        then(
            on_stream(HEADERS, 0, b"\x88"),
            lambda _, stream: frame(CONTINUATION, 0, stream, b"\x00\x01a\x7f\x80\x7e" + b"b" * 16255) * 60,
            on_stream(CONTINUATION, END_HEADERS, b""),
        ),
        REFUSED,
    ),
    "SETTINGS of 5 bytes": (then(frame(4, 0, 0, bytes(5))), REFUSED),
    "a window of 0": (then(window_update(0, 0)), REFUSED),
    "a window beyond 31 bits": (then(window_update(0, 2**31 - 1) * 2), REFUSED),
    "HTTP/1.1": (then(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n"), REFUSED),
    "100 without end": (
        then(lambda s, n: b"".join(block([(":status", "100")])(s, n) for _ in range(20_000)), shut),
        REFUSED,
    ),
    "padding most of all": (padded_body, WHOLE),
    "empty frames": (then(HEAD, lambda _, stream: frame(DATA, 0, stream) * 50, data(b"x", True)), WHOLE),
    "hints before the answer": (then(block([(":status", "103"), ("link", "x")]), HEAD, data(b"x", True)), WHOLE),
    "trailers": (then(HEAD, data(b"x"), block([("x-a", "b")], True)), WHOLE),
    "PING and SETTINGS between": (
        then(HEAD, frame(PING, 0, 0, bytes(8)), settings([(4, 100)]), data(b"x", True)),
        WHOLE,
    ),
    "204": (block([(":status", "204")], True), WHOLE),
    "unknown frames": (then(frame(99, 0, 0, b"x"), HEAD, on_stream(99, 0, b"x"), data(b"x", True)), WHOLE),
}


def lying(answer: Answer) -> Script:
    """Returns a script that lies to a POST, and answers anything else with its tag."""

    def complete(session: Session, seen: Seen) -> None:
        if seen.method == "POST":
            session.send(answer(session, seen.stream))
        else:
            session.answer(seen.stream, seen.values("x-tag")[0].encode())

    return Script(complete=complete)


def slug(name: str) -> str:
    """Returns the name of a lie as a part of a path."""
    return f"lie-{list(LIES).index(name)}"


def scene(stage: Stage) -> None:
    """Leads a path to a backend for each lie."""
    for name, (answer, _) in LIES.items():
        stage.serve(slug(name), f"/{slug(name)}", [stage.backend2(lying(answer))], "kubernetes.io/h2c")
    stage.start("--client-timeout=10s")


@dataclass(frozen=True)
class Told:
    """A lie, and the client's version of HTTP."""

    name: str
    version: int


def heard(stage: Stage, told: Told) -> Outcome:
    """Asks for a lie, and then for the truth."""
    tag, path = stage.tag(), f"/{slug(told.name)}"
    ask = ask2 if told.version == 2 else ask1
    view = ask(stage, "POST", f"{path}/x", tag, b"body")
    times = sum(len(backend.of(tag)) for backend in stage.backends)
    after = ask(stage, "GET", f"{path}/good", f"{tag}-good", b"")
    seen = f"{view.told()}, seen {times} times; then {after.told()}"
    if after.body != f"{tag}-good".encode():
        return Outcome("the next request is lost", seen)
    return Outcome(view.label if times <= 1 else "sent more than once", seen)


def add_to(group: Group) -> None:
    """Adds each lie for both versions."""
    promise = "RFC 9113, section 8.1.1: a malformed answer is not passed on as a whole one, and harms no other request"
    for version in (1, 2):
        variants = {name: Told(name, version) for name in LIES}
        group.family(f"HTTP/2 answers, to {version}", promise, scene, heard, variants, lambda told: LIES[told.name][1])
