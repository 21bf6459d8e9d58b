"""Bodies that two parsers read differently: a client must not get a model that its route does not serve."""

from __future__ import annotations

import json
import sys

from cases import Group, Outcome
from rig.stage import Stage
from wire.http1 import fetch, request

# Engines do not limit it either.
sys.set_int_max_str_digits(0)


def scene(stage: Stage) -> None:
    """Two models with an engine each."""
    for name in ("m", "n"):
        stage.serve_model(name, [stage.backend()])
    stage.start()


def read(stage: Stage, body: bytes) -> Outcome:
    """Sends a body: if an engine gets it, the engine reads the model in it that the router did."""
    tag = stage.tag()
    got = fetch(stage.address, request("POST", "/v1/completions", [("x-tag", tag)], body))
    status = got.status if got else None
    for name, backend in zip(("m", "n"), stage.backends, strict=True):
        for seen in backend.of(tag):
            try:
                model = json.loads(seen.body)["model"]
            except RecursionError:
                return Outcome("refused", f"by the engine {name}, which cannot read it")
            except (ValueError, KeyError, TypeError) as error:
                return Outcome("an engine reads it differently", f"{name}: {error} {seen.body[:80]!r}")
            label = "one model" if model == name else "an engine reads it differently"
            return Outcome(label, f"{status}, engine {name}, which reads {model!r}")
    refused = status is not None and 400 <= status < 500
    return Outcome("refused" if refused else "no answer", str(status))


BODIES: dict[str, bytes] = {
    "as it should be": b'{"model":"m"}',
    "twice": b'{"model":"m","model":"n"}',
    "twice, unknown first": b'{"model":"x","model":"n"}',
    "twice, unknown last": b'{"model":"m","model":"x"}',
    "an escaped name behind": b'{"model":"m","\\u006dodel":"n"}',
    "an escaped name in front": b'{"\\u006dodel":"n","model":"m"}',
    "an escaped name alone": b'{"mode\\u006c":"m"}',
    "an escaped value": b'{"model":"\\u006d"}',
    "nested in front": b'{"a":{"model":"n"},"model":"m"}',
    "nested behind": b'{"model":"m","a":{"model":"n"}}',
    "in a text": b'{"a":"\\",\\"model\\":\\"n\\"","model":"m"}',
    "other case": b'{"Model":"n","model":"m"}',
    "blanks around": b' \t\r\n{ "model" : "m" } \n',
    "a form feed": b'\x0c{"model":"m"}',
    "a comment": b'{/*"model":"n",*/"model":"m"}',
    "single quotes": b"{'model':'m'}",
    "a comma at the end": b'{"model":"m",}',
    "something behind": b'{"model":"m"}{"model":"n"}',
    "NUL behind": b'{"model":"m"}\0',
    "a BOM": b'\xef\xbb\xbf{"model":"m"}',
    "UTF-16": '{"model":"m"}'.encode("utf-16"),
    "broken UTF-8": b'{"model":"m","a":"\xff\xfe"}',
    "overlong UTF-8": b'{"model":"\xc1\xad"}',
    "half a surrogate": b'{"model":"m","a":"\\ud800"}',
    "half a surrogate in the model": b'{"model":"\\ud800"}',
    "a control character": b'{"model":"m\n"}',
    "NaN": b'{"model":"m","a":NaN}',
    "Infinity": b'{"model":"m","a":-Infinity}',
    "a number beyond doubles": b'{"model":"m","a":1e999}',
    "a number of 10 000 digits": b'{"model":"m","a":' + b"9" * 10_000 + b"}",
    "leading zeros": b'{"model":"m","a":007}',
    "a plus": b'{"model":"m","a":+1}',
    "10 000 levels": b'{"model":"m","a":' + b"[" * 10_000 + b"]" * 10_000 + b"}",
    "200 levels": b'{"model":"m","a":' + b"[" * 200 + b"]" * 200 + b"}",
    "100 000 open levels": b'{"model":"m","a":' + b"[" * 100_000,
    "a number": b'{"model":1}',
    "null": b'{"model":null}',
    "a list": b'{"model":["m"]}',
    "an empty model": b'{"model":""}',
    "a list of requests": b'[{"model":"m"}]',
    "a text": b'"m"',
    "nothing": b"{}",
    "cut off": b'{"model":"m"',
    "20 000 names": b'{"model":"m"' + b"".join(b',"k%d":1' % number for number in range(20_000)) + b"}",
    "20 000 times the model": b'{"model":"m"' + b',"model":"m"' * 20_000 + b"}",
}


def add_to(group: Group) -> None:
    """Adds the family."""
    promise = "RFC 8259, section 4: what the router reads and what an engine reads is one model"
    group.family("bodies", promise, scene, read, BODIES, {"refused", "one model"})
