"""Says what was held and what was lost."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from runner import Result

SEEN_WIDTH = 300


def table(results: Sequence[Result]) -> str:
    """Returns a table by group and family, with the lost cases below it."""
    lines = [f"{'group':<11} {'family':<34} {'cases':>5} {'held':>5} {'lost':>5} {'seconds':>8}"]
    for group in dict.fromkeys(result.case.group for result in results):
        of_group = [result for result in results if result.case.group == group]
        for family in dict.fromkeys(result.case.family for result in of_group):
            lines.append(_row(group, family, [result for result in of_group if result.case.family == family]))
    lines += ["", _row("all", "", results)]
    lost = [result for result in results if not result.held]
    if lost:
        lines += ["", "lost:"]
    for result in lost:
        lines += _lost(result)
    return "\n".join(lines)


def _row(group: str, family: str, results: Sequence[Result]) -> str:
    held = sum(result.held for result in results)
    seconds = sum(result.seconds for result in results)
    return f"{group:<11} {family:<34} {len(results):>5} {held:>5} {len(results) - held:>5} {seconds:>8.1f}"


def _lost(result: Result) -> list[str]:
    case, outcome = result.case, result.outcome
    seen = outcome.seen if len(outcome.seen) <= SEEN_WIDTH else outcome.seen[:SEEN_WIDTH] + "…"
    return [
        f"  {case.name}",
        f"      promise  {case.promise}",
        f"      allowed  {' | '.join(sorted(case.allowed))}",
        f"      outcome  {outcome.label}" + (f": {seen}" if seen else ""),
    ]


def write_json(path: Path, results: Sequence[Result]) -> None:
    """Writes all results for other programs."""
    rows = [
        {
            "name": result.case.name,
            "promise": result.case.promise,
            "allowed": sorted(result.case.allowed),
            "outcome": result.outcome.label,
            "seen": result.outcome.seen,
            "held": result.held,
            "seconds": round(result.seconds, 3),
        }
        for result in results
    ]
    path.write_text(json.dumps(rows, indent=1) + "\n")
