"""Which NFLOG groups a machine's rules justify reading, and how."""

from __future__ import annotations

import re
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kiptail.check.facts import Level, NflogFacts
from kiptail.check.findings.configuration import configuration_text
from kiptail.check.findings.groups import LoggedGroup, propose_groups
from kiptail.check.findings.nflog import nflog_findings
from kiptail.check.findings.prefixes import prefix_findings
from kiptail.check.findings.proposal import Proposal
from kiptail.check.firewall.iptables import parse_iptables
from kiptail.check.firewall.log_rules import Fate, LogRule, log_rules
from kiptail.config.settings import Settings, resolve
from kiptail.netfilter.prefixes import Prefixes, Verdict
from tests.check.test_configuration import HOSTILE, SOURCES, flat
from tests.check.test_findings_host import READ, facts
from tests.check.test_proposal import KNOWN, SHIPPED, TEXTS
from tests.support.stacks import kube_router

TO_NFLOG = LogRule("nftables", "inet filter forward", "", Fate.DROP, group=7)

#: kindnet hands every packet that begins a connection to a program, and drops none by a rule.
KINDNET = """*filter
:FORWARD ACCEPT [0:0]
-A FORWARD -m conntrack --ctstate NEW -j NFLOG --nflog-group 100
COMMIT
"""
#: Weave, and what it drops.
WEAVE = """*filter
:FORWARD ACCEPT [0:0]
:WEAVE-NPC - [0:0]
-A FORWARD -o weave -j WEAVE-NPC
-A WEAVE-NPC -m set --match-set weave-allowed dst -j ACCEPT
-A WEAVE-NPC -m state --state NEW -j NFLOG --nflog-group 86
-A WEAVE-NPC -j DROP
COMMIT
"""


def rules_of(text: str) -> list[LogRule]:
    return log_rules(parse_iptables(text, family="ip", interface="nf_tables"))


def proposed(rules: list[LogRule], listeners: dict[int, str] | None = None) -> tuple[str, Any]:
    """The file, and what is in it."""
    proposal, groups = propose_groups(rules, {}, KNOWN, listeners or {})
    text = configuration_text(proposal, SOURCES, groups)
    return flat(text), tomllib.loads(text)


_K3S = kube_router("10.42.0.3", {"team-a/a": [], "team-a/b": [82]}, k3s=True)
_KUBE_ROUTER = kube_router("10.42.0.3", {"team-a/web": [80]})
REAL: list[tuple[str, str, Any]] = [
    (
        "kube-router",
        kube_router("10.42.0.3", {"team-a/web": [80]}),
        {"nflog": [{"group": 100, "profile": "kube-router"}]},
    ),
    (
        "k3s",
        kube_router("10.42.0.3", {"team-a/a": [], "team-a/b": [82]}, k3s=True),
        {"nflog": [{"group": 100, "profile": "k3s"}]},
    ),
    ("weave", WEAVE, {"nflog": [{"group": 86, "profile": "weave"}]}),
    ("kindnet", KINDNET, {}),
]


@pytest.mark.parametrize(("text", "document"), [c[1:] for c in REAL], ids=[c[0] for c in REAL])
def test_rules_as_they_are_written(text: str, document: Any) -> None:
    said, found = proposed(rules_of(text))
    assert found == document
    for table in document.get("nflog", ()):
        assert f"It needs: systemctl enable --now kiptail-ulogd@{table['group']}" in said


def test_what_passes_is_a_comment_that_can_be_put_into_force() -> None:
    proposal, groups = propose_groups(rules_of(KINDNET), {}, KNOWN, {})
    text = configuration_text(proposal, SOURCES, groups)
    assert tomllib.loads(text) == {}
    assert "NFLOG group 100 (iptables filter FORWARD), without a prefix: what is logged passes" in flat(text)
    in_force = re.sub("(?m)^#(?! |$)", "", text)
    assert tomllib.loads(in_force) == {"nflog": [{"group": 100, "verdict": "accept"}]}


def rule(prefix: str, fate: Fate, **changes: Any) -> LogRule:
    return replace(TO_NFLOG, prefix=prefix, fate=fate, **changes)


CASES: list[tuple[str, list[LogRule], Any, str]] = [
    ("a drop", [rule("", Fate.DROP)], {"nflog": [{"group": 7, "verdict": "drop"}]}, "a drop follows"),
    (
        "a reject, of a stack that drops",
        [rule("", Fate.REJECT, place="filter WEAVE-NPC")],
        {"nflog": [{"group": 7, "verdict": "reject"}]},
        "a reject follows",
    ),
    (
        "a drop, of a stack that rejects",
        [rule("", Fate.DROP, place="filter KUBE-POD-FW-X", limited=True)],
        {"nflog": [{"group": 7, "verdict": "drop", "limited": True}]},
        "more packets than lines",
    ),
    (
        "a reject that is not limited, of a stack that limits",
        [rule("", Fate.REJECT, place="filter KUBE-POD-FW-X")],
        {"nflog": [{"group": 7, "verdict": "reject"}]},
        "a reject follows",
    ),
    (
        "a limited one, of a stack that does not limit",
        [rule("", Fate.DROP, place="filter WEAVE-NPC", limited=True)],
        {"nflog": [{"group": 7, "profile": "weave", "limited": True}]},
        "a drop follows",
    ),
    ("not certain", [rule("", Fate.MIXED)], {}, "NFLOG group 7 (nftables inet filter forward): a drop may follow"),
    ("unknown", [rule("", Fate.UNKNOWN)], {}, "the rules do not say what follows"),
    ("in some places", [rule("", Fate.DROP), rule("", Fate.ACCEPT)], {}, "a drop follows in some places"),
    (
        "a prefix",
        [rule("x: ", Fate.DROP)],
        {"nflog-group": [7], "prefixes": [{"text": "x:", "verdict": "drop"}]},
        "'x:' (nftables inet filter forward), by NFLOG group 7: a drop follows",
    ),
    (
        "a prefix, and none where it passes",
        [rule("x: ", Fate.DROP), rule("", Fate.ACCEPT)],
        {"nflog-group": [7], "prefixes": [{"text": "x:", "verdict": "drop"}]},
        "it logs prefixes that stand for drops",
    ),
    (
        "a prefix, and none where that is not certain",
        [rule("x: ", Fate.DROP), rule("", Fate.MIXED)],
        {"nflog-group": [7], "prefixes": [{"text": "x:", "verdict": "drop"}]},
        "Packets without a prefix do not count: a drop may follow",
    ),
    ("a prefix that passes", [rule("x: ", Fate.ACCEPT)], {}, "after none of its prefixes it is certain"),
    (
        "a profile's prefix",
        [rule("[UFW BLOCK] ", Fate.DROP, limited=True)],
        {"nflog-group": [7], "profile": ["ufw"]},
        "Profile ufw",
    ),
    (
        "one that the kernel log has, where it passes here",
        [rule("x: ", Fate.DROP, group=None), rule("x: ", Fate.ACCEPT), rule("y: ", Fate.DROP)],
        {"prefixes": [{"text": "x:", "verdict": "drop"}]},
        "it has 'x:' too, and no drop is certain there",
    ),
    (
        "one that the kernel log has, where it passes there",
        [rule("x: ", Fate.ACCEPT, group=None), rule("x: ", Fate.DROP)],
        {},
        "after none of its prefixes it is certain that a drop follows",
    ),
    (
        "the same in both",
        [rule("x: ", Fate.DROP, group=None), rule("x: ", Fate.DROP)],
        {"nflog-group": [7], "prefixes": [{"text": "x:", "verdict": "drop"}]},
        "'x:' (nftables inet filter forward), by NFLOG group 7",
    ),
    (
        "two groups of which one contradicts the other",
        [rule("x: ", Fate.DROP), rule("x: ", Fate.ACCEPT, group=8), rule("", Fate.DROP, group=8)],
        {"nflog-group": [7], "prefixes": [{"text": "x:", "verdict": "drop"}]},
        "NFLOG group 8 (nftables inet filter forward): it has 'x:' too",
    ),
    (
        "one that a stack of another group takes for no verdict",
        [
            rule("DROP by policy a/b", Fate.MIXED, limited=True),
            rule("", Fate.REJECT, limited=True),
            rule("DROP by policy a/b", Fate.DROP, group=8),
        ],
        {"nflog": [{"group": 7, "profile": "k3s"}]},
        "'DROP by policy a/b' of group 7 would count as a drop",
    ),
    ("bytes that are no text", [rule("\ufffd", Fate.DROP)], {}, "after none of its prefixes"),
]


@pytest.mark.parametrize(("rules", "document", "said"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_what_is_proposed_of_a_group(rules: list[LogRule], document: Any, said: str) -> None:
    text, found = proposed(rules)
    assert found == document
    assert said in text


def test_a_group_that_another_program_listens_to_is_left_to_it() -> None:
    text, found = proposed([rule("", Fate.DROP), rule("", Fate.DROP, group=8)], {7: "calico-node\n[x]"})
    assert found == {"nflog": [{"group": 8, "verdict": "drop"}]}
    assert "'calico-node [x]' listens to it, and a group has one listener" in text


def test_many_groups_are_bounded() -> None:
    text, found = proposed([rule("", Fate.DROP, group=number) for number in range(100)])
    assert len(found["nflog"]) == 20
    assert "NFLOG group 20 (nftables inet filter forward): it is beyond the first 20 groups" in text
    assert "and 40 more" in text


# -- what is proposed is what check finds well ------------------------------------------------------------------

GROUPED = st.lists(
    st.builds(
        LogRule, st.just("iptables"), st.sampled_from(["filter FORWARD", "filter KUBE-POD-FW-X", "filter WEAVE-NPC"]),
        st.one_of(st.just(""), TEXTS, st.sampled_from(["DROP by policy a/b", "DROP by policy c/d"])),
        st.sampled_from(Fate), st.sampled_from([None, 0, 7, 100, 65_535]), st.booleans(),
    ),
    max_size=7,
)  # fmt: skip


def settings_of(text: str, directory: Path) -> Settings:
    file = directory / "kiptail.toml"
    file.write_text(text)
    return resolve({"config": str(file)}, {}, now_us=10**15, need_prefix=False)


def is_certain(rules: list[LogRule]) -> bool:
    return {one.fate for one in rules} <= {Fate.DROP, Fate.REJECT}


@given(GROUPED)
def test_what_counts_is_certain_and_check_finds_nothing_against_it(
    tmp_path_factory: pytest.TempPathFactory, rules: list[LogRule]
) -> None:
    proposal, groups = propose_groups(rules, {}, KNOWN, {})
    settings = settings_of(configuration_text(proposal, SOURCES, groups), tmp_path_factory.getbasetemp())
    sources = {source.group: source.prefixes(settings.prefixes) for source in settings.nflog}
    assert sources.keys() == {group.group for group in groups if group.is_read}
    readers = {None: Prefixes(settings.prefixes), **sources}
    said_of = {None: {one.prefix for one in proposal.others}, **{one.group: one.reason for one in groups}}
    for group, prefixes in readers.items():
        texts: dict[str, list[LogRule]] = {}
        for one in rules:
            if one.group == group:
                texts.setdefault(one.prefix.strip(), []).append(one)
        for text, own in texts.items():
            said = prefixes.match(text)
            counts = said is not None and said.verdict.is_loss
            assert not counts or is_certain(own), (group, text)
            if counts and not text and said is not None:
                assert said.limited is any(one.limited for one in own)
            # A policy's line is no verdict, whatever follows here: the line behind it is.
            if is_certain(own) and not counts and not text.startswith("DROP by policy "):
                assert text in {one.prefix for one in proposal.others}, (group, text)
    for group in {one.group for one in rules} - readers.keys():
        (unread,) = [one for one in groups if one.group == group]
        assert unread.is_passing or said_of[group]
    host = facts(
        prefixes=settings.prefixes,
        profiles=tuple(SHIPPED[name] for name in proposal.profiles),
        known_profiles=KNOWN,
        rules={"rules": tuple(rules), "read": READ},
        journal={"prefixes": {}},
        nflog=tuple(
            NflogFacts(source.unit, source.name, source.group, source.verdict, state="active")
            for source in settings.nflog
        ),
    )
    for finding in (*prefix_findings(host), *nflog_findings(host)):
        if finding.level is not Level.OK and (settings.prefixes or settings.nflog):
            assert "is not configured" in finding.text or "are not in the kernel log" in finding.text, finding


@given(HOSTILE, HOSTILE, st.sampled_from(Fate))
def test_it_resolves_as_settings_whatever_root_wrote(
    tmp_path_factory: pytest.TempPathFactory, prefix: str, place: str, fate: Fate
) -> None:
    rules = [rule(prefix, fate, place=place), rule("", Fate.DROP, place=place), rule("", fate, group=8, place=place)]
    proposal, groups = propose_groups(rules, {}, KNOWN, {9: prefix})
    settings = settings_of(configuration_text(proposal, SOURCES, groups), tmp_path_factory.getbasetemp())
    assert all(source.verdict is None or source.verdict.is_loss for source in settings.nflog)


def test_without_nflog_rules_nothing_is_different() -> None:
    proposal, groups = propose_groups([rule("x: ", Fate.DROP, group=None)], {"y: ": 1}, KNOWN, {})
    assert groups == ()
    assert isinstance(proposal, Proposal)
    assert [one.prefix for one in proposal.prefixes] == ["x:"]


def test_a_group_says_what_it_is() -> None:
    assert LoggedGroup(7, (), verdict=Verdict.ACCEPT).is_passing
    assert not LoggedGroup(7, (), is_read=True, verdict=Verdict.ACCEPT).has_table
