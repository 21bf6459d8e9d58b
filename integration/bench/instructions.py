#!/usr/bin/env python3
"""Counts the instructions that a request costs the router, by callgrind.

Instructions do not depend on what else the machine does, so that two builds
can be compared on any machine: give the older one with `--before`. The router
runs under valgrind with one worker; each job sends a fixed number of requests,
one after the other, over one connection.
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from agents import prose
from contenders import (
    ADDRESSES,
    CONNECTORS,
    HERE,
    Contender,
    Engines,
    Pairs,
    all_accept,
    engine_command,
    start_pairs,
    start_router,
)
from processes import BenchError, free_ports, started, wait_until

TARGET = HERE.parent.parent / "target"
BODY_BYTES = 1 << 10
TOTAL = re.compile(r"^(?:summary|totals): (\d+)", re.MULTILINE)
SUCCEEDED = re.compile(r"status codes: (\d+) 2xx")


@dataclass(frozen=True)
class Job:
    """A fixed number of requests of one kind."""

    title: str
    contender: str
    requests: int
    http2: bool = False
    tls: bool = False
    stream: bool = False
    agent: bool = False
    """Whether it has the size and the compressibility of what agents send."""
    gzip: bool = False


JOBS = (
    Job("ModelRoute, 1 KB, HTTP/1.1", "router", 2000),
    Job("HTTPRoute, 1 KB, HTTP/1.1", "httproute", 2000),
    Job("ModelRoute, 1 KB, HTTP/2", "router", 2000, http2=True),
    Job("ModelRoute, 1 KB, TLS, HTTP/1.1", "router", 2000, tls=True),
    Job("ModelRoute, SSE of 200 chunks", "router", 100, stream=True),
    Job("HTTPRoute, SSE of 200 chunks", "httproute", 100, stream=True),
    Job("ModelRoute, 100 KB of an agent", "router", 200, agent=True),
    Job("ModelRoute, 100 KB of an agent, gzip", "router", 200, agent=True, gzip=True),
    Job("ModelRoute, 1 KB, two legs, NIXL", "nixl", 1000),
    Job("ModelRoute, 1 KB, two legs, SGLang", "sglang", 1000),
)


def main() -> int:
    """Counts, and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--router", type=Path, default=TARGET / "dist/kthena-router")
    parser.add_argument("--before", type=Path, help="an older build to compare with")
    parser.add_argument("--job", help="only the jobs whose titles contain this")
    parser.add_argument("--one-leg", action="store_true", help="no jobs with two legs, which older builds do not know")
    options = parser.parse_args()
    builds = [build for build in (options.before, options.router) if build]
    jobs = [
        job
        for job in JOBS
        if (not options.job or options.job in job.title)
        and not (options.one_leg and job.contender in CONNECTORS)
    ]
    try:
        counts = [counted(build.resolve(), options.router.resolve(), jobs) for build in builds]
    except BenchError as error:
        print(f"instructions: {error}", file=sys.stderr)
        return 1
    show(jobs, counts)
    return 0


def counted(router: Path, engine: Path, jobs: list[Job]) -> dict[str, int]:
    """Returns the instructions per request of each job, by its title; the engines are those of the build `engine`."""
    counts = {}
    for tls in (False, True):
        chosen = [job for job in jobs if job.tls == tls]
        if not chosen:
            continue
        legs = any(job.contender in CONNECTORS for job in chosen)
        with running(router, engine, tls, legs) as (contenders, pid, directory):
            for job in chosen:
                counts[job.title] = count(job, contenders[job.contender], pid, directory)
    return counts


@contextmanager
def running(
    router: Path, engine: Path, tls: bool, legs: bool
) -> Iterator[tuple[dict[str, Contender], int, Path]]:
    """Runs engines and, under callgrind, the router for as long as the context lasts."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        engines = Engines(*free_ports(ADDRESSES, 2))
        for name, port in (("engines", engines.port), ("paced", engines.paced_port)):
            command = engine_command(engine, port, "0s")
            process = stack.enter_context(started(name, 1, command, directory))
            wait_until(name, process, partial(all_accept, port))
        under = (
            *("valgrind", "--tool=callgrind", "--log-file=/dev/null"),
            f"--callgrind-out-file={directory}/callgrind.out",
        )
        pairs = start_pairs(stack, engine, 1, directory) if legs else Pairs([])
        options = [*pairs.options, "--metrics-scrape-interval", "1h"]
        if tls:
            options += certificate(directory)
        contenders = start_router(
            stack, router, engines, engines.port, 0, directory, under, options
        )
        if legs:
            contenders += pairs.contenders(contenders[0])
        pid = contenders[0].pid
        assert pid is not None
        yield {one.name: one for one in contenders}, pid, directory


def certificate(directory: Path) -> list[str]:
    """Makes a certificate, and returns the options that serve with it."""
    key, chain = directory / "key.pem", directory / "chain.pem"
    command = [
        *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt"),
        *("ec_paramgen_curve:P-256", "-nodes", "-days", "1", "-subj", "/CN=bench"),
        *("-keyout", str(key), "-out", str(chain)),
    ]
    subprocess.run(command, check=True, capture_output=True)
    return ["--tls-cert", str(chain), "--tls-key", str(key)]


def count(job: Job, contender: Contender, pid: int, directory: Path) -> int:
    """Returns how many instructions one request of a job takes."""
    target = contender.stream if job.stream else contender.whole
    message = {"role": "user", "content": ""}
    body = {"model": target.model, "max_tokens": 6, "messages": [message]}
    if job.stream:
        body |= {"stream": True, "max_tokens": 200}
    message["content"] = prose() if job.agent else "x" * (BODY_BYTES - len(json.dumps(body)))
    written = json.dumps(body).encode()
    data = directory / "body.json"
    data.write_bytes(gzip.compress(written) if job.gzip else written)
    scheme = "https" if job.tls else "http"
    url = f"{scheme}://{ADDRESSES[0]}:{target.port}/v1/chat/completions"
    load = partial(send, job, url, data)
    load(max(job.requests // 10, 20))
    control("--zero", pid)
    load(job.requests)
    control("--dump", pid)
    dump = max(directory.glob("callgrind.out.*"), key=lambda path: path.stat().st_mtime)
    totals = TOTAL.findall(dump.read_text())
    if not totals:
        raise BenchError(f"callgrind says no total in {dump.name}")
    return int(totals[-1]) // job.requests


def send(job: Job, url: str, data: Path, requests: int) -> None:
    """Sends requests one after the other; each must be answered with 200."""
    command = [
        *("h2load", "--clients", "1", "--requests", str(requests)),
        *("--max-concurrent-streams", "1", "--data", str(data)),
        *("--header", "content-type: application/json"),
        *(["--header", "content-encoding: gzip"] if job.gzip else []),
        *([] if job.http2 else ["--h1"]),
        url,
    ]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    succeeded = SUCCEEDED.search(done.stdout)
    if succeeded is None or int(succeeded[1]) != requests:
        raise BenchError(f"not all requests of `{job.title}` succeeded:\n{done.stdout}")


def control(action: str, pid: int) -> None:
    """Has callgrind begin to count anew, or write what it counted."""
    command = ["callgrind_control", action, str(pid)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    if "OK" not in done.stdout:
        raise BenchError(f"callgrind does not obey: {done.stdout}{done.stderr}")


def show(jobs: list[Job], counts: list[dict[str, int]]) -> None:
    """Prints what was counted."""
    heads = ["before", "after", "after / before"] if len(counts) == 2 else ["count"]
    print("| instructions per request | " + " | ".join(heads) + " |")
    print("|---|" + "--:|" * len(heads))
    for job in jobs:
        figures = [each[job.title] for each in counts]
        cells = [f"{figure / 1000:.1f}k" for figure in figures]
        if len(figures) == 2:
            cells.append(f"{figures[1] / figures[0]:.2f}")
        print(f"| {job.title} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    sys.exit(main())
