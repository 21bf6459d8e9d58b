"""Tries what a hostile client, a lying backend or an unlucky day does to the router, and says what it held.

Exit code 0 if every promise was kept, 1 if one was not, 2 if nothing could be tried.
"""

from __future__ import annotations

import argparse
import fnmatch
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from cases import Case
from groups import GROUPS
from options import end_in_order, router_option
from report import table, write_json
from runner import Result, try_cases
from wire.stream import be_patient


def main() -> int:
    """Tries the chosen cases."""
    options = read_options()
    cases = chosen(options)
    if options.list:
        print_list(cases)
        return 0
    if not cases or not options.router.is_file():
        print(f"adversary: no case is chosen, or {options.router} is missing", file=sys.stderr)
        return 2
    end_in_order()
    be_patient(options.patience)
    begun = time.monotonic()
    results = tried(options, cases)
    print(f"\n{table(results)}\n\n{time.monotonic() - begun:.0f} seconds")
    if options.json:
        write_json(options.json, results)
    return 0 if all(result.held for result in results) else 1


def tried(options: argparse.Namespace, cases: Sequence[Case]) -> list[Result]:
    """Tries cases, and those that were lost once more, with more patience and fewer beside them: a machine that has other
    work must not look like a fault, and what is lost twice is lost."""

    def try_all(cases: Sequence[Case]) -> list[Result]:
        return try_cases(options.router.resolve(), cases, lambda result: tell(result, options.verbose))

    results = try_all(cases)
    lost = [result.case for result in results if not result.held]
    if not lost:
        return results
    print(f"\nonce more: {len(lost)}", flush=True)
    be_patient(2.0 * options.patience)
    again = {result.case.name: result for result in try_all(lost)}
    return [again.get(result.case.name, result) for result in results]


def read_options() -> argparse.Namespace:
    """Reads the command line."""
    parser = router_option(__doc__ or "", "")
    parser.add_argument("--group", action="append", choices=[group.name for group in GROUPS], help="this group alone")
    parser.add_argument("--case", action="append", metavar="PATTERN", help="cases whose names match, as `http2/*`")
    parser.add_argument("--list", action="store_true", help="print names, promises and allowed outcomes")
    parser.add_argument("--patience", type=float, default=1.0, metavar="FACTOR", help="wait longer for answers")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results here as well")
    parser.add_argument("--verbose", action="store_true", help="print a line for each case, not only for lost ones")
    return parser.parse_args()


def chosen(options: argparse.Namespace) -> Sequence[Case]:
    """Returns the cases that the options ask for."""
    groups = [group for group in GROUPS if not options.group or group.name in options.group]
    patterns = options.case or ["*"]
    return [case for group in groups for case in group.cases if any(matches(case, each) for each in patterns)]


def matches(case: Case, pattern: str) -> bool:
    """Says whether a case is meant by a pattern, which may also be a part of the name."""
    return fnmatch.fnmatchcase(case.name, pattern) or pattern in case.name


def print_list(cases: Sequence[Case]) -> None:
    """Prints cases, and how many each family has."""
    for case in cases:
        print(f"{case.name}\t{case.promise}\t{' | '.join(sorted(case.allowed))}")
    families: dict[str, int] = {}
    for case in cases:
        families[f"{case.group}/{case.family}"] = families.get(f"{case.group}/{case.family}", 0) + 1
    print(f"\n{len(cases)} cases: " + ", ".join(f"{name} {count}" for name, count in families.items()))


def tell(result: Result, verbose: bool) -> None:
    """Prints a line for a case that was lost, or for each."""
    if verbose or not result.held:
        word = "held" if result.held else "LOST"
        print(f"{word} {result.case.name}: {result.outcome.label} ({result.seconds:.1f} s)", flush=True)


if __name__ == "__main__":
    sys.exit(main())
