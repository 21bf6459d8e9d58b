"""Headers that are not the client's to set."""

from __future__ import annotations

import json
from dataclasses import dataclass

from cases import Group, Outcome
from rig import manifests
from rig.backend import Seen, answering, plain
from rig.manifests import Object
from rig.stage import Stage
from wire.http1 import Answer, fetch, request
from wire.http2 import Http2, get

Lines = tuple[tuple[str, str], ...]
BODY = b'{"model":"m","prompt":"x"}'
RESERVED = (
    "x-gateway-destination-endpoint",
    "x-gateway-destination-endpoint-subset",
    "x-gateway-destination-endpoint-served",
    "x-gateway-destination-endpoint-scores",
    "x-prefiller-host-port",
    "x-encoder-hosts-ports",
    "x-data-parallel-host-port",
    "x-kv-cache-source-host-port",
)
PEER = "127.0.0.1"
"""From where the kernel connects to other loopback addresses."""
SET = {"x-tenant": "router", "x-internal-auth": "secret"}


def _reply(seen: Seen) -> bytes:
    echoed = json.dumps([[name, value] for name, value in seen.headers]).encode()
    if "secret" not in seen.target:
        return plain(200, echoed)
    return plain(200, echoed, "connection: x-set-by-rule, x-hop, close", "x-hop: hop", "keep-alive: timeout=9")


def scene(stage: Stage) -> None:
    """A model, a pool, a plain prefix, and one whose rule sets headers."""
    stage.serve_model("m", [stage.backend(answering(_reply))])
    backend = stage.backend(answering(_reply))
    stage.serve("plain", "/plain", [backend])
    edits: list[Object] = [
        {"type": kind, key: {"set": [{"name": name, "value": value} for name, value in values.items()]}}
        for kind, key, values in (
            ("RequestHeaderModifier", "requestHeaderModifier", SET),
            ("ResponseHeaderModifier", "responseHeaderModifier", {"x-set-by-rule": "rule"}),
        )
    ]
    stage.serve("set", "/set", [backend], filters=edits)
    pool = stage.backend(answering(_reply))
    route = manifests.http_route("pool", "default", [manifests.pool_rule("/pool", "pool")])
    stage.write("pool.yaml", [*manifests.pods("pool", [pool.address]), manifests.inference_pool("pool", "pool"), route])
    stage.start("--enable-gateway-api-inference-extension")


ROADS = {"model": "/v1/completions", "plain": "/plain/x", "set": "/set/x", "pool": "/pool/x"}


@dataclass(frozen=True)
class Sent:
    """Headers of a client, and by which road."""

    road: str
    lines: Lines
    version: int = 1


def _ask(stage: Stage, sent: Sent, path: str | None = None) -> tuple[Answer | None, dict[str, list[str]]]:
    """Sends headers, and returns the answer and what the backend got."""
    path = path or ROADS[sent.road]
    if sent.version == 2:
        with Http2.connect(stage.address) as client:
            reply = client.ask(get(path, more=sent.lines))
        got: Answer | None = Answer(reply.status or 0, reply.headers, bytes(reply.body), reply.ended)
    else:
        method, body = ("POST", BODY) if sent.road == "model" else ("GET", b"")
        got = fetch(stage.address, request(method, path, sent.lines, body))
    received: dict[str, list[str]] = {}
    if got is not None and got.status == 200 and got.body.startswith(b"["):
        for name, value in json.loads(got.body):
            received.setdefault(name, []).append(value)
    return got, received


def not_passed_on(stage: Stage, sent: Sent) -> Outcome:
    """Sends a header by which engines or pickers are told where to go: they do not get it."""
    got, received = _ask(stage, sent)
    name = sent.lines[0][0].lower()
    if got is None or got.status >= 400:
        return Outcome("refused", str(got and got.status))
    return Outcome("passed on" if name in received else "taken out", str(received.get(name)))


def own_claims(stage: Stage, sent: Sent) -> Outcome:
    """Sends claims about where a request comes from: backends get the router's alone."""
    got, received = _ask(stage, sent)
    if got is None or got.status >= 400:
        return Outcome("refused", str(got and got.status))
    hops = ", ".join(received.get("x-forwarded-for", [])).split(", ")
    # An address that the client claims may stand in front of the one that the router has seen.
    is_right = (
        received.get("x-forwarded-proto") == ["http"]
        and received.get("x-forwarded-host") == ["router"]
        and hops[-1] == PEER
    )
    forwarded = {name: values for name, values in received.items() if name.startswith("x-forwarded")}
    return Outcome("the router's own" if is_right else "believed", str(forwarded))


def kept(stage: Stage, sent: Sent) -> Outcome:
    """Names headers as hop-by-hop: what the router has set is not the client's to take out."""
    got, received = _ask(stage, sent)
    if got is None or got.status >= 400:
        return Outcome("refused", str(got and got.status))
    needed = {"x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-request-id", "host"}
    missing = sorted(name for name in needed | (set(SET) if sent.road == "set" else set()) if name not in received)
    changed = [name for name, value in SET.items() if sent.road == "set" and received.get(name, [value]) != [value]]
    named = {"connection", "keep-alive", "te", "upgrade"} & set(received)
    named |= {"x-named"} & set(received) & set(sent.lines[0][1].split(", "))
    return Outcome("kept" if not missing and not changed and not named else "taken out", f"{missing} {changed} {named}")


def answered(stage: Stage, sent: Sent) -> Outcome:
    """A backend names headers as hop-by-hop: those are taken out, and what the rule sets is not."""
    got, _ = _ask(stage, sent, ROADS[sent.road] + "/secret")
    if got is None or got.status != 200:
        return Outcome("refused", str(got and got.status))
    is_set = got.header("x-set-by-rule") == "rule" or sent.road != "set"
    left = [name for name in ("x-hop", "keep-alive") if got.header(name)]
    return Outcome("kept" if is_set and not left else "taken out", f"{is_set} {left}")


CLAIMS: dict[str, Lines] = {
    "for": (("x-forwarded-for", "6.6.6.6"),),
    "for, twice": (("x-forwarded-for", "6.6.6.6"), ("x-forwarded-for", "7.7.7.7")),
    "for, a list": (("x-forwarded-for", "6.6.6.6, 7.7.7.7"),),
    "for, in upper case": (("X-FORWARDED-FOR", "6.6.6.6"),),
    "proto": (("x-forwarded-proto", "https"),),
    "host": (("x-forwarded-host", "evil.com"),),
    "all": (("x-forwarded-for", "6.6.6.6"), ("x-forwarded-proto", "https"), ("x-forwarded-host", "evil.com")),
}
NAMED = {
    "what the rule sets": "x-tenant, x-internal-auth",
    "what the router sets": "x-forwarded-for, x-forwarded-proto, x-forwarded-host, x-request-id",
    "in upper case": "X-Tenant, X-FORWARDED-FOR",
    "close and more": "close, x-tenant, x-forwarded-for, host",
    "the frame": "content-length, transfer-encoding, host, x-named",
    "itself": "connection, keep-alive, te, x-named",
}


def add_to(group: Group) -> None:
    """Adds the families."""
    reserved = {
        f"{road}: {name}": Sent(road, ((name if place % 2 else name.title(), "10.0.0.1:80"),))
        for road in ("model", "pool")
        for place, name in enumerate(RESERVED)
    }
    promise = "GEP endpoint picker protocol: where a request goes is not the client's to say"
    group.family("reserved headers", promise, scene, not_passed_on, reserved, {"taken out", "refused"})
    claims = {
        f"{road}{', HTTP/2' if version == 2 else ''}: {name}": Sent(road, _lower(lines, version), version)
        for road, version in (("plain", 1), ("plain", 2), ("pool", 1), ("model", 1))
        for name, lines in CLAIMS.items()
    }
    promise = "docs/gateway-api.md: X-Forwarded-* are the router's; a client's own claims are not believed"
    group.family("X-Forwarded", promise, scene, own_claims, claims, {"the router's own"})
    named = {
        f"{road}: {name}": Sent(road, (("connection", value), ("x-named", "x"), ("x-tenant", "mine")))
        for road in ("plain", "set", "pool", "model")
        for name, value in NAMED.items()
        if not (road == "plain" and "rule" in name)
    }
    promise = "RFC 9110, section 7.6.1: Connection is about the fields that came with it, not about those set later"
    group.family("Connection", promise, scene, kept, named, {"kept", "refused"})
    roads = {road: Sent(road, ()) for road in ("plain", "set", "pool")}
    group.family("Connection of a backend", promise, scene, answered, roads, {"kept"})


def _lower(lines: Lines, version: int) -> Lines:
    """Returns lines as HTTP/2 allows them."""
    return tuple((name.lower(), value) for name, value in lines) if version == 2 else lines
