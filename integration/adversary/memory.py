"""Prints what the router's memory is under what clients can make it hold, and fails beyond a bound.

The bounds are those of docs/security.md. Each line has a router of its own, which starts with its defaults.
"""

from __future__ import annotations

import gzip
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bounds import Figure, finish
from options import end_in_order, router_option
from rig.backend import Connection, answering, plain
from rig.crowd import Crowd
from rig.router import wait_for
from rig.stage import Stage
from wire.http1 import fetch, request
from wire.http2 import Http2, post
from wire.stream import Stream

MEBIBYTE = 1 << 20
RETURN_SECONDS = 30.0
BESIDE = 100.0
"""What may be resident beside the budget, in MB: the program, connections, and what the allocator rounds up."""
KEPT = 5.0
"""What may stay resident of ten thousand requests, in MB: pages of the allocator that something small is left in. A second
burst, and a third, leave no more (docs/benchmarks.md)."""
WAITERS = 10_000
WAITING = b'{"model":"busy","prompt":"' + b"x" * 1000 + b'"}'
QUEUE = ("--max-requests-per-endpoint=1", f"--queue-max-requests={2 * WAITERS}", "--queue-timeout=10m")
"""Engines that are busy with one request, and a queue that has room for all others."""
Load = Callable[[Stage, ExitStack], None]


@contextmanager
def stage_of(binary: Path, *flags: str) -> Iterator[Stage]:
    """Runs a router with a model, a prefix, and a prefix whose backend does not answer."""
    stage = Stage(binary)
    try:
        backend = stage.backend(answering(lambda seen: plain(200, b"%d" % len(seen.body))))
        stage.serve_model("m", [backend])
        stage.serve_model("busy", [stage.backend(_deaf)])
        stage.serve("r", "/r", [backend])
        stage.serve("deaf", "/deaf", [stage.backend(_deaf)])
        stage.start(*flags)
        yield stage
    finally:
        stage.close()


def _deaf(connection: Connection) -> None:
    if connection.head():
        connection.wait(60.0)


def one_byte(stage: Stage, stack: ExitStack) -> None:
    """Opens 12 connections x 256 streams that announce 1 MiB and send a byte."""
    lines = [("content-length", str(MEBIBYTE)), ("content-type", "application/json")]
    for _ in range(12):
        client = stack.enter_context(Http2.connect(stage.address))
        for _ in range(256):
            client.data(client.open(post("/v1/completions", more=lines), end=False), b"{")
    time.sleep(1.0)


def long_names(stage: Stage, stack: ExitStack) -> None:
    """Asks for 20 models with names of 60 MB, and reads none of the answers."""
    body = b'{"model":"' + b"x" * 60_000_000 + b'"}'

    def send(data: bytes) -> None:
        stream = stack.enter_context(Stream.connect(stage.address, receive_buffer=4096))
        stream.try_send(data, 30.0)

    _at_once(20, lambda: send(request("POST", "/v1/completions", body=body)))


def silent(stage: Stage, stack: ExitStack) -> None:
    """Opens 5 000 connections that say nothing."""
    stack.enter_context(Crowd(stage.address, 5000))
    time.sleep(0.5)


def large_bodies(stage: Stage, _: ExitStack) -> None:
    """Sends 30 bodies of 60 MiB at once to a model."""
    body = b'{"model":"m","prompt":"' + b"x" * (60 * MEBIBYTE) + b'"}'
    data = request("POST", "/v1/completions", body=body)

    def send() -> None:
        try:
            fetch(stage.address, data, 60.0)
        except (TimeoutError, OSError):
            # Refused while it was being sent: that is what a budget is for.
            return

    _at_once(30, send)


def compressed_bodies(stage: Stage, _: ExitStack) -> None:
    """Sends 30 bodies of 60 MiB at once to a model, compressed: 60 KiB each on the wire."""
    body = gzip.compress(b'{"model":"m","prompt":"' + b"x" * (60 * MEBIBYTE) + b'"}')
    data = request("POST", "/v1/completions", headers=[("content-encoding", "gzip")], body=body)
    statuses: list[int] = []

    def send() -> None:
        answer = fetch(stage.address, data, 60.0)
        statuses.append(answer.status if answer else 0)

    _at_once(30, send)
    assert len(statuses) == 30 and set(statuses) <= {200, 503}, f"the excess is told to come back: {statuses}"


def waiting_streams(stage: Stage, stack: ExitStack) -> None:
    """Has 10 000 requests of 1 KB wait for a model that is busy: 100 connections x 100 streams."""
    lines = [("content-length", str(len(WAITING))), ("content-type", "application/json")]
    for _ in range(WAITERS // 100):
        client = stack.enter_context(Http2.connect(stage.address))
        for _ in range(100):
            client.upload(client.open(post("/v1/completions", more=lines), end=False), WAITING)
    _until_all_wait(stage)


def waiting_connections(stage: Stage, stack: ExitStack) -> None:
    """Has 10 000 requests of 1 KB wait for a model that is busy, each on a connection of its own."""
    stack.enter_context(Crowd(stage.address, WAITERS, request("POST", "/v1/completions", body=WAITING)))
    _until_all_wait(stage)


def _until_all_wait(stage: Stage) -> None:
    # One of them passes.
    waiting = wait_for(lambda: stage.router.metric("kthena_router_queue_requests") >= WAITERS - 1, 60.0, 0.5)
    assert waiting, f"{stage.router.metric('kthena_router_queue_requests'):.0f} wait: {stage.router.printed()[-500:]}"


def _at_once(count: int, work: Callable[[], None]) -> None:
    threads = [threading.Thread(target=work, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(90.0)


def measured(
    binary: Path, name: str, load: Load, limit: float, *flags: str, kept: float = 0.0
) -> list[Figure]:
    """Returns the peak under a load, and what is resident some time after it."""
    with stage_of(binary, *flags) as stage:
        router = stage.router
        fetch(stage.address, request("GET", "/r/x"))
        time.sleep(0.5)
        start = router.resident()
        router.forget_peak()
        with ExitStack() as stack:
            load(stage, stack)
            peak = router.peak()
        begun = time.monotonic()
        wait_for(lambda: router.resident() <= start + max(start * 0.1, kept), RETURN_SECONDS, 0.5)
        after = router.resident()
        note = f"from {start:.1f}; {time.monotonic() - begun:.0f} s after"
        alive = router.is_alive() and (got := fetch(stage.address, request("GET", "/r/x"))) and got.status == 200
        return [
            Figure(f"{name}, peak", peak, "MB", limit),
            # Page tables and arenas of a few hundred kilobytes are not worth an alarm.
            Figure(f"{name}, after", after, "MB", start + max(start * 0.1 + 1, kept), note if alive else f"{note}; NOT SERVING"),
        ]


def idle(binary: Path) -> Figure:
    """Returns what is resident without any load."""
    with stage_of(binary) as stage:
        time.sleep(2.0)
        return Figure("idle", stage.router.resident(), "MB", 30.0)


def main() -> int:
    """Prints the table."""
    end_in_order()
    parser = router_option(__doc__ or "", " memory.py")
    parser.add_argument("--budget", type=int, default=256, metavar="MIB", help="the budget of the router")
    options = parser.parse_args()
    binary = options.router.resolve()
    budget = f"--max-buffered-bytes={options.budget * MEBIBYTE}"
    limit = options.budget + BESIDE
    figures = [idle(binary)]
    figures += measured(binary, "12 x 256 streams of 1 MiB and one byte", one_byte, 150.0)
    figures += measured(binary, "20 stalled names of 60 MB", long_names, limit, budget)
    figures += measured(binary, "5 000 silent connections", silent, limit, budget)
    figures += measured(binary, "30 bodies of 60 MiB", large_bodies, limit, budget)
    figures += measured(binary, "30 gzip bodies of 60 MiB", compressed_bodies, limit, budget)
    # 100 MB beside the idle program; over HTTP/1 each has a connection of its own as well.
    for name, wait in [("HTTP/2", waiting_streams), ("HTTP/1", waiting_connections)]:
        figures += measured(binary, f"10 000 requests of 1 KB that wait, {name}", wait, 130.0, *QUEUE, kept=KEPT)
    # Half of what a container of 1 GiB has, as the router takes it by default.
    half = f"--max-buffered-bytes={512 * MEBIBYTE}"
    figures += measured(binary, "30 gzip bodies of 60 MiB in 1 GiB", compressed_bodies, 1024.0, half)
    return finish(figures)


if __name__ == "__main__":
    sys.exit(main())
