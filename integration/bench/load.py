"""One run of the load generator, and what it cost the contender."""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
import time
from dataclasses import dataclass
from typing import IO

import agents
from contenders import ADDRESSES, HERE, STREAM_TOKENS, Contender, Engines, Target
from processes import BenchError, Cpu, core_busy, cpu_of

ANSWER_TOKENS = 6
ERRORS = ("connect", "read", "write", "status", "timeout")
RESULT = re.compile(r"^RESULT (\{.*\})$", re.MULTILINE)


@dataclass(frozen=True)
class Job:
    """A kind of load. Streams cost per chunk (token), other answers per request."""

    name: str
    title: str
    body_bytes: int
    connections: int
    stream: bool = False
    paced: bool = False
    coding: str | None = None
    """The content coding of an agent's request, which the router alone decodes."""

    @property
    def unit(self) -> str:
        """Returns what the cost is divided by."""
        return "chunk" if self.stream else "request"

    def target(self, contender: Contender) -> Target:
        """Returns where the load goes."""
        if not self.stream:
            return contender.whole
        return contender.paced if self.paced else contender.stream


JOBS = (
    Job("1k", "1 KB, 32 connections", 1 << 10, 32),
    Job("8k", "8 KB, 32 connections", 8 << 10, 32),
    Job("100k", "100 KB, 32 connections", 100 << 10, 32),
    Job("1k-256", "1 KB, 256 connections", 1 << 10, 256),
    Job("latency", "1 KB, 1 connection", 1 << 10, 1),
    Job("stream", "SSE at full speed, 32 streams", 1 << 10, 32, stream=True),
    Job(
        "paced",
        "SSE at 10 ms/token, 256 streams",
        1 << 10,
        256,
        stream=True,
        paced=True,
    ),
    Job("agent", "100 KB of an agent, 32 connections", agents.BYTES, 32, coding="identity"),
    Job("agent-gzip", "the same in gzip", agents.BYTES, 32, coding="gzip"),
)


@dataclass(frozen=True)
class Sample:
    """What one run showed."""

    cost: float
    """Microseconds of CPU per request or chunk; 0 without a proxy."""
    user_share: float
    rate: float
    """Requests or chunks per second."""
    p50: float
    p99: float
    """Microseconds from a request to the end of its answer."""
    foreign: float
    """Share of the proxy's core that others used meanwhile."""


def measure(
    job: Job,
    contender: Contender,
    engines: Engines,
    seconds: int,
    cores: tuple[int, int],
) -> Sample:
    """Loads one contender, and divides what it consumed by what it did."""
    proxy_core, load_core = cores
    chunks = engines.tokens() if job.stream else 0
    consumed, busy, began = reading(contender), core_busy(proxy_core), time.monotonic()
    result = run_wrk(job, contender, seconds, load_core)
    elapsed = (time.monotonic() - began) * 1e6
    cpu = reading(contender).since(consumed)
    foreign = core_busy(proxy_core) - busy - cpu.total
    units = engines.tokens() - chunks if job.stream else result["requests"]
    if units == 0:
        raise BenchError(f"{contender.name}, {job.title}: nothing was answered in time")
    return Sample(
        cost=cpu.total / units,
        user_share=cpu.user_share,
        rate=units / result["microseconds"] * 1e6,
        p50=result["p50"],
        p99=result["p99"],
        foreign=max(0.0, foreign / elapsed),
    )


def reading(contender: Contender) -> Cpu:
    """Returns what the contender has consumed; engines are not accounted for."""
    return Cpu(0.0, 0.0, 0.0) if contender.pid is None else cpu_of(contender.pid)


def run_wrk(job: Job, contender: Contender, seconds: int, core: int) -> dict[str, int]:
    """Runs wrk; any failed request makes the whole run worthless."""
    with tempfile.NamedTemporaryFile() as file:
        return run_with(file, job, contender, seconds, core)


def run_with(
    file: IO[bytes], job: Job, contender: Contender, seconds: int, core: int
) -> dict[str, int]:
    """Runs wrk, for which a body may be written to this file."""
    target = job.target(contender)
    tokens, kind = (STREAM_TOKENS, "stream") if job.stream else (ANSWER_TOKENS, "whole")
    arguments = [target.model, str(job.body_bytes), str(tokens), kind]
    if job.coding:
        file.write(agents.request_body(target.model, tokens, job.coding))
        file.flush()
        arguments = [file.name, job.coding]
    command = [
        *("taskset", "-c", str(core), "wrk", "-t1", f"-c{job.connections}"),
        *(f"-d{seconds}s", "--timeout", "20s", "-s", str(HERE / "chat.lua")),
        *(f"http://{ADDRESSES[0]}:{target.port}", "--"),
        *arguments,
    ]
    where = f"{contender.name}, {job.title}"
    try:
        ran = subprocess.run(
            command, capture_output=True, text=True, timeout=seconds + 30, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise BenchError(f"{where}: wrk does not end") from error
    found = RESULT.search(ran.stdout)
    if ran.returncode != 0 or found is None:
        raise BenchError(f"{where}: wrk failed: {ran.stdout}{ran.stderr}")
    result: dict[str, int] = json.loads(found.group(1))
    failed = {name: result[name] for name in ERRORS if result[name] > 0}
    if failed:
        raise BenchError(f"{where}: requests failed: {failed}")
    return result
