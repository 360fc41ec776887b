"""Looks for what Calico leaves on a node, for ``kiptail check``. Nothing is changed."""

from __future__ import annotations

import re
import socket
from pathlib import Path

from kiptail.check.facts import CalicoFacts

__all__ = ["gather_calico"]

#: A pod's interface: "cali", and 11 digits of a hash.
_INTERFACE = re.compile(r"cali[0-9a-f]{11}")
#: Where Felix pins the maps of its eBPF data plane; without it, there are none of that name.
_MAPS = (Path("/sys/fs/bpf/tc/globals"), "cali_v[46]_*")


def gather_calico() -> CalicoFacts:
    """What may be seen by this user."""
    directory, names = _MAPS
    try:
        interfaces = sum(_INTERFACE.fullmatch(name) is not None for _, name in socket.if_nameindex())
        maps = next(directory.glob(names), None) is not None
    except OSError:
        return CalicoFacts()
    return CalicoFacts(interfaces, maps)
