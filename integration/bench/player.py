"""Plays a workload of the proving ground over HTTP, and takes the times.

Sessions are coroutines of one thread, with kept-alive connections. What this
program costs is told beside the figures, because it shares the machine.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

MODEL = "fleet"
WORDS = 30
"""Words of a block's text after its hash; the proving ground makes the same."""
TIMEOUT = 120.0
TRIES = 5
"""How often a client asks whose answer breaks off."""
PAUSE = 0.5
"""Seconds of the fleet's clock before a client asks again."""


@dataclass(frozen=True)
class Turn:
    """A request of a session. Seconds are those of the fleet's clock."""

    blocks: list[str]
    rest: int
    output: int
    is_kept: bool
    adapter: int | None
    pause: float

    def body(self) -> bytes:
        """Returns the body of the request; a seed has the engine keep the answer."""
        content = "".join(
            block + f" {block[:7]}" * WORDS for block in self.blocks
        ) + "." * (4 * self.rest)
        message = {"role": "user", "content": content}
        body = {
            "model": MODEL if self.adapter is None else f"adapter-{self.adapter}",
            "messages": [message],
            "stream": True,
            "max_tokens": self.output,
        }
        return json.dumps(body | ({"seed": 1} if self.is_kept else {})).encode()


@dataclass(frozen=True)
class Workload:
    """What is asked."""

    ground: tuple[str, ...]
    """The command by which the proving ground knows it."""
    engines: int
    adapters: int
    """LoRA adapters that requests name."""
    clients: int | None
    """So many take one session after the other; else each has its time."""
    sessions: list[tuple[float, list[Turn]]]
    roles: list[str]
    """What each engine works on; empty where all do everything."""


@dataclass
class Played:
    """What came of a run, in seconds of the fleet's clock."""

    waits: list[float]
    """Until the first bytes of an answer."""
    latencies: list[float]
    paces: list[float]
    """From one token of an answer to the next, on average."""
    failed: int = 0
    """Requests without a whole answer, however often they were sent."""
    repeated: int = 0
    """How often a client had to ask again."""
    fault: str = ""
    """Why that was so the last time."""
    seconds: float = 0.0
    busy: float = 0.0
    """The part of a core that the player used."""


@lru_cache(maxsize=2)
def workload_of(ground: tuple[str, ...]) -> Workload:
    """Has the proving ground write a workload, and reads it."""
    command = [*ground, "jobs"]
    lines = subprocess.run(command, capture_output=True, check=True).stdout.splitlines()
    head = json.loads(lines[0])
    sessions = []
    for line in lines[1:]:
        session = json.loads(line)
        turns = [
            Turn(
                turn["blocks"],
                turn["rest"],
                turn["output"],
                turn["is_kept"],
                turn["adapter"],
                turn["pause"],
            )
            for turn in session["turns"]
        ]
        sessions.append((session["at"] or 0.0, turns))
    turns_of_all = (turn for _, turns in sessions for turn in turns)
    numbers = [turn.adapter for turn in turns_of_all if turn.adapter is not None]
    return Workload(
        ground=ground,
        engines=head["engines"],
        adapters=max(numbers, default=-1) + 1,
        clients=head["clients"],
        sessions=sessions,
        roles=head["roles"],
    )


def play(workload: Workload, port: int, speed: float) -> Played:
    """Plays a workload against a router on a port of loopback."""
    return asyncio.run(Player(workload, port, speed).run())


class Player:
    """Plays one workload once."""

    def __init__(self, workload: Workload, port: int, speed: float) -> None:
        """Makes a player."""
        self.workload = workload
        self.port = port
        self.speed = speed
        self.played = Played([], [], [])
        self.idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def run(self) -> Played:
        """Plays all sessions."""
        began, cpu = time.monotonic(), time.process_time()
        if self.workload.clients is None:
            await asyncio.gather(
                *(
                    self.session(began + at / self.speed, turns)
                    for at, turns in self.workload.sessions
                )
            )
        else:
            queue = iter(self.workload.sessions)
            await asyncio.gather(
                *(self.client(queue) for _ in range(self.workload.clients))
            )
        elapsed = time.monotonic() - began
        self.played.busy = (time.process_time() - cpu) / elapsed
        self.played.seconds = elapsed * self.speed
        for _, writer in self.idle:
            writer.close()
        return self.played

    async def client(self, queue: Iterator[tuple[float, list[Turn]]]) -> None:
        """Takes one session after the other."""
        for _, turns in queue:
            await self.session(time.monotonic(), turns)

    async def session(self, at: float, turns: list[Turn]) -> None:
        """Plays the turns of a session, the first one at its time."""
        for turn in turns:
            await asyncio.sleep(at - time.monotonic())
            await self.insist(turn)
            at = time.monotonic() + turn.pause / self.speed

    async def insist(self, turn: Turn) -> None:
        """Asks until there is an answer; the time that a client needs for that counts."""
        body = turn.body()
        begun = time.monotonic()
        for number in range(TRIES):
            if number > 0:
                self.played.repeated += 1
                await asyncio.sleep(PAUSE / self.speed)
            try:
                first = await asyncio.wait_for(self.ask(body), TIMEOUT)
            except (OSError, EOFError, ValueError, TimeoutError) as error:
                self.played.fault = repr(error)
                continue
            ended = time.monotonic()
            self.played.waits.append((first - begun) * self.speed)
            self.played.latencies.append((ended - begun) * self.speed)
            if turn.output > 1:
                pace = (ended - first) * self.speed / (turn.output - 1)
                self.played.paces.append(pace)
            return
        self.played.failed += 1

    async def ask(self, body: bytes) -> float:
        """Sends a request and reads its answer; returns when that began."""
        reader, writer = (
            self.idle.pop()
            if self.idle
            else await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 20)
        )
        head = (
            "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        writer.write(head.encode() + body)
        answer = (await reader.readuntil(b"\r\n\r\n")).lower()
        if not answer.startswith(b"http/1.1 200"):
            writer.close()
            raise ValueError(answer.decode())
        if b"transfer-encoding: chunked" not in answer:
            writer.close()
            raise ValueError("the answer is not streamed")
        first = 0.0
        for number in itertools.count():
            size = int(await reader.readuntil(b"\r\n"), 16)
            await reader.readexactly(size + 2)
            if number == 0:
                first = time.monotonic()
            if size == 0:
                break
        if b"connection: close" in answer:
            writer.close()
        else:
            self.idle.append((reader, writer))
        return first
