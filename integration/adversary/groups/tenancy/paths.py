"""Paths that leave the prefix that let them in, once a backend has normalised them."""

from __future__ import annotations

import posixpath
from urllib.parse import unquote

from cases import Group, Outcome
from rig.stage import Stage
from wire.http1 import Unframed, answer, request
from wire.http2 import Http2, get
from wire.stream import Stream


def scene(stage: Stage) -> None:
    """Leads one prefix to a backend that remembers."""
    stage.serve("api", "/api", [stage.backend()])
    stage.start()


def normalised(target: str) -> str:
    """Returns a path as servers are known to read it: no parameters, decoded, backslashes as slashes, dots resolved."""
    path = "/".join(segment.partition(";")[0] for segment in target.partition("?")[0].split("/"))
    return posixpath.normpath(unquote(path).partition("\0")[0].replace("\\", "/"))


def left(stage: Stage, path: str) -> Outcome:
    """Asks for a path below the prefix over both versions of HTTP: what a backend gets is below it as well."""
    tag = stage.tag()
    with Stream.connect(stage.address) as stream:
        stream.try_send(request("GET", path, [("x-tag", tag)]))
        try:
            first = answer(stream)
        except Unframed:
            first = None
    with Http2.connect(stage.address) as client:
        second = client.ask(get(path, more=[("x-tag", tag)]))
    targets = [seen.target for seen in stage.backends[0].of(tag)]
    told = f"{first and first.status} {second.label()} {targets}"
    if any(not normalised(target).startswith("/api") for target in targets):
        return Outcome("escaped", told)
    return Outcome("passed on" if targets else "refused", told)


ESCAPES = [
    "/api/../x", "/api/./../x", "/api/..", "/api/../", "/api//../../x", "/api/a/../../x",
    "/api/%2e%2e/x", "/api/%2E%2E/x", "/api/.%2e/x", "/api/%2e./x", "/api/%2e%2e%2fx",
    "/api/..%2fx", "/api/..%2Fx", "/api/..%2f..%2fx", "/api/a%2f..%2f..%2fx", "/api/%2e%2e%2f%2e%2e%2fx",
    "/api%2f..%2fx", "/api/..%5cx", "/api/..\\x", "/api/%2e%2e%5cx", "/api\\..\\x", "/api/..;/x", "/api/..;a=b/x",
    "/api/%2e%2e;/x", "/api/..%00/x", "/api/..%00", "/api/a/..%2f../x", "/api/.%2f..%2fx", "/api/..%3b/x",
    "/api/..%3ba%2fx",
]  # fmt: skip
HARMLESS = [
    "/api",
    "/api/",
    "/api/x",
    "/api/a.b/..c/d..",
    "/api/...",
    "/api/%20",
    "/api/a%2fb",
    "/api//x",
    "/api/%252e%252e/x",
]


def add_to(group: Group) -> None:
    """Adds the families."""
    promise = "docs/gateway-api.md, 400 for a path that could mean two things; RFC 3986, section 5.2.4"
    group.family("paths that leave", promise, scene, left, {path: path for path in ESCAPES}, {"refused", "passed on"})
    promise = "docs/gateway-api.md: paths are matched and passed on as they were sent"
    group.family("paths that stay", promise, scene, left, {path: path for path in HARMLESS}, {"passed on"})
