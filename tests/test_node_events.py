"""Events of the Node as kiptail posts them: a real journal, a real API server's answers, kills in between."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from tests.apiserver import ApiServer
from tests.support.journald import export_to_journal, kernel_entry
from tests.support.pods import pod
from tests.support.running import Kiptail, run_kiptail

LINE = (
    "fw-drop: IN={into} OUT={out} MAC= SRC={src} DST={dst} LEN=60 TOS=0x00 PREC=0x00 TTL=63 ID=1 PROTO=TCP SPT=40000"
    " DPT={port} WINDOW=1 RES=0x00 SYN URGP=0 "
)
NODE, POD = "10.1.0.3", "10.0.0.2"
RECEIVED = 'Packets dropped when receiving traffic on port {}/TCP, logged as "fw-drop:"'
FORWARDED = (
    'Packets dropped when forwarding traffic between addresses that are no pods\' on port 80/TCP, logged as "fw-drop:"'
)


def lines() -> list[str]:
    """Five senders to two ports of the node, one pair that it forwards for, and a pod."""
    made = []
    for sender in range(1, 6):
        for port in (22, 23):
            made += [LINE.format(into="eth0", out="", src=f"192.0.2.{sender}", dst=NODE, port=port)] * sender
    made += [LINE.format(into="eth0", out="eth1", src="192.0.2.1", dst="198.51.100.9", port=80)] * 3
    made += [LINE.format(into="eth0", out="cali1", src="192.0.2.1", dst=POD, port=80)] * 4
    return made


EXPECTED = {RECEIVED.format(22): 15, RECEIVED.format(23): 15, FORWARDED: 3}


def journal(directory: Path) -> Path:
    now = time.time_ns() // 1000
    entries = (kernel_entry(line, realtime_us=now + n, monotonic_us=1_000 + n) for n, line in enumerate(lines()))
    export_to_journal(entries, directory / "journal" / "system.journal")
    return directory / "journal"


def of_nodes(events: list[dict[str, Any]]) -> dict[str, int]:
    return {event["message"]: event["count"] for event in events if event["involvedObject"]["kind"] == "Node"}


def test_they_are_posted_and_go_on_after_a_kill(server: ApiServer, tmp_path: Path) -> None:
    server.pods.put(pod("web-0", POD))
    options = (
        "--kubeconfig", server.kubeconfig(tmp_path / "kubeconfig"), "--journal-directory", journal(tmp_path),
        "--state-directory", tmp_path / "state", "--metrics-address", "off", "--prefix", "fw-drop:",
        "--node-name", "worker-3", "--node-events",
    )  # fmt: skip
    for _ in range(2):
        with Kiptail(tmp_path, *options) as kiptail:
            kiptail.wait_for(lambda: of_nodes(server.events()) == EXPECTED, "the Node's Events")
            kiptail.kill()
    found = [event for event in server.events() if event["involvedObject"]["kind"] == "Node"]
    assert {event["metadata"]["namespace"] for event in found} == {"default"}
    assert {event["involvedObject"]["uid"] for event in found} == {"worker-3"}
    assert len(server.events()) == 4, "and that of the pod"


def test_without_the_option_there_are_none(server: ApiServer, tmp_path: Path) -> None:
    server.pods.put(pod("web-0", POD))
    with Kiptail(
        tmp_path,
        "--kubeconfig", server.kubeconfig(tmp_path / "kubeconfig"), "--journal-directory", journal(tmp_path),
        "--state-directory", tmp_path / "state", "--metrics-address", "off", "--prefix", "fw-drop:",
        "--node-name", "worker-3",
    ) as kiptail:  # fmt: skip
        kiptail.wait_for(lambda: len(server.events()) == 1, "the pod's Event")
        kiptail.stop()
    assert of_nodes(server.events()) == {}


def test_a_dry_run_prints_each_of_them_once(tmp_path: Path) -> None:
    pods = tmp_path / "pods.json"
    pods.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": [pod("web-0", POD, uid="u")]}))
    options = (
        "--dry-run", "--no-follow", "--journal-file", journal(tmp_path) / "system.journal", "--pods", pods,
        "--prefix", "fw-drop:", "--node-events",
    )  # fmt: skip
    done = run_kiptail(*options, "--output", "json")
    assert done.returncode == 0, done.stderr
    events = [json.loads(line)["event"] for line in done.stdout.splitlines()]
    assert of_nodes(events) == EXPECTED
    assert len(events) == 4
    as_text = run_kiptail(*options, "--node-name", "worker-3").stdout.decode()
    assert f"create node/worker-3 Warning PacketDrop x15: {RECEIVED.format(22)}\n" in as_text
