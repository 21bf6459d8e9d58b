"""Calls that manage an engine instead of using it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

from cases import Group, Outcome
from rig import manifests
from rig.stage import Stage
from wire.http1 import Unframed, answer, request
from wire.stream import Stream

BODY = b'{"model":"m","lora_name":"x","lora_path":"/x","prompt":"x"}'
CALLS = (
    "/v1/load_lora_adapter", "/v1/unload_lora_adapter", "/sleep", "/wake_up", "/reset_prefix_cache", "/collective_rpc",
    "/flush_cache", "/update_weights_from_disk", "/update_weights_from_tensor", "/pause", "/release_memory_occupation",
    "/abort_request", "/start_profile", "/scale_elastic_ep", "/metrics",
)  # fmt: skip
BELOW_V1 = (
    "/v1/update_weights_from_tensor", "/v1/pause", "/v1/release_memory_occupation", "/v1/collective_rpc",
    "/v1/sleep", "/v1/flush_cache", "/v1/start_profile", "/v1/unknown", "/v1/init_weights_update_group",
)  # fmt: skip
SPELLINGS = {
    "plain": lambda path: path,
    "a slash behind": lambda path: path + "/",
    "two slashes": lambda path: "/" + path,
    "two slashes inside": lambda path: path.replace("/v1/", "/v1//") if "/v1/" in path else path + "//",
    "an escaped letter": lambda path: path[:-1] + f"%{ord(path[-1]):02x}",
    "all letters escaped": lambda path: "/" + "".join(f"%{ord(letter):02X}" for letter in path[1:]),
    "an escaped slash": lambda path: "/" + path[1:].replace("/", "%2f") if "/" in path[1:] else "/%2f" + path[1:],
    "a query": lambda path: path + "?x=/v1/completions",
    "a parameter": lambda path: path + ";x=y",
    "a fragment": lambda path: path + "%23x",
    "dots": lambda path: "/v1/completions/../.." + path,
}


def scene(stage: Stage) -> None:
    """A model on one port, and on another one a pool that every path leads to."""
    engine = stage.backend()
    stage.serve_model("m", [engine])
    gateway = manifests.gateway("pool", [manifests.listener("l", 8081)])
    route = manifests.http_route("pool", "pool", [manifests.pool_rule("/", "pool")])
    pool = manifests.inference_pool("pool", "m")
    stage.write("pool.yaml", [gateway, route, pool])
    stage.start("--enable-gateway-api-inference-extension")


@dataclass(frozen=True)
class Call:
    """A call, its spelling, and the port."""

    method: str
    path: str
    port: int


def reached(stage: Stage, call: Call) -> Outcome:
    """Calls: the engine does not see it."""
    tag = stage.tag()
    with Stream.connect(stage.at(call.port)) as stream:
        stream.try_send(request(call.method, call.path, [("x-tag", tag)], BODY if call.method == "POST" else b""))
        try:
            got = answer(stream)
        except Unframed:
            got = None
    seen = stage.backends[0].of(tag)
    told = f"{got and got.status} {[each.target for each in seen]}"
    # A parameter or an escaped number sign makes another path of it, which an engine does not know.
    harmless = ";" in call.path or "%23" in call.path
    return Outcome("reached the engine" if seen and not harmless else "did not reach it", told)


def add_to(group: Group) -> None:
    """Adds the families."""
    promise = "docs/security.md: engines are managed by their operators alone, in whatever spelling"
    for name, port in (("model", 8080), ("pool", 8081)):
        calls = CALLS + (BELOW_V1 if name == "model" else ())
        variants = {
            f"{path}, {spelling}": Call("GET" if path == "/metrics" else "POST", spell(path), port)
            for path, (spelling, spell) in product(calls, SPELLINGS.items())
        }
        group.family(f"management, {name}", promise, scene, reached, variants, {"did not reach it"})
