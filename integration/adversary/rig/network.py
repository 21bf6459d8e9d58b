"""Loopback addresses and ports that nobody else uses."""

from __future__ import annotations

import itertools
import os
import socket

_NUMBERS = itertools.count(1)
ENGINE_PORT = 8000
"""The port of every backend; they differ by address."""
PORT = 8080
"""The port of the router's default Gateway."""


class Network:
    """A part of 127.0.0.0/8 for one router: it is host 1, backends are from 10 on."""

    def __init__(self) -> None:
        number = next(_NUMBERS)
        self._first = 40 + (os.getpid() + number // 250) % 200
        self._second = number % 250 + 1

    def host(self, host: int) -> str:
        """Returns the address of a host of this network."""
        return f"127.{self._first}.{self._second}.{host}"


def free_port(address: str = "127.0.0.1") -> int:
    """Returns a port that is free on an address."""
    with socket.socket() as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])


def accepts(address: str, port: int) -> bool:
    """Says whether a port takes connections."""
    try:
        with socket.create_connection((address, port), timeout=1.0):
            return True
    except OSError:
        return False
