#!/usr/bin/env python3
"""Measures what a router costs that nobody asks anything.

It scrapes the metrics of 100 engines. Those are one process of this program, on
as many loopback addresses, whose own CPU time does not count: it answers each
scrape with one page, as large as a real engine's or as small as a simulated
one's.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from contenders import HERE, is_ready, read
from processes import (
    BenchError,
    Started,
    accepts,
    cpu_of,
    free_ports,
    started,
    wait_until,
)

DEFAULT_ROUTER = HERE.parent.parent / "target" / "release" / "kthena-router"
ENGINES = [f"127.0.1.{number}" for number in range(1, 101)]
LOCAL = "127.0.0.1"
PAGES = (4 << 10, 64 << 10)
INTERVALS = {"1s": 2.0, "50ms": 10.0}
"""How often engines are scraped, and the goal: per cent of a core."""
WARM_UP = 3.0

POOL = """\
apiVersion: networking.serving.volcano.sh/v1alpha1
kind: ModelServer
metadata: {{name: idle, namespace: default}}
spec:
  model: idle
  inferenceEngine: vLLM
  workloadSelector: {{matchLabels: {{app: idle}}}}
  workloadPort: {{port: {port}}}
"""
POD = """\
---
apiVersion: v1
kind: Pod
metadata: {{name: idle-{number}, namespace: default, labels: {{app: idle}}}}
status: {{podIP: {address}}}
"""


def main() -> int:
    """Runs the measurement and prints its table, or serves the pages."""
    options = read_options()
    if options.serve is not None:
        asyncio.run(serve(*options.serve))
        return 0
    try:
        print("| scraped every | page | CPU | per scrape | goal |")
        print("|---|--:|--:|--:|--:|")
        for size in PAGES:
            for interval, goal in INTERVALS.items():
                share, scrape = measure(
                    options.router.resolve(), size, interval, options.seconds
                )
                print(
                    f"| {interval} | {size >> 10} KiB | {share * 100:.2f} % of a core"
                    f" | {scrape:.0f} µs | {goal:.0f} % |",
                    flush=True,
                )
    except BenchError as error:
        print(f"idle_cost: {error}", file=sys.stderr)
        return 1
    return 0


def read_options() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description="CPU of a router without requests")
    parser.add_argument("--router", type=Path, default=DEFAULT_ROUTER, metavar="PATH")
    parser.add_argument(
        "--seconds", type=float, default=20.0, help="length of each run"
    )
    # The process of the engines: its port, and how large pages are.
    parser.add_argument("--serve", type=int, nargs=2, help=argparse.SUPPRESS)
    return parser.parse_args()


def measure(
    router: Path, size: int, interval: str, seconds: float
) -> tuple[float, float]:
    """Returns the part of a core that the router uses, and microseconds a scrape."""
    with (
        tempfile.TemporaryDirectory(prefix="idle-cost-") as name,
        idle_router(router, size, interval, Path(name)) as (process, metrics_port),
    ):
        time.sleep(WARM_UP)
        scrapes, before, began = (
            scrapes_of(metrics_port),
            cpu_of(process.pid),
            time.monotonic(),
        )
        time.sleep(seconds)
        used = cpu_of(process.pid).since(before).total
        elapsed = time.monotonic() - began
        scraped = scrapes_of(metrics_port) - scrapes
    wanted = len(ENGINES) * elapsed / {"1s": 1.0, "50ms": 0.05}[interval]
    if not 0.9 * wanted < scraped < 1.1 * wanted:
        raise BenchError(f"{scraped:.0f} scrapes in place of {wanted:.0f}")
    return used / 1e6 / elapsed, used / scraped


@contextmanager
def idle_router(
    router: Path, size: int, interval: str, directory: Path
) -> Iterator[tuple[Started, int]]:
    """Runs engines, and a router that scrapes them; tells the port of its metrics."""
    (engine_port,) = free_ports(ENGINES, 1)
    port, metrics_port, debug_port = free_ports([LOCAL], 3)
    pods = (
        POD.format(number=number, address=address)
        for number, address in enumerate(ENGINES)
    )
    manifests = directory / "manifests"
    manifests.mkdir()
    (manifests / "idle.yaml").write_text(POOL.format(port=engine_port) + "".join(pods))
    pages = [
        sys.executable,
        str(Path(__file__).resolve()),
        "--serve",
        str(engine_port),
        str(size),
    ]
    command = [
        *(str(router), "--manifests", str(manifests), "--pod-namespace", "default"),
        *(
            "--bind-address",
            LOCAL,
            "--port",
            str(port),
            "--metrics-port",
            str(metrics_port),
        ),
        *("--debug-port", str(debug_port), "--metrics-scrape-interval", interval),
        *("--access-log-output", str(directory / "access.log")),
    ]
    with started("engines", 1, pages, directory) as engines:
        wait_until("engines", engines, partial(accepts, ENGINES[-1], engine_port))
        with started("router", 0, command, directory) as process:
            url = f"http://{LOCAL}:{metrics_port}/readyz"
            wait_until("the router", process, lambda: is_ready(process, url))
            yield process, metrics_port


def scrapes_of(metrics_port: int) -> float:
    """Returns how many scrapes succeeded until now; any that failed is an error."""
    total = 0.0
    for line in read(f"http://{LOCAL}:{metrics_port}/metrics").splitlines():
        if line.startswith("kthena_router_scrapes_total{"):
            count = float(line.rpartition(" ")[2])
            if 'outcome="ok"' in line:
                total += count
            elif count > 0:
                raise BenchError(f"scrapes failed: {line}")
    return total


async def serve(port: int, size: int) -> None:
    """Serves a page at each address until the process is ended."""
    page = page_of(size)
    head = f"HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {len(page)}\r\n\r\n"
    answer = head.encode() + page

    class Engine(asyncio.Protocol):
        """A connection, on which requests come one after the other."""

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = transport

        def data_received(self, data: bytes) -> None:
            if data.endswith(b"\r\n\r\n") and isinstance(
                self.transport, asyncio.Transport
            ):
                self.transport.write(answer)

    loop = asyncio.get_running_loop()
    servers = [await loop.create_server(Engine, address, port) for address in ENGINES]
    await asyncio.gather(*(server.serve_forever() for server in servers))


def page_of(size: int) -> bytes:
    """Makes a page with what is read of it, and other histograms to fill it up."""
    labels = 'engine="0",model_name="idle"'
    lines = [
        f"vllm:num_requests_running{{{labels}}} 0.0",
        f"vllm:num_requests_waiting{{{labels}}} 0.0",
        f"vllm:kv_cache_usage_perc{{{labels}}} 0.0",
        f'vllm:cache_config_info{{block_size="16",{labels},num_gpu_blocks="8192"}} 1.0',
    ]
    wanted = ("vllm:time_to_first_token_seconds", "vllm:inter_token_latency_seconds")
    others = (f"vllm:request_phase_{number}_seconds" for number in range(10_000))
    length = sum(map(len, lines))
    for name in (*wanted, *others):
        if length > size:
            break
        lines += [f"# HELP {name} Histogram of a phase.", f"# TYPE {name} histogram"]
        lines += [
            f'{name}_bucket{{le="{0.001 * 2**step}",{labels}}} 1000.0'
            for step in range(20)
        ]
        lines += [f"{name}_count{{{labels}}} 1000.0", f"{name}_sum{{{labels}}} 12.5"]
        length = sum(map(len, lines))
    return "\n".join(lines).encode() + b"\n"


if __name__ == "__main__":
    sys.exit(main())
