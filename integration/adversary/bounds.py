"""Figures with bounds, for the scripts that print more than held or lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """A figure, and what it may be at most."""

    name: str
    value: float
    unit: str
    limit: float | None = None
    note: str = ""

    @property
    def is_kept(self) -> bool:
        """Says whether the bound is kept."""
        return self.limit is None or self.value <= self.limit


def table(figures: Sequence[Figure]) -> str:
    """Returns the figures as a table."""
    width = max(len(figure.name) for figure in figures)
    lines = [f"{'':<{width}} {'value':>9} {'limit':>9}"]
    for figure in figures:
        limit = "" if figure.limit is None else f"{figure.limit:.4g}"
        word = "" if figure.is_kept else "  MISSED"
        note = f"  {figure.note}" if figure.note else ""
        lines.append(f"{figure.name:<{width}} {figure.value:>9.4g} {limit:>9} {figure.unit}{note}{word}")
    return "\n".join(lines)


def finish(figures: Sequence[Figure]) -> int:
    """Prints the figures; returns 1 if a bound is missed."""
    print(table(figures))
    return 0 if all(figure.is_kept for figure in figures) else 1
