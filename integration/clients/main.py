"""Runs published clients against the router, over each kind of route, and prints what works.

Fails if anything does not. The table in docs/clients.md is what `--write` makes of it.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import clients
import codings
import fidelity
from clients import Case
from rig import ROADS, Rig, Road

ROOT = Path(__file__).resolve().parents[2]
BEGIN, END = "<!-- the table begins -->\n", "<!-- the table ends -->\n"
Result = tuple[str, str, list[str]]
"""A client with its version, a case, and what is wrong on each road."""


def node_results(script: Path, sound: Path) -> list[Result]:
    """Runs the cases of the Node client."""
    faults: dict[str, list[str]] = {}
    for road in ROADS:
        command = ["node", str(script), road.base, road.model, road.media, str(sound)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60.0, check=False)
        lines = [line.partition("\t") for line in done.stdout.splitlines()]
        if not lines:
            lines = [("start", "\t", done.stderr.strip().replace("\n", " "))]
        for name, _, fault in lines:
            faults.setdefault(name, []).append(fault)
    package = json.loads((Path(__file__).parent / "package.json").read_text())
    version = package["dependencies"]["openai"]
    return [(f"openai {version} (Node)", name, found) for name, found in faults.items()]


def python_results() -> list[Result]:
    """Runs the cases of all other clients."""
    return [
        (_named(client), name, [_fault(case, road) for road in ROADS])
        for client, cases in [*clients.CLIENTS.items(), *codings.CLIENTS.items()]
        for name, case in cases.items()
    ]


def _named(client: str) -> str:
    package, _, more = client.partition(" ")
    if package == "curl":
        done = subprocess.run(["curl", "--version"], capture_output=True, text=True, check=True)
        version = done.stdout.split()[1]
    else:
        version = importlib.metadata.version(package)
    return f"{package} {version} {more}".strip()


def _fault(case: Case, road: Road) -> str:
    try:
        case(road)
    except Exception as fault:  # Whatever a client raises is what is wrong.
        return f"{type(fault).__name__}: {fault}".replace("\n", " ")
    return ""


def fidelity_faults(rig: Rig, road: Road, count: int) -> list[str]:
    """Returns what changes of generated messages."""
    host, _, port = road.base.removeprefix("http://").rpartition(":")
    return fidelity.faults(rig.echo, (host, int(port)), road.echo, count, road.name)


def table(results: list[Result]) -> str:
    """Returns the results as Markdown: a row for each client."""
    rows: dict[str, list[list[str]]] = {}
    for client, name, faults in results:
        cells = rows.setdefault(client, [[] for _ in ROADS])
        for cell, fault in zip(cells, faults, strict=True):
            cell.append(name if not fault else f"**fails: {name}**")
    lines = [f"| client | what works over {' and '.join(f'{road.name}s' for road in ROADS)} |", "|---|---|"]
    for client, (first, second) in rows.items():
        both = first == second
        text = "; ".join(first) if both else f"{'; '.join(first)}; over the other: {'; '.join(second)}"
        lines.append(f"| {client} | {text} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Runs everything."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    parser = argparse.ArgumentParser(prog="integration/clients/run", description=__doc__)
    default = ROOT / "target" / "release" / "kthena-router"
    parser.add_argument("--router", type=Path, default=default, metavar="BINARY", help="the router, with its engine")
    parser.add_argument("--node", type=Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--write", action="store_true", help="write the table to docs/clients.md")
    parser.add_argument("--messages", type=int, default=5000, metavar="COUNT", help="generated messages for each road")
    options = parser.parse_args()
    begun = time.monotonic()
    rig = Rig(options.router.resolve())
    try:
        with tempfile.NamedTemporaryFile(suffix=".wav") as sound:
            sound.write(clients.SOUND)
            sound.flush()
            results = node_results(options.node, Path(sound.name)) + python_results()
        changed = [fault for road in ROADS for fault in fidelity_faults(rig, road, options.messages)]
    finally:
        rig.close()
    text = table(results)
    print(text)
    failed = [
        f"{client}, {name}, {road.name}: {fault}"
        for client, name, faults in results
        for road, fault in zip(ROADS, faults, strict=True)
        if fault
    ]
    print("\n".join(failed))
    print(f"{len(results)} cases over {len(ROADS)} roads, {len(failed)} failed, {time.monotonic() - begun:.0f} s")
    if options.write:
        document = ROOT / "docs" / "clients.md"
        before, _, rest = document.read_text().partition(BEGIN)
        document.write_text(before + BEGIN + text + END + rest.partition(END)[2])
    print(f"{len(ROADS) * options.messages} generated messages, {len(changed)} changed\n" + "\n".join(changed[:20]))
    return 1 if failed or changed else 0


if __name__ == "__main__":
    sys.exit(main())
