"""Drops by the namespaces at their ends, for the metrics, in a bounded number of label sets (pure).

Namespaces are known when a flow is attributed, not when a drop is counted, so it is flows that are tallied: once their
ends are decided, and again when their count has grown, by the difference. Each end that a flow tells counts by
itself, as sent by one pod or received by another: a drop is reported at each end by one flow at most, so nothing is
counted twice, folded or not.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

from kiptail.events.endpoint import Endpoint, Kind, direction_at
from kiptail.flows.flow import Flow
from kiptail.netfilter.protocols import protocol_label

__all__ = ["EXTERNAL", "OTHER", "SEVERAL", "Labels", "Tally"]

#: The most label sets, those for all others included.
MOST = 1_000
#: The namespace of an address that is no pod's …
EXTERNAL = "external"
#: … of pods of several namespaces, or of the many peers (and the protocol) of a folded flow …
SEVERAL = "several"
#: … and of everything else, when there are too many.
OTHER = "other"
#: The workload of a pod of which an earlier version has stored no more than its name.
UNKNOWN = "unknown"


class Labels(NamedTuple):
    """One label set."""

    verdict: str
    protocol: str
    #: ``sent`` or ``received``, by the pod in ``namespace``.
    direction: str
    namespace: str
    peer_namespace: str
    #: As ``deploy/web``; both "" where workloads are not tallied.
    src_workload: str = ""
    dst_workload: str = ""


class Tally:
    """Counts; written by one thread, read by any."""

    def __init__(self, most: int = MOST, *, workloads: bool = False) -> None:
        """``workloads``: by these as well."""
        self._most = most
        self._workloads = workloads
        self._counts: dict[Labels, int] = {}

    def __len__(self) -> int:
        return len(self._counts)

    def items(self) -> list[tuple[Labels, int]]:
        """All counts."""
        return list(self._counts.items())

    def add(
        self, flow: Flow, endpoints: Mapping[str, Endpoint], count: int, *, leave_out: Collection[str] = ()
    ) -> None:
        """``count`` more drops of a flow whose ends are decided; but for the ends that are to be left out."""
        for end in flow.ends:
            endpoint = endpoints.get(end)
            if endpoint is None or endpoint.kind is not Kind.POD or end in leave_out:
                continue
            folded = flow.spread is not None
            peer = endpoints.get("dst" if end == "src" else "src")
            labels = Labels(
                flow.key.verdict,
                SEVERAL if folded else protocol_label(flow.key.protocol),
                direction_at(end),
                endpoint.pods[0].namespace,
                SEVERAL if folded else _namespace(peer),
            )
            if self._workloads:
                own, other = _workload(endpoint), SEVERAL if folded else _workload(peer)
                src, dst = (own, other) if end == "src" else (other, own)
                labels = labels._replace(src_workload=src, dst_workload=dst)
            known = self._counts.get(labels)
            # Room is left for the sets of all others: a verdict (three) and a direction (two) each.
            if known is None and len(self._counts) >= self._most - 6:
                workload = OTHER if self._workloads else ""
                labels = Labels(labels.verdict, OTHER, labels.direction, OTHER, OTHER, workload, workload)
                known = self._counts.get(labels)
            self._counts[labels] = (known or 0) + count


def _namespace(endpoint: Endpoint | None) -> str:
    namespaces = {pod.namespace for pod in endpoint.pods} if endpoint is not None else set()
    if not namespaces:
        return EXTERNAL
    return namespaces.pop() if len(namespaces) == 1 else SEVERAL


def _workload(endpoint: Endpoint | None) -> str:
    found = {(pod.namespace, pod.workload) for pod in endpoint.pods} if endpoint is not None else set()
    if len(found) > 1:
        return SEVERAL
    return (found.pop()[1] or UNKNOWN) if found else EXTERNAL
