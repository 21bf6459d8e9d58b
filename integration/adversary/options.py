"""What all programs of this folder have in common on their command lines."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

DEFAULT_ROUTER = Path(__file__).resolve().parents[2] / "target" / "release" / "kthena-router"


def end_in_order() -> None:
    """Makes SIGTERM an end like any other, so that no router is left behind."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def router_option(description: str, program: str) -> argparse.ArgumentParser:
    """Returns a command line that says which router is looked at."""
    parser = argparse.ArgumentParser(prog=f"integration/adversary/run{program}", description=description)
    parser.add_argument("--router", type=Path, default=DEFAULT_ROUTER, metavar="BINARY", help="the router to try")
    return parser
