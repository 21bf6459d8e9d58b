"""Starts processes on a core of their own, reads what they consume, and ends them.

CPU time is the scheduler's own account of each thread, in nanoseconds, from
`/proc/PID/task/*/schedstat`; its division into user and kernel is only known in
ticks of 10 ms.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

START_SECONDS = 15.0
STOP_SECONDS = 10.0
TICK_MICROSECONDS = 1e6 / os.sysconf("SC_CLK_TCK")


class BenchError(Exception):
    """The measurement cannot be made, or would not be worth anything."""


@dataclass(frozen=True)
class Started:
    """A process that this program started."""

    pid: int
    log: Path
    poll: Callable[[], int | None]

    def tail(self) -> str:
        """Returns the end of what it wrote."""
        return self.log.read_text(errors="replace")[-2000:]


@dataclass(frozen=True)
class Cpu:
    """CPU time that a process has consumed, in microseconds."""

    total: float
    user_ticks: float
    kernel_ticks: float

    def since(self, before: Cpu) -> Cpu:
        """Returns what was consumed after `before`."""
        return Cpu(
            self.total - before.total,
            self.user_ticks - before.user_ticks,
            self.kernel_ticks - before.kernel_ticks,
        )

    @property
    def user_share(self) -> float:
        """Returns the share of it that was spent outside of the kernel."""
        ticks = self.user_ticks + self.kernel_ticks
        return self.user_ticks / ticks if ticks > 0 else 0.0


@contextmanager
def started(
    name: str, core: int | str, command: list[str], directory: Path
) -> Iterator[Started]:
    """Runs a command on a core, or on some (`0,1`), for as long as the context lasts."""
    log = directory / f"{name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["taskset", "-c", str(core), *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=directory,
            # Options of the environment must not change what is measured.
            env={"PATH": os.environ.get("PATH", os.defpath)},
            start_new_session=True,
        )
    try:
        yield Started(process.pid, log, process.poll)
    finally:
        stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ends a process, and with it its children, which share its group."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(STOP_SECONDS)


def wait_until(name: str, process: Started, ready: Callable[[], bool]) -> None:
    """Waits until a process is ready; it must not end before."""
    deadline = time.monotonic() + START_SECONDS
    while not ready():
        if process.poll() is not None:
            raise BenchError(f"{name} ended at its start:\n{process.tail()}")
        if time.monotonic() > deadline:
            raise BenchError(f"{name} is not ready in time:\n{process.tail()}")
        time.sleep(0.05)


def accepts(address: str, port: int) -> bool:
    """Says whether a port takes connections."""
    try:
        with socket.create_connection((address, port), timeout=1.0):
            return True
    except OSError:
        return False


def free_ports(addresses: list[str], count: int) -> list[int]:
    """Returns ports that are free on each of these addresses."""
    ports: list[int] = []
    for _ in range(count * 20):
        with socket.socket() as first:
            first.bind((addresses[0], 0))
            port = int(first.getsockname()[1])
            if port not in ports and all(
                is_free(other, port) for other in addresses[1:]
            ):
                ports.append(port)
        if len(ports) == count:
            return ports
    raise BenchError("there are not enough free ports on the loopback addresses")


def is_free(address: str, port: int) -> bool:
    """Says whether a port could be bound."""
    with socket.socket() as probe:
        try:
            probe.bind((address, port))
        except OSError:
            return False
        return True


def cpu_of(pid: int) -> Cpu:
    """Returns what all threads of a process have consumed until now."""
    nanoseconds = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            nanoseconds += int((task / "schedstat").read_text().split()[0])
        except (FileNotFoundError, ProcessLookupError):
            # A thread that has just ended was idle before, or it would not end.
            continue
    # The command's name, in parentheses, may hold anything.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return Cpu(
        nanoseconds / 1e3,
        int(fields[11]) * TICK_MICROSECONDS,
        int(fields[12]) * TICK_MICROSECONDS,
    )


def core_busy(core: int) -> float:
    """Returns for how many microseconds a core has not been idle until now."""
    for line in Path("/proc/stat").read_text().splitlines():
        name, *ticks = line.split()
        if name == f"cpu{core}":
            user, nice, system, _idle, _wait, irq, soft_irq, steal = map(int, ticks[:8])
            busy = user + nice + system + irq + soft_irq + steal
            return busy * TICK_MICROSECONDS
    raise BenchError(f"there is no core {core}")


def children_of(pid: int) -> list[int]:
    """Returns the processes that a process started."""
    children = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[1]) == pid:
            children.append(int(status.parent.name))
    return sorted(children)


def resident_megabytes(pid: int) -> tuple[float, float]:
    """Returns the memory of a process now and at its peak."""
    sizes = {"VmRSS": 0.0, "VmHWM": 0.0}
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name in sizes:
            sizes[name] = int(value.split()[0]) / 1024
    return sizes["VmRSS"], sizes["VmHWM"]
