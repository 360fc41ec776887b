"""What the state file holds: its tables, and how a file of an earlier version becomes one of this.

Another column is a line in its table here, one in the step that leads to this version, and its use in
:mod:`kiptail.state.store`. Checksums come by themselves.
"""

from __future__ import annotations

import sqlite3

from kiptail.clock.dates import LATEST_US
from kiptail.events.endpoint import Kind as Found
from kiptail.flows.budget import DIGEST, GUESTS
from kiptail.flows.flow import SIDES
from kiptail.state.rows import SEAL, Table, blob, can_sum, one_of, text, whole

__all__ = [
    "BUDGET",
    "ENDPOINT",
    "EVENT",
    "FLOW",
    "INTERVAL",
    "LEDGER",
    "MACHINE",
    "POD_NEWS",
    "POSITION",
    "SCHEMA_VERSION",
    "TABLES",
    "bring_up",
    "create",
    "in_memory",
]

#: ``PRAGMA user_version`` of the tables below.
SCHEMA_VERSION = 4

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
SIDE = one_of(*SIDES)
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
        # The side that is this machine itself.
        "here": one_of("", *SIDES),
        "opened_us": TIME,
        "first_us": TIME,
        "last_us": TIME,
        "seen_us": TIME,
        "count": COUNT,
        "ended": FLAG,
        # The sides it tells, and of a folded flow the bitmaps of its peers and ports.
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
        "side": SIDE,
        "state": one_of(*Found),
        # Of all who may have been there: [[namespace, name, uid, label], …].
        "pods": PODS,
        "name": NAME,
        "probes": FLAG,
    },
    key=("flow_id", "side"),
    more=_OF_FLOW,
)

#: The Event of a pod that is, or was taken for, one end of a flow.
EVENT = Table(
    "event",
    {
        "flow_id": ID,
        "side": SIDE,
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
    },
    key=("flow_id", "side", "uid"),
    more=_OF_FLOW,
)

#: The flows that an address was admitted with, as digests one after the other.
BUDGET = Table(
    "budget",
    {
        "address": ADDRESS,
        "side": one_of(*SIDES, GUESTS),
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
    },
    key=("address", "key", "since_us"),
)

#: When there was news of pods last.
POD_NEWS = Table("pod_news", {"id": ONE, "at_us": TIME}, key=("id",))

#: The machine that wrote all this: kiptail.daemon.machine.machine_id().
MACHINE = Table("machine", {"id": ONE, "machine_id": NAME}, key=("id",))

#: All of them; one that refers to another comes after it.
TABLES = (POSITION, LEDGER, FLOW, ENDPOINT, EVENT, BUDGET, INTERVAL, POD_NEWS, MACHINE)

#: What gives a file of each version the tables and columns of the next.
_STEPS = {
    1: """
ALTER TABLE ledger ADD COLUMN last_stamp INTEGER NOT NULL DEFAULT 0;
ALTER TABLE ledger ADD COLUMN window_us INTEGER NOT NULL DEFAULT 0;
ALTER TABLE ledger ADD COLUMN new_addresses INTEGER NOT NULL DEFAULT 0;
ALTER TABLE ledger ADD COLUMN new_pairs INTEGER NOT NULL DEFAULT 0;
ALTER TABLE flow ADD COLUMN sides TEXT NOT NULL DEFAULT 'src,dst';
ALTER TABLE flow ADD COLUMN peers BLOB;
ALTER TABLE flow ADD COLUMN ports BLOB;
ALTER TABLE flow ADD COLUMN stamp INTEGER NOT NULL DEFAULT 0;
UPDATE flow SET stamp = opened_us;
ALTER TABLE endpoint ADD COLUMN name TEXT NOT NULL DEFAULT '';
ALTER TABLE endpoint ADD COLUMN pods TEXT NOT NULL DEFAULT '[]';
UPDATE endpoint SET pods = json_array(json_array(namespace, pod, uid, label)) WHERE uid IS NOT NULL;
ALTER TABLE endpoint DROP COLUMN namespace;
ALTER TABLE endpoint DROP COLUMN pod;
ALTER TABLE endpoint DROP COLUMN uid;
ALTER TABLE endpoint DROP COLUMN label;
CREATE TABLE budget (
    address TEXT NOT NULL, side TEXT NOT NULL, since_us INTEGER NOT NULL, flows BLOB NOT NULL,
    PRIMARY KEY (address, side)
) WITHOUT ROWID;
CREATE TABLE interval (
    address TEXT NOT NULL, key TEXT NOT NULL, since_us INTEGER NOT NULL, until_us INTEGER,
    unseen_end INTEGER NOT NULL, sure_us INTEGER,
    namespace TEXT NOT NULL, name TEXT NOT NULL, uid TEXT NOT NULL, label TEXT NOT NULL,
    PRIMARY KEY (address, key, since_us)
) WITHOUT ROWID;
CREATE TABLE pod_news (id INTEGER PRIMARY KEY CHECK (id = 1), at_us INTEGER NOT NULL);
""",
    2: """
ALTER TABLE flow ADD COLUMN here TEXT NOT NULL DEFAULT '';
ALTER TABLE flow ADD COLUMN trail BLOB;
ALTER TABLE flow ADD COLUMN mixed INTEGER NOT NULL DEFAULT 0;
ALTER TABLE endpoint ADD COLUMN probes INTEGER NOT NULL DEFAULT 0;
CREATE TABLE event (
    flow_id INTEGER NOT NULL REFERENCES flow (id) ON DELETE CASCADE, side TEXT NOT NULL, uid TEXT NOT NULL,
    pod TEXT NOT NULL, name TEXT NOT NULL, message TEXT NOT NULL,
    sent_count INTEGER NOT NULL, sent_message TEXT NOT NULL, sent_at_us INTEGER NOT NULL, writes INTEGER NOT NULL,
    rounds INTEGER NOT NULL, given_up TEXT NOT NULL, withdrawn INTEGER NOT NULL,
    PRIMARY KEY (flow_id, side, uid)
) WITHOUT ROWID;
INSERT INTO event SELECT flow_id, side, json_extract(pods, '$[0][2]'), json_extract(pods, '$[0]'), event_name, message,
    coalesce(sent_count, 0), coalesce(sent_message, ''), coalesce(sent_at_us, 0), coalesce(writes, 0),
    coalesce(rounds, 0), coalesce(given_up, ''), 0
    FROM endpoint WHERE event_name IS NOT NULL AND json_array_length(pods) > 0;
ALTER TABLE endpoint DROP COLUMN event_name;
ALTER TABLE endpoint DROP COLUMN message;
ALTER TABLE endpoint DROP COLUMN sent_count;
ALTER TABLE endpoint DROP COLUMN sent_message;
ALTER TABLE endpoint DROP COLUMN sent_at_us;
ALTER TABLE endpoint DROP COLUMN writes;
ALTER TABLE endpoint DROP COLUMN rounds;
ALTER TABLE endpoint DROP COLUMN given_up;
-- The end of an ownership: not before held_us, NULL while the pod means to stay; not after until_us, NULL while
-- nothing says that it has ended. All in whole seconds.
ALTER TABLE interval ADD COLUMN held_us INTEGER;
ALTER TABLE interval ADD COLUMN after_gap INTEGER NOT NULL DEFAULT 0;
-- Of two that began in the same second, the later one is left.
UPDATE OR REPLACE interval SET since_us = since_us / 1000000 * 1000000,
    sure_us = coalesce(sure_us, since_us) / 1000000 * 1000000 + 1000000,
    held_us = until_us / 1000000 * 1000000, until_us = until_us / 1000000 * 1000000 + 1000000;
""",
    3: """
CREATE TABLE machine (id INTEGER PRIMARY KEY, machine_id TEXT NOT NULL);
ALTER TABLE position ADD COLUMN times TEXT;
""",
}


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


def bring_up(connection: sqlite3.Connection, version: int) -> None:
    """Make a file of an earlier version one of this, all or nothing.

    ValueError when it holds what that version cannot have written. Then the tables are made anew, so that there is one
    text of each, wherever a file comes from, and what it holds is written into them.
    """
    steps = "".join(_STEPS[step] for step in range(version, SCHEMA_VERSION))
    try:
        connection.executescript(f"BEGIN IMMEDIATE; {steps}")
        rows = {table: table.load_checked(connection) for table in TABLES}
        for table in reversed(TABLES):
            connection.execute(f"DROP TABLE {table.name}")
        create(connection)
        for table in TABLES:
            table.save(connection, rows[table])
        connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
