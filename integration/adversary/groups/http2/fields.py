"""Field sections that are malformed, or name a host or a path twice."""

from __future__ import annotations

from collections.abc import Sequence

from cases import Group, Outcome
from groups.http2.scene import scene, seen_whole
from rig.stage import Stage
from wire.http2 import Http2

Fields = Sequence[tuple[str, str]]
METHOD, SCHEME = (":method", "GET"), (":scheme", "http")
AUTHORITY, PATH = (":authority", "router"), (":path", "/r/TAG")
GET = [METHOD, SCHEME, AUTHORITY, PATH]


def asked(stage: Stage, fields: Fields) -> Outcome:
    """Sends a request without a body: it is refused, or served in its one meaning."""
    tag = stage.tag()
    with Http2.connect(stage.address) as client:
        client.encoder.header_table_size = 0
        named = [(name, value.replace("TAG", tag)) for name, value in [*fields, ("x-tag", tag)]]
        reply = client.ask(named)
        told = f"{reply.label()} {client.verdict()}"
        seen = seen_whole(stage, tag)
        told += "".join(f"; {each.method} {each.target} host {each.values('host')}" for each in seen)
        if any(not each.target.startswith("/") or len(each.values("host")) != 1 for each in seen):
            return Outcome("a doubtful request at the backend", told)
        if seen:
            return Outcome("served", told)
        if reply.reset is not None or client.end or client.gone or (reply.status or 0) >= 400:
            return Outcome("refused", told)
    return Outcome("not answered", told)


def swapped(place: int, *values: tuple[str, str]) -> list[tuple[str, str]]:
    """Returns a GET with other fields in one place."""
    return [*GET[:place], *values, *GET[place + 1 :]]


PSEUDO: dict[str, Fields] = {
    "no method": swapped(0),
    "no scheme": swapped(1),
    "no path": swapped(3),
    "an empty path": swapped(3, (":path", "")),
    "two methods": swapped(0, METHOD, METHOD),
    "two paths": swapped(3, PATH, (":path", "/admin/TAG")),
    "two authorities": swapped(2, AUTHORITY, AUTHORITY),
    "two schemes": swapped(1, SCHEME, SCHEME),
    "an unknown one": [*GET, (":other", "x")],
    "a status": [*GET, (":status", "200")],
    "a protocol": [*GET, (":protocol", "websocket")],
    "behind a field": [METHOD, SCHEME, ("x-a", "b"), AUTHORITY, PATH],
    "a method with a blank": swapped(0, (":method", "GET /admin/TAG HTTP/1.1\r\nx:")),
    "an empty method": swapped(0, (":method", "")),
    "a tunnel": [(":method", "CONNECT"), (":authority", "router:80")],
    "a tunnel with a path": swapped(0, (":method", "CONNECT")),
    "a tunnel for a WebSocket": [*swapped(0, (":method", "CONNECT")), (":protocol", "websocket")],
    "a scheme that is a URL": swapped(1, (":scheme", "http://other/x?")),
    "no field at all": [],
}
PATHS: dict[str, Fields] = {
    name: [METHOD, SCHEME, (":authority", "all.org"), (":path", path)]
    for name, path in {
        "absolute": "http://router/admin/TAG",
        "absolute of another host": "http://internal.vhost/r/TAG",
        "absolute https": "https://router/r/TAG",
        "no slash": "admin/TAG",
        "a query alone": "?q=TAG",
        "a scheme": "x:y/TAG",
        "a star": "*",
        "a blank": "/r/TAG HTTP/1.1",
        "a line break": "/r/TAG\r\nx-a: b",
        "LF": "/r/TAG\nx",
        "NUL": "/r/TAG\0",
        "a tab": "/r/TAG\tx",
        "a backslash": "/r/TAG\\..\\admin",
        "dots": "/r/TAG/../../admin/x",
        "escaped dots": "/r/TAG/%2e%2e/%2e%2e/admin/x",
        "a host and a path": "router/r/TAG",
        "a user": "@router/r/TAG",
    }.items()
}
HOSTS: dict[str, Fields] = {
    "a host that differs": [*GET, ("host", "other")],
    "a host of another port": [*GET, ("host", "router:81")],
    "two hosts": [*swapped(2), ("host", "router"), ("host", "router")],
    "two hosts beside the authority": [*GET, ("host", "router"), ("host", "router")],
    "neither": swapped(2),
    "an empty authority": swapped(2, (":authority", "")),
    **{
        name: swapped(2, (":authority", value))
        for name, value in {
            "a user": "user@router",
            "a path": "router/x",
            "a list": "router,other",
            "a port of letters": "router:abc",
            "a port beyond 16 bits": "router:99999",
            "a blank": "router other",
            "a line break": "router\r\nx-a: b",
            "NUL": "router\0",
            "a query": "router?x",
            "beyond ASCII": "röuter",
        }.items()
    },
}
FIELDS: dict[str, Fields] = {
    name: [*GET, field]
    for name, field in {
        "connection": ("connection", "close"),
        "connection that names a field": ("connection", "x-tag"),
        "keep-alive": ("keep-alive", "timeout=5"),
        "proxy-connection": ("proxy-connection", "keep-alive"),
        "transfer-encoding": ("transfer-encoding", "chunked"),
        "upgrade": ("upgrade", "websocket"),
        "te other than trailers": ("te", "gzip"),
        "a name in upper case": ("X-Upper", "a"),
        "an empty name": ("", "a"),
        "a name with a blank": ("x a", "b"),
        "a name with a colon": ("x:a", "b"),
        "a name with a line break": ("x\r\na", "b"),
        "a name with NUL": ("x\0a", "b"),
        "a name beyond ASCII": ("xä", "b"),
        "a value with CR": ("x-a", "a\rb"),
        "a value with LF": ("x-a", "a\nb: c"),
        "a value with a request": ("x-a", "a\r\n\r\nGET /admin/TAG HTTP/1.1\r\nhost: router\r\n\r\n"),
        "a value with NUL": ("x-a", "a\0b"),
    }.items()
}
TAKEN: dict[str, Fields] = {
    "as it should be": GET,
    "te trailers": [*GET, ("te", "trailers")],
    "a host in place of the authority": [*swapped(2), ("host", "router")],
    "the same host beside the authority": [*GET, ("host", "router")],
    "several cookies": [*GET, ("cookie", "a=b"), ("cookie", "c=d")],
    "two slashes": swapped(3, (":path", "/r//TAG")),
    "a query": swapped(3, (":path", "/r/TAG?a=b?c")),
    "a value beyond ASCII": [*GET, ("x-a", "ä")],
}


def add_to(group: Group) -> None:
    """Adds the families."""
    for family, place, variants in (
        ("pseudo-header fields", "section 8.3.1", PSEUDO),
        ("paths", "section 8.3.1", PATHS),
        ("hosts", "section 8.3.1", HOSTS),
        ("fields", "section 8.2", FIELDS),
    ):
        promise = f"RFC 9113, {place}: a malformed request is a stream error; docs/security.md"
        group.family(family, promise, scene, asked, variants, {"refused"})
    promise = "docs/security.md, taken in one meaning"
    group.family("taken", promise, scene, asked, TAKEN, {"served"})
