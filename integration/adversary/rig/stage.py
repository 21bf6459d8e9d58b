"""A router with its backends and manifests: what cases are tried on."""

from __future__ import annotations

import itertools
import ssl
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from rig import manifests
from rig.backend import OK, Backend, Play, always
from rig.backend2 import Http2Backend, Script
from rig.manifests import Manifests, Object
from rig.network import PORT, Network
from rig.router import Router

Address = tuple[str, int]


class Stage:
    """A network with backends, manifests, and, once it is started, a router."""

    def __init__(self, binary: Path) -> None:
        self.binary = binary
        self.network = Network()
        self._directory = tempfile.TemporaryDirectory(prefix="adversary-stage-")
        self.manifests = Manifests(Path(self._directory.name))
        self.backends: list[Backend] = []
        self._router: Router | None = None
        self._hosts = itertools.count(10)
        self._tags = itertools.count(1)

    @property
    def router(self) -> Router:
        """The router, which has been started."""
        assert self._router is not None
        return self._router

    @property
    def address(self) -> Address:
        """The default Gateway's port."""
        return self.at(PORT)

    def at(self, port: int) -> Address:
        """Returns the address of a port of the router."""
        return self.network.host(1), port

    def free_host(self) -> str:
        """Returns an address for a backend, which no other has."""
        return self.network.host(next(self._hosts))

    def tag(self) -> str:
        """Returns a word that no other case of this stage has."""
        return f"case-{next(self._tags):04}-"

    def backend(
        self,
        play: Play = always(OK),
        tls: ssl.SSLContext | None = None,
        is_engine: bool = True,
        receive_buffer: int | None = None,
    ) -> Backend:
        """Starts a backend on an address of its own."""
        made = Backend(self.free_host(), play, tls, is_engine, receive_buffer)
        self.backends.append(made)
        return made

    def backend2(self, script: Script = Script(), tls: ssl.SSLContext | None = None) -> Http2Backend:
        """Starts a backend that speaks HTTP/2."""
        made = Http2Backend(self.free_host(), script, tls)
        self.backends.append(made)
        return made

    def write(self, name: str, objects: Iterable[Object]) -> None:
        """Writes a manifest file."""
        self.manifests.write(name, objects)

    def serve(
        self, name: str, prefix: str, backends: Sequence[Backend], protocol: str | None = None, **rule: object
    ) -> None:
        """Leads a prefix of paths on the default Gateway to backends, by a Service of this name."""
        objects = manifests.service(name, [backend.address for backend in backends], protocol)
        route = manifests.http_route(name, "default", [manifests.rule(prefix, name, **rule)])
        self.write(f"serve-{name}.yaml", [*objects, route])

    def serve_model(self, model: str, backends: Sequence[Backend], **server: object) -> None:
        """Leads a model on the default Gateway to engines."""
        pods = manifests.pods(model, [backend.address for backend in backends])
        route = manifests.model_route(model, model, model)
        self.write(f"model-{model}.yaml", [*pods, manifests.model_server(model, **server), route])

    def start(self, *flags: str, stderr: int | None = None) -> Router:
        """Starts the router on what was written, and waits until it is ready."""
        self._router = Router(self.binary, self.network, self.manifests.directory, flags, stderr)
        self._router.wait_until_ready()
        return self._router

    def close(self) -> None:
        """Ends the router and the backends."""
        if self._router:
            self._router.end()
        for backend in self.backends:
            backend.close()
        self._directory.cleanup()


Scene = Callable[[Stage], None]
"""What is on a stage when its cases begin; it starts the router."""
