"""The scene of messages: a model and an HTTPRoute, each with a backend that remembers."""

from __future__ import annotations

from dataclasses import dataclass

from cases import Outcome
from rig import manifests
from rig.backend import Seen, named
from rig.stage import Stage
from wire.http1 import Answer, Unframed, answer
from wire.stream import Stream

HOSTS_PORT = 8085
BODY = b'{"model":"m","prompt":"x"}'
DOORS = {"model": "/v1/completions", "route": "/r/TAG"}
"""Targets of both roads to a backend; a ModelRoute's body is read whole, an HTTPRoute's is streamed."""
SECOND = b"GET /r/TAG-second HTTP/1.1\r\nhost: router\r\nx-tag: TAG\r\nconnection: close\r\n\r\n"
"""What stands behind a message, and is answered by whoever takes it for the next one."""


def scene(stage: Stage) -> None:
    """A model `m`, an HTTPRoute on every path, and two hosts on a port of their own."""
    stage.serve_model("m", [stage.backend()])
    backend = stage.backend()
    stage.serve("r", "/r", [backend])
    for name in ("a", "b"):
        stage.write(f"{name}.yaml", manifests.service(name, [stage.backend(named(name)).address]))
        listener = manifests.listener(name, HOSTS_PORT, f"{name}.org")
        route = manifests.http_route(name, f"hosts-{name}", [manifests.rule("/", name)])
        stage.write(f"host-{name}.yaml", [manifests.gateway(f"hosts-{name}", [listener]), route])
    stage.start("--client-timeout=1s", "--client-keep-alive=2s")


@dataclass(frozen=True)
class Message:
    """A message with `TARGET` and `TAG` in it, and the body that it has if it is taken at all."""

    raw: bytes
    target: str
    body: bytes = BODY


@dataclass(frozen=True)
class Exchange:
    """What a client and the backends saw of the bytes on one connection."""

    answers: list[Answer]
    end: str
    seen: list[Seen]

    def told(self) -> str:
        """Returns it in one line."""
        answers = ", ".join(f"{each.status}{'' if each.whole else ' cut'}" for each in self.answers)
        seen = ", ".join(f"{each.method} {each.target}{'' if each.whole else ' cut'}" for each in self.seen)
        return f"client: [{answers}] {self.end}; backends: [{seen}]"


def exchange(stage: Stage, raw: bytes, target: str, methods: list[str]) -> Exchange:
    """Sends bytes on one connection, and reads as many answers as there are, for requests of these methods."""
    tag = stage.tag()
    data = raw.replace(b"TARGET", target.encode()).replace(b"TAG", tag.encode())
    answers: list[Answer] = []
    with Stream.connect(stage.address) as stream:
        stream.try_send(data)
        try:
            while (read := answer(stream, methods[len(answers)] if len(answers) < len(methods) else "GET")) is not None:
                answers.append(read)
            end = "closed"
        except TimeoutError:
            end = "open"
        except Unframed as error:
            end = f"not HTTP: {error}"
    return Exchange(answers, end, [seen for backend in stage.backends for seen in backend.of(tag)])


def reading(stage: Stage, message: Message) -> Outcome:
    """Sends a message and a second one behind it, and says how they were read."""
    raw = message.raw + SECOND
    got = exchange(stage, raw, message.target, [raw.lstrip().split(b" ", 1)[0].decode("latin-1")])
    return Outcome(_reading(got, message.body), got.told())


def _reading(got: Exchange, body: bytes) -> str:
    statuses = [each.status for each in got.answers]
    whole = [seen for seen in got.seen if seen.whole]
    second = [seen for seen in whole if seen.target.endswith("-second")]
    if any("smuggled" in seen.target for seen in got.seen):
        return "smuggled"
    if got.end != "closed" or not all(each.whole for each in got.answers):
        return f"unfinished: {got.end}"
    if not statuses:
        return "smuggled" if whole else "closed"
    first_is_whole = bool(whole) and whole[0].body == body
    if len(statuses) == 1 and statuses[0] >= 400:
        return "misread" if whole else f"refused {statuses[0]}"
    if statuses == [200, 200] and len(whole) == 2 and len(second) == 1 and first_is_whole:
        return "served"
    if statuses[0] == 200 and first_is_whole and not second:
        return "served alone"
    if len(statuses) == 2 and statuses[0] >= 400 and statuses[1] == 200 and whole == second:
        return f"refused {statuses[0]}, open"
    return "misread"
