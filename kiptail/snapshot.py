"""Pods from a file: what an offline dry run asks instead of a cluster."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from kiptail.errors import SettingsError
from kiptail.indexstats import IndexStats
from kiptail.ownership import NEVER, Hands, Owned, Ownership, Pod, hands_of, reduce_pod

__all__ = ["SnapshotIndex", "load_pods"]


class SnapshotIndex:
    """Pods that do not change."""

    #: There is nothing that could fail.
    trouble = ""

    def __init__(self, pods: list[Pod], *, now_us: int, wall_us: Callable[[int], int] = int) -> None:
        """``wall_us`` makes times of the wall clock, as the pods' are, of those that are asked for."""
        self._wall_us = wall_us
        self._ownership = Ownership()
        self._ownership.replace(pods, now_us=now_us, seen_us=now_us)

    def ready(self) -> bool:
        """A snapshot is complete."""
        return True

    def current(self) -> bool:
        """There is no news to wait for."""
        return True

    def fresh_us(self) -> int:
        """All there is is known."""
        return NEVER

    def owned(self, address: str, at_us: int) -> Owned:
        """As :meth:`Ownership.owned`."""
        return self._ownership.owned(address, self._wall_us(at_us))

    def recorded(self, address: str, at_us: int) -> Owned:
        """As :meth:`Ownership.owned`."""
        return self.owned(address, at_us)

    def contested(self, address: str, at_us: int) -> bool:
        """A snapshot does not change."""
        return False

    def hands(self, address: str) -> Hands:
        """When the address changed hands, or may have."""
        return hands_of(self._ownership.intervals(address))

    def dates(self, address: str, uid: str) -> bool:
        """It is known when the pod with this UID had the address."""
        return any(interval.ref.uid == uid for interval in self._ownership.intervals(address))

    def probed(self, address: str, port: int) -> bool:
        """A pod that has the address is probed on this port: nobody asks, for the node is not known."""
        return False

    def awaits(self, address: str, at_us: int) -> bool:
        """A snapshot does not change."""
        return False

    def name(self, address: str) -> str:
        """The node with this address, or ""."""
        node = self._ownership.node(address)
        return f"node/{node}" if node else ""

    def stats(self) -> IndexStats:
        """For the metrics."""
        return IndexStats(pods=len(self._ownership))


def load_pods(path: Path, *, label: str | None) -> list[Pod]:
    """The pods of a snapshot made by ``kubectl get pods -A -o json``; raises SettingsError."""
    try:
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise SettingsError(f"--pods: cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"--pods: {path} is no JSON; make it with `kubectl get pods -A -o json`") from error
    items = document.get("items") if isinstance(document, dict) else None
    if not isinstance(items, list):
        raise SettingsError(f"--pods: {path} holds no list of pods; make it with `kubectl get pods -A -o json`")
    return [pod for item in items if isinstance(item, dict) and (pod := reduce_pod(item, label=label))]
