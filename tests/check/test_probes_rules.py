"""Rules as this machine's own tools show them, in a network namespace: each tool, and what another has put there."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kiptail.check.facts import Level, RuleFacts
from kiptail.check.findings.host import host_findings
from kiptail.check.firewall.log_rules import Fate
from kiptail.check.probes import rules
from kiptail.netfilter.prefixes import PrefixRule, Verdict
from tests.check.test_findings_host import NOW, facts
from tests.support.netns import Network, within

pytestmark = pytest.mark.live

#: What nft prints where it was built without xtables.
_WITHOUT_XTABLES = """#!/bin/sh
nft "$@" | PATH=/usr/bin:/bin sed -E \\
  's/\\{"xt": \\{[^}]*\\}\\}/{"xt": null}/g; s/log prefix "[^"]*"/xt target "LOG"/'
"""
PROGRAMS = {"nft": "nft", "iptables-save": "iptables-nft-save", "ip6tables-save": "ip6tables-nft-save"}
LEGACY = {"nft": "nft", "iptables-save": "iptables-legacy-save", "ip6tables-save": "ip6tables-legacy-save"}
NFT_TOO = {"iptables-nft-save": "iptables-nft-save", "ip6tables-nft-save": "ip6tables-nft-save"}


class Host:
    """A namespace with rules, and the tools that are installed there."""

    def __init__(self, net: Network, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.net, self.directory = net, directory
        self._monkeypatch = monkeypatch

    def run(self, *commands: str) -> None:
        script = "\n".join(commands)
        done = subprocess.run(
            ["ip", "netns", "exec", self.net.node, "sh", "-ec", script], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr

    def rules(self, programs: dict[str, str], *, nft: str = "") -> RuleFacts:
        """What is read with these programs; ``nft`` is a script in its place."""
        tools = self.directory / "tools"
        shutil.rmtree(tools, ignore_errors=True)
        tools.mkdir()
        for name, program in programs.items():
            path = shutil.which(program)
            assert path, f"{program} is not installed"
            # By its name it knows what it is to be.
            (tools / name).write_text(f'#!/bin/sh\nexec {path} "$@"\n')
            (tools / name).chmod(0o755)
        if nft:
            (tools / "nft").write_text(nft.replace('\nnft "', f'\n{shutil.which("nft")} "'))
        self._monkeypatch.setattr(rules, "_PATH", f"{tools}")
        call: Callable[[], RuleFacts] = rules.gather_rules
        return within(self.net.node, call)


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    if os.geteuid() != 0:
        pytest.skip("needs root, for a network namespace with rules")
    net = Network()
    try:
        net.set_up()
        yield Host(net, tmp_path, monkeypatch)
    finally:
        net.tear_down()


LOG_AND_DROP = (
    "iptables-nft -A FORWARD -p tcp -m comment --comment '!' -j LOG --log-prefix '-- x: '",
    "iptables-nft -A FORWARD -p tcp -j DROP",
)
FOREIGN = "nft add rule ip filter FORWARD ct state vmap '{ invalid : drop }'"


def summary(facts_of: RuleFacts) -> list[tuple[str, str, Fate]]:
    return [(rule.tool, rule.prefix, rule.fate) for rule in facts_of.rules]


def test_a_table_that_only_nft_can_show(host: Host) -> None:
    """Another program's rule in it, and iptables-save says nothing but that."""
    host.run(*LOG_AND_DROP, FOREIGN)
    found = host.rules(PROGRAMS)
    assert summary(found) == [("nftables", "-- x: ", Fate.DROP)]
    assert found.refusals == {}


def test_a_table_that_nobody_can_show(host: Host) -> None:
    """It is said, and it is no problem that there would be no such rule."""
    host.run(*LOG_AND_DROP, FOREIGN)
    found = host.rules(PROGRAMS, nft=_WITHOUT_XTABLES)
    assert summary(found) == []
    assert found.refusals == {"nftables": "rules with extensions that are not shown in table ip filter"}
    for prefixes in ((), (PrefixRule("-- x:", Verdict.DROP),)):
        findings = host_findings(facts(rules=found, prefixes=prefixes, journal={"prefixes": {}}), now=NOW)
        about = [finding for finding in findings if finding.topic in ("rules", "prefixes")]
        assert any("table ip filter" in finding.text and finding.level is Level.WARNING for finding in about)
        assert not any("no LOG rule" in finding.text for finding in about)
        assert all(finding.level is Level.WARNING for finding in about) or not prefixes


def test_without_nft_such_a_table_is_said_to_be_unread(host: Host) -> None:
    host.run(*LOG_AND_DROP, FOREIGN)
    found = host.rules({name: program for name, program in PROGRAMS.items() if name != "nft"})
    assert (summary(found), found.refusals) == ([], {"iptables": "only nft can show table ip filter"})


@pytest.mark.parametrize(
    ("programs", "tool"), [({**LEGACY, **NFT_TOO}, "iptables"), (LEGACY, "nftables"), ({"nft": "nft"}, "nftables")]
)
def test_rules_that_are_not_where_iptables_save_looks(host: Host, programs: dict[str, str], tool: str) -> None:
    """As on a node whose own iptables is the old one, with rules that a container has made with the new one."""
    host.run(*LOG_AND_DROP)
    found = host.rules(programs)
    assert (summary(found), found.refusals) == ([(tool, "-- x: ", Fate.DROP)], {})


def test_what_one_tool_made_drops_what_anothers_rule_accepts(host: Host) -> None:
    host.run(
        "iptables-nft -A FORWARD -j LOG --log-prefix 'x: '",
        "iptables-nft -A FORWARD -j ACCEPT",
        "nft add table inet late",
        "nft add chain inet late forward '{ type filter hook forward priority 10; policy drop; }'",
    )
    assert summary(host.rules(PROGRAMS)) == [("iptables", "x: ", Fate.DROP)]


def test_what_iptables_save_leaves_out(host: Host) -> None:
    """Until 1.8.9, of what nft has put into its table: a set, and a log before a verdict."""
    host.run(
        "iptables-nft -A FORWARD -p tcp -j LOG --log-prefix 'a: '",
        "nft add rule ip filter FORWARD ip saddr 10.0.0.1 log prefix '\"b: \"' drop",
        "nft add rule ip filter FORWARD meta l4proto '{ tcp, udp }' ip saddr '{ 10.0.0.2, 10.0.0.3 }' drop",
    )
    found = {prefix: fate for _, prefix, fate in summary(host.rules(PROGRAMS))}
    assert found == {"a: ": Fate.MIXED, "b: ": Fate.DROP}


def test_a_table_of_which_nft_prints_half(host: Host) -> None:
    """nft 1.0.6 ends its JSON at a table's flags; the other tables are read, and that one is named."""
    host.run(
        "nft add table inet asleep '{ flags dormant; }'",
        "nft add table inet late",
        "nft add chain inet late forward '{ type filter hook forward priority 10; policy drop; }'",
        "nft add rule inet late forward log prefix '\"x: \"'",
    )
    found = host.rules(PROGRAMS)
    assert summary(found) == [("nftables", "x: ", Fate.DROP)]
    assert found.refusals in ({}, {"nft": "cannot show table inet asleep as JSON"})


def test_rules_of_ebtables_are_said_to_be_unread(host: Host) -> None:
    host.run("ebtables-nft -A FORWARD --log-prefix eb -j DROP")
    found = host.rules(PROGRAMS)
    assert found.refusals == {"nftables": "rules with extensions that are not shown in table bridge filter"}
