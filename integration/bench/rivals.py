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
import json
import signal
import site
import subprocess
import sys
import tempfile
import venv
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import mean
from types import FrameType

from contenders import HERE, is_ready, read
from player import MODEL, Played, Workload, play, workload_of
from processes import BenchError, Started, accepts, free_ports, started, wait_until
from race_report import Run, plot, table

TARGET = HERE.parent.parent / "target"
LOCAL = "127.0.0.1"
CORES = "0,1"
WHEELS = ("smg==1.13.0", "sglang-router==0.3.2", "vllm-router==0.1.17", "matplotlib")


@dataclass(frozen=True)
class Course:
    """How a workload is played: how long it is, and how fast the fleet's clock runs."""

    name: str
    scale: float
    speed: float


COURSES = (
    Course("A long", 0.4, 8.0),
    Course("A short", 0.15, 12.0),
    Course("B tenants", 0.25, 6.0),
    # All of a burst comes within a second: at our own pace, the player is in time.
    Course("D bursts", 0.05, 1.0),
    Course("E unique", 0.2, 6.0),
    Course("H zipf", 0.25, 6.0),
    Course("I chats", 0.1, 10.0),
)

Launch = Callable[[ExitStack, argparse.Namespace, list[str], float, Path], int]
"""Starts a router for engines' addresses, and returns its port."""


def main() -> int:
    """Plays what is asked for, then prints the table of all runs."""
    options = read_options()
    signal.signal(signal.SIGTERM, end)
    try:
        if not options.report:
            check_surroundings(options)
            for seed in options.seeds:
                for course in options.courses:
                    workload = workload_of(
                        options.ground, course.name, seed, course.scale
                    )
                    for name in options.contenders:
                        run = race(options, course, workload, name, seed)
                        with options.results.open("a") as results:
                            results.write(json.dumps(asdict(run)) + "\n")
        lines = options.results.read_text().splitlines()
        runs = [Run(**json.loads(line)) for line in lines]
        print("\n".join(table(runs)))
        if options.plot is not None:
            # matplotlib is installed beside the rivals.
            for packages in options.wheels.glob("lib/python*/site-packages"):
                site.addsitedir(str(packages))
            plot(runs, options.plot)
    except BenchError as error:
        print(f"rivals: {error}", file=sys.stderr)
        return 1
    return 0


def end(number: int, _frame: FrameType | None) -> None:
    """Ends the program in order when it is told to stop, and with it what it started."""
    raise SystemExit(128 + number)


def read_options() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description="The router and rivals on one fleet")
    release = TARGET / "release"
    parser.add_argument(
        "--router", type=Path, default=release / "kthena-router", metavar="PATH"
    )
    parser.add_argument(
        "--ground",
        type=Path,
        default=release / "kthena-router-proving-ground",
        metavar="PATH",
    )
    parser.add_argument(
        "--wheels",
        type=Path,
        default=TARGET / "rivals",
        metavar="DIR",
        help="rivals are installed here",
    )
    parser.add_argument(
        "--results",
        type=Path,
        default=TARGET / "rivals.jsonl",
        metavar="FILE",
        help="runs are added here",
    )
    parser.add_argument(
        "--report",
        action="store_true",
        help="play nothing, show what is in the results",
    )
    parser.add_argument("--plot", type=Path, metavar="PNG")
    parser.add_argument(
        "--seeds",
        type=lambda text: [int(seed) for seed in text.split(",")],
        default=[1, 2, 3],
    )
    courses = {course.name: course for course in COURSES}
    for option, known in (("--contenders", LAUNCHES), ("--courses", courses)):
        parser.add_argument(
            option,
            type=partial(some_of, known),
            default=list(known),
            metavar="NAME,...",
            help="some of: " + ", ".join(known),
        )
    options = parser.parse_args()
    options.courses = [courses[name] for name in options.courses]
    for name in ("router", "ground", "wheels", "results"):
        setattr(options, name, getattr(options, name).resolve())
    return options


def some_of(known: Mapping[str, object], text: str) -> list[str]:
    """Reads names."""
    names = text.split(",")
    if not set(names) <= set(known):
        raise argparse.ArgumentTypeError(f"none of: {', '.join(known)}")
    return names


def check_surroundings(options: argparse.Namespace) -> None:
    """Makes sure that everything is there, and installs rivals."""
    for program, package in (
        (options.router, "kthena-router-actors"),
        (options.ground, "kthena-router-proving-ground"),
    ):
        if not program.is_file():
            raise BenchError(
                f"no {program}: run `cargo build --release --package {package}`"
            )
    if not options.wheels.is_dir():
        venv.create(options.wheels, with_pip=True)
        subprocess.run(
            [str(options.wheels / "bin" / "pip"), "install", "--quiet", *WHEELS],
            check=True,
        )


def race(
    options: argparse.Namespace,
    course: Course,
    workload: Workload,
    name: str,
    seed: int,
) -> Run:
    """Plays a workload once."""
    addresses = [f"127.0.2.{number}" for number in range(1, workload.engines + 1)]
    with ExitStack() as stack:
        directory = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="rivals-"))
        )
        (port,) = free_ports(addresses, 1)
        places = [option for address in addresses for option in ("--address", address)]
        command = [
            *(str(options.ground), "--only", course.name, "--scale", "0.01", "serve"),
            *(*places, "--port", str(port), "--speed", str(course.speed)),
        ]
        engines = stack.enter_context(started("engines", CORES, command, directory))
        sockets = [f"{address}:{port}" for address in addresses]
        for address in addresses:
            wait_until("engines", engines, partial(accepts, address, port))
        router_port = LAUNCHES[name](stack, options, sockets, course.speed, directory)
        played = play(workload, router_port, course.speed)
        return run_of(
            course, name, seed, played, [figures(socket) for socket in sockets]
        )


def run_of(
    course: Course,
    name: str,
    seed: int,
    played: Played,
    engines: list[dict[str, float]],
) -> Run:
    """Makes the figures of a run, and says them on the way."""
    if not played.waits:
        raise BenchError(f"{name} answered nothing of {course.name}: {played.fault}")

    def total(figure: str) -> float:
        return sum(engine[figure] for engine in engines)

    waits = sorted(played.waits)
    run = Run(
        workload=course.name,
        contender=name,
        seed=seed,
        ttft_p50=waits[len(waits) // 2],
        ttft_p90=waits[len(waits) * 9 // 10],
        ttft_mean=mean(waits),
        latency=mean(played.latencies),
        throughput=len(waits) / played.seconds,
        hits=total("vllm:prefix_cache_hits_total")
        / total("vllm:prefix_cache_queries_total"),
        failed=played.failed,
        late=total("late_seconds_sum") / total("late_seconds_count"),
        player=played.busy,
    )
    print(run, file=sys.stderr, flush=True)
    return run


def figures(socket: str) -> dict[str, float]:
    """Reads what an engine tells."""
    lines = (
        line.rpartition(" ") for line in read(f"http://{socket}/metrics").splitlines()
    )
    return {name: float(value) for name, _, value in lines}


def launch_router(
    scheduler: str | None,
    stack: ExitStack,
    options: argparse.Namespace,
    engines: list[str],
    speed: float,
    directory: Path,
) -> int:
    """Starts the router, with its default or with one score of a scheduler file."""
    port, metrics_port, debug_port = free_ports([LOCAL], 3)
    manifests = directory / "manifests"
    manifests.mkdir()
    (manifests / "fleet.yaml").write_text(fleet(engines))
    command = [
        *(
            str(options.router),
            "--manifests",
            str(manifests),
            "--pod-namespace",
            "default",
            "--workers",
            "1",
        ),
        *(
            "--bind-address",
            LOCAL,
            "--port",
            str(port),
            "--metrics-port",
            str(metrics_port),
        ),
        *(
            "--debug-port",
            str(debug_port),
            "--metrics-scrape-interval",
            f"{round(1000 / speed)}ms",
        ),
        *("--access-log-output", str(directory / "access.log")),
    ]
    if scheduler is not None:
        plugins = {"Score": {"enabled": [{"name": scheduler, "weight": 1}]}}
        config = directory / "scheduler.yaml"
        config.write_text(json.dumps({"scheduler": {"plugins": plugins}}))
        command += ["--scheduler-config", str(config)]
    process = stack.enter_context(started("router", CORES, command, directory))
    wait_until(
        "the router",
        process,
        lambda: is_ready(process, f"http://{LOCAL}:{metrics_port}/readyz"),
    )
    return port


def fleet(engines: list[str]) -> str:
    """Returns the manifests of the fleet; JSON is YAML."""
    space = {"namespace": "default"}
    port = int(engines[0].rpartition(":")[2])
    server = {
        "model": MODEL,
        "inferenceEngine": "vLLM",
        "workloadSelector": {"matchLabels": {"app": MODEL}},
        "workloadPort": {"port": port},
    }
    route = {
        "modelName": MODEL,
        "parentRefs": [{"name": "default", "namespace": "default", "kind": "Gateway"}],
        "rules": [{"name": "all", "targetModels": [{"modelServerName": MODEL}]}],
    }
    version = "networking.serving.volcano.sh/v1alpha1"
    objects: list[dict[str, object]] = [
        {
            "apiVersion": version,
            "kind": "ModelServer",
            "metadata": space | {"name": MODEL},
            "spec": server,
        },
        {
            "apiVersion": version,
            "kind": "ModelRoute",
            "metadata": space | {"name": MODEL},
            "spec": route,
        },
    ]
    for number, engine in enumerate(engines):
        metadata = space | {"name": f"engine-{number}", "labels": {"app": MODEL}}
        status = {"podIP": engine.rpartition(":")[0]}
        objects.append(
            {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "status": status}
        )
    return "\n---\n".join(json.dumps(each) for each in objects)


def launch_wheel(
    program: list[str],
    stack: ExitStack,
    options: argparse.Namespace,
    engines: list[str],
    _speed: float,
    directory: Path,
) -> int:
    """Starts a rival with its own defaults."""
    port, metrics_port = free_ports([LOCAL], 2)
    name, *arguments = program
    command = [
        *(
            str(options.wheels / "bin" / name),
            *arguments,
            "--host",
            LOCAL,
            "--port",
            str(port),
        ),
        *(
            "--worker-urls",
            *(f"http://{engine}" for engine in engines),
            "--prometheus-port",
            str(metrics_port),
        ),
    ]
    process = stack.enter_context(started(name, CORES, command, directory))
    wait_until(name, process, lambda: serves(process, port))
    return port


def serves(process: Started, port: int) -> bool:
    """Says whether a rival knows its engines."""
    return accepts(LOCAL, port) and is_ready(
        process, f"http://{LOCAL}:{port}/v1/models"
    )


LAUNCHES: dict[str, Launch] = {
    "random": partial(launch_router, "random"),
    "least-request": partial(launch_router, "least-request"),
    "smg": partial(launch_wheel, ["smg", "launch", "--policy", "cache_aware"]),
    "sglang-router": partial(
        launch_wheel, ["sglang-router", "launch", "--policy", "cache_aware"]
    ),
    "vllm-router": partial(launch_wheel, ["vllm-router", "--policy", "cache_aware"]),
    "default": partial(launch_router, None),
}
"""Routers by name, the one that counts last."""


if __name__ == "__main__":
    sys.exit(main())
