"""NFLOG rules on the real kernel, Debian's ulogd2 and a real journald: what kiptail reads of that."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kiptail.netfilter.parser import PacketDrop
from kiptail.netfilter.prefixes import Prefixes, PrefixRule
from kiptail.netfilter.reading import KERNEL, ULOGD, Logged, Printer, read
from tests.apiserver import ApiServer
from tests.support.journald import ROOT_NEEDED, Journald, fields_of, until
from tests.support.netns import Network, network
from tests.support.pods import pod
from tests.support.running import Kiptail
from tests.support.ulogd import UNIT, in_unit, needs_ulogd, ulogd

pytestmark = [
    pytest.mark.live,
    pytest.mark.timeout(600),  # other test runs on this machine are waited for: see tests.support.netns.all_netns
    pytest.mark.skipif(os.geteuid() != 0, reason=ROOT_NEEDED),
]

GROUP = 100
#: Runs inside a pod's namespace: sends packets of each kind, the IPv4 ones with an ID each.
_SENDER = """
import socket, struct, sys
source, target, source_6, target_6 = sys.argv[1:]
tcp = lambda flags, ack=0: struct.pack("!HHIIBBHHH", 40000, 80, 1432540570, ack, 0x50, flags, 64240, 0, 0)
udp = struct.pack("!HHHH", 40000, 53, 9, 0) + b"x"
inner = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 29, 7, 0, 64, 17, 0, socket.inet_aton(target), socket.inet_aton(source))
icmp = lambda type, code, first=0, second=0: struct.pack("!BBHHH", type, code, 0, first, second)
packets = [
    (6, tcp(0x02), 0x4000), (6, tcp(0x12, 77), 0), (6, tcp(0x29, 1), 0), (6, tcp(2)[:10], 0),
    (17, udp, 0x4000), (17, udp[:4], 0), (17, udp * 2, 0x2000), (17, b"later part", 185),
    (1, icmp(8, 0, 11089, 1), 0), (1, icmp(0, 0, 11089, 1), 0), (1, icmp(3, 3) + inner + udp, 0),
    (1, icmp(3, 4, 0, 1280) + inner, 0), (1, icmp(5, 1, 0x0A00, 9) + inner, 0), (1, icmp(12, 0, 0x1400) + inner, 0),
    (1, icmp(11, 0) + inner, 0), (1, icmp(13, 0, 1, 1), 0), (1, icmp(8, 0)[:1], 0),
    (132, struct.pack("!HHII", 5000, 5001, 0, 0), 0), (132, b"abc", 0), (50, struct.pack("!II", 0x1234, 1), 0),
    (51, struct.pack("!BBHII", 6, 4, 0, 0x99, 1) + bytes(12), 0), (47, bytes(8), 0), (136, udp, 0), (2, bytes(8), 0),
    (89, b"", 0),
]
with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as s:
    for at, (protocol, payload, offset) in enumerate(packets, 1):
        head = struct.pack("!BBHHHBBH4s4s", 0x45, 0x08 if at % 2 else 0xC0, 0, 1000 + at, offset, 64, protocol, 0,
                           socket.inet_aton(source), socket.inet_aton(target))
        s.sendto(head + payload, (target, 0))
fragment = lambda next, offset, payload: bytes([next, 0]) + struct.pack("!HI", offset, 0xABC) + payload
packets_6 = [
    (6, tcp(0x02)), (17, udp), (17, udp[:3]), (58, icmp(128, 0, 1, 2)),
    (58, icmp(1, 4) + bytes(48)), (58, icmp(2, 0, 0, 1280) + bytes(48)),
    (132, struct.pack("!HHII", 5000, 5001, 0, 0)), (50, struct.pack("!II", 0x1234, 1)),
    (51, struct.pack("!BBHII", 6, 4, 0, 0x99, 1) + bytes(12) + tcp(2)), (47, bytes(8)), (44, fragment(17, 1, udp)),
    (44, fragment(17, 8, b"later part")), (60, bytes([17, 0, 1, 4, 0, 0, 0, 0]) + udp), (59, b""),
]
for protocol, payload in packets_6:
    with socket.socket(socket.AF_INET6, socket.SOCK_RAW, protocol) as s:
        s.sendto(payload, (target_6, 0))
"""
POD, OTHER = ("10.244.9.2", "fd09::2"), ("10.244.9.3", "fd09::3")


def said(line: str, prefix: str, printer: Printer) -> PacketDrop:
    logged = read(line, Prefixes([PrefixRule(prefix)]), printer)
    assert isinstance(logged, Logged), f"{logged}: {line!r}"
    assert isinstance(logged.packet, PacketDrop), f"{logged.packet}: {line!r}"
    return logged.packet


def test_lines_of_ulogd_say_what_the_kernels_say_of_the_same_packets(tmp_path: Path) -> None:
    needs_ulogd()
    prefix = f"x{secrets.token_hex(4)}:"
    with Journald(tmp_path / "journald") as journald, network() as net:
        net.add_pod("client", *POD)
        net.add_pod("web", *OTHER)
        net.rule(f'log prefix "{prefix} " log prefix "{prefix}" group {GROUP} drop')
        with ulogd(journald, net.node, GROUP, tmp_path):
            net.execute("client", ["python3", "-c", _SENDER, POD[0], OTHER[0], POD[1], OTHER[1]])

            def lines(transport: str) -> list[dict[str, str]]:
                journald.sync()
                found = fields_of(journald.directory)
                return [e for e in found if e["_TRANSPORT"] == transport and e["MESSAGE"].startswith(prefix)]

            until(lambda: len(lines("kernel")) == len(lines("syslog")) >= 36, "all lines")
            kernel, of_ulogd = lines("kernel"), lines("syslog")
    assert {entry["_SYSTEMD_UNIT"] for entry in of_ulogd} == {UNIT.format(group=GROUP)}
    compared = 0
    for one, other in zip(kernel, of_ulogd, strict=True):
        if " SRC=" in other["MESSAGE"]:
            of_kernel, of_other = said(one["MESSAGE"], prefix, KERNEL), said(other["MESSAGE"], prefix, ULOGD)
            assert of_other == joined(of_kernel, of_other), (one["MESSAGE"], other["MESSAGE"])
            compared += 1
    # Of an IPv4 packet that ends with its header, ulogd says nothing.
    assert compared == len(kernel) - 1


def joined(kernel: PacketDrop, other: PacketDrop) -> PacketDrop:
    """What the kernel says, and beyond that what only ulogd may: ports of SCTP, and names that it does not have."""
    if kernel.protocol == "SCTP":
        return kernel._replace(src_port=other.src_port, dst_port=other.dst_port)
    if kernel.protocol == "UDPLITE":
        return kernel._replace(protocol="136", src_port=None, dst_port=None)
    # ESP in IPv6: the kernel calls it by its extension header, if at all, and ulogd calls it AH.
    return kernel if kernel.protocol else kernel._replace(protocol="AH")


@pytest.fixture
def journald(tmp_path: Path) -> Iterator[Journald]:
    needs_ulogd()
    with Journald(tmp_path / "journald") as daemon:
        yield daemon


@pytest.fixture
def wires() -> Iterator[Network]:
    with network() as net:
        net.add_pod("client", *POD)
        net.add_pod("web", *OTHER)
        yield net


@pytest.fixture
def server() -> Iterator[ApiServer]:
    with ApiServer() as server:
        server.pods.put(pod("client", *POD))
        server.pods.put(pod("web", *OTHER))
        yield server


def kiptail(tmp_path: Path, journald: Journald, server: ApiServer, table: str) -> Kiptail:
    config = tmp_path / "kiptail.toml"
    config.write_text(f"[[nflog]]\ngroup = {GROUP}\n{table}\n")
    return Kiptail(
        tmp_path,
        "--config", config,
        "--kubeconfig", server.kubeconfig(tmp_path / "kubeconfig"),
        "--journal-directory", journald.directory,
        "--state-directory", tmp_path / "state",
        "--metrics-address", "off",
        "--node-name", "worker-3",
    )  # fmt: skip


def counts(server: ApiServer) -> dict[tuple[str, str], int]:
    return {(e["involvedObject"]["name"], e["message"]): e["count"] for e in server.events()}


#: Runs as a sender of its own choice: gives its standard input to the socket of syslog(3).
_SEND = """
import socket, sys
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
    s.sendto(sys.stdin.buffer.read(), "/run/systemd/journal/dev-log")
"""


def forge(journald: Journald, line: str) -> int:
    """Give a line as ulogd writes it to the journal in every way that a user has; how many that are."""
    journald.systemd_cat("ulogd", line)
    fields = {"MESSAGE": line, "SYSLOG_IDENTIFIER": "ulogd", "_SYSTEMD_UNIT": UNIT.format(group=GROUP)}
    journald.send_native({**fields, "_TRANSPORT": "syslog", "UNIT": fields["_SYSTEMD_UNIT"]})
    text = f"<29>Nov 26 04:00:00 ulogd[1]: {line} \n"
    # logger -t ulogd, in a session of a user, and in a unit of that name that a user's own systemd runs.
    for slices, unit in (
        ("user.slice/user-1000.slice", "session-1.scope"),
        ("user.slice/user-1000.slice/user@1000.service/app.slice", UNIT.format(group=GROUP)),
    ):
        with in_unit(slices, unit) as files:
            command = journald.command(
                "sh", "-c", f'for f in "$@"; do echo $$ > "$f"; done; exec python3 -c \'{_SEND}\''
            )
            subprocess.run([*command, "sh", *files], input=text.encode(), check=True, timeout=30)
    return 4


def test_what_kube_router_rejects_shows_at_both_ends_and_what_users_forge_does_not(
    tmp_path: Path, journald: Journald, server: ApiServer, wires: Network
) -> None:
    wires.rule(f"log group {GROUP} reject")
    with (
        ulogd(journald, wires.node, GROUP, tmp_path),
        kiptail(tmp_path, journald, server, 'profile = "kube-router"') as running,
    ):
        wires.send("client", "tcp", OTHER[0], 80, 3)
        wires.send("client", "udp", OTHER[1], 53, 2)
        running.wait_for(lambda: sum(counts(server).values()) == 10, "both flows at both ends")
        said = counts(server)
        journald.sync()
        line = next(e["MESSAGE"] for e in fields_of(journald.directory) if e["MESSAGE"].startswith(" IN="))
        ways = forge(journald, line)
        wires.send("client", "tcp", OTHER[0], 443)
        running.wait_for(lambda: sum(counts(server).values()) == 12, "one more flow")
        assert running.stop() == 0
        journald.sync()
        units = [e.get("_SYSTEMD_UNIT") for e in fields_of(journald.directory) if e["MESSAGE"].strip() == line.strip()]
    assert units.count(UNIT.format(group=GROUP)) == 1
    assert len(units) == 1 + ways
    assert said.items() <= counts(server).items(), "the forged ones counted for nothing"
    assert {(name, count) for (name, message), count in said.items() if "port 80/TCP" in message} == {
        ("client", 3),
        ("web", 3),
    }
    assert all(message.startswith("Packet rejected when ") for _, message in said)


def test_a_burst_is_counted_whole_with_the_shipped_buffers(
    tmp_path: Path, journald: Journald, server: ApiServer, wires: Network
) -> None:
    """3,000 packets as fast as they can be sent, 20 to 50 ms: with the kernel's own buffers, about half are lost."""
    wires.rule(f"log group {GROUP} drop")
    with (
        ulogd(journald, wires.node, GROUP, tmp_path),
        kiptail(tmp_path, journald, server, 'verdict = "drop"') as running,
        wires.udp("client", POD[0], 40_000) as sender,
    ):
        for _ in range(3_000):
            sender.sendto(b"x", (OTHER[0], 53))
        journald.sync()
        running.wait_for(lambda: list(counts(server).values()) == [3_000, 3_000], "all of them at both ends", 60)
        assert running.stop() == 0
        messages = [entry["MESSAGE"] for entry in fields_of(journald.directory)]
    assert not [message for message in messages if "losing events" in message]


#: Sends through two sockets that it inherits, through the second one a fifth as much, and says how many by each.
_FLOOD = """
import socket, sys, time
senders = [socket.socket(fileno=int(number)) for number in sys.argv[1:3]]
address, rate, seconds = sys.argv[3], float(sys.argv[4]), float(sys.argv[5])
begin, sent = time.monotonic(), [0, 0]
while (passed := time.monotonic() - begin) < seconds:
    for at, (sender, port, part) in enumerate(zip(senders, (53, 54), (1, 5))):
        while sent[at] < passed * rate / part:
            sender.sendto(b"x", (address, port))
            sent[at] += 1
    time.sleep(0.002)
print(*sent)
"""


def test_both_sources_at_once_are_counted_exactly(
    tmp_path: Path, journald: Journald, server: ApiServer, wires: Network
) -> None:
    """5,000 drops a second that the kernel logs, and 1,000 that NFLOG does."""
    prefix = f"x{secrets.token_hex(4)}:"
    wires.rule(f'udp dport 53 log prefix "{prefix} " drop')
    wires.rule(f"udp dport 54 log group {GROUP} drop")
    table = f'verdict = "drop"\n[[prefixes]]\ntext = "{prefix}"\n'
    with (
        ulogd(journald, wires.node, GROUP, tmp_path),
        kiptail(tmp_path, journald, server, table) as running,
        wires.udp("client", POD[0], 40_000) as kernel,
        wires.udp("client", POD[0], 40_001) as nflog,
    ):
        numbers = [kernel.fileno(), nflog.fileno()]
        command = [sys.executable, "-c", _FLOOD, *map(str, numbers), OTHER[0], "5000", "4"]
        done = subprocess.run(command, pass_fds=numbers, capture_output=True, text=True, timeout=60, check=True)
        sent = [int(word) for word in done.stdout.split()]

        def told() -> dict[str, int]:
            return {
                f"{name} {message.split(' on port ')[1]}": count for (name, message), count in counts(server).items()
            }

        expected = {f"{name} {port}/UDP": sent[at] for at, port in enumerate((53, 54)) for name in ("client", "web")}
        running.wait_for(lambda: told() == expected, f"{expected}", 60)
        assert running.stop() == 0
    assert sent[0] >= 15_000
    assert sent[1] >= 3_000


def test_k3s_pairs_name_the_policies_and_what_one_of_them_allows_makes_no_event(
    tmp_path: Path, journald: Journald, server: ApiServer, wires: Network
) -> None:
    """The policies a and b select the pod. b allows port 82, and nothing allows 81; a restart is in between."""
    wires.rule("ct state established,related accept")
    for policy, ports in (("a", "{ 81, 82 }"), ("b", "81")):
        wires.rule(f'tcp dport {ports} log group {GROUP} prefix "DROP by policy team-a/{policy}"')
    wires.rule("tcp dport 82 accept")
    wires.rule(f"meta mark set 0x20000 log group {GROUP} reject")
    with ulogd(journald, wires.node, GROUP, tmp_path):
        with kiptail(tmp_path, journald, server, 'profile = "k3s"') as running:
            wires.send("client", "tcp", OTHER[0], 82, 3)
            wires.send("client", "tcp", OTHER[0], 81, 2)
            running.wait_for(lambda: list(counts(server).values()) == [2, 2], "one flow at both ends")
            assert running.stop() == 0
        wires.send("client", "tcp", OTHER[0], 81)
        with kiptail(tmp_path, journald, server, 'profile = "k3s"') as running:
            running.wait_for(lambda: list(counts(server).values()) == [3, 3], "the same flow")
            assert running.stop() == 0
    assert all("port 81/TCP, by policies team-a/a, team-a/b" in message for _, message in counts(server)), counts(
        server
    )
