"""Netfilter log line → :class:`PacketDrop` (pure).

Source of the line's shape: net/netfilter/nf_log_syslog.c and net/ipv4/netfilter, net/ipv6/netfilter of Linux.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["PacketDrop"]


class PacketDrop(NamedTuple):
    """What one line says. Absent values are None (numbers) or "" (interfaces)."""

    prefix: str
    in_interface: str
    out_interface: str
    src: str
    dst: str
    protocol: str
    src_port: int | None
    dst_port: int | None
    icmp_type: int | None
    icmp_code: int | None
    tcp_ack: bool
