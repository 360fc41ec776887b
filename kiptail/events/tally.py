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


class Labels(NamedTuple):
    """One label set."""

    verdict: str
    protocol: str
    #: ``sent`` or ``received``, by the pod in ``namespace``.
    direction: str
    namespace: str
    peer_namespace: str


class Tally:
    """Counts; written by one thread, read by any."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
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
            labels = Labels(
                flow.key.verdict,
                SEVERAL if flow.spread is not None else protocol_label(flow.key.protocol),
                direction_at(end),
                endpoint.pods[0].namespace,
                SEVERAL if flow.spread is not None else _namespace(endpoints.get("dst" if end == "src" else "src")),
            )
            known = self._counts.get(labels)
            # Room is left for the sets of all others: a verdict (three) and a direction (two) each.
            if known is None and len(self._counts) >= self._most - 6:
                labels = Labels(labels.verdict, OTHER, labels.direction, OTHER, OTHER)
                known = self._counts.get(labels)
            self._counts[labels] = (known or 0) + count


def _namespace(endpoint: Endpoint | None) -> str:
    namespaces = {pod.namespace for pod in endpoint.pods} if endpoint is not None else set()
    if not namespaces:
        return EXTERNAL
    return namespaces.pop() if len(namespaces) == 1 else SEVERAL
