"""TLS: which listener a connection belongs to, and which one a request on it."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from itertools import product

from cases import Group, Outcome
from rig import manifests
from rig.backend import named
from rig.certificates import Authority, client_context
from rig.manifests import Object
from rig.stage import Stage
from wire.http1 import answer, request
from wire.http2 import Http2, get
from wire.stream import Closed, Stream

TLS_PORT = 8443
SECOND_PORT = 8444
"""A port where the listener without a hostname is the one that asks for certificates."""
AUTHORITY, OTHER = Authority(), Authority("other")
CLIENT, STRANGER = AUTHORITY.issue("client"), OTHER.issue("stranger")
HOSTS = {"a": "a.example.com", "w": "*.wild.com", "x": "x.wild.com", "any": None}
CLOSED_HOSTS = {"closed": None, "open": "open.example.com"}


def scene(stage: Stage) -> None:
    """`a` asks for client certificates; the others on its port belong to Gateways that do not."""
    objects: list[Object] = [
        manifests.tls_secret("pair", *AUTHORITY.issue("a.example.com", "*.wild.com")),
        manifests.authority_map("authority", AUTHORITY.pem),
    ]
    for port, hosts, guarded in ((TLS_PORT, HOSTS, "a"), (SECOND_PORT, CLOSED_HOSTS, "closed")):
        for name, host in hosts.items():
            tls = validation() if name == guarded else None
            objects.append(manifests.gateway(name, [manifests.listener("l", port, host, "pair")], tls))
            objects += manifests.service(name, [stage.backend(named(name)).address])
            objects.append(manifests.http_route(name, name, [manifests.rule("/", name)]))
    stage.write("tls.yaml", objects)
    stage.start()


def validation() -> Object:
    """Returns what makes a Gateway ask for certificates of the authority."""
    reference = {"group": "", "kind": "ConfigMap", "name": "authority"}
    return {"frontend": {"default": {"validation": {"caCertificateRefs": [reference], "mode": "AllowValidOnly"}}}}


@dataclass(frozen=True)
class Hello:
    """A handshake, a request over it, and who may answer."""

    server_name: str | None
    host: str
    allowed: frozenset[str]
    version: int = 1
    pair: tuple[str, str] | None = None
    newest: ssl.TLSVersion | None = None
    port: int = TLS_PORT


def who(stage: Stage, hello: Hello) -> Outcome:
    """Asks, and says who answered: a backend, a status, or nobody."""
    context = client_context(["h2" if hello.version == 2 else "http/1.1"], hello.pair, hello.newest)
    try:
        stream = Stream.connect(stage.at(hello.port), context, hello.server_name)
    except (OSError, ssl.SSLError) as error:
        return Outcome("no handshake", str(error))
    with stream:
        return asked(stream, hello.version, hello.host)


def asked(stream: Stream, version: int, host: str) -> Outcome:
    """Asks over a connection that is there."""
    if version == 2:
        client = Http2(stream)
        reply = client.ask(get("/", host))
        if reply.status is None:
            return Outcome("no handshake", f"{reply.label()} {client.verdict()}")
        return Outcome(reply.body.decode() if reply.status == 200 else str(reply.status))
    stream.try_send(request("GET", "/", host=host))
    try:
        got = answer(stream)
    except (Closed, TimeoutError) as error:
        return Outcome("no handshake", str(error))
    if got is None:
        return Outcome("no handshake", "closed")
    return Outcome(got.body.decode() if got.status == 200 else str(got.status))


REFUSED = ("no handshake", "421", "404", "400", "403")
NAMES: dict[str, tuple[str | None, str, tuple[str, ...]]] = {
    "no name, the guarded host": (None, "a.example.com", REFUSED),
    "no name, the guarded host with its port": (None, f"a.example.com:{TLS_PORT}", REFUSED),
    "no name, the guarded host in upper case": (None, "A.EXAMPLE.COM", REFUSED),
    "no name, another host": (None, "other.com", ("any",)),
    "no name, a host of the wildcard": (None, "y.wild.com", ("421", "404")),
    "another name, the guarded host": ("other.com", "a.example.com", ("421",)),
    "a name of the wildcard, the guarded host": ("y.wild.com", "a.example.com", ("421",)),
    "a name of the wildcard, its host": ("y.wild.com", "y.wild.com", ("w",)),
    "a name of the wildcard, another of its hosts": ("y.wild.com", "z.wild.com", ("w",)),
    "a name of the wildcard, a more precise listener": ("y.wild.com", "x.wild.com", ("421",)),
    "a precise name, the wildcard": ("x.wild.com", "y.wild.com", ("421",)),
    "a precise name, its host": ("x.wild.com", "x.wild.com", ("x",)),
    "a name in upper case": ("X.WILD.COM", "x.wild.com", ("x",)),
    "the guarded name without a certificate": ("a.example.com", "a.example.com", ("no handshake",)),
    "the guarded name, another host": ("a.example.com", "other.com", ("no handshake",)),
}
VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


def _hellos() -> dict[str, Hello]:
    made = {}
    for version, tls in product((1, 2), VERSIONS):
        for name, (server_name, host, allowed) in NAMES.items():
            hello = Hello(server_name, host, frozenset(allowed), version, newest=VERSIONS[tls])
            made[f"HTTP/{version}, TLS {tls}: {name}"] = hello
    return made


def _certificates() -> dict[str, Hello]:
    guarded = "a.example.com"
    made = {}
    for version in (1, 2):
        for name, server_name, host, pair, allowed in (
            ("a valid one", guarded, guarded, CLIENT, ("a",)),
            ("a valid one, another host", guarded, "other.com", CLIENT, ("421",)),
            ("a valid one to nobody's name, the guarded host", "other.com", guarded, CLIENT, ("421",)),
            ("a stranger's", guarded, guarded, STRANGER, ("no handshake",)),
            ("a valid one without a name", None, guarded, CLIENT, REFUSED),
        ):
            made[f"HTTP/{version}: {name}"] = Hello(server_name, host, frozenset(allowed), version, pair)
        for name, server_name, host, allowed in (
            ("the listener without a name asks, and none is sent", None, "any.com", ("no handshake",)),
            ("an open name, the host of the one that asks", "open.example.com", "any.com", ("421",)),
            ("an open name, its host", "open.example.com", "open.example.com", ("open",)),
            ("no name, the open host", None, "open.example.com", REFUSED),
        ):
            made[f"HTTP/{version}: {name}"] = Hello(server_name, host, frozenset(allowed), version, port=SECOND_PORT)
    return made


@dataclass(frozen=True)
class Resumed:
    """A session of one name that is resumed for another."""

    first: str | None
    second: str | None
    host: str
    tls: str
    version: int


def resumed(stage: Stage, wanted: Resumed) -> Outcome:
    """Resumes a session that was made without a certificate where one is asked for."""
    context = client_context(["h2" if wanted.version == 2 else "http/1.1"], newest=VERSIONS[wanted.tls])
    with Stream.connect(stage.at(TLS_PORT), context, wanted.first) as stream:
        asked(stream, wanted.version, wanted.first or "any.com")
        assert isinstance(stream.socket, ssl.SSLSocket)
        session = stream.socket.session
    try:
        second = Stream.connect(stage.at(TLS_PORT), context, wanted.second, session)
    except (OSError, ValueError) as error:
        return Outcome("no handshake", str(error))
    with second:
        return asked(second, wanted.version, wanted.host)


def add_to(group: Group) -> None:
    """Adds the families."""
    names = "RFC 9110, section 7.4, Gateway API: a request belongs to the listener of its connection, or is misdirected"
    group.family("server names and hosts", names, scene, who, _hellos(), lambda hello: hello.allowed)
    mutual = "Gateway API, frontend validation: where certificates are asked for, nobody is served without one"
    group.family("client certificates", mutual, scene, who, _certificates(), lambda hello: hello.allowed)
    sessions = {
        f"HTTP/{version}, TLS {tls}: {first or 'no name'} to {second or 'no name'}": Resumed(
            first, second, host, tls, version
        )
        for version, tls in product((1, 2), VERSIONS)
        for first, second, host in (
            ("other.com", "a.example.com", "a.example.com"),
            (None, "a.example.com", "a.example.com"),
            (None, None, "a.example.com"),
            ("x.wild.com", "a.example.com", "a.example.com"),
        )
    }
    group.family("resumed sessions", mutual, scene, resumed, sessions, REFUSED)
