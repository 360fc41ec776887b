"""What is said of facts about the host."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kiptail.check.facts import (
    NEEDS_ROOT,
    NOT_INSTALLED,
    Finding,
    HostFacts,
    JournalFacts,
    Level,
    RuleFacts,
    StateFacts,
)
from kiptail.check.findings.host import host_findings
from kiptail.check.firewall.log_rules import Fate, LogRule
from kiptail.check.run import as_text
from kiptail.config.profile import load
from kiptail.netfilter.prefixes import PrefixRule, Verdict
from tests.support.running import run_kiptail

NOW = 1_800_000_000.0
RULE = LogRule("nftables", "inet filter forward", "x: ", Fate.DROP, limited=True)
READ = ("iptables", "ip6tables", "nft")


def facts(**changes: Any) -> HostFacts:
    journal = JournalFacts("this machine's journal", persistent=True, last_kernel_at=NOW - 5, prefixes={"x: ": 3})
    good = HostFacts(
        prefixes=(PrefixRule("x:", Verdict.DROP),),
        journal=journal,
        rules=RuleFacts((RULE,), READ),
        state=StateFacts("/var/lib/kiptail", exists=True, free=10 << 30),
        all_netns=False,
        console_level=4,
        versions={"kiptail": "1"},
    )
    for key in ("journal", "rules", "state"):
        if isinstance(changes.get(key), dict):
            changes[key] = replace(getattr(good, key), **changes[key])
    return replace(good, **changes)


def bad(found: list[Finding]) -> list[Finding]:
    return [finding for finding in found if finding.level is not Level.OK]


def test_all_well() -> None:
    assert bad(host_findings(facts(), now=NOW)) == []


CASES: list[tuple[str, dict[str, Any], Level, str, str]] = [
    ("no kernel messages", {"journal": {"last_kernel_at": None}}, Level.PROBLEM, "no kernel messages", "--journal-dir"),
    (
        "journald reads no kernel messages",
        {"journal": {"last_kernel_at": None, "settings": {"ReadKMsg": "no"}}}, Level.PROBLEM, "no kernel", "ReadKMsg",
    ),
    (
        "journald keeps errors only", {"journal": {"settings": {"MaxLevelStore": "err"}}}, Level.PROBLEM, "level err",
        "MaxLevelStore=debug",
    ),
    ("volatile", {"journal": {"persistent": False, "runtime": True}}, Level.WARNING, "volatile", "/var/log/journal"),
    ("missed messages", {"journal": {"missed": 7}}, Level.WARNING, "missed 7 kernel messages", "log_buf_len"),
    ("any namespace logs", {"all_netns": True}, Level.WARNING, "nf_log_all_netns is 1", "sysctl -w"),
    (
        "a rule without a limit", {"rules": {"rules": (replace(RULE, limited=False),)}}, Level.WARNING,
        "without a rate limit", "kiptail rules",
    ),
    (
        "NFLOG", {"rules": {"rules": (RULE, replace(RULE, group=5, prefix="y"))}}, Level.WARNING, "NFLOG group 5",
        "use LOG",
    ),
    (
        "another rule that drops", {"rules": {"rules": (RULE, replace(RULE, prefix="y: "))}}, Level.WARNING,
        "'y:' is not configured, and a drop follows", "--prefix 'y:'",
    ),
    (
        "another rule that may drop", {"rules": {"rules": (RULE, replace(RULE, prefix="y: ", fate=Fate.MIXED))}},
        Level.WARNING, "'y:' is not configured, and a drop may follow", "--prefix 'y:'",
    ),
    (
        "another rule of which nothing is known",
        {"rules": {"rules": (replace(RULE, fate=Fate.UNKNOWN),)}}, Level.WARNING,
        "whether a drop follows depends on further rules", "directly before the drop",
    ),
    (
        "a rule that may be in what was not shown",
        {"rules": RuleFacts((), READ, {"nft": "rules with extensions that are not shown in table ip filter"}),
         "journal": {"prefixes": {"x: ": 1}}}, Level.WARNING,
        "not all rules of the firewall could be read (nft: rules with extensions", "nft list ruleset",
    ),
    (
        "rules that may not be read",
        {"rules": RuleFacts((), (), {"nft": "needs root"}), "journal": {"prefixes": {"x: ": 1}}}, Level.WARNING,
        "not all rules of the firewall could be read (nft: needs root)", "run `kiptail check` as root, or",
    ),
    (
        "no tool for rules",
        {"rules": RuleFacts((), (), {"nft, iptables": NOT_INSTALLED}), "journal": {"prefixes": {"x: ": 1}}},
        Level.WARNING, "not all rules of the firewall could be read", "install nftables or iptables",
    ),
    (
        "no rule at all", {"rules": {"rules": ()}, "journal": {"prefixes": {"y: ": 1}}}, Level.PROBLEM,
        "no LOG rule has the prefix 'x:'", "log directly before the drop",
    ),
    (
        "a drop that is unsure", {"rules": {"rules": (replace(RULE, fate=Fate.MIXED),)}}, Level.WARNING,
        "whether a drop follows depends on further rules", "directly before the drop",
    ),
    (
        "logged and accepted", {"rules": {"rules": (replace(RULE, fate=Fate.ACCEPT),)}}, Level.PROBLEM,
        "is logged where no drop follows", "verdict",
    ),
    ("a full disk", {"state": {"free": 1_000}}, Level.PROBLEM, "no room", "free space"),
    ("little room", {"state": {"free": 5 << 20}}, Level.WARNING, "5 MiB free", "free space"),
    (
        "no directory", {"state": {"refusal": "is not a directory"}}, Level.PROBLEM, "is not a directory",
        "--state-directory",
    ),
    ("hidden state", {"state": {"hidden": True}}, Level.WARNING, "cannot be read by this user", "as root"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "level", "told", "remedy"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_one_thing_that_is_wrong(changes: dict[str, Any], level: Level, told: str, remedy: str) -> None:
    (finding,) = bad(host_findings(facts(**changes), now=NOW))
    assert finding.level is level
    assert told in finding.text
    assert remedy in finding.remedy


def test_a_verdict_of_log_needs_no_drop() -> None:
    changed = facts(prefixes=(PrefixRule("x:", Verdict.LOG),), rules={"rules": (replace(RULE, fate=Fate.ACCEPT),)})
    assert bad(host_findings(changed, now=NOW)) == []


def test_a_prefix_that_is_seen_needs_no_rule_that_can_be_read() -> None:
    """As with rules in eBPF, or in a table that no tool here shows."""
    changed = facts(rules={"rules": (replace(RULE, prefix="other: "),)})
    (finding,) = [f for f in host_findings(changed, now=NOW) if "'x:'" in f.text]
    assert (finding.level, finding.text) == (Level.OK, "'x:' seen 3 times in the last hour; no rule with it was found")


def test_a_word_of_a_rules_prefix_is_not_the_prefix() -> None:
    changed = facts(
        prefixes=(PrefixRule("DROP", Verdict.DROP),), rules={"rules": (replace(RULE, prefix="[FW DROP ] x "),)}
    )
    (finding,) = [f for f in host_findings(changed, now=NOW) if "'DROP'" in f.text]
    assert finding.level is Level.PROBLEM
    assert "[FW DROP ] x" in finding.text + finding.remedy


def only(topic: str, **changes: Any) -> Finding:
    (finding,) = [f for f in host_findings(facts(**changes), now=NOW) if f.topic == topic]
    return finding


def proposed(remedy: str) -> list[str]:
    """The prefixes in the line of configuration that a remedy ends with."""
    line = remedy.partition(" drops: ")[2]
    prefixes: list[str] = tomllib.loads(line[: line.rindex("]") + 1])["prefix"]
    return prefixes


ODD = ['a "quoted" one:', "back\\slash:", "two  blanks   and three:", "\x1bescape:", "ünïcode:", "it's:"]


@pytest.mark.parametrize("prefix", ODD)
def test_a_proposed_prefix_is_to_the_letter_what_the_rule_has(prefix: str) -> None:
    found = only(
        "prefixes", prefixes=(), rules={"rules": (replace(RULE, prefix=f"{prefix} "),)}, journal={"prefixes": {}}
    )
    printed = as_text([found])
    assert "\x1b" not in printed
    assert proposed(printed.splitlines()[0]) == [prefix]


def test_a_proposed_line_is_never_cut() -> None:
    rules = tuple(replace(RULE, prefix=f"{n}{'x' * 120}:") for n in range(5))
    found = only("prefixes", prefixes=(), rules={"rules": rules}, journal={"prefixes": {}})
    line = as_text([found]).splitlines()[0]
    assert proposed(line) == [rule.prefix for rule in rules[:2]]
    assert line.endswith("] and 3 more")


NOT_PROPOSED: list[tuple[str, dict[str, Any], str, str]] = [
    (
        "seen, without a rule", {"rules": {"rules": ()}},
        "no prefix is configured; 'x:' in the journal, but in no rule that was found", "log directly before the drop",
    ),
    (
        "seen, and the rules take root", {"rules": RuleFacts((), (), {"nft": NEEDS_ROOT})},
        "'x:' in the journal, but in no rule that was found", "run `kiptail check` as root",
    ),
    (
        "logged and accepted", {"rules": {"rules": (replace(RULE, fate=Fate.ACCEPT),)}},
        "no prefix is configured; 'x:' logged where no drop follows", "log directly before the drop",
    ),
    (
        "logged to a program", {"rules": {"rules": (replace(RULE, group=3),)}, "journal": {"prefixes": {}}},
        "no LOG rule in iptables and ip6tables and nft", "log directly before the drop",
    ),
    (
        "without a prefix", {"rules": {"rules": (replace(RULE, prefix=""),)}, "journal": {"prefixes": {"": 3}}},
        "no prefix is configured; logged without a prefix (nftables inet filter forward)",
        "log directly before the drop",
    ),
    (
        "nothing seen, nothing read",
        {"rules": RuleFacts((), (), {"nft, iptables": NOT_INSTALLED}), "journal": {"prefixes": {}}},
        "and the journal shows none", "install nftables or iptables",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "told", "remedy"), [c[1:] for c in NOT_PROPOSED], ids=[c[0] for c in NOT_PROPOSED])
def test_what_no_rule_drops_is_mentioned_and_not_proposed(changes: dict[str, Any], told: str, remedy: str) -> None:
    found = host_findings(facts(prefixes=(), **changes), now=NOW)
    (problem,) = [finding for finding in found if finding.level is Level.PROBLEM]
    assert told in problem.text
    assert problem.remedy.startswith(remedy)
    assert not any("prefix = [" in finding.remedy for finding in found)


def test_a_rule_whose_packets_fate_is_unknown_is_proposed_last() -> None:
    rules = (replace(RULE, prefix="a:", fate=Fate.UNKNOWN), RULE)
    found = only("prefixes", prefixes=(), rules={"rules": rules})
    assert proposed(found.remedy) == ["x:", "a:"]


SINGULAR: list[tuple[str, dict[str, Any], str]] = [
    ("one message missed", {"journal": {"missed": 1}}, "missed 1 kernel message in"),
    ("one time", {"journal": {"prefixes": {"x: ": 1}}}, "'x:' seen 1 time in the last hour"),
    ("never", {"journal": {"prefixes": {}}}, "'x:' not seen in the last hour"),
    ("never, of what was read", {"journal": {"prefixes": {}, "incomplete": True}}, "'x:' not seen in the last hour"),
    ("just now", {"journal": {"last_kernel_at": NOW - 0.2}}, "its last kernel message came just now"),
    ("a second", {"journal": {"last_kernel_at": NOW - 1}}, "its last kernel message came 1 second ago"),
    (
        "the clock was set back", {"journal": {"last_kernel_at": NOW + 300}},
        "its last kernel message is 5 minutes ahead of this host's clock",
    ),
    (
        "one more", {"rules": {"rules": (RULE, *(replace(RULE, prefix=f"p{n}") for n in range(6)))}},
        "and 1 more prefix that is not configured",
    ),
    (
        "two groups", {"rules": {"rules": (RULE, replace(RULE, group=1), replace(RULE, group=2))}},
        "2 rules log to NFLOG groups 1, 2",
    ),
    (
        "a line that is not counted", {"journal": {"uncounted": {"ARP, not an IP packet": 1}}},
        "1 line of the last hour with a configured prefix was not counted (1 ARP, not an IP packet)",
    ),
    (
        "lines that are not counted", {"journal": {"uncounted": {"ARP, not an IP packet": 1, "cut": 2}}},
        "3 lines of the last hour with a configured prefix were not counted (1 ARP, not an IP packet; 2 cut)",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "told"), [c[1:] for c in SINGULAR], ids=[c[0] for c in SINGULAR])
def test_it_reads_as_one_would_say_it(changes: dict[str, Any], told: str) -> None:
    assert [finding for finding in host_findings(facts(**changes), now=NOW) if told in finding.text]


@pytest.mark.parametrize("firewall", ["nftables", "iptables", "calico", "ufw", "firewalld"])
def test_the_command_that_shows_rules_works(firewall: str) -> None:
    """Without --for it would be an error."""
    found = host_findings(facts(rules={"rules": (replace(RULE, limited=False),)}), now=NOW)
    (remedy,) = [finding.remedy for finding in found if finding.topic == "limits"]
    command = remedy.split("`")[1].split()
    assert firewall in remedy
    assert run_kiptail(*command[1:-1], firewall).returncode == 0


def test_a_flood_of_prefixes_stays_on_one_screen() -> None:
    rules = tuple(replace(RULE, prefix=f"p{n}: ") for n in range(200))
    found = host_findings(facts(rules={"rules": (RULE, *rules)}), now=NOW)
    assert len(found) < 20
    assert any("and 195 more prefixes" in finding.text for finding in found)


def test_a_large_journal_says_at_least() -> None:
    found = host_findings(facts(journal={"incomplete": True}), now=NOW)
    assert any("seen at least 3 times" in finding.text for finding in found)


def test_a_directory_that_a_running_kiptail_uses_is_fine() -> None:
    found = host_findings(facts(state={"in_use": True}), now=NOW)
    assert any("in use by a running kiptail" in f.text and f.level is Level.OK for f in found)


def with_profile(name: str, *rules: LogRule, **changes: Any) -> list[Finding]:
    profile = load(name, "--profile", Path("/nonexistent"))
    journal = {"prefixes": changes.pop("seen", {})}
    read = RuleFacts(rules, READ, changes.pop("refusals", {}))
    found = host_findings(facts(prefixes=profile.prefixes, profiles=(profile,), rules=read, journal=journal), now=NOW)
    return [finding for finding in found if finding.topic == "prefixes"]


def test_a_profile_has_more_than_one_firewall_logs_with() -> None:
    reject = replace(RULE, prefix="filter_IN_public_REJECT: ", fate=Fate.REJECT)
    (found,) = with_profile("firewalld", reject, seen={"filter_IN_public_REJECT: ": 2})
    assert found.level is Level.OK
    assert found.text.startswith(
        "'filter_{direction}_{zone}_{verdict}:' seen 2 times in the last hour; a reject follows"
    )


def test_the_verdict_is_that_of_each_rule() -> None:
    drop = replace(RULE, prefix="Antrea:I:Drop:")
    allow = replace(RULE, prefix="Antrea:O:Allow:", fate=Fate.ACCEPT)
    (found,) = with_profile("antrea", allow, drop)
    assert (found.level, "a drop follows" in found.text) == (Level.OK, True)
    (found,) = with_profile("antrea", allow)
    assert (found.level, "counted, no Events (verdict accept)" in found.text) == (Level.OK, True)
    (found,) = with_profile("antrea", allow, replace(drop, fate=Fate.ACCEPT))
    assert (found.level, "is logged where no drop follows" in found.text) == (Level.PROBLEM, True)


def test_a_profile_of_which_nothing_is_logged() -> None:
    found = bad(with_profile("antrea", RULE))
    assert [(one.level, one.text) for one in found] == [
        (Level.PROBLEM, "no prefix of the profile antrea was seen in the last hour, and no rule logs one"),
        (
            Level.WARNING,
            "'x:' is not configured, and a drop follows (nftables inet filter forward); not seen in the last hour",
        ),
    ]
    found = bad(with_profile("ufw", refusals={"nft": "needs root"}, seen={"y: ": 1}))
    assert (found[-1].level, found[-1].text) == (
        Level.WARNING,
        "no prefix of the profile ufw was seen in the last hour, and not all rules could be read",
    )
    assert bad(with_profile("ufw", seen={"[UFW BLOCK] ": 1})) == []
