"""Records the demo's sample journal anew (as root): ``python -m tests.support.record_sample demo``.

A journald reads the kernel log while packets are dropped between namespaces that stand for the pods of
``pods.json``, while other programs log, and while somebody forges lines. Its entries are kept as they are, but for
the fields that tell about the machine.
"""

from __future__ import annotations

import gzip
import json
import re
import sys
import tempfile
import time
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from tests.support.journald import Journald, export_to_journal, fields_of, kmsg
from tests.support.netns import Network, network

PREFIX = "calico-drop:"
FORGED = (
    f"{PREFIX} IN=eth0 OUT=eth1 SRC=10.244.1.9 DST=10.244.1.3 LEN=60 TOS=0x00 PREC=0x00 TTL=63 ID=1"
    " PROTO=TCP SPT=40000 DPT=6666 WINDOW=64240 RES=0x00 SYN URGP=0"
)
DATABASE = "192.0.2.7"

#: The fields that are kept; the host is called what pods.json calls it.
FIELDS = (
    "__REALTIME_TIMESTAMP",
    "__MONOTONIC_TIMESTAMP",
    "_BOOT_ID",
    "_TRANSPORT",
    "_SOURCE_MONOTONIC_TIMESTAMP",
    "_UID",
    "MESSAGE",
    "PRIORITY",
    "SYSLOG_FACILITY",
    "SYSLOG_IDENTIFIER",
)
NODE = "worker-3"

#: namespace, name, addresses
PODS = (
    ("team-a", "web-0", ("10.244.1.3", "fd00:10:244:1::3")),
    ("team-a", "client", ("10.244.1.9", "fd00:10:244:1::9")),
    ("team-b", "report-28f1", ("10.244.1.12",)),
)

#: How long it takes, in seconds; the first second of packets, from one to the next, how many, and what is sent.
SECONDS = 60
TRAFFIC: tuple[tuple[int, int, int, tuple[str, str, str, int]], ...] = (
    (14, 1, 37, ("client", "tcp", "10.244.1.3", 8080)),
    (4, 1, 1, ("client", "tcp", "10.244.1.3", 9090)),
    (19, 4, 3, ("client", "udp", "10.244.1.3", 53)),
    (30, 3, 2, ("client", "ping", "10.244.1.3", 0)),
    (33, 1, 1, ("client", "ping", "fd00:10:244:1::3", 0)),
    (20, 6, 4, ("client", "tcp", "fd00:10:244:1::3", 8080)),
    (7, 12, 5, ("report-28f1", "tcp", DATABASE, 5432)),
)


def pod_list() -> dict[str, Any]:
    """What ``kubectl get pods -A -o json`` would have shown."""
    items = [
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"namespace": namespace, "name": name, "uid": f"00000000-0000-4000-8000-{number:012d}"},
            "spec": {"nodeName": NODE},
            "status": {
                "phase": "Running",
                "hostIP": "198.51.100.3",
                "hostIPs": [{"ip": "198.51.100.3"}],
                "podIP": addresses[0],
                "podIPs": [{"ip": address} for address in addresses],
                "startTime": "2026-01-01T00:00:00Z",
            },
        }
        for number, (namespace, name, addresses) in enumerate(PODS, start=1)
    ]
    return {"apiVersion": "v1", "kind": "List", "items": items}


def record(directory: Path) -> None:
    """Write ``sample.journal.gz`` and ``pods.json`` into ``directory``."""
    with tempfile.TemporaryDirectory() as scratch:
        with Journald(Path(scratch)) as journald, network() as net:
            for _namespace, name, addresses in PODS:
                net.add_pod(name, *addresses)
            net.add_pod("database", DATABASE)
            net.drop(f"{PREFIX} ", "ct state new")
            begin = time.time_ns() // 1000
            make_traffic(net, journald)
            time.sleep(1)
            journald.sync()
            entries = fields_of(journald.directory)
        sample = Path(scratch) / "sample.journal"
        export_to_journal(
            (
                {field: entry[field] for field in FIELDS if field in entry} | {"_HOSTNAME": NODE}
                for entry in entries
                if int(entry["__REALTIME_TIMESTAMP"]) >= begin and ours(entry)
            ),
            sample,
        )
        (directory / "sample.journal.gz").write_bytes(gzip.compress(sample.read_bytes(), 9, mtime=0))
    (directory / "pods.json").write_text(json.dumps(pod_list(), indent=1) + "\n")


def make_traffic(net: Network, journald: Journald) -> None:
    """Packets that are dropped, each in its second; and meanwhile programs that log, and forged lines."""
    begin = time.monotonic()
    for second in range(SECONDS):
        time.sleep(max(0.0, begin + second - time.monotonic()))
        for first, step, count, sent in TRAFFIC:
            if second in range(first, first + step * count, step):
                net.send(*sent)
        if second % 3 == 0:
            journald.systemd_cat("backup", f"copied {second // 3 + 1} of {SECONDS // 3} files")
    journald.systemd_cat("kernel", FORGED)
    journald.send_native({"MESSAGE": FORGED, "SYSLOG_FACILITY": "0", "SYSLOG_IDENTIFIER": "kernel"})
    kmsg(f"kernel: {FORGED}")  # journald takes the first word for the program's name


def ours(entry: Mapping[str, str]) -> bool:
    """Not what else this machine's kernel happened to log meanwhile."""
    addresses = [address for _, _, some in PODS for address in some]
    message = entry.get("MESSAGE", "")
    return entry.get("_TRANSPORT") != "kernel" or (
        message.startswith(PREFIX)
        and any(str(ip_address(word)) in addresses for word in re.findall(r"SRC=(\S+)", message))
    )


if __name__ == "__main__":
    record(Path(sys.argv[1]))
