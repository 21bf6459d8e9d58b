"""Addresses that are no endpoints any more: whoever gets them next must not get anybody's prompts."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from cases import Group, Outcome, Room, within
from rig import manifests
from rig.backend import Backend
from rig.manifests import Object
from rig.stage import Stage
from wire.http1 import Unframed, fetch, request

Objects = Callable[[Sequence[str], int], list[Object]]
"""Makes the objects of a pool, from its addresses and a version of it."""
BODY = b'{"model":"m","prompt":"x"}'


@dataclass(frozen=True)
class Change:
    """A pool that changes, and how it is asked."""

    objects: Objects
    data: bytes
    versions: int = 2


def model(**versions: Sequence[object]) -> Objects:
    """Returns a ModelServer of which a field has another value in each version."""

    def objects(addresses: Sequence[str], version: int) -> list[Object]:
        values = {name: value[version % len(value)] for name, value in versions.items()}
        route = manifests.model_route("m", "m", "m")
        return [*manifests.pods("m", addresses), manifests.model_server("m", **values), route]

    return objects


def service(*protocols: str | None) -> Objects:
    """Returns a Service whose protocol changes."""

    def objects(addresses: Sequence[str], version: int) -> list[Object]:
        route = manifests.http_route("s", "default", [manifests.rule("/s", "s")])
        return [*manifests.service("s", addresses, protocols[version % len(protocols)]), route]

    return objects


def pool(addresses: Sequence[str], version: int) -> list[Object]:
    """Returns an InferencePool whose labels change."""
    labels = [manifests.pod(f"p{place}", "p", address, version=str(version)) for place, address in enumerate(addresses)]
    made = manifests.inference_pool("p", "p")
    made["spec"]["selector"]["matchLabels"]["version"] = str(version)
    return [*labels, made, manifests.http_route("p", "default", [manifests.pool_rule("/p", "p")])]


def recreated(objects: Objects) -> Objects:
    """Returns a pool that is there in even versions only."""
    return lambda addresses, version: objects(addresses, 0) if version % 2 == 0 else []


def nothing(_: Stage) -> None:
    """Starts no router: these cases do."""


def asked_after_removal(stage: Stage, change: Change) -> Outcome:
    """Changes a pool, removes one of its two Pods, and counts who is asked from then on."""
    removed, other = stage.backend(), stage.backend()
    both = [removed.address, other.address]
    stage.write("pool.yaml", change.objects(both, 0))
    stage.start("--enable-gateway-api-inference-extension", "--connect-timeout=300ms")
    _ask(stage, change.data, 10)
    for version in range(1, change.versions):
        stage.write("pool.yaml", change.objects(both, version))
        time.sleep(0.25)
        _ask(stage, change.data, 4)
    last = change.versions - 1
    stage.write("pool.yaml", change.objects([other.address], last))
    # The rule of the house for a change is below a second; requests in flight may end meanwhile.
    time.sleep(0.8)
    before, scrapes = len(removed.requests), removed.scrapes
    _ask(stage, change.data, 80)
    time.sleep(1.0)
    after, later = len(removed.requests) - before, removed.scrapes - scrapes
    told = f"{after} of 80 requests and {later} scrapes for the removed address"
    if len(other.requests) < 40:
        return Outcome("nobody is asked", f"{told}, {len(other.requests)} for the other")
    return Outcome("left alone" if after == 0 and later == 0 else "still asked", told)


def _ask(stage: Stage, data: bytes, count: int) -> None:
    for _ in range(count):
        # What is answered is of no interest, and a protocol that the engine does not speak may have no answer.
        with suppress(TimeoutError, Unframed):
            fetch(stage.address, data, 2.0)


def cost_of_change(stage: Stage, change: Change) -> Outcome:
    """Changes a pool many times: its engine is scraped as often as before, over as many connections."""
    engine = stage.backend()
    stage.write("pool.yaml", change.objects([engine.address], 0))
    stage.start("--enable-gateway-api-inference-extension")
    _ask(stage, change.data, 2)
    rate = _rate(engine)
    for version in range(1, 31):
        stage.write("pool.yaml", change.objects([engine.address], version))
        time.sleep(0.12)
    time.sleep(0.5)
    later = _rate(engine)
    return within(later, rate * 1.6 + 3, f"scrapes a second, {rate:.1f} before", "after 30 changes:")


def cost_of_deletion(stage: Stage, change: Change) -> Outcome:
    """Deletes a pool: its engine is left alone, but for a connection that is kept for a while."""
    engine = stage.backend()
    stage.write("pool.yaml", change.objects([engine.address], 0))
    stage.start("--enable-gateway-api-inference-extension", "--client-keep-alive=1s")
    _ask(stage, change.data, 2)
    for version in range(1, change.versions):
        stage.write("pool.yaml", change.objects([engine.address], version))
        time.sleep(0.12)
    stage.manifests.remove("pool.yaml")
    # A directory that comes back empty is given a moment, because it may be being written.
    time.sleep(3.0)
    rate = _rate(engine)
    told = f"{rate:.1f} scrapes a second, {engine.open_connections()} connections"
    return Outcome("left alone" if rate == 0 and engine.open_connections() <= 2 else "still asked", told)


def _rate(engine: Backend) -> float:
    before = engine.scrapes
    time.sleep(2.0)
    return (engine.scrapes - before) / 2


MODEL = request("POST", "/v1/completions", body=BODY)
SERVICE, POOL = request("GET", "/s/x"), request("GET", "/p/x")
CHANGES: Mapping[str, Change] = {
    "nothing": Change(model(), MODEL, 1),
    "the engine": Change(model(inferenceEngine=["vLLM", "SGLang"]), MODEL),
    "the engine and back": Change(model(inferenceEngine=["vLLM", "SGLang"]), MODEL, 3),
    "the engine ten times": Change(model(inferenceEngine=["vLLM", "SGLang"]), MODEL, 11),
    "the traffic policy": Change(
        model(trafficPolicy=[{"retry": {"attempts": n, "retryInterval": "1ms"}} for n in (1, 2)]), MODEL
    ),
    "the protocol": Change(
        model(workloadPort=[{"port": 8000, "protocol": "http"}, {"port": 8000, "protocol": "https"}]), MODEL, 3
    ),
    "deleted and created anew": Change(recreated(model()), MODEL, 3),
    "deleted and created anew as another": Change(
        lambda addresses, version: (
            [] if version == 1 else model(inferenceEngine=["vLLM", "vLLM", "SGLang"])(addresses, version)
        ),
        MODEL,
        3,
    ),
    "a Service": Change(service(None), SERVICE, 1),
    "a Service's protocol": Change(service(None, "kubernetes.io/h2c"), SERVICE, 3),
    "a Service, deleted and created anew": Change(recreated(service(None)), SERVICE, 3),
    "a pool": Change(pool, POOL, 1),
    "a pool's selector": Change(pool, POOL, 2),
    "a pool, deleted and created anew": Change(recreated(pool), POOL, 3),
}


def add_to(group: Group) -> None:
    """Adds the families."""
    promise = "a Pod that is removed gets no request and no scrape from then on, whatever was changed before"
    group.family("removed Pods", promise, nothing, asked_after_removal, CHANGES, {"left alone"}, room=Room.OWN)
    engines = {
        "the engine": CHANGES["the engine"],
        "deleted and created anew": CHANGES["deleted and created anew"],
        "a pool's selector": CHANGES["a pool's selector"],
    }
    promise = "an engine is scraped as often after changes as before"
    group.family("changes", promise, nothing, cost_of_change, engines, {"within"}, room=Room.OWN)
    deleted = {
        "at once": CHANGES["nothing"],
        "after a change": CHANGES["the engine"],
        "after ten changes": CHANGES["the engine ten times"],
        "a pool": CHANGES["a pool"],
    }
    promise = "an engine whose pool is deleted is left alone"
    group.family("deleted pools", promise, nothing, cost_of_deletion, deleted, {"left alone"}, room=Room.OWN)
