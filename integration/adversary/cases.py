"""What a case is: something that is tried, the promise that it is about, and the outcomes that keep the promise."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeVar

from rig.stage import Scene, Stage

Variant = TypeVar("Variant")


@dataclass(frozen=True)
class Outcome:
    """What came of a case: a word that is compared, and what was seen, for the reader."""

    label: str
    seen: str = ""


class Room(Enum):
    """How much room a case needs."""

    SHARED = "a stage that it shares with others, beside them"
    OWN = "a stage of its own, beside others"
    ALONE = "a stage of its own, with nothing beside it: it looks at time, CPU or memory"


@dataclass(frozen=True)
class Case:
    """Something that an adversary, or an unlucky day, does to the router."""

    group: str
    family: str
    variant: str
    promise: str
    """What the router promises, and where that is written."""
    allowed: frozenset[str]
    """The outcomes that keep the promise."""
    scene: Scene
    attempt: Callable[[Stage], Outcome]
    room: Room

    @property
    def name(self) -> str:
        """The name by which `--case` finds it."""
        return f"{self.group}/{self.family}/{self.variant}"


@dataclass
class Group:
    """Cases of one kind."""

    name: str
    cases: list[Case] = field(default_factory=list)

    def family(
        self,
        name: str,
        promise: str,
        scene: Scene,
        attempt: Callable[[Stage, Variant], Outcome],
        variants: Mapping[str, Variant],
        allowed: Iterable[str] | Callable[[Variant], Iterable[str]],
        *,
        room: Room = Room.SHARED,
    ) -> None:
        """Adds a case for each variant; what is allowed may depend on it."""
        for variant, value in variants.items():
            kept = frozenset(allowed(value) if callable(allowed) else allowed)
            self.cases.append(Case(self.name, name, variant, promise, kept, scene, _bound(attempt, value), room))


def _bound(attempt: Callable[[Stage, Variant], Outcome], value: Variant) -> Callable[[Stage], Outcome]:
    def bound(stage: Stage) -> Outcome:
        return attempt(stage, value)

    return bound


def within(value: float, limit: float, unit: str, what: str = "") -> Outcome:
    """Returns the outcome of a figure that has a bound: `within` or `beyond`."""
    seen = f"{what}{' ' if what else ''}{value:.1f} {unit}, limit {limit:g}"
    return Outcome("within" if value <= limit else "beyond", seen)
