#!/usr/bin/env python3
"""Plays the proving ground's workloads over HTTP, through the router and rivals.

Each run has fresh engines (`kthena-router-proving-ground serve`, the model of
the virtual-time ground behind HTTP), one fresh router in front of them, and the
same jobs for everyone. The fleet's clock runs faster than ours: all seconds are
its own, and what a router takes counts as many times.

Runs are kept in a file of JSON lines, one for each. The table and the plot are
made of all of them, so that a long comparison can be made in pieces.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path
from statistics import mean

from player import Played, workload_of
from race_report import Run, plot, table
from racers import (
    Course,
    Launch,
    Rules,
    Unanswered,
    add_options,
    all_engines,
    compete,
    lateness,
    launch_router,
    launch_wheel,
    only_score,
    run_through,
)


COURSES = (
    Course("A long", 0.4, 8.0),
    Course("A short", 0.15, 12.0),
    Course("B tenants", 0.25, 6.0),
    Course("C conversation", 0.1, 4.0, is_trace=True),
    Course("C synthetic", 0.15, 4.0, is_trace=True),
    # All of a burst comes within a second: at our own pace, the player is in time.
    Course("D bursts", 0.05, 1.0),
    Course("E unique", 0.2, 6.0),
    Course("F adapters", 0.25, 4.0),
    # Connections that break and are made anew take their time: outages last for seconds of our clock.
    Course("G slow", 0.3, 4.0),
    Course("G crash", 0.3, 4.0),
    Course("G restarts", 0.3, 4.0),
    Course("H zipf", 0.25, 6.0),
    Course("I chats", 0.1, 10.0),
    Course("J agents", 0.3, 8.0),
)


def main() -> int:
    """Plays what is asked for, then prints the table of all runs."""
    return compete(read_options(), Rules("rivals", race, Run, table, plot))


def read_options() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description="The router and rivals on one fleet")
    courses = {course.name: course for course in COURSES}
    add_options(parser, "rivals.jsonl", LAUNCHES, courses)
    parser.add_argument(
        "--traces",
        type=lambda text: Path(text).resolve(),
        metavar="DIR",
        help="Mooncake's traces, for the workloads C",
    )
    options = parser.parse_args()
    asked = [courses[name] for name in options.courses]
    options.courses = [
        course for course in asked if options.traces or not course.is_trace
    ]
    if not options.courses:
        parser.error("the workloads C need --traces")
    return options


def race(options: argparse.Namespace, course: Course, name: str, seed: int) -> Run:
    """Plays a workload once."""
    workload = workload_of(course.ground(options, seed))
    played, engines = run_through(LAUNCHES[name], options, workload, course.speed)
    return run_of(course, name, seed, played, engines)


def run_of(
    course: Course,
    name: str,
    seed: int,
    played: Played,
    engines: list[dict[str, float]],
) -> Run:
    """Makes the figures of a run."""
    if not played.waits:
        raise Unanswered(f"{name} answered nothing of {course.name}: {played.fault}")

    def total(figure: str) -> float:
        return sum(engine[figure] for engine in engines)

    waits = sorted(played.waits)
    return Run(
        workload=course.name,
        contender=name,
        seed=seed,
        ttft_p50=waits[len(waits) // 2],
        ttft_p90=waits[len(waits) * 9 // 10],
        ttft_mean=mean(waits),
        latency=mean(played.latencies),
        throughput=len(waits) / played.seconds,
        hits=total("vllm:prefix_cache_hits_total")
        / max(total("vllm:prefix_cache_queries_total"), 1.0),
        failed=played.failed,
        late=lateness(engines),
        player=played.busy,
        repeated=played.repeated,
    )


def rival(*program: str) -> Launch:
    """Returns how a rival is started with its own defaults."""
    command = [*program, "--policy", "cache_aware"]
    return partial(launch_wheel, command, "/v1/models", all_engines)


LAUNCHES: dict[str, Launch] = {
    "random": partial(launch_router, only_score("random")),
    "least-request": partial(launch_router, only_score("least-request")),
    "smg": rival("smg", "launch"),
    "sglang-router": rival("sglang-router", "launch"),
    "vllm-router": rival("vllm-router"),
    "default": partial(launch_router, None),
}
"""Routers by name, the one that counts last."""


if __name__ == "__main__":
    sys.exit(main())
