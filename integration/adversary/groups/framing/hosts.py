"""Targets and hosts that may be read as two."""

from __future__ import annotations

from dataclasses import dataclass

from cases import Group, Outcome
from groups.framing.scene import HOSTS_PORT, scene
from rig.stage import Stage
from wire.http1 import Unframed, answer
from wire.stream import Stream


@dataclass(frozen=True)
class Addressed:
    """A target and the lines that name hosts, and who may answer: `a`, `b`, or a status."""

    target: str
    lines: tuple[str, ...]
    allowed: frozenset[str]


def who(stage: Stage, addressed: Addressed) -> Outcome:
    """Asks, and says who answered and what that backend took for target and host."""
    tag = stage.tag()
    lines = [f"GET {addressed.target.replace('TAG', tag)} HTTP/1.1", *addressed.lines, f"x-tag: {tag}", "", ""]
    with Stream.connect(stage.at(HOSTS_PORT)) as stream:
        stream.try_send("\r\n".join(lines).encode())
        try:
            got = answer(stream)
        except Unframed as error:
            return Outcome("not HTTP", str(error))
    seen = [each for backend in stage.backends for each in backend.of(tag)]
    told = "; ".join(f"{each.target} host {each.values('host')}" for each in seen)
    if got is None:
        return Outcome("closed", told)
    if any(not each.target.startswith(("/", "*")) for each in seen):
        return Outcome("a target that is no path", told)
    if any(len(each.values("host")) != 1 for each in seen):
        return Outcome("not one host", told)
    return Outcome(got.body.decode("latin-1") if got.status == 200 else str(got.status), told)


def _is(target: str, host: str, *allowed: str) -> Addressed:
    return Addressed(target, (f"host: {host}",), frozenset(allowed))


HOSTS = {
    "a name": _is("/TAG", "a.org", "a"),
    "in upper case": _is("/TAG", "A.ORG", "a"),
    "with the port": _is("/TAG", f"b.org:{HOSTS_PORT}", "b"),
    "with another port": _is("/TAG", "b.org:1", "b"),
    "with an empty port": _is("/TAG", "a.org:", "a", "400"),
    "with a dot at the end": _is("/TAG", "a.org.", "a", "404", "400"),
    "unknown": _is("/TAG", "c.org", "404"),
    "empty": _is("/TAG", "", "404", "400"),
    "a list": _is("/TAG", "a.org,b.org", "400"),
    "a list with a blank": _is("/TAG", "a.org, b.org", "400"),
    "a port of letters": _is("/TAG", "a.org:abc", "400"),
    "a port beyond 16 bits": _is("/TAG", "a.org:99999", "400"),
    "a negative port": _is("/TAG", "a.org:-1", "400"),
    "two ports": _is("/TAG", "a.org:80:80", "400"),
    "a user": _is("/TAG", "b.org@a.org", "400"),
    "a path": _is("/TAG", "a.org/b.org", "400"),
    "a query": _is("/TAG", "a.org?b.org", "400"),
    "a fragment": _is("/TAG", "a.org#b.org", "400"),
    "a scheme": _is("/TAG", "http://a.org", "400"),
    "a backslash": _is("/TAG", "a.org\\b.org", "400"),
    "a blank in it": _is("/TAG", "a.org b.org", "400"),
    "a tab in it": _is("/TAG", "a.org\tb.org", "400"),
    "escaped": _is("/TAG", "%61.org", "400", "404"),
    "escaped NUL": _is("/TAG", "a.org%00b.org", "400", "404"),
    "beyond ASCII": _is("/TAG", "ä.org", "400"),
    "half an address": _is("/TAG", "[::1", "400"),
    "an address with a name behind": _is("/TAG", "[::1]a.org", "400"),
    "twice": Addressed("/TAG", ("host: a.org", "host: b.org"), frozenset({"400"})),
    "twice the same": Addressed("/TAG", ("host: a.org", "host: a.org"), frozenset({"400"})),
    "not at all": Addressed("/TAG", (), frozenset({"400"})),
    "forwarded": Addressed("/TAG", ("host: a.org", "x-forwarded-host: b.org"), frozenset({"a"})),
    "Forwarded": Addressed("/TAG", ("host: a.org", "forwarded: host=b.org"), frozenset({"a"})),
    "x-original-host": Addressed("/TAG", ("host: a.org", "x-original-host: b.org"), frozenset({"a"})),
    "x-http-method-override": Addressed("/TAG", ("host: a.org", "x-http-method-override: POST"), frozenset({"a"})),
}
TARGETS = {
    "absolute": _is("http://a.org/TAG", "b.org", "a"),
    "absolute in upper case": _is("HTTP://A.org/TAG", "b.org", "a"),
    "absolute with the port": _is(f"http://b.org:{HOSTS_PORT}/TAG", "a.org", "b"),
    "absolute without a path": _is("http://a.org", "a.org", "a"),
    "absolute with a query alone": _is("http://a.org?q=TAG", "a.org", "a", "400"),
    "absolute with a fragment": _is("http://a.org/TAG#x", "a.org", "a", "400"),
    "absolute with a user": _is("http://u@a.org/TAG", "a.org", "400"),
    "absolute with a user and a password": _is("http://u:p@a.org/TAG", "a.org", "400"),
    "absolute of a port of letters": _is("http://a.org:x/TAG", "a.org", "400"),
    "absolute of a port beyond 16 bits": _is("http://a.org:99999/TAG", "a.org", "400"),
    "absolute of nobody": _is("http:///TAG", "a.org", "400"),
    "absolute of another scheme": _is("ftp://a.org/TAG", "a.org", "400", "a", "404"),
    "https on a port of HTTP": _is("https://a.org/TAG", "a.org", "400", "a", "404", "421"),
    "a file": _is("file:///etc/TAG", "a.org", "400"),
    "an opaque one": _is("mailto:TAG", "a.org", "400"),
    "no slash": _is("TAG", "a.org", "400"),
    "a query alone": _is("?TAG", "a.org", "400"),
    "an authority": _is("a.org:80", "a.org", "400"),
    "two slashes": _is("//b.org/TAG", "a.org", "a", "400"),
    "three slashes": _is("///b.org/TAG", "a.org", "a", "400"),
    "a star": _is("*", "a.org", "400", "404"),
    "a fragment": _is("/TAG#b", "a.org", "a", "400"),
    "an absolute one in a path": _is("/http://b.org/TAG", "a.org", "a", "400"),
    "a backslash": _is("/TAG\\..\\x", "a.org", "400"),
    "NUL": _is("/TAG\0x", "a.org", "400"),
    "beyond ASCII": _is("/TAGä", "a.org", "a", "400"),
    "angle brackets": _is("/TAG<b>", "a.org", "a", "400"),
    "a broken escape": _is("/TAG%zz", "a.org", "a", "400"),
}


def add_to(group: Group) -> None:
    """Adds the families."""
    host = "docs/security.md, Host; RFC 9112, section 3.2: one host, which rules see and backends get"
    group.family("hosts", host, scene, who, HOSTS, lambda each: each.allowed)
    target = "docs/security.md, Target; RFC 9112, section 3.2: one checked path, which rules see and backends get"
    group.family("targets", target, scene, who, TARGETS, lambda each: each.allowed)
