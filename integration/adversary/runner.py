"""Tries cases: those that share a stage beside each other, those that look at time or memory alone."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cases import Case, Outcome, Room
from rig.router import RigError
from rig.stage import Scene, Stage

SHARED_AT_ONCE = 12
STAGES_AT_ONCE = 3


@dataclass(frozen=True)
class Result:
    """A case and what came of it."""

    case: Case
    outcome: Outcome
    seconds: float

    @property
    def held(self) -> bool:
        """Says whether the promise was kept."""
        return self.outcome.label in self.case.allowed


class Stages:
    """The stages that cases share; one whose router has ended is put up anew."""

    def __init__(self, binary: Path) -> None:
        self._binary = binary
        self._stages: dict[Scene, Stage] = {}
        self._lock = threading.Lock()

    def of(self, scene: Scene) -> Stage:
        """Returns the shared stage of a scene."""
        with self._lock:
            stage = self._stages.get(scene)
            if stage is None or not stage.router.is_alive():
                if stage:
                    stage.close()
                self._stages[scene] = stage = self.make(scene)
            return stage

    def make(self, scene: Scene) -> Stage:
        """Returns a new stage."""
        stage = Stage(self._binary)
        try:
            scene(stage)
        except BaseException:
            stage.close()
            raise
        return stage

    @contextmanager
    def own(self, scene: Scene) -> Iterator[Stage]:
        """Gives a case a stage of its own."""
        stage = self.make(scene)
        try:
            yield stage
        finally:
            stage.close()

    def close(self) -> None:
        """Ends the shared stages."""
        for stage in self._stages.values():
            stage.close()
        self._stages.clear()


def try_cases(binary: Path, cases: Sequence[Case], tell: Callable[[Result], None]) -> list[Result]:
    """Tries cases group by group, and tells of each as soon as it is done."""
    results: list[Result] = []
    for group in dict.fromkeys(case.group for case in cases):
        chosen = [case for case in cases if case.group == group]
        results += _try_group(binary, chosen, tell)
    return results


def _try_group(binary: Path, cases: Sequence[Case], tell: Callable[[Result], None]) -> Iterable[Result]:
    stages = Stages(binary)
    results = []
    try:
        for room, at_once in ((Room.SHARED, SHARED_AT_ONCE), (Room.OWN, STAGES_AT_ONCE), (Room.ALONE, 1)):
            with ThreadPoolExecutor(at_once) as executor:
                chosen = [case for case in cases if case.room is room]
                for result in executor.map(lambda case: try_case(stages, case), chosen):
                    tell(result)
                    results.append(result)
    finally:
        stages.close()
    return results


def try_case(stages: Stages, case: Case) -> Result:
    """Tries a case; a program that fails on the way is an outcome that no case allows."""
    begun = time.monotonic()
    try:
        if case.room is Room.SHARED:
            outcome = case.attempt(stages.of(case.scene))
        else:
            with stages.own(case.scene) as stage:
                outcome = case.attempt(stage)
    except RigError as error:
        outcome = Outcome("no stage", str(error))
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        outcome = Outcome("not tried", f"{type(error).__name__}: {error} ({Path(place.filename).name}:{place.lineno})")
    return Result(case, outcome, time.monotonic() - begun)
