"""Backends that speak HTTP/1.1 as they are told, and remember what they were asked."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from rig.network import ENGINE_PORT
from wire.http1 import chunk
from wire.stream import Closed, Stream, soon

IDLE_SECONDS = 20.0
OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"
METRICS = b"vllm:num_requests_running 0\nvllm:num_requests_waiting 0\nvllm:gpu_cache_usage_perc 0\n"


@dataclass
class Seen:
    """A request that a backend has seen: its head, and of its body what has come."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    connection: int
    body: bytes = b""
    whole: bool = False
    stream: int = 0
    at: float = field(default_factory=time.monotonic)

    def values(self, name: str) -> list[str]:
        """Returns the values of a header field."""
        return [value for known, value in self.headers if known == name]


class Connection:
    """A connection to a backend."""

    def __init__(self, backend: Backend, stream: Stream, number: int) -> None:
        self.backend = backend
        self.stream = stream
        self.number = number

    def head(self) -> Seen | None:
        """Reads the head of the next request; scrapes are answered on the way. Nothing at the connection's end."""
        while True:
            try:
                head = self.stream.until(b"\r\n\r\n", soon(IDLE_SECONDS))
            except (Closed, TimeoutError):
                return None
            first, *lines = head[:-4].decode("latin-1").split("\r\n")
            method, _, rest = first.partition(" ")
            fields = [line.partition(":")[::2] for line in lines]
            headers = [(name.lower(), value.strip()) for name, value in fields]
            seen = Seen(method, rest.rpartition(" ")[0], headers, self.number)
            if seen.target == "/metrics" and self.backend.is_engine:
                self.backend.scrapes += 1
                self.send(plain(200, METRICS))
                continue
            self.backend.requests.append(seen)
            return seen

    def request(self) -> Seen | None:
        """Reads the next request whole; nothing if there is none, or only a part of it."""
        seen = self.head()
        if seen is None or not self.read_body(seen):
            return None
        return seen

    def read_body(self, seen: Seen) -> bool:
        """Reads the body of a request whose head has been read; returns whether it came whole."""
        deadline = soon(IDLE_SECONDS)
        try:
            if seen.values("transfer-encoding"):
                while size := int(self.stream.until(b"\r\n", deadline)[:-2], 16):
                    seen.body += self.stream.exactly(size + 2, deadline)[:-2]
                self.stream.until(b"\r\n", deadline)
            elif lengths := seen.values("content-length"):
                seen.body = self.stream.exactly(int(lengths[0]), deadline)
        except (Closed, TimeoutError, ValueError):
            return False
        seen.whole = True
        return True

    def send(self, data: bytes) -> bool:
        """Sends bytes; returns whether the router took them."""
        return self.stream.try_send(data, IDLE_SECONDS)

    def wait(self, seconds: float = IDLE_SECONDS) -> None:
        """Does nothing for a time, or until the backend ends."""
        self.backend.ending.wait(seconds)

    def gone(self, seconds: float) -> bool:
        """Says whether the router ends the connection in time; what it sends meanwhile is dropped."""
        return self.stream.rest(seconds)[1] != "open"


Play = Callable[[Connection], None]


def plain(status: int, body: bytes = b"{}", *headers: str) -> bytes:
    """Returns an answer with a length."""
    lines = [f"HTTP/1.1 {status} Scripted", f"content-length: {len(body)}", *headers]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def chunked(*pieces: bytes, end: bool = True, headers: str = "") -> bytes:
    """Returns an answer in chunks."""
    head = f"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n{headers}\r\n".encode("latin-1")
    return head + b"".join(chunk(piece) for piece in pieces) + (chunk(b"") if end else b"")


def answering(reply: Callable[[Seen], bytes | None]) -> Play:
    """Returns a play that answers each request whole; nothing closes the connection."""

    def play(connection: Connection) -> None:
        while (seen := connection.request()) is not None:
            data = reply(seen)
            if data is None or not connection.send(data):
                return

    return play


def always(data: bytes) -> Play:
    """Returns a play that gives the same answer to each request, and to a HEAD only its head."""
    head = data[: data.index(b"\r\n\r\n") + 4]
    return answering(lambda seen: head if seen.method == "HEAD" else data)


def named(name: str) -> Play:
    """Returns a play whose answers say who gave them."""
    return always(plain(200, name.encode(), "content-type: text/plain"))


class Backend:
    """A backend: a port on which a play is given to each connection, on a thread of its own."""

    def __init__(
        self,
        address: str,
        play: Play = always(OK),
        tls: ssl.SSLContext | None = None,
        is_engine: bool = True,
        receive_buffer: int | None = None,
    ) -> None:
        self.address = address
        self.play = play
        self.is_engine = is_engine
        self.requests: list[Seen] = []
        self.connections = 0
        self.scrapes = 0
        self.ending = threading.Event()
        self._tls = tls
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server((address, ENGINE_PORT), backlog=1024)
        if receive_buffer:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        threading.Thread(target=self._accept, daemon=True).start()

    def of(self, text: str) -> list[Seen]:
        """Returns the requests with this text in their targets or headers."""
        return [seen for seen in list(self.requests) if text in seen.target or text in str(seen.headers)]

    def open_connections(self) -> int:
        """Returns the number of connections that have not ended."""
        return len(self._open)

    def close(self) -> None:
        """Ends the port and its connections."""
        self.ending.set()
        self._listener.close()
        for connection in list(self._open):
            _shut(connection)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._open.add(connection)
            threading.Thread(target=self._serve, args=(connection, self.connections), daemon=True).start()

    def _serve(self, connection: socket.socket, number: int) -> None:
        try:
            connection.settimeout(IDLE_SECONDS)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            stream = self._tls.wrap_socket(connection, server_side=True) if self._tls else connection
            self.serve(Stream(stream), number)
            _shut(stream)
        except OSError:
            # The router gave the connection up: what it made of that is the case's question.
            pass
        finally:
            self._open.discard(connection)
            connection.close()

    def serve(self, stream: Stream, number: int) -> None:
        """Gives the play to a connection."""
        self.play(Connection(self, stream, number))


def _shut(connection: socket.socket) -> None:
    # It may be closed already.
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
