"""kiptail on a node: real packets, the kernel's log, a journald, and an API server as a process of its own."""

from __future__ import annotations

import contextlib
import re
import secrets
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.programs import BenchError
from tests.apiserver.process import ServerProcess
from tests.support.journald import Journald
from tests.support.netns import Network, network
from tests.support.pods import pod
from tests.support.running import Kiptail

__all__ = ["measure_node", "memory_of"]

_FLOODING, _FLOODED = "10.244.3.1", "10.244.4.1"
#: Flows that an address may have at each end before they are folded, and the fewest addresses that make flows of it.
_FLOWS_PER_ADDRESS = 20
#: A flow loses one packet, with so many seconds between two of them.
_PAUSE = 0.1
#: Drops a second of the flood, and how long it lasts before and after the flows in it, in seconds.
_RATE = 5_000
_AHEAD = 20.0
_BEHIND = 5.0
_IDLE_SECONDS = 30.0
#: What is not there after so many seconds never comes.
_PATIENCE = 30.0

#: Sends through a socket that it inherits (descriptor, address, packets a second, seconds), and says how many.
_FLOOD = """
import socket, sys, time
sender, rate, seconds = socket.socket(fileno=int(sys.argv[1])), float(sys.argv[3]), float(sys.argv[4])
begin, sent = time.monotonic(), 0
while (passed := time.monotonic() - begin) < seconds:
    while sent < passed * rate:
        sender.sendto(b"x", (sys.argv[2], 9))
        sent += 1
    time.sleep(0.002)
print(sent)
"""


@dataclass(frozen=True, slots=True)
class _Figure:
    """What was measured once."""

    name: str
    unit: str
    value: float


class _Node:
    """What is measured, and what it runs on."""

    def __init__(self, net: Network, server: ServerProcess, kiptail: Kiptail, sources: Iterable[str]) -> None:
        self._server, self._kiptail = server, kiptail
        self._sockets = {source: net.udp("left", source) for source in sources}
        self._flooding = net.udp("flooding", _FLOODING)
        #: When both Events of a port's flow were there.
        self._told: dict[int, float] = {}
        #: The most memory so far, without the journal's pages, in MiB.
        self.peak = 0.0
        self.sent = 0
        for work in (self._watch_events, self._watch_memory):
            threading.Thread(target=work, name=work.__name__, daemon=True).start()

    def close(self) -> None:
        for each in (*self._sockets.values(), self._flooding):
            each.close()

    def latencies(self, pairs: Sequence[tuple[str, str]], first_port: int) -> list[float]:
        """Seconds from the packet to both Events, sorted; each pair loses one, to a port of its own."""
        sent: dict[int, float] = {}
        begin = time.monotonic()
        for number, (source, target) in enumerate(pairs):
            time.sleep(max(0.0, begin + number * _PAUSE - time.monotonic()))
            sent[first_port + number] = time.monotonic()
            self._sockets[source].sendto(b"x", (target, first_port + number))
        deadline = time.monotonic() + _PATIENCE
        while not sent.keys() <= self._told.keys():
            if time.monotonic() > deadline:
                raise BenchError(f"{len(sent.keys() - self._told.keys())} of {len(sent)} drops were never told")
            time.sleep(0.02)
        return sorted(self._told[port] - at for port, at in sent.items())

    def idle(self) -> float:
        """CPU seconds a second while nothing happens."""
        before = self.cpu()
        time.sleep(_IDLE_SECONDS)
        return (self.cpu() - before) / _IDLE_SECONDS

    def new_flows(self, pairs: Sequence[tuple[str, str]], first_port: int, idle: float) -> tuple[list[float], float]:
        """As :meth:`latencies`, and CPU seconds a flow beyond those of an ``idle`` second."""
        before, since = self.cpu(), time.monotonic()
        latencies = self.latencies(pairs, first_port)
        return latencies, (self.cpu() - before - idle * (time.monotonic() - since)) / len(pairs)

    @contextlib.contextmanager
    def flood(self, seconds: float) -> Iterator[None]:
        """Drops of one flow, sent by a process of its own."""
        command = [sys.executable, "-c", _FLOOD, str(self._flooding.fileno()), _FLOODED, str(_RATE), str(seconds)]
        with subprocess.Popen(  # noqa: S603 - fixed
            command, pass_fds=[self._flooding.fileno()], stdout=subprocess.PIPE, text=True
        ) as flooding:
            yield
            self.sent = int(flooding.communicate()[0])

    def flood_count(self) -> int:
        """The count of the flood's Event at its sender, once it no longer grows."""
        before, count = -1, 0
        while count != before or not count:
            before = count
            time.sleep(12.0)
            count = max((e["count"] for e in self._server.events() if e["message"].endswith("port 9/UDP")), default=0)
        return count

    def cpu(self) -> float:
        """Seconds that kiptail has computed: its CPU clock (clock_getcpuclockid(3)); /proc counts in 0.01 s."""
        return time.clock_gettime(~self._kiptail.pid << 3 | 2)

    def _watch_events(self) -> None:
        ends: Counter[int] = Counter()
        for event in self._server.new_events():
            port = re.search(r" port (\d+)/UDP$", event["message"])
            if port is not None:
                ends[int(port[1])] += 1
                if ends[int(port[1])] == 2:
                    self._told[int(port[1])] = time.monotonic()

    def _watch_memory(self) -> None:
        with contextlib.suppress(OSError):  # it has ended
            while True:
                self.peak = max(self.peak, _without_journal(self._kiptail.pid))
                time.sleep(0.25)


def memory_of(pid: int) -> tuple[float, float]:
    """A process' RssAnon and RssFile in MiB: what it made, and the part of mapped files that is in memory."""
    status = Path(f"/proc/{pid}/status").read_text()
    anonymous, file = (re.search(rf"^{key}:\s+(\d+) kB", status, re.MULTILINE) for key in ("RssAnon", "RssFile"))
    if anonymous is None or file is None:
        raise BenchError("the kernel does not tell a process' memory")
    return int(anonymous[1]) / 1024, int(file[1]) / 1024


def _without_journal(pid: int) -> float:
    """A process' memory in MiB less the pages of journal files, which the kernel takes back when it likes."""
    kib, journal = 0, False
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        if line.startswith("Rss:"):
            kib += 0 if journal else int(line.split()[1])
        elif re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            journal = ".journal" in line
    return kib / 1024


def measure_node(index: str, flows: int) -> list[_Figure]:
    """One node from start to stop, with ``flows`` flows twice; needs root."""
    figures: list[_Figure] = []

    def tell(name: str, unit: str, value: float) -> None:
        figures.append(_Figure(f"{index} index: {name}", unit, value))

    def remember(when: str) -> None:
        for kind, value in zip(("RssAnon", "RssFile"), memory_of(kiptail.pid), strict=True):
            tell(f"memory {when}, {kind}", "MiB", value)

    def quantiles(name: str, latencies: Sequence[float]) -> None:
        for percent in (50, 99):
            at = min(len(latencies) - 1, len(latencies) * percent // 100)
            tell(f"packet to Events, {name}, p{percent}", "ms", latencies[at] * 1000)

    quiet, flooded, left, right = _pairs(flows)
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        prefix = f"kt-{secrets.token_hex(4)}:"
        net = stack.enter_context(network())
        for name, addresses in (("left", left), ("right", right), ("flooding", [_FLOODING]), ("flooded", [_FLOODED])):
            net.add_pod(name, *addresses)
        net.drop(f"{prefix} ")
        journald = stack.enter_context(Journald(directory / "journald"))
        # The targets are another node's: an index of one node has to look them up.
        nodes = {"worker-3": (*left, _FLOODING), "worker-4": (*right, _FLOODED)}
        pods = [
            pod(f"pod-{address}", address, uid=f"uid-{address}", node=node)
            for node, addresses in nodes.items()
            for address in addresses
        ]
        server = stack.enter_context(ServerProcess(directory / "cluster", pods))
        begin = time.monotonic()
        kiptail = Kiptail(
            directory,
            "--kubeconfig", server.kubeconfig, "--journal-directory", journald.directory, "--pod-index", index,
            "--state-directory", directory / "state", "--prefix", prefix, "--node-name", "worker-3",
            "--since", "now", "--repeat-interval", "10s", "--metrics-address", "off",
        )  # fmt: skip
        stack.enter_context(kiptail)
        tell("start to READY", "ms", (time.monotonic() - begin) * 1000)
        node = _Node(net, server, kiptail, left)
        stack.callback(node.close)

        time.sleep(5.0)
        remember("idle")
        idle = node.idle()
        tell(f"CPU idle, over {_IDLE_SECONDS:.0f} s", "%", idle * 100)

        latencies, cost = node.new_flows(quiet, 20_000, idle)
        quantiles(f"{flows:,} flows, 10 a second", latencies)
        tell("CPU a new flow, with its two Events", "ms", cost * 1000)

        before = node.cpu()
        with node.flood(_AHEAD + flows * _PAUSE + _BEHIND):
            time.sleep(_BEHIND)
            steady, since = node.cpu(), time.monotonic()
            time.sleep(_AHEAD - _BEHIND)
            drops = _RATE * (time.monotonic() - since)
            tell(f"CPU a drop, of {_RATE:,} a second", "µs", (node.cpu() - steady) / drops * 1e6)
            quantiles(f"the same during {_RATE:,} drops/s", node.latencies(flooded, 20_000 + flows))
            remember("in the flood")
        counted = node.flood_count()
        if counted != node.sent:
            raise BenchError(f"{node.sent:,} packets of the flood were sent, {counted:,} counted")
        tell("packets of the flood, sent and counted", "", counted)
        tell("CPU a drop, with flood, new flows and Events", "µs", (node.cpu() - before) / counted * 1e6)
        remember("after the flood")
        tell("memory without the journal's pages, most", "MiB", node.peak)
    return figures


def _pairs(flows: int) -> tuple[list[tuple[str, str]], list[tuple[str, str]], list[str], list[str]]:
    """Source and target of so many flows, of as many others, and all sources and targets: as few as budgets allow."""
    each = max(_FLOWS_PER_ADDRESS, -(-flows // _FLOWS_PER_ADDRESS))
    left, right = ([f"10.244.{net}.{number}" for number in range(1, 2 * each + 1)] for net in (1, 2))
    pairs = [(n % each, (n + n // each) % each) for n in range(flows)]
    first, second = ([(left[s + shift], right[t + shift]) for s, t in pairs] for shift in (0, each))
    return first, second, left, right
