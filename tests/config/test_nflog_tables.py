"""NFLOG groups and units of ulogd2 in the settings: what is read of them, and what is refused, in one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from kiptail.config.nflog_tables import source_of_group, source_of_unit, unread_groups
from kiptail.config.profile import load
from kiptail.config.settings import resolve
from kiptail.errors import SettingsError
from kiptail.netfilter.nflog import STACKS, NflogSource, unit_of_group
from kiptail.netfilter.prefixes import PrefixRule, Verdict

Sources = Callable[..., tuple[NflogSource, ...]]
GROUP = NflogSource("kiptail-ulogd@100.service", "NFLOG group 100", group=100)


@pytest.fixture
def sources(tmp_path: Path) -> Sources:
    """What a configuration file, flags and a prefix make."""

    def resolved(toml: str = "", *flags: tuple[str, object], prefix: str = "p:") -> tuple[NflogSource, ...]:
        file = tmp_path / "kiptail.toml"
        file.write_text(toml)
        given = {"prefix": [prefix] if prefix else (), **dict(flags)}
        return resolve(given, {}, now_us=0, default_config=file).nflog

    return resolved


def test_groups_and_units_are_read_once_each_in_their_order(sources: Sources) -> None:
    flags = ("nflog_group", ["100", "7", "100"]), ("ulogd_unit", ["ulogd2.service", "my-ulogd@x.service"])
    assert [source.unit for source in sources("", *flags)] == [
        "kiptail-ulogd@100.service",
        "kiptail-ulogd@7.service",
        "ulogd2.service",
        "my-ulogd@x.service",
    ]
    assert sources("nflog-group = [100]") == (GROUP,)
    assert sources() == ()


def test_a_table_says_what_no_prefix_stands_for(sources: Sources) -> None:
    table = '[[nflog]]\ngroup = 100\nverdict = "reject"\nlimited = true\n'
    expected = GROUP._replace(verdict=Verdict.REJECT, limited=True)
    assert sources(table) == (expected,), "it needs not be named beside that"
    assert sources(table, prefix="") == (expected,), "and no prefix is needed"
    assert sources(table, ("nflog_group", ["100"])) == (expected,)
    (source,) = sources('[[nflog]]\nunit = "ulogd2.service"\nverdict = "log"\n')
    assert (source.unit, source.verdict) == ("ulogd2.service", Verdict.LOG)


@pytest.mark.parametrize("profile", STACKS)
def test_a_table_names_what_uses_the_group(sources: Sources, profile: str) -> None:
    (source,) = sources(f'[[nflog]]\ngroup = 100\nprofile = "{profile}"\n')
    assert source.verdict is STACKS[profile].verdict
    assert source.rules == STACKS[profile].rules
    said = source.prefixes([PrefixRule("p:")]).match("")
    assert said is not None
    assert (said.prefix, said.verdict, said.limited) == ("NFLOG group 100", source.verdict, profile != "weave")


def test_a_policy_of_k3s_that_did_not_allow_a_packet_is_no_verdict(sources: Sources) -> None:
    (source,) = sources('[[nflog]]\ngroup = 100\nprofile = "k3s"\n')
    said = source.prefixes([]).match("DROP by policy team-a/deny")
    assert said is not None
    assert (said.policy, said.verdict) == ("team-a/deny", Verdict.LOG)


@pytest.mark.parametrize(
    ("table", "why"),
    [
        ("nflog = 1", "is no list of tables"),
        ("[[nflog]]", "write either group = 100 or unit"),
        ('[[nflog]]\ngroup = 1\nunit = "a.service"', "write either group = 100 or unit"),
        ('[[nflog]]\ngroup = 100\nverdict = "reject"\ncolour = 1', "unknown key 'colour'"),
        ("[[nflog]]\ngroup = 100", 'write either profile = "kube-router" or verdict = "reject"'),
        ('[[nflog]]\ngroup = 1\nverdict = "drop"\nprofile = "k3s"', 'write either profile = "kube-router" or verdict'),
        ('[[nflog]]\ngroup = 100\nverdict = "perhaps"', "verdict is none of drop, reject"),
        ('[[nflog]]\ngroup = 100\nprofile = "calico"', "profile is none of kube-router, k3s, weave"),
        ("[[nflog]]\ngroup = 100\nprofile = []", "profile is none of"),
        ('[[nflog]]\ngroup = "100"\nverdict = "drop"', "group is no number"),
        ('[[nflog]]\ngroup = true\nverdict = "drop"', "group is no number"),
        ('[[nflog]]\ngroup = 65536\nverdict = "drop"', "is not from 0 to 65535"),
        ('[[nflog]]\ngroup = -1\nverdict = "drop"', "is no whole number"),
        ('[[nflog]]\nunit = 1\nverdict = "drop"', "unit is no text"),
        ('[[nflog]]\nunit = "user@1000.service"\nverdict = "drop"', "is no name of a service"),
        ('[[nflog]]\nunit = "a.service\\u001b"\nverdict = "drop"', "is no name of a service"),
        ('[[nflog]]\ngroup = 1\nverdict = "drop"\nlimited = 1', "limited is neither true nor false"),
        ('[[nflog]]\ngroup = 1\nverdict = "drop"\n[[nflog]]\ngroup = 1\nverdict = "drop"', "has a table already"),
        ('nflog-group = ["100"]', "is no list of whole numbers: write [100]"),
        ("nflog-group = 100", "is no list of whole numbers: write [100]"),
        ("nflog-group = [true]", "is no list of whole numbers: write [100]"),
        ("nflog-group = [70000]", "is not from 0 to 65535"),
        ('ulogd-unit = ["ulogd2"]', "is no name of a service"),
    ],
)
def test_what_is_refused(sources: Sources, table: str, why: str) -> None:
    with pytest.raises(SettingsError) as caught:
        sources(table)
    text = str(caught.value)
    assert text.isprintable(), "an error is one line"
    assert "kiptail.toml: key nflog" in text or "kiptail.toml: key ulogd-unit" in text
    assert why in text


def test_a_group_of_which_no_line_could_count(sources: Sources) -> None:
    for flag in (("nflog_group", ["100"]), ("ulogd_unit", ["ulogd2.service"])):
        with pytest.raises(SettingsError, match="no log prefix is configured"):
            sources("", flag, prefix="")
    with pytest.raises(SettingsError, match=r"--nflog-group: nothing says which lines of NFLOG group 7 stand for"):
        sources('[[nflog]]\ngroup = 100\nverdict = "drop"', ("nflog_group", ["7"]), prefix="")


def test_a_prefix_with_two_verdicts_is_refused_with_the_table(sources: Sources) -> None:
    with pytest.raises(SettingsError, match=r"key nflog, table 1: the log prefix .* has two verdicts"):
        sources('[[nflog]]\ngroup = 100\nprofile = "k3s"', prefix="DROP by policy {policy}")


def test_the_units_of_groups() -> None:
    assert unit_of_group(100) == "kiptail-ulogd@100.service"


@pytest.mark.parametrize("profile", ["k3s", "kube-router"])
def test_a_profile_reads_its_group_where_that_is_named_too_and_not_by_itself(sources: Sources, profile: str) -> None:
    table = sources(f'[[nflog]]\ngroup = 100\nprofile = "{profile}"\n', prefix="")
    flags = ("profile", [profile]), ("nflog_group", ["100"])
    assert sources("", *flags, prefix="") == table, "as a table says it"
    assert sources("", *flags) == table
    assert sources("", ("profile", [profile])) == (), "who has chosen it without a group reads what he did"
    assert sources("", ("profile", [profile]), ("nflog_group", ["7"])) == (source_of_group(7),), "another group"
    other = '[[nflog]]\ngroup = 100\nverdict = "log"\n'
    assert [source.verdict for source in sources(other, *flags)] == [Verdict.LOG], "a table counts more"


def test_two_profiles_of_one_group_are_refused(sources: Sources, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="profiles k3s and kube-router both say what NFLOG group 100 is"):
        sources("", ("profile", ["k3s", "kube-router"]), ("nflog_group", ["100"]))
    assert sources("", ("profile", ["k3s", "kube-router"])) == ()
    profiles = [load(name, "test", tmp_path) for name in ("k3s", "kube-router")]
    assert unread_groups(profiles, []) == {"k3s": 100, "kube-router": 100}, "without the group both may be chosen"


def test_which_groups_of_profiles_are_not_read(tmp_path: Path) -> None:
    k3s = load("k3s", "test", tmp_path)
    assert unread_groups([k3s], []) == unread_groups([k3s], [source_of_group(7)]) == {"k3s": 100}
    assert unread_groups([k3s], [GROUP]) == {}
    assert unread_groups([k3s], [source_of_unit("ulogd2.service")]) == {}, "it may be that one's"
    (tmp_path / "k3s.toml").write_text('description = "mine"\napplies_to = "mine"\n')
    assert unread_groups([load("k3s", "test", tmp_path), load("ufw", "test", tmp_path)], []) == {}
