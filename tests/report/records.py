"""Flow records as a test says them: parsed, and as the journal's fields."""

from __future__ import annotations

from typing import Any

from kiptail.clock.dates import exact_time
from kiptail.report.recorded import Record

__all__ = ["ENDED", "GROWN", "PLACED", "fields", "record"]

T0 = 1_795_000_000_000_000
PLACED, GROWN, ENDED = (
    "c8bb318f35a4484cb1e111a3c37f28d1", "3a469bee68e64cb7a09783349db4e910", "553ff3ef5ff8459882ce828f3a315622",
)  # fmt: skip


def record(**given: Any) -> Record:
    """A record of team-a/client, which sent three packets to 10.0.0.2."""
    known: dict[str, Any] = {
        "series": 1, "pair": 1, "machine": "m", "placed": False, "sent": True, "namespace": "team-a", "pod": "client",
        "uid": "uid-client", "workload": "", "peer_kind": "address", "peer": "", "peer_workload": "",
        "src": "10.0.0.1", "dst": "10.0.0.2", "protocol": "TCP", "port": 80, "icmp_type": None, "icmp_code": None,
        "reply": False, "verdict": "drop", "prefix": "drop:", "policy": "", "limited": False,
        "packets": 3, "first_us": T0, "last_us": T0,
    }  # fmt: skip
    return Record(**{**known, **given})


def fields(
    flow: int, *, pair: int | None = None, stretch: str = PLACED, count: int = 3, at: tuple[float, float] = (0, 0),
    pod: str = "team-a/client", sent: bool = True, peer: str = "address", **more: str,
) -> dict[str, str]:  # fmt: skip
    """The fields of a record; ``at``: of the first and the last packet, in seconds; ``peer``: ``KIND NAME``."""
    namespace, _, name = pod.partition("/")
    kind, _, peer_name = peer.partition(" ")
    made = {
        "MESSAGE_ID": stretch, "MESSAGE": "…", "KIPTAIL_NAMESPACE": namespace, "KIPTAIL_POD": name,
        "KIPTAIL_POD_UID": f"uid-{name}", "KIPTAIL_NODE": "node-1", "KIPTAIL_DIRECTION": "sent" if sent else "received",
        "KIPTAIL_PEER_KIND": kind, "KIPTAIL_PEER": peer_name, "KIPTAIL_SRC": "10.0.0.1", "KIPTAIL_DST": "10.0.0.2",
        "KIPTAIL_PROTOCOL": "TCP", "KIPTAIL_PORT": "80", "KIPTAIL_VERDICT": "drop", "KIPTAIL_PREFIX": "drop:",
        "KIPTAIL_COUNT": str(count), "KIPTAIL_FIRST": exact_time(T0 + round(at[0] * 1e6)),
        "KIPTAIL_LAST": exact_time(T0 + round(at[1] * 1e6)), "KIPTAIL_FLOW": f"{flow:016x}",
        "KIPTAIL_PAIR": f"{flow if pair is None else pair:016x}", **more,
    }  # fmt: skip
    return {field: value for field, value in made.items() if value}
