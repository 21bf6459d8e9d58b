"""Windows, padding, and many streams at a time."""

from __future__ import annotations

from dataclasses import dataclass

from cases import Group, Outcome, Room
from groups.http2.scene import LARGE, patient, scene
from rig.stage import Stage
from wire import http2
from wire.http2 import Http2, get, padded, post, settings, window_update

Values = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Read:
    """Windows of a client, and how it widens them."""

    values: Values
    path: str
    size: int
    step: int | None = None
    """How much it adds to the stream's window each time; nothing if as much as it has read."""


def downloaded(stage: Stage, read: Read) -> Outcome:
    """Reads an answer: it comes whole, and never more of it than the windows allow."""
    with Http2.connect(stage.address, read.values, credit=read.step is None) as client:
        stream = client.open(get(read.path))
        allowed = dict(read.values).get(http2.INITIAL_WINDOW_SIZE, 65535)
        reply = client.reply(stream)
        while read.step and not reply.is_over and client.end is None and allowed < read.size + read.step:
            client.read(0.01)
            if len(reply.body) > allowed:
                return Outcome("more than allowed", f"{len(reply.body)} of {allowed}")
            client.send(window_update(stream, read.step) + window_update(0, read.step))
            allowed += read.step
        client.finish(stream, 10.0)
        whole = reply.status == 200 and len(reply.body) == read.size
        return Outcome("whole" if whole else "not whole", f"{reply.label()} {len(reply.body)} of {read.size}")


READS = {
    "the default windows": Read((), "/r/large", LARGE),
    "the largest windows": Read(((4, http2.LARGEST_WINDOW),), "/r/large", LARGE),
    "a window of 0, then 1 byte at a time": Read(((4, 0),), "/r/x", 1, 1),
    "a window of 0, then 64 KiB at a time": Read(((4, 0),), "/r/large", LARGE, 65536),
    "a window of 1, then 7 000 at a time": Read(((4, 1),), "/r/large", LARGE, 7_000),
    "no dynamic table": Read(((1, 0),), "/r/large", LARGE),
    "a large dynamic table": Read(((1, 2**31),), "/r/large", LARGE),
    "the largest frames": Read(((5, 2**24 - 1),), "/r/large", LARGE),
    "a header list of 100 bytes": Read(((6, 100),), "/r/x", 1),
    "one stream at a time": Read(((3, 1),), "/r/large", LARGE),
}


def shrunk(stage: Stage, value: int) -> Outcome:
    """Changes the initial window while an answer is under way: it goes below 0 and comes back."""
    with Http2.connect(stage.address, credit=False) as client:
        stream = client.open(get("/r/large"))
        client.read(0.3)
        client.send(settings([(http2.INITIAL_WINDOW_SIZE, value)]))
        client.read(0.1)
        client.credit = True
        client.send(window_update(0, 2 * LARGE) + window_update(stream, 2 * LARGE))
        reply = client.finish(stream, 10.0)
        whole = len(reply.body) == LARGE
        return Outcome("whole" if whole else "not whole", f"{reply.label()} {len(reply.body)}")


@dataclass(frozen=True)
class Upload:
    """Frames of an upload with padding."""

    data: int
    padding: int
    frames: int


def padded_upload(stage: Stage, upload: Upload) -> Outcome:
    """Uploads padded frames within the windows: padding is given back like data."""
    with Http2.connect(stage.address) as client:
        client.read(0.05)
        stream = client.open(post("/r/upload"), end=False)
        client.stream_windows[stream] = client.settings.get(http2.INITIAL_WINDOW_SIZE, 65535)
        cost = upload.data + upload.padding + 1
        for place in range(upload.frames):
            for _ in range(100):
                if min(client.window, client.stream_windows[stream]) >= cost or client.end:
                    break
                client.read(0.05)
            else:
                return Outcome("stalled", f"after {place} frames")
            client.window -= cost
            client.stream_windows[stream] -= cost
            client.send(padded(bytes(upload.data), upload.padding, stream, end=place == upload.frames - 1))
        reply = client.finish(stream)
        whole = reply.body == b"%d" % (upload.data * upload.frames)
        return Outcome("whole" if whole else "not whole", f"{reply.label()} {bytes(reply.body[:20])!r}")


def beside_stuck(stage: Stage, uploads: int) -> Outcome:
    """Uploads beside uploads whose backend does not read: an honest one on the same connection goes through."""
    with Http2.connect(stage.address) as client:
        client.read(0.05)
        for _ in range(uploads):
            client.upload(client.open(post("/deaf"), end=False), bytes(2**25), 0.5)
        honest = client.open(post("/r/honest"), end=False)
        client.upload(honest, bytes(50_000), 3.0)
        reply = client.finish(honest, 3.0)
        return Outcome("served" if reply.body == b"50000" else "stuck", f"{reply.label()} {bytes(reply.body[:20])!r}")


def beyond_limit(stage: Stage, streams: int) -> Outcome:
    """Opens streams that stay: those beyond the limit are refused, and the others are served."""
    with Http2.connect(stage.address) as client:
        client.read(0.05)
        opened = [client.open(post("/r/x"), end=False) for _ in range(streams)]
        client.read(0.3)
        refused = [number for number in opened if client.reply(number).reset is not None]
        limit = client.settings.get(http2.MAX_CONCURRENT_STREAMS)
        told = f"{len(refused)} refused, limit {limit}, {client.verdict()}"
        if client.verdict() != "open":
            return Outcome("bounded", told)
        client.data(opened[0], b"x", end=True)
        served = client.finish(opened[0]).status == 200
        bounded = limit is not None and len(opened) - len(refused) <= limit
        return Outcome("bounded" if bounded and served else "not bounded", told)


@dataclass(frozen=True)
class Goodbye:
    """A request, and the last stream of the GOAWAY behind it, which is about streams that the router would open."""

    path: str
    last: int


def said_goodbye(stage: Stage, goodbye: Goodbye) -> Outcome:
    """Sends GOAWAY behind a request: it is answered still."""
    with Http2.connect(stage.address) as client:
        stream = client.open(get(goodbye.path))
        client.send(http2.goaway(goodbye.last))
        reply = client.finish(stream)
        return Outcome("answered" if reply.ended and reply.status else "not answered", reply.label())


def add_to(group: Group) -> None:
    """Adds the families."""
    flow = "RFC 9113, section 5.2 and 6.9: an answer fills the windows, no more, and comes whole"
    group.family("windows", flow, scene, downloaded, READS, {"whole"})
    sizes = {f"to {size}": size for size in (0, 1, 100, 16384, 2**20)}
    group.family("a window that changes", flow, scene, shrunk, sizes, {"whole"})
    uploads = {
        f"{frames} frames of {data} and {padding}": Upload(data, padding, frames)
        for data, padding, frames in ((1, 255, 4000), (100, 200, 3000), (5, 250, 4000), (16000, 255, 100))
    }
    padding = "RFC 9113, section 6.9.1: padding counts, and is given back"
    group.family("padding", padding, scene, padded_upload, uploads, {"whole"})
    stuck = {f"{count} stuck": count for count in (1, 3, 8)}
    fair = "docs/security.md, Limits: one stream does not hold up the others of its connection"
    group.family("stuck uploads", fair, patient, beside_stuck, stuck, {"served"}, room=Room.OWN)
    limit = "docs/security.md, Limits: 256 requests at a time on one HTTP/2 connection"
    group.family(
        "streams", limit, scene, beyond_limit, {str(count): count for count in (257, 600)}, {"bounded"}, room=Room.OWN
    )
    goodbye = "RFC 9113, section 6.8: streams that were opened before GOAWAY are finished"
    ways = {
        f"{name}, {last}": Goodbye(path, last)
        for name, path in (("served", "/r/x"), ("large", "/r/large"), ("own", "/nope"))
        for last in (0, http2.LARGEST_WINDOW)
    }
    group.family("goaway", goodbye, scene, said_goodbye, ways, {"answered"})
