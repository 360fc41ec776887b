"""The package's unit for ulogd2 on a booted Debian, with NFLOG rules on the real kernel."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import subprocess
from collections.abc import Iterator

import pytest

from tests.system.conftest import WEB, Node

pytestmark = [
    pytest.mark.system,
    pytest.mark.timeout(3_000),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: debootstrap, systemd-nspawn and NFLOG rules"),
]

#: Nobody else's: the machine shares this one's network.
GROUP = 40_000 + os.getpid() % 10_000
UNIT = f"kiptail-ulogd@{GROUP}.service"
PORT = 4_789


@pytest.fixture
def rule() -> Iterator[None]:
    """What this machine sends to the pod's port is logged and dropped."""
    table = f"kiptail_{secrets.token_hex(4)}"
    rules = f"""table ip {table} {{
        chain output {{
            type filter hook output priority 0; policy accept;
            ip daddr {WEB} udp dport {PORT} log group {GROUP} drop
        }}
    }}"""
    subprocess.run(["nft", "-f", "-"], input=rules, text=True, check=True, timeout=30)
    yield
    subprocess.run(["nft", "delete", "table", "ip", table], check=True, timeout=30)


def send(count: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for _ in range(count):
            # What a dropped packet is to its sender.
            with contextlib.suppress(PermissionError):
                sender.sendto(b"x", (WEB, PORT))


def rejected(node: Node) -> int:
    """Packets that the pod has been told of."""
    events = [event for event in node.server.events() if f"port {PORT}/UDP" in event["message"]]
    assert all(event["message"].startswith("Packet rejected when receiving ") for event in events)
    return sum(event["count"] for event in events)


@pytest.fixture
def nflog(node: Node, rule: None) -> Iterator[Node]:
    """A node with the unit enabled, and kiptail told of its group."""
    node.install()
    node.machine.run("apt-get", "install", "--yes", "--no-install-recommends", "ulogd2")
    node.give_kubeconfig()
    config = node.machine.files / "etc/kiptail/kiptail.toml"
    config.write_text(f'{config.read_text()}\n[[nflog]]\ngroup = {GROUP}\nprofile = "kube-router"\n')
    node.machine.run("systemctl", "enable", "--now", UNIT, "kiptail")
    node.wait_until_it_works()
    yield node
    node.machine.run("systemctl", "disable", "--now", UNIT, "kiptail")


def test_what_nflog_rules_reject_becomes_an_event_and_restarts_lose_nothing(nflog: Node) -> None:
    machine, before = nflog.machine, rejected(nflog)
    total = 0
    for restarted in ("", UNIT, "kiptail", "systemd-journald"):
        if restarted:
            machine.run("systemctl", "restart", restarted)
            machine.until(lambda: "entering main loop" in machine.journal(UNIT), "ulogd listens")
        send(3)
        total += 3
        expected = before + total
        # An Event is updated after 2, 8 and 32 seconds.
        machine.until(lambda: rejected(nflog) == expected, f"all, after a restart of {restarted}", seconds=90)  # noqa: B023


def test_check_says_that_it_runs(nflog: Node) -> None:
    send(2)
    said = nflog.machine.try_run("kiptail", "check").stdout
    assert f"NFLOG group {GROUP}: {UNIT} runs, " in said
    assert f"to NFLOG group {GROUP} " not in said, "its rule is read"
    nflog.machine.run("systemctl", "stop", UNIT)
    said = nflog.machine.try_run("kiptail", "check").stdout
    assert f"{UNIT} does not run (inactive): its packets are lost" in said
    nflog.machine.run("systemctl", "start", UNIT)


def test_ulogd_is_confined(nflog: Node) -> None:
    pid = nflog.machine.show(UNIT, "MainPID")["MainPID"]
    status = (nflog.machine.files / f"proc/{pid}/status").read_text()
    assert "CapEff:\t0000000000001000" in status, "CAP_NET_ADMIN alone"
    assert int(status.split("\nUid:\t")[1].split()[0]) >= 61_184, "a dynamic user's"


def test_a_group_that_another_listens_to_is_said_in_the_units_status(nflog: Node) -> None:
    machine, twin = nflog.machine, f"twin@{GROUP}.service"
    unit = (machine.files / "lib/systemd/system/kiptail-ulogd@.service").read_text()
    (machine.files / "run/systemd/system/twin@.service").write_text(unit.replace("=kiptail-ulogd-", "=twin-"))
    machine.run("systemctl", "daemon-reload")
    machine.try_run("systemctl", "start", twin)
    try:
        said = f"unable to bind to log group {GROUP}"
        machine.until(lambda: said in machine.try_run("systemctl", "status", "--lines=50", twin).stdout, said)
    finally:
        machine.run("systemctl", "stop", twin)
