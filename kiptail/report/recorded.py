"""A flow record as the journal has it → :class:`Record` (pure). docs/records.md has the fields.

Only records that kiptail's own unit wrote come here; still, what is no record of this form is refused, and not guessed.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from kiptail.events.endpoint import RECEIVED, SENT
from kiptail.events.flow_record import MESSAGE_IDS, Stretch

__all__ = ["Record", "Recorded", "Who"]

#: Texts and minutes that are made once: there are few of each in many records.
_REMEMBERED = 65_536
_PLACED = MESSAGE_IDS[Stretch.PLACED].encode()
_DIRECTIONS = frozenset({SENT, RECEIVED})
_VERDICTS = frozenset({"drop", "reject"})
#: Of a time, in characters.
_TIME_LENGTH = 27


class Who(NamedTuple):
    """A pod, or what an end is called that is none."""

    namespace: str = ""
    pod: str = ""
    workload: str = ""
    name: str = ""
    #: Of the pod; "" where only its name is known.
    uid: str = ""


# More than 12 attributes: one for each field.
class Record(NamedTuple):
    """What a record says of one end of a flow. Texts are "" where the field is left out."""

    #: ``KIPTAIL_FLOW`` and ``KIPTAIL_PAIR``, as numbers.
    series: int
    pair: int
    machine: str
    #: It is the first of its series.
    placed: bool
    #: The pod sent the packets; else they were for it.
    sent: bool
    namespace: str
    pod: str
    uid: str
    workload: str
    peer_kind: str
    peer: str
    peer_workload: str
    src: str
    dst: str
    protocol: str
    port: int | None
    icmp_type: int | None
    icmp_code: int | None
    reply: bool
    verdict: str
    prefix: str
    policy: str
    limited: bool
    packets: int
    #: µs since the epoch.
    first_us: int
    last_us: int

    def peer_who(self) -> Who | None:
        """The other end, as it is named; None where it has no name, or is many."""
        match self.peer_kind:
            case "pod":
                namespace, _, pod = self.peer.partition("/")
                return Who(namespace, pod, self.peer_workload)
            case "node":
                return Who(name=f"node/{self.peer}")
            case "service":
                return Who(name=f"service {self.peer}")
        return Who(name=self.peer) if self.peer else None

    @property
    def own_address(self) -> str:
        """The pod's; "" where there are several, which there never are."""
        return self.src if self.sent else self.dst

    @property
    def peer_address(self) -> str:
        """The other end's; "" where there are several."""
        return self.dst if self.sent else self.src


class Recorded:
    """Makes records of entries; equal texts of different records are one object."""

    def __init__(self) -> None:
        #: Entries that were no such record.
        self.refused = 0
        self._texts = _Texts()
        self._minutes: dict[bytes, int] = {}

    def series(self, fields: Mapping[str, Any]) -> int | None:
        """Which series it is of, before anything else is read; None where it is no record, which is counted."""
        try:
            return int(fields["KIPTAIL_FLOW"], 16)
        except (LookupError, ValueError, TypeError):
            self.refused += 1
            return None

    def of(self, fields: Mapping[str, Any]) -> Record | None:
        """The record; None where it is none, which is counted."""
        try:
            return self._made(fields)
        except (LookupError, ValueError, AttributeError, TypeError, OverflowError):
            # AttributeError and TypeError: a field that occurs twice is a list.
            self.refused += 1
            return None

    def _made(self, fields: Mapping[str, Any]) -> Record:
        # Without a call for each field: this is what reading takes most of its time for.
        text, get, stretch = self._texts, fields.get, fields["MESSAGE_ID"]
        direction, verdict = text[fields["KIPTAIL_DIRECTION"]], text[fields["KIPTAIL_VERDICT"]]
        if direction not in _DIRECTIONS or verdict not in _VERDICTS:
            raise ValueError("no word of ours")
        port, icmp = get("KIPTAIL_PORT"), get("KIPTAIL_ICMP")
        icmp_type, icmp_code = (None, None) if icmp is None else _icmp(icmp)
        first_us, last_us = self._time(fields["KIPTAIL_FIRST"]), self._time(fields["KIPTAIL_LAST"])
        return Record(
            int(fields["KIPTAIL_FLOW"], 16),
            int(fields["KIPTAIL_PAIR"], 16),
            text[get("_MACHINE_ID", b"")],
            stretch == _PLACED,
            direction == SENT,
            text[fields["KIPTAIL_NAMESPACE"]],
            text[fields["KIPTAIL_POD"]],
            text[fields["KIPTAIL_POD_UID"]],
            text[get("KIPTAIL_WORKLOAD", b"")],
            text[fields["KIPTAIL_PEER_KIND"]],
            text[get("KIPTAIL_PEER", b"")],
            text[get("KIPTAIL_PEER_WORKLOAD", b"")],
            text[get("KIPTAIL_SRC", b"")],
            text[get("KIPTAIL_DST", b"")],
            text[get("KIPTAIL_PROTOCOL", b"")],
            None if port is None else int(port),
            icmp_type,
            icmp_code,
            "KIPTAIL_REPLY" in fields,
            verdict,
            text[get("KIPTAIL_PREFIX", b"")],
            text[get("KIPTAIL_POLICY", b"")],
            "KIPTAIL_LIMITED" in fields,
            int(fields["KIPTAIL_COUNT"]),
            min(first_us, last_us),
            last_us,
        )

    def _time(self, data: bytes) -> int:
        """Of ``2026-11-26T05:00:00.123456Z``, µs since the epoch."""
        if len(data) != _TIME_LENGTH:
            raise ValueError("no time of ours")
        minute = data[:16]
        begin_us = self._minutes.get(minute)
        if begin_us is None:
            if len(self._minutes) >= _REMEMBERED:
                self._minutes.clear()
            at = datetime.strptime(minute.decode("ascii"), "%Y-%m-%dT%H:%M").replace(tzinfo=UTC)
            begin_us = self._minutes[minute] = int(at.timestamp()) * 1_000_000
        return begin_us + int(data[17:19]) * 1_000_000 + int(data[20:26])


class _Texts(dict[bytes, str]):
    """Values of fields as text, each made once."""

    def __missing__(self, data: bytes) -> str:
        if len(self) >= _REMEMBERED:
            self.clear()
        made = self[data] = data.decode("utf-8", "replace")
        return made


def _icmp(data: bytes) -> tuple[int, int | None]:
    """``3/1``, or the type alone."""
    kind, slash, code = data.partition(b"/")
    return int(kind), int(code) if slash else None
