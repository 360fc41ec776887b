"""Addresses that pods' annotations say are theirs: what is known of them is kept apart from what their status says.

The kubelet alone writes a pod's status; an annotation, whoever may change the pod. So an annotation counts only for an
address that is nobody's by any status, which whoever asks here has to know. Two pods that claim one address are both
named, and neither is blamed. What a pod claims later than it had its own addresses, it claims from then on.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from kiptail.pods.ownership import Interval, Ownership, Pod

__all__ = ["Claims"]

#: How often a pod may claim something else than before. Plugins write the annotation once, or when a network is added;
#: each change cuts flows, and nobody is to cut them as he likes.
MOST_EDITS = 8


@dataclass(slots=True)
class _Claimant:
    """A pod that claims addresses, or did."""

    addresses: tuple[str, ...]
    #: Since when, if not from the beginning: µs since the epoch.
    late_us: int | None
    #: How often it was something else before.
    edits: int = 0


class Claims:
    """:class:`Ownership` by annotations, behind a lock: one thread writes it, any may ask."""

    def __init__(self, *, node: str = "") -> None:
        """``node``: this machine's."""
        self._lock = threading.Lock()
        self._ownership = Ownership(node=node)
        #: By the pods' ``metadata.uid``.
        self._claimants: dict[str, _Claimant] = {}
        self._unreadable: set[str] = set()
        self._listed = False
        #: Pods whose annotation turned out to be unreadable; it only grows.
        self.malformed = 0

    # -- changes, by the thread that follows pods; they return the addresses of which something else is known ---------

    def replace(self, pods: Iterable[Pod], *, now_us: int, seen_us: int, known: Collection[str] = ()) -> set[str]:
        """As :meth:`Ownership.replace`. ``known``: pods that had their addresses before, by ``metadata.uid``.

        In the first list that says nothing: what an earlier run knew of claims is not stored.
        """
        with self._lock:
            there = {pod.key: pod for pod in pods}
            for key in [key for key in self._claimants if key not in there]:
                del self._claimants[key]
            self._unreadable &= there.keys()
            taken = [self._taken(pod, now_us, late=self._listed and pod.key in known) for pod in there.values()]
            self._listed = True
            return self._ownership.replace(filter(None, taken), now_us=now_us, seen_us=seen_us)

    def put(self, pod: Pod, *, now_us: int, live: bool, known: bool = False) -> set[str]:
        """As :meth:`Ownership.put`. ``known``: the pod had its addresses before."""
        with self._lock:
            taken = self._taken(pod, now_us, late=known)
            return set() if taken is None else self._ownership.put(taken, now_us=now_us, live=live)

    def remove(self, key: str, *, now_us: int, live: bool) -> set[str]:
        """As :meth:`Ownership.remove`."""
        with self._lock:
            self._claimants.pop(key, None)
            self._unreadable.discard(key)
            return self._ownership.remove(key, now_us=now_us, live=live)

    def forget(self, before_us: int) -> None:
        """As :meth:`kiptail.pods.register.IntervalRegister.forget`."""
        with self._lock:
            self._ownership.register.forget(before_us)

    # -- questions ------------------------------------------------------------------------------------------

    def intervals(self, address: str) -> tuple[Interval, ...]:
        """As :meth:`kiptail.pods.register.IntervalRegister.intervals`."""
        with self._lock:
            return self._ownership.register.intervals(address)

    def pod(self, address: str, uid: str) -> Pod | None:
        """The pod with the UID that Events name, if it claims the address, or did, and is not gone."""
        with self._lock:
            return next((pod for pod in self._ownership.pods_at(address) if pod.ref.uid == uid), None)

    # -- one pod, with the lock held ------------------------------------------------------------------------

    def _taken(self, pod: Pod, now_us: int, *, late: bool) -> Pod | None:
        """The pod with what it claims for its addresses; None where it never claimed any, as nearly all."""
        if pod.claims is None and pod.key not in self._unreadable:
            self._unreadable.add(pod.key)
            self.malformed += 1
        elif pod.claims is not None and self._unreadable:
            self._unreadable.discard(pod.key)
        claims, claimant = pod.claims or (), self._claimants.get(pod.key)
        if claimant is None:
            if not claims:
                return None
            claimant = self._claimants[pod.key] = _Claimant(claims, now_us if late else None)
        elif claims != claimant.addresses:
            claimant.addresses, claimant.late_us, claimant.edits = claims, now_us, claimant.edits + 1
        if claimant.edits > MOST_EDITS:
            claims = ()
        # Whether a plugin took addresses back is another annotation's matter, and its node's are known.
        taken = pod._replace(addresses=claims, host_addresses=(), shown=0, blank=0, claiming=False)
        if claimant.late_us is None:
            return taken
        return taken._replace(ready_us=None, running_us=None, ran_us=None, start_us=claimant.late_us)
