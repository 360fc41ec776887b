"""What a pod says of its time with its addresses: bounds of the beginning and of the end (pure).

What the kubelet dated is exact to a second, by its clock; what only a change tells is bounded by when that was heard.
"""

from __future__ import annotations

from typing import NamedTuple

from kiptail.pods.pod import Pod
from kiptail.pods.tenancy import ALWAYS, RESOLUTION_US, Interval, ceil_s, floor_s

__all__ = ["WATCH_LAG_US", "End", "Seen", "begin", "begin_is_known", "deleted", "end", "has_again", "margin_us"]

#: So far the clocks of two machines may differ: another node's kubelet, or the API server, and this node's kernel.
CLOCKS_US = 2_000_000

#: How long beyond the grace period a kubelet needs to kill a pod by force, in µs.
KILL_US = 2_000_000

#: What a live watch shows happened at most this long before, in µs: kubelet, API server and watch take time.
WATCH_LAG_US = 2_000_000


class Seen(NamedTuple):
    """How a pod was seen."""

    #: When that was, µs since the epoch.
    now_us: int
    #: A watch saw it happen, so that ``now_us`` dates it.
    live: bool
    #: An end that nobody saw was then at the latest.
    limit_us: int
    #: How far the clock that dates the pod's times may be off ours: :func:`margin_us`.
    margin_us: int


class End(NamedTuple):
    """Until when a pod has an address."""

    #: It surely has it until here; None = it has it and means to stay.
    held_us: int | None
    #: It does not have it later; None = nothing says that it gives it back.
    until_us: int | None
    #: Nobody saw that end.
    unseen: bool = False


def margin_us(pod: Pod, *, node: str) -> int:
    """How far the clock that dates this pod's times may be off that of ``node``, which is this machine."""
    return 0 if pod.node == node != "" else CLOCKS_US


def begin_is_known(pod: Pod) -> bool:
    """The object dates when the pod's network was there, instead of only when its kubelet accepted it."""
    return pod.ready_us is not None or pod.running_us is not None


def begin(pod: Pod, seen: Seen, *, moved: bool) -> tuple[int, int]:
    """Since when a pod has an address that it shows for the first time: no earlier, and no later.

    ``moved``: it had others before.
    """
    now_us, margin_us = seen.now_us, seen.margin_us
    if begin_is_known(pod):
        # Kubelets before 1.35 tell that the sandbox is ready only when the containers have been started, and those
        # before 1.29 never do. Without that, an earlier run of a container was in the same sandbox, or in another.
        signs = [pod.ready_us, pod.running_us, pod.ran_us if pod.ready_us is None and not moved else None]
        began_us = min(us for us in signs if us is not None)
        began_us = min(began_us, floor_s(now_us))  # later than now: a clock is wrong
        return began_us - margin_us, min(began_us + RESOLUTION_US + margin_us, ceil_s(now_us))
    since_us = ALWAYS if pod.start_us is None else min(pod.start_us, floor_s(now_us))
    if seen.live:
        # Not the start of one that has just appeared: until its sandbox was ready, another may have had it.
        return max(since_us, floor_s(now_us - WATCH_LAG_US)), ceil_s(now_us)
    return since_us, floor_s(now_us)  # it was there before it was listed


def end(pod: Pod, seen: Seen, mine: Interval | None) -> End:
    """Until when a pod has the addresses that it shows; ``mine`` is what is known of its time with one of them."""
    now_us = seen.now_us
    if pod.until_us is not None and not pod.released:
        held_us, until_us = _dated(pod.until_us, seen.margin_us)
        return End(min(held_us, floor_s(now_us)), min(until_us, ceil_s(now_us)))
    if pod.released:  # more exact than the object: it was seen, now or before, or missed just now
        if mine is not None and mine.until_us is not None:
            return End(mine.held_us, mine.until_us, mine.unseen_end)
        last_us = floor_s(min(pod.until_us or 0, now_us))
        if mine is None:
            return End(last_us - seen.margin_us, last_us + RESOLUTION_US)
        if seen.live:
            return End(last_us - seen.margin_us, ceil_s(now_us))
        return End(last_us - seen.margin_us, ceil_s(seen.limit_us), unseen=True)
    sure_us = mine.sure_us if mine is not None else ALWAYS
    if pod.lost_us is not None:
        held_us, until_us = _dated(pod.lost_us, seen.margin_us)
        held_us = sure_us if pod.stopped_us is None else min(held_us, _dated(pod.stopped_us, seen.margin_us)[0])
        return End(held_us, min(until_us, ceil_s(now_us)))
    if mine is not None and mine.until_us is not None:  # known from an earlier run, and nothing speaks against it
        return End(mine.held_us, mine.until_us, mine.unseen_end)
    if pod.leaving:
        return End(sure_us if pod.asked_us is None else floor_s(pod.asked_us) - CLOCKS_US, None)
    return End(None, None)


def deleted(pod: Pod, seen: Seen) -> tuple[int | None, int]:
    """Until when a pod whose object was deleted had its addresses: surely, if that is known, and at the latest.

    It may have been deleted by force, so that its containers outlive it: they have its grace period.
    """
    if pod.stopped_us is not None:
        return _dated(pod.stopped_us, seen.margin_us)
    if pod.asked_us is not None:
        killed_us = min(seen.now_us, pod.asked_us + CLOCKS_US) + pod.grace_us + KILL_US
        return pod.asked_us - CLOCKS_US, killed_us
    # Without a sandbox it may have had the addresses no longer, although the object was there.
    held_us = seen.now_us - WATCH_LAG_US if seen.live and not pod.leaving else None
    return held_us, seen.now_us + pod.grace_us + KILL_US


def has_again(pod: Pod, until_us: int, *, margin_us: int) -> bool:
    """The address was given to the pod a second time, after ``until_us``: it has it, or has finished later."""
    if pod.lost_us is None and (pod.until_us is None or pod.released):
        return not pod.released and (pod.runs or not pod.blank)
    return pod.until_us is not None and pod.running_us is not None and pod.running_us >= until_us - margin_us


def _dated(at_us: int, margin_us: int) -> tuple[int, int]:
    """The bounds of an end that the kubelet dated."""
    return floor_s(at_us) - margin_us, floor_s(at_us) + RESOLUTION_US + margin_us
