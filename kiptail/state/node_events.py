"""The rows of the Node's Events in the state file, and of flows' shares in them."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager

from kiptail.events.node_event import NodeEvent, Subject
from kiptail.events.node_shares import Share
from kiptail.state.rows import Row
from kiptail.state.schema import NODE_EVENT, NODE_SHARE

__all__ = ["NodeEventRows", "load_node_events"]


class NodeEventRows:
    """The store's part for them: a :class:`kiptail.events.node_events.NodeBook`; errors as the store's."""

    def __init__(self, transaction: Callable[[], AbstractContextManager[sqlite3.Connection]]) -> None:
        self._transaction = transaction

    def load(self) -> tuple[list[NodeEvent], list[Share]]:
        """All of them."""
        with self._transaction() as connection:
            return load_node_events(connection)

    def save(self, events: Iterable[NodeEvent], shares: Iterable[Share]) -> None:
        """Store these, each in place of the one with its number, or its flow."""
        with self._transaction() as connection:
            NODE_EVENT.save(connection, map(_event_row, events))
            NODE_SHARE.save(connection, [(share.flow_id, share.event_id, share.count) for share in shares])

    def forget(self, events: Iterable[NodeEvent]) -> None:
        """Drop Events in which no flow has a share any more."""
        with self._transaction() as connection:
            connection.executemany("DELETE FROM node_event WHERE id=?", [(event.id,) for event in events])


def load_node_events(connection: sqlite3.Connection) -> tuple[list[NodeEvent], list[Share]]:
    """All of them, each as its last note says, which may not tell of the last write."""
    events = []
    for number, verdict, prefix, direction, reply, protocol, port, *more in NODE_EVENT.load(connection):
        event = NodeEvent(number, Subject(verdict, prefix, direction, bool(reply), protocol, port), *more)
        event.tried, event.unnoted = True, event.count != event.sent_count
        events.append(event)
    return events, [Share(*row) for row in NODE_SHARE.load(connection)]


def _event_row(event: NodeEvent) -> Row:
    return (
        event.id,
        *event.subject,
        event.name,
        event.begun_us,
        event.first_us,
        event.last_us,
        event.count,
        event.sent_count,
        event.sent_at_us,
        event.writes,
        event.rounds,
        event.given_up,
    )
