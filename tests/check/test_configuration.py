"""The configuration file that is proposed: TOML that means what was decided, whatever root wrote into a prefix."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kiptail.check.findings.configuration import MOST_TABLES, Sources, configuration_text
from kiptail.check.findings.proposal import propose
from kiptail.check.firewall.log_rules import Fate, LogRule
from kiptail.config.settings import resolve
from kiptail.netfilter.prefixes import Prefixes, PrefixRule, Verdict

SOURCES = Sources(("iptables", "nft"), {}, "this machine's journal")


def rule(prefix: str, fate: Fate, *, limited: bool = False) -> LogRule:
    return LogRule("nftables", "inet filter forward", prefix, fate, limited=limited)


def text_of(rules: list[LogRule], counts: dict[str, int] | None = None, sources: Sources = SOURCES) -> str:
    return configuration_text(propose(rules, counts or {}, {}), sources)


def settings_of(text: str, directory: Path) -> tuple[PrefixRule, ...]:
    file = directory / "kiptail.toml"
    file.write_text(text)
    return resolve({"config": str(file)}, {}, now_us=10**15, need_prefix=False).prefixes


def flat(text: str) -> str:
    """Without the ends of lines within comments."""
    return " ".join(text.replace("\n#", " ").split())


def test_each_decision_has_a_comment(tmp_path: Path) -> None:
    text = text_of(
        [
            rule("lost: ", Fate.DROP),
            rule("refused: ", Fate.REJECT, limited=True),
            rule("passed: ", Fate.ACCEPT),
            rule("unsure: ", Fate.UNKNOWN),
            rule("{braces}: ", Fate.DROP),
            rule("", Fate.DROP),
        ],
        {"lost: ": 4, "gone: ": 1},
    )
    assert settings_of(text, tmp_path) == (
        PrefixRule("lost:"),
        PrefixRule("refused:", Verdict.REJECT, limited=True),
        PrefixRule("{{braces}}:"),
    )
    for said in (
        "'lost:' (nftables inet filter forward), seen 4 times in the last day: a drop follows",
        "a reject follows; its rule logs at a limited rate, so there are more packets than lines",
        "'passed:' (nftables inet filter forward), not seen in the last day: what is logged passes, so there are no",
        "'unsure:' (nftables inet filter forward), not seen in the last day: the rules do not say what follows",
        "'gone:', seen 1 time in the last day: no rule with it was found",
        "no prefix (nftables inet filter forward), not seen in the last day: nothing distinguishes",
    ):
        assert said in flat(text)
    assert max(map(len, text.splitlines())) <= 118


def test_lines_that_pass_can_be_counted_by_removing_the_signs(tmp_path: Path) -> None:
    text = text_of([rule("passed: ", Fate.ACCEPT)])
    assert settings_of(text, tmp_path) == ()
    assert settings_of(
        text.replace("\n#[", "\n[").replace("\n#text", "\ntext").replace("\n#verd", "\nverd"), tmp_path
    ) == (PrefixRule("passed:", Verdict.ACCEPT),)


def test_profiles_are_one_line_before_the_tables() -> None:
    profiles = {"p": (PrefixRule("{chain}_DROP:"),), "q": (PrefixRule("{chain}_GONE:"), PrefixRule("x"))}
    rules = [
        rule("IN_DROP: ", Fate.DROP),
        rule("mine: ", Fate.DROP),
        rule("IN_GONE:", Fate.ACCEPT),
        rule("x", Fate.DROP),
    ]
    document = tomllib.loads(configuration_text(propose(rules, {}, profiles), SOURCES))
    assert document == {
        "profile": ["p"],
        "prefixes": [{"text": "mine:", "verdict": "drop"}, {"text": "x", "verdict": "drop"}],
    }


def test_what_a_profile_takes_for_no_loss_needs_no_advice() -> None:
    profiles = {"ufw": (PrefixRule("[UFW BLOCK]"), PrefixRule("[UFW ALLOW]", Verdict.LOG))}
    rules = [rule("[UFW BLOCK] ", Fate.DROP), rule("[UFW ALLOW] ", Fate.UNKNOWN)]
    text = configuration_text(propose(rules, {}, profiles), SOURCES)
    assert "the rules do not say what follows; by the profile it makes no Events" in flat(text)
    assert "log directly before" not in text


def test_more_than_the_settings_take_is_said_and_left_out(tmp_path: Path) -> None:
    rules = [rule(f"p{n}: ", fate) for fate in Fate for n in range(200)]
    for fate in Fate:
        text = text_of([rule(f"{fate} {n}: ", fate) for n in range(200)], {f"{fate} {n}: ": n for n in range(200)})
        found = settings_of(text, tmp_path)
        assert len(found) <= MOST_TABLES
        if found:
            # Those that were seen most.
            assert found[0].text == f"{fate} 199:"
            assert f"{200 - MOST_TABLES} prefixes more" in text
        assert len(text) < 40_000
    assert "and 160 more" in text_of(rules)


def test_what_was_not_read_is_said() -> None:
    sources = Sources(("nft",), {"iptables": "table ip x\nis \x1bincompatible"}, "the journal", incomplete=True)
    text = text_of([rule("a:", Fate.DROP)], {"a:": 5}, sources)
    assert "Not all rules could be read (iptables: table ip x is incompatible)" in text
    assert "seen at least 5 times" in text


#: Quotation marks, line ends, what begins a table or an escape, and all else that Unicode has.
HOSTILE = st.one_of(
    st.text(max_size=140),
    st.text(alphabet="\"'\\#[]={}\n\r\t \x00\x1b\x7f\x85\u2028\u202e\ufffdaé💥", max_size=60),
    st.sampled_from(
        [
            'x"\n[[prefixes]]\ntext = "evil"',
            '\\u0000"',
            "a\nprefix = ['evil']",
            "{verdict}",
            "{{}",
            "'''",
            '"""',
            "\ud800",
            "Checksum of this file as kiptail wrote it, without this line: " + "0" * 32,
        ]
    ),
)
RULES = st.lists(
    st.builds(LogRule, st.just("nftables"), HOSTILE, HOSTILE, st.sampled_from(Fate), st.none(), st.booleans()),
    max_size=8,
)


@given(RULES, st.dictionaries(HOSTILE, st.integers(1, 10**6), max_size=4), HOSTILE)
def test_whatever_stands_in_a_prefix_the_text_is_toml_and_means_what_is_proposed(
    rules: list[LogRule], counts: dict[str, int], odd: str
) -> None:
    proposal = propose(rules, counts, {})
    sources = Sources(("nft",), {"iptables": odd}, odd)
    text = configuration_text(proposal, sources)
    document: dict[str, Any] = tomllib.loads(text)
    assert set(document) <= {"prefixes"}
    # What is read from it is what was decided, and nothing else.
    rules_read = [
        PrefixRule(table["text"], Verdict(table["verdict"]), limited=table.get("limited", False))
        for table in document.get("prefixes", [])
    ]
    prefixes = Prefixes(rules_read)
    assert len(rules_read) == len(proposal.prefixes)
    for logged in proposal.prefixes:
        said = prefixes.match(logged.prefix)
        assert said is not None
        assert (said.verdict, said.limited) == (logged.verdict, logged.limited)
        assert logged.verdict in (Verdict.DROP, Verdict.REJECT)
    for line in text.splitlines():
        assert line.isprintable()


@pytest.mark.parametrize("kind", ["rules", "journal"])
@given(HOSTILE)
def test_it_resolves_as_settings(tmp_path_factory: pytest.TempPathFactory, kind: str, prefix: str) -> None:
    rules = [rule(prefix, Fate.DROP), rule("ok:", Fate.DROP)] if kind == "rules" else [rule("ok:", Fate.DROP)]
    text = text_of(rules, {prefix: 1})
    found = settings_of(text, tmp_path_factory.getbasetemp())
    assert PrefixRule("ok:") in found
