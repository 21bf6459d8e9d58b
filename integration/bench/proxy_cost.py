#!/usr/bin/env python3
"""Measures what a request costs the router, beside nginx.

Both proxies stand in front of the same simulated engines and are loaded in
turn, job by job and round by round: the proxies on one core with one worker
each, engines and load generator on the other. The router does its whole job:
it reads each body, rewrites its model name, counts usage, and has its access
log and its metrics on.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from contenders import HERE, Bench, Contender, running
from load import JOBS, Job, Sample, measure
from processes import BenchError, core_busy, resident_megabytes
from report import Samples, before_table, coding_table, cost_table, latency_table, noise, pair_table, pool_table

TARGET = HERE.parent.parent / "target"
DEFAULT_ROUTER = TARGET / "dist" / "kthena-router"
DEFAULT_PICKER = TARGET / "debug" / "examples" / "endpoint_picker"
QUIET_SHARE = 0.15
PACKAGES = {"nginx": "nginx", "wrk": "wrk", "taskset": "util-linux"}


def main() -> int:
    """Runs the benchmark and prints its tables."""
    options = read_options()
    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGHUP, end)
    try:
        check_surroundings(options)
        with (
            tempfile.TemporaryDirectory(prefix="proxy-cost-") as directory,
            running(
                options.router.resolve(),
                options.picker.resolve(),
                options.proxy_core,
                options.load_core,
                Path(directory),
                options.before and options.before.resolve(),
            ) as bench,
        ):
            samples = run_rounds(bench, options)
            show(bench, options, samples)
    except BenchError as error:
        print(f"proxy_cost: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def read_options() -> argparse.Namespace:
    """Reads the command line."""
    names = ", ".join(job.name for job in JOBS)
    parser = argparse.ArgumentParser(
        description="CPU per request of the router and nginx"
    )
    parser.add_argument("--router", type=Path, default=DEFAULT_ROUTER, metavar="PATH")
    parser.add_argument("--before", type=Path, metavar="PATH", help="an older build to compare with")
    parser.add_argument("--picker", type=Path, default=DEFAULT_PICKER, metavar="PATH")
    parser.add_argument(
        "--rounds",
        type=bounded(2, 100),
        default=4,
        help="rounds, the first of which does not count (default: 4)",
    )
    parser.add_argument(
        "--seconds",
        type=bounded(1, 60),
        default=4,
        help="length of each run (default: 4)",
    )
    parser.add_argument(
        "--jobs",
        type=jobs_named,
        default=list(JOBS),
        metavar="NAME,...",
        help=f"some of: {names} (default: all)",
    )
    parser.add_argument(
        "--patience",
        type=bounded(0, 3600),
        default=0,
        metavar="SECONDS",
        help="time to wait for idle cores and to repeat disturbed runs (default: 0)",
    )
    parser.add_argument("--proxy-core", type=int, default=0, metavar="CORE")
    parser.add_argument("--load-core", type=int, default=1, metavar="CORE")
    return parser.parse_args()


def bounded(least: int, most: int) -> Callable[[str], int]:
    """Returns what reads a number between two bounds."""

    def number(text: str) -> int:
        if not text.isdecimal() or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"must be from {least} to {most}")
        return int(text)

    return number


def jobs_named(text: str) -> list[Job]:
    """Reads the names of jobs."""
    known = {job.name: job for job in JOBS}
    names = text.split(",")
    unknown = [name for name in names if name not in known]
    if unknown:
        raise argparse.ArgumentTypeError(f"no such job: {', '.join(unknown)}")
    return [known[name] for name in dict.fromkeys(names)]


def end(number: int, _frame: FrameType | None) -> None:
    """Ends the program in order when it is told to stop."""
    raise SystemExit(128 + number)


def check_surroundings(options: argparse.Namespace) -> None:
    """Makes sure that everything is there before anything is started."""
    cores = {options.proxy_core, options.load_core}
    missing = [program for program in PACKAGES if shutil.which(program) is None]
    if missing:
        install = "apt-get install " + " ".join(PACKAGES[name] for name in missing)
        raise BenchError(f"not installed: {', '.join(missing)}; on Debian: {install}")
    if not options.router.is_file():
        raise BenchError(
            f"no router at {options.router}: run `cargo build --profile dist` or give"
            " --router"
        )
    if not options.picker.is_file():
        raise BenchError(
            f"no picker at {options.picker}: run `cargo build --package"
            " kthena-router-actors --example endpoint_picker` or give --picker"
        )
    if len(cores) < 2 or not cores <= os.sched_getaffinity(0):
        raise BenchError("two different cores that this process may use are needed")


def run_rounds(bench: Bench, options: argparse.Namespace) -> Samples:
    """Measures all contenders in turn, and returns the rounds that count."""
    samples: Samples = {}
    patience = Patience(options.patience, (options.proxy_core, options.load_core))
    for number in range(options.rounds):
        print(f"round {number + 1} of {options.rounds}", file=sys.stderr)
        # Whoever comes first in one round comes last in the next.
        order = bench.contenders[:: -1 if number % 2 else 1]
        for job in options.jobs:
            entered = [
                contender
                for contender in order
                if (contender.jobs is None or job.name in contender.jobs)
                and (job.coding is None or contender.name == "router")
            ]
            measured = in_turn(bench, job, entered, options.seconds, patience)
            for contender, sample in zip(entered, measured, strict=True):
                if number > 0:
                    samples.setdefault((job.name, contender.name), []).append(sample)
    return samples


def in_turn(
    bench: Bench, job: Job, order: list[Contender], seconds: int, patience: Patience
) -> list[Sample]:
    """Measures one job, once more whenever others disturbed it and time is left."""
    while True:
        patience.wait()
        began = time.monotonic()
        measured = [
            measure(job, contender, bench.engines, seconds, patience.cores)
            for contender in order
        ]
        disturbed = max(sample.foreign for sample in measured) > QUIET_SHARE
        if not disturbed or patience.seconds <= 0:
            return measured
        patience.seconds -= time.monotonic() - began


@dataclass
class Patience:
    """What is left of the time in which a quiet machine is waited for."""

    seconds: float
    cores: tuple[int, int]

    def wait(self) -> None:
        """Waits until others leave the cores."""
        busy = float("inf")
        while self.seconds > 0 and busy > QUIET_SHARE:
            before = sum(core_busy(core) for core in self.cores)
            time.sleep(1.0)
            busy = (sum(core_busy(core) for core in self.cores) - before) / 1e6
            self.seconds -= 1.0


def show(bench: Bench, options: argparse.Namespace, samples: Samples) -> None:
    """Prints the tables."""
    print(f"{processor()}; Linux {platform.release()}; {nginx_version()}.")
    print(f"Rounds that count: {options.rounds - 1}; runs of {options.seconds} s.")
    for further in (cost_table, coding_table, before_table, pool_table, pair_table, latency_table):
        lines = further(options.jobs, samples)
        if lines:
            print("\n" + "\n".join(lines))
    sizes = []
    for contender in bench.contenders:
        if contender.pid is not None:
            now, peak = resident_megabytes(contender.pid)
            sizes.append(f"{contender.name} {now:.0f} MB (peak {peak:.0f} MB)")
    print(f"\nResident memory at the end: {', '.join(sizes)}.")
    print(noise(samples))


def processor() -> str:
    """Returns the name of the processor."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()


def nginx_version() -> str:
    """Returns the version that nginx reports."""
    shown = subprocess.run(["nginx", "-v"], capture_output=True, text=True, check=False)
    return shown.stderr.strip().rpartition(" ")[2]


if __name__ == "__main__":
    sys.exit(main())
