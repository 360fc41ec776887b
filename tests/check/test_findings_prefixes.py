"""What is said of patterns and profiles beside a machine's rules: each rule by what its own text says."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kiptail.check.facts import Finding, HostFacts, Level
from kiptail.check.findings.host import host_findings
from kiptail.check.firewall.log_rules import Fate, LogRule
from kiptail.config.profile import Profile, load, profile_files
from kiptail.netfilter.prefixes import PrefixRule, Verdict
from tests.check.test_findings_host import NOW, RULE, bad, facts

ZONES = PrefixRule("filter_{direction}_{zone}_{verdict}:")
PROFILE = Profile("zones", "Zones", "here", (ZONES, PrefixRule("FINAL_REJECT:", Verdict.REJECT)), (), None)
KNOWN = {"zones": PROFILE.prefixes}


def rule(prefix: str, fate: Fate) -> LogRule:
    return replace(RULE, prefix=prefix, fate=fate)


def found(prefixes: tuple[PrefixRule, ...], *rules: LogRule, **changes: object) -> list[Finding]:
    """Of the topic ``prefixes``."""
    changes = {"prefixes": prefixes, "rules": {"rules": rules}, "journal": {"prefixes": {}}, **changes}
    return [finding for finding in host_findings(facts(**changes), now=NOW) if finding.topic == "prefixes"]


def with_profile(*rules: LogRule, **changes: object) -> list[Finding]:
    return found(PROFILE.prefixes, *rules, profiles=(PROFILE,), known_profiles=KNOWN, **changes)


WELL: list[tuple[str, list[LogRule], str]] = [
    ("what loses is lost", [rule("filter_IN_a_DROP: ", Fate.DROP)], "a drop follows (nftables inet filter forward)"),
    ("all are rejected", [rule("filter_IN_a_REJECT: ", Fate.REJECT)], "a reject follows"),
    (
        "one passes, as it says",
        [rule("filter_IN_a_DROP: ", Fate.DROP), rule("filter_IN_a_ACCEPT: ", Fate.ACCEPT)], "a drop follows",
    ),
    (
        "all pass, as they say",
        [rule("filter_IN_a_ACCEPT: ", Fate.ACCEPT)], "counted, no Events (verdict accept); nftables inet filter",
    ),
    (
        "they only log",
        [rule("filter_IN_a_LOG: ", Fate.UNKNOWN), rule("filter_IN_b_allow: ", Fate.ACCEPT)],
        "counted, no Events (verdict log and accept)",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("rules", "said"), [c[1:] for c in WELL], ids=[c[0] for c in WELL])
def test_each_rule_is_compared_with_what_its_own_text_says(rules: list[LogRule], said: str) -> None:
    (finding,) = found((ZONES,), *rules)
    assert finding.level is Level.OK
    assert finding.text.startswith("'filter_{direction}_{zone}_{verdict}:' not seen in the last hour; ")
    assert said in finding.text


ILL: list[tuple[str, list[LogRule], Level, str, str]] = [
    (
        "one that says drop passes",
        [rule("filter_IN_a_DROP: ", Fate.DROP), rule("filter_IN_b_DROP: ", Fate.ACCEPT)], Level.PROBLEM,
        "'filter_{direction}_{zone}_{verdict}:', which reads 'filter_IN_b_DROP:', is logged where no drop follows",
        "configure 'filter_IN_b_DROP:' as a prefix of its own, with the verdict \"log\"",
    ),
    (
        "one that says accept is dropped",
        [rule("filter_IN_a_DROP: ", Fate.DROP), rule("filter_IN_b_ACCEPT: ", Fate.DROP)], Level.WARNING,
        "which reads 'filter_IN_b_ACCEPT:', stands for packets that pass, but a drop follows", 'the verdict "drop"',
    ),
    (
        "one may be dropped", [rule("filter_IN_a_DROP: ", Fate.MIXED)], Level.WARNING,
        "whether a drop follows depends on further rules", "directly before the drop",
    ),
    (
        "one word is not known", [rule("filter_IN_a_MAYBE: ", Fate.DROP)], Level.WARNING,
        "which reads 'filter_IN_a_MAYBE:', (nftables inet filter forward) is not counted: the verdict or direction",
        "verdicts = {",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("rules", "level", "said", "remedy"), [c[1:] for c in ILL], ids=[c[0] for c in ILL])
def test_the_text_that_is_wrong_is_named_with_its_pattern(
    rules: list[LogRule], level: Level, said: str, remedy: str
) -> None:
    (finding,) = found((ZONES,), *rules)
    assert finding.level is level
    assert said in finding.text
    assert remedy in finding.remedy


def test_a_prefix_of_accept_makes_no_event_and_is_well() -> None:
    (finding,) = found((PrefixRule("x:", Verdict.ACCEPT),), rule("x: ", Fate.ACCEPT))
    assert (finding.level, "verdict accept" in finding.text) == (Level.OK, True)
    (finding,) = found((PrefixRule("x:", Verdict.ACCEPT),), rule("x: ", Fate.REJECT))
    assert (finding.level, finding.remedy) == (Level.WARNING, 'give the prefix the verdict "drop" in kiptail.toml')


def test_a_pattern_that_nothing_logs_is_a_problem_that_names_it() -> None:
    finding, other = found((ZONES,), rule("y: ", Fate.DROP))
    assert finding.text == (
        "no LOG rule has the prefix 'filter_{direction}_{zone}_{verdict}:'; logged here: 'y:'"
    )  # fmt: skip
    assert finding.level is Level.PROBLEM
    assert other.level is Level.WARNING


# -- profiles ---------------------------------------------------------------------------------------------------


def test_what_a_profile_has_and_no_rule_logs_is_not_mentioned() -> None:
    (finding,) = with_profile(rule("filter_IN_a_DROP: ", Fate.DROP))
    assert finding.text.startswith("'filter_{direction}_{zone}_{verdict}:'")


def test_a_profile_of_which_nothing_is_logged_is_one_warning_beside_what_is() -> None:
    well, warning = found(
        (PrefixRule("y:"), *PROFILE.prefixes), rule("y: ", Fate.DROP), profiles=(PROFILE,), known_profiles=KNOWN
    )
    assert well.level is Level.OK
    assert warning.level is Level.WARNING
    assert warning.text == "no prefix of the profile zones was seen in the last hour, and no rule logs one"
    assert "kiptail profiles zones" in warning.remedy


def test_a_profile_that_was_seen_is_in_use_without_a_rule() -> None:
    (finding,) = with_profile(journal={"prefixes": {"FINAL_REJECT: ": 3}})
    assert finding == Finding(
        "prefixes", Level.OK, "'FINAL_REJECT:' seen 3 times in the last hour; no rule with it was found"
    )


def test_an_own_prefix_that_nothing_logs_is_a_problem_beside_a_profile() -> None:
    texts = [
        finding.text
        for finding in found(
            (PrefixRule("mine:"), *PROFILE.prefixes), rule("FINAL_REJECT: ", Fate.REJECT), profiles=(PROFILE,)
        )
        if finding.level is Level.PROBLEM
    ]
    assert texts == ["no LOG rule has the prefix 'mine:'"]


def test_a_profile_that_fits_is_proposed_in_the_place_of_its_prefixes() -> None:
    rules = (rule("FINAL_REJECT: ", Fate.REJECT), rule("a{b}: ", Fate.DROP))
    (finding,) = found((), *rules, known_profiles=KNOWN)
    assert finding.remedy.endswith(' drops: profile = ["zones"] and prefix = ["a{{b}}:"]')
    (finding,) = found((), rules[0], known_profiles=KNOWN)
    assert finding.remedy.endswith(' drops: profile = ["zones"]')
    # Not where a rule contradicts it.
    (finding,) = found((), rules[0], rule("filter_IN_a_DROP:", Fate.ACCEPT), known_profiles=KNOWN)
    assert finding.remedy.endswith(' drops: prefix = ["FINAL_REJECT:"]')


def test_a_profile_that_fits_is_proposed_beside_what_is_configured() -> None:
    texts = [
        finding.remedy
        for finding in bad(
            found(
                (PrefixRule("x:"),),
                rule("x:", Fate.DROP),
                rule("filter_IN_a_DROP:", Fate.DROP),
                rule("{y}:", Fate.DROP),
                known_profiles=KNOWN,
            )
        )
    ]
    assert texts == [
        'if its drops are to be reported, add profile = ["zones"]',
        "if its drops are to be reported, add --prefix '{{y}}:'",
    ]


@pytest.mark.parametrize("name", profile_files())
def test_each_shipped_profile_is_well_where_its_rules_do_what_its_samples_say(name: str) -> None:
    profile = load(name, "test")
    fates = {"drop": Fate.DROP, "reject": Fate.REJECT, "accept": Fate.ACCEPT, "log": Fate.UNKNOWN}
    rules = tuple(
        rule(sample.text, fates[str(sample.reading["verdict"])]) for sample in profile.samples if not sample.whole_line
    )
    host: HostFacts = facts(
        prefixes=profile.prefixes, profiles=(profile,), rules={"rules": rules}, journal={"prefixes": {}}
    )
    if profile.prefixes:
        assert [f for f in bad(host_findings(host, now=NOW)) if f.topic == "prefixes"] == []
