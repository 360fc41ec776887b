"""Pods of one workload whose packets fare alike: how many others there are, as each pod's Event says (pure).

A Deployment that may not reach its database makes as many Events as it has pods, each on its own pod. Whoever reads one
of them learns from it that the fault is not this pod's.
"""

from __future__ import annotations

from collections.abc import Callable

from kiptail.events.endpoint import Endpoint, Kind
from kiptail.events.event import STEPS, EventRecord
from kiptail.events.stages import Tracked

__all__ = ["Alike"]

#: The steps in which a number of other pods is said; more than a few begins with 3.
_STEPS = (2, 5, 10, *STEPS)
#: Of a pod that nothing made there are no others.
_BARE = "pod/"

#: What the flows of a group have in common.
_Group = tuple[object, ...]


class Alike:
    """Groups of ends of flows that differ in nothing but the pod, and in the peer's."""

    def __init__(self, find: Callable[[int], Tracked | None], *, interval_us: int) -> None:
        """``find`` gives a tracked flow by its number; ``interval_us``: least time between two numbers in one text."""
        self._find, self._interval_us = find, interval_us
        #: By group, the pods' UIDs by flow.
        self._groups: dict[_Group, dict[int, str]] = {}
        #: The groups of each flow, by end.
        self._of_flow: dict[int, dict[str, _Group]] = {}

    def __len__(self) -> int:
        """How many groups there are."""
        return len(self._groups)

    def note(self, tracked: Tracked) -> None:
        """The ends of a flow, or its Events, may be others than before; of another group nothing is said yet."""
        flow_id = tracked.flow.id
        before = self._of_flow.get(flow_id, {})
        self.forget(flow_id)
        groups: dict[str, _Group] = {}
        for record in tracked.records.values():
            group = None if record.withdrawn else _group(tracked, record)
            if before.get(record.end, group) != group:
                record.also = 0
            if group is not None:
                groups[record.end] = group
                self._groups.setdefault(group, {})[flow_id] = record.pod.uid
        if groups:
            self._of_flow[flow_id] = groups

    def forget(self, flow_id: int) -> None:
        """A flow is not tracked any more."""
        for group in self._of_flow.pop(flow_id, {}).values():
            members = self._groups[group]
            members.pop(flow_id, None)
            if not members:
                del self._groups[group]

    def grown(self, tracked: Tracked, record: EventRecord, now_us: int) -> bool:
        """Have the Event say how many others there are by now, if that is more than it says, and time for it."""
        group = self._of_flow.get(tracked.flow.id, {}).get(record.end)
        if group is None or record.withdrawn or (record.also and now_us - record.also_us < self._interval_us):
            return False
        others = self._pods(group, tracked.flow.opened_us) - {record.pod.uid}
        step = max((step for step in _STEPS if step < len(others)), default=0)
        if step <= record.also:
            return False
        record.also, record.also_us = step, now_us
        return True

    def _pods(self, group: _Group, since_us: int) -> set[str]:
        """Those that had drops since then: in a rolling update, most of those before have none any more."""
        found = ((uid, self._find(flow_id)) for flow_id, uid in self._groups[group].items())
        return {uid for uid, other in found if other is not None and other.flow.last_us >= since_us}


def _group(tracked: Tracked, record: EventRecord) -> _Group | None:
    """What others would have in common with this end of the flow; None where nobody can have it."""
    key, pod = tracked.flow.key, record.pod
    peer = tracked.endpoints.get("dst" if record.end == "src" else "src")
    if peer is None or peer.kind is Kind.AMBIGUOUS or tracked.flow.spread is not None:
        return None
    if not pod.workload or pod.workload.startswith(_BARE):
        return None
    # All of the key but the addresses and which end is this machine.
    return (record.end, pod.namespace, pod.workload, _who(peer), *key[2:9], key.policy)


def _who(peer: Endpoint) -> tuple[str, str]:
    """A pod's workload, or an address."""
    if peer.kind is not Kind.POD:
        return "", peer.address
    return peer.pods[0].namespace, peer.pods[0].workload or peer.pods[0].name
