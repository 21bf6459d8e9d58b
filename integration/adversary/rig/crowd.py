"""Many connections at a time."""

from __future__ import annotations

import socket
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from rig.stage import Address
from wire.http1 import Unframed, ask
from wire.stream import Closed, Stream


class Crowd:
    """Connections that send a few bytes, and are silent from then on."""

    def __init__(self, address: Address, count: int, data: bytes = b"") -> None:
        self.connections: list[socket.socket] = []
        for _ in range(count):
            connection = socket.socket()
            connection.settimeout(5.0)
            try:
                connection.connect(address)
                connection.sendall(data)
            except OSError:
                connection.close()
                continue
            self.connections.append(connection)

    def close(self) -> None:
        """Ends all of them."""
        for connection in self.connections:
            connection.close()
        self.connections.clear()

    def __enter__(self) -> Crowd:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass(frozen=True)
class Quiet:
    """How a quiet client fared."""

    times: Sequence[float]
    """Seconds for each answer."""
    failures: int

    def quantile(self, share: float) -> float:
        """Returns the time within which this share of the answers came."""
        ordered = sorted(self.times) or [float("inf")]
        return ordered[min(int(len(ordered) * share), len(ordered) - 1)]

    def told(self) -> str:
        """Returns it in one line."""
        middle = statistics.median(self.times) * 1000 if self.times else float("inf")
        return f"p50 {middle:.1f} ms, p99 {self.quantile(0.99) * 1000:.1f} ms, {self.failures} failures"


def quiet_client(
    address: Address, data: bytes, count: int, pause: float = 0.02, patience: float = 5.0, *, is_kept: bool = True
) -> Quiet:
    """Sends requests one after the other, for at most 15 s, and measures how long their answers take."""
    times, failures = [], 0
    stream: Stream | None = None
    end = time.monotonic() + 15.0
    for _ in range(count):
        begun = time.monotonic()
        if begun > end:
            break
        try:
            stream = stream or Stream.connect(address)
            got = ask(stream, data, patience)
            if got is None or got.status >= 400:
                failures += 1
            else:
                times.append(time.monotonic() - begun)
        except (TimeoutError, OSError, Closed, Unframed):
            failures += 1
            got = None
        if stream and (got is None or not is_kept):
            stream.close()
            stream = None
        time.sleep(pause)
    if stream:
        stream.close()
    return Quiet(times, failures)


def pipelining(address: Address, data: bytes, is_over: Callable[[], bool]) -> None:
    """Sends the same request without pause on one connection, and reads what comes."""
    piece = data * max(1, 16384 // len(data))
    while not is_over():
        try:
            with Stream.connect(address) as stream:
                stream.socket.setblocking(False)
                while not is_over():
                    moved = False
                    with suppress(BlockingIOError):
                        stream.socket.send(piece)
                        moved = True
                    with suppress(BlockingIOError):
                        if not stream.socket.recv(1 << 20):
                            break
                        moved = True
                    if not moved:
                        time.sleep(0.0005)
        except OSError:
            # The router has had enough of this connection: the next one begins.
            time.sleep(0.01)
