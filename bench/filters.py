"""A thousand filters of all kinds, none of which holds for what the journals have: each is in the way, and no more."""

from __future__ import annotations

__all__ = ["FILTERS"]

FILTERS = (
    *(f"src=203.0.{n // 250}.{n % 250} port=22,{100 + n % 900}" for n in range(300)),
    *(f"dst=2001:db8:{n:x}::/48 protocol=tcp reason=six-{n % 20}" for n in range(200)),
    *(f"peer=172.{16 + n % 16}.{n}.0/24 what=all" for n in range(100)),
    *(f"port={700 + n}" for n in range(100)),
    *(f"policy=team-{n}/deny-{n}" for n in range(50)),
    *(f"policy=team-{n}/*" for n in range(50)),
    *(f"namespace=team-{n} direction=received" for n in range(75)),
    *(f"namespace=*-test-{n}" for n in range(50)),
    *(f"pod=app=app-{n},tier!=prod" for n in range(50)),
    *(f"icmp=timestamp-request src=10.{n}.0.0/16" for n in range(22)),
    "replies",
    "multicast",
    "probes",
)
