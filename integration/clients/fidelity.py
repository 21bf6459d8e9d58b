"""Generated requests and answers, of which nothing may change that is not the router's to change.

Each request is made from a seed, and so is the answer that the engine gives to it; what has arrived on either side is
compared with what was sent.
"""

from __future__ import annotations

import itertools
import json
import random
import re
import socket
import socketserver
import threading
from dataclasses import dataclass, field

MODEL = "org/größe-模型"
"""The name by which the engine knows its model."""
HOST = "fidelity.example"
OF_ROUTER = {
    # An answer in which the model gets its name back must be readable.
    "accept-encoding",
    "connection",
    "content-length",
    "date",
    "host",
    "keep-alive",
    "transfer-encoding",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-request-id",
}
"""What the router or either side's framing sets."""
STATUSES = [200, 200, 200, 201, 400, 404, 409, 422, 429, 500]
WHOLE = 16 << 10
"""The longest chunk that is passed on whole, in bytes; longer ones pass as they arrive."""
WITHIN_NAME = re.compile(rb'"(?:m(?:o(?:d(?:e(?:l(?:"(?::(?:"[^"]*)?)?)?)?)?)?)?)?$')
"""What is held back where a model gets its name back: the field may not be at its end. No chunk here ends so."""
PATHS = ["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/messages", "/rerank", "/v1/audio/speech"]

MEDIUM = "/v1/audio/speech"
"""The call whose answers are bytes of a medium, in which there are no names."""


@dataclass
class Message:
    """A request or an answer as it went over the wire."""

    line: str
    headers: list[tuple[str, str]]
    body: bytes
    chunks: list[bytes] | None = None
    """The body as it is cut into chunks, if it is."""

    def owned(self) -> dict[str, list[str]]:
        """Returns the values of all headers that are the sender's, by name, in their order."""
        values: dict[str, list[str]] = {}
        for name, value in self.headers:
            if name.lower() not in OF_ROUTER:
                values.setdefault(name.lower(), []).append(value)
        return values

    def order(self) -> list[str]:
        """Returns the names of those headers in their order, each where it occurs first: repeated ones are one list."""
        return list(self.owned())


@dataclass
class Connection:
    """A connection over which messages are read."""

    stream: socket.socket
    buffer: bytearray = field(default_factory=bytearray)

    def _more(self) -> None:
        piece = self.stream.recv(1 << 16)
        if not piece:
            raise EOFError
        self.buffer += piece

    def _until(self, end: bytes) -> bytes:
        while (at := self.buffer.find(end)) < 0:
            self._more()
        taken = bytes(self.buffer[:at])
        del self.buffer[: at + len(end)]
        return taken

    def _exactly(self, length: int) -> bytes:
        while len(self.buffer) < length:
            self._more()
        taken = bytes(self.buffer[:length])
        del self.buffer[:length]
        return taken

    def message(self) -> Message:
        """Reads a message with its body."""
        line, *lines = self._until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        headers = [(name, value.strip()) for name, _, value in (header.partition(":") for header in lines)]
        known = {name.lower(): value for name, value in headers}
        if known.get("transfer-encoding") != "chunked":
            return Message(line, headers, self._exactly(int(known.get("content-length", "0"))))
        chunks = []
        while length := int(self._until(b"\r\n"), 16):
            chunks.append(self._exactly(length))
            self._exactly(2)
        self._exactly(2)
        return Message(line, headers, b"".join(chunks), chunks)


class Engine(socketserver.ThreadingTCPServer):
    """An engine that keeps what it gets, and answers as the seed in the request says."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, host: str, port: int) -> None:
        super().__init__((host, port), _Handler)
        self.seen: dict[str, Message] = {}
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Ends the engine."""
        self.shutdown()
        self.server_close()


class _Handler(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        connection = Connection(self.request)
        try:
            while True:
                request = connection.message()
                seed = dict(request.headers).get("x-seed")
                if seed is None:
                    self.request.sendall(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")
                    continue
                self.server.seen[seed] = request  # type: ignore[attr-defined]
                self.request.sendall(_wire(answer(seed)))
        except (EOFError, OSError):
            return


def request(seed: str, model: str) -> Message:
    """Makes a request."""
    rng = random.Random(f"request {seed}")
    fields = [(_text(rng), _value(rng, 3)) for _ in range(rng.randrange(6))]
    fields = [(key, value) for key, value in fields if key not in ('"model"', '"stream"', '"stream_options"')]
    fields.insert(rng.randrange(len(fields) + 1), ('"model"', json.dumps(model, ensure_ascii=rng.random() < 0.5)))
    if rng.random() < 0.5:
        fields += [('"stream"', "true"), ('"stream_options"', '{"include_usage": true}')]
    pairs = (f"{_blank(rng)}{key}{_blank(rng)}:{_blank(rng)}{value}{_blank(rng)}" for key, value in fields)
    body = f"{_blank(rng)}{{{','.join(pairs)}}}{_blank(rng)}".encode()
    query = rng.choice(["", "?a=1&a=2&b=%2F+", "?", "?api-version=%C3%A9"])
    headers = [("host", HOST), *_kept(rng), ("x-seed", seed), ("content-type", "application/json"), *_headers(rng)]
    chunks = _cut(rng, body, 20_000) if rng.random() < 0.5 else None
    return Message(f"POST {rng.choice(PATHS)}{query} HTTP/1.1", headers, body, chunks)


def answer(seed: str) -> Message:
    """Makes an answer."""
    rng = random.Random(f"answer {seed}")
    chunks: list[bytes] | None = None
    if rng.random() < 0.4:
        kind, events = "text/event-stream", _events(rng)
        chunks = events if rng.random() < 0.5 else _cut(rng, b"".join(events), rng.choice([5, 100, 1000]))
        body = b"".join(chunks)
    else:
        kind = rng.choice(["application/json", "audio/mpeg", "text/plain; charset=utf-8", "application/octet-stream"])
        body = rng.randbytes(rng.choice([0, 1, 100, 5000, 70_000]))
        if rng.random() < 0.5:
            body += b"." if WITHIN_NAME.search(body[-100:]) else b""
            chunks = _cut(rng, body, rng.choice([1000, 20_000, 60_000]))
    headers = [("content-type", kind), *_kept(rng), ("set-cookie", "a=1"), *_headers(rng), ("set-cookie", "b=2; Path=/")]
    return Message(f"HTTP/1.1 {rng.choice(STATUSES)} As-It-Is", headers, body, chunks)


def _events(rng: random.Random) -> list[bytes]:
    """Makes a stream of events, one or a few in each chunk."""
    end = rng.choice(["\n", "\r\n", "\r"])
    usage = {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}}
    chunks = []
    for _ in range(rng.randrange(1, 30)):
        event = ""
        for _ in range(rng.choice([1, 1, 1, 2, 5])):
            data = rng.choice([{"model": MODEL, "choices": [{"delta": {"content": rng.choice(["Hi", "模😀", "x" * 500])}}]}, usage])
            text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
            event += rng.choice([f"data: {text}", f"data:{text}", f"id: 1{end}data: {text}", ": keep-alive"]) + end + end
        chunks.append(event.encode())
    return [*chunks, f"data: [DONE]{end}{end}".encode()]


def _cut(rng: random.Random, body: bytes, most: int) -> list[bytes]:
    """Cuts a body into chunks, none of which ends where something is held back."""
    chunks, begin, end = [], 0, 0
    while end < len(body):
        end = min(end + rng.randrange(1, most), len(body))
        while end < len(body) and WITHIN_NAME.search(body[begin:end][-100:]):
            end += 1
        chunks.append(body[begin:end])
        begin = end
    return chunks


def _wire(message: Message) -> bytes:
    """Writes a message, with a length or in chunks."""
    lines = [message.line, *(f"{name}: {value}" for name, value in message.headers)]
    if message.chunks is None:
        lines.append(f"content-length: {len(message.body)}")
        framed = message.body
    else:
        lines.append("transfer-encoding: chunked")
        framed = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in message.chunks) + b"0\r\n\r\n"
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + framed


def _headers(rng: random.Random) -> list[tuple[str, str]]:
    names = ["X-A", "x-b", "x-a", "anthropic-beta", "Retry-After", "x-ratelimit-remaining", "accept", "traceparent"]
    return [(rng.choice(names), rng.choice(["", "1", "a, b", "\xe9", "q=0.5; x"])) for _ in range(rng.randrange(6))]


def _kept(rng: random.Random) -> list[tuple[str, str]]:
    """Makes what many clients and servers say in front of everything else, which ends with their connection."""
    return [("Connection", "keep-alive")] if rng.random() < 0.3 else []


def _blank(rng: random.Random) -> str:
    return rng.choice(["", "", " ", "\n", "\t", " \r\n "])


def _text(rng: random.Random) -> str:
    return json.dumps("".join(rng.choice("ab \"\\/é模\0\x1f😀") for _ in range(rng.randrange(1, 8))), ensure_ascii=rng.random() < 0.5)


def _value(rng: random.Random, depth: int) -> str:
    plain = ["9007199254740993", "1e400", "-0", "1.0", "1" * 40, "true", "null", r'"\/"', r'"\u0000"', '"\\ud83d\\ude00"']
    kind = rng.randrange(4 if depth else 2)
    if kind == 0:
        return rng.choice(plain)
    if kind == 1:
        return _text(rng)
    inner = [_value(rng, depth - 1) for _ in range(rng.randrange(4))]
    if kind == 2:
        return f"[{','.join(inner)}]"
    return "{" + ",".join(f"{_text(rng)}{_blank(rng)}:{value}" for value in inner) + "}"


def faults(engine: Engine, address: tuple[str, int], model: str, count: int, road: str) -> list[str]:
    """Sends requests, and returns what has changed on its way."""
    found: list[str] = []
    with socket.create_connection(address, timeout=20.0) as stream:
        connection = Connection(stream)
        for number in range(count):
            seed = f"{road}-{number}"
            sent = request(seed, model)
            stream.sendall(_wire(sent))
            got, given = connection.message(), _given(seed, MODEL if MEDIUM in sent.line else model)
            seen = engine.seen.pop(seed, None)
            if seen is None:
                found.append(f"{seed}: it did not arrive: {got}")
                continue
            found += [
                f"{seed}: {what}: {old!r} became {new!r}"
                for what, old, new in (
                    ("the request's line", sent.line, seen.line),
                    ("the request's headers", sent.owned(), seen.owned()),
                    ("the order of the request's headers", sent.order(), seen.order()),
                    ("the request's body", _renamed(sent.body, model), seen.body),
                    ("the status", given.line.split(" ")[1], got.line.split(" ")[1]),
                    ("the answer's headers", given.owned(), got.owned()),
                    ("the order of the answer's headers", given.order(), got.order()),
                    ("the answer's body", given.body, got.body),
                    ("the answer's chunks", *_boundaries(given, got)),
                )
                if old != new
            ]
    return found


def _given(seed: str, model: str) -> Message:
    """Returns an answer with the client's name for its model."""
    given = answer(seed)
    names = [json.dumps(name, ensure_ascii=False).encode() for name in (MODEL, model)]
    chunks = given.chunks and [chunk.replace(*names) for chunk in given.chunks]
    return Message(given.line, given.headers, given.body.replace(*names), chunks)


def _boundaries(given: Message, got: Message) -> tuple[list[int], list[int]]:
    """Returns where the chunks of an answer end, but for the ends within long ones, which pass as they arrive."""
    if given.chunks is None:
        return [], []
    ends, arrived = (list(itertools.accumulate(map(len, chunks))) for chunks in (given.chunks, got.chunks or []))
    long = [(end - len(chunk), end) for chunk, end in zip(given.chunks, ends, strict=True) if len(chunk) > WHOLE]
    return ends, [end for end in arrived if not any(begin < end < last for begin, last in long)]


def _renamed(body: bytes, model: str) -> bytes:
    """Returns a body with the engine's name for its model, which differs if the client's does."""
    if model == MODEL:
        return body
    old = {json.dumps(model, ensure_ascii=ascii).encode() for ascii in (True, False)}
    for name in old:
        body = body.replace(name, json.dumps(MODEL, ensure_ascii=False).encode())
    return body
