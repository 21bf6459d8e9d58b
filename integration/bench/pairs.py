#!/usr/bin/env python3
"""Prefill and decode on different engines, over HTTP: the router's pairs and those of rivals.

Long prompts that nobody repeats, and short ones, go to 8 engines that do all of a
request or to 6 that compute prompts and 2 that answer: the workloads K of the
proving ground, on its engines behind HTTP. Each run has fresh engines and a
fresh router. All seconds are those of the fleet's clock.

Runs are kept in a file of JSON lines, one for each. The table and the plot are
made of all of them, so that a long comparison can be made in pieces.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from pairs_report import Run, plot, table
from player import Played, workload_of
from racers import (
    BOOTSTRAP_PORT,
    Course,
    Fleet,
    Launch,
    Rules,
    Unanswered,
    add_options,
    all_engines,
    compete,
    lateness,
    launch_router,
    launch_wheel,
    run_through,
)

DIVIDED = " P6 D2"
"""What the name of a workload ends with whose engines have roles."""


@dataclass(frozen=True)
class Contender:
    """A router, and the engines behind it."""

    launch: Launch
    protocol: str = "nixl"
    is_divided: bool = True


COURSES = (
    Course("K long", 0.3, 4.0),
    # What a router takes counts as often as the clock is fast, beside a TTFT of 30 ms.
    Course("K short", 0.12, 1.0),
)


def main() -> int:
    """Plays what is asked for, then prints the table of all runs."""
    return compete(read_options(), Rules("pairs", race, Run, table, plot))


def read_options() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description="Pairs of the router and of rivals")
    courses = {course.name: course for course in COURSES}
    add_options(parser, "pairs.jsonl", CONTENDERS, courses)
    options = parser.parse_args()
    options.courses = [courses[name] for name in options.courses]
    return options


def race(options: argparse.Namespace, course: Course, name: str, seed: int) -> Run:
    """Plays a workload once."""
    contender = CONTENDERS[name]
    suffix = DIVIDED if contender.is_divided else ""
    its = replace(course, name=course.name + suffix)
    workload = workload_of(its.ground(options, seed))
    played, engines = run_through(
        contender.launch, options, workload, course.speed, contender.protocol
    )
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
    waits, paces = sorted(played.waits), sorted(played.paces)
    return Run(
        workload=course.name,
        contender=name,
        seed=seed,
        ttft_p50=waits[len(waits) // 2],
        ttft_p90=waits[len(waits) * 9 // 10],
        latency=sum(played.latencies) / len(waits),
        pace_p99=paces[len(paces) * 99 // 100],
        throughput=len(waits) / played.seconds,
        failed=played.failed,
        fault=played.fault,
        late=lateness(engines),
        player=played.busy,
        repeated=played.repeated,
    )


def pairs_of(extra: Callable[[str], list[str]]) -> Callable[[Fleet], list[str]]:
    """Returns what tells a rival of engines with roles; `extra` follows the URL of one that prefills."""

    def told(fleet: Fleet) -> list[str]:
        prefills = [["--prefill", url, *extra(url)] for url in fleet.of_role("prefill")]
        decodes = [["--decode", url] for url in fleet.of_role("decode")]
        return [word for words in prefills + decodes for word in words]

    return told


def rival(program: list[str], policy: str | None = None) -> Launch:
    """Returns how a rival is started for pairs: with its own defaults, or with a policy for both sides."""
    chosen = [] if policy is None else ["--policy", policy]
    port = [str(BOOTSTRAP_PORT)] if program[0] == "smg" else []
    return partial(
        launch_wheel, [*program, *chosen], "/health", pairs_of(lambda _: port)
    )


RANDOM: dict[str, object] = {
    "plugins": {"Score": {"enabled": [{"name": "random", "weight": 1}]}},
    # Without it the router keeps prompts where computing them costs less.
    "pluginConfig": [{"name": "remote-prefill", "args": {"always": 1}}],
}
SMG = ["smg", "launch", "--pd-disaggregation"]
VLLM = ["vllm-router", "--vllm-pd-disaggregation"]
CONTENDERS = {
    "no pairs": Contender(partial(launch_router, None), is_divided=False),
    "smg no pairs": Contender(
        partial(launch_wheel, ["smg", "launch"], "/v1/models", all_engines),
        is_divided=False,
    ),
    "random pairs": Contender(partial(launch_router, RANDOM)),
    "vllm-router": Contender(rival(VLLM)),
    "vllm-router power_of_two": Contender(rival(VLLM, "power_of_two")),
    # By HTTP it speaks SGLang's protocol alone.
    "smg": Contender(rival(SMG), "sglang"),
    "smg power_of_two": Contender(rival(SMG, "power_of_two"), "sglang"),
    "sglang": Contender(partial(launch_router, None), "sglang"),
    "default": Contender(partial(launch_router, None)),
}
"""Routers by name, the one that counts last; `default` and `sglang` are the router's own pairs."""


if __name__ == "__main__":
    sys.exit(main())
