"""The owners of one address, one after the other: what is known of each one's time, and who had it when (pure).

Whatever tells of a pod's time is a whole second or comes late, so each beginning and each end is known within bounds.
An address is given to one pod at a time: what one pod's bounds leave open, another's may close. All bounds are whole
seconds (or :data:`ALWAYS`), so whoever counts drops by the second can distinguish them later, whenever news arrives.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from kiptail.pods.pod import PodRef

__all__ = [
    "NOBODY",
    "UNDATED_US",
    "Interval",
    "Owned",
    "boundaries",
    "ceil_s",
    "changes_of_hands",
    "ends",
    "floor_s",
    "owned",
]

SECOND_US = 1_000_000

#: Kubernetes' times are cut to whole seconds: what it dates happened within this time after, in µs.
RESOLUTION_US = SECOND_US

#: How far apart the bounds of a beginning that was not dated are, at least, if it matters, in µs.
UNDATED_US = 6 * SECOND_US

#: Before every time that anything is asked about.
ALWAYS = 0

#: After every time: an end that nobody knows of, in µs since the epoch (the year 9999).
NEVER = 253_402_300_799 * SECOND_US


class Interval(NamedTuple):
    """A pod's time with an address, within bounds: µs since the epoch."""

    #: The pod object's ``metadata.uid``.
    key: str
    ref: PodRef
    #: It had the address no earlier …
    since_us: int
    #: … and no later than from here on.
    sure_us: int
    #: It had it at least until here; None = it has it and means to stay.
    held_us: int | None
    #: It had it no longer than until here; None = nothing says that it has given it back.
    until_us: int | None
    #: Nobody saw the end: it was before anybody else had the address.
    unseen_end: bool = False
    #: The pod ran on this node.
    local: bool = False
    #: It began while nobody watched: somebody of whom nobody knows may have had the address before.
    after_gap: bool = False


class Owned(NamedTuple):
    """Who may have had an address at a time."""

    #: Nobody, the owner, or everybody who is known to have been able to be it.
    pods: tuple[PodRef, ...]
    #: It is certain; what can still change that is only that all that is known was old.
    sure: bool
    #: It may also have been somebody of whom nobody knows.
    stranger: bool = False


NOBODY = Owned((), sure=False)


class _Tenure(NamedTuple):
    """An interval's bounds in the light of the others."""

    ref: PodRef
    since_us: int
    sure_us: int
    held_us: int
    until_us: int
    after_gap: bool
    unseen_end: bool

    def came_after(self, other: _Tenure) -> bool:
        """It began later: of two that began in the same second, the one that was seen to last longer."""
        if self.sure_us != other.sure_us or self.unseen_end or other.unseen_end:
            return self.sure_us > other.sure_us
        return (self.held_us, self.until_us) > (other.held_us, other.until_us)


def floor_s(us: int) -> int:
    """The whole second that ``us`` is in."""
    return us // SECOND_US * SECOND_US


def ceil_s(us: int) -> int:
    """The whole second that ``us`` is over with."""
    return -(-us // SECOND_US) * SECOND_US


def owned(intervals: Sequence[Interval], at_us: int) -> Owned:
    """Who had the address at ``at_us``."""
    if len(intervals) == 1:  # nearly always
        (only,) = intervals
        if not only.since_us <= at_us < _or_never(only.until_us):
            return NOBODY
        sure = only.sure_us <= at_us < _or_never(only.held_us)
        return Owned((only.ref,), sure, stranger=only.after_gap and at_us < only.since_us + RESOLUTION_US and not sure)
    return _owned(_tenures(intervals), at_us)


def changes_of_hands(intervals: Sequence[Interval]) -> tuple[int, ...]:
    """The times, in their order, at which another answer of :func:`owned` begins."""
    tenures = _tenures(intervals)
    before = NOBODY
    changes = []
    bounds = {bound for tenure in tenures for bound in tenure[1:5] if bound < NEVER}
    bounds |= {tenure.since_us + RESOLUTION_US for tenure in tenures if tenure.after_gap}
    for at_us in sorted(bounds):
        now = _owned(tenures, at_us)
        if (now.pods, now.stranger) != (before.pods, before.stranger):
            changes.append(at_us)
        before = now
    return tuple(changes)


def boundaries(intervals: Sequence[Interval]) -> tuple[int, ...]:
    """The times at which an ownership may have begun or ended, in their order, whether that shows or not."""
    bounds = {bound for i in intervals for bound in (i.since_us, i.held_us, i.until_us) if bound is not None}
    return tuple(sorted(bounds))


def ends(intervals: Sequence[Interval]) -> list[int]:
    """Until when each of them had the address at the latest, :data:`NEVER` where nothing tells."""
    return [tenure.until_us for tenure in _tenures(intervals)]


def _owned(tenures: Iterable[_Tenure], at_us: int) -> Owned:
    possible = [tenure for tenure in tenures if tenure.since_us <= at_us < tenure.until_us]
    certain = [tenure for tenure in possible if tenure.sure_us <= at_us < tenure.held_us]
    # By what an Event says of it: a mirror pod that was made anew is the same static pod.
    pods = {tenure.ref[:3]: tenure.ref for tenure in certain or possible}
    stranger = not certain and any(tenure.after_gap and at_us < tenure.since_us + RESOLUTION_US for tenure in possible)
    return Owned(tuple(pods.values()), len(pods) == 1 and bool(certain), stranger)


def _tenures(intervals: Sequence[Interval]) -> list[_Tenure]:
    """All bounds, each as narrow as the others' make it.

    Whoever surely had the address ended the time of those before that are gone or leaving. Two that both mean to stay
    are not distinguished. Who came while the one before was still there, as far as is known, came after that one's end.
    """
    tenures = []
    for interval in intervals:
        since_us, sure_us = interval.since_us, interval.sure_us
        # A beginning that the kubelet dated is more exact than when somebody else was seen last.
        for earlier in intervals if sure_us - since_us >= UNDATED_US else ():
            held_us = earlier.held_us
            if held_us is not None and earlier.sure_us < sure_us and since_us < held_us <= sure_us:
                since_us = held_us
        ends_us = _or_never(interval.held_us), _or_never(interval.until_us)
        tenures.append(_Tenure(interval.ref, since_us, sure_us, *ends_us, interval.after_gap, interval.unseen_end))
    return [
        tenure if interval.held_us is None else _ended(interval, tenure, tenures)
        for interval, tenure in zip(intervals, tenures, strict=True)
    ]


def _ended(interval: Interval, tenure: _Tenure, tenures: Iterable[_Tenure]) -> _Tenure:
    """Bounds of the end of one that is gone or leaving, in the light of those that came after."""
    held_us, until_us = tenure.held_us, tenure.until_us
    for other in tenures:
        if other.came_after(tenure):
            until_us = min(until_us, other.sure_us)
        if interval.unseen_end and other is not tenure and other.since_us >= tenure.since_us:
            # That this one was there when it was seen last may have been old news by then.
            held_us = min(held_us, max(other.since_us, tenure.sure_us))
        if interval.unseen_end and other.since_us > tenure.sure_us:
            # Since when the later one had it is a guess only where nothing but its start is known. But it is the only
            # sign of the end, and to name both until somebody saw the later one would leave that one without Events.
            until_us = min(until_us, other.since_us + RESOLUTION_US)
    if interval.until_us is not None and not interval.unseen_end:
        # The end was seen: whoever claims the address earlier disagrees with that, and then nobody knows.
        until_us = max(until_us, min(held_us, tenure.until_us))
    return tenure._replace(until_us=until_us, held_us=min(held_us, until_us))


def _or_never(us: int | None) -> int:
    return NEVER if us is None else us
