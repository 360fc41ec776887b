"""What the state file holds: its tables.

Another column is a line in its table here, one in the step that leads to this version (:mod:`kiptail.state.steps`),
and its use in :mod:`kiptail.state.records`. Checksums come by themselves.
"""

from __future__ import annotations

import sqlite3

from kiptail.clock.dates import LATEST_US
from kiptail.events.endpoint import Kind as Found
from kiptail.events.flow_record import Stretch
from kiptail.events.node_event import DIRECTIONS
from kiptail.flows.budget import DIGEST, GUESTS
from kiptail.flows.flow import ENDS
from kiptail.state.rows import SEAL, Table, blob, can_sum, one_of, text, whole

__all__ = [
    "BUDGET",
    "ENDPOINT",
    "EVENT",
    "FIRST_SEALED",
    "FLOW",
    "INTERVAL",
    "LEDGER",
    "MACHINE",
    "NODE_EVENT",
    "NODE_SHARE",
    "POD_NEWS",
    "POSITION",
    "SCHEMA_VERSION",
    "TABLES",
    "create",
    "in_memory",
]

#: ``PRAGMA user_version`` of the tables below.
SCHEMA_VERSION = 5
#: Files of this version and later ones have checksums.
FIRST_SEALED = 4

#: Of tables with one row.
ONE = whole(1, 1)
FLAG = whole(0, 1)
ID = whole(1, 2**53)
COUNT = whole(0, 2**53)
#: µs since the epoch. The kernel may have written a line some minutes before 1970, by a clock that was not set yet.
TIME = whole(-86_400_000_000, LATEST_US)
#: µs since a boot, or the difference of two clocks that count these: as many as journal entries can say.
MONOTONIC = whole(0, 10**18)
DIFFERENCE = whole(-(10**18), 10**18)
#: An end of a flow. Its columns are called ``side``; another name would need another version of the file.
END = one_of(*ENDS)
#: An address, or "" for everybody.
ADDRESS = text(64)
#: The longest are annotations, in which Kubernetes allows 256 KiB.
NAME = text(1 << 18)
#: A list of pods, as JSON.
PODS = text(1 << 20)
MESSAGE = text(4_096)

POSITION = Table(
    "position",
    {
        "id": ONE,
        "cursor": NAME,
        "boot_id": NAME,
        "monotonic_us": MONOTONIC,
        "realtime_us": TIME,
        "clock_boot_id": NAME.or_null(),
        "clock_monotonic_us": MONOTONIC.or_null(),
        "clock_offset_us": DIFFERENCE.or_null(),
        # What was seen of the machine's clocks, as JSON: steady.Times; NULL if an earlier version stored it.
        "times": text(1 << 14).or_null(),
    },
    key=("id",),
)

LEDGER = Table(
    "ledger",
    {
        "id": ONE,
        "watermark_us": TIME,
        "next_flow_id": ID,
        "last_stamp": TIME,
        "window_us": TIME,
        "new_addresses": COUNT,
        "new_pairs": COUNT,
    },
    key=("id",),
)

FLOW = Table(
    "flow",
    {
        "id": ID,
        "src": ADDRESS,
        "dst": ADDRESS,
        "protocol": NAME,
        "port": whole(0, 65_535).or_null(),
        "icmp_type": whole(0, 255).or_null(),
        "icmp_code": whole(0, 255).or_null(),
        "reply": FLAG,
        "prefix": NAME,
        "verdict": NAME,
        # The end that is this machine itself.
        "here": one_of("", *ENDS),
        # The policy that the log line names.
        "policy": NAME,
        # Why filters want no Event of it.
        "muted": NAME,
        "opened_us": TIME,
        "first_us": TIME,
        "last_us": TIME,
        "seen_us": TIME,
        "count": COUNT,
        "ended": FLAG,
        # The ends it tells, and of a folded flow the bitmaps of its peers and ports.
        "sides": one_of("", "src", "dst", "src,dst"),
        "peers": blob(1_024).or_null(),
        "ports": blob(1_024).or_null(),
        "stamp": TIME,
        # How the count grew; NULL if version 1 or 2 stored it.
        "trail": blob(1 << 16).or_null(),
        # Drops of several owners cannot be told apart.
        "mixed": FLAG,
    },
    key=("id",),
)

_OF_FLOW = "FOREIGN KEY (flow_id) REFERENCES flow (id) ON DELETE CASCADE"

#: One end of a flow, once it is decided who was there.
ENDPOINT = Table(
    "endpoint",
    {
        "flow_id": ID,
        "side": END,
        "state": one_of(*Found),
        # Of all who may have been there: [[namespace, name, uid, label, workload], …].
        "pods": PODS,
        "name": NAME,
        "probes": FLAG,
        "port_name": text(64),
        "host_port_of": text(1_024),
    },
    key=("flow_id", "side"),
    more=_OF_FLOW,
)

#: The Event of a pod that is, or was taken for, one end of a flow.
EVENT = Table(
    "event",
    {
        "flow_id": ID,
        "side": END,
        "uid": NAME,
        # As one of endpoint.pods.
        "pod": PODS,
        "name": NAME,
        "message": MESSAGE,
        "sent_count": COUNT,
        "sent_message": MESSAGE,
        "sent_at_us": TIME,
        "writes": COUNT,
        "rounds": COUNT,
        "given_up": MESSAGE,
        "withdrawn": FLAG,
        # What the journal has of it.
        "recorded": one_of("", *Stretch),
        "recorded_count": COUNT,
        # Why its pod is to have no Event of it, and whether nothing else is to be kept of it either.
        "muted": NAME,
        "ignored": FLAG,
    },
    key=("flow_id", "side", "uid"),
    more=_OF_FLOW,
)

#: The flows that an address was admitted with, as digests one after the other.
BUDGET = Table(
    "budget",
    {
        "address": ADDRESS,
        "side": one_of(*ENDS, GUESTS),
        "since_us": TIME,
        "flows": blob(1 << 22, multiple_of=DIGEST),
    },
    key=("address", "side"),
)

#: Since when and until when pods of this node owned their addresses, with the bounds of both (tenancy.Interval).
INTERVAL = Table(
    "interval",
    {
        "address": ADDRESS,
        "key": NAME,
        "since_us": TIME,
        "sure_us": TIME.or_null(),
        "held_us": TIME.or_null(),
        "until_us": TIME.or_null(),
        "unseen_end": FLAG,
        "after_gap": FLAG,
        "namespace": NAME,
        "name": NAME,
        "uid": NAME,
        "label": NAME,
        "workload": NAME,
    },
    key=("address", "key", "since_us"),
)

#: When there was news of pods last.
POD_NEWS = Table("pod_news", {"id": ONE, "at_us": TIME}, key=("id",))

#: An Event of the Node (events.node_event.NodeEvent): what its drops have in common, and how far it has been written.
NODE_EVENT = Table(
    "node_event",
    {
        "id": ID,
        "verdict": NAME,
        "prefix": NAME,
        "direction": one_of("", *DIRECTIONS),
        "reply": FLAG,
        "protocol": NAME,
        "port": whole(0, 65_535).or_null(),
        "name": NAME,
        "begun_us": TIME,
        "first_us": TIME,
        "last_us": TIME,
        "count": COUNT,
        "sent_count": COUNT,
        "sent_at_us": TIME,
        "writes": COUNT,
        "rounds": COUNT,
        "given_up": MESSAGE,
    },
    key=("id",),
)

#: How many of a flow's drops such an Event counts.
NODE_SHARE = Table(
    "node_share",
    {"flow_id": ID, "event_id": ID, "count": COUNT},
    key=("flow_id",),
    more=f"{_OF_FLOW}, FOREIGN KEY (event_id) REFERENCES node_event (id)",
)

#: The machine that wrote all this: kiptail.daemon.machine.machine_id().
MACHINE = Table("machine", {"id": ONE, "machine_id": NAME}, key=("id",))

#: All of them; one that refers to another comes after it.
TABLES = (POSITION, LEDGER, FLOW, ENDPOINT, EVENT, BUDGET, INTERVAL, POD_NEWS, NODE_EVENT, NODE_SHARE, MACHINE)


def create(connection: sqlite3.Connection) -> None:
    """Make the tables, within a transaction of the caller's."""
    for statement in (*SEAL, *(statement for table in TABLES for statement in table.create)):
        connection.execute(statement)


def in_memory() -> sqlite3.Connection:
    """A state that leaves nothing behind, with nothing in it."""
    connection = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
    can_sum(connection)
    connection.execute("PRAGMA foreign_keys=ON")
    create(connection)
    return connection
