"""Pods of other nodes, as look-ups found them: what is known of them is as old as the last look-up (pure)."""

from __future__ import annotations

from collections.abc import Iterable

from kiptail.pods.ownership import Interval, Ownership, Pod

__all__ = ["RemotePods"]

#: Pods that no look-up found for longer are dropped, in µs.
KEPT_US = 600 * 1_000_000
#: The most pods that are kept; beyond, those are dropped that were found longest ago.
MAX_PODS = 4_096
#: How long who was found is taken for the owner without another look, in µs.
TRUSTED_US = 30 * 1_000_000
#: The most second addresses that are remembered, with the first one of their pod.
MAX_SECONDS = 16_384


class RemotePods:
    """Who owned an address, by the pods that were found. Times are µs since the epoch. Not for several threads."""

    def __init__(self) -> None:
        self._ownership = Ownership()
        #: Whose owners had opted out of Events when they were found.
        self.opt_outs = self._ownership.opt_outs
        self._pods: dict[str, Pod] = {}
        self._seen_us: dict[str, int] = {}
        self._firsts: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self._pods)

    def intervals(self, address: str) -> tuple[Interval, ...]:
        """All that is known of the address. Nobody watches these pods: each may be gone since it was found last."""
        return tuple(
            i._replace(held_us=self._seen_us[i.key] + TRUSTED_US, unseen_end=True)
            if i.held_us is None and i.key in self._seen_us
            else i
            for i in self._ownership.register.intervals(address)
        )

    def node(self, address: str) -> str:
        """As :meth:`Ownership.node`."""
        return self._ownership.node(address)

    def pods_at(self, address: str) -> list[Pod]:
        """As :meth:`Ownership.pods_at`."""
        return self._ownership.pods_at(address)

    def first_address(self, address: str) -> str:
        """The first address of the pod that last had this one as its second, or ""."""
        return self._firsts.get(address, "")

    def found(self, address: str, pods: Iterable[Pod], *, now_us: int) -> set[str]:
        """A look-up found these pods, and no others, with ``address`` as their first; returns what changed hands."""
        found = {pod.key: pod for pod in pods}
        lost = [key for key, pod in self._pods.items() if pod.addresses[:1] == (address,) and key not in found]
        changed = self.learned(found.values(), now_us=now_us)
        for key in lost:
            changed |= self._drop(key, now_us)
        return changed

    def learned(self, pods: Iterable[Pod], *, now_us: int) -> set[str]:
        """These pods are there; of others that says nothing. Returns what changed hands."""
        changed: set[str] = set()
        for pod in pods:
            changed |= self._ownership.put(pod, now_us=now_us, live=False)
            self._pods[pod.key] = pod
            self._seen_us[pod.key] = now_us
            self.note_seconds(pod)
        if len(self._pods) > MAX_PODS:
            self.expire(now_us=now_us)
        return changed

    def note_seconds(self, pod: Pod) -> None:
        """Remember which first address leads to the pod's second one."""
        for second in pod.addresses[1:]:
            if len(self._firsts) >= MAX_SECONDS:
                del self._firsts[next(iter(self._firsts))]
            self._firsts.pop(second, None)
            self._firsts[second] = pod.addresses[0]

    def expire(self, *, now_us: int) -> None:
        """Drop what no look-up found for long, and the oldest tenth if there are too many."""
        old = [key for key, seen_us in self._seen_us.items() if seen_us < now_us - KEPT_US]
        if len(self._pods) - len(old) > MAX_PODS:
            old = sorted(self._seen_us, key=self._seen_us.__getitem__)[: len(self._pods) - MAX_PODS * 9 // 10]
        for key in old:
            self._drop(key, now_us)

    def forget(self, before_us: int) -> None:
        """As :meth:`kiptail.pods.register.IntervalRegister.forget`."""
        self._ownership.register.forget(before_us)

    def _drop(self, key: str, now_us: int) -> set[str]:
        """Nobody saw this pod end: it ended before a successor came, whenever that was."""
        del self._pods[key]
        seen_us = self._seen_us.pop(key)
        return self._ownership.vanished(key, now_us=now_us, seen_us=seen_us)
