"""What the kernel logs of an unprivileged user's making: real processes, the real kernel log, kiptail as a process."""

from __future__ import annotations

import os
import re
import secrets
from pathlib import Path

import pytest

from tests.apiserver import ApiServer
from tests.support.forging import by_a_crash, by_an_overlay
from tests.support.journald import ROOT_NEEDED, Journald, fields_of
from tests.support.pods import pod
from tests.support.running import Kiptail
from tests.support.scrape import free_port, get

pytestmark = [pytest.mark.live, pytest.mark.skipif(os.geteuid() != 0, reason=ROOT_NEEDED)]

PART = (
    "IN=eth0 OUT=eth1 MAC= SRC=10.0.0.1 DST=10.0.0.2 LEN=60 TOS=0x00 PREC=0x00 TTL=63 ID=1 DF PROTO=TCP SPT=40000"
    " DPT=80 WINDOW=64240 RES=0x00 SYN URGP=0 "
)


def untrusted(port: int) -> int:
    _, text = get(port)
    return int(re.findall(r'^kiptail_journal_entries_total\{outcome="untrusted"\} (\d+)', text, re.MULTILINE)[0])


def test_a_crash_and_an_overlay_make_no_event(server: ApiServer, tmp_path: Path) -> None:
    prefix, metrics = f"x{secrets.token_hex(4)}:", free_port()
    server.pods.put(pod("client", "10.0.0.1"))
    server.pods.put(pod("web-0", "10.0.0.2"))
    with (
        Journald(tmp_path / "journald") as journald,
        Kiptail(
            tmp_path,
            "--kubeconfig", server.kubeconfig(tmp_path / "kubeconfig"),
            "--journal-directory", journald.directory,
            "--state-directory", tmp_path / "state",
            "--metrics-address", f"127.0.0.1:{metrics}",
            "--prefix", prefix, "--node-name", "worker-3", "--since", "now",
        ) as kiptail,
    ):  # fmt: skip
        by_an_overlay(f" {prefix} {PART}")
        by_an_overlay(f"{prefix} {PART}")
        by_a_crash(f"{prefix} ", PART)
        kiptail.wait_for(lambda: untrusted(metrics) == 3, "all three")
        assert kiptail.stop() == 0
        forged = [entry for entry in fields_of(journald.directory) if prefix in entry["MESSAGE"]]
    assert server.events() == []
    assert {(entry["_TRANSPORT"], entry["SYSLOG_FACILITY"]) for entry in forged} == {("kernel", "0")}
    assert [PART in entry["MESSAGE"] for entry in forged] == [True] * 3, "the kernel quoted all of it"
    assert forged[2]["MESSAGE"].startswith(f"{prefix} ["), "it began with the prefix"
