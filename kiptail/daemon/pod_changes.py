"""Addresses of which the pod index knows something else than before, on their way to the journal loop."""

from __future__ import annotations

import threading
from collections.abc import Callable

__all__ = ["ChangedAddresses"]


class ChangedAddresses:
    """Noted by the index's threads, taken by the journal loop; what it has not dealt with yet is :meth:`pending`."""

    def __init__(self, wake: Callable[[], None]) -> None:
        """``wake`` tells the journal loop that there is something."""
        self._wake = wake
        self._lock = threading.Lock()
        self._noted: set[str] = set()
        self._taken: set[str] = set()

    def note(self, addresses: set[str]) -> None:
        """Something else is known of these."""
        with self._lock:
            self._noted |= addresses
        self._wake()

    def pending(self, address: str) -> bool:
        """The journal loop has not dealt with it: its flows may have to be cut."""
        return address in self._noted or address in self._taken

    def take(self) -> set[str]:
        """What is to be dealt with now; :meth:`done` follows."""
        with self._lock:
            self._taken, self._noted = self._noted | self._taken, set()
            return set(self._taken)

    def done(self) -> None:
        """What was taken last is dealt with. Without this it is taken again."""
        with self._lock:
            self._taken = set()
