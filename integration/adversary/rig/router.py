"""The router as a process, and what the kernel says of it."""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from rig.network import PORT, Network, free_port

START_SECONDS = 15.0
STOP_SECONDS = 5.0
TICKS = os.sysconf("SC_CLK_TCK")


class RigError(Exception):
    """A case cannot be tried, because what it is tried on does not come up."""


class Router:
    """A router that serves a directory of manifests until it is ended."""

    def __init__(
        self,
        binary: Path,
        network: Network,
        manifests: Path,
        flags: Sequence[str] = (),
        stderr: int | None = None,
    ) -> None:
        self.address = network.host(1)
        self.metrics_port = free_port(self.address)
        self.debug_port = free_port()
        self._directory = tempfile.TemporaryDirectory(prefix="adversary-router-")
        self.access_log = Path(self._directory.name) / "access.log"
        self._output = Path(self._directory.name) / "output.log"
        own = {
            "--manifests": str(manifests),
            # The default Gateway is in the namespace of all other objects.
            "--pod-namespace": "default",
            "--bind-address": self.address,
            "--port": str(PORT),
            "--metrics-port": str(self.metrics_port),
            "--debug-port": str(self.debug_port),
            "--workers": "1",
            "--pod-namespace": "default",
            "--metrics-scrape-interval": "200ms",
            "--access-log-output": str(self.access_log),
            "--drain-timeout": "1s",
        }
        given = {flag.partition("=")[0] for flag in flags}
        command = [f"{name}={value}" for name, value in own.items() if name not in given]
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                [str(binary), *command, *flags],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output if stderr is None else stderr,
                # Options of the environment must not change what is tried.
                env={"PATH": os.environ.get("PATH", os.defpath)},
            )

    @property
    def pid(self) -> int:
        """The process."""
        return self.process.pid

    def is_alive(self) -> bool:
        """Says whether the process has not ended."""
        return self.process.poll() is None

    def is_ready(self) -> bool:
        """Says whether the router says that it is ready."""
        try:
            return self.page("/readyz")[0] == 200
        except OSError:
            return False

    def wait_until_ready(self) -> None:
        """Waits until the router is ready; it must not end before."""
        if not wait_for(lambda: not self.is_alive() or self.is_ready(), START_SECONDS) or not self.is_alive():
            raise RigError(f"the router is not ready: {self.printed()[-2000:]}")

    def page(self, path: str, port: int | None = None, host: str | None = None) -> tuple[int, str]:
        """Fetches a page of the metrics port, or of another port; returns its status and text."""
        on_loopback = port == self.debug_port
        address = "127.0.0.1" if on_loopback else self.address
        connection = http.client.HTTPConnection(address, port or self.metrics_port, timeout=5.0)
        try:
            connection.request("GET", path, headers={"Host": host} if host else {})
            answer = connection.getresponse()
            return answer.status, answer.read().decode(errors="replace")
        except http.client.HTTPException as error:
            raise ConnectionError(str(error)) from error
        finally:
            connection.close()

    def metric(self, name: str, *labels: str) -> float:
        """Returns the sum of a metric over the series that have all of these labels."""
        total = 0.0
        for line in self.page("/metrics")[1].splitlines():
            if line.split("{")[0].split(" ")[0] == name and all(label in line for label in labels):
                total += float(line.rsplit(" ", 1)[1])
        return total

    def printed(self) -> str:
        """Returns what the process has written to its standard output and error."""
        return self._output.read_text(errors="replace")

    def logged(self) -> str:
        """Returns the access log."""
        return self.access_log.read_text(errors="replace") if self.access_log.exists() else ""

    def signal(self, number: int) -> None:
        """Sends a signal to this process alone."""
        if self.is_alive():
            os.kill(self.pid, number)

    def resident(self) -> float:
        """Returns the resident memory in MB."""
        return self._status("VmRSS") / 1024

    def peak(self) -> float:
        """Returns the most resident memory since `forget_peak`, in MB."""
        return self._status("VmHWM") / 1024

    def forget_peak(self) -> None:
        """Lets the peak begin anew at what is resident now."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def descriptors(self) -> int:
        """Returns the number of open descriptors."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def threads(self) -> int:
        """Returns the number of threads."""
        return self._status("Threads")

    def cpu_seconds(self) -> float:
        """Returns the CPU time consumed until now."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def waited_seconds(self) -> float:
        """Returns the time that its threads could have run and had no core until now."""
        tasks = Path(f"/proc/{self.pid}/task").iterdir()
        return sum(int((task / "schedstat").read_text().split()[1]) for task in tasks) / 1e9

    def exit_code(self, seconds: float = STOP_SECONDS) -> int | None:
        """Waits for the end of the process, and returns its code, or nothing if it does not end in time."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def end(self) -> None:
        """Ends the process, and removes what it has written."""
        if self.is_alive():
            self.process.send_signal(signal.SIGKILL)
            self.process.wait(STOP_SECONDS)
        self._directory.cleanup()

    def _status(self, field: str) -> int:
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            name, _, value = line.partition(":")
            if name == field:
                return int(value.split()[0])
        return 0


def wait_for(condition: Callable[[], bool], seconds: float, pause: float = 0.02) -> bool:
    """Waits until a condition is true; returns whether it became true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(pause)
    return True
