"""Heads that are large, slow or cut off."""

from __future__ import annotations

from cases import Group, Outcome
from groups.framing.scene import scene
from rig.stage import Stage
from wire.http1 import Unframed, answer
from wire.stream import Stream, soon

START = b"GET /r/x HTTP/1.1\r\nhost: router\r\n"


def bounded(stage: Stage, head: bytes) -> Outcome:
    """Sends a head that is too large: it is refused, and the connection does not go on with it."""
    with Stream.connect(stage.address) as stream:
        stream.try_send(head)
        return _status(stream)


def given_up(stage: Stage, piece: bytes) -> Outcome:
    """Sends the beginning of a request and waits: the router does not."""
    with Stream.connect(stage.address) as stream:
        stream.try_send(piece)
        read, end = stream.rest(5.0)
    return Outcome("still open" if end == "open" else "given up", f"{read[:60]!r} {end}")


def _status(stream: Stream) -> Outcome:
    try:
        got = answer(stream)
    except TimeoutError:
        return Outcome("still open")
    except Unframed as error:
        return Outcome("not HTTP", str(error))
    if got is None:
        return Outcome("closed")
    end = stream.rest(5.0)[1]
    return Outcome(str(got.status) if end != "open" else f"{got.status}, still open")


def slow(stage: Stage, step: int) -> Outcome:
    """Sends a head a few bytes at a time: its time is that of the whole head, not that between two bytes."""
    head = START + b"x-a: " + b"a" * 400 + b"\r\n\r\n"
    with Stream.connect(stage.address) as stream:
        deadline = soon(4.0)
        for begin in range(0, len(head), step):
            if not stream.try_send(head[begin : begin + step]):
                return Outcome("closed")
            try:
                stream.put_back(stream.receive(soon(0.1)))
            except TimeoutError:
                if deadline < soon(0.0):
                    return Outcome("still open")
                continue
            except Exception:
                return Outcome("closed")
            return _status(stream)
    return Outcome("still open")


LARGE = {
    "97 fields": START + b"".join(b"x-%d: 1\r\n" % number for number in range(97)) + b"\r\n",
    "10 000 fields": START + b"a: b\r\n" * 10_000 + b"\r\n",
    "a value of 200 KB": START + b"x-a: " + b"a" * 200_000 + b"\r\n\r\n",
    "a name of 200 KB": START + b"a" * 200_000 + b": b\r\n\r\n",
    "a target of 200 KB": b"GET /r/" + b"a" * 200_000 + b" HTTP/1.1\r\nhost: router\r\n\r\n",
    "a method of 200 KB": b"G" * 200_000 + b" / HTTP/1.1\r\nhost: router\r\n\r\n",
    "a chunk extension of 1 MB": b"POST /r/x HTTP/1.1\r\nhost: router\r\ntransfer-encoding: chunked\r\n\r\n1;"
    + b"a" * 1_000_000,
    "trailers of 1 MB": b"POST /r/x HTTP/1.1\r\nhost: router\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n"
    + b"a: b\r\n" * 170_000,
    "empty lines without end": b"\r\n" * 200_000,
}
CUT = {
    "nothing": b"",
    "a letter": b"P",
    "half a preface": b"PRI * HTTP/2.0\r\n\r\nSM\r",
    "half a line": b"GET /r/x HT",
    "half a head": START + b"x-a: ",
    "a head whose body does not come": b"POST /r/x HTTP/1.1\r\nhost: router\r\ncontent-length: 5\r\n\r\n",
    "half a body": b"POST /r/x HTTP/1.1\r\nhost: router\r\ncontent-length: 5\r\n\r\nab",
    "half a chunk": b"POST /r/x HTTP/1.1\r\nhost: router\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab",
    "a model whose body does not come": b"POST /v1/completions HTTP/1.1\r\nhost: router\r\ncontent-length: 5\r\n\r\n",
    "a TLS hello": bytes.fromhex("1603010200010001fc0303") + bytes(64),
    "zeros": bytes(64),
}


def add_to(group: Group) -> None:
    """Adds the families."""
    large = "docs/security.md, Limits: 96 fields and 128 KiB for a head, else 431 or the connection ends"
    refused = {"431", "400", "408", "414", "413", "closed"}
    group.family("large heads", large, scene, bounded, LARGE, refused)
    time = "docs/security.md, Limits: the time for a head and between pieces of a body is --client-timeout"
    group.family("given up", time, scene, given_up, CUT, {"given up"})
    group.family(
        "slow heads", time, scene, slow, {"one byte at a time": 1, "three bytes at a time": 3}, {"408", "closed"}
    )
