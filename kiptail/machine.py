"""The machine that kiptail runs on: which addresses are its own, and whose packets its kernel logs."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from kiptail.hostaddresses import HostAddresses

__all__ = ["ThisMachine", "logs_all_namespaces"]

ALL_NETNS = Path("/proc/sys/net/netfilter/nf_log_all_netns")

#: The setting is read again after so many seconds.
_SETTING_AGE = 10.0


def logs_all_namespaces() -> bool:
    """Whether other network namespaces than the first one can make the kernel log packets."""
    try:
        return ALL_NETNS.read_text().strip() == "1"
    except OSError:
        return False  # an older kernel, or hidden by a sandbox


class ThisMachine:
    """This machine as a node of the cluster; any thread may ask."""

    def __init__(
        self,
        name: str,
        addresses: HostAddresses | None = None,
        *,
        logs_all: Callable[[], bool] = logs_all_namespaces,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``name`` is the node's."""
        self.name = name
        self._addresses = addresses or HostAddresses()
        self._logs_all, self._clock = logs_all, clock
        self._alone, self._alone_until = False, float("-inf")

    def has(self, address: str) -> bool:
        """The address is its own."""
        return self._addresses.has(address)

    def logs_alone(self) -> bool:
        """Only its first network namespace logs: ``IN=`` and ``OUT=`` in a line are then about the machine itself."""
        now = self._clock()
        if now >= self._alone_until:
            self._alone, self._alone_until = not self._logs_all(), now + _SETTING_AGE
        return self._alone
