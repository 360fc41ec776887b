"""The package's unit for ulogd2 on a booted Debian, with NFLOG rules on the real kernel."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import subprocess
from collections.abc import Iterator

import pytest

from kiptail.journal.entry import ENDED_MESSAGE_IDS
from tests.support.netns import Network
from tests.support.scrape import free_port
from tests.support.stacks import kube_router
from tests.system.conftest import CLIENT, WEB, Node

pytestmark = [
    pytest.mark.system,
    pytest.mark.timeout(3_000),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: debootstrap, systemd-nspawn and NFLOG rules"),
]

#: Nobody else's: the machine shares this one's network.
GROUP = 40_000 + os.getpid() % 10_000
UNIT = f"kiptail-ulogd@{GROUP}.service"
PORT = 4_789
#: Events are updated each 2 s, however often they have been written before.
SOON = 'repeat-interval = "2s"\n'


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
    config.write_text(f'{config.read_text()}\n{SOON}[[nflog]]\ngroup = {GROUP}\nprofile = "kube-router"\n')
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


# -- k3s and kube-router, whose rules are in the network namespace that the pods are behind ----------------------

#: As they have it: nobody else's, in a network namespace of its own.
POD_UNIT = "kiptail-ulogd@100.service"
NETWORK = "/run/network-of-the-pods"
REJECTED, DENIED, ALLOWED = 8_443, 8_081, 8_082
#: The machine's network is this one's.
METRICS_PORT = free_port()
#: What a user's unit runs.
_LOG = 'logger --tag ulogd -- "$$(cat $$HOME/line)"'
#: Runs as a user in the machine: gives the entries in its standard input to journald, by its own protocol.
_SEND = """
import json, socket, sys
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
    for fields in json.load(sys.stdin):
        s.sendto("".join(f"{k}={v}\\n" for k, v in fields.items()).encode(), "/run/systemd/journal/socket")
"""


@pytest.fixture
def of_pods(node: Node, wires: Network) -> Iterator[Node]:
    """A node on which the unit listens where the pods' packets go by."""
    machine = node.machine
    node.install()
    machine.run("apt-get", "install", "--yes", "--no-install-recommends", "ulogd2")
    node.give_kubeconfig()
    machine.bind_network(wires.node, NETWORK)
    drop_in = machine.files / f"run/systemd/system/{POD_UNIT}.d"
    drop_in.mkdir(parents=True)
    (drop_in / "network.conf").write_text(f"[Service]\nNetworkNamespacePath={NETWORK}\n")
    machine.run("systemctl", "daemon-reload")
    yield node
    machine.run("systemctl", "disable", "--now", POD_UNIT, "kiptail")
    machine.run("rm", "-r", f"/run/systemd/system/{POD_UNIT}.d")
    machine.run("umount", NETWORK)


def begin(node: Node, profile: str) -> None:
    """Have it configured, as README says, and both units enabled."""
    config = node.machine.files / "etc/kiptail/kiptail.toml"
    settings = f'profile = ["{profile}"]\nnflog-group = [100]\nmetrics-address = "127.0.0.1:{METRICS_PORT}"\n'
    config.write_text(f"{config.read_text()}\n{SOON}{settings}")
    node.machine.run("systemctl", "enable", "--now", POD_UNIT, "kiptail")
    node.wait_until_it_works()
    listens(node)


def listens(node: Node) -> None:
    """Until ulogd does, after its last start."""
    pid = node.machine.show(POD_UNIT, "MainPID")["MainPID"]
    said = ["journalctl", "--no-pager", f"_PID={pid}", "--grep=entering main loop"]
    node.machine.until(lambda: node.machine.try_run(*said).returncode == 0, "ulogd listens")


def messages(node: Node, port: int) -> dict[str, str]:
    """What the pods are told, by their names."""
    events = [event for event in node.server.events() if f"port {port}/TCP" in event["message"]]
    return {event["involvedObject"]["name"]: event["message"] for event in events}


def test_what_kube_router_rejects_is_counted_once_at_both_ends_and_restarts_lose_nothing(
    of_pods: Node, wires: Network
) -> None:
    node, machine = of_pods, of_pods.machine
    wires.restore(kube_router(WEB, {"team-a/web": [ALLOWED]}))
    begin(node, "kube-router")
    # The rules log ten a minute.
    for number, restarted in enumerate(("", POD_UNIT, "kiptail", "systemd-journald"), start=1):
        if restarted:
            machine.run("systemctl", "restart", restarted)
            listens(node)
        wires.send("client", "tcp", WEB, REJECTED, 2)
        wires.send("client", "tcp", WEB, ALLOWED)
        told = {"client": 2 * number, "web-0": 2 * number}
        machine.until(lambda: node.counts(REJECTED) == told, f"{told}, after a restart of {restarted}", seconds=90)  # noqa: B023
    limited = f"on port {REJECTED}/TCP; the rule logs at a limited rate, so there may have been more packets"
    assert messages(node, REJECTED) == {
        "client": f"Packet rejected when sending traffic to team-a/web-0 ({WEB}) {limited}",
        "web-0": f"Packet rejected when receiving traffic from team-a/client ({CLIENT}) {limited}",
    }
    assert messages(node, ALLOWED) == {}


def test_k3s_names_its_policies_and_nothing_that_a_user_forges_counts(of_pods: Node, wires: Network) -> None:
    node, machine = of_pods, of_pods.machine
    wires.restore(kube_router(WEB, {"team-a/a": [], "team-a/b": [ALLOWED]}, k3s=True))
    begin(node, "k3s")
    wires.send("client", "tcp", WEB, ALLOWED, 2)
    wires.send("client", "tcp", WEB, DENIED, 2)
    node.wait_for_events(DENIED, 2)
    policies = "by policies team-a/a, team-a/b"
    assert all(policies in message for message in messages(node, DENIED).values()), messages(node, DENIED)
    assert messages(node, ALLOWED) == {}, "the second policy allows it"

    lines = machine.run("journalctl", f"_SYSTEMD_UNIT={POD_UNIT}", "--output=cat").splitlines()
    line = next(one for one in lines if one.startswith(" IN=") and f"DPT={DENIED} " in one)
    forge(node, line)
    machine.until(lambda: forged(node).count(line.strip()) == 3, "each of them is in the journal")
    machine.run("systemctl", "stop", f"user@{user(node)}.service")
    machine.run("systemctl", "restart", POD_UNIT)
    listens(node)
    wires.send("client", "tcp", WEB, DENIED)
    machine.until(lambda: node.counts(DENIED) == {"client": 3, "web-0": 3}, "the forged ones do not count", seconds=90)
    assert all(policies in message for message in messages(node, DENIED).values())
    assert "does not run" not in machine.show("kiptail", "StatusText")["StatusText"]


def user(node: Node) -> str:
    """The id of somebody without rights."""
    if node.machine.try_run("id", "mallory").returncode:
        node.machine.run("apt-get", "install", "--yes", "--no-install-recommends", "libpam-systemd")
        node.machine.run("useradd", "--create-home", "mallory")
    return node.machine.run("id", "--user", "mallory").strip()


def forge(node: Node, line: str) -> None:
    """Give a line of ulogd's to the journal in each way that a user has, and systemd's word that its unit has ended."""
    machine, uid, home = node.machine, user(node), node.machine.files / "home/mallory"
    as_user = ["runuser", "--user", "mallory", "--"]
    machine.run(*as_user, "logger", "--tag", "ulogd", "--", line)
    entries = [
        {"MESSAGE": line, "SYSLOG_IDENTIFIER": "ulogd", "_SYSTEMD_UNIT": POD_UNIT, "_TRANSPORT": "syslog"},
        *(
            {
                "MESSAGE": "Stopped",
                "MESSAGE_ID": one,
                "UNIT": POD_UNIT,
                "SYSLOG_IDENTIFIER": "systemd",
                "_PID": 1,
            }
            for one in ENDED_MESSAGE_IDS
        ),
    ]
    machine.run(*as_user, "python3", "-c", _SEND, text=json.dumps(entries))
    # A user's own systemd runs what is in there.
    (home / "line").write_text(line)
    units = home / ".config/systemd/user"
    (units / "default.target.wants").mkdir(parents=True)
    (units / POD_UNIT).write_text(f"[Service]\nType=oneshot\nExecStart=/bin/sh -c '{_LOG}'\n")
    (units / "default.target.wants" / POD_UNIT).symlink_to(f"../{POD_UNIT}")
    machine.run("systemctl", "start", f"user@{uid}.service")


def forged(node: Node) -> list[str]:
    """What the user has brought into the journal."""
    entries = node.machine.run("journalctl", "--output=json", "--all", f"_UID={user(node)}").splitlines()
    return [json.loads(entry)["MESSAGE"].strip() for entry in entries]


def test_a_unit_that_does_not_run_is_in_the_status_and_the_metrics(of_pods: Node) -> None:
    machine = of_pods.machine
    begin(of_pods, "kube-router")

    def down() -> bool:
        return f"{POD_UNIT} does not run" in machine.show("kiptail", "StatusText")["StatusText"]

    def metric() -> str:
        script = (
            f"import urllib.request as u; print(u.urlopen('http://127.0.0.1:{METRICS_PORT}/metrics').read().decode())"
        )
        page = machine.run("python3", "-c", script).splitlines()
        return next((line.split()[-1] for line in page if line.startswith("kiptail_nflog_unit_up{")), "")

    machine.until(lambda: metric() == "1.0", "it runs")
    assert not down()
    machine.run("systemctl", "stop", POD_UNIT)
    machine.until(lambda: down() and metric() == "0.0", "that it does not")
    # What systemd said of it was before this run.
    machine.run("systemctl", "restart", "kiptail")
    machine.until(lambda: down() and metric() == "0.0", "that it does not, after a restart")
    machine.run("systemctl", "start", POD_UNIT)
    machine.until(lambda: not down() and metric() == "1.0", "that it runs again", seconds=60)
    said = machine.journal("kiptail")
    assert f"{POD_UNIT} does not run" in said
    assert f"{POD_UNIT} runs again" in said
