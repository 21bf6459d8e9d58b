"""HTTP/1.1 answers as RFC 9112 frames them, and requests in one line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from wire.stream import Closed, Stream, soon

Headers = list[tuple[str, str]]


@dataclass(frozen=True)
class Answer:
    """An answer, or as much of it as came."""

    status: int
    headers: Headers
    body: bytes
    whole: bool = True
    """Whether its framing says that it is complete."""

    def header(self, name: str) -> str | None:
        """Returns the first value of a header field."""
        return next((value for known, value in self.headers if known == name), None)


class Unframed(Exception):
    """What came is not HTTP/1.1."""


def request(
    method: str, target: str, headers: Sequence[tuple[str, str]] = (), body: bytes = b"", host: str = "router"
) -> bytes:
    """Returns a request; a body has its length said unless the headers frame it."""
    lines = [f"{method} {target} HTTP/1.1", f"host: {host}", *(f"{name}: {value}" for name, value in headers)]
    framed = {name.lower() for name, _ in headers} & {"content-length", "transfer-encoding"}
    if body and not framed:
        lines.append(f"content-length: {len(body)}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def chunk(data: bytes) -> bytes:
    """Returns a chunk of a body; an empty one ends it."""
    return b"%x\r\n%s\r\n" % (len(data), data)


def answer(stream: Stream, method: str = "GET", seconds: float = 5.0) -> Answer | None:
    """Reads an answer to a request of this method, or nothing if the connection ends before it begins.

    Raises `TimeoutError` if it does not come in time, and `Unframed` if it is not HTTP.
    """
    deadline = soon(seconds)
    while True:
        try:
            head = stream.until(b"\r\n\r\n", deadline)
        except Closed:
            left = stream.rest(0.01)[0]
            if left:
                raise Unframed(repr(left[:200])) from None
            return None
        status, headers = parse_head(head)
        if status >= 200 or status == 101:
            break
    return _with_body(stream, method, status, headers, deadline)


def parse_head(head: bytes) -> tuple[int, Headers]:
    """Parses the head of an answer."""
    first, *lines = head[:-4].split(b"\r\n")
    parts = first.split(b" ", 2)
    if len(parts) < 2 or parts[0] not in (b"HTTP/1.1", b"HTTP/1.0") or not parts[1].isdigit():
        raise Unframed(repr(first[:200]))
    headers = []
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon:
            raise Unframed(repr(line[:200]))
        headers.append((name.decode("latin-1").lower(), value.strip().decode("latin-1")))
    return int(parts[1]), headers


def _with_body(stream: Stream, method: str, status: int, headers: Headers, deadline: float) -> Answer:
    fields = dict(headers)
    if method == "HEAD" or status in (101, 204, 304):
        return Answer(status, headers, b"")
    body = bytearray()
    try:
        if "transfer-encoding" in fields:
            _read_chunks(stream, body, deadline)
        elif "content-length" in fields:
            body += stream.exactly(int(fields["content-length"]), deadline)
        else:
            while True:
                body += stream.receive(deadline)
    except Closed as end:
        by_close = "transfer-encoding" not in fields and "content-length" not in fields
        if not by_close:
            body += stream.rest(0.01)[0]
        return Answer(status, headers, bytes(body), whole=by_close and not end.reset)
    return Answer(status, headers, bytes(body))


def _read_chunks(stream: Stream, body: bytearray, deadline: float) -> None:
    while True:
        size = stream.until(b"\r\n", deadline)[:-2].partition(b";")[0]
        try:
            count = int(size, 16)
        except ValueError as error:
            raise Unframed(f"chunk size {size!r}") from error
        if count == 0:
            while stream.until(b"\r\n", deadline) != b"\r\n":
                pass
            return
        body += stream.exactly(count, deadline)
        if stream.exactly(2, deadline) != b"\r\n":
            raise Unframed("a chunk does not end in CRLF")


def ask(stream: Stream, data: bytes, seconds: float = 5.0) -> Answer | None:
    """Sends a request and reads its answer."""
    stream.try_send(data, seconds)
    return answer(stream, data.split(b" ", 1)[0].decode("latin-1"), seconds)


def fetch(address: tuple[str, int], data: bytes, seconds: float = 5.0) -> Answer | None:
    """Sends a request over a connection of its own and reads its answer."""
    with Stream.connect(address) as stream:
        return ask(stream, data, seconds)
