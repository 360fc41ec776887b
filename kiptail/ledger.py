"""Flows, their counts and their ends (pure).

The journal decides everything here: a flow opens, grows and ends by the times of its drops and by their order in
the journal, so that reading the same entries again leads to the same flows. The wall clock is never read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from kiptail.netfilter import PacketDrop

__all__ = ["Changes", "Flow", "FlowKey", "Ledger", "flow_key"]

#: First port of the usual ephemeral range (net.ipv4.ip_local_port_range begins here).
EPHEMERAL_PORT = 32768

#: A flow ends when none of its packets was dropped for this long, in µs of event time.
IDLE_US = 30 * 60 * 1_000_000

#: So many flows may be open; beyond, those that were quiet longest end early.
MAX_OPEN = 20_000

#: So long, in µs of event time, drops from before a change of hands may still be read after it was seen.
LATE_US = 10 * 60 * 1_000_000

#: So many addresses are remembered with their last change of hands.
MAX_HANDOVERS = 65_536


class FlowKey(NamedTuple):
    """What makes two drops the same flow."""

    src: str
    dst: str
    protocol: str
    #: The service's port: the destination's for a request, the source's for a reply; None where there is none.
    port: int | None
    icmp_type: int | None
    icmp_code: int | None
    reply: bool
    prefix: str
    verdict: str


def flow_key(drop: PacketDrop, prefix: str, verdict: str) -> FlowKey:
    """The flow that ``drop`` belongs to, logged under the configured ``prefix``.

    A reply comes from a service port to an ephemeral one; keyed by its destination port, every connection would
    be a flow of its own. Only TCP with ACK and UDP can be replies: a bare SYN always opens a connection.
    """
    src_port, dst_port = drop.src_port, drop.dst_port
    reply = (
        src_port is not None
        and dst_port is not None
        and src_port < EPHEMERAL_PORT <= dst_port
        and (drop.protocol == "UDP" or (drop.protocol == "TCP" and drop.tcp_ack))
    )
    return FlowKey(
        drop.src,
        drop.dst,
        drop.protocol,
        src_port if reply else dst_port,
        drop.icmp_type,
        drop.icmp_code,
        reply,
        prefix,
        verdict,
    )


@dataclass(slots=True)
class Flow:
    """Drops that belong together. Times are those of the drops, in µs since the epoch."""

    id: int
    key: FlowKey
    #: The time of the drop that opened the flow; unlike ``first_us`` it never changes, so names can be made of it.
    opened_us: int
    first_us: int
    last_us: int
    #: The ledger's watermark when the last drop was added: what the flow's end is reckoned from.
    seen_us: int
    count: int
    ended: bool = False


@dataclass(frozen=True, slots=True)
class Changes:
    """What has to be committed: flows whose row is new or differs (an ended one has ``ended`` set)."""

    flows: tuple[Flow, ...]
    watermark_us: int
    #: The id of the next flow; ids are never used twice.
    next_flow_id: int


class Ledger:
    """The open flows of this node."""

    def __init__(
        self,
        flows: Iterable[Flow] = (),
        *,
        next_id: int = 1,
        watermark_us: int = 0,
        idle_us: int = IDLE_US,
        max_open: int = MAX_OPEN,
    ) -> None:
        self._open: dict[FlowKey, Flow] = {}
        #: Flows of drops that were read late, by the change of hands that they were before.
        self._late: dict[tuple[FlowKey, int], Flow] = {}
        self._changed: dict[int, Flow] = {}
        #: The last change of hands of addresses that drops from before may still be read of.
        self._handovers: dict[str, int] = {}
        self._next_id = next_id
        self._watermark_us = watermark_us
        self._idle_us = idle_us
        self._max_open = max_open
        #: A flow was opened since the last commit: it is to be committed at once.
        self.opened = False
        for flow in sorted(flows, key=lambda f: f.opened_us):
            if flow.ended:
                continue
            older = self._open.get(flow.key)
            if older is not None:
                self._end(older)
            self._open[flow.key] = flow

    def __len__(self) -> int:
        return len(self._open) + len(self._late)

    def add(self, key: FlowKey, time_us: int) -> Flow:
        """Count one drop of ``key`` at ``time_us``; returns the flow it went to."""
        # The end of a flow is reckoned by the watermark, not by the drop's own time: a clock that is set back
        # then neither ends flows nor lets every further drop open a new one.
        watermark = self._watermark_us
        if time_us > watermark:
            self._watermark_us = watermark = time_us
        flow = self._open.get(key)
        if flow is not None and watermark - flow.seen_us > self._idle_us:
            self._end(flow)
            flow = None
        slot: FlowKey | tuple[FlowKey, int] = key
        if self._handovers and flow is not None:
            handover = self._handover_between(key, *sorted((flow.opened_us, time_us)))
            if handover and time_us > handover:
                self._end(flow)
                flow = None
            elif handover:
                slot = (key, handover)
                flow = self._late.get(slot)
        if flow is None:
            flow = self._opened(slot, key, time_us)
        else:
            flow.count += 1
            flow.seen_us = watermark
            if time_us > flow.last_us:
                flow.last_us = time_us
            elif time_us < flow.first_us:
                flow.first_us = time_us
        self._changed[flow.id] = flow
        return flow

    def hand_over(self, handovers: Mapping[str, int]) -> None:
        """Addresses changed hands at these times: drops after it belong to other flows than those before."""
        horizon_us = self._watermark_us - LATE_US
        for flow in list(self._open.values()):
            at_us = max(handovers.get(flow.key.src, 0), handovers.get(flow.key.dst, 0))
            if flow.opened_us <= at_us:
                self._end(flow)
        for address, at_us in handovers.items():
            if at_us > horizon_us and len(self._handovers) < MAX_HANDOVERS:
                self._handovers[address] = max(at_us, self._handovers.get(address, 0))

    def end_all(self) -> None:
        """Nothing that is added from now on belongs to the flows there are."""
        for flow in self._flows():
            self._end(flow)

    def end_idle(self) -> None:
        """End the flows whose time is over; :meth:`add` would find them ended just the same."""
        for flow in self._flows():
            if self._watermark_us - flow.seen_us > self._idle_us:
                self._end(flow)
        too_late = self._watermark_us - LATE_US
        self._handovers = {address: at_us for address, at_us in self._handovers.items() if at_us > too_late}

    def changes(self) -> Changes:
        """What is not committed yet; :meth:`committed` follows when it is, together with the journal's position."""
        return Changes(tuple(self._changed.values()), self._watermark_us, self._next_id)

    def committed(self) -> None:
        """The latest :meth:`changes` are stored."""
        self._changed = {}
        self.opened = False

    def _flows(self) -> list[Flow]:
        return [*self._open.values(), *self._late.values()]

    def _opened(self, slot: FlowKey | tuple[FlowKey, int], key: FlowKey, time_us: int) -> Flow:
        flow = Flow(self._next_id, key, time_us, time_us, time_us, self._watermark_us, 1)
        self._next_id += 1
        if isinstance(slot, FlowKey):
            self._open[slot] = flow
        else:
            self._late[slot] = flow
        self.opened = True
        if len(self) > self._max_open:
            self._make_room()
        return flow

    def _end(self, flow: Flow) -> None:
        flow.ended = True
        self._changed[flow.id] = flow
        if self._open.get(flow.key) is flow:
            del self._open[flow.key]
        else:
            self._late = {slot: late for slot, late in self._late.items() if late is not flow}

    def _make_room(self) -> None:
        # A tenth at once: the sort is then paid once in thousands of new flows.
        quietest = sorted(self._flows(), key=lambda f: (f.seen_us, f.id))
        for flow in quietest[: max(1, self._max_open // 10)]:
            self._end(flow)

    def _handover_between(self, key: FlowKey, earlier_us: int, later_us: int) -> int:
        """The last change of hands of either address in ``earlier_us`` ≤ it < ``later_us``; 0 when there is none."""
        times = (self._handovers.get(key.src, 0), self._handovers.get(key.dst, 0))
        return max((at_us for at_us in times if earlier_us <= at_us < later_us), default=0)
