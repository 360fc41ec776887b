"""How delivery goes, in numbers (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from kiptail.events.journaling import RecordCounts

__all__ = ["Progress"]


@dataclass(frozen=True, slots=True)
class Progress:
    """How delivery goes, for status and metrics."""

    #: Events that were never written.
    unposted: int
    #: Flows whose ends are not decided yet.
    unattributed: int
    #: Flows that ended and wait for their Events to be posted.
    ended: int
    #: Drops that nobody could be blamed for, as either of several pods may have had an address; it only grows.
    ambiguous: int
    #: Decisions that were taken back; it only grows.
    reattributed: int
    #: Why requests do not succeed at present, or "".
    trouble: str
    #: Drops at the ends of flows whose Events are left out there, by reason; they only grow.
    muted: Mapping[str, int] = field(default_factory=dict)
    #: How flow records fared.
    records: RecordCounts = field(default_factory=RecordCounts)
