"""What runs with and without pairs showed, as a table and as a plot."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from statistics import median

from race_report import middle, sums

OURS = "default"
WHOLE = "no pairs"


@dataclass(frozen=True)
class Run:
    """The figures of a run, in seconds of the fleet's clock."""

    workload: str
    contender: str
    seed: int
    ttft_p50: float
    ttft_p90: float
    latency: float
    """Until the last token, on average."""
    pace_p99: float
    """From one token of an answer to the next, exceeded by one answer in a hundred."""
    throughput: float
    """Requests a second."""
    failed: int
    """Requests without a whole answer."""
    fault: str
    """Why the last of them failed."""
    late: float
    """By how much engines' steps were late, in seconds of our clock."""
    player: float
    """The part of a core that the player used."""
    repeated: int = 0
    """How often clients had to ask again, because an answer broke off or was an error; once they never did."""


FIGURES = {
    "ttft_p50": ("TTFT p50, s", 1.0, 3),
    "ttft_p90": ("TTFT p90, s", 1.0, 3),
    "latency": ("latency, s", 1.0, 2),
    "pace_p99": ("ms/token p99", 1000.0, 1),
    "throughput": ("req/s", 1.0, 2),
}
"""What is shown: its title, its factor and its digits."""


def table(runs: list[Run]) -> list[str]:
    """Returns the figures of all, and each by those of no pairs."""
    titles = [title for title, _, _ in FIGURES.values()]
    lines = [
        "| workload | router | " + " | ".join(titles) + " | failed |",
        "|---|---|" + "--:|" * (len(titles) + 1),
    ]
    for workload, contenders in middle(runs, FIGURES).items():
        whole = contenders.get(WHOLE)
        for number, (name, of) in enumerate(contenders.items()):
            cells = [
                workload if number == 0 else "",
                f"**{name}**" if name == OURS else name,
            ]
            for figure, (_, factor, digits) in FIGURES.items():
                cell = f"{of[figure] * factor:.{digits}f}"
                if whole is not None and name != WHOLE and whole[figure]:
                    cell += f" ({of[figure] / whole[figure]:.2f})"
                cells.append(cell)
            failed = sum(
                run.failed
                for run in runs
                if (run.workload, run.contender) == (workload, name)
            )
            lines.append("| " + " | ".join([*cells, str(failed)]) + " |")
    seeds = sorted({run.seed for run in runs})
    lines += [
        "",
        f"Medians of seeds {seeds}; in parentheses: by those of `{WHOLE}`.",
        *sums(runs, "repeated", "clients asked again {} times"),
        f"Engines' steps ended {median(run.late for run in runs) * 1000:.1f} ms late in a typical run,"
        + f" {max(run.late for run in runs) * 1000:.1f} ms in the worst.",
        f"The player used {max(run.player for run in runs) * 100:.0f} % of a core at most.",
    ]
    return lines


def plot(runs: list[Run], path: Path) -> None:
    """Draws the figures of all, a column for each workload."""
    from matplotlib import pyplot

    found = middle(runs, FIGURES)
    names = list(dict.fromkeys(run.contender for run in runs))
    shown = ("ttft_p90", "pace_p99", "throughput")
    drawing, axes = pyplot.subplots(
        len(shown), len(found), figsize=(6 * len(found), 8), squeeze=False
    )
    for column, (workload, contenders) in enumerate(found.items()):
        for axis, figure in zip(axes[:, column], shown, strict=True):
            title, factor, digits = FIGURES[figure]
            present = [name for name in names if name in contenders]
            heights = [contenders[name][figure] * factor for name in present]
            bars = axis.barh(
                present,
                heights,
                color=["black" if name == OURS else "silver" for name in present],
            )
            axis.bar_label(bars, fmt=f"%.{digits}f", padding=3, fontsize="small")
            axis.set_xlim(0, max(heights) * 1.15)
            axis.set_title(f"{workload}: {title}", fontsize="medium")
            axis.invert_yaxis()
    drawing.tight_layout()
    drawing.savefig(path, dpi=100)
