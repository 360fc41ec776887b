"""Pods of other nodes, as look-ups found them: what is known of them is as old as the last look-up (pure)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from kiptail.ownership import Handover, Ownership, Pod, PodRef

__all__ = ["RemotePods"]

#: Pods that no look-up found for so long are let go of, in µs …
KEPT_US = 600 * 1_000_000
#: … and those that were found longest ago, when there are more than so many.
MAX_PODS = 4_096
#: So many second addresses are remembered with the first one of their pod.
MAX_SECONDS = 16_384


class RemotePods:
    """Who owned an address, by the pods that were found. Times are µs since the epoch. Not for several threads."""

    def __init__(self) -> None:
        self._ownership = Ownership()
        self._pods: dict[str, Pod] = {}
        self._seen_us: dict[str, int] = {}
        self._firsts: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self._pods)

    def owners(self, address: str, at_us: int) -> tuple[PodRef, ...]:
        """As :meth:`Ownership.owners`: true for the times that a look-up of the address answers for."""
        return self._ownership.owners(address, at_us)

    def node(self, address: str) -> str:
        """As :meth:`Ownership.node`."""
        return self._ownership.node(address)

    def first_address(self, address: str) -> str:
        """The first address of the pod that last had this one as its second, or ""."""
        return self._firsts.get(address, "")

    def found(self, address: str, pods: Iterable[Pod], *, now_us: int) -> list[Handover]:
        """A look-up found these pods, and no others, with ``address`` as their first."""
        found = {pod.key: pod for pod in pods}
        lost = [key for key, pod in self._pods.items() if pod.addresses[:1] == (address,) and key not in found]
        # Who came first: that dates the change better than a list that lacks who went.
        handovers = self.learned(found.values(), now_us=now_us)
        for key in lost:
            handovers += self._let_go(key, now_us)
        changed: dict[str, int] = {}
        for other, at_us in handovers:
            changed[other] = max(at_us, changed.get(other, 0))
        return [Handover(other, at_us) for other, at_us in changed.items()]

    def learned(self, pods: Iterable[Pod], *, now_us: int) -> list[Handover]:
        """These pods are there; of others that says nothing."""
        handovers: list[Handover] = []
        for pod in pods:
            handovers += self._ownership.put(pod, now_us=now_us, live=False)
            self._pods[pod.key] = pod
            self._seen_us[pod.key] = now_us
            self.note_seconds(pod)
        if len(self._pods) > MAX_PODS:
            self.expire(now_us=now_us)
        return handovers

    def note_seconds(self, pod: Pod) -> None:
        """Remember which first address leads to the pod's second one."""
        for second in pod.addresses[1:]:
            if len(self._firsts) >= MAX_SECONDS:
                del self._firsts[next(iter(self._firsts))]
            self._firsts.pop(second, None)
            self._firsts[second] = pod.addresses[0]

    def claimed(self, since_us: Mapping[str, int]) -> None:
        """Pods of this node have these addresses, since then: whoever was found with one before has it no longer."""
        for key in [key for key, pod in self._pods.items() if not since_us.keys().isdisjoint(pod.addresses)]:
            pod = self._pods.pop(key)
            self._seen_us.pop(key)
            self._ownership.remove(key, now_us=max(since_us.get(address, 0) for address in pod.addresses))

    def expire(self, *, now_us: int) -> None:
        """Let go of what no look-up found for long, and of the oldest tenth if there are too many."""
        old = [key for key, seen_us in self._seen_us.items() if seen_us < now_us - KEPT_US]
        if len(self._pods) - len(old) > MAX_PODS:
            old = sorted(self._seen_us, key=self._seen_us.__getitem__)[: len(self._pods) - MAX_PODS * 9 // 10]
        for key in old:
            self._let_go(key, now_us)

    def forget(self, before_us: int) -> None:
        """As :meth:`Ownership.forget`."""
        self._ownership.forget(before_us)

    def _let_go(self, key: str, now_us: int) -> list[Handover]:
        """Nobody saw this pod end: it ended before a successor came, whenever that was."""
        del self._pods[key]
        del self._seen_us[key]
        return self._ownership.remove(key, now_us=now_us, live=False)
