"""The machine that kiptail runs on: which it is, which addresses are its own, and whose packets its kernel logs."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import systemd.id128 as systemd_id128

from kiptail.daemon.host_addresses import HostAddresses

__all__ = ["ThisMachine", "logs_all_namespaces", "machine_id"]

ALL_NETNS = Path("/proc/sys/net/netfilter/nf_log_all_netns")

#: What makes of a machine's id one of kiptail's own: machine-id(5) asks not to hand out the id itself.
_APPLICATION = UUID("8f0d3d5c6f0b4f6fa1b7d9a5a4e2c1b3")

#: Seconds until the setting is read again.
_SETTING_AGE = 10.0


def machine_id() -> str:
    """What tells this machine from others, of 32 hexadecimal digits; "" where that is not known.

    Not known: without /etc/machine-id, as in many containers, and before the first boot has set it.
    Source: sd_id128_get_machine_app_specific(3).
    """
    try:
        return str(systemd_id128.get_machine_app_specific(_APPLICATION).hex)
    except OSError:
        return ""


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
