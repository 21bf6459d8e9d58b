"""HTTP/2 sessions with backends: how many streams they take, how they end, and how they never begin."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from cases import Group, Outcome, Room
from groups.upstreams.client import ask1
from rig import manifests
from rig.backend import OK, Connection, Seen
from rig.backend2 import Script, Session
from rig.certificates import Authority
from rig.network import PORT
from rig.stage import Stage
from wire.http2 import MAX_CONCURRENT_STREAMS, REFUSED_STREAM, Http2, frame, get, goaway, rst_stream, settings
from wire.stream import DEADLINE

H2C = "kubernetes.io/h2c"


def refuse_all(session: Session, seen: Seen) -> None:
    """Refuses each stream."""
    session.send(rst_stream(seen.stream, REFUSED_STREAM))


def refuse_first(session: Session, seen: Seen) -> None:
    """Refuses the first stream of each connection, and answers the others."""
    if seen.stream == 1:
        refuse_all(session, seen)
    else:
        session.answer(seen.stream)


def leave_first(session: Session, seen: Seen) -> None:
    """Ends the first connection and says that it has not looked at anything."""
    if session.number == 1:
        session.send(goaway(0))
        session.is_over = True
    else:
        session.answer(seen.stream)


def leave_politely(session: Session, seen: Seen) -> None:
    """Announces the end, answers, and ends."""
    session.send(goaway(2**31 - 1))
    session.answer(seen.stream)
    session.send(goaway(seen.stream))


def leave_behind_answer(session: Session, seen: Seen) -> None:
    """Answers and ends the connection."""
    session.answer(seen.stream)
    session.is_over = True


def slow(session: Session, seen: Seen) -> None:
    """Answers after a moment."""
    session.step(0.02)
    session.answer(seen.stream)


@dataclass(frozen=True)
class Session2:
    """A script, requests that are sent at once, and bounds on failures, connections and seconds."""

    script: Script
    requests: int
    failures: int
    connections: int
    seconds: float = 6.0
    at_once: int = 20


def served(stage: Stage, wanted: Session2) -> Outcome:
    """Sends requests: few fail, few connections are made, and none hangs."""
    backend = stage.backend2(wanted.script)
    stage.serve("session", "/session", [backend], H2C)
    stage.start("--connect-timeout=1s")
    begun = time.monotonic()
    with ThreadPoolExecutor(wanted.at_once) as executor:
        views = list(executor.map(lambda _: ask1(stage, "GET", "/session/x", "x"), range(wanted.requests)))
    seconds = time.monotonic() - begun
    failures = sum(view.status != 200 for view in views)
    labels = {view.label for view in views}
    told = f"{failures} of {wanted.requests} failed, {backend.connections} connections, {seconds:.1f} s, {labels}"
    if "hangs" in labels or seconds > wanted.seconds:
        return Outcome("hangs", told)
    if failures > wanted.failures:
        return Outcome("failures", told)
    return Outcome("served" if backend.connections <= wanted.connections else "connections", told)


def limited(streams: int) -> Script:
    """Returns a script that takes so many streams at a time."""
    return Script(settings=((MAX_CONCURRENT_STREAMS, streams),), complete=slow)


SESSIONS: Mapping[str, Session2] = {
    "each stream is refused": Session2(Script(head=refuse_all), 40, 40, 8, at_once=1),
    "the first stream is refused": Session2(Script(head=refuse_first), 20, 20, 8, at_once=1),
    "the first connection ends unseen": Session2(Script(head=leave_first), 20, 1, 4, at_once=1),
    "each connection ends politely": Session2(Script(complete=leave_politely), 20, 0, 25, at_once=1),
    "each connection ends behind an answer": Session2(Script(complete=leave_behind_answer), 20, 0, 25, at_once=1),
    "0 streams": Session2(limited(0), 8, 8, 8, 8.0),
    "1 stream": Session2(limited(1), 40, 0, 40, 8.0),
    "2 streams": Session2(limited(2), 40, 0, 40, 8.0),
    "128 streams": Session2(limited(128), 200, 0, 8, 8.0, at_once=100),
    "250 streams": Session2(limited(250), 200, 0, 8, 8.0, at_once=100),
    "any number of streams": Session2(Script(complete=slow), 200, 0, 8, 8.0, at_once=100),
}


def lowered(stage: Stage, streams: int) -> Outcome:
    """Lowers the limit of a session that is in use: later requests are served, or refused at once."""

    def lower(session: Session, seen: Seen) -> None:
        session.send(settings([(MAX_CONCURRENT_STREAMS, streams)]))
        session.answer(seen.stream)

    backend = stage.backend2(Script(complete=lower))
    stage.serve("session", "/session", [backend], H2C)
    stage.start("--connect-timeout=1s")
    views = [ask1(stage, "GET", "/session/x", "x") for _ in range(4)]
    told = ", ".join(view.label for view in views)
    return Outcome("hangs" if "hangs" in told else "answered", f"{told}; {backend.connections} connections")


def _silent(connection: Connection) -> None:
    connection.gone(20.0)


@dataclass(frozen=True)
class Handshake:
    """How a connection to a backend does not begin."""

    put: Callable[[Stage], None]


def _silent_h2c(stage: Stage) -> None:
    stage.serve("silent", "/silent", [stage.backend2(Script(opened=lambda _: None, acknowledges=False))], H2C)


def _mute(stage: Stage) -> None:
    stage.serve("silent", "/silent", [stage.backend(_silent)], H2C)


def _silent_tls(stage: Stage) -> None:
    _tls(stage, _silent)


def _half_tls(stage: Stage) -> None:
    def play(connection: Connection) -> None:
        connection.send(bytes.fromhex("160303007a0200007603"))
        _silent(connection)

    _tls(stage, play)


def _plain_tls(stage: Stage) -> None:
    def play(connection: Connection) -> None:
        connection.send(OK)

    _tls(stage, play)


def _tls(stage: Stage, play: Callable[[Connection], None]) -> None:
    stage.serve("silent", "/silent", [stage.backend(play)])
    validation = {"hostname": "a.org", "caCertificateRefs": [{"group": "", "kind": "ConfigMap", "name": "authority"}]}
    target = {"group": "", "kind": "Service", "name": "silent"}
    policy: manifests.Object = {
        "apiVersion": manifests.GATEWAY_API,
        "kind": "BackendTLSPolicy",
        "metadata": {"name": "silent", "namespace": "default"},
        "spec": {"targetRefs": [target], "validation": validation},
    }
    stage.write("tls.yaml", [policy, manifests.authority_map("authority", Authority().pem)])


HANDSHAKES: Mapping[str, Callable[[Stage], None]] = {
    "HTTP/2 without SETTINGS": _silent_h2c,
    "HTTP/2 without a word": _mute,
    "TLS without a word": _silent_tls,
    "half a TLS handshake": _half_tls,
    "no TLS": _plain_tls,
}


def never_begun(stage: Stage, put: Callable[[Stage], None]) -> Outcome:
    """Asks a backend whose handshake does not end: the answer comes within the connect timeout, a few at most."""
    put(stage)
    stage.start("--connect-timeout=1s")
    begun = time.monotonic()
    view = ask1(stage, "GET", "/silent/x", "x")
    seconds = time.monotonic() - begun
    return Outcome(view.label if seconds < 4.5 else "late", f"{view.told()} after {seconds:.1f} s")


@dataclass(frozen=True)
class Flood:
    """A frame that a backend floods with, in which `SSSS` is the stream, and on how many streams."""

    data: bytes
    streams: int = 1
    limit: float = 80.0
    """How much more memory it may cost, in MB; several streams share what a connection may. Small frames may take 24 MiB in
    a table that doubles when it is full: for a moment there are two of them, and the larger one is half empty."""


def flooded(stage: Stage, wanted: Flood) -> Outcome:
    """Floods the router from a backend: its memory stays bounded, and other backends are served."""

    def flood(session: Session, seen: Seen) -> None:
        session.head(seen.stream)
        piece = (wanted.data.replace(b"SSSS", seen.stream.to_bytes(4, "big"))) * 1000
        # Within the window of a stream, so that the flood is no fault of the protocol.
        for _ in range(120):
            if not session.wire.try_send(piece, 1.0):
                return

    stage.serve("flood", "/flood", [stage.backend2(Script(complete=flood))], H2C)
    stage.serve("good", "/good", [stage.backend()])
    router = stage.start()
    before = router.resident()
    router.forget_peak()
    with Http2.connect(stage.at(PORT), credit=False) as client:
        for _ in range(wanted.streams):
            client.open(get("/flood/x"))
        served = []
        for _ in range(10):
            client.read(0.2)
            served.append(ask1(stage, "GET", "/good/x", "x").status == 200)
    growth = router.peak() - before
    told = f"{growth:.0f} MB more"
    if not all(served):
        return Outcome("others are not served", told)
    return Outcome("bounded" if growth < wanted.limit else "beyond", told)


FLOODS = {
    "PING": Flood(frame(6, 0, 0, bytes(8))),
    "SETTINGS": Flood(settings([(4, 65535)])),
    "PRIORITY": Flood(frame(2, 0, 99, bytes(5))),
    "unknown frames": Flood(frame(99, 0, 0, bytes(20))),
    "RST_STREAM of what is not open": Flood(rst_stream(1, 8)),
    "empty DATA": Flood(frame(0, 0, 0)[:5] + b"SSSS"),
    "DATA of 1 byte": Flood(frame(0, 0, 0, b"x")[:5] + b"SSSSx"),
    "DATA of 1 byte on 20 streams": Flood(frame(0, 0, 0, b"x")[:5] + b"SSSSx", 20, 100.0),
    "WINDOW_UPDATE": Flood(frame(8, 0, 0, b"\0\0\0\1")),
}


def nothing(_: Stage) -> None:
    """Starts no router: these cases do, with a backend of their own."""


def add_to(group: Group) -> None:
    """Adds the families."""
    streams = "RFC 9113, sections 5.1.2, 6.8 and 8.7: limits, refusals and ends of a backend are kept to, nothing hangs"
    group.family("sessions", streams, nothing, served, SESSIONS, {"served"}, room=Room.OWN)
    lower = {f"to {count}": count for count in (0, 1)}
    group.family("a limit that is lowered", streams, nothing, lowered, lower, {"answered"}, room=Room.OWN)
    begin = f"--connect-timeout holds for a whole handshake, and the answer comes within {DEADLINE:.0f} s"
    own = {"own 502", "own 503", "own 504"}
    group.family("handshakes", begin, nothing, never_begun, HANDSHAKES, own, room=Room.OWN)
    bounded = "docs/security.md: what a backend sends is buffered within bounds"
    group.family("floods of a backend", bounded, nothing, flooded, FLOODS, {"bounded"}, room=Room.OWN)
