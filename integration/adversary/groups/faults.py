"""Unlucky days: manifests that are being written, engines that hang, signals, ports that are taken, full disks."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from cases import Group, Outcome, Room, within
from groups.restarts import add_restarts
from rig import manifests
from rig.crowd import Crowd, quiet_client
from rig.network import PORT, accepts, free_port
from rig.router import Router, wait_for
from rig.stage import Stage
from wire.http1 import fetch, request
from wire.http2 import Http2, get, post
from wire.stream import Stream

GET = request("GET", "/r/x")
TRIALS = 4
"""How many of 30 requests may be spent on an endpoint that is ejected, to see whether it has recovered."""


def nothing(_: Stage) -> None:
    """Starts no router: these cases do."""


def plain(stage: Stage) -> None:
    """A prefix with a backend."""
    stage.serve("r", "/r", [stage.backend()])
    stage.start()


def patient(stage: Stage) -> None:
    """The same, with a router that gives requests a long time to end, and heads a short one to come."""
    stage.serve("r", "/r", [stage.backend()])
    stage.start("--drain-timeout=60s", "--client-timeout=3s")


def rewritten(stage: Stage, rewrite: Callable[[Path, str], None]) -> Outcome:
    """Rewrites the manifests in place under requests: none of them fails."""
    backend = stage.backend()
    route = manifests.http_route("r", "default", [manifests.rule("/r", "r")])
    text = manifests.text_of([*_filling(), *manifests.service("r", [backend.address]), route])
    path = stage.manifests.directory / "all.yaml"
    path.write_text(text)
    stage.start()
    is_over = threading.Event()

    def write() -> None:
        for _ in range(3):
            rewrite(path, text)
            time.sleep(0.2)
        is_over.set()

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    sent = failed = 0
    while not is_over.is_set() and sent < 2000:
        got = fetch(stage.address, GET)
        sent, failed = sent + 1, failed + (got is None or got.status != 200)
        time.sleep(0.005)
    writer.join(5.0)
    return within(failed, 0, f"of {sent} failed")


def _filling() -> list[manifests.Object]:
    """Returns 100 KB of objects that no route needs."""
    names = [f"filling-{number}" for number in range(20)]
    return [manifests.authority_map(name, "x" * 5_000) for name in names]


def in_pieces(path: Path, text: str) -> None:
    """Writes a file in pieces over 400 ms; each of them ends with an object, so that what is there is YAML."""
    with path.open("w") as file:
        for piece in text.split("---\n"):
            file.write(piece + "---\n")
            file.flush()
            time.sleep(0.02)


def emptied(path: Path, text: str) -> None:
    """Empties a file for 120 ms."""
    path.write_text("")
    time.sleep(0.12)
    path.write_text(text)


def broken(path: Path, text: str) -> None:
    """Writes a file that is no YAML for 150 ms."""
    path.write_text(text[: len(text) // 2] + "\n  : [")
    time.sleep(0.15)
    path.write_text(text)


def cut_off(path: Path, text: str) -> None:
    """Cuts a file off where it is still YAML."""
    path.write_text("apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPR\n")
    time.sleep(0.15)
    path.write_text(text)


def replaced(path: Path, text: str) -> None:
    """Replaces a file as a whole."""
    draft = path.with_name(".draft")
    draft.write_text(text)
    os.replace(draft, path)


def removed(path: Path, text: str) -> None:
    """Removes a file and writes it again at once, as some editors do."""
    path.unlink()
    time.sleep(0.05)
    path.write_text(text)


REWRITES: Mapping[str, Callable[[Path, str], None]] = {
    "in pieces": in_pieces,
    "emptied for a moment": emptied,
    "broken for a moment": broken,
    "cut off for a moment": cut_off,
    "replaced": replaced,
    "removed and written at once": removed,
}


def survived(stage: Stage, number: int) -> Outcome:
    """Sends a signal that is not there to end the process: streams and requests go on."""
    with Http2.connect(stage.address) as client:
        stream = client.open(post("/r/x"), end=False)
        client.read(0.1)
        stage.router.signal(number)
        time.sleep(0.3)
        client.data(stream, b"x", end=True)
        reply = client.finish(stream)
    if not stage.router.is_alive():
        return Outcome("it ended", f"exit code {stage.router.exit_code(0.1)}")
    got = fetch(stage.address, GET)
    return Outcome("goes on" if reply.status == 200 and got and got.status == 200 else "disturbed", reply.label())


def reopened(stage: Stage, _: None) -> Outcome:
    """Moves the access log away and sends SIGHUP: what follows is in a new file."""
    router = stage.router
    fetch(stage.address, request("GET", "/r/before"))
    wait_for(lambda: "/r/before" in router.logged(), 3.0)
    router.access_log.rename(router.access_log.with_name("access.log.1"))
    router.signal(signal.SIGHUP)
    time.sleep(0.3)
    if not router.is_alive():
        return Outcome("it ended")
    fetch(stage.address, request("GET", "/r/after"))
    return Outcome("reopened" if wait_for(lambda: "/r/after" in router.logged(), 3.0) else "not reopened")


def ended(stage: Stage, disturb: Callable[[Stage], object]) -> Outcome:
    """Sends SIGTERM beside clients that do not help: the process ends in a few seconds."""
    held = disturb(stage)
    begun = time.monotonic()
    stage.router.signal(signal.SIGTERM)
    code = stage.router.exit_code(10.0)
    seconds = time.monotonic() - begun
    del held
    return Outcome("ended" if code == 0 and seconds < 6.0 else "late", f"exit code {code} after {seconds:.1f} s")


def _deaf_http2(stage: Stage) -> Http2:
    client = Http2.connect(stage.address)
    client.answers_ping = False
    client.is_served("/r/x")
    return client


def _open_upload(stage: Stage) -> Http2:
    client = Http2.connect(stage.address)
    client.open(post("/r/x"), end=False)
    return client


def _zero_window(stage: Stage) -> Http2:
    client = Http2.connect(stage.address, ((4, 0),))
    client.open(get("/r/x"))
    client.read(0.2)
    return client


def _half_head(stage: Stage) -> Stream:
    stream = Stream.connect(stage.address)
    stream.send(b"GET /r/x HT")
    return stream


def _half_body(stage: Stage) -> Stream:
    stream = Stream.connect(stage.address)
    stream.send(request("POST", "/r/x", [("content-length", "9")], b"x"))
    return stream


IN_FLIGHT: Mapping[str, Callable[[Stage], object]] = {
    "an HTTP/2 upload": _open_upload,
    "an HTTP/2 stream in a window of 0": _zero_window,
    "half a body": _half_body,
}
IDLE: Mapping[str, Callable[[Stage], object]] = {
    "nobody": lambda _: None,
    "an HTTP/2 client that answers no PING": _deaf_http2,
    "half a head": _half_head,
    "500 silent connections": lambda stage: Crowd(stage.address, 500),
    "500 connections of one byte": lambda stage: Crowd(stage.address, 500, b"P"),
    "200 kept connections": lambda stage: Crowd(stage.address, 200, GET),
}


def port_taken(stage: Stage, flag: str) -> Outcome:
    """Takes a port that the router needs at its start: one clear message, and an exit code."""
    stage.serve("r", "/r", [stage.backend()])
    address = "127.0.0.1" if flag == "--debug-port" else stage.network.host(1)
    port = PORT if flag == "--port" else free_port(address)
    with socket.create_server((address, port)):
        router = Router(stage.binary, stage.network, stage.manifests.directory, [f"{flag}={port}"])
        try:
            code = router.exit_code(4.0)
            printed = router.printed()
        finally:
            router.end()
    told = f"exit code {code}: {printed[-200:]!r}"
    if "panic" in printed:
        return Outcome("a panic", told)
    if flag == "--port":
        # A listener's port may become free later: it is tried again.
        return Outcome("said" if str(port) in printed else "not said", told)
    return Outcome("said" if code == 1 and flag in printed else "not said", told)


def full_disk(stage: Stage, _: None) -> Outcome:
    """Has the access log on a full disk: requests are served, and lost lines are counted."""
    stage.serve("r", "/r", [stage.backend()])
    router = stage.start("--access-log-output=/dev/full")
    quiet = quiet_client(stage.address, GET, 200, 0.0)
    counted = wait_for(lambda: router.metric("kthena_router_access_log_dropped_lines_total") > 0, 3.0)
    served = "served" if quiet.failures == 0 else "failures"
    return Outcome(f"{served}, {'counted' if counted else 'not counted'}", quiet.told())


def foreign_host(stage: Stage, host: str) -> Outcome:
    """Asks the debug port in the name of a foreign host, as a page in a developer's browser could."""
    status, text = stage.router.page("/debug/config_dump/pods", stage.router.debug_port, host)
    own, _ = stage.router.page("/debug/config_dump/pods", stage.router.debug_port)
    if own != 200:
        return Outcome("nobody is served", str(own))
    return Outcome("served" if status == 200 else "refused", f"{status}, {len(text)} bytes")


def hung(stage: Stage, _: None) -> Outcome:
    """Stops one of two engines by SIGSTOP: after 8 s, almost whoever asks is served by the other one."""
    processes = []
    addresses = [stage.network.host(host) for host in (10, 11)]
    try:
        for address in addresses:
            command = [str(stage.binary), "engine", "--model", "m", "--address", address, "--port", "8000"]
            processes.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        wait_for(lambda: all(accepts(address, 8000) for address in addresses), 5.0)
        stage.write("m.yaml", [*manifests.pods("m", addresses), manifests.model_server("m"), _route()])
        stage.start()
        data = request("POST", "/v1/completions", body=b'{"model":"m","prompt":"x"}')
        if quiet_client(stage.address, data, 10, 0.0).failures:
            return Outcome("no stage", "the engines do not answer")
        os.kill(processes[0].pid, signal.SIGSTOP)
        begun = time.monotonic()
        while time.monotonic() - begun < 8.0:
            quiet_client(stage.address, data, 1, 0.1, patience=1.0)
        quiet = quiet_client(stage.address, data, 30, 0.02, patience=1.5)
    finally:
        for process in processes:
            process.kill()
            process.wait(5.0)
    # It is tried now and then, for ever longer pauses: what comes back must be found out.
    return Outcome("set aside" if quiet.failures <= TRIALS else "stays", quiet.told())


def _route() -> manifests.Object:
    return manifests.model_route("m", "m", "m")


def add_to(group: Group) -> None:
    """Adds the families."""
    written = "docs: files may be written in place; what was last read whole stays until there is something new"
    group.family("manifests in place", written, nothing, rewritten, REWRITES, {"within"}, room=Room.OWN)
    signals = "docs: no signal but SIGTERM and SIGINT ends the process"
    numbers = {"SIGHUP": signal.SIGHUP, "SIGUSR1": signal.SIGUSR1, "SIGUSR2": signal.SIGUSR2, "SIGPIPE": signal.SIGPIPE}
    group.family("signals", signals, plain, survived, numbers, {"goes on"}, room=Room.OWN)
    group.family(
        "a log that is moved",
        "docs: SIGHUP opens the log anew",
        plain,
        reopened,
        {"access log": None},
        {"reopened"},
        room=Room.OWN,
    )
    drain = "--drain-timeout: a stopping router ends, whoever is connected"
    group.family("SIGTERM beside requests", drain, plain, ended, IN_FLIGHT, {"ended"}, room=Room.OWN)
    idle = "a stopping router waits for requests, and for nobody who has none"
    group.family("SIGTERM beside the idle", idle, patient, ended, IDLE, {"ended"}, room=Room.OWN)
    ports = {flag: flag for flag in ("--metrics-port", "--debug-port", "--port")}
    group.family(
        "ports that are taken",
        "what is wrong at the start is said once",
        nothing,
        port_taken,
        ports,
        {"said"},
        room=Room.OWN,
    )
    disk = "docs: lines that are lost are counted"
    group.family("a full disk", disk, nothing, full_disk, {"access log": None}, {"served, counted"}, room=Room.OWN)
    debug = "the debug port is for those on its own machine, not for pages in their browsers"
    hosts = {host: host for host in ("evil.com", "evil.com:15000", "127.0.0.1.evil.com", "localhost.evil.com")}
    group.family("the debug port", debug, plain, foreign_host, hosts, {"refused"})
    hang = "an engine that accepts and does not answer is set aside by its failed scrapes and missed deadlines"
    group.family("an engine that hangs", hang, nothing, hung, {"SIGSTOP": None}, {"set aside"}, room=Room.OWN)


GROUP = Group("faults")
add_to(GROUP)
add_restarts(GROUP)
