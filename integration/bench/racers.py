"""Who takes part in a race over HTTP: simulated engines, the router and rivals in front of them."""

from __future__ import annotations

import argparse
import json
import signal
import site
import subprocess
import sys
import tempfile
import venv
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from contenders import HERE, is_ready, read
from player import MODEL, Played, Workload, play
from processes import BenchError, Started, accepts, free_ports, started, wait_until

TARGET = HERE.parent.parent / "target"
LOCAL = "127.0.0.1"
CORES = "0,1"
WHEELS = ("smg==1.13.0", "sglang-router==0.3.2", "vllm-router==0.1.17", "matplotlib")
PROGRAMS = {"smg": ("python", "-m", "smg")}
"""How rivals are started for whom their name does not do: sglang-router has a program `smg` as well, which is itself."""
BOOTSTRAP_PORT = 8998
"""Where engines of SGLang meet; the simulated ones need no port for it."""


@dataclass(frozen=True)
class Course:
    """How a workload is played: how long it is, and how fast the fleet's clock runs."""

    name: str
    scale: float
    speed: float
    is_trace: bool = False
    """Whether its requests are those of a file that is not of the project."""

    def ground(self, options: argparse.Namespace, seed: int) -> tuple[str, ...]:
        """Returns the command by which the proving ground knows its workload."""
        traces = ("--traces", str(options.traces)) if self.is_trace else ()
        return (
            *(str(options.ground), "--only", self.name, "--seed", str(seed)),
            *("--scale", str(self.scale), *traces),
        )


class Unanswered(BenchError):
    """A contender answered nothing, and has no figures."""


@dataclass(frozen=True)
class Fleet:
    """Engines that run."""

    sockets: list[str]
    speed: float
    """How fast their clock runs."""
    roles: list[str]
    """What each works on; empty where all do everything."""
    adapters: int
    """LoRA adapters that each of them could load."""
    protocol: str = "nixl"
    """How those with roles hand prompts over to each other."""

    def of_role(self, role: str) -> list[str]:
        """Returns the URLs of the engines with a role."""
        pairs = zip(self.sockets, self.roles, strict=True)
        return [f"http://{socket}" for socket, its in pairs if its == role]


@dataclass(frozen=True)
class Place:
    """Where a contender runs."""

    stack: ExitStack
    options: argparse.Namespace
    directory: Path


Launch = Callable[[Place, Fleet], int]
"""Starts a router for a fleet, and returns its port."""


def start_engines(
    place: Place, workload: Workload, speed: float, protocol: str = "nixl"
) -> Fleet:
    """Starts the engines that a workload is for."""
    addresses = [f"127.0.2.{number}" for number in range(1, workload.engines + 1)]
    (port,) = free_ports(addresses, 1)
    places = [option for address in addresses for option in ("--address", address)]
    command = [
        *(*workload.ground, "serve", *places, "--port", str(port)),
        *("--speed", str(speed), "--protocol", protocol),
    ]
    engines = place.stack.enter_context(
        started("engines", CORES, command, place.directory)
    )
    for address in addresses:
        wait_until("engines", engines, partial(accepts, address, port))
    sockets = [f"{address}:{port}" for address in addresses]
    return Fleet(sockets, speed, workload.roles, workload.adapters, protocol)


def figures(socket: str) -> dict[str, float]:
    """Reads what an engine tells."""
    lines = (
        line.rpartition(" ") for line in read(f"http://{socket}/metrics").splitlines()
    )
    return {name: float(value) for name, _, value in lines}


def lateness(engines: list[dict[str, float]]) -> float:
    """Returns by how much engines' steps were late on average, in seconds of our clock."""
    late = sum(engine["late_seconds_sum"] for engine in engines)
    # Engines that came back may have got nothing any more.
    return late / max(sum(engine["late_seconds_count"] for engine in engines), 1.0)


def launch_router(
    scheduler: dict[str, object] | None, place: Place, fleet: Fleet
) -> int:
    """Starts the router, with its default or with a scheduler file."""
    port, metrics_port, debug_port = free_ports([LOCAL], 3)
    manifests = place.directory / "manifests"
    manifests.mkdir()
    (manifests / "fleet.yaml").write_text(manifests_of(fleet))
    command = [
        *(str(place.options.router), "--manifests", str(manifests)),
        *("--pod-namespace", "default", "--workers", "1"),
        *("--bind-address", LOCAL, "--port", str(port)),
        *("--metrics-port", str(metrics_port), "--debug-port", str(debug_port)),
        *("--metrics-scrape-interval", f"{round(1000 / fleet.speed)}ms"),
        *("--access-log-output", str(place.directory / "access.log")),
    ]
    if scheduler is not None:
        config = place.directory / "scheduler.yaml"
        config.write_text(json.dumps({"scheduler": scheduler}))
        command += ["--scheduler-config", str(config)]
    process = place.stack.enter_context(
        started("router", CORES, command, place.directory)
    )
    wait_until(
        "the router",
        process,
        lambda: is_ready(process, f"http://{LOCAL}:{metrics_port}/readyz"),
    )
    return port


def only_score(name: str) -> dict[str, object]:
    """Returns a scheduler that goes by one score."""
    return {"plugins": {"Score": {"enabled": [{"name": name, "weight": 1}]}}}


def manifests_of(fleet: Fleet) -> str:
    """Returns the manifests of a fleet; JSON is YAML."""
    space = {"namespace": "default"}
    selector: dict[str, object] = {"matchLabels": {"app": MODEL}}
    server: dict[str, object] = {
        "model": MODEL,
        "inferenceEngine": "SGLang" if fleet.protocol == "sglang" else "vLLM",
        "workloadSelector": selector,
        "workloadPort": {"port": int(fleet.sockets[0].rpartition(":")[2])},
    }
    if fleet.roles:
        selector["pdGroup"] = {
            "groupKey": "group",
            "prefillLabels": {"role": "prefill"},
            "decodeLabels": {"role": "decode"},
        }
        server["kvConnector"] = {"type": "nixl"}
    specs = [(MODEL, "ModelServer", server)]
    for number, route in enumerate(routes_of(fleet)):
        specs.append((f"{MODEL}-{number}", "ModelRoute", route))
    version = "networking.serving.volcano.sh/v1alpha1"
    objects: list[dict[str, object]] = [
        {
            "apiVersion": version,
            "kind": kind,
            "metadata": space | {"name": name},
            "spec": spec,
        }
        for name, kind, spec in specs
    ]
    for number, engine in enumerate(fleet.sockets):
        labels = {"app": MODEL}
        if fleet.roles:
            labels |= {"role": fleet.roles[number], "group": "all"}
        metadata = space | {"name": f"engine-{number}", "labels": labels}
        status = {"podIP": engine.rpartition(":")[0]}
        objects.append(
            {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "status": status}
        )
    return "\n---\n".join(json.dumps(each) for each in objects)


def routes_of(fleet: Fleet) -> list[dict[str, object]]:
    """Returns the routes to a fleet: to its model, and to its adapters."""
    names = [f"adapter-{number}" for number in range(fleet.adapters)]
    # A route may name ten of them.
    tens = [names[first : first + 10] for first in range(0, len(names), 10)]
    gateway = {"name": "default", "namespace": "default", "kind": "Gateway"}
    rule = {"name": "all", "targetModels": [{"modelServerName": MODEL}]}
    return [
        {"parentRefs": [gateway], "rules": [rule], **served}
        for served in ({"modelName": MODEL}, *({"loraAdapters": ten} for ten in tens))
    ]


def launch_wheel(
    program: list[str],
    ready: str,
    engines: Callable[[Fleet], list[str]],
    place: Place,
    fleet: Fleet,
) -> int:
    """Starts a rival that is told its engines by these options, and waits until it serves `ready`."""
    port, metrics_port = free_ports([LOCAL], 2)
    name, *arguments = program
    file, *module = PROGRAMS.get(name, (name,))
    command = [
        *(str(place.options.wheels / "bin" / file), *module, *arguments),
        *("--host", LOCAL, "--port", str(port)),
        *(*engines(fleet), "--prometheus-port", str(metrics_port)),
    ]
    process = place.stack.enter_context(started(name, CORES, command, place.directory))
    wait_until(name, process, lambda: serves(process, f"{LOCAL}:{port}", ready))
    return port


def all_engines(fleet: Fleet) -> list[str]:
    """Returns the options that tell a rival of engines without roles."""
    return ["--worker-urls", *(f"http://{engine}" for engine in fleet.sockets)]


def serves(process: Started, socket: str, path: str) -> bool:
    """Says whether a rival knows its engines."""
    address, _, port = socket.rpartition(":")
    return accepts(address, int(port)) and is_ready(process, f"http://{socket}{path}")


def add_options(
    parser: argparse.ArgumentParser,
    results: str,
    contenders: Mapping[str, object],
    courses: Mapping[str, object],
) -> None:
    """Adds the options that all races have."""
    release = TARGET / "release"
    for name, default, metavar, meaning in (
        ("router", release / "kthena-router", "PATH", None),
        ("ground", release / "kthena-router-proving-ground", "PATH", None),
        ("wheels", TARGET / "rivals", "DIR", "rivals are installed here"),
        ("results", TARGET / results, "FILE", "runs are added here"),
    ):
        parser.add_argument(
            f"--{name}",
            type=lambda text: Path(text).resolve(),
            default=default,
            metavar=metavar,
            help=meaning,
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
    for option, known in (("--contenders", contenders), ("--courses", courses)):
        parser.add_argument(
            option,
            type=partial(some_of, known),
            default=list(known),
            metavar="NAME,...",
            help="some of: " + ", ".join(known),
        )


def run_through(
    launch: Launch,
    options: argparse.Namespace,
    workload: Workload,
    speed: float,
    protocol: str = "nixl",
) -> tuple[Played, list[dict[str, float]]]:
    """Plays a workload once, through a fresh router; returns what came of it and what each engine tells."""
    with ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="race-"))
        place = Place(stack, options, Path(directory))
        fleet = start_engines(place, workload, speed, protocol)
        played = play(workload, launch(place, fleet), speed)
        return played, [figures(socket) for socket in fleet.sockets]


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


@dataclass(frozen=True)
class Rules:
    """How a race goes."""

    title: str
    run: Callable[[argparse.Namespace, Any, str, int], Any]
    """Plays a course with a contender and a seed, once."""
    kind: type[Any]
    """What a run gives, a dataclass."""
    table: Callable[[list[Any]], list[str]]
    plot: Callable[[list[Any], Path], None]


def played_runs(options: argparse.Namespace, rules: Rules) -> Iterator[Any]:
    """Plays what is asked for; tells of those who answer nothing, and goes on."""
    for seed in options.seeds:
        for course in options.courses:
            for name in options.contenders:
                try:
                    yield rules.run(options, course, name, seed)
                except Unanswered as error:
                    print(f"{rules.title}: {error}", file=sys.stderr, flush=True)


def compete(options: argparse.Namespace, rules: Rules) -> int:
    """Plays what is asked for, then prints the table of all runs and draws them; returns the exit code."""
    signal.signal(signal.SIGTERM, end)
    try:
        if not options.report:
            check_surroundings(options)
            for run in played_runs(options, rules):
                print(run, file=sys.stderr, flush=True)
                with options.results.open("a") as results:
                    results.write(json.dumps(asdict(run)) + "\n")
        lines = options.results.read_text().splitlines()
        runs = [rules.kind(**json.loads(line)) for line in lines]
        print("\n".join(rules.table(runs)))
        if options.plot is not None:
            # matplotlib is installed beside the rivals.
            for packages in options.wheels.glob("lib/python*/site-packages"):
                site.addsitedir(str(packages))
            rules.plot(runs, options.plot)
    except BenchError as error:
        print(f"{rules.title}: {error}", file=sys.stderr)
        return 1
    return 0


def end(number: int, _frame: FrameType | None) -> None:
    """Ends the program in order when it is told to stop, and with it what it started."""
    raise SystemExit(128 + number)
