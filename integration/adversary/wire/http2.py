"""HTTP/2 frames, written and read one by one, for both sides of a connection."""

from __future__ import annotations

import struct
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from hpack import Decoder, Encoder

from wire.stream import DEADLINE, Closed, Stream, soon

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS, PADDED, PRIORITISED = 0x1, 0x1, 0x4, 0x8, 0x20
NO_ERROR, PROTOCOL_ERROR, REFUSED_STREAM, CANCEL = 0, 1, 7, 8
HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE = 1, 2, 3, 4, 5
LARGEST_WINDOW = 2**31 - 1
Fields = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Frame:
    """A frame."""

    kind: int
    flags: int
    stream: int
    payload: bytes

    def number(self, offset: int = 0) -> int:
        """Returns the 32 bits at an offset of the payload."""
        return int(struct.unpack_from(">I", self.payload, offset)[0])


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Returns a frame as bytes, whether it is allowed or not."""
    return struct.pack(">BHBBI", len(payload) >> 16, len(payload) & 0xFFFF, kind, flags, stream) + payload


def settings(values: Iterable[tuple[int, int]] = ()) -> bytes:
    """Returns a SETTINGS frame."""
    return frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", name, value) for name, value in values))


def window_update(stream: int, increment: int) -> bytes:
    """Returns a WINDOW_UPDATE frame."""
    return frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", increment))


def rst_stream(stream: int, code: int = CANCEL) -> bytes:
    """Returns a RST_STREAM frame."""
    return frame(RST_STREAM, 0, stream, struct.pack(">I", code))


def goaway(last: int, code: int = NO_ERROR) -> bytes:
    """Returns a GOAWAY frame."""
    return frame(GOAWAY, 0, 0, struct.pack(">II", last, code))


def padded(data: bytes, padding: int, stream: int, end: bool = False) -> bytes:
    """Returns a DATA frame with padding."""
    payload = bytes([padding]) + data + bytes(padding)
    return frame(DATA, PADDED | (END_STREAM if end else 0), stream, payload)


def get(path: str, authority: str = "router", more: Fields = ()) -> list[tuple[str, str]]:
    """Returns the fields of a GET."""
    return _request("GET", path, authority, more)


def post(path: str, authority: str = "router", more: Fields = ()) -> list[tuple[str, str]]:
    """Returns the fields of a POST."""
    return _request("POST", path, authority, more)


def _request(method: str, path: str, authority: str, more: Fields) -> list[tuple[str, str]]:
    pseudo = [(":method", method), (":scheme", "http"), (":authority", authority), (":path", path)]
    return [*pseudo, *more]


@dataclass
class Reply:
    """What has come on a stream until now."""

    status: int | None = None
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytearray = field(default_factory=bytearray)
    ended: bool = False
    reset: int | None = None

    @property
    def is_over(self) -> bool:
        """Says whether nothing more comes."""
        return self.ended or self.reset is not None

    def label(self) -> str:
        """Returns the status, or in a word why there is none."""
        if self.reset is not None:
            return f"reset {self.reset}" if self.status is None else f"{self.status} reset {self.reset}"
        if self.status is None:
            return "nothing"
        return str(self.status) if self.ended else f"{self.status} unfinished"


class Http2:
    """A client's side of a connection: acknowledges SETTINGS and PING, and gives windows back if told to."""

    def __init__(self, stream: Stream, values: Iterable[tuple[int, int]] = (), credit: bool = True) -> None:
        self.wire = stream
        self.credit = credit
        self.answers_ping = True
        self.encoder = Encoder()
        self.decoder = Decoder()
        self.replies: dict[int, Reply] = {}
        self.gone: int | None = None
        self.end: str | None = None
        self.pongs = 0
        self.settings: dict[int, int] = {}
        self.window = 65535
        self.stream_windows: dict[int, int] = {}
        self._next = 1
        values = list(values)
        self.decoder.max_allowed_table_size = dict(values).get(HEADER_TABLE_SIZE, 4096)
        self.send(PREFACE + settings(values))

    @classmethod
    def connect(cls, address: tuple[str, int], values: Iterable[tuple[int, int]] = (), credit: bool = True) -> Http2:
        """Connects with prior knowledge."""
        return cls(Stream.connect(address), values, credit)

    def send(self, data: bytes) -> None:
        """Sends bytes; that the other side has closed is seen in `end`, after what it said before is read."""
        if not self.wire.try_send(data):
            self.read(0.2)

    def next_stream(self) -> int:
        """Returns the number of the next stream."""
        number = self._next
        self._next += 2
        return number

    def head(self, fields: Fields, end: bool = True, stream: int | None = None) -> tuple[int, bytes]:
        """Returns the number of a stream and the HEADERS frame that opens it."""
        stream = stream or self.next_stream()
        flags = END_HEADERS | (END_STREAM if end else 0)
        return stream, frame(HEADERS, flags, stream, self.encoder.encode(list(fields)))

    def open(self, fields: Fields, end: bool = True) -> int:
        """Opens a stream, and returns its number."""
        stream, data = self.head(fields, end)
        self.send(data)
        return stream

    def data(self, stream: int, data: bytes, end: bool = False) -> None:
        """Sends a DATA frame, whatever the windows say."""
        self.send(frame(DATA, END_STREAM if end else 0, stream, data))

    def upload(self, stream: int, body: bytes, seconds: float = DEADLINE, *, is_whole: bool = True) -> bool:
        """Sends a body within the windows; returns whether it went out without a pause of so many seconds."""
        deadline = soon(seconds)
        self.stream_windows.setdefault(stream, self.settings.get(INITIAL_WINDOW_SIZE, 65535))
        sent = 0
        while sent < len(body):
            room = min(self.window, self.stream_windows[stream], 16384)
            if room > 0:
                piece = body[sent : sent + room]
                deadline = soon(seconds)
                sent += len(piece)
                self.window -= len(piece)
                self.stream_windows[stream] -= len(piece)
                self.data(stream, piece, end=is_whole and sent == len(body))
            elif time.monotonic() > deadline or self.end or self.reply(stream).is_over:
                return False
            else:
                self.read(0.05)
        return True

    def reply(self, stream: int) -> Reply:
        """Returns what has come on a stream until now."""
        return self.replies.setdefault(stream, Reply())

    def finish(self, stream: int, seconds: float = DEADLINE) -> Reply:
        """Reads until a stream is over, the connection ends, or the time is up."""
        deadline = soon(seconds)
        while not self.reply(stream).is_over and self.end is None and time.monotonic() < deadline:
            self._step(deadline)
        return self.reply(stream)

    def read(self, seconds: float) -> None:
        """Reads for this long, or until the connection ends."""
        deadline = soon(seconds)
        while self.end is None and time.monotonic() < deadline:
            self._step(deadline)

    def ask(self, fields: Fields, seconds: float = DEADLINE) -> Reply:
        """Sends a request without a body and reads its answer."""
        return self.finish(self.open(fields), seconds)

    def is_served(self, path: str = "/ok", authority: str = "router") -> bool:
        """Says whether this connection still has requests answered."""
        return self.end is None and self.ask(get(path, authority)).status is not None

    def ping(self, seconds: float = DEADLINE) -> bool:
        """Says whether the other side answers a PING."""
        before = self.pongs
        self.send(frame(PING, 0, 0, b"adversar"))
        deadline = soon(seconds)
        while self.pongs == before and self.end is None and time.monotonic() < deadline:
            self._step(deadline)
        return self.pongs > before

    def verdict(self) -> str:
        """Returns how the connection stands: `open`, `goaway N`, `closed` or `reset`."""
        if self.gone is not None:
            return f"goaway {self.gone}"
        return self.end or "open"

    def close(self) -> None:
        """Ends the connection."""
        self.wire.close()

    def __enter__(self) -> Http2:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _step(self, deadline: float) -> None:
        try:
            received = read_frame(self.wire, deadline)
        except Closed as closed:
            self.end = str(closed)
        except TimeoutError:
            pass
        else:
            self._take(received)

    def _take(self, received: Frame) -> None:
        reply = self.reply(received.stream) if received.stream else Reply()
        if received.kind == HEADERS:
            # Answers that need CONTINUATION are not expected of anyone here.
            fields = [(str(name), str(value)) for name, value in self.decoder.decode(received.payload)]
            status = next((int(value) for name, value in fields if name == ":status"), None)
            if status is None or status >= 200:
                reply.status = reply.status or status
                reply.headers += fields
                reply.ended = reply.ended or bool(received.flags & END_STREAM)
        elif received.kind == DATA:
            reply.body += received.payload
            reply.ended = bool(received.flags & END_STREAM)
            if self.credit and received.payload:
                size = len(received.payload)
                self.send(window_update(0, size) + (b"" if reply.ended else window_update(received.stream, size)))
        elif received.kind == RST_STREAM:
            reply.reset = received.number()
        else:
            self._take_control(received)

    def _take_control(self, received: Frame) -> None:
        if received.kind == GOAWAY:
            self.gone = received.number(4)
        elif received.kind == SETTINGS and not received.flags & ACK:
            self.settings |= parse_settings(received.payload)
            self.send(frame(SETTINGS, ACK, 0))
        elif received.kind == PING:
            if received.flags & ACK:
                self.pongs += 1
            elif self.answers_ping:
                self.send(frame(PING, ACK, 0, received.payload))
        elif received.kind == WINDOW_UPDATE and received.stream:
            initial = self.settings.get(INITIAL_WINDOW_SIZE, 65535)
            window = self.stream_windows.get(received.stream, initial)
            self.stream_windows[received.stream] = window + received.number()
        elif received.kind == WINDOW_UPDATE:
            self.window += received.number()


def read_frame(stream: Stream, deadline: float) -> Frame:
    """Reads a frame."""
    head = stream.exactly(9, deadline)
    high, low, kind, flags, number = struct.unpack(">BHBBI", head)
    try:
        payload = stream.exactly(high << 16 | low, deadline)
    except TimeoutError:
        stream.put_back(head)
        raise
    return Frame(kind, flags, number & LARGEST_WINDOW, payload)


def parse_settings(payload: bytes) -> dict[int, int]:
    """Parses what a SETTINGS frame says."""
    return dict(struct.iter_unpack(">HI", payload))
