"""Bodies that contradict their lengths."""

from __future__ import annotations

from dataclasses import dataclass

from cases import Group, Outcome
from groups.http2.scene import scene, seen_whole
from rig.stage import Stage
from wire.http2 import Http2, post, rst_stream

BODY = b'{"model":"m","prompt":"x"}'
DOORS = {"model": "/v1/completions", "route": "/r/x", "own": "/nope"}


@dataclass(frozen=True)
class Body:
    """The lengths that are said, and the pieces that are sent; the last one ends the stream."""

    path: str
    lengths: tuple[str, ...]
    pieces: tuple[bytes, ...]


def uploaded(stage: Stage, body: Body) -> Outcome:
    """Sends a body: a whole request with another body than was announced reaches nobody."""
    tag = stage.tag()
    fields = post(body.path, more=[("x-tag", tag), *(("content-length", length) for length in body.lengths)])
    with Http2.connect(stage.address) as client:
        stream = client.open(fields, end=not body.pieces)
        for place, piece in enumerate(body.pieces):
            client.data(stream, piece, end=place == len(body.pieces) - 1)
        reply = client.finish(stream)
        told = f"{reply.label()} {client.verdict()}; {len(seen_whole(stage, tag))} whole"
        if seen_whole(stage, tag):
            return Outcome("served", told)
        if reply.reset is not None or (reply.status or 0) in (400, 413) or client.end or client.gone:
            return Outcome("refused", told)
        return Outcome(f"answered {reply.status}" if reply.status else "not answered", told)


def _variants() -> dict[str, Body]:
    size = str(len(BODY))
    made = {}
    for door in ("model", "route"):
        for name, lengths, pieces in (
            ("too short", (str(len(BODY) + 1),), (BODY,)),
            ("too short, in pieces", (str(len(BODY) + 1),), (BODY[:3], BODY[3:])),
            ("too long", (str(len(BODY) - 1),), (BODY,)),
            ("too long, in pieces", (str(len(BODY) - 1),), (BODY[:3], BODY[3:])),
            ("a body after length 0", ("0",), (BODY,)),
            ("none", (size,), ()),
            ("none but an empty frame", (size,), (b"",)),
            ("two equal lengths", (size, size), (BODY,)),
            ("two lengths", (size, "5"), (BODY,)),
            ("two lengths, the wrong one first", ("5", size), (BODY,)),
            ("two lengths without a body", ("5", "7"), ()),
            ("a list", (f"{size}, {size}",), (BODY,)),
            ("hexadecimal", ("0x1a",), (BODY,)),
            ("a sign", (f"+{size}",), (BODY,)),
            ("negative", ("-1",), (BODY,)),
            ("empty", ("",), (BODY,)),
            ("65 bits", ("18446744073709551642",), (BODY,)),
            ("a wrong length of nothing", ("x",), ()),
        ):
            made[f"{door}: {name}"] = Body(DOORS[door], lengths, pieces)
    return made


@dataclass(frozen=True)
class Broken:
    """How an upload ends before its end."""

    path: str
    by_reset: bool


def given_up(stage: Stage, broken: Broken) -> Outcome:
    """Gives an upload up in the middle: the backend must not take it for a whole one."""
    tag = stage.tag()
    client = Http2.connect(stage.address)
    stream = client.open(post(broken.path, more=[("x-tag", tag)]), end=False)
    client.data(stream, BODY[:5])
    client.read(0.2)
    if broken.by_reset:
        client.send(rst_stream(stream))
        client.read(0.5)
    client.close()
    with Http2.connect(stage.address) as other:
        other.is_served("/r/later")
    whole = seen_whole(stage, tag)
    return Outcome("served" if whole else "not whole", f"{len(whole)} whole")


def add_to(group: Group) -> None:
    """Adds the families."""
    lengths = "RFC 9113, section 8.1.1, docs/security.md: a length that is not that of the data is malformed"
    group.family("lengths", lengths, scene, uploaded, _variants(), {"refused"})
    variants = {
        f"{door}: {'reset' if by_reset else 'closed'}": Broken(path, by_reset)
        for door, path in DOORS.items()
        for by_reset in (True, False)
    }
    promise = "RFC 9112, section 8: an incomplete message is never passed on as a whole one"
    group.family("given up", promise, scene, given_up, variants, {"not whole"})
