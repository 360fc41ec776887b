"""What is said of units that run ulogd2, and of NFLOG rules."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kiptail.check.facts import Finding, Level, NflogFacts
from kiptail.check.findings.host import host_findings
from kiptail.check.firewall.log_rules import Fate
from kiptail.config.profile import load
from kiptail.netfilter.prefixes import Verdict
from tests.check.test_findings_host import NOW, READ, RULE, facts

UNIT = NflogFacts("kiptail-ulogd@100.service", "NFLOG group 100", 100, state="active", listener="ulogd", counted=3)
TO_NFLOG = replace(RULE, group=100)


def found(*units: NflogFacts, **changes: Any) -> list[Finding]:
    return host_findings(facts(nflog=units, **changes), now=NOW)


def of_nflog(*units: NflogFacts) -> list[Finding]:
    return [finding for finding in found(*units) if finding.topic == "nflog"]


def test_one_that_runs() -> None:
    assert of_nflog(UNIT) == [
        Finding("nflog", Level.OK, "NFLOG group 100: kiptail-ulogd@100.service runs, 3 packets in the last hour")
    ]
    (finding,) = of_nflog(UNIT._replace(state=""))
    assert finding.text == "NFLOG group 100: kiptail-ulogd@100.service: 3 packets in the last hour", "another's journal"


@pytest.mark.parametrize(
    ("changes", "text", "remedy"),
    [
        ({"listener": ""}, "does not run (failed): its packets are lost", "systemctl enable --now kiptail-ulogd@100"),
        ({"listener": "", "installed": False}, "does not run", "install ulogd2 (Fedora: ulogd), then systemctl enable"),
        ({"listener": "felix\x1b[0m"}, "as felix [0m listens to this group", "end that program"),
        ({"listener": "ulogd"}, "does not run (failed)", "systemctl status"),
    ],
)
def test_one_that_does_not(changes: dict[str, Any], text: str, remedy: str) -> None:
    (finding,) = of_nflog(UNIT._replace(state="failed", **changes))
    assert finding.level is Level.PROBLEM
    assert text in finding.text
    assert finding.text.isprintable()
    assert remedy in finding.remedy


def test_lines_that_do_not_count_and_packets_that_were_lost() -> None:
    _, uncounted, lost = of_nflog(UNIT._replace(uncounted=2, overruns=1, suppressed=9))
    assert (uncounted.level, lost.level) == (Level.WARNING, Level.WARNING)
    assert "2 lines of the last hour with another prefix" in uncounted.text
    assert "1 time by ulogd2; journald left out 9 lines" in lost.text


@pytest.mark.parametrize(
    ("verdict", "fates", "level", "text"),
    [
        (Verdict.DROP, [Fate.DROP, Fate.REJECT], Level.OK, "a drop follows (nftables inet filter forward)"),
        (Verdict.REJECT, [Fate.REJECT], Level.OK, "a reject follows"),
        (Verdict.DROP, [Fate.DROP, Fate.ACCEPT], Level.PROBLEM, "Events would report drops that did not happen"),
        (Verdict.DROP, [Fate.MIXED], Level.WARNING, "whether a drop follows depends on further rules"),
        (Verdict.REJECT, [Fate.REJECT, Fate.UNKNOWN], Level.WARNING, "whether a drop follows"),
        (Verdict.ACCEPT, [Fate.DROP], Level.WARNING, "no Event reports it"),
    ],
)
def test_what_packets_without_a_prefix_stand_for_is_held_against_the_rules(
    verdict: Verdict, fates: list[Fate], level: Level, text: str
) -> None:
    rules = tuple(replace(TO_NFLOG, prefix=" ", fate=fate) for fate in fates)
    _, other = (f for f in found(UNIT._replace(verdict=verdict), rules={"rules": (RULE, *rules)}) if f.topic == "nflog")
    assert other.level is level
    assert other.text.startswith("NFLOG group 100, without a prefix: ")
    assert text in other.text


@pytest.mark.parametrize("verdict", [None, Verdict.LOG])
def test_where_they_count_for_nothing_the_rules_may_do_as_they_like(verdict: Verdict | None) -> None:
    rules = {"rules": (RULE, *(replace(TO_NFLOG, prefix="", fate=fate) for fate in Fate))}
    assert [f.level for f in found(UNIT._replace(verdict=verdict), rules=rules) if f.topic == "nflog"] == [Level.OK]


def test_a_profile_whose_group_is_not_read(tmp_path: Path) -> None:
    profiles = (load("k3s", "test", tmp_path),)
    (finding,) = [f for f in found(profiles=profiles) if f.topic == "nflog"]
    assert (finding.level, finding.text) == (Level.WARNING, "profile k3s is about NFLOG group 100, which is not read")
    assert "--nflog-group 100" in finding.remedy
    assert [f.level for f in found(UNIT, profiles=profiles) if f.topic == "nflog"] == [Level.OK]


def test_no_prefix_is_no_problem_where_a_group_is_read() -> None:
    assert not [f for f in found(UNIT, prefixes=(), rules={"rules": (TO_NFLOG,)}) if f.level is not Level.OK]
    assert [f for f in found(prefixes=()) if f.topic == "prefixes" and f.level is Level.PROBLEM]


@pytest.mark.parametrize(
    ("place", "prefix", "stands_for"),
    [
        ("filter KUBE-POD-FW-X2", "", 'profile = "kube-router"'),
        ("filter KUBE-NWPLCY-X2", "DROP by policy team-a/deny", 'profile = "k3s"'),
        ("filter WEAVE-NPC", "", 'profile = "weave"'),
        ("filter FORWARD", "", "its verdict"),
    ],
)
def test_what_uses_the_group_where_its_rules_show_that(place: str, prefix: str, stands_for: str) -> None:
    rule = replace(TO_NFLOG, place=place, prefix=prefix)
    (finding,) = [one for one in found(rules={"rules": (RULE, rule)}) if "NFLOG group 100 " in one.text]
    assert f"group = 100 and {stands_for}: docs/nflog.md" in finding.remedy


def test_rules_whose_group_nobody_reads() -> None:
    rules = {"rules": (RULE, TO_NFLOG, replace(RULE, group=7)), "read": READ}
    (finding,) = [f for f in found(UNIT, rules=rules) if "NFLOG group 7 " in f.text]
    assert finding.level is Level.WARNING
    assert finding.remedy.startswith("systemctl enable --now kiptail-ulogd@7, and a table [[nflog]] with group = 7 and")
    own = NflogFacts("ulogd2.service", "NFLOG to ulogd2.service", state="active")
    assert not [f for f in found(own, rules=rules) if "not in the kernel log" in f.text], "it may be that unit's"


def test_a_prefix_that_only_rules_of_a_group_have_is_in_use() -> None:
    rules = {"rules": (replace(TO_NFLOG, prefix="x: "),)}
    assert not [f for f in found(UNIT, rules=rules, journal={"prefixes": {}}) if f.level is Level.PROBLEM]
    assert [f for f in found(rules=rules, journal={"prefixes": {}}) if f.level is Level.PROBLEM]


def test_what_else_a_group_logs_with_is_no_prefix_to_configure() -> None:
    rules = {"rules": (RULE, replace(TO_NFLOG, prefix=""), replace(TO_NFLOG, prefix="DROP by policy a/b"))}
    assert not [f for f in found(UNIT, rules=rules) if f.level is not Level.OK]
