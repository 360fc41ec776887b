"""A node whose pods lose packets: real packets, a real journald, and kiptail as a process.

The packets are UDP and go from one *place* (a network namespace behind the node) to another. A place has any number of
addresses, each of which is a pod to kiptail, which knows pods by nothing else.
"""

from __future__ import annotations

import contextlib
import secrets
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.support.journald import Journald
from tests.support.netns import Network, network
from tests.support.pods import pod
from tests.support.running import Kiptail, run_kiptail
from tests.support.tally import Lost, dropped

__all__ = ["NODE_NAME", "Scene", "scene"]

NODE_NAME = "worker-3"


class Scene:
    """Made by :func:`scene`; ``prefix`` is that of its log lines, for the kernel log is everyone's."""

    def __init__(self, directory: Path, net: Network, journald: Journald, places: Mapping[str, Sequence[str]]) -> None:
        self.directory, self.journald = directory, journald
        self.prefix = f"kt-{secrets.token_hex(4)}:"
        self._began = int(time.time())
        self._sockets: dict[tuple[str, int], socket.socket] = {}
        self._lock = threading.Lock()
        #: Names by address: PLACE-1, PLACE-2, …
        self.pods: dict[str, str] = {}
        self.net, self._place_of = net, {}
        for place, addresses in places.items():
            net.add_pod(place, *addresses)
            for number, address in enumerate(addresses, 1):
                self.pods[address], self._place_of[address] = f"{place}-{number}", place
        net.drop(f"{self.prefix} ")
        #: Packets so far.
        self.sent = 0

    def pod_objects(self) -> list[dict[str, Any]]:
        """The pods for an API server, with UIDs that are the same wherever they are put."""
        return [pod(name, address, uid=f"uid-of-{name}") for address, name in self.pods.items()]

    def drop(self, source: str, target: str, port: int, count: int = 1, *, source_port: int = 0) -> None:
        """Send packets, which are logged and dropped; any thread may. ``source_port`` 0: any, the same each time."""
        with self._lock:
            if (source, source_port) not in self._sockets:
                self._sockets[source, source_port] = self.net.udp(self._place_of[source], source, source_port)
            for _ in range(count):
                self._sockets[source, source_port].sendto(b"x", (target, port))
            self.sent += count

    def lines(self) -> Counter[Lost]:
        """What the journal holds of it, once journald has caught up."""
        deadline = time.monotonic() + 10
        before = -1
        while True:
            found = dropped(self.journald, self.prefix)
            # printk may lose lines: what does not grow any more is all.
            total = sum(found.values())
            if total in (self.sent, before) or time.monotonic() > deadline:
                return found
            before = total
            time.sleep(0.5)

    def arguments(self, kubeconfig: Path, *more: object, state: Path | None = None) -> tuple[object, ...]:
        """kiptail's command line, to read this journal from its start."""
        return (
            "--kubeconfig", kubeconfig,
            "--journal-directory", self.journald.directory,
            "--state-directory", state or self.directory / "state",
            "--prefix", self.prefix,
            "--node-name", NODE_NAME,
            "--since", f"@{self._began}",
            "--repeat-interval", "1s",
            "--metrics-address", "off",
            *more,
        )  # fmt: skip

    def kiptail(self, kubeconfig: Path, *more: object, state: Path | None = None, **options: Any) -> Kiptail:
        """A kiptail that follows this journal."""
        return Kiptail(self.directory, *self.arguments(kubeconfig, *more, state=state), **options)

    def read_at_once(self, kubeconfig: Path) -> None:
        """Have a kiptail that nothing interrupts read the whole journal, with a state of its own."""
        state = self.directory / f"state-{secrets.token_hex(4)}"
        done = run_kiptail(*self.arguments(kubeconfig, "--no-follow", state=state), timeout=120)
        assert done.returncode == 0, done.stderr.decode()

    def close(self) -> None:
        for each in self._sockets.values():
            each.close()


@contextlib.contextmanager
def scene(directory: Path, places: Mapping[str, Sequence[str]]) -> Iterator[Scene]:
    """``places`` are the addresses in each place; packets between two places are dropped."""
    with network() as net, Journald(directory / "journald") as journald:
        made = Scene(directory, net, journald, places)
        try:
            yield made
        finally:
            made.close()
