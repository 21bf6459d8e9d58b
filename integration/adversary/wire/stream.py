"""A connection whose every wait ends."""

from __future__ import annotations

import socket
import ssl
import struct
import time

DEADLINE = 5.0
"""The longest wait, in seconds, for something that should come at once."""
PIECE = 65536
_patience = 1.0


def be_patient(factor: float) -> None:
    """Makes all waits for the other side longer, for machines that are slow or have other work."""
    global _patience
    _patience = factor


class Closed(Exception):
    """The other side has ended the connection; `reset` says whether without saying so first."""

    def __init__(self, reset: bool) -> None:
        super().__init__("reset" if reset else "closed")
        self.reset = reset


class Stream:
    """A connection that is read with deadlines; what has been read too much of stays for the next one."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self._read = bytearray()

    @classmethod
    def connect(
        cls,
        address: tuple[str, int],
        tls: ssl.SSLContext | None = None,
        server_name: str | None = None,
        session: ssl.SSLSession | None = None,
        receive_buffer: int | None = None,
    ) -> Stream:
        """Connects to an address, over TLS if there is a context."""
        connection = socket.socket()
        try:
            if receive_buffer:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            connection.settimeout(DEADLINE * _patience)
            connection.connect(address)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if tls:
                return cls(tls.wrap_socket(connection, server_hostname=server_name, session=session))
        except BaseException:
            connection.close()
            raise
        return cls(connection)

    def send(self, data: bytes, seconds: float = DEADLINE) -> None:
        """Sends everything, or raises `Closed` or `TimeoutError`."""
        try:
            self.socket.settimeout(seconds * _patience)
            self.socket.sendall(data)
        except TimeoutError:
            raise
        except OSError as error:
            raise Closed(reset=True) from error

    def try_send(self, data: bytes, seconds: float = DEADLINE) -> bool:
        """Sends what the other side takes; returns whether it took everything."""
        try:
            self.send(data, seconds)
        except (Closed, TimeoutError):
            return False
        return True

    def receive(self, deadline: float) -> bytes:
        """Returns the next bytes; raises `Closed` at the end and `TimeoutError` at the deadline, a monotonic time."""
        if self._read:
            data = bytes(self._read)
            self._read.clear()
            return data
        try:
            self.socket.settimeout(max(deadline - time.monotonic(), 0.001))
            data = self.socket.recv(PIECE)
        except (TimeoutError, ssl.SSLWantReadError) as error:
            raise TimeoutError from error
        except OSError as error:
            raise Closed(reset=True) from error
        if not data:
            raise Closed(reset=False)
        return data

    def put_back(self, data: bytes) -> None:
        """Leaves bytes for the next reader."""
        self._read[:0] = data

    def exactly(self, count: int, deadline: float) -> bytes:
        """Returns this many bytes; if there are fewer, they are left and the reason is raised."""
        read = bytearray()
        try:
            while len(read) < count:
                read += self.receive(deadline)
        except (Closed, TimeoutError):
            self.put_back(bytes(read))
            raise
        self.put_back(bytes(read[count:]))
        return bytes(read[:count])

    def until(self, mark: bytes, deadline: float) -> bytes:
        """Returns the bytes up to and with a mark; without one they are left and the reason is raised."""
        read = bytearray()
        try:
            while mark not in read:
                read += self.receive(deadline)
        except (Closed, TimeoutError):
            self.put_back(bytes(read))
            raise
        end = read.index(mark) + len(mark)
        self.put_back(bytes(read[end:]))
        return bytes(read[:end])

    def rest(self, seconds: float = DEADLINE) -> tuple[bytes, str]:
        """Reads to the end; returns the bytes and how it ended: `closed`, `reset` or `open`."""
        deadline = soon(seconds)
        read = bytearray()
        while True:
            try:
                read += self.receive(deadline)
            except Closed as end:
                return bytes(read), "reset" if end.reset else "closed"
            except TimeoutError:
                return bytes(read), "open"

    def reset(self) -> None:
        """Ends the connection without saying so."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def close(self) -> None:
        """Ends the connection in order."""
        self.socket.close()

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def soon(seconds: float = DEADLINE) -> float:
    """Returns the deadline that many seconds from now, or later where patience was asked for."""
    return time.monotonic() + seconds * _patience
