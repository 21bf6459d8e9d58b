"""Work in processes of their own.

Threads of one program wait for its interpreter, for 5 ms and more when others are busy. So who measures milliseconds,
and whom it waits for, share no interpreter with those who load the router. Nor do they share a core with the router,
or wait for one that a flood has: a busy process keeps its core until the kernel's next tick, for up to 4 ms, and
clients, floods and backends are on other machines than a router.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection

from rig.backend import Backend
from rig.crowd import Quiet, pipelining, quiet_client
from rig.network import ENGINE_PORT, accepts
from rig.router import RigError, wait_for
from rig.stage import Address

START_SECONDS = 10.0
PROCESSES = multiprocessing.get_context("spawn")
"""Not forked: a fork has the locks of this program's threads, and not the threads that open them."""


def quiet(address: Address, data: bytes, count: int, pause: float) -> Quiet:
    """Returns how a quiet client fares in a process of its own."""
    result, told = PROCESSES.Pipe(duplex=False)
    with _running(_measure, told, address, data, count, pause):
        # The process has the only other one: reading ends when it does.
        told.close()
        got = result.recv()
    assert isinstance(got, Quiet)
    return got


@contextmanager
def on_its_own_core() -> Iterator[None]:
    """Gives the first core to what is started within, and the others to what is started later.

    On a machine that has one core all share it.
    """
    own, *others = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {own})
    try:
        yield
    finally:
        os.sched_setaffinity(0, others or {own})


@contextmanager
def backend(host: str) -> Iterator[None]:
    """Serves as a backend that is always well."""
    with _running(_serve, host):
        if not wait_for(lambda: accepts(host, ENGINE_PORT), START_SECONDS):
            raise RigError(f"the backend on {host} does not come up")
        yield


@contextmanager
def pipeline(address: Address, data: bytes) -> Iterator[None]:
    """Sends the same request without pause on a connection."""
    with _running(_pipeline, address, data):
        yield


@contextmanager
def _running(work: Callable[..., None], *arguments: object) -> Iterator[None]:
    process = PROCESSES.Process(target=work, args=arguments, daemon=True)
    process.start()
    try:
        yield
    finally:
        process.terminate()
        process.join()


def _measure(told: Connection, address: Address, data: bytes, count: int, pause: float) -> None:
    told.send(quiet_client(address, data, count, pause))


def _serve(host: str) -> None:
    Backend(host)
    # Who started it may be killed, and cannot end it then.
    if parent := multiprocessing.parent_process():
        parent.join()


def _pipeline(address: Address, data: bytes) -> None:
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    parent = os.getppid()
    pipelining(address, data, lambda: os.getppid() != parent)
