"""What runs of the router and its rivals showed, as a table and as a plot."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

OURS = "default"


@dataclass(frozen=True)
class Run:
    """The figures of a run, in seconds of the fleet's clock."""

    workload: str
    contender: str
    seed: int
    ttft_p50: float
    ttft_p90: float
    ttft_mean: float
    latency: float
    """Until the last token, on average."""
    throughput: float
    """Requests a second."""
    hits: float
    """The part of the prompts' tokens that was in caches."""
    failed: int
    """Requests without a whole answer."""
    late: float
    """By how much engines' steps were late, in seconds of our clock."""
    player: float
    """The part of a core that the player used."""
    repeated: int = 0
    """How often clients had to ask again, because an answer broke off or was an error; once they never did."""


FIGURES = ("ttft_p50", "ttft_p90", "latency", "throughput", "hits")
LESS_IS_BETTER = frozenset(("ttft_p50", "ttft_p90", "latency"))

Middle = dict[str, dict[str, dict[str, float]]]
"""Medians of all seeds, by workload, contender and figure."""


def middle(runs: Sequence[Any], figures: Iterable[str]) -> Middle:
    """Returns the medians of all seeds."""
    found: dict[str, dict[str, list[Any]]] = {}
    for run in runs:
        found.setdefault(run.workload, {}).setdefault(run.contender, []).append(run)
    return {
        workload: {
            contender: {
                name: median(getattr(run, name) for run in seeds) for name in figures
            }
            for contender, seeds in contenders.items()
        }
        for workload, contenders in found.items()
    }


def table(runs: list[Run]) -> list[str]:
    """Returns the figures of all, and how ours stand to random's and to the best of the others."""
    lines = [
        "| workload | router | TTFT p50 | p90 | latency | req/s | hits % |",
        "|---|---|--:|--:|--:|--:|--:|",
    ]
    for workload, contenders in middle(runs, FIGURES).items():
        for number, (name, of) in enumerate(contenders.items()):
            shown = f"**{name}**" if name == OURS else name
            lines.append(
                f"| {workload if number == 0 else ''} | {shown} | {of['ttft_p50']:.3f} | {of['ttft_p90']:.3f}"
                f" | {of['latency']:.2f} | {of['throughput']:.2f} | {of['hits'] * 100:.1f} |"
            )
        whole = {
            name: of
            for name, of in contenders.items()
            if not any(
                run.failed
                for run in runs
                if (run.workload, run.contender) == (workload, name)
            )
        }
        lines += ratios(whole)
    seeds = sorted({run.seed for run in runs})
    lines += [
        "",
        f"Medians of seeds {seeds}. Who left requests without an answer is no other to compare with.",
        *sums(runs, "failed", "{} requests had no answer"),
        *sums(runs, "repeated", "clients asked again {} times"),
        f"Engines' steps ended {median(run.late for run in runs) * 1000:.1f} ms late in a typical run,"
        + f" {max(run.late for run in runs) * 1000:.1f} ms in the worst.",
        f"The player used {max(run.player for run in runs) * 100:.0f} % of a core at most.",
    ]
    return lines


def sums(runs: Sequence[Any], count: str, said: str) -> list[str]:
    """Says how many of something all runs of each workload and contender had, where they had any."""
    counts: dict[tuple[str, str], int] = {}
    for run in runs:
        key = (run.workload, run.contender)
        counts[key] = counts.get(key, 0) + getattr(run, count)
    return [
        f"{workload}, {contender}: {said.format(count)}."
        for (workload, contender), count in counts.items()
        if count
    ]


def ratios(contenders: dict[str, dict[str, float]]) -> list[str]:
    """Returns two rows: ours by random's, and by the best of all others in each figure."""
    ours = contenders.get(OURS)
    others = [of for name, of in contenders.items() if name != OURS]
    if ours is None or not others:
        return []

    def row(title: str, theirs: dict[str, float]) -> str:
        cells = " | ".join(
            f"{ours[name] / theirs[name]:.2f}" if theirs[name] else ""
            for name in FIGURES
        )
        return f"| | {title} | {cells} |"

    best = {
        name: (min if name in LESS_IS_BETTER else max)(of[name] for of in others)
        for name in FIGURES
    }
    rows = [row("default / best other", best)]
    if "random" in contenders:
        rows.insert(0, row("default / random", contenders["random"]))
    return rows


def plot(runs: list[Run], path: Path) -> None:
    """Draws throughput and TTFT of all, relative to the default's."""
    from matplotlib import pyplot

    figures = middle(runs, FIGURES)
    names = list(dict.fromkeys(run.contender for run in runs))
    panels = (
        ("throughput", "requests a second"),
        ("ttft_p50", "TTFT p50"),
        ("ttft_p90", "TTFT p90"),
    )
    drawing, axes = pyplot.subplots(len(panels), 1, figsize=(11, 9), sharex=True)
    width = 0.8 / len(names)
    for axis, (figure, title) in zip(axes, panels, strict=True):
        for number, name in enumerate(names):
            heights = [
                of[name][figure] / of[OURS][figure]
                if name in of and OURS in of
                else 0.0
                for of in figures.values()
            ]
            places = [place + number * width for place in range(len(figures))]
            axis.bar(
                places,
                heights,
                width,
                label=name,
                color=None if name != OURS else "black",
            )
        axis.axhline(1.0, color="grey", linewidth=0.5)
        axis.set_ylabel(f"{title}, by the default's")
        if figure in LESS_IS_BETTER:
            axis.set_yscale("log")
    axes[-1].set_xticks(
        [place + 0.4 for place in range(len(figures))], list(figures), rotation=20
    )
    axes[0].legend(
        ncols=len(names),
        fontsize="small",
        loc="lower center",
        bbox_to_anchor=(0.5, 1.0),
    )
    drawing.tight_layout()
    drawing.savefig(path, dpi=100)
