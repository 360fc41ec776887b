"""Who was at an address at a time, as flow records say it (pure).

A record says who its pod was, from its flow's first packet to the last. That there is a pod at the other end as well is
left to the records of that end, for they are taken back where it turns out to be another; names of what is no pod, and
that it is one of several, stand nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

from kiptail.report.recorded import Record, Who

__all__ = ["RecordedNames"]

#: Addresses, and stretches of one of them, that are distinguished.
MOST_ADDRESSES, MOST_STRETCHES = 500_000, 1_000
#: How far the time of a packet may be from that which kiptail found, who had seen more of the clocks, in µs. No address
#: has another owner so soon.
SLACK_US = 2_000
#: Claims of an address that are kept as they came, before they are joined.
_LOOSE = 64


class _Rank(IntEnum):
    """Which claims are asked first."""

    POD = 0
    NAME = 1


class _Stretch(NamedTuple):
    first_us: int
    last_us: int
    who: Who


@dataclass(slots=True)
class _Address:
    """What was claimed of one address, by rank."""

    claims: tuple[list[_Stretch], list[_Stretch]] = field(default_factory=lambda: ([], []))
    #: How many of each rank there may be before they are joined again.
    limits: list[int] = field(default_factory=lambda: [_LOOSE] * len(_Rank))

    def add(self, rank: _Rank, claim: _Stretch) -> None:
        known = self.claims[rank]
        known.append(claim)
        if len(known) > self.limits[rank]:
            known[:] = _joined(known)
            self.limits[rank] = 2 * len(known) + _LOOSE
            del known[MOST_STRETCHES:]

    def join(self) -> None:
        for claims in self.claims:
            claims[:] = _joined(claims)


class RecordedNames:
    """Collects what records say, and is then asked."""

    def __init__(self) -> None:
        self._addresses: dict[str, _Address] = {}
        self._joined = False

    def __bool__(self) -> bool:
        return bool(self._addresses)

    def add(self, record: Record) -> None:
        """Take in the last record of a series. One without packets says nothing: its pod had none of them."""
        if not record.packets:
            return
        own = Who(record.namespace, record.pod, record.workload, uid=record.uid)
        self._claim(record.own_address, _Rank.POD, record, own)
        peer = record.peer_who()
        if peer is not None and not peer.pod:
            self._claim(record.peer_address, _Rank.NAME, record, peer)

    def changes(self, address: str) -> set[int]:
        """The times at which another answer may begin."""
        moments: set[int] = set()
        for claims in self._claims(address):
            for first_us, last_us, _ in claims:
                moments |= {first_us - SLACK_US, first_us, last_us + 1, last_us + 1 + SLACK_US}
        return moments

    def at(self, address: str, at_us: int) -> Sequence[Who]:
        """Who may have been there, by what was recorded of that time: one, several, or nobody knows."""
        for slack_us in (0, SLACK_US):
            for claims in self._claims(address):
                found = {who[:2]: who for first, last, who in claims if first - slack_us <= at_us <= last + slack_us}
                if found:
                    return list(found.values())
        return ()

    def _claim(self, address: str, rank: _Rank, record: Record, who: Who) -> None:
        known = self._addresses.get(address)
        if known is None:
            if not address or len(self._addresses) >= MOST_ADDRESSES:
                return
            known = self._addresses[address] = _Address()
        known.add(rank, _Stretch(record.first_us, record.last_us, who))
        self._joined = False

    def _claims(self, address: str) -> tuple[list[_Stretch], list[_Stretch]]:
        if not self._joined:
            for one in self._addresses.values():
                one.join()
            self._joined = True
        known = self._addresses.get(address)
        return known.claims if known is not None else ([], [])


def _joined(claims: Sequence[_Stretch]) -> list[_Stretch]:
    """By their beginnings; those of one pod are one stretch where nobody else's begins in between.

    Who had an address before and after is taken to have had it in between. So there are few, however many records.
    """
    return list(_runs(sorted(claims)))


def _runs(claims: Sequence[_Stretch]) -> Iterator[_Stretch]:
    run: _Stretch | None = None
    for claim in claims:
        if run is not None and run.who == claim.who:
            run = run._replace(last_us=max(run.last_us, claim.last_us))
            continue
        if run is not None:
            yield run
        run = claim
    if run is not None:
        yield run
