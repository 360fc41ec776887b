"""What the rows of the state file mean: flows, who is at their ends, Events, budgets and the journal's position.

Each row and the object that it stands for, one way and the other; :mod:`kiptail.state.intervals` has the pods'.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kiptail.clock.steady import Times
from kiptail.events.endpoint import Endpoint, Kind
from kiptail.events.event import EventRecord
from kiptail.flows.budget import DIGEST, BudgetState, NodeWindow, Window
from kiptail.flows.flow import ENDS, Distinct, Flow, FlowKey, Spread
from kiptail.flows.ledger import Changes
from kiptail.flows.trail import Trail
from kiptail.journal.position import Position
from kiptail.journal.source_clock import SourceClock
from kiptail.pods.ownership import PodRef
from kiptail.state.rows import Row
from kiptail.state.schema import BUDGET, ENDPOINT, EVENT, FLOW, LEDGER, POSITION

__all__ = [
    "Saved",
    "SavedFlow",
    "endpoint_row",
    "flow_row",
    "ledger_row",
    "load",
    "position_row",
    "record_row",
    "window_row",
]


@dataclass(frozen=True, slots=True)
class SavedFlow:
    """A stored flow, who was found at its ends, and the pods' Events."""

    flow: Flow
    endpoints: dict[str, Endpoint]
    records: tuple[EventRecord, ...]


@dataclass(frozen=True, slots=True)
class Saved:
    """All that a start resumes from."""

    position: Position | None
    watermark_us: int
    next_flow_id: int
    last_stamp: int
    budget: BudgetState
    flows: tuple[SavedFlow, ...]


def load(connection: sqlite3.Connection) -> Saved:
    """Everything that is in the tables, but for the pods' intervals."""
    position = next(map(_position, POSITION.load(connection)), None)
    _id, watermark_us, next_id, last_stamp, *node = next(LEDGER.load(connection), (1, 0, 1, 0, *NodeWindow()))
    windows = tuple(map(_window, BUDGET.load(connection)))
    flows = {flow.id: flow for flow in map(_flow, FLOW.load(connection))}
    endpoints: dict[int, dict[str, Endpoint]] = {}
    for flow_id, end, *endpoint in ENDPOINT.load(connection):
        endpoints.setdefault(flow_id, {})[end] = _endpoint(flows[flow_id].key.address(end), endpoint)
    records: dict[int, list[EventRecord]] = {}
    for record in map(_record, EVENT.load(connection)):
        records.setdefault(record.flow_id, []).append(record)
    saved = tuple(
        SavedFlow(flow, endpoints.get(flow_id, {}), tuple(records.get(flow_id, ())))
        for flow_id, flow in sorted(flows.items())
    )
    budget = BudgetState(windows, NodeWindow(*node))
    return Saved(position, watermark_us, max(next_id, max(flows, default=0) + 1), last_stamp, budget, saved)


def record_row(record: EventRecord) -> Row:
    """The row of an Event."""
    return (
        record.flow_id,
        record.end,
        record.pod.uid,
        json.dumps(record.pod),
        record.name,
        record.message,
        record.sent_count,
        record.sent_message,
        record.sent_at_us,
        record.writes,
        record.rounds,
        record.given_up,
        record.withdrawn,
        record.recorded,
        record.recorded_count,
        record.muted,
        record.ignored,
    )


def flow_row(flow: Flow) -> Row:
    """The row of a flow."""
    spread = flow.spread
    return (
        flow.id,
        *flow.key,
        flow.opened_us,
        flow.first_us,
        flow.last_us,
        flow.seen_us,
        flow.count,
        flow.ended,
        ",".join(flow.ends),
        *((bytes(spread.peers), bytes(spread.ports)) if spread else (None, None)),
        flow.stamp,
        bytes(flow.trail),
        flow.mixed,
    )


def position_row(position: Position) -> Row:
    """The row of the journal's position."""
    clock = position.clock
    return (
        1,
        position.cursor,
        position.boot_id,
        position.monotonic_us,
        position.realtime_us,
        *((clock.boot_id, clock.monotonic_us, clock.offset_us) if clock else (None, None, None)),
        json.dumps(position.times) if position.times else None,
    )


def ledger_row(changes: Changes) -> Row:
    """The one row that tells how far the ledger has come."""
    return 1, changes.watermark_us, changes.next_flow_id, changes.last_stamp, *changes.budget.node


def window_row(window: Window) -> Row:
    """The row of an address' window."""
    return window.address, window.end, window.since_us, b"".join(sorted(window.flows))


def endpoint_row(flow_id: int, end: str, endpoint: Endpoint) -> Row:
    """The row of who is at one end of a flow."""
    return (
        flow_id,
        end,
        endpoint.kind,
        json.dumps(endpoint.pods),
        endpoint.name,
        endpoint.probes,
        endpoint.port_name,
        endpoint.host_port_of,
    )


def _endpoint(address: str, row: Sequence[Any]) -> Endpoint:
    """``row``: but for the flow's number and the end."""
    state, pods, name, probes, port_name, host_port_of = row
    refs = tuple(map(_pod, json.loads(pods)))
    ports = {"port_name": port_name, "host_port_of": host_port_of}
    return Endpoint(Kind(state), address, refs, name, probes=bool(probes), **ports)


def _pod(ref: object) -> PodRef:
    """Of the namespace, name, UID, label and, unless an earlier version stored it, workload.

    ValueError, TypeError when it is something else.
    """
    if not (isinstance(ref, list) and all(isinstance(part, str) for part in ref)):
        raise ValueError("no pod")
    return PodRef(*ref)


def _record(row: Row) -> EventRecord:
    flow_id, end, _uid, pod, name, message, sent_count, sent_message, sent_at_us, *more = row
    writes, rounds, given_up, withdrawn, recorded, recorded_count, muted, ignored = more
    return EventRecord(
        flow_id,
        end,
        _pod(json.loads(pod)),
        name,
        message,
        sent_count,
        sent_message,
        sent_at_us,
        writes,
        rounds,
        given_up,
        bool(withdrawn),
        recorded=recorded,
        recorded_count=recorded_count,
        muted=muted,
        ignored=bool(ignored),
    )


def _flow(row: Row) -> Flow:
    key = FlowKey(*row[1:13])
    opened_us, first_us, last_us, seen_us, count, ended, ends, peers, ports, stamp, trail, mixed = row[13:]
    return Flow(
        row[0],
        key._replace(reply=bool(key.reply)),
        opened_us,
        first_us,
        last_us,
        seen_us,
        count,
        bool(ended),
        tuple(end for end in ENDS if end in ends.split(",")),
        Spread(Distinct(peers), Distinct(ports)) if peers is not None else None,
        stamp,
        # Of a flow that an earlier version stored, nothing is told apart.
        Trail.restored(trail) if trail is not None else Trail(),
        bool(mixed),
    )


def _window(row: Row) -> Window:
    address, end, since_us, digests = row
    flows = {digests[at : at + DIGEST] for at in range(0, len(digests), DIGEST)}
    return Window(address, end, since_us, flows)


def _position(row: Row) -> Position:
    _id, cursor, boot_id, monotonic_us, realtime_us, *clock, times = row
    return Position(
        cursor,
        boot_id,
        monotonic_us,
        realtime_us,
        SourceClock(*clock) if clock[0] is not None else None,
        Times.restored(json.loads(times)) if times is not None else None,
    )
