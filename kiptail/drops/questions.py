"""What to ask ``kiptail explain`` about a pod's drops (pure)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from kiptail.drops.row import Row
from kiptail.drops.table import in_order
from kiptail.events.endpoint import SENT

__all__ = ["MOST", "Asked", "questions"]

#: Of one pod no more connections are asked about, the latest ones.
MOST = 10
#: Those that a NetworkPolicy's ports can be of.
_WITH_PORTS = ("TCP", "UDP", "SCTP")


class Asked(NamedTuple):
    """The words of a command line."""

    source: str
    destination: str
    port: str | None


def questions(rows: Iterable[Row]) -> tuple[list[Asked], int]:
    """The connections of which packets were dropped, each once, the latest first; and how many rows tell of none.

    A reply is no matter of policy, and who the many peers of a scan were is not known.
    """
    asked: dict[Asked, None] = {}
    passed_over = 0
    for row in reversed(in_order(rows, "last")):
        peer = row.peer if row.peer_is_pod else row.address
        if row.reply or not peer or not row.direction:
            passed_over += 1
            continue
        pod = f"{row.namespace}/{row.pod}"
        ends = (pod, peer) if row.direction == SENT else (peer, pod)
        with_port = row.port and row.protocol in _WITH_PORTS
        asked.setdefault(Asked(*ends, f"{row.port}/{row.protocol}" if with_port else None))
    return list(asked)[:MOST], passed_over
