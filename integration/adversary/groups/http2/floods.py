"""Floods of frames that cost a client little."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from cases import Group, Outcome, Room
from groups.http2.scene import scene, serves_others
from rig.stage import Stage
from wire import http2
from wire.http2 import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PING,
    PRIORITY,
    SETTINGS,
    Http2,
    frame,
    get,
    post,
    rst_stream,
    settings,
    window_update,
)

GROWTH = 40.0
"""Resident memory, in MB, that a single connection may cost; the windows of 256 streams and buffers are below it."""
PIECE = 1000
"""Frames that are sent in one piece."""


@dataclass(frozen=True)
class Flood:
    """Frames that are sent until all are, the connection ends, or the time is up."""

    frames: Callable[[Http2], Iterator[bytes]]
    values: tuple[tuple[int, int], ...] = ()
    reads: bool = False


def flooded(stage: Stage, flood: Flood) -> Outcome:
    """Floods: memory stays bounded, and another client is served meanwhile."""
    before = stage.router.resident()
    stage.router.forget_peak()
    served: list[bool] = []
    with Http2.connect(stage.address, flood.values) as client:
        sender = threading.Thread(target=_send, args=(client, flood), daemon=True)
        sender.start()
        sender.join(0.3)
        served.append(serves_others(stage))
        sender.join(6.0)
        growth = stage.router.peak() - before
        told = f"{growth:.0f} MB more, limit {GROWTH:.0f}; {client.verdict()}"
        served.append(serves_others(stage))
    if not stage.router.is_alive():
        return Outcome("the router ended", told)
    if not all(served):
        return Outcome("others are not served", told)
    return Outcome("bounded" if growth < GROWTH else "beyond", told)


def _send(client: Http2, flood: Flood) -> None:
    for piece in flood.frames(client):
        if not client.wire.try_send(piece, 2.0):
            return
        if flood.reads:
            client.read(0.001)


def again(data: bytes, count: int) -> Callable[[Http2], Iterator[bytes]]:
    """Returns a flood of the same frame."""

    def frames(_: Http2) -> Iterator[bytes]:
        for _piece in range(count // PIECE):
            yield data * PIECE

    return frames


def rapid_resets(path: str, streams: int) -> Callable[[Http2], Iterator[bytes]]:
    """Returns a flood of requests that are reset at once."""

    def frames(client: Http2) -> Iterator[bytes]:
        for _ in range(streams // 100):
            piece = b""
            for _ in range(100):
                stream, head = client.head(get(path))
                piece += head + rst_stream(stream)
            yield piece

    return frames


def bodies(path: str, data: bytes, count: int, end: bool = False) -> Callable[[Http2], Iterator[bytes]]:
    """Returns a flood of DATA frames on one stream."""

    def frames(client: Http2) -> Iterator[bytes]:
        stream, head = client.head(post(path), end=False)
        yield head
        yield from again(frame(DATA, 0, stream, data), count)(client)
        if end:
            yield frame(DATA, END_STREAM, stream, b"")

    return frames


def continuations(data: bytes, count: int) -> Callable[[Http2], Iterator[bytes]]:
    """Returns a flood of CONTINUATION."""

    def frames(client: Http2) -> Iterator[bytes]:
        yield frame(HEADERS, END_STREAM, 1, client.encoder.encode(get("/r/x")))
        yield from again(frame(CONTINUATION, 0, 1, data), count)(client)

    return frames


def bomb(client: Http2) -> Iterator[bytes]:
    """Yields requests that refer 4 000 times to a field of 4 KB in the table of HPACK."""
    stored = b"\x40\x01a\x7f\xa1\x1e" + b"a" * 4000
    for number in range(1, 60, 2):
        head = client.encoder.encode(get("/r/x")) + (stored if number == 1 else b"") + b"\xbe" * 4000
        yield frame(HEADERS, END_HEADERS | END_STREAM, number, head)


def unread_answers(path: str, streams: int) -> Callable[[Http2], Iterator[bytes]]:
    """Returns a flood of requests for large answers on a connection that nobody reads."""

    def frames(client: Http2) -> Iterator[bytes]:
        for _ in range(streams):
            yield client.head(get(path))[1]

    return frames


CLOSED = ((http2.INITIAL_WINDOW_SIZE, 0),)
FLOODS = {
    "rapid reset of served requests": Flood(rapid_resets("/r/x", 20_000)),
    "rapid reset of own answers": Flood(rapid_resets("/nope", 20_000)),
    "rapid reset of a model's": Flood(rapid_resets("/v1/models", 20_000)),
    "PING": Flood(again(frame(PING, 0, 0, bytes(8)), 200_000)),
    "SETTINGS": Flood(again(settings([(4, 65535)]), 200_000)),
    "empty SETTINGS": Flood(again(frame(SETTINGS, 0, 0), 200_000)),
    "PRIORITY": Flood(again(frame(PRIORITY, 0, 99, bytes(5)), 200_000)),
    "WINDOW_UPDATE of 1": Flood(again(window_update(0, 1), 200_000)),
    "RST_STREAM": Flood(again(rst_stream(1), 200_000)),
    "unknown frames": Flood(again(frame(99, 0, 0, bytes(50)), 200_000)),
    "empty CONTINUATION": Flood(continuations(b"", 100_000)),
    "CONTINUATION of 10 MB": Flood(continuations(b"\x00\x01a\x7f\x01" + b"a" * 128, 80_000)),
    "a bomb of HPACK": Flood(bomb, reads=True),
    "large answers that nobody reads": Flood(unread_answers("/r/large", 250)),
    "large answers in windows of 0": Flood(unread_answers("/r/large", 250), CLOSED),
    **{
        f"{kind} frames, {name}, {'a closed window' if values else 'open windows'}": Flood(
            bodies(path, data, 1_000_000), values
        )
        for kind, data in (("empty", b""), ("1-byte", b"x"))
        for name, path in (
            ("own answer", "/nope"),
            ("served", "/r/x"),
            ("deaf backend", "/deaf"),
            ("model", "/v1/completions"),
        )
        for values in ((), CLOSED)
    },
}


def add_to(group: Group) -> None:
    """Adds the family."""
    promise = "docs/security.md: memory is bounded by what is buffered, and one connection does not hold up others"
    group.family("floods", promise, scene, flooded, FLOODS, {"bounded"}, room=Room.OWN)
