"""HTTP/1.1 answers that are malformed, cut off, or more than was asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cases import Group, Outcome
from groups.upstreams.client import View, ask1, ask2
from rig import manifests
from rig.backend import Connection, Play
from rig.stage import Stage

BODY = b'{"model":"MODEL","prompt":"x"}'
HEAD = b"HTTP/1.1 200 OK\r\n"
NEXT = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nstolen"
"""An answer that nobody asked for: whoever gets it has been lied to."""
REFUSED = frozenset({"own 502", "own 503", "own 500"})
CUT = frozenset({"cut"})
WHOLE = frozenset({"whole"})
CLOSED = frozenset({"closed"})


@dataclass(frozen=True)
class Lie:
    """Bytes that answer a request, in which `TAG` is the request's; how the connection ends; what clients may see."""

    data: bytes
    allowed: frozenset[str]
    end: str = "close"
    """`close`, `reset`, or `keep`."""
    reads: bool = True
    """Whether the request is read first."""


def length(count: int, body: bytes = b"TAG") -> bytes:
    """Returns an answer that says a length."""
    return HEAD + b"content-length: %d\r\n\r\n" % count + body


def chunks(data: bytes) -> bytes:
    """Returns an answer in chunks, which are written by hand."""
    return HEAD + b"transfer-encoding: chunked\r\n\r\n" + data


LIES: dict[str, Lie] = {
    "closed before the request is read": Lie(b"", REFUSED, reads=False),
    "reset before the request is read": Lie(b"", REFUSED, "reset", reads=False),
    "closed": Lie(b"", REFUSED),
    "reset": Lie(b"", REFUSED, "reset"),
    "half a status line": Lie(b"HTTP/1.1 20", REFUSED),
    "half a head": Lie(HEAD + b"content-le", REFUSED),
    "half a head, reset": Lie(HEAD + b"content-le", REFUSED, "reset"),
    "no HTTP": Lie(b"220 mail ESMTP\r\n\r\n", REFUSED),
    "a body alone": Lie(b"<html>TAG</html>\r\n\r\n", REFUSED),
    "TLS": Lie(bytes.fromhex("15030100020246"), REFUSED),
    "an HTTP/2 preface": Lie(b"\0\0\0\4\0\0\0\0\0", REFUSED),
    "nothing of the body": Lie(length(1000, b""), CUT | REFUSED),
    "too little": Lie(length(1000), CUT | REFUSED),
    "too little, reset": Lie(length(1000), CUT | REFUSED, "reset"),
    "far too little": Lie(length(2**63 - 1), CUT | REFUSED),
    "chunks without end": Lie(chunks(b"4\r\nTAG-\r\n"), CUT | REFUSED),
    "no chunk at all": Lie(chunks(b""), CUT | REFUSED),
    "half a chunk": Lie(chunks(b"ff\r\nTAG"), CUT | REFUSED),
    "a chunk without a number": Lie(chunks(b"zz\r\nTAG\r\n0\r\n\r\n"), CUT | REFUSED, "keep"),
    "a chunk of 65 bits": Lie(chunks(b"10000000000000000\r\nTAG\r\n0\r\n\r\n"), CUT | REFUSED, "keep"),
    "a chunk that is longer than it says": Lie(chunks(b"1\r\nTAG\r\n0\r\n\r\n"), CUT | REFUSED, "keep"),
    "chunks, half of the trailers": Lie(chunks(b"4\r\nTAG-\r\n0\r\nx-a"), CUT | REFUSED),
    "two lengths": Lie(HEAD + b"content-length: 3\r\ncontent-length: 5\r\n\r\nTAG--", REFUSED, "keep"),
    "a list of lengths": Lie(HEAD + b"content-length: 3, 5\r\n\r\nTAG--", REFUSED, "keep"),
    "a negative length": Lie(HEAD + b"content-length: -1\r\n\r\nTAG", REFUSED, "keep"),
    "a length with a plus": Lie(HEAD + b"content-length: +3\r\n\r\nTAG", REFUSED, "keep"),
    "a length of letters": Lie(HEAD + b"content-length: abc\r\n\r\nTAG", REFUSED, "keep"),
    "a length of 65 bits": Lie(HEAD + b"content-length: 18446744073709551619\r\n\r\nTAG", REFUSED, "keep"),
    "a length and chunks": Lie(
        HEAD + b"content-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n" + NEXT, REFUSED | WHOLE, "keep"
    ),
    "chunks not last": Lie(HEAD + b"transfer-encoding: chunked, gzip\r\n\r\n3\r\nTAG\r\n0\r\n\r\n", REFUSED, "keep"),
    "an unknown encoding": Lie(HEAD + b"transfer-encoding: xyz\r\n\r\nTAG", REFUSED, "keep"),
    "a folded line": Lie(HEAD + b"x-a: b\r\n c: d\r\ncontent-length: 0\r\n\r\n", REFUSED | WHOLE, "keep"),
    "a blank before the colon": Lie(HEAD + b"content-length : 0\r\n\r\n", REFUSED, "keep"),
    "NUL in a value": Lie(HEAD + b"x-a: a\0b\r\ncontent-length: 0\r\n\r\n", REFUSED, "keep"),
    "CR in a value": Lie(HEAD + b"x-a: a\rb\r\ncontent-length: 0\r\n\r\n", REFUSED, "keep"),
    "no colon": Lie(HEAD + b"nonsense\r\ncontent-length: 0\r\n\r\n", REFUSED, "keep"),
    "150 fields": Lie(HEAD + b"x-a: b\r\n" * 150 + b"content-length: 0\r\n\r\n", REFUSED | WHOLE, "keep"),
    "5 000 fields": Lie(HEAD + b"x-a: b\r\n" * 5000 + b"content-length: 0\r\n\r\n", REFUSED, "keep"),
    "a field of 1 MB": Lie(HEAD + b"x-a: " + b"b" * 2**20 + b"\r\ncontent-length: 0\r\n\r\n", REFUSED, "keep"),
    "a head without end": Lie(HEAD + b"x-a: b\r\n" * 200_000, REFUSED, "keep"),
    "a change of protocol": Lie(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n" + NEXT, REFUSED, "keep"),
    "100 without end": Lie(b"HTTP/1.1 100 Continue\r\n\r\n" * 100_000, REFUSED, "close"),
    "status 099": Lie(b"HTTP/1.1 099 X\r\ncontent-length: 0\r\n\r\n", REFUSED, "keep"),
    "status 0": Lie(b"HTTP/1.1 000 X\r\ncontent-length: 0\r\n\r\n", REFUSED, "keep"),
    "status 1000": Lie(b"HTTP/1.1 1000 X\r\ncontent-length: 0\r\n\r\n", REFUSED, "keep"),
    "status of letters": Lie(b"HTTP/1.1 abc X\r\ncontent-length: 0\r\n\r\n", REFUSED, "keep"),
    "HTTP/2.0 in a line": Lie(b"HTTP/2.0 200 OK\r\ncontent-length: 0\r\n\r\n", REFUSED, "keep"),
    "HTTP/0.9 in a line": Lie(b"HTTP/0.9 200 OK\r\ncontent-length: 0\r\n\r\n", REFUSED, "keep"),
    "another answer behind": Lie(length(3) + NEXT, WHOLE, "keep"),
    "another answer behind chunks": Lie(chunks(b"3\r\nTAG\r\n0\r\n\r\n") + NEXT, WHOLE, "keep"),
    "another answer behind 204": Lie(b"HTTP/1.1 204 None\r\n\r\n" + NEXT, WHOLE, "keep"),
    "a body behind 204": Lie(b"HTTP/1.1 204 None\r\ncontent-length: 6\r\n\r\nstolen", WHOLE | REFUSED, "keep"),
    "a body behind 304": Lie(b"HTTP/1.1 304 None\r\ncontent-length: 6\r\n\r\nstolen", WHOLE, "keep"),
    "close, and yet kept": Lie(HEAD + b"connection: close\r\ncontent-length: 3\r\n\r\nTAG" + NEXT, WHOLE, "keep"),
    "HTTP/1.0 that ends by closing": Lie(b"HTTP/1.0 200 OK\r\n\r\nTAG", WHOLE),
    "an end by closing": Lie(HEAD + b"\r\nTAG", WHOLE),
    "an end by a reset": Lie(HEAD + b"\r\nTAG", CUT | REFUSED, "reset"),
    "an early answer": Lie(length(3), WHOLE, "close", reads=False),
    "hints before the answer": Lie(b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + length(3), WHOLE, "keep"),
    "lines that end in LF": Lie(b"HTTP/1.1 200 OK\ncontent-length: 3\n\nTAG", WHOLE | REFUSED, "keep"),
    "no reason": Lie(b"HTTP/1.1 200 \r\ncontent-length: 3\r\n\r\nTAG", WHOLE, "keep"),
    "two equal lengths": Lie(HEAD + b"content-length: 3\r\ncontent-length: 3\r\n\r\nTAG", WHOLE | REFUSED, "keep"),
    "framing in trailers": Lie(chunks(b"3\r\nTAG\r\n0\r\ncontent-length: 7\r\nhost: x\r\n\r\n"), WHOLE, "keep"),
    "connection that names the length": Lie(
        HEAD + b"connection: content-length\r\ncontent-length: 3\r\n\r\nTAG", WHOLE | REFUSED, "close"
    ),
}
Ask = Callable[[Stage, str, str, str, bytes], View]


def lying(lie: Lie) -> Play:
    """Returns a play that lies to a POST, and answers anything else with its tag."""

    def play(connection: Connection) -> None:
        while True:
            seen = connection.head()
            if seen is None:
                return
            tag = (seen.values("x-tag") or [""])[0].encode()
            if seen.method != "POST":
                connection.send(HEAD + b"content-length: %d\r\n\r\n" % len(tag) + tag)
                continue
            if lie.reads:
                connection.read_body(seen)
            connection.send(lie.data.replace(b"TAG", tag[-3:]))
            if lie.end == "reset":
                connection.stream.reset()
            if lie.end != "keep":
                return

    return play


def slug(name: str) -> str:
    """Returns the name of a lie as a part of a path, and of a model."""
    return f"lie-{list(LIES).index(name)}"


def scene(stage: Stage) -> None:
    """Leads a path and a model to a backend for each lie."""
    for name, lie in LIES.items():
        backend = stage.backend(lying(lie))
        stage.serve(slug(name), f"/{slug(name)}", [backend])
        stage.write(f"model-{slug(name)}.yaml", _model(slug(name), backend.address))
    stage.start("--client-timeout=10s")


def _model(name: str, address: str) -> list[manifests.Object]:
    return [
        *manifests.pods(name, [address]),
        manifests.model_server(name),
        manifests.model_route(name, name, name),
    ]


@dataclass(frozen=True)
class Told:
    """A lie, by which road it comes, and to what client."""

    name: str
    ask: Ask
    is_model: bool

    @property
    def most(self) -> int:
        """How often it is seen: a kept connection that is closed without a word was idle in all likelihood, and what
        only computes an answer is run once more."""
        return 2 if self.is_model and self.name.startswith("closed") else 1


def heard(stage: Stage, told: Told) -> Outcome:
    """Asks for a lie, and then for the truth: an answer is another one's never, a POST is not seen too often."""
    tag = stage.tag()
    name = slug(told.name)
    path = "/v1/completions" if told.is_model else f"/{name}/x"
    view = told.ask(stage, "POST", path, tag, BODY.replace(b"MODEL", name.encode()))
    times = sum(len(backend.of(tag)) for backend in stage.backends)
    after = told.ask(stage, "GET", f"/{name}/good", tag + "-good", b"")
    seen = f"{view.told()}, seen {times} times; then {after.told()}"
    if b"stolen" in view.body or b"stolen" in after.body:
        return Outcome("another one's answer", seen)
    if after.body != f"{tag}-good".encode():
        return Outcome("the next request is lost", seen)
    if times > told.most:
        return Outcome("sent more than once", seen)
    if view.label == "cut" and view.status is None:
        return Outcome("no answer", seen)
    return Outcome(view.label, seen)


def add_to(group: Group) -> None:
    """Adds each lie by three roads."""
    roads: dict[str, tuple[Ask, bool]] = {
        "route": (ask1, False),
        "route, HTTP/2": (ask2, False),
        "model": (ask1, True),
    }
    promise = "RFC 9112, section 6.3, RFC 9110, section 9.2.2: what is not whole is not passed on as whole; sent once"
    for road, (ask, is_model) in roads.items():
        variants = {name: Told(name, ask, is_model) for name in LIES}
        group.family(f"answers, {road}", promise, scene, heard, variants, lambda told: LIES[told.name].allowed)
