"""`kiptail rules`: they load, they log, they change no verdict, and they can be undone as they say."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import select
import shlex
import socket
import subprocess
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from kiptail.admin.example_rules import FIREWALLS, rules_for
from kiptail.config.settings import resolve
from kiptail.netfilter.prefixes import Prefixes, PrefixRule, Verdict
from tests.support.netns import Network, all_netns
from tests.support.running import run_kiptail

PORTS = (53, 54, 80)
#: What the chain does before and after: 53 is dropped, 54 is rejected, 80 passes, whatever is logged.
NFT = """
table inet filter {
    chain forward {
        type filter hook forward priority 0; policy POLICY;
        udp dport 80 accept
        udp dport 53 drop
        udp dport 54 reject
    }
}
"""
IPTABLES = """*filter
:FORWARD POLICY [0:0]
-A FORWARD -p udp -m udp --dport 80 -j ACCEPT
-A FORWARD -p udp -m udp --dport 53 -j DROP
-A FORWARD -p udp -m udp --dport 54 -j REJECT
COMMIT
"""


class Firewall:
    """A node between two pods."""

    def __init__(self, net: Network) -> None:
        self.net = net
        net.add_pod("a", "10.244.1.2", "fd00:10::2")
        net.add_pod("b", "10.244.1.3", "fd00:10::3")

    def run(self, *command: str, stdin: str = "") -> str:
        done = subprocess.run(
            ["ip", "netns", "exec", self.net.node, *command],
            input=stdin, capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip
        assert done.returncode == 0, (command, done.stderr)
        return done.stdout

    def verdicts(self, count: int = 3) -> dict[tuple[str, int], str]:
        """What becomes of packets to each port, by family: passed, dropped or rejected."""
        found = {}
        for source, target in (("10.244.1.2", "10.244.1.3"), ("fd00:10::2", "fd00:10::3")):
            for port in PORTS:
                # Somebody listens, so that the verdict is the node's own.
                with self.net.udp("a", source) as sender, self.net.udp("b", target, port) as listener:
                    sender.connect((target, port))
                    found[source, port] = self._one(sender, listener, count)
        return found

    @staticmethod
    def _one(sender: socket.socket, listener: socket.socket, count: int) -> str:
        rejected = False
        for _ in range(count):
            try:
                sender.send(b"x")
            except OSError:
                rejected = True
        ready, _, _ = select.select([listener], [], [], 0.3)
        if ready:
            return "passed"
        if not rejected:
            sender.setblocking(False)
            try:
                sender.recv(1)
            except BlockingIOError:
                return "dropped"
            except OSError:
                rejected = True
        return "rejected" if rejected else "dropped"


@pytest.fixture
def firewall() -> Iterator[Firewall]:
    if os.geteuid() != 0:
        pytest.skip("needs root, for a network namespace with rules")
    net = Network()
    try:
        net.set_up()
        yield Firewall(net)
    finally:
        net.tear_down()


def comment(text: str, start: str) -> list[str]:
    """The words of a command that stands in a comment."""
    line = next(line for line in text.splitlines() if start in line)
    return shlex.split(line[line.index(start) :])


def handle(listing: str, rule: str) -> str:
    found = re.search(rf"{rule}.* # handle (\d+)", listing)
    assert found is not None, listing
    return found[1]


def expected(policy: str) -> dict[tuple[str, int], str]:
    del policy  # each port has a rule of its own
    kinds = {53: "dropped", 54: "rejected", 80: "passed"}
    return {(source, port): kinds[port] for source in ("10.244.1.2", "fd00:10::2") for port in PORTS}


@pytest.mark.live
@pytest.mark.timeout(120)
def test_the_nftables_rules_change_no_verdict(firewall: Firewall) -> None:
    firewall.run("nft", "-f", "-", stdin=NFT.replace("POLICY", "accept"))
    before = firewall.run("nft", "list", "table", "inet", "filter")
    assert firewall.verdicts() == expected("accept")
    text = run_kiptail("rules", "--for", "nftables").stdout.decode()
    firewall.run("nft", "-f", "-", stdin=text)
    assert firewall.verdicts() == expected("accept")
    listing = firewall.run("nft", "-a", "list", "chain", "inet", "filter", "forward")
    for port, verdict in ((53, "drop"), (54, "reject")):
        insert = ["HANDLE", "MATCHES"]
        command = comment(text, "nft insert rule")
        assert [word for word in command if word in insert] == insert
        position = handle(listing, f"udp dport {port} {verdict}")
        words = [position if word == "HANDLE" else word for word in command]
        at = words.index("MATCHES")
        firewall.run(*words[:at], "udp", "dport", str(port), *words[at + 1 :])
    firewall.run(*comment(text, "nft add rule"))
    # More than the burst: what the limit leaves out has the same verdict.
    assert firewall.verdicts(count=150) == expected("accept")
    while "jump kiptail-log" in (listing := firewall.run("nft", "-a", "list", "chain", "inet", "filter", "forward")):
        number = handle(listing, "jump kiptail-log")
        undo = comment(text, "nft delete rule")
        firewall.run(*undo[: undo.index("N")], number)
    firewall.run(*comment(text, "nft delete chain"))
    assert firewall.run("nft", "list", "table", "inet", "filter") == before
    assert firewall.verdicts() == expected("accept")


@pytest.mark.live
@pytest.mark.timeout(120)
@pytest.mark.parametrize("family", ["iptables", "ip6tables"])
def test_the_iptables_rules_change_no_verdict(firewall: Firewall, family: str) -> None:
    for tool in ("iptables", "ip6tables"):
        firewall.run(f"{tool}-restore", stdin=IPTABLES.replace("POLICY", "ACCEPT"))
    before = counterless(firewall.run(f"{family}-save"))
    assert firewall.verdicts() == expected("accept")
    text = run_kiptail("rules", "--for", "iptables").stdout.decode()
    firewall.run(f"{family}-restore", "--noflush", stdin=text)
    assert firewall.verdicts() == expected("accept")
    for number, port in ((3, 54), (2, 53)):
        words = comment(text, "iptables -I FORWARD N MATCHES")
        at = words.index("MATCHES")
        assert words[at - 1] == "N"
        match = ["-p", "udp", "--dport", str(port)]
        firewall.run(family, *words[1 : at - 1], str(number), *match, *words[at + 1 :])
    firewall.run(family, "-A", "FORWARD", "-j", "KIPTAIL-LOG")
    assert firewall.verdicts(count=150) == expected("accept")
    for match in (["-p", "udp", "--dport", "53"], ["-p", "udp", "--dport", "54"], []):
        firewall.run(family, "-D", "FORWARD", *match, "-j", "KIPTAIL-LOG")
    firewall.run(family, "-F", "KIPTAIL-LOG")
    firewall.run(family, "-X", "KIPTAIL-LOG")
    assert counterless(firewall.run(f"{family}-save")) == before


def counterless(saved: str) -> str:
    return re.sub(r"\[\d+:\d+\]|^#.*$", "", saved, flags=re.MULTILINE)


@pytest.mark.live
@pytest.mark.timeout(600)  # other test runs on this machine are waited for: see tests.support.netns.all_netns
def test_they_log_at_a_limited_rate_with_their_prefix(firewall: Firewall) -> None:
    tokens = {tool: f"kt{secrets.token_hex(4)}:" for tool in ("nftables", "iptables")}
    firewall.run("nft", "-f", "-", stdin=NFT.replace("POLICY", "accept"))
    for tool, load in (("nftables", ["nft", "-f", "-"]), ("iptables", ["iptables-restore", "--noflush"])):
        firewall.run(*load, stdin=run_kiptail("rules", "--for", tool, "--prefix", tokens[tool]).stdout.decode())
    listing = firewall.run("nft", "-a", "list", "chain", "inet", "filter", "forward")
    position = handle(listing, "udp dport 53 drop")
    firewall.run("nft", "insert", "rule", "inet", "filter", "forward", "position", position, "jump", "kiptail-log")
    firewall.run("iptables", "-I", "FORWARD", "1", "-p", "udp", "--dport", "53", "-j", "KIPTAIL-LOG")
    with all_netns() as log_here, open("/dev/kmsg", "rb", buffering=0, opener=nonblocking) as log:
        os.lseek(log.fileno(), 0, os.SEEK_END)
        log_here()
        with firewall.net.udp("a", "10.244.1.2") as sender:
            for _ in range(1_000):
                sender.sendto(b"x", ("10.244.1.3", 53))
        lines = b""
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline and not all(token.encode() in lines for token in tokens.values()):
            with contextlib.suppress(BlockingIOError, BrokenPipeError):
                while record := os.read(log.fileno(), 8_192):
                    lines += record
            time.sleep(0.05)
    for token in tokens.values():
        logged = lines.count(f"{token} IN=".encode())
        assert 1 <= logged <= 400, (token, logged)


def nonblocking(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


@pytest.mark.parametrize("firewall_name", FIREWALLS)
def test_each_says_where_it_goes_and_how_to_undo_it(firewall_name: str) -> None:
    text = rules_for(firewall_name)
    assert "Undo:" in text
    assert "Tell:" in text
    assert "/etc/kiptail/kiptail.toml" in text
    loaded = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    words = " ".join(loaded).lower().split()
    # Nothing that decides, and no chain with a hook or a policy.
    assert not {"drop", "accept", "reject", "pass", "allow", "deny", "hook", "policy", "return"} & set(words)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--for", "iptables", "--prefix", "x" * 29), "28 bytes"),
        (("--for", "nftables", "--prefix", 'a"; drop'), "quotation"),
        (("--for", "nftables", "--prefix", "a\nb"), "control"),
        (("--for", "ufw", "--prefix", "x:"), "prefixes of its own"),
        (("--for", "pf"), "pf"),
        ((), "--for"),
    ],
)
def test_what_would_be_no_rule_is_refused(arguments: tuple[str, ...], told: str) -> None:
    done = run_kiptail("rules", *arguments)
    assert done.returncode == 2
    assert done.stdout == b""
    assert told.encode() in done.stderr


@pytest.mark.parametrize(("prefix", "logged"), [("kiptail-drop:", "cd"), ("team:", "team")])
def test_calicos_pattern_reads_the_lines_of_its_log_prefix(prefix: str, logged: str) -> None:
    """Felix puts kind and policy in the place of %k and %p, and ": " behind."""
    text = rules_for("calico", prefix)
    log_prefix = re.findall(r'"logPrefix":"(.* %k %p)"', text)
    assert log_prefix == [f"{logged} %k %p"]
    table = "\n".join(
        line.removeprefix("#") for line in text.split("\n") if re.match("#     (\\[\\[|text|verdict)", line)
    )
    (one,) = tomllib.loads(table)["prefixes"]
    prefixes = Prefixes([PrefixRule(one["text"], Verdict(one["verdict"]))])
    for kind, policy in (("knp", "team-a/deny"), ("gnp", "deny-all")):
        said = prefixes.match(log_prefix[0].replace("%k", kind).replace("%p", policy) + ": ")
        assert said is not None
        assert (said.kind, said.policy, said.verdict) == (kind, policy, Verdict.DROP)
    assert "eBPF" in text
    assert "logActionRateLimit" in text


@pytest.mark.parametrize("name", ["kube-router", "k3s"])
def test_what_logs_by_nflog_needs_a_unit_and_a_table(name: str, tmp_path: Path) -> None:
    text = run_kiptail("rules", "--for", name).stdout.decode()
    assert comment(text, "systemctl enable") == ["systemctl", "enable", "--now", "kiptail-ulogd@100"]
    table = "\n".join(re.findall(r"(?m)^#     (\S.*)$", text))
    file = tmp_path / "kiptail.toml"
    file.write_text(table)
    (source,) = resolve({}, {}, now_us=0, default_config=file).nflog
    assert (source.unit, source.verdict, source.paired) == ("kiptail-ulogd@100.service", "reject", name == "k3s")
    assert run_kiptail("rules", "--for", name, "--prefix", "x:").returncode == 2
