"""The journals that are read: made once, under build/bench, with what kiptail has to count in them."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kiptail.netfilter.nflog import unit_of_group
from tests.support.journald import Fields, export_to_journal, kernel_entry

__all__ = [
    "BOTH_SOURCES",
    "FLOODS",
    "NFLOG_GROUP",
    "ONE_SOURCE",
    "PREFIX",
    "Shape",
    "Workload",
    "make_workload",
    "pods_of_a_node",
]

PREFIX = "calico-drop:"
#: The group whose packets ulogd logs without a prefix.
NFLOG_GROUP = 100
_UNIT = unit_of_group(NFLOG_GROUP)

#: The first entry: 2026-01-01 00:00 UTC, an hour after boot and after the pods started.
_START_US = 1_767_225_600_000_000
_UPTIME_US = 3_600_000_000
_PODS_STARTED = "2025-12-31T23:00:00Z"

#: What else a node's kernel says: other rules' lines, network, file systems, containers; with the fields that
#: journald adds to a device's line.
_OTHER_LINES: tuple[tuple[str, dict[str, str]], ...] = (
    ("cni0: port {small}(veth{hex8}) entered blocking state", {}),
    ("cni0: port {small}(veth{hex8}) entered forwarding state", {}),
    ("device veth{hex8} entered promiscuous mode", {}),
    ("IPv6: ADDRCONF(NETDEV_CHANGE): veth{hex8}: link becomes ready", {}),
    (
        "[UFW BLOCK] IN=eth0 OUT= MAC=0a:58:c6:33:64:03:0a:58:c6:33:64:01:08:00 SRC=203.0.113.{small} DST=198.51.100.3"
        " LEN=40 TOS=0x00 PREC=0x00 TTL=241 ID={number} PROTO=TCP SPT={number} DPT=23 WINDOW=1024 RES=0x00 SYN URGP=0 ",
        {},
    ),
    ("TCP: request_sock_TCP: Possible SYN flooding on port {number}. Sending cookies.  Check SNMP counters.", {}),
    ("EXT4-fs (dm-{small}): mounted filesystem with ordered data mode. Quota mode: none.", {}),
    ("overlayfs: upperdir is in-use as upperdir/workdir of another mount, accessing files will result in EPERM.", {}),
    ("Memory cgroup out of memory: Killed process {number} (java) total-vm:{number}kB, anon-rss:{number}kB", {}),
    ("IPVS: rr: TCP 10.96.0.10:{number} - no destination available", {}),
    (
        "virtio_net virtio1 eth0: hw csum failure",
        {"_KERNEL_SUBSYSTEM": "virtio", "_KERNEL_DEVICE": "+virtio:virtio1", "_UDEV_SYSNAME": "virtio1"},
    ),
    (
        "sd 2:0:0:{small}: [sda] Synchronizing SCSI cache",
        {"_KERNEL_SUBSYSTEM": "scsi", "_KERNEL_DEVICE": "+scsi:2:0:0:1", "_UDEV_SYSNAME": "2:0:0:1"},
    ),
)


@dataclass(frozen=True, slots=True)
class Workload:
    """A directory of journal files, and what is in it."""

    title: str
    #: ``journal/``, which holds nothing else as libsystemd watches it, and ``pods.json``, a snapshot of the pods that
    #: send the dropped packets; whoever reads the journal may write beside them.
    directory: Path
    entries: int
    #: Drops by the sending pod's ``namespace/name``; they are all for addresses that are no pods'.
    drops: dict[str, int]


@dataclass(frozen=True, slots=True)
class Shape:
    """Whose packets are dropped: ``drop(n)`` is the n-th one's sending pod and line."""

    #: For the table.
    name: str
    pods: int
    drop: Callable[[int], tuple[int, str]]
    #: From one entry to the next, in µs.
    step_us: int = 1_000
    #: The packets of each so many-th pod are an NFLOG rule's; 0: of none.
    nflog_every: int = 0


def pods_of_a_node(flows: int) -> Shape:
    """So many pods, each with a flow of its own."""
    return Shape(f"{flows} flows", flows, lambda drop: (drop % flows, _drop(drop, flows)))


def _flood(name: str, senders: int, target: Callable[[int], tuple[str, int]]) -> Shape:
    """A flood to these targets, of which each hundredth packet is a new flow's."""

    def drop(number: int) -> tuple[int, str]:
        sender = number % senders
        address, port = target(number)
        return sender, _syn(number, sender, address, port if number % 100 else 10_000 + number // 100 % 50_000)

    return Shape(f"{name}, 1 % new flows", senders, drop, step_us=50)


#: As the 200 flows, of 5,000 packets a second, and of 6,000, of which 1,000 by NFLOG. Flows cost too: both have 200.
ONE_SOURCE = replace(pods_of_a_node(200), name="200 flows, 5,000 a second", step_us=1_000_000 // 5_000)
BOTH_SOURCES = replace(
    pods_of_a_node(200), name="200 flows, 6,000 a second, 1,000 by NFLOG", step_us=1_000_000 // 6_000, nflog_every=6
)

#: Floods as they are: many to one, one to many, and one that scans.
FLOODS = (
    _flood("200 senders to one target", 200, lambda number: ("192.0.2.1", 8_080)),
    _flood("one sender to 200 targets", 1, lambda number: (f"192.0.2.{1 + number % 200}", 8_080)),
    _flood("one sender scans", 1, lambda number: (f"192.0.2.{1 + number % 40}", 8_000 + number // 40 % 50)),
)


def make_workload(below: Path, *, entries: int, drop_every: int, shape: Shape) -> Workload:
    """``entries`` kernel lines, of which every ``drop_every``-th is the next drop of ``shape``.

    Made by systemd-journal-remote(8), unless it is there. The same arguments give the same entries.
    """
    made_by = hashlib.sha256(Path(__file__).read_bytes() + shape.name.encode()).hexdigest()[:8]
    directory = below / f"{entries}-every-{drop_every}-of-{shape.pods}-{made_by}"
    if not directory.exists():
        half_made = below / f"{directory.name}.part"
        shutil.rmtree(half_made, ignore_errors=True)
        export_to_journal(_entries(entries, drop_every, shape), half_made / "journal" / "bench.journal")
        pods = {"apiVersion": "v1", "kind": "List", "items": [_pod(pod) for pod in range(shape.pods)]}
        (half_made / "pods.json").write_text(json.dumps(pods))
        half_made.rename(directory)
    drops = range(len(range(0, entries, drop_every)))
    counts = Counter(f"bench/{_pod_name(shape.drop(drop)[0])}" for drop in drops)
    share = "all drops" if drop_every == 1 else f"{100 / drop_every:g} % drops"
    return Workload(f"{entries:,} entries, {share}, {shape.name}", directory, entries, dict(counts))


def _entries(entries: int, drop_every: int, shape: Shape) -> Iterator[Fields]:
    """Entries with the fields that journald of systemd 252 gives a kernel line."""
    for number in range(entries):
        monotonic_us = _UPTIME_US + number * shape.step_us
        extra: dict[str, str] = {}
        if number % drop_every == 0:
            sender, message = shape.drop(number // drop_every)
            if shape.nflog_every and sender % shape.nflog_every == shape.nflog_every - 1:
                yield _of_ulogd(message, _START_US + number * shape.step_us, monotonic_us)
                continue
        else:
            text, extra = _OTHER_LINES[_scattered(number) % len(_OTHER_LINES)]
            noise = _scattered(number + 1)
            message = text.format(small=1 + noise % 200, number=1_024 + noise % 60_000, hex8=f"{noise:08x}")
        yield kernel_entry(
            message,
            realtime_us=_START_US + number * shape.step_us,
            monotonic_us=monotonic_us,
            # The kernel stamps a line a little before journald does.
            _SOURCE_MONOTONIC_TIMESTAMP=monotonic_us - 20 - _scattered(number) % min(100, shape.step_us),
            _RUNTIME_SCOPE="system",
            **extra,
        )


def _of_ulogd(kernel_line: str, realtime_us: int, monotonic_us: int) -> Fields:
    """What journald of systemd 252 stores when ulogd2 logs the same packet, without a prefix."""
    line = kernel_line.removeprefix(PREFIX).removesuffix("MARK=0x10000 ")
    line = line.replace("TOS=0x", "TOS=").replace(" RES=0x00", "")
    line = line.replace(" WINDOW=", f" SEQ={_scattered(monotonic_us)} ACK=0 WINDOW=") + "MARK=0x0"
    return kernel_entry(
        line,
        realtime_us=realtime_us,
        monotonic_us=monotonic_us,
        _TRANSPORT="syslog",
        SYSLOG_FACILITY=3,
        SYSLOG_IDENTIFIER="ulogd",
        SYSLOG_TIMESTAMP="Jan  1 00:00:00 ",
        SYSLOG_RAW=f"<29>Jan  1 00:00:00 ulogd[4242]: {line} ",
        PRIORITY=5,
        _SOURCE_MONOTONIC_TIMESTAMP=None,
        _SOURCE_REALTIME_TIMESTAMP=realtime_us - 40,
        _PID=4242,
        _UID=61_234,
        _GID=61_234,
        _COMM="ulogd",
        _EXE="/usr/sbin/ulogd",
        _CMDLINE=f"/usr/sbin/ulogd --configfile /run/kiptail-ulogd-{NFLOG_GROUP}/ulogd.conf",
        _CAP_EFFECTIVE="1000",
        _SELINUX_CONTEXT="unconfined",
        _SYSTEMD_CGROUP=f"/system.slice/system-kiptail\\x2dulogd.slice/{_UNIT}",
        _SYSTEMD_UNIT=_UNIT,
        _SYSTEMD_SLICE="system-kiptail\\x2dulogd.slice",
        _SYSTEMD_INVOCATION_ID="5000000000000000000000000000000d",
        _RUNTIME_SCOPE="system",
    )


def _drop(drop: int, flows: int) -> str:
    """The line of the ``drop``-th drop: a flow's packets differ as those of retries do."""
    flow = drop % flows
    noise = _scattered(drop)
    mac = f"ee:ee:ee:ee:ee:ee:1e:0a:36:33:{flow // 256 % 256:02x}:{flow % 256:02x}:08:00"
    head = (
        f"{PREFIX} IN=cali{flow:011x} OUT=eth0 MAC={mac}"
        f" SRC={_address(flow)} DST=192.0.2.{1 + flow % 50} LEN={60 + noise % 40} TOS=0x00 PREC=0x00 TTL=63"
        f" ID={noise % 65_536} DF"
    )
    source_port = 32_768 + noise % 28_000
    if flow % 20 == 0:
        return f"{head} PROTO=ICMP TYPE=8 CODE=0 ID={noise % 65_536} SEQ={1 + drop % 100} "
    if flow % 4 == 1:
        return f"{head} PROTO=UDP SPT={source_port} DPT=53 LEN={40 + noise % 40} "
    return f"{head} PROTO=TCP SPT={source_port} DPT={8_000 + flow} WINDOW=64240 RES=0x00 SYN URGP=0 MARK=0x10000 "


def _syn(drop: int, sender: int, target: str, port: int) -> str:
    """The line of a connection that is tried again and again."""
    noise = _scattered(drop)
    return (
        f"{PREFIX} IN=cali{sender:011x} OUT=eth0 MAC=ee:ee:ee:ee:ee:ee:1e:0a:36:33:{sender // 256:02x}:"
        f"{sender % 256:02x}:08:00 SRC={_address(sender)} DST={target} LEN=60 TOS=0x00 PREC=0x00 TTL=63"
        f" ID={noise % 65_536} DF PROTO=TCP SPT={32_768 + noise % 28_000} DPT={port} WINDOW=64240 RES=0x00 SYN URGP=0 "
    )


def _pod(flow: int) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "namespace": "bench",
            "name": _pod_name(flow),
            "uid": f"00000000-0000-4000-8000-{flow:012x}",
        },
        "spec": {"nodeName": "node-1"},
        "status": {
            "phase": "Running",
            "hostIP": "198.51.100.3",
            "podIP": _address(flow),
            "podIPs": [{"ip": _address(flow)}],
            "startTime": _PODS_STARTED,
        },
    }


def _pod_name(flow: int) -> str:
    return f"sender-{flow}"


def _address(flow: int) -> str:
    return f"10.244.{flow // 250}.{2 + flow % 250}"


def _scattered(number: int) -> int:
    """A number of 32 bits that looks random and is the same each time."""
    return number * 2_654_435_761 % 2**32
