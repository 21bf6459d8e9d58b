"""What a client sees of an answer: whole, cut off, or the router's own; over HTTP/1.1 and HTTP/2."""

from __future__ import annotations

from dataclasses import dataclass

from rig.stage import Stage
from wire import http1
from wire.http1 import Unframed, answer
from wire.http2 import Http2, get, post
from wire.stream import Stream

PATIENCE = 8.0
OWN = frozenset({500, 502, 503, 504})


@dataclass(frozen=True)
class View:
    """An answer as a client sees it."""

    label: str
    """`whole`, `cut`, `own STATUS`, `closed`, `hangs`, or `not HTTP`."""
    status: int | None = None
    body: bytes = b""

    def told(self) -> str:
        """Returns it in one line."""
        return f"{self.label} {self.status or ''} {self.body[:80]!r}"


def _label(status: int, whole: bool, body: bytes) -> str:
    if status in OWN and b'"error"' in body and whole:
        return f"own {status}"
    return "whole" if whole else "cut"


def ask1(stage: Stage, method: str, path: str, tag: str, body: bytes = b"") -> View:
    """Asks over HTTP/1.1."""
    data = http1.request(method, path, [("x-tag", tag), ("content-type", "application/json")], body)
    with Stream.connect(stage.address) as stream:
        stream.try_send(data)
        try:
            got = answer(stream, method, PATIENCE)
        except TimeoutError:
            return View("hangs")
        except Unframed as error:
            return View("not HTTP", body=str(error).encode())
    if got is None:
        return View("closed")
    return View(_label(got.status, got.whole, got.body), got.status, got.body)


def ask2(stage: Stage, method: str, path: str, tag: str, body: bytes = b"") -> View:
    """Asks over HTTP/2."""
    more = [("x-tag", tag), ("content-type", "application/json")]
    fields = post(path, more=more) if method == "POST" else get(path, more=more)
    with Http2.connect(stage.address) as client:
        stream = client.open(fields, end=not body)
        if body:
            client.upload(stream, body)
        reply = client.finish(stream, PATIENCE)
    if reply.status is None:
        return View("hangs" if reply.reset is None and client.end is None else "closed")
    return View(_label(reply.status, reply.ended, bytes(reply.body)), reply.status, bytes(reply.body))
