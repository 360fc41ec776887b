"""kiptail on a node: real packets, the kernel's log, a journald, and an API server as a process of its own."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from bench.programs import BenchError
from bench.report import Row
from tests.apiserver.process import ServerProcess
from tests.journald import Journald
from tests.netns import Network, network
from tests.pods import pod
from tests.running import Kiptail

__all__ = ["measure_node", "memory_of"]

_LEFT = [f"10.244.1.{n}" for n in range(1, 11)]
_RIGHT = [f"10.244.2.{n}" for n in range(1, 11)]
_FLOODING, _FLOODED = "10.244.3.1", "10.244.4.1"
#: Each pair loses one packet, with so many seconds between two of them.
_PAIRS = [(source, target) for source in _LEFT for target in _RIGHT]
_PAUSE = 0.1
#: Drops a second of the flood, and how long it lasts before and while the pairs lose theirs, in seconds.
_RATE = 5_000
_AHEAD = 5.0
_IDLE_SECONDS = 30.0
#: What is not there after so many seconds never comes.
_PATIENCE = 30.0

#: Sends through a socket that it inherits: descriptor, address, packets a second, seconds.
_FLOOD = """
import socket, sys, time
sender, rate, seconds = socket.socket(fileno=int(sys.argv[1])), float(sys.argv[3]), float(sys.argv[4])
begin, sent = time.monotonic(), 0
while (passed := time.monotonic() - begin) < seconds:
    while sent < passed * rate:
        sender.sendto(b"x", (sys.argv[2], 9))
        sent += 1
    time.sleep(0.002)
"""


class _Node:
    """What is measured, and what it runs on."""

    def __init__(self, net: Network, server: ServerProcess, kiptail: Kiptail) -> None:
        self._net, self._server, self._kiptail = net, server, kiptail
        self._sockets = {source: net.udp("left", source) for source in _LEFT}
        self._flooding = net.udp("flooding", _FLOODING)
        #: When both Events of a port's flow were there.
        self._told: dict[int, float] = {}
        self._thread = threading.Thread(target=self._watch, name="events", daemon=True)
        self._thread.start()

    def close(self) -> None:
        for each in (*self._sockets.values(), self._flooding):
            each.close()

    def latencies(self, first_port: int) -> list[float]:
        """Seconds from the packet to both Events, sorted; each pair loses one, to a port of its own."""
        sent: dict[int, float] = {}
        begin = time.monotonic()
        for number, (source, target) in enumerate(_PAIRS):
            time.sleep(max(0.0, begin + number * _PAUSE - time.monotonic()))
            sent[first_port + number] = time.monotonic()
            self._sockets[source].sendto(b"x", (target, first_port + number))
        deadline = time.monotonic() + _PATIENCE
        while not sent.keys() <= self._told.keys():
            if time.monotonic() > deadline:
                raise BenchError(f"{len(sent.keys() - self._told.keys())} of {len(sent)} drops were never told")
            time.sleep(0.02)
        return sorted(self._told[port] - at for port, at in sent.items())

    @contextlib.contextmanager
    def flood(self, seconds: float) -> Iterator[None]:
        """Drops of one flow, sent by a process of its own."""
        command = [sys.executable, "-c", _FLOOD, str(self._flooding.fileno()), _FLOODED, str(_RATE), str(seconds)]
        with subprocess.Popen(command, pass_fds=[self._flooding.fileno()]):  # noqa: S603 - fixed
            yield

    def flood_count(self) -> int:
        """The count of the flood's Event at its sender, once it no longer grows."""
        before, count = -1, 0
        while count != before or not count:
            before = count
            time.sleep(12.0)
            count = max((e["count"] for e in self._server.events() if e["message"].endswith("port 9/UDP")), default=0)
        return count

    def cpu(self) -> float:
        """Seconds that kiptail has computed."""
        fields = Path(f"/proc/{self._kiptail.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _watch(self) -> None:
        ends: Counter[int] = Counter()
        for event in self._server.new_events():
            port = re.search(r" port (\d+)/UDP$", event["message"])
            if port is not None:
                ends[int(port[1])] += 1
                if ends[int(port[1])] == 2:
                    self._told[int(port[1])] = time.monotonic()


def memory_of(pid: int) -> tuple[float, float]:
    """A process' RssAnon and RssFile in MiB: what it made, and the part of mapped files that is in memory."""
    status = Path(f"/proc/{pid}/status").read_text()
    anonymous, file = (re.search(rf"^{key}:\s+(\d+) kB", status, re.MULTILINE) for key in ("RssAnon", "RssFile"))
    if anonymous is None or file is None:
        raise BenchError("the kernel does not tell a process' memory")
    return int(anonymous[1]) / 1024, int(file[1]) / 1024


def measure_node() -> list[Row]:
    """One node from start to stop, as rows; needs root."""
    rows: list[Row] = []

    def row(name: str, unit: str, value: float) -> None:
        rows.append(Row(name, unit, [value]))

    def remember(when: str) -> None:
        for kind, value in zip(("RssAnon", "RssFile"), memory_of(kiptail.pid), strict=True):
            row(f"node: memory {when}, {kind}", "MiB", value)

    def quantiles(name: str, latencies: list[float]) -> None:
        for percent in (50, 99):
            at = min(len(latencies) - 1, len(latencies) * percent // 100)
            row(f"node: packet to Events, {name}, p{percent}", "ms", latencies[at] * 1000)

    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        prefix = f"kt-{secrets.token_hex(4)}:"
        net = stack.enter_context(network())
        for name, addresses in (("left", _LEFT), ("right", _RIGHT), ("flooding", [_FLOODING]), ("flooded", [_FLOODED])):
            net.add_pod(name, *addresses)
        net.drop(f"{prefix} ")
        journald = stack.enter_context(Journald(directory / "journald"))
        addresses = [*_LEFT, *_RIGHT, _FLOODING, _FLOODED]
        pods = [pod(f"pod-{n}", address, uid=f"uid-{n}") for n, address in enumerate(addresses)]
        server = stack.enter_context(ServerProcess(directory / "cluster", pods))
        begin = time.monotonic()
        kiptail = Kiptail(
            directory,
            "--kubeconfig", server.kubeconfig, "--journal-directory", journald.directory,
            "--state-directory", directory / "state", "--prefix", prefix, "--node-name", "worker-3",
            "--since", "now", "--repeat-interval", "10s", "--metrics-address", "off",
        )  # fmt: skip
        stack.enter_context(kiptail)
        row("node: start to READY", "ms", (time.monotonic() - begin) * 1000)
        node = _Node(net, server, kiptail)
        stack.callback(node.close)

        time.sleep(5.0)
        remember("idle")
        before = node.cpu()
        time.sleep(_IDLE_SECONDS)
        row(f"node: CPU idle, over {_IDLE_SECONDS:.0f} s", "%", (node.cpu() - before) / _IDLE_SECONDS * 100)

        quantiles("10 flows a second", node.latencies(20_000))

        before = node.cpu()
        with node.flood(_AHEAD + len(_PAIRS) * _PAUSE + _AHEAD):
            time.sleep(_AHEAD)
            quantiles(f"during {_RATE:,} drops/s", node.latencies(21_000))
            remember("in the flood")
        counted = node.flood_count()
        row("node: lines of the flood that the kernel's log held", "lines", counted)
        row("node: CPU per 10,000 drops in the flood", "s", (node.cpu() - before) / counted * 10_000)
        remember("after the flood")
    return rows
