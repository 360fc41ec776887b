"""Which Events are left out, and why: by filters, and by what owners of pods and namespaces say for themselves.

It is decided when it is known who is at a flow's ends, and anew when the flow grows and before each write, so that an
annotation counts as soon as it is known. What was decided is stored with the Event, and holds until it is known that it
should not: a pod that is gone, or that is not listed yet, changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from kiptail.events.endpoint import Endpoint, Kind, known_as
from kiptail.events.event import EventRecord
from kiptail.events.stages import Filtered, Tracked
from kiptail.flows.flow import ENDS
from kiptail.flows.left_out import LeftOut
from kiptail.pods.opt_out import OFF, OptOut, OptOuts, stronger
from kiptail.pods.pod import Pod, PodRef
from kiptail.policies.asker import Missing
from kiptail.quiet.filter import Packets, Party, Place, PodThere
from kiptail.quiet.filters import Filters

__all__ = ["ANNOTATED", "Muting", "NamespaceOptOuts", "PodOptOuts"]

#: The reason of those whose owners opted out.
ANNOTATED = "annotation"
#: Namespaces of which is remembered what was said last.
_MOST_NAMESPACES = 10_000
#: What Events say of NetworkPolicies, by end.
Explained = Mapping[str, str] | None
_NOTHING = LeftOut("", everything=False)
_PLACES = {"node": Place.NODE, "service": Place.SERVICE}


class PodOptOuts(Protocol):
    """What is asked of the pod index."""

    def ready(self) -> bool:
        """All pods are known."""

    def pod(self, address: str, uid: str) -> Pod | None:
        """The pod with the UID that Events name, as it is now, if it had the address and is not gone."""

    @property
    def opt_outs(self) -> Sequence[OptOuts]:
        """Whose owners opted out of Events."""


class NamespaceOptOuts(Protocol):
    """What is asked of whoever asks the API server for namespaces."""

    def opt_out(self, namespace: str) -> OptOut | Missing:
        """What the owner of this namespace says of Events."""


class Muting:
    """Decides, for one thread."""

    def __init__(
        self,
        filters: Filters | None = None,
        pods: PodOptOuts | None = None,
        namespaces: NamespaceOptOuts | None = None,
    ) -> None:
        """Without ``pods`` or ``namespaces`` nothing is known of any."""
        self._filters, self._pods, self._namespaces = filters or Filters(), pods, namespaces
        self._said_last: dict[str, OptOut] = {}
        #: Namespaces of which an answer is awaited.
        self._awaited: set[str] = set()

    def awaits(self, tracked: Tracked) -> bool:
        """It may be answered soon whether namespaces at the flow's ends opted out."""
        return any(
            pod.namespace not in self._said_last and self._asked(pod.namespace) is Missing.AWAITED
            for endpoint in tracked.endpoints.values()
            for pod in endpoint.pods
        )

    def before(self, explain: Callable[[Tracked], Explained]) -> Callable[[Tracked], Explained]:
        """``explain``, which says of a flow that it is awaited while it is whether namespaces opted out."""
        return lambda tracked: None if self.awaits(tracked) else explain(tracked)

    def answered(self) -> set[str]:
        """Take answers in that have come; the namespaces that say something else than before."""
        changed = set()
        for namespace in list(self._awaited):
            before = self._said_last.get(namespace)
            self._awaited.discard(namespace)
            if self._said_of_namespace(namespace) != before:
                changed.add(namespace)
        return changed

    def decide(self, tracked: Tracked) -> list[EventRecord]:
        """Decide of each of a flow's Events whether it is left out; returns those of which that changed."""
        if self._pods is not None and not self._pods.ready():
            return []
        tracked.muted = self._of_node(tracked)
        changed = []
        muted = any(record.muted == ANNOTATED for record in tracked.records.values())
        said = {end: self._said(endpoint, muted=muted) for end, endpoint in tracked.endpoints.items()}
        for record in tracked.records.values():
            if not record.withdrawn:
                left_out = self._of(record, tracked, said)
                if (record.muted, record.ignored) != left_out:
                    record.muted, record.ignored = left_out
                    changed.append(record)
        return changed

    def _of_node(self, tracked: Tracked) -> str:
        """Why the Node is to have no Event of a flow that concerns no pod, or ""."""
        key, endpoints = tracked.flow.key, tracked.endpoints
        if key.muted or not self._filters.need_ends or not endpoints:
            return key.muted
        if any(endpoint.kind is not Kind.NOBODY for endpoint in endpoints.values()):
            return ""
        nodes = (end for end, endpoint in endpoints.items() if known_as(endpoint)[0] == Place.NODE)
        filtered = self._filtered(tracked, key.here or next(nodes, ""))
        return filtered.reason if filtered is not None else ""

    def _of(self, record: EventRecord, tracked: Tracked, said: Mapping[str, OptOut | None]) -> LeftOut:
        """``said`` by the owners of the pods, by end."""
        filtered = self._filtered(tracked, record.end)
        if filtered is not None and filtered.everything:
            return filtered
        if tracked.flow.key.muted:
            return LeftOut(tracked.flow.key.muted, everything=False)
        own, peer = said.get(record.end, ""), said.get("dst" if record.end == "src" else "src", "")
        opted_out = bool(own) or peer == OFF
        if opted_out:
            return LeftOut(ANNOTATED, everything=False)
        if filtered is not None:
            return filtered
        unknown = None in (own, peer) if record.muted == ANNOTATED else self._lacks_labels(tracked)
        return LeftOut(record.muted, record.ignored) if record.muted and unknown else _NOTHING

    # -- filters --------------------------------------------------------------------------------------------

    def _filtered(self, tracked: Tracked, end: str) -> LeftOut | None:
        """What filters say that look at a flow's ends; they are asked anew when something else is known of these."""
        if not self._filters.need_ends:
            return None
        parties = {each: self._party(endpoint) for each, endpoint in tracked.endpoints.items()}
        if tracked.filtered is None or tracked.filtered.parties != parties:
            packets = Packets.of(tracked.flow.key, parties=parties)
            tracked.filtered = Filtered(parties, {each: self._filters.at_end(packets, each) for each in (*ENDS, "")})
        return tracked.filtered.left_out[end]

    def _party(self, endpoint: Endpoint) -> Party:
        if endpoint.kind is Kind.NOBODY:
            return Party(_PLACES.get(known_as(endpoint)[0], Place.OUTSIDE), probes=endpoint.probes)
        there = tuple(PodThere(pod.namespace, self._labels(endpoint.address, pod)) for pod in endpoint.pods)
        return Party(pods=there, probes=endpoint.probes)

    def _labels(self, address: str, ref: PodRef) -> Mapping[str, str] | None:
        if self._pods is None or not self._filters.need_labels:
            return None
        pod = self._pods.pod(address, ref.uid)
        return pod.traits.labels if pod is not None and pod.traits is not None else None

    def _lacks_labels(self, tracked: Tracked) -> bool:
        """Filters look at labels, and those of some pod at the flow's ends are not known."""
        parties = tracked.filtered.parties.values() if tracked.filtered is not None else ()
        return self._filters.need_labels and any(pod.labels is None for party in parties for pod in party.pods)

    # -- opt-outs -------------------------------------------------------------------------------------------

    def _said(self, endpoint: Endpoint, *, muted: bool) -> OptOut | None:
        """What the owner of the pod at an end says; None where that is not known, "" of several that may be there.

        ``muted``: somebody did opt out, who may not be known any more.
        """
        if endpoint.kind is not Kind.POD:
            return ""
        ref = endpoint.pods[0]
        own: OptOut | None = ""
        if self._pods is not None:
            for known in self._pods.opt_outs:
                own = stronger(own or "", known.of(*ref[:3]))
            if muted and not own:
                pod = self._pods.pod(endpoint.address, ref.uid)
                own = pod.opt_out if pod is not None else None
        namespace = self._said_of_namespace(ref.namespace)
        if own is None or namespace is None:
            return stronger(own or "", namespace or "") or None
        return stronger(own, namespace)

    def _said_of_namespace(self, namespace: str) -> OptOut | None:
        found = self._asked(namespace)
        if found is Missing.REFUSED:
            return ""
        if isinstance(found, Missing):
            if found is Missing.AWAITED:
                self._awaited.add(namespace)
            return self._said_last.get(namespace)
        if len(self._said_last) >= _MOST_NAMESPACES:
            self._said_last.clear()
        self._said_last[namespace] = found
        return found

    def _asked(self, namespace: str) -> OptOut | Missing:
        return self._namespaces.opt_out(namespace) if self._namespaces is not None else ""
