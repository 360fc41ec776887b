"""What a machine's rules justify as configuration."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kiptail.check.facts import NEEDS_ROOT, NOT_INSTALLED, Level, RuleFacts
from kiptail.check.findings.prefixes import prefix_findings
from kiptail.check.findings.proposal import Profiles, obstacle, propose
from kiptail.check.firewall.log_rules import Fate, LogRule
from kiptail.config.profile import load, merged, profile_files
from kiptail.netfilter.patterns import escaped
from kiptail.netfilter.prefixes import Prefixes, PrefixRule, Verdict
from tests.check.test_findings_host import facts

RULE = LogRule("nftables", "inet filter forward", "x: ", Fate.DROP)
ZONES: Profiles = {
    "zones": (PrefixRule("filter_{direction}_{zone}_{verdict}:"), PrefixRule("FINAL_REJECT:", Verdict.REJECT)),
}


def rule(prefix: str, fate: Fate, **changes: object) -> LogRule:
    return replace(RULE, prefix=prefix, fate=fate, **changes)  # type: ignore[arg-type]


FATES: list[tuple[str, list[Fate], Verdict | None, str]] = [
    ("a drop", [Fate.DROP], Verdict.DROP, ""),
    ("a reject", [Fate.REJECT, Fate.REJECT], Verdict.REJECT, ""),
    ("a drop or a reject", [Fate.DROP, Fate.REJECT], Verdict.DROP, ""),
    ("an accept", [Fate.ACCEPT], Verdict.ACCEPT, ""),
    ("some of each packet", [Fate.MIXED], None, "a drop may follow, which depends on rules that look at more"),
    ("nothing known", [Fate.UNKNOWN], None, "the rules do not say what follows"),
    ("a drop, and nothing known", [Fate.DROP, Fate.UNKNOWN], None, "the rules do not say what follows"),
    ("a drop in one place only", [Fate.DROP, Fate.ACCEPT], None, "a drop follows in some places"),
    ("in the journal alone", [], None, "no rule with it was found"),
]


@pytest.mark.parametrize(("fates", "verdict", "reason"), [c[1:] for c in FATES], ids=[c[0] for c in FATES])
def test_the_verdict_is_what_becomes_of_every_packet(fates: list[Fate], verdict: Verdict | None, reason: str) -> None:
    found = propose([rule("x: ", fate) for fate in fates], {"x: ": 3, " x:": 1}, {})
    (logged,) = (*found.prefixes, *found.passing, *found.others)
    assert (logged.prefix, logged.lines, logged.verdict) == ("x:", 4, verdict)
    assert logged.reason.startswith(reason)
    assert bool(logged.reason) is (verdict is None)
    lost = verdict in (Verdict.DROP, Verdict.REJECT)
    assert (bool(found.prefixes), bool(found.passing), bool(found.others)) == (
        lost,
        verdict is Verdict.ACCEPT,
        verdict is None,
    )
    assert found.is_empty is not lost


UNUSABLE = [
    ("", "nothing distinguishes lines without a prefix"),
    ("a\x1bb:", "control characters"),
    ("a\ufffdb:", "no UTF-8"),
    ("x" * 128, "longer than"),
]


@pytest.mark.parametrize(("prefix", "reason"), UNUSABLE)
def test_what_cannot_be_configured_has_the_reason_though_a_drop_follows(prefix: str, reason: str) -> None:
    found = propose([rule(prefix, Fate.DROP)], {}, ZONES)
    assert reason in found.others[0].reason
    assert found.is_empty


def test_a_rule_that_logs_to_a_program_is_none_of_the_kernel_logs() -> None:
    found = propose([rule("x: ", Fate.DROP, group=5)], {}, {})
    assert (found.prefixes, found.passing, found.others) == ((), (), ())


def test_one_limited_rule_makes_the_count_a_lower_bound() -> None:
    found = propose([rule("x:", Fate.DROP), rule("x:", Fate.DROP, limited=True), rule("y:", Fate.DROP)], {}, {})
    assert [(one.prefix, one.limited) for one in found.prefixes] == [("x:", True), ("y:", False)]


def test_a_text_that_is_another_one_cut_is_not_counted_as_that() -> None:
    """iptables cuts a prefix at 29 bytes."""
    cut = "x" * 29
    found = propose([rule(f"{cut}y: ", Fate.DROP), rule(cut, Fate.ACCEPT), rule("z:", Fate.DROP)], {}, {})
    assert [one.prefix for one in found.prefixes] == ["z:"]
    assert [one.prefix for one in found.passing] == [cut]
    (other,) = found.others
    assert (other.prefix, "would be taken for it" in other.reason) == (f"{cut}y:", True)


# -- profiles ---------------------------------------------------------------------------------------------------


def test_a_profile_that_says_what_the_rules_do_stands_for_its_prefixes() -> None:
    rules = [
        rule("filter_FWD_zone_REJECT: ", Fate.REJECT),
        rule("filter_IN_zone_DROP: ", Fate.DROP),
        rule("filter_OUT_zone_ACCEPT: ", Fate.ACCEPT),
        rule("mine: ", Fate.DROP),
    ]
    found = propose(rules, {"FINAL_REJECT: ": 2}, ZONES)
    (covered,) = found.profiles.values()
    assert {one.prefix for one in covered} == {
        "filter_FWD_zone_REJECT:", "filter_IN_zone_DROP:", "filter_OUT_zone_ACCEPT:", "FINAL_REJECT:",
    }  # fmt: skip
    assert [one.prefix for one in found.prefixes] == ["mine:"]
    assert not found.passing
    assert not found.others
    assert not found.unfit


UNFIT: list[tuple[str, LogRule, str]] = [
    ("it passes", rule("filter_IN_zone_DROP:", Fate.ACCEPT), "by the rules here it is accept"),
    ("it is dropped", rule("filter_IN_zone_ACCEPT:", Fate.DROP), "stands for accept there"),
    ("it is not certain", rule("filter_IN_zone_DROP:", Fate.UNKNOWN), "the rules do not say"),
    ("the text is not understood", rule("filter_IN_zone_x:", Fate.DROP), "is not known"),
]


@pytest.mark.parametrize(("other", "reason"), [c[1:] for c in UNFIT], ids=[c[0] for c in UNFIT])
def test_a_profile_that_a_rule_contradicts_is_not_proposed(other: LogRule, reason: str) -> None:
    found = propose([rule("FINAL_REJECT: ", Fate.REJECT), other], {}, ZONES)
    assert not found.profiles
    assert reason in found.unfit["zones"]
    assert "FINAL_REJECT:" in [one.prefix for one in found.prefixes]


def test_a_profile_that_says_limited_where_the_rules_are_not_is_another_firewalls() -> None:
    profiles = {"p": (PrefixRule("{chain} DROP", Verdict.DROP, limited=True),)}
    assert "limited rate" in propose([rule("fw DROP ", Fate.DROP)], {}, profiles).unfit["p"]
    assert list(propose([rule("fw DROP ", Fate.DROP, limited=True)], {}, profiles).profiles) == ["p"]


def test_a_profile_needs_a_rule_that_loses_packets() -> None:
    for rules in ([], [rule("FINAL_REJECT:", Fate.ACCEPT)]):
        found = propose(rules, {"FINAL_REJECT: ": 9}, ZONES)
        assert not found.profiles
        assert not found.unfit


def test_of_profiles_the_one_that_reads_the_most_comes_first_and_none_is_proposed_twice_over() -> None:
    profiles = {
        "few": (PrefixRule("a:"),),
        "many": (PrefixRule("a:"), PrefixRule("b:")),
        "clashing": (PrefixRule("c:"), PrefixRule("b:", Verdict.REJECT)),
        "other": (PrefixRule("d:"),),
    }
    found = propose([rule(f"{name}:", Fate.DROP) for name in "abcd"], {}, profiles)
    # "many" has another verdict for b: than the one that was chosen before.
    assert {name: [one.prefix for one in covered] for name, covered in found.profiles.items()} == {
        "clashing": ["b:", "c:"],
        "few": ["a:"],
        "other": ["d:"],
    }
    assert not found.prefixes


# -- what is in the way -----------------------------------------------------------------------------------------

OBSTACLES: list[tuple[str, RuleFacts, str]] = [
    ("nothing", RuleFacts((RULE,), ("nft",)), ""),
    ("not all could be read", RuleFacts((RULE,), ("nft",), {"iptables": "ended with 1"}), ""),
    ("not root", RuleFacts((), (), {"nft": NEEDS_ROOT}), "run `kiptail setup` as root"),
    ("not root, for a part", RuleFacts((RULE,), ("nft",), {"iptables": NEEDS_ROOT}), "run `kiptail setup` as root"),
    ("no tools", RuleFacts((), (), {"nft, iptables": NOT_INSTALLED}), "install nftables or iptables"),
    ("unreadable", RuleFacts((), (), {"nft": "took longer than 15 s"}), "could not be read (nft: took longer"),
    ("no rule logs", RuleFacts((), ("nft", "iptables")), "`kiptail rules --for nftables` (or"),
    ("NFLOG", RuleFacts((replace(RULE, group=1),), ("nft",)), ""),
    ("no rule, and not all read", RuleFacts((), ("nft",), {"iptables": "ended with 1"}), "not all rules could be read"),
]


@pytest.mark.parametrize(("facts", "said"), [c[1:] for c in OBSTACLES], ids=[c[0] for c in OBSTACLES])
def test_what_is_in_the_way_is_one_line_that_says_what_to_do(facts: RuleFacts, said: str) -> None:
    found = obstacle(facts)
    assert bool(found) is bool(said)
    assert said in found
    assert "\n" not in found


# -- what is proposed is what check finds well ------------------------------------------------------------------

SHIPPED = {name: load(name, "test") for name in profile_files(Path("/nonexistent"))}
KNOWN: Profiles = {name: profile.prefixes for name, profile in SHIPPED.items()}
SAMPLES = sorted(
    {sample.text for profile in SHIPPED.values() for sample in profile.samples if not sample.whole_line}
)  # fmt: skip
#: Texts that firewalls log, texts that have the kernel's limit, beginnings of each other, and braces.
TEXTS = st.one_of(
    st.sampled_from(SAMPLES),
    st.sampled_from(["x" * 29, "x" * 30, "x" * 31 + ":", "x" * 28 + ":", "{verdict}:", "a {{b} ", "calico-packet: "]),
    st.text(alphabet="ab:_- {}", max_size=30),
)
RULES = st.lists(
    st.builds(LogRule, st.just("nftables"), st.just("p"), TEXTS, st.sampled_from(Fate), st.none(), st.booleans()),
    max_size=6,
)


@given(RULES)
def test_with_what_is_proposed_every_loss_that_is_certain_counts_and_nothing_else_does(rules: list[LogRule]) -> None:
    found = propose(rules, {}, KNOWN)
    profiles = tuple(SHIPPED[name] for name in found.profiles)
    own = [PrefixRule(escaped(one.prefix), one.verdict or Verdict.LOG, limited=one.limited) for one in found.prefixes]
    prefixes = merged(own, profiles)
    configured = Prefixes(prefixes)
    fates: dict[str, set[Fate]] = {}
    for one in rules:
        fates.setdefault(one.prefix.strip(), set()).add(one.fate)
    others = {one.prefix for one in found.others}
    for text, own_fates in fates.items():
        said = configured.match(text)
        counts = said is not None and said.verdict.is_loss
        if own_fates <= {Fate.DROP, Fate.REJECT}:
            assert counts or text in others, text
        else:
            assert not counts, text
    host = facts(
        prefixes=prefixes, profiles=profiles, known_profiles=KNOWN, rules={"rules": tuple(rules)},
        journal={"prefixes": {}},
    )  # fmt: skip
    for finding in prefix_findings(host):
        if finding.level is not Level.OK and prefixes:
            assert "is not configured" in finding.text
