#!/usr/bin/env python3
"""Where requests wait, at growing rates: a table of the proving ground's, and a plot of it.

The proving ground must be built: `cargo build --release --package kthena-router-proving-ground`.
"""

from __future__ import annotations

import argparse
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WHERE = {"in engines": "tab:orange", "in the router": "black"}
PANELS = (
    (2, "requests a second"),
    (3, "answered while asked, requests a second"),
    (5, "TTFT p90 of hits, s"),
    (6, "TTFT p99 of misses, s"),
)


def rows(table: str) -> list[list[str]]:
    """Returns the cells of a Markdown table without its head."""
    lines = table.strip().splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def plot(table: str, path: Path) -> None:
    """Draws each figure over the rate that is asked for."""
    from matplotlib import pyplot

    drawing, axes = pyplot.subplots(1, len(PANELS), figsize=(16, 4))
    for axis, (column, title) in zip(axes, PANELS, strict=True):
        for where, color in WHERE.items():
            of = [row for row in rows(table) if row[1] == where]
            asked = [float(row[0]) for row in of]
            figures = [float(row[column]) for row in of]
            axis.plot(asked, figures, marker="o", color=color, label=where)
        axis.set_xlabel("asked, requests a second")
        axis.set_title(title)
    axes[0].legend(title="requests wait")
    drawing.tight_layout()
    drawing.savefig(path, dpi=100)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plot", type=Path, help="write the plot to this file")
    parser.add_argument("--scale", default="0.5", help="how long the workload is")
    program = ROOT / "target/release/kthena-router-proving-ground"
    parser.add_argument("--program", type=Path, default=program)
    options = parser.parse_args()
    command = [options.program, "--scale", options.scale, "knee"]
    table = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    print(table, end="")
    if options.plot:
        plot(table, options.plot)


if __name__ == "__main__":
    main()
