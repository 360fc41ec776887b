"""`kiptail check` as a user meets it: real rules in a network namespace, a real journal, a real connection."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kiptail.check.facts import Finding, Level
from kiptail.check.run import as_json, as_text
from tests.apiserver.certificates import Authority, Pair
from tests.support.journald import Journald, export_to_journal, kernel_entry
from tests.support.netns import Network, network
from tests.support.pods import pod
from tests.support.running import ROOT, _environment

pytestmark = [pytest.mark.live, pytest.mark.timeout(180)]
LINE = (
    "{prefix} IN=a OUT=b MAC= SRC=10.0.0.1 DST=10.0.0.2 LEN=60 TOS=0x00 PREC=0x00 TTL=63 ID=1 DF PROTO=TCP"
    " SPT=40000 DPT=80 WINDOW=64240 RES=0x00 SYN URGP=0 "
)
ALL = (
    *(("list watch", "pods"), ("create patch", "events"), ("list", "nodes"), ("list", "services")),
    *(("list", "networkpolicies.networking.k8s.io"), ("get", "namespaces")),
)


class Node:
    """A namespace with a firewall and an API server in it, and a journal."""

    def __init__(self, net: Network, directory: Path) -> None:
        self.net, self.directory = net, directory
        self.journal = directory / "journal"
        self.count = 0

    def write_journal(self, prefix: str, times: int, *, ago: float = 60.0) -> None:
        now = time.time_ns() // 1000 - round(ago * 1e6)
        export_to_journal(
            (
                kernel_entry(LINE.format(prefix=prefix), realtime_us=now + n, monotonic_us=10_000_000 + n)
                for n in range(times)
            ),
            self.journal / "system.journal",
        )

    def nft(self, rules: str) -> None:
        self.execute("nft", "-f", "-", stdin=rules)

    def execute(self, *command: str, stdin: str = "") -> str:
        done = subprocess.run(
            ["ip", "netns", "exec", self.net.node, *command],
            input=stdin, capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    @contextlib.contextmanager
    def cluster(self, *rights: tuple[str, str], pods: int = 1, clock_offset: float = 0.0) -> Iterator[Path]:
        """An API server in the namespace; gives the kubeconfig of a user with these rights."""
        self.count += 1
        kubeconfig = self.directory / f"kubeconfig-{self.count}"
        items = [pod(f"p{n}", f"10.0.0.{n + 1}", node="node-1") for n in range(pods)]
        pods_file = self.directory / f"pods-{self.count}.json"
        pods_file.write_text(json.dumps({"items": items}))
        command = ["ip", "netns", "exec", self.net.node, sys.executable, "-m", "tests.apiserver"]
        command += ["--user-kubeconfig", "kiptail", str(kubeconfig), "--pods", str(pods_file)]
        command += ["--clock-offset", str(clock_offset), "--certificates", str(self.directory / "ca")]
        for verbs, resource in rights:
            command += ["--grant", "kiptail", verbs, resource]
        with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT, env=_environment({})) as process:
            assert process.stdout is not None
            try:
                assert process.stdout.readline().strip().isdigit()
                yield kubeconfig
            finally:
                process.send_signal(signal.SIGTERM)
                process.wait(20)

    def check(self, *arguments: object, code: int) -> dict[str, list[dict[str, str]]]:
        """Findings by topic."""
        command = ["ip", "netns", "exec", self.net.node, sys.executable, "-m", "kiptail", "check", "--output", "json"]
        command += ["--state-directory", str(self.directory / "state"), "--node-name", "node-1"]
        if "--journal-directory" not in arguments:
            command += ["--journal-directory", str(self.journal)]
        done = subprocess.run(
            [*command, *map(str, arguments)], capture_output=True, timeout=90, check=False, env=_environment({})
        )
        assert done.returncode == code, (done.stdout, done.stderr)
        assert done.stderr == b""
        report = json.loads(done.stdout)
        assert report["ok"] is (code == 0)
        topics: dict[str, list[dict[str, str]]] = {}
        for finding in report["findings"]:
            topics.setdefault(finding["topic"], []).append(finding)
        return topics


def problems(topics: dict[str, list[dict[str, str]]]) -> list[dict[str, str]]:
    return [finding for findings in topics.values() for finding in findings if finding["level"] == "problem"]


def one_problem(topics: dict[str, list[dict[str, str]]]) -> dict[str, str]:
    found = problems(topics)
    assert len(found) == 1, found
    assert found[0]["remedy"], found
    return found[0]


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    if os.geteuid() != 0:
        pytest.skip("needs root, for a network namespace with rules")
    net = Network()
    try:
        net.set_up()
        yield Node(net, tmp_path)
    finally:
        net.tear_down()


GOOD = 'add rule inet kiptail forward limit rate 5/second log prefix "kt-drop: "\nadd rule inet kiptail forward drop\n'


IPTABLES = '*filter\n:FORWARD ACCEPT [0:0]\n-A FORWARD -m limit --limit 5/s -j LOG --log-prefix "kt-drop: "\n'


def test_all_well(node: Node) -> None:
    node.nft(GOOD)
    node.write_journal("kt-drop:", 3)
    with node.cluster(*ALL) as kubeconfig:
        topics = node.check("--kubeconfig", kubeconfig, "--prefix", "kt-drop:", code=0)
    levels = {finding["level"] for findings in topics.values() for finding in findings}
    assert levels == {"ok"}, topics
    told = topics["prefixes"][0]["text"]
    assert told == "'kt-drop:' seen 3 times in the last hour; a drop follows (nftables inet kiptail forward)"
    assert topics["node"][0]["text"] == "1 pod runs on node node-1"
    assert topics["rights"][0]["text"] == (
        "may list pods of its node, watch pods of its node, list pods, create events, patch events, list nodes,"
        " list services, list networkpolicies, get namespaces"
    )
    assert "as kiptail" in topics["server"][0]["text"]
    assert {"version", "journal", "storage", "limits", "credential", "clock", "state", "kubeconfig"} <= set(topics)


@pytest.mark.timeout(600)  # other test runs on this machine are waited for: see tests.support.netns.all_netns
def test_the_kernels_own_lines_are_seen_in_a_real_journal(tmp_path: Path) -> None:
    prefix = f"kt{secrets.token_hex(4)}:"
    with network() as net, Journald(tmp_path / "journald") as journald:
        net.add_pod("a", "10.244.1.2")
        net.add_pod("b", "10.244.1.3")
        net.drop(f"{prefix} ")
        net.send("a", "udp", "10.244.1.3", 53, 4)
        own = Node(net, tmp_path)
        deadline = time.monotonic() + 10
        while True:
            journald.sync()
            topics = own.check("--journal-directory", journald.directory, "--prefix", prefix, code=1)
            if "seen 4 times" in topics["prefixes"][0]["text"] or time.monotonic() > deadline:
                break
    assert topics["prefixes"][0]["level"] == "ok"
    assert f"'{prefix}' seen 4 times in the last hour; a drop follows" in topics["prefixes"][0]["text"]
    assert topics["kubeconfig"][0]["level"] == "problem"


def test_this_machines_journal_is_judged_by_journald_conf(tmp_path: Path) -> None:
    """Volatile storage, and a level that keeps LOG rules' lines out."""
    with Journald(tmp_path / "j", flushed=False, settings={"Storage": "volatile", "MaxLevelStore": "err"}) as journald:
        Path("/dev/kmsg").write_text(f"<3>kt{secrets.token_hex(4)}\n")
        journald.sync()
        command = journald.command(sys.executable, "-m", "kiptail", "check", "--output", "json")
        done = subprocess.run(command, capture_output=True, timeout=60, check=False, env=_environment({}))
    found = {f["topic"]: f for f in json.loads(done.stdout)["findings"]}
    assert found["storage"]["level"] == "warning"
    assert "volatile" in found["storage"]["text"]
    assert found["journal"]["level"] == "problem"
    assert "MaxLevelStore" in found["journal"]["remedy"]


def test_calicos_ebpf_data_plane_is_silent(node: Node) -> None:
    """What shows it is a pod's interface that no chain is for; a chain for one pod ends the warning."""
    node.nft(GOOD)
    node.write_journal("kt-drop:", 1)
    node.execute("ip", "link", "add", "cali0123456789a", "type", "veth", "peer", "name", "other")

    def warnings() -> list[str]:
        found = node.check("--prefix", "kt-drop:", "--kubeconfig", node.directory / "none", code=1)
        return [finding["text"] for finding in found.get("rules", []) if "Calico" in finding["text"]]

    (text,) = warnings()
    assert "1 interface of Calico's has no chains in iptables or nftables" in text
    node.execute("iptables", "-N", "cali-tw-cali0123456789a")
    assert warnings() == []


def test_no_log_rule(node: Node) -> None:
    node.nft("add rule inet kiptail forward drop\n")
    node.write_journal("unrelated", 0)
    export_to_journal(
        [kernel_entry("booted", realtime_us=time.time_ns() // 1000, monotonic_us=1)], node.journal / "s.journal"
    )
    with node.cluster(*ALL) as kubeconfig:
        problem = one_problem(node.check("--kubeconfig", kubeconfig, "--prefix", "kt-drop:", code=1))
    assert problem["text"].startswith("no LOG rule in iptables and ip6tables and nft")
    assert "kiptail rules --for" in problem["remedy"]


def test_lines_with_the_prefix_that_are_not_counted(node: Node) -> None:
    """ARP, a line that was cut, the form of ebtables, a prefix that is one word of the rule's; and one that counts."""
    node.nft(GOOD)
    line = LINE.format(prefix="kt-drop:")
    lines = [
        line,
        "kt-drop: IN=a OUT=b ARP HTYPE=1 PTYPE=0x0800 OPCODE=1 ",
        line[: line.index("DST=") + 5],
        "kt-drop: IN=a OUT=b MAC source = 02:00:00:00:00:01 MAC dest = 02:00:00:00:00:02 proto = 0x0806",
        f"my {line}",
    ]
    now = time.time_ns() // 1000 - 60_000_000
    export_to_journal(
        (kernel_entry(text, realtime_us=now + n, monotonic_us=10_000_000 + n) for n, text in enumerate(lines)),
        node.journal / "system.journal",
    )
    with node.cluster(*ALL) as kubeconfig:
        (finding,) = node.check("--prefix", "kt-drop:", "--kubeconfig", kubeconfig, code=0)["lines"]
    assert finding["level"] == "warning"
    assert finding["text"].startswith("4 lines of the last hour with a configured prefix were not counted (")
    for why in ("1 ARP, not an IP packet", "1 addresses are cut off", "1 not what packet", "1 more than the prefix"):
        assert why in finding["text"]
    assert "journalctl -k" in finding["remedy"]


@pytest.mark.parametrize("logged", ["kt-drop:", "kt-dorpx:"])
def test_the_wrong_prefix(node: Node, logged: str) -> None:
    """What it is to become is a rule's, however close one without a rule is that was logged."""
    node.nft(GOOD)
    node.write_journal(logged, 2)
    with node.cluster(*ALL) as kubeconfig:
        problem = one_problem(node.check("--kubeconfig", kubeconfig, "--prefix", "kt-dorp:", code=1))
    assert problem["text"] == "no LOG rule has the prefix 'kt-dorp:'; logged here: 'kt-drop:'"
    assert problem["remedy"] == "set --prefix 'kt-drop:', or change the rule"


def test_no_prefix_is_configured(node: Node) -> None:
    node.nft(GOOD)
    node.write_journal("kt-drop:", 2)
    with node.cluster(*ALL) as kubeconfig:
        problem = one_problem(node.check("--kubeconfig", kubeconfig, code=1))
    assert problem["text"] == "no prefix is configured; logged here: 'kt-drop:'"
    assert 'prefix = ["kt-drop:"]' in problem["remedy"]


def test_only_prefixes_of_rules_are_proposed(node: Node) -> None:
    """The journal has one more, of a rule that is gone; one rule logs what it lets through, with no drop behind it."""
    passing = "add chain inet kiptail passing { type filter hook input priority 0 ; policy accept ; }\n"
    node.nft(GOOD + passing + 'add rule inet kiptail passing log prefix "kt-seen: "\n')
    node.write_journal("kt-gone:", 9)
    with node.cluster(*ALL) as kubeconfig:
        problem = one_problem(node.check("--kubeconfig", kubeconfig, code=1))
        assert problem["text"] == (
            "no prefix is configured; logged here: 'kt-drop:'; 'kt-gone:' in the journal, but in no rule that was found"
        )
        proposed = problem["remedy"].partition(" drops: ")[2]
        assert tomllib.loads(proposed) == {"prefix": ["kt-drop:"]}
        # What is proposed, written into the file that is named, is what was missing.
        config = node.directory / "kiptail.toml"
        config.write_text(proposed)
        topics = node.check("--kubeconfig", kubeconfig, "--config", config, code=0)
    texts = [finding["text"] for finding in topics["prefixes"]]
    assert texts[0] == "'kt-drop:' not seen in the last hour; a drop follows (nftables inet kiptail forward)"
    assert "'kt-gone:' was seen 9 times in the last hour; it is not configured, and no rule with it was found" in texts
    assert not any("kt-gone" in finding["remedy"] for finding in topics["prefixes"])


def test_a_prefix_of_the_journal_alone_is_mentioned_and_not_proposed(node: Node) -> None:
    node.nft("add rule inet kiptail forward drop\n")
    node.write_journal("kt-gone:", 2)
    with node.cluster(*ALL) as kubeconfig:
        problem = one_problem(node.check("--kubeconfig", kubeconfig, code=1))
    assert problem["text"] == "no prefix is configured; 'kt-gone:' in the journal, but in no rule that was found"
    assert problem["remedy"].startswith("log directly before the drop: `kiptail rules --for nftables`")


def test_a_log_rule_without_a_drop(node: Node) -> None:
    node.execute(
        "iptables-restore",
        stdin=f"{IPTABLES}COMMIT\n",
    )
    node.write_journal("kt-drop:", 2)
    with node.cluster(*ALL) as kubeconfig:
        problem = one_problem(node.check("--kubeconfig", kubeconfig, "--prefix", "kt-drop:", code=1))
    assert problem["text"].startswith("'kt-drop:' is logged where no drop follows (iptables filter FORWARD)")
    assert "verdict" in problem["remedy"]


def test_rules_of_iptables_are_told_once(node: Node) -> None:
    rules = f"{IPTABLES}-A FORWARD -j DROP\nCOMMIT\n"
    node.execute("iptables-restore", stdin=rules)
    node.execute("ip6tables-restore", stdin=rules)
    node.write_journal("kt-drop:", 2)
    with node.cluster(*ALL) as kubeconfig:
        topics = node.check("--kubeconfig", kubeconfig, "--prefix", "kt-drop:", code=0)
    assert [finding["text"] for finding in topics["prefixes"]] == [
        "'kt-drop:' seen 2 times in the last hour; a drop follows (iptables filter FORWARD, ip6tables filter FORWARD)"
    ]


def test_the_journal_cannot_be_read(node: Node) -> None:
    node.nft(GOOD)
    node.journal.mkdir()
    with node.cluster(*ALL) as kubeconfig:
        problem = one_problem(node.check("--kubeconfig", kubeconfig, "--prefix", "kt-drop:", code=1))
    assert problem["topic"] == "journal"


def test_a_user_without_rights_is_told_what_to_do(tmp_path: Path) -> None:
    """Not in the group, not root: the journal and the rules cannot be read."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to become somebody else")
    become = (
        "import os, sys, kiptail.cli.main, kiptail.check.run; os.setgroups([]); os.setgid(65534); os.setuid(65534);"
        "kiptail.cli.main.main(sys.argv[1:])"
    )
    with Journald(tmp_path / "j") as journald:
        command = journald.command(sys.executable, "-c", become, "check", "--output", "json")
        done = subprocess.run(command, capture_output=True, timeout=60, check=False, env=_environment({}))
    assert done.returncode == 1, done.stderr
    found = {f["topic"]: f for f in json.loads(done.stdout)["findings"]}
    assert found["journal"]["level"] == "problem"
    assert "systemd-journal" in found["journal"]["remedy"]
    assert found["rules"]["level"] == "warning"
    assert "needs root" in found["rules"]["text"]
    assert "as root" in found["rules"]["remedy"]


def test_root_is_not_told_to_become_root_where_there_is_no_journal(tmp_path: Path) -> None:
    with Journald(tmp_path / "j") as journald:
        journald.stop()
        for file in journald.directory.rglob("*.journal"):
            file.unlink()
        command = journald.command(sys.executable, "-m", "kiptail", "check", "--output", "json")
        done = subprocess.run(command, capture_output=True, timeout=60, check=False, env=_environment({}))
    (journal,) = [f for f in json.loads(done.stdout)["findings"] if f["topic"] == "journal"]
    assert journal["text"] == "this machine has no journal"
    assert journal["remedy"].startswith("see whether systemd-journald runs; in a container, mount")


def test_an_expired_certificate(node: Node) -> None:
    node.nft(GOOD)
    node.write_journal("kt-drop:", 2)
    with node.cluster(*ALL) as kubeconfig:
        document: dict[str, Any] = json.loads(kubeconfig.read_text())
        pair: Pair = Authority(node.directory / "ca").expired_client("system:node:node-1", "system:nodes")
        document["users"][0]["user"] = {
            "client-certificate-data": base64.b64encode(pair.certificate.read_bytes()).decode(),
            "client-key-data": base64.b64encode(pair.key.read_bytes()).decode(),
        }
        kubeconfig.write_text(json.dumps(document))
        topics = node.check("--kubeconfig", kubeconfig, "--prefix", "kt-drop:", code=1)
    (credential,) = topics["credential"]
    assert credential["level"] == "problem"
    assert credential["text"].startswith("the client certificate expired ")
    assert credential["text"].endswith(" ago, 2024-01-02 00:00 UTC")
    assert "journalctl -u kubelet" in credential["remedy"]
    (server,) = topics["server"]
    assert server["remedy"] == "renew the credential, then run `kiptail check` again"


def test_a_missing_right(node: Node) -> None:
    node.nft(GOOD)
    node.write_journal("kt-drop:", 2)
    with node.cluster(("list watch", "pods"), ("create", "events")) as kubeconfig:
        problem = one_problem(node.check("--kubeconfig", kubeconfig, "--prefix", "kt-drop:", code=1))
    assert problem["text"] == "may not patch events, so counts of Events do not grow"
    assert problem["remedy"].startswith("bind kiptail to the ClusterRole kiptail that `kiptail manifests` prints")


@pytest.mark.parametrize(("offset", "told"), [(3_600.0, "1 hour behind"), (-7_300.0, "2 hours ahead of")])
def test_a_wrong_clock(node: Node, offset: float, told: str) -> None:
    node.nft(GOOD)
    node.write_journal("kt-drop:", 2)
    with node.cluster(*ALL, clock_offset=offset) as kubeconfig:
        problem = one_problem(node.check("--kubeconfig", kubeconfig, "--prefix", "kt-drop:", code=1))
    assert told in problem["text"]
    assert "timedatectl" in problem["remedy"]


def test_no_pod_has_this_node_name(node: Node) -> None:
    node.nft(GOOD)
    node.write_journal("kt-drop:", 2)
    with node.cluster(*ALL, pods=0) as kubeconfig:
        problem = one_problem(node.check("--kubeconfig", kubeconfig, "--prefix", "kt-drop:", code=1))
    assert problem["text"] == "no pod runs on a node named node-1"
    assert "--node-name" in problem["remedy"]


def test_nothing_secret_and_nothing_that_is_no_text_is_printed(node: Node) -> None:
    node.nft(GOOD)
    node.write_journal("\x1b[31mevil\x07 kt-drop:", 2)
    with node.cluster(*ALL) as kubeconfig:
        token = json.loads(kubeconfig.read_text())["users"][0]["user"]["token"]
        command = ["ip", "netns", "exec", node.net.node, sys.executable, "-m", "kiptail", "check"]
        command += ["--journal-directory", str(node.journal), "--kubeconfig", str(kubeconfig)]
        done = subprocess.run(command, capture_output=True, timeout=60, check=False, env=_environment({}))
    assert done.returncode == 1
    assert b"\x1b" not in done.stdout
    assert b"\x07" not in done.stdout
    assert token.encode() not in done.stdout
    assert token.split(".")[2].encode() not in done.stdout
    assert len(done.stdout.splitlines()) <= 25


def test_a_full_disk_behind_the_output_ends_without_a_traceback() -> None:
    command = f"{sys.executable} -m kiptail check >/dev/full"
    done = subprocess.run(["bash", "-c", command], capture_output=True, timeout=60, check=False, env=_environment({}))
    assert done.returncode == 1
    assert b"No space left" in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr


def test_each_finding_is_a_line_with_its_remedy() -> None:
    findings = [
        Finding("journal", Level.OK, "readable"),
        Finding("clock", Level.PROBLEM, "wrong\x1b[1m", "set it"),
        Finding("limits", Level.WARNING, "none"),
    ]
    assert as_text(findings).splitlines() == [
        "ok       journal     readable",
        "problem  clock       wrong [1m → set it",
        "warning  limits      none",
        "1 problem, 1 warning",
    ]
    assert as_text(findings[:1]).splitlines()[-1] == "all is well"
    assert json.loads(as_json(findings[:1]))["ok"] is True
