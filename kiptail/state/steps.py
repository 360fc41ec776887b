"""How a state file of an earlier version becomes one of this."""

from __future__ import annotations

import sqlite3

from kiptail.state.rows import is_sealed
from kiptail.state.schema import FIRST_SEALED, SCHEMA_VERSION, TABLES, create

__all__ = ["bring_up"]

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
    4: """
ALTER TABLE flow ADD COLUMN policy TEXT NOT NULL DEFAULT '';
ALTER TABLE event ADD COLUMN recorded TEXT NOT NULL DEFAULT '';
ALTER TABLE event ADD COLUMN recorded_count INTEGER NOT NULL DEFAULT 0;
CREATE TABLE node_event (
    id INTEGER PRIMARY KEY, verdict TEXT NOT NULL, prefix TEXT NOT NULL, direction TEXT NOT NULL,
    reply INTEGER NOT NULL, protocol TEXT NOT NULL, port INTEGER, name TEXT NOT NULL, begun_us INTEGER NOT NULL,
    first_us INTEGER NOT NULL, last_us INTEGER NOT NULL, count INTEGER NOT NULL, sent_count INTEGER NOT NULL,
    sent_at_us INTEGER NOT NULL, writes INTEGER NOT NULL, rounds INTEGER NOT NULL, given_up TEXT NOT NULL
);
CREATE TABLE node_share (flow_id INTEGER PRIMARY KEY, event_id INTEGER NOT NULL, count INTEGER NOT NULL);
ALTER TABLE flow ADD COLUMN muted TEXT NOT NULL DEFAULT '';
ALTER TABLE event ADD COLUMN muted TEXT NOT NULL DEFAULT '';
ALTER TABLE event ADD COLUMN ignored INTEGER NOT NULL DEFAULT 0;
ALTER TABLE interval ADD COLUMN workload TEXT NOT NULL DEFAULT '';
ALTER TABLE endpoint ADD COLUMN port_name TEXT NOT NULL DEFAULT '';
ALTER TABLE endpoint ADD COLUMN host_port_of TEXT NOT NULL DEFAULT '';
""",
}


def bring_up(connection: sqlite3.Connection, version: int) -> None:
    """Make a file of an earlier version one of this, all or nothing.

    ValueError when it holds what that version cannot have written. Then the tables are made anew, so that there is one
    text of each, wherever a file comes from, and what it holds is written into them.
    """
    if version >= FIRST_SEALED and not is_sealed(connection, TABLES):
        raise ValueError("its rows do not match their checksums")
    steps = "".join(_STEPS[step] for step in range(version, SCHEMA_VERSION))
    try:
        connection.executescript(f"BEGIN IMMEDIATE; {steps}")
        rows = {table: table.load_checked(connection) for table in TABLES}
        for table in reversed(TABLES):
            connection.execute(f"DROP TABLE {table.name}")
        connection.execute("DROP TABLE IF EXISTS seal")
        create(connection)
        for table in TABLES:
            table.save(connection, rows[table])
        connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
