"""Who is at a flow's two ends, stored, with the Event that each pod among them gets.

A decision holds until something contradicts it. Then the Event of the pod that was blamed is withdrawn: it says that
its packets count for another pod now and counts none, and the right pod gets its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Protocol

from kiptail.errors import StateError
from kiptail.events.endpoint import Endpoint, Kind, When
from kiptail.events.event import EventRecord, event_name
from kiptail.events.muting import Muting
from kiptail.events.stages import Tracked
from kiptail.events.why import same_ends
from kiptail.events.wording import Wording
from kiptail.flows.flow import Flow
from kiptail.pods.pod import PodRef
from kiptail.pods.tenancy import floor_s

__all__ = ["Attributor", "Explain", "Locate", "Outbox", "unexplained"]


#: What the Event at each end of a flow is to say of NetworkPolicies, by end; None while that is awaited.
Explain = Callable[[Tracked], Mapping[str, str] | None]


def unexplained(tracked: Tracked) -> Mapping[str, str]:
    """Nobody is asked."""
    return {}


class Locate(Protocol):
    """Who is at an address."""

    def ready(self) -> bool:
        """The index is complete; before, everybody may be a stranger."""

    def current(self) -> bool:
        """Changes of pods arrive at present."""

    def locate(self, address: str, when: When, *, patient: bool) -> Endpoint | None:
        """The endpoint, or None while it cannot be said."""

    def locate_again(self, endpoint: Endpoint, when: When, *, patient: bool) -> Endpoint | None:
        """The same, of one that was found before."""

    def contested(self, address: str, when: When) -> bool:
        """What is known at present may soon turn out to be wrong."""

    def unowned(self, address: str, at_us: int) -> bool:
        """No pod is known to have had the address then."""

    def named(self, endpoint: Endpoint) -> Endpoint:
        """The same endpoint, with the name that has come meanwhile."""

    def cluster_name(self, address: str) -> str:
        """What the cluster calls an address that is no pod's, or ""."""

    def with_port(self, found: Endpoint, flow: Flow, end: str, before: Endpoint | None = None) -> Endpoint:
        """Who is at an end, with what is known of the flow's port, if it is that end's."""

    def probes(self, src: Endpoint, dst: Endpoint, port: int) -> bool:
        """The kubelet's probes go from ``src`` to ``dst`` on this port."""


class Outbox(Protocol):
    """What is kept of decisions and deliveries. All raise :class:`~kiptail.errors.StateError`."""

    def save_endpoints(self, flow_id: int, endpoints: Mapping[str, Endpoint], records: Iterable[EventRecord]) -> None:
        """Store who is at a flow's ends, and their Events, before they are sent."""

    def note(self, record: EventRecord) -> None:
        """Store what became of a write, with whatever is stored next, and no later than that."""

    def write_notes(self) -> None:
        """Store it now."""

    def forget(self, flow_ids: Iterable[int]) -> None:
        """Drop ended flows of which everything is delivered."""


class Attributor:
    """Decides, words and stores."""

    def __init__(
        self,
        locate: Locate,
        outbox: Outbox,
        wording: Wording,
        flows: Iterable[Tracked],
        *,
        remember: Callable[[], None] = lambda: None,
        explain: Explain = unexplained,
        muting: Muting | None = None,
    ) -> None:
        """``remember`` stores what is known of pods: a decision must not outlive what it was made by.

        ``flows`` are all that are tracked, of which some tell who sent from an address before.
        """
        self._locate, self._outbox, self._remember = locate, outbox, remember
        #: What the Events say.
        self.wording = wording
        self._flows, self._muting = flows, muting or Muting()
        self._explain = self._muting.before(explain)

    def ready(self) -> bool:
        """:meth:`attribute` can be asked."""
        return self._locate.ready()

    def current(self) -> bool:
        """Changes of pods arrive at present."""
        return self._locate.current()

    def contested(self, tracked: Tracked) -> bool:
        """What could be decided now may soon turn out to be wrong."""
        return any(self._locate.contested(tracked.address(end), tracked.when(end)) for end in tracked.ends)

    def attribute(self, tracked: Tracked, *, patient: bool) -> bool:
        """Decide who is at the ends of a flow; True when all are decided and none is to be attributed anew.

        ``patient``: wait for names, and for changes of pods, instead of deciding without them. Raises
        :class:`~kiptail.errors.StateError`, and then nothing is decided.
        """
        found = {end: self._at(tracked, end, patient) for end in tracked.ends}
        undecided = [found[end] for end in tracked.ends if end not in tracked.endpoints]
        if patient and any(endpoint is None or endpoint.unnamed for endpoint in undecided):
            return False
        left = {end for end in tracked.to_reattribute if found[end] is None}
        endpoints = {end: endpoint for end, endpoint in found.items() if endpoint is not None}
        endpoints = {end: tracked.endpoints[end] for end in left} | endpoints
        if endpoints != tracked.endpoints or not _is_assigned(tracked):
            self._store(tracked, endpoints)
        tracked.to_reattribute = left
        return tracked.attributed and not left

    def rename(self, tracked: Tracked) -> bool:
        """Put names that have come late into the Events' texts; True when none is awaited any more."""
        endpoints = {
            end: self._locate.named(endpoint) if endpoint.unnamed else endpoint
            for end, endpoint in tracked.endpoints.items()
        }
        if endpoints != tracked.endpoints:
            self._store(tracked, endpoints)
        return not any(endpoint.unnamed for endpoint in endpoints.values())

    def rename_strangers(self, tracked: Tracked) -> bool:
        """Put names that the cluster has by now into the texts about addresses that had none; True when it has any."""
        endpoints = dict(tracked.endpoints)
        for end, endpoint in tracked.endpoints.items():
            if endpoint.kind is Kind.NOBODY and (name := self._locate.cluster_name(endpoint.address)):
                named = endpoint._replace(name=name, unnamed=False)
                endpoints[end] = self._locate.with_port(named, tracked.flow, end)
        if endpoints == tracked.endpoints:
            return False
        self._store(tracked, endpoints)
        return True

    def explain(self, tracked: Tracked) -> bool:
        """Have the Events of a flow whose ends are decided say what the policies do; False while that is awaited.

        Raises StateError.
        """
        if tracked.why is None and tracked.attributed:
            tracked.why = self._explain(tracked)
            if tracked.why:
                try:
                    self._store(tracked, dict(tracked.endpoints))
                except StateError:
                    tracked.why = None
                    raise
        return tracked.why is not None

    def refresh(self, tracked: Tracked) -> None:
        """The flow tells other ends than before, or has lost all its drops to another.

        Raises StateError; then the next :meth:`attribute` does it.
        """
        self._store(tracked, dict(tracked.endpoints))

    def _at(self, tracked: Tracked, end: str, patient: bool) -> Endpoint | None:
        endpoint = tracked.endpoints.get(end)
        if endpoint is None:
            found = self._locate.locate(tracked.address(end), tracked.when(end), patient=patient)
        elif end in tracked.to_reattribute:
            found = self._locate.locate_again(endpoint, tracked.when(end), patient=patient)
        else:
            return endpoint
        if found is None:
            return None
        found = self._locate.with_port(found, tracked.flow, end, before=endpoint)
        if not found.stranger:
            return found
        # The pod began while nobody watched, and the drops are of its first second. Only somebody who was there
        # before can be meant instead, and whoever is never sent anything from there.
        another = self._sent_before(found.address, floor_s(tracked.flow.opened_us))
        return found._replace(kind=Kind.AMBIGUOUS if another else found.kind, stranger=False)

    def _sent_before(self, address: str, at_us: int) -> bool:
        """Somebody of whom nobody knows sent from the address before."""
        return any(
            tracked.address("src") == address
            and tracked.flow.opened_us < at_us
            and self._locate.unowned(address, tracked.flow.opened_us)
            for tracked in self._flows
        )

    def _store(self, tracked: Tracked, endpoints: dict[str, Endpoint]) -> None:
        """Take these endpoints over, with their Events."""
        flow = tracked.flow
        src, dst = endpoints.get("src"), endpoints.get("dst")
        if src is not None and dst is not None and flow.key.protocol == "TCP" and flow.key.port and not flow.key.reply:
            endpoints["src"] = src._replace(probes=self._locate.probes(src, dst, flow.key.port))
        records = {key: replace(record) for key, record in tracked.records.items()}
        # What policies say is decided once, and anew only where somebody else is at an end.
        why = tracked.why if same_ends(endpoints, tracked.endpoints) else None
        decided = Tracked(flow, tracked.since, endpoints, records, why=why)
        if why is None and decided.attributed:
            decided.why = self._explain(decided)
        self._assign(decided)
        self._muting.decide(decided)
        self.wording.alike.note(decided)
        self.wording.reword(decided)
        self._remember()
        # What may still turn out is asked again after a restart.
        final = {end: endpoint for end, endpoint in endpoints.items() if not endpoint.open}
        _note_other_ends(tracked.endpoints, decided)
        self._outbox.save_endpoints(flow.id, final, decided.records.values())
        tracked.endpoints, tracked.records, tracked.why = decided.endpoints, decided.records, decided.why

    def _assign(self, tracked: Tracked) -> None:
        """Give each end's Event to the pod there, and take it from whoever else had it."""
        flow = tracked.flow
        for end in flow.ends:
            endpoint = tracked.endpoints.get(end)
            if endpoint is None:
                continue
            owner = _owner(flow, endpoint)
            for (other, uid), record in list(tracked.records.items()):
                if other != end:
                    continue
                record.withdrawn = not _is_of(record, owner)
                if record.withdrawn and not record.tried and not record.recorded:
                    del tracked.records[other, uid]
            # Who was made as a mirror of another pod's UID and comes to its address has no Event beside that one's.
            if owner is None:
                continue
            known = tracked.records.get((end, owner.uid))
            if known is None:
                name = event_name(flow, end, owner, self.wording.style.node_name)
                tracked.records[end, owner.uid] = EventRecord(flow.id, end, owner, name, "")
            elif _is_of(known, owner) and owner.workload:
                known.pod = owner  # an earlier version did not store its workload


def _note_other_ends(before: Mapping[str, Endpoint], decided: Tracked) -> None:
    """Where somebody else is at an end now, what the journal has of the other end names the wrong one."""
    for record in decided.records.values():
        other = "dst" if record.end == "src" else "src"
        was, now = before.get(other), decided.endpoints.get(other)
        if not record.recorded or record.withdrawn or was is None or now is None:
            continue
        if [pod.uid for pod in was.pods] != [pod.uid for pod in now.pods]:
            record.recorded_unnoted = True


def _is_assigned(tracked: Tracked) -> bool:
    """Each end's Event is the pod's that is there, and all others are withdrawn."""
    for end in tracked.flow.ends:
        endpoint = tracked.endpoints.get(end)
        if endpoint is None:
            continue
        owner = _owner(tracked.flow, endpoint)
        if owner is not None and (end, owner.uid) not in tracked.records:
            return False
        records = (record for (other, _), record in tracked.records.items() if other == end)
        if any(record.withdrawn == _is_of(record, owner) for record in records):
            return False
    return True


def _owner(flow: Flow, endpoint: Endpoint) -> PodRef | None:
    """The pod whose Event tells of the flow's drops, if there are any."""
    return endpoint.pods[0] if endpoint.kind is Kind.POD and flow.count else None


def _is_of(record: EventRecord, owner: PodRef | None) -> bool:
    """It is this pod's Event."""
    return owner is not None and record.pod[:3] == owner[:3]
