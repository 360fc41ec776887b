"""A flow in the journal: which record is next of it, and the record's fields (pure). docs/records.md tells readers.

A record tells of one end of a flow, as the Event of the pod there does, and all records of one Event are a series with
one ``KIPTAIL_FLOW``. Counts are absolute, so the last record of a series counts, whichever others were read.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from hashlib import blake2b

from kiptail.clock.dates import exact_time
from kiptail.events.endpoint import direction_at, known_as, workload_at
from kiptail.events.event import EventRecord, EventStyle, is_limited
from kiptail.events.stages import Tracked
from kiptail.flows.flow import Flow
from kiptail.text import one_line

__all__ = ["MESSAGE_IDS", "UNIT", "Stretch", "fields", "is_urgent", "next_stretch", "pair", "series"]

#: What a field holds at most, in characters, but for the message: names in Kubernetes have at most 253, as in the DNS.
VALUE_LIMIT = 256
#: What the message holds at most, in characters: an Event's text has 1,024 bytes, and a pod and its namespace 317.
MESSAGE_LIMIT = 1_500
#: syslog's "informational": kiptail's own lines about single flows had it before there were records.
PRIORITY = "6"


class Stretch(StrEnum):
    """Which part of a flow a record tells."""

    #: It was found whose packets they are.
    PLACED = "placed"
    #: Its count is another.
    GROWN = "grown"
    #: It has ended, or its packets turned out to be another pod's: the count is final unless that is taken back.
    ENDED = "ended"


#: Of our own making, as ``journalctl --new-id128`` makes them; packaging/catalog explains each.
MESSAGE_IDS = {
    Stretch.PLACED: "c8bb318f35a4484cb1e111a3c37f28d1",
    Stretch.GROWN: "3a469bee68e64cb7a09783349db4e910",
    Stretch.ENDED: "553ff3ef5ff8459882ce828f3a315622",
}
#: The unit whose records are kiptail's own: any program can send such fields, and none can be of this unit.
UNIT = "kiptail.service"
_BEGINNINGS = {
    Stretch.PLACED: "Flow placed",
    Stretch.GROWN: "Flow goes on",
    Stretch.ENDED: "Flow ended",
}


def series(record: EventRecord) -> str:
    """``KIPTAIL_FLOW``: the hash that the Event's name ends with, 16 hexadecimal digits."""
    return record.name.rpartition(".")[2]


def pair(flow: Flow, node_name: str) -> str:
    """``KIPTAIL_PAIR``: what the series of a flow's two ends have in common, 16 hexadecimal digits."""
    return blake2b(flow.key.identity(node_name, flow.stamp), digest_size=8).hexdigest()


def next_stretch(record: EventRecord, flow: Flow) -> Stretch | None:
    """What the journal does not have yet of this end of the flow; None when it has all."""
    count, over = record.counts(flow.count), flow.ended or record.withdrawn
    if record.ignored and not record.withdrawn:
        return None
    if not record.recorded and count:
        return Stretch.PLACED
    if record.recorded_unnoted:
        return Stretch.ENDED if over else Stretch.GROWN
    if not record.recorded or (record.recorded == Stretch.ENDED and record.recorded_count == count):
        return None
    if over:
        return Stretch.ENDED
    return Stretch.GROWN if count != record.recorded_count else None


def is_urgent(record: EventRecord, flow: Flow) -> bool:
    """What is next is written at once: all but that a count has grown, for which there is an interval."""
    grown = next_stretch(record, flow) is Stretch.GROWN and record.counts(flow.count) > record.recorded_count
    return not grown or record.recorded == Stretch.ENDED or record.recorded_unnoted


def fields(
    stretch: Stretch,
    record: EventRecord,
    tracked: Tracked,
    style: EventStyle,
    *,
    wall_us: Callable[[int], int] = int,
) -> dict[str, str]:
    """The record as journal fields; ``wall_us`` makes of the flow's times those of the wall clock.

    A field that does not apply is left out. Each value is bounded, and none has a control character.
    """
    flow, end, pod = tracked.flow, record.end, record.pod
    key, peer, count = flow.key, tracked.peer(record.end), record.counts(flow.count)
    folded = flow.spread is not None
    kind, name = ("several", "") if folded else known_as(peer)
    icmp = "" if key.icmp_type is None else str(key.icmp_type)
    values = {
        "KIPTAIL_NAMESPACE": pod.namespace,
        "KIPTAIL_POD": pod.name,
        "KIPTAIL_POD_UID": pod.uid,
        "KIPTAIL_WORKLOAD": pod.workload,
        "KIPTAIL_NODE": style.node_name,
        "KIPTAIL_DIRECTION": direction_at(end),
        "KIPTAIL_PEER": name,
        "KIPTAIL_PEER_KIND": kind,
        "KIPTAIL_PEER_WORKLOAD": "" if folded else workload_at(peer),
        "KIPTAIL_SRC": key.src,
        "KIPTAIL_DST": key.dst,
        "KIPTAIL_PROTOCOL": key.protocol,
        "KIPTAIL_PORT": "" if key.port is None else str(key.port),
        "KIPTAIL_PORT_NAME": tracked.service.port_name if tracked.service is not None else "",
        "KIPTAIL_ICMP": icmp if key.icmp_code is None else f"{icmp}/{key.icmp_code}",
        "KIPTAIL_REPLY": "yes" if key.reply else "",
        "KIPTAIL_VERDICT": key.verdict,
        "KIPTAIL_PREFIX": key.prefix,
        "KIPTAIL_POLICY": key.policy,
        "KIPTAIL_LIMITED": "yes" if is_limited(flow, style) else "",
        "KIPTAIL_COUNT": str(count),
        "KIPTAIL_FIRST": exact_time(wall_us(flow.first_us)),
        "KIPTAIL_LAST": exact_time(wall_us(flow.last_us)),
        "KIPTAIL_FLOW": series(record),
        "KIPTAIL_PAIR": pair(flow, style.node_name),
        "KIPTAIL_EVENT": "" if record.muted else record.name,
        "KIPTAIL_MUTED": record.muted,
    }
    bounded = {field: one_line(value, VALUE_LIMIT) for field, value in values.items()}
    who = f"{bounded['KIPTAIL_NAMESPACE']}/{bounded['KIPTAIL_POD']}"
    message = one_line(f"{_BEGINNINGS[stretch]}: {who}: {record.message} (x{count})", MESSAGE_LIMIT)
    return {
        "MESSAGE": message,
        "MESSAGE_ID": MESSAGE_IDS[stretch],
        "PRIORITY": PRIORITY,
        **{field: value for field, value in bounded.items() if value},
    }
