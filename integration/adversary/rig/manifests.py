"""Kubernetes objects as YAML, and the directory that the router reads them from.

JSON is YAML, so objects are written as JSON documents: nothing has to be escaped by hand.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rig.network import ENGINE_PORT

Object = dict[str, Any]
GATEWAY_API = "gateway.networking.k8s.io/v1"
NATIVE_API = "networking.serving.volcano.sh/v1alpha1"
SERVICE_PORT = 80


class Manifests:
    """A directory of manifests."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def write(self, name: str, objects: Iterable[Object]) -> None:
        """Replaces a file as a whole, as careful editors do."""
        draft = self.directory / f".{name}.draft"
        draft.write_text(text_of(objects))
        os.replace(draft, self.directory / name)

    def remove(self, name: str) -> None:
        """Removes a file."""
        (self.directory / name).unlink()


def text_of(objects: Iterable[Object]) -> str:
    """Returns objects as the text of a manifest."""
    return "".join(json.dumps(each) + "\n---\n" for each in objects)


def _object(version: str, kind: str, name: str, spec: Mapping[str, Any] | None = None, **more: Any) -> Object:
    made: Object = {"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": "default"}}
    if spec is not None:
        made["spec"] = dict(spec)
    return made | more


def listener(name: str, port: int, hostname: str | None = None, secret: str | None = None) -> Object:
    """Returns a listener of a Gateway; with a Secret it speaks HTTPS."""
    made: Object = {"name": name, "port": port, "protocol": "HTTPS" if secret else "HTTP"}
    if hostname:
        made["hostname"] = hostname
    if secret:
        made["tls"] = {"certificateRefs": [{"name": secret}]}
    return made


def gateway(name: str, listeners: Sequence[Object], tls: Mapping[str, Any] | None = None) -> Object:
    """Returns a Gateway of the router's class."""
    spec: Object = {"gatewayClassName": "kthena-router", "listeners": list(listeners)}
    if tls:
        spec["tls"] = dict(tls)
    return _object(GATEWAY_API, "Gateway", name, spec)


def http_route(
    name: str, parent: str, rules: Sequence[Object], hostnames: Sequence[str] = (), section: str | None = None
) -> Object:
    """Returns an HTTPRoute on a Gateway, or on one of its listeners."""
    reference = {"name": parent} | ({"sectionName": section} if section else {})
    spec = {"parentRefs": [reference], "hostnames": list(hostnames), "rules": list(rules)}
    return _object(GATEWAY_API, "HTTPRoute", name, spec)


def rule(prefix: str, backend: str, **more: Any) -> Object:
    """Returns a rule that leads a prefix of paths to a Service."""
    return {
        "matches": [{"path": {"type": "PathPrefix", "value": prefix}}],
        "backendRefs": [{"name": backend, "port": SERVICE_PORT}],
    } | more


def pool_rule(prefix: str, pool: str, **more: Any) -> Object:
    """Returns a rule that leads a prefix of paths to an InferencePool."""
    reference = {"group": "inference.networking.k8s.io", "kind": "InferencePool", "name": pool}
    return {"matches": [{"path": {"type": "PathPrefix", "value": prefix}}], "backendRefs": [reference]} | more


def service(name: str, addresses: Sequence[str], protocol: str | None = None, port: int = ENGINE_PORT) -> list[Object]:
    """Returns a Service and its EndpointSlice; the protocol is the `appProtocol` of its port."""
    service_port: Object = {"name": "main", "port": SERVICE_PORT, "targetPort": port}
    if protocol:
        service_port["appProtocol"] = protocol
    slices = _object("discovery.k8s.io/v1", "EndpointSlice", f"{name}-1", addressType="IPv4")
    slices["metadata"]["labels"] = {"kubernetes.io/service-name": name}
    slices["ports"] = [{"name": "main", "port": port}]
    slices["endpoints"] = [{"addresses": [address]} for address in addresses]
    return [_object("v1", "Service", name, {"ports": [service_port]}), slices]


def pod(name: str, app: str, address: str, **labels: str) -> Object:
    """Returns a running Pod of an app."""
    made = _object("v1", "Pod", name, status={"podIP": address})
    made["metadata"]["labels"] = {"app": app} | labels
    return made


def pods(app: str, addresses: Sequence[str]) -> list[Object]:
    """Returns a Pod of an app for each address."""
    return [pod(f"{app}-{address.rsplit('.', 1)[1]}", app, address) for address in addresses]


def model_server(name: str, **more: Any) -> Object:
    """Returns a ModelServer that serves a model of its own name by the Pods of the app of that name."""
    spec = {
        "model": name,
        "inferenceEngine": "vLLM",
        "workloadSelector": {"matchLabels": {"app": name}},
        "workloadPort": {"port": ENGINE_PORT},
    } | more
    return _object(NATIVE_API, "ModelServer", name, spec)


def model_route(name: str, model: str, server: str, parent: str = "default", **more: Any) -> Object:
    """Returns a ModelRoute of a model to a ModelServer."""
    spec = {
        "modelName": model,
        "parentRefs": [{"name": parent}],
        "rules": [{"targetModels": [{"modelServerName": server}]}],
    } | more
    return _object(NATIVE_API, "ModelRoute", name, spec)


def inference_pool(name: str, app: str) -> Object:
    """Returns an InferencePool of the Pods of an app."""
    spec = {"selector": {"matchLabels": {"app": app}}, "targetPorts": [{"number": ENGINE_PORT}]}
    return _object("inference.networking.k8s.io/v1", "InferencePool", name, spec)


def tls_secret(name: str, certificate: str, key: str) -> Object:
    """Returns a Secret with a certificate and its key, in PEM."""
    made = _object("v1", "Secret", name, type="kubernetes.io/tls")
    return made | {"stringData": {"tls.crt": certificate, "tls.key": key}}


def authority_map(name: str, authority: str) -> Object:
    """Returns a ConfigMap with the certificate of an authority, in PEM."""
    return _object("v1", "ConfigMap", name, data={"ca.crt": authority})
