"""What a line's packet is counted as, where filters leave some out (pure); which ones, :mod:`kiptail.quiet` decides."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from kiptail.flows.flow import FlowKey, flow_key
from kiptail.netfilter.parser import PacketDrop
from kiptail.netfilter.prefixes import PrefixMatch

__all__ = ["Counted", "LeaveOut", "LeftOut", "counted_as", "nothing_left_out", "sorted_out"]


class LeftOut(NamedTuple):
    """A filter's answer."""

    #: The filter's word for the metrics.
    reason: str
    #: Nothing of it is kept but the number; else it only has no Event.
    everything: bool


#: What the filters say of a flow's packets by what their lines tell: the key, and whether they reset a connection (the
#: TCP flag RST). None: nothing is left out.
LeaveOut = Callable[[FlowKey, bool], LeftOut | None]


def nothing_left_out(_key: FlowKey, _reset: bool) -> None:
    """Without filters."""
    return


class Counted(NamedTuple):
    """What a packet counts as."""

    #: With :attr:`FlowKey.muted` as the filters say.
    key: FlowKey
    #: The reason why it is only counted as left out, or "".
    ignored: str = ""


def counted_as(drop: PacketDrop, prefix: PrefixMatch, leave_out: LeaveOut) -> Counted:
    """What ``drop``, logged under this prefix, counts as."""
    return sorted_out(flow_key(drop, prefix), drop.tcp_reset, leave_out)


def sorted_out(key: FlowKey, reset: bool, leave_out: LeaveOut) -> Counted:
    """What packets of a flow count as; whatever filters said of the key before does not matter."""
    key = key._replace(muted="") if key.muted else key
    left_out = leave_out(key, reset)
    if left_out is None:
        return Counted(key)
    if left_out.everything:
        return Counted(key, left_out.reason)
    return Counted(key._replace(muted=left_out.reason))
