"""The one text of an IP address: by it addresses are the same, in log lines, the state and what the API server says."""

from __future__ import annotations

import socket
import struct

__all__ = ["canonical"]


def canonical(text: str) -> str | None:
    """``text`` in lower case without needless zeros (RFC 5952), never with dots in IPv6; None when it is no address.

    Not :mod:`ipaddress`: from Python 3.13 on it writes ``::ffff:10.0.0.1`` for ``::ffff:a00:1``, and what an older one
    left in the state would be another address. inet_pton() is as strict and ten times as fast; zones
    (``fe80::1%eth0``), which can be any text, are neither what the kernel logs nor what a pod has.
    """
    try:
        if ":" not in text:
            socket.inet_pton(socket.AF_INET, text)
            return text
        address = socket.inet_ntop(socket.AF_INET6, socket.inet_pton(socket.AF_INET6, text))
    except (OSError, ValueError):  # ValueError: a NUL, or a surrogate, which has no UTF-8
        return None
    if "." not in address:
        return address
    # What libc writes for ::ffff:a00:1 and ::a00:1.
    head, _, tail = address.rpartition(":")
    high, low = struct.unpack("!HH", socket.inet_aton(tail))
    return f"{head}:{high:x}:{low:x}"
