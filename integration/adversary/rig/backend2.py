"""Backends that speak HTTP/2 as they are told."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from hpack import Decoder, Encoder

from rig.backend import IDLE_SECONDS, Backend, Seen
from wire import http2
from wire.http2 import Frame, frame, read_frame, window_update
from wire.stream import Closed, Stream, soon


class Session:
    """The server's side of a connection."""

    def __init__(self, backend: Backend, stream: Stream, number: int, script: Script) -> None:
        self.backend = backend
        self.wire = stream
        self.number = number
        self.script = script
        self.encoder = Encoder()
        self.decoder = Decoder()
        self.streams: dict[int, Seen] = {}
        self.windows: dict[int, int] = {0: 65535}
        self.sent: dict[int, int] = {}
        self.initial_window = 65535
        self.is_over = False

    def send(self, data: bytes) -> None:
        """Sends bytes; whether the router still takes them is not of interest."""
        self.wire.try_send(data)

    def head(self, stream: int, status: int = 200, end: bool = False, more: http2.Fields = ()) -> None:
        """Sends the head of an answer."""
        flags = http2.END_HEADERS | (http2.END_STREAM if end else 0)
        fields = [(":status", str(status)), *more]
        self.send(frame(http2.HEADERS, flags, stream, self.encoder.encode(fields)))

    def data(self, stream: int, data: bytes, end: bool = False) -> None:
        """Sends a DATA frame, whatever the windows say."""
        self.send(frame(http2.DATA, http2.END_STREAM if end else 0, stream, data))

    def answer(self, stream: int, body: bytes = b"{}", status: int = 200) -> None:
        """Sends a whole answer that fits into the windows."""
        self.head(stream, status, more=[("content-length", str(len(body)))])
        self.data(stream, body, end=True)

    def pour(self, stream: int, size: int, seconds: float = IDLE_SECONDS, is_end: bool = True) -> bool:
        """Sends a body within the windows and reads meanwhile; returns whether all of it went out."""
        deadline = time.monotonic() + seconds
        while size > 0:
            room = min(self.windows[0], self.windows.setdefault(stream, self.initial_window), 16384, size)
            if room > 0:
                size -= room
                self.windows[0] -= room
                self.windows[stream] -= room
                self.sent[stream] = self.sent.get(stream, 0) + room
                self.data(stream, bytes(room), end=is_end and size == 0)
            elif time.monotonic() > deadline or self.is_over:
                return False
            else:
                self.step(0.05)
        return True

    def step(self, seconds: float) -> None:
        """Reads a frame and does what the script says, unless none comes in time."""
        try:
            self._take(read_frame(self.wire, soon(seconds)))
        except Closed:
            self.is_over = True
        except TimeoutError:
            pass

    def serve(self) -> None:
        """Reads frames until the connection ends."""
        deadline = time.monotonic() + IDLE_SECONDS
        try:
            self.wire.exactly(len(http2.PREFACE), deadline)
        except (Closed, TimeoutError):
            return
        self.script.opened(self)
        while not self.is_over and time.monotonic() < deadline:
            self.step(0.5)

    def _take(self, received: Frame) -> None:
        number = received.stream
        if received.kind == http2.HEADERS:
            self._open(received)
        elif received.kind == http2.DATA and number in self.streams:
            seen = self.streams[number]
            seen.body += received.payload
            if self.script.credits and received.payload:
                size = len(received.payload)
                self.send(window_update(0, size) + window_update(number, size))
            self.script.data(self, seen)
            self._end(seen, received)
        elif received.kind == http2.SETTINGS and not received.flags & http2.ACK:
            self.initial_window = http2.parse_settings(received.payload).get(
                http2.INITIAL_WINDOW_SIZE, self.initial_window
            )
            if self.script.acknowledges:
                self.send(frame(http2.SETTINGS, http2.ACK, 0))
        elif received.kind == http2.PING and not received.flags & http2.ACK and self.script.acknowledges:
            self.send(frame(http2.PING, http2.ACK, 0, received.payload))
        elif received.kind == http2.WINDOW_UPDATE:
            self.windows[number] = self.windows.get(number, self.initial_window) + received.number()
            self.script.widened(self)
        elif received.kind == http2.RST_STREAM:
            self.resets.append(number)

    @property
    def resets(self) -> list[int]:
        """The streams that the router has reset, on all connections."""
        assert isinstance(self.backend, Http2Backend)
        return self.backend.resets

    def _open(self, received: Frame) -> None:
        payload = received.payload
        if received.flags & http2.PRIORITISED:
            payload = payload[5:]
        fields = [(str(name), str(value)) for name, value in self.decoder.decode(payload)]
        pseudo = dict(fields)
        method, target = pseudo.get(":method", ""), pseudo.get(":path", "")
        seen = Seen(method, target, fields, self.number, stream=received.stream)
        self.streams[received.stream] = seen
        self.windows.setdefault(received.stream, self.initial_window)
        self.backend.requests.append(seen)
        self.script.head(self, seen)
        self._end(seen, received)

    def _end(self, seen: Seen, received: Frame) -> None:
        if received.flags & http2.END_STREAM:
            seen.whole = True
            self.script.complete(self, seen)


Hook = Callable[[Session, Seen], None]


def _nothing(_session: Session, _seen: Seen) -> None:
    pass


def _answer(session: Session, seen: Seen) -> None:
    session.answer(seen.stream)


@dataclass(frozen=True)
class Script:
    """How a backend behaves; by default as it should."""

    settings: tuple[tuple[int, int], ...] = ()
    opened: Callable[[Session], None] = field(
        default=lambda session: session.send(http2.settings(session.script.settings))
    )
    """After the preface."""
    head: Hook = _nothing
    """After the head of a request."""
    data: Hook = _nothing
    """After each DATA frame of a request."""
    complete: Hook = _answer
    """After a request that has come whole."""
    widened: Callable[[Session], None] = lambda _: None
    """After each WINDOW_UPDATE."""
    credits: bool = True
    """Whether windows are given back."""
    acknowledges: bool = True
    """Whether SETTINGS and PING are acknowledged."""


class Http2Backend(Backend):
    """A backend that speaks HTTP/2 with prior knowledge, or over TLS."""

    def __init__(self, address: str, script: Script = Script(), tls: ssl.SSLContext | None = None) -> None:
        self.script = script
        self.resets: list[int] = []
        self.sessions: list[Session] = []
        super().__init__(address, tls=tls, is_engine=False)

    def serve(self, stream: Stream, number: int) -> None:
        """Follows the script on a connection."""
        session = Session(self, stream, number, self.script)
        self.sessions.append(session)
        session.serve()
