"""The engines, and the two proxies in front of them."""

from __future__ import annotations

import grp
import json
import os
import pwd
import re
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from string import Template

from processes import (
    BenchError,
    Started,
    accepts,
    children_of,
    free_ports,
    started,
    wait_until,
)

HERE = Path(__file__).resolve().parent
ADDRESSES = ["127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4"]
SERVED_MODEL = "bench-served"
STREAM_TOKENS = 200
POOL_JOBS = ("1k",)
CONNECTORS = ("nixl", "sglang")
"""Those of the engines that work on requests in pairs."""
TOKEN_PACE = "10ms"
TOKEN_COUNTS = re.compile(
    r"^vllm:(?:time_to_first_token|inter_token_latency)_seconds_count\{.*\} (\d+)$",
    re.MULTILINE,
)


@dataclass(frozen=True)
class Target:
    """Where a kind of request is sent, and the model that it names there."""

    port: int
    model: str


@dataclass(frozen=True)
class Contender:
    """Something that answers requests; without a process, the engine itself."""

    name: str
    pid: int | None
    whole: Target
    stream: Target
    paced: Target
    jobs: tuple[str, ...] | None = None
    """The jobs that it takes part in; all of them if absent."""


@dataclass(frozen=True)
class Engines:
    """Ports of the simulated engines: as fast as they can, and at a model's pace."""

    port: int
    paced_port: int

    def tokens(self) -> int:
        """Returns how many tokens all engines have produced until now."""
        total = 0
        for port in (self.port, self.paced_port):
            # The addresses of one process show the figures of all of them.
            page = read(f"http://{ADDRESSES[0]}:{port}/metrics")
            total += sum(int(count) for count in TOKEN_COUNTS.findall(page))
        return total


@dataclass(frozen=True)
class Bench:
    """Everything that runs while measuring."""

    engines: Engines
    contenders: list[Contender]


@dataclass(frozen=True)
class Pairs:
    """Engines that work on requests in pairs: two compute prompts, two answer."""

    options: list[str]
    """What the router is told besides its manifests."""

    def contenders(self, router: Contender) -> list[Contender]:
        """Returns the router as it is asked for models with two legs, one for each connector."""
        targets = {
            name: Target(router.whole.port, f"pairs-{name}") for name in CONNECTORS
        }
        return [
            Contender(name, router.pid, target, target, target, POOL_JOBS)
            for name, target in targets.items()
        ]


@contextmanager
def running(
    router: Path,
    picker: Path,
    proxy_core: int,
    load_core: int,
    directory: Path,
    before: Path | None = None,
) -> Iterator[Bench]:
    """Runs engines, nginx and the router, and perhaps an older one, for as long as the context lasts."""
    with ExitStack() as stack:
        engines = Engines(*free_ports(ADDRESSES, 2))
        for name, port, pace in (
            ("engines", engines.port, "0s"),
            ("paced-engines", engines.paced_port, TOKEN_PACE),
        ):
            command = engine_command(router, port, pace)
            process = stack.enter_context(started(name, load_core, command, directory))
            wait_until(name, process, partial(all_accept, port))
        pairs = start_pairs(stack, router, load_core, directory)
        picker_port = start_picker(stack, picker, engines, load_core, directory)
        routers = start_router(
            *(stack, router, engines, picker_port, proxy_core, directory),
            options=pairs.options,
        )
        contenders = [
            direct(engines),
            start_nginx(stack, engines, proxy_core, directory),
            *routers,
            *pairs.contenders(routers[0]),
        ]
        if before:
            older = directory / "before"
            older.mkdir()
            first, *_ = start_router(stack, before, engines, picker_port, proxy_core, older)
            contenders.append(replace(first, name="before"))
        for contender in contenders:
            probe(contender)
        yield Bench(engines, contenders)


def all_accept(port: int) -> bool:
    """Says whether a port takes connections on every address of the engines."""
    return all(accepts(address, port) for address in ADDRESSES)


def engine_command(
    router: Path, port: int, pace: str, addresses: Sequence[str] = ADDRESSES
) -> list[str]:
    """Returns the command of one process that serves as an engine at each address."""
    places = [option for address in addresses for option in ("--address", address)]
    return [
        *(str(router), "engine", *places, "--port", str(port)),
        *("--model", SERVED_MODEL, "--workers", "1"),
        *("--output-tokens", str(STREAM_TOKENS), "--time-per-output-token", pace),
    ]


def direct(engines: Engines) -> Contender:
    """Returns the first engine as it is without a proxy."""
    fast = Target(engines.port, SERVED_MODEL)
    return Contender(
        "direct", None, fast, fast, Target(engines.paced_port, SERVED_MODEL)
    )


def start_nginx(
    stack: ExitStack, engines: Engines, core: int, directory: Path
) -> Contender:
    """Starts nginx; its worker process is what is measured."""
    whole_port, stream_port, paced_stream_port = free_ports(ADDRESSES[:1], 3)
    config = directory / "nginx.conf"
    fill(
        "nginx.conf.template",
        config,
        directory=str(directory),
        # The worker has to read and write in the temporary directory.
        user=pwd.getpwuid(os.getuid()).pw_name,
        group=grp.getgrgid(os.getgid()).gr_name,
        engine_port=str(engines.port),
        paced_port=str(engines.paced_port),
        whole_port=str(whole_port),
        stream_port=str(stream_port),
        paced_stream_port=str(paced_stream_port),
    )
    error_log = str(directory / "nginx-error.log")
    command = ["nginx", "-p", str(directory), "-e", error_log, "-c", str(config)]
    process = stack.enter_context(started("nginx", core, command, directory))
    wait_until("nginx", process, lambda: accepts(ADDRESSES[0], whole_port))
    wait_until("nginx", process, lambda: len(children_of(process.pid)) == 1)
    return Contender(
        "nginx",
        children_of(process.pid)[0],
        Target(whole_port, SERVED_MODEL),
        Target(stream_port, SERVED_MODEL),
        Target(paced_stream_port, SERVED_MODEL),
    )


def start_picker(
    stack: ExitStack, picker: Path, engines: Engines, core: int, directory: Path
) -> int:
    """Starts an endpoint picker, and returns its port."""
    (port,) = free_ports(ADDRESSES[:1], 1)
    endpoints = [f"{address}:{engines.port}" for address in ADDRESSES]
    command = [str(picker), f"{ADDRESSES[0]}:{port}", *endpoints]
    process = stack.enter_context(started("picker", core, command, directory))
    wait_until("the picker", process, lambda: accepts(ADDRESSES[0], port))
    return port


def start_pairs(stack: ExitStack, router: Path, core: int, directory: Path) -> Pairs:
    """Starts engines that work in pairs, and writes manifests for them."""
    *ports, bootstrap_port = free_ports(ADDRESSES, len(CONNECTORS) + 1)
    for connector, port in zip(CONNECTORS, ports, strict=True):
        for role, addresses in (
            ("prefill", ADDRESSES[:2]),
            ("decode", ADDRESSES[2:]),
        ):
            name = f"{connector}-{role}"
            command = [
                *engine_command(router, port, "0s", addresses),
                *("--kv-connector", connector, "--kv-role", role),
            ]
            if (connector, role) == ("sglang", "prefill"):
                command += ["--kv-bootstrap-port", str(bootstrap_port)]
            process = stack.enter_context(started(name, core, command, directory))
            wait_until(name, process, partial(accepts, addresses[-1], port))
    manifests = directory / "manifests"
    manifests.mkdir(exist_ok=True)
    fill(
        "pairs.yaml.template",
        manifests / "pairs.yaml",
        served_model=SERVED_MODEL,
        bootstrap_port=str(bootstrap_port),
        **{f"{name}_port": str(port) for name, port in zip(CONNECTORS, ports)},
    )
    # Prompts of 1 KB would stay where they are answered.
    remote = {"name": "remote-prefill", "args": {"always": 1}}
    # In a directory of its own: whatever is written beside it, such as an access log, is seen by who watches it.
    scheduler = directory / "scheduler" / "configuration.yaml"
    scheduler.parent.mkdir()
    scheduler.write_text(json.dumps({"scheduler": {"pluginConfig": [remote]}}))
    return Pairs(["--scheduler-config", str(scheduler)])


def start_router(
    stack: ExitStack,
    router: Path,
    engines: Engines,
    picker_port: int,
    core: int,
    directory: Path,
    under: tuple[str, ...] = (),
    options: Sequence[str] = (),
) -> list[Contender]:
    """Starts the router with its access log and metrics on.

    `under` is a program that runs it, `options` are further ones of the router.

    Its default Gateway has ModelRoutes. Another one has HTTPRoutes alone: to a
    Service, to an InferencePool of which the router picks, and to one with an
    endpoint picker.
    """
    ports = free_ports(ADDRESSES[:1], 7)
    port, http_port, paced_http_port, pool_port, picked_port = ports[:5]
    metrics_port, debug_port = ports[5:]
    manifests = directory / "manifests"
    manifests.mkdir(exist_ok=True)
    fill(
        "manifests.yaml.template",
        manifests / "bench.yaml",
        served_model=SERVED_MODEL,
        engine_port=str(engines.port),
        paced_port=str(engines.paced_port),
        http_port=str(http_port),
        paced_http_port=str(paced_http_port),
        pool_port=str(pool_port),
        picked_port=str(picked_port),
        picker_port=str(picker_port),
    )
    command = [
        *(*under, str(router), "--manifests", str(manifests), "--workers", "1"),
        "--enable-gateway-api-inference-extension",
        *("--bind-address", ADDRESSES[0], "--port", str(port), "--pod-namespace", "default"),
        *("--metrics-port", str(metrics_port), "--debug-port", str(debug_port)),
        *("--access-log-output", str(directory / "router-access.log")),
        # Streams that were cut off at the end are nothing to wait for.
        *("--drain-timeout", "1s"),
        *options,
    ]
    process = stack.enter_context(started("router", core, command, directory))
    url = f"http://{ADDRESSES[0]}:{metrics_port}/readyz"
    wait_until("the router", process, lambda: is_ready(process, url))
    fast = Target(port, "bench")
    plain = Target(http_port, SERVED_MODEL)
    paced = Target(paced_http_port, SERVED_MODEL)
    pool = Target(pool_port, SERVED_MODEL)
    picked = Target(picked_port, SERVED_MODEL)
    return [
        Contender("router", process.pid, fast, fast, Target(port, "bench-paced")),
        Contender("httproute", process.pid, plain, plain, paced),
        Contender("pool", process.pid, pool, pool, pool, POOL_JOBS),
        Contender("picker", process.pid, picked, picked, picked, POOL_JOBS),
    ]


def is_ready(process: Started, url: str) -> bool:
    """Says whether a process that is still alive answers that it is ready."""
    try:
        return process.poll() is None and bool(read(url))
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def probe(contender: Contender) -> None:
    """Has a request answered, so that nothing else than the intended is measured."""
    for target in (contender.whole, contender.stream, contender.paced):
        message = {"role": "user", "content": "Hello"}
        body = {"model": target.model, "max_tokens": 6, "messages": [message]}
        url = f"http://{ADDRESSES[0]}:{target.port}/v1/chat/completions"
        try:
            answer = read(url, json.dumps(body).encode())
        except (urllib.error.URLError, ConnectionError, TimeoutError) as error:
            raise BenchError(f"{contender.name} does not answer: {error}") from error
        if f"message from {SERVED_MODEL}" not in answer:
            raise BenchError(f"{contender.name} answers something else: {answer}")


def read(url: str, body: bytes | None = None) -> str:
    """Sends a request around any proxy of the environment, and returns the answer."""
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(url, data=body, headers=headers)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=5.0) as response:
        content: bytes = response.read()
    return content.decode()


def fill(template: str, destination: Path, **values: str) -> None:
    """Writes a template that lies beside this file with its values filled in."""
    text = Template((HERE / template).read_text()).substitute(values)
    destination.write_text(text)
