"""Frames that RFC 9113 does not allow, and some that have to be passed over."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping

from cases import Group, Outcome
from groups.http2.scene import scene, serves_others
from rig.stage import Stage
from wire import http2
from wire.http2 import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PADDED,
    PING,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Http2,
    frame,
    get,
    post,
    settings,
    window_update,
)
from wire.stream import Stream

Frames = Callable[[Http2], bytes]


def said(stage: Stage, frames: Frames) -> Outcome:
    """Sends frames behind the preface: the connection ends, or goes on as if they had not been sent."""
    with Http2.connect(stage.address) as client:
        client.read(0.05)
        client.send(frames(client))
        # The frames may have been about the stream that the first request opens.
        served = client.is_served("/r/after") or client.is_served("/r/after")
        if any(reply.reset is not None for reply in client.replies.values()) and served:
            label = "stream reset"
        else:
            label = "served on" if served else "ended" if client.verdict() != "open" else "silent"
        told = client.verdict()
    return Outcome(label if serves_others(stage) else "others are not served", told)


def opening(stage: Stage, data: bytes) -> Outcome:
    """Sends something else than a preface and SETTINGS."""
    with Stream.connect(stage.address) as stream:
        stream.try_send(data)
        # A client that says nothing for 3 s is told that the connection ends, and has 3 s to take its leave.
        read, end = stream.rest(9.0)
    if read.startswith((b"HTTP/1.1 4", b"HTTP/1.1 5")):
        return Outcome("refused")
    return Outcome("ended" if end != "open" else "open", f"{read[:60]!r}")


def raw(*frames: bytes) -> Frames:
    """Returns frames that do not depend on the connection."""
    return lambda _: b"".join(frames)


def block(client: Http2, stream: int = 1, flags: int = END_HEADERS | END_STREAM) -> bytes:
    """Returns the HEADERS of a GET."""
    return frame(HEADERS, flags, stream, client.encoder.encode(get("/r/x")))


def _upload(client: Http2, data: bytes) -> bytes:
    return client.head(post("/r/x"), end=False)[1] + data


CONNECTION_ERRORS: Mapping[str, Frames] = {
    "DATA on the connection": raw(frame(DATA, 0, 0, b"x")),
    "HEADERS on the connection": lambda client: block(client, 0),
    "HEADERS on an even stream": lambda client: block(client, 2),
    "HEADERS on a lower stream": lambda client: block(client, 7) + block(client, 5),
    "DATA on an idle stream": raw(frame(DATA, 0, 9, b"x")),
    "RST_STREAM on an idle stream": raw(http2.rst_stream(9)),
    "RST_STREAM on the connection": raw(http2.rst_stream(0)),
    "RST_STREAM of 3 bytes": lambda client: _upload(client, frame(RST_STREAM, 0, 1, bytes(3))),
    "WINDOW_UPDATE on an idle stream": raw(window_update(9, 1)),
    "WINDOW_UPDATE of 3 bytes": raw(frame(WINDOW_UPDATE, 0, 0, bytes(3))),
    "WINDOW_UPDATE of 0": raw(window_update(0, 0)),
    "a window beyond 31 bits": raw(window_update(0, http2.LARGEST_WINDOW), window_update(0, http2.LARGEST_WINDOW)),
    "CONTINUATION without HEADERS": raw(frame(CONTINUATION, END_HEADERS, 1, b"")),
    "DATA between HEADERS and CONTINUATION": lambda client: block(client, 1, 0) + frame(DATA, 0, 1, b"x"),
    "PING between HEADERS and CONTINUATION": lambda client: block(client, 1, 0) + frame(PING, 0, 0, bytes(8)),
    "CONTINUATION on another stream": lambda client: block(client, 1, 0) + frame(CONTINUATION, END_HEADERS, 3, b""),
    "an unknown frame before CONTINUATION": lambda client: block(client, 1, 0) + frame(99, 0, 1, b""),
    "SETTINGS of 5 bytes": raw(frame(SETTINGS, 0, 0, bytes(5))),
    "SETTINGS on a stream": raw(frame(SETTINGS, 0, 1, b"")),
    "an acknowledgement with a payload": raw(frame(SETTINGS, http2.ACK, 0, bytes(6))),
    "ENABLE_PUSH 2": raw(settings([(http2.ENABLE_PUSH, 2)])),
    "INITIAL_WINDOW_SIZE beyond 31 bits": raw(settings([(http2.INITIAL_WINDOW_SIZE, 2**31)])),
    "MAX_FRAME_SIZE 1": raw(settings([(http2.MAX_FRAME_SIZE, 1)])),
    "MAX_FRAME_SIZE beyond 24 bits": raw(settings([(http2.MAX_FRAME_SIZE, 2**24)])),
    "PING of 7 bytes": raw(frame(PING, 0, 0, bytes(7))),
    "PING on a stream": raw(frame(PING, 0, 1, bytes(8))),
    "GOAWAY of 4 bytes": raw(frame(GOAWAY, 0, 0, bytes(4))),
    "GOAWAY on a stream": raw(frame(GOAWAY, 0, 1, struct.pack(">II", 2**31 - 1, 0))),
    "PUSH_PROMISE of a client": raw(frame(PUSH_PROMISE, END_HEADERS, 1, bytes(4))),
    "a frame beyond the largest": raw(frame(PING, 0, 0, bytes(2**20))),
    "padding of the whole frame": lambda client: _upload(client, frame(DATA, PADDED, 1, bytes([5, 0, 0]))),
    "a padded frame of nothing": lambda client: _upload(client, frame(DATA, PADDED, 1, b"")),
    "padding of the whole HEADERS": raw(frame(HEADERS, PADDED | END_HEADERS | END_STREAM, 1, bytes([9, 0]))),
    "an index that HPACK does not have": raw(frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\xff\xff\x7f")),
    "index 0": raw(frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\x80")),
    "half a string": raw(frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\x00\x7fabc")),
    "an integer without end": raw(frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\x3f" + b"\xff" * 100)),
    "a table beyond the limit": raw(frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\x3f\xe1\xff\x7f")),
    "broken Huffman code": raw(frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\x00\x84\xff\xff\xff\xff\x00")),
}
STREAM_ERRORS: Mapping[str, Frames] = {
    "DATA on an ended stream": lambda client: client.head(get("/r/x"))[1] + frame(DATA, 0, 1, b"x"),
    "HEADERS on an ended stream": lambda client: client.head(get("/r/x"))[1] + block(client, 1),
    "trailers without an end": lambda client: _upload(client, block(client, 1, END_HEADERS)),
    "trailers with a pseudo-header field": lambda client: _upload(client, block(client, 1)),
    "WINDOW_UPDATE of 0 on a stream": lambda client: _upload(client, window_update(1, 0)),
    "a stream's window beyond 31 bits": lambda client: _upload(client, window_update(1, http2.LARGEST_WINDOW)),
    "PRIORITY of 4 bytes": raw(frame(PRIORITY, 0, 1, bytes(4))),
    "a stream that depends on itself": raw(frame(PRIORITY, 0, 1, struct.pack(">IB", 1, 5))),
    "PRIORITY on the connection": raw(frame(PRIORITY, 0, 0, bytes(5))),
}
PASSED_OVER: Mapping[str, Frames] = {
    "an unknown frame": raw(frame(99, 0xFF, 0, b"x")),
    "an unknown frame on an idle stream": raw(frame(99, 0xFF, 9, b"x")),
    "an unknown setting": raw(settings([(0xFFFF, 1)])),
    "unknown flags": raw(frame(PING, 0xFE, 0, bytes(8))),
    "PRIORITY on an idle stream": raw(frame(PRIORITY, 0, 9, struct.pack(">IB", 0, 5))),
    "a PING": raw(frame(PING, 0, 0, bytes(8))),
    "an acknowledged PING that nobody sent": raw(frame(PING, http2.ACK, 0, bytes(8))),
    "the reserved bit": lambda client: struct.pack(">BHBBI", 0, 8, PING, 0, 2**31) + bytes(8),
    "empty SETTINGS": raw(settings()),
    "window update of the largest step": raw(window_update(0, http2.LARGEST_WINDOW - 2**20)),
}
OPENINGS = {
    "a preface with another word": b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n" + settings(),
    "PRI as a request": b"PRI * HTTP/1.1\r\nhost: router\r\n\r\n",
    "PRI of HTTP/2.0 with fields": b"PRI * HTTP/2.0\r\nhost: router\r\n\r\n",
    "PING before SETTINGS": http2.PREFACE + frame(PING, 0, 0, bytes(8)),
    "a preface twice": http2.PREFACE + http2.PREFACE,
    "a preface and HTTP/1.1": http2.PREFACE + b"GET / HTTP/1.1\r\nhost: router\r\n\r\n",
    "a preface and nothing": http2.PREFACE,
}


def add_to(group: Group) -> None:
    """Adds the families."""
    errors = "RFC 9113, sections 4 to 6, RFC 7541: a connection error ends this connection and no other"
    group.family("connection errors", errors, scene, said, CONNECTION_ERRORS, {"ended"})
    # A connection error in place of a stream error is allowed (section 5.4.2), and what deprecated PRIORITY says is not
    # looked at by everyone.
    stream = "RFC 9113, sections 5.1, 5.3 and 8.1: a stream error ends at most this connection"
    group.family("stream errors", stream, scene, said, STREAM_ERRORS, {"stream reset", "ended", "served on"})
    ignored = "RFC 9113, sections 4.1 and 5.5: what is unknown is passed over"
    group.family("passed over", ignored, scene, said, PASSED_OVER, {"served on"})
    preface = "RFC 9113, section 3.4: what does not begin with the preface is no connection"
    group.family("openings", preface, scene, opening, OPENINGS, {"ended", "refused"})
