"""Requests that are sent before the answers to those before them have come."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

from cases import Group, Outcome
from groups.framing.scene import Exchange, exchange, scene
from rig.stage import Stage


@dataclass(frozen=True)
class Kind:
    """A request, and what its answer is."""

    method: str
    target: str
    statuses: frozenset[int]
    line: str = ""
    version: str = "HTTP/1.1"
    body: str = ""
    closes: bool = False

    def raw(self, place: int) -> bytes:
        """Returns the request at a place of a pipeline."""
        length = f"content-length: {len(self.body)}\r\n" if self.body else ""
        head = f"{self.method} {self.target}{place} {self.version}\r\nhost: router\r\nx-tag: TAG\r\n"
        return f"{head}{length}{self.line}\r\n{self.body}".encode()


OWN, SERVED = frozenset({404}), frozenset({200})
KINDS = {
    "own GET": Kind("GET", "/nope", OWN),
    "own HEAD": Kind("HEAD", "/nope", OWN),
    "GET": Kind("GET", "/r/TAG", SERVED),
    "HEAD": Kind("HEAD", "/r/TAG", SERVED),
    "POST": Kind("POST", "/r/TAG", SERVED, body="0123456789"),
    "own closing": Kind("GET", "/nope", OWN, "connection: close\r\n", closes=True),
    "closing": Kind("GET", "/r/TAG", SERVED, "connection: close\r\n", closes=True),
    "1.0": Kind("GET", "/r/TAG", SERVED, version="HTTP/1.0", closes=True),
    "malformed": Kind("GET", "/r/TAG", frozenset({400}), "content-length: x\r\n", closes=True),
}


def in_order(stage: Stage, kinds: tuple[Kind, ...]) -> Outcome:
    """Sends requests in one piece: each answer is framed for its own request, and nothing follows a closing one."""
    raw = b"".join(kind.raw(place) for place, kind in enumerate(kinds))
    got = exchange(stage, raw + KINDS["own closing"].raw(9), "", [kind.method for kind in kinds])
    expected = list(kinds)
    for place, kind in enumerate(kinds):
        if kind.closes:
            expected = expected[: place + 1]
            break
    else:
        expected.append(KINDS["own closing"])
    return Outcome(_judged(got, expected), got.told())


def _judged(got: Exchange, expected: list[Kind]) -> str:
    if got.end != "closed" or not all(answer.whole for answer in got.answers):
        return f"unfinished: {got.end}"
    if len(got.answers) != len(expected):
        return f"{len(got.answers)} answers instead of {len(expected)}"
    for answer, kind in zip(got.answers, expected, strict=True):
        length = answer.header("content-length")
        if answer.status not in kind.statuses:
            return f"{answer.status} to {kind.method} {kind.target}"
        if kind.method == "GET" and not answer.body and answer.status != 400:
            return "a GET's answer has no body"
        if kind.version == "HTTP/1.0" and answer.header("transfer-encoding"):
            return "chunks in an answer to HTTP/1.0"
        if length and kind.method != "HEAD" and int(length) != len(answer.body):
            return "a length that is not the body's"
    reached = [kind for kind in expected if kind.statuses is SERVED]
    if len(got.seen) != len(reached) or [seen.method for seen in got.seen] != [kind.method for kind in reached]:
        return "the backend saw other requests"
    return "in order"


def add_to(group: Group) -> None:
    """Adds all pairs of kinds, and triples of those without a body."""
    pairs = {f"{one}, {two}": (KINDS[one], KINDS[two]) for one, two in product(KINDS, KINDS)}
    few = ("own GET", "own HEAD", "GET", "HEAD")
    triples = {", ".join(names): tuple(KINDS[name] for name in names) for names in product(few, repeat=3)}
    promise = (
        "RFC 9112, sections 6.3, 9.3.2 and 9.6: answers in order, each framed for its own request, none after close"
    )
    group.family("pipelines of two", promise, scene, in_order, pairs, {"in order"})
    group.family("pipelines of three", promise, scene, in_order, triples, {"in order"})
