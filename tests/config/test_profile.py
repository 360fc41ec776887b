"""Profiles: those that kiptail ships read what their firewalls log; the operator's own; how they are merged."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from kiptail.config.profile import Profile, load, merged, profile_files
from kiptail.config.settings import resolve
from kiptail.errors import SettingsError
from kiptail.netfilter.prefixes import Prefixes, PrefixRule, Verdict

SHIPPED = (
    "antrea",
    "calico",
    "calico-enterprise",
    "firewalld",
    "k3s",
    "kube-router",
    "openwrt",
    "shorewall",
    "ufw",
    "vyos",
)
NOWHERE = Path("/nonexistent")
HEAD = 'description = "Ours"\napplies_to = "all of it"\n'


def ours(directory: Path, text: str, name: str = "ours") -> Path:
    file = directory / f"{name}.toml"
    file.write_text(text)
    return file


def prefixes_of(*names: str) -> tuple[PrefixRule, ...]:
    return merged((), [load(name, "--profile", NOWHERE) for name in names])


def test_all_are_shipped() -> None:
    assert tuple(profile_files(NOWHERE)) == SHIPPED


# What each firewall logs before IN=, from their sources; and what it says: verdict, then other fields.
LOGGED = [
    ("calico", "calico-packet: ", "log"),
    ("calico", "cd knp team-a/deny: ", "log policy=team-a/deny kind=knp"),
    ("calico", "cd np team-a/default.deny: ", "log policy=team-a/default.deny kind=np"),
    ("calico", "cd gnp deny-all: ", "log policy=deny-all kind=gnp"),
    ("calico", "calico-packet knp:team-a/allow: ", "log policy=team-a/allow kind=knp"),
    ("calico", "calico-packet knp:team-a/allow", "log policy=team-a/allow… kind=knp"),
    ("calico", "calico-packet gnp:deny-all: ", "log policy=deny-all kind=gnp"),
    ("calico-enterprise", "calico-drop: ", "drop"),
    ("antrea", "Antrea:I:Allow:", "accept direction=in"),
    ("antrea", "Antrea:O:Drop:", "drop direction=out"),
    ("antrea", "Antrea:I:Reject:web-only:", "reject direction=in label=web-only"),
    ("firewalld", "STATE_INVALID_DROP: ", "drop"),
    ("firewalld", "FINAL_REJECT: ", "reject"),
    ("firewalld", '"FINAL_REJECT: "', "reject"),
    ("firewalld", "rpfilter_DROP: ", "drop"),
    ("firewalld", "RFC3964_IPv4_REJECT: ", "reject"),
    ("firewalld", "filter_IN_public_REJECT: ", "reject direction=in zone=public"),
    ("firewalld", '"filter_IN_public_REJECT: "', "reject direction=in zone=public"),
    ("firewalld", "filter_FWD_my_zone_DROP: ", "drop zone=my_zone"),
    ("firewalld", "filter_IN_policy_allow-ssh_REJECT: ", "reject policy=allow-ssh direction=in"),
    ("firewalld", "filter_FWD_policy_a_b_DROP: ", "drop policy=a_b"),
    ("firewalld", "filter_OUT_policy_no-mail_DROP: ", "drop policy=no-mail direction=out"),
    ("firewalld", "filter_IN_public_ICMP_BLOCK: ", "reject chain=IN_public"),
    ("firewalld", "IN_public_REJECT: ", "reject zone=public"),
    ("firewalld", "FWD_docker_DROP: ", "drop zone=docker"),
    ("firewalld", "FWD_public_ICMP_BLOCK: ", "reject chain=FWD_public"),
    ("ufw", "[UFW BLOCK] ", "drop limited=True"),
    ("ufw", "[UFW LIMIT BLOCK] ", "reject limited=True"),
    ("ufw", "[UFW LIMIT] ", "log limited=True"),
    ("ufw", "[UFW ALLOW] ", "log limited=True"),
    ("ufw", "[UFW AUDIT] ", "log limited=True"),
    ("ufw", "[UFW AUDIT INVALID] ", "log limited=True"),
    ("shorewall", "net-fw DROP ", "drop limited=True chain=net-fw"),
    ("shorewall", "net-fw REJECT ", "reject limited=True chain=net-fw"),
    ("shorewall", "net-fw ACCEPT ", "accept limited=True chain=net-fw"),
    ("shorewall", "net-fw CONTINUE ", "log limited=True chain=net-fw"),
    ("shorewall", "Shorewall:net-fw:DROP:", "drop limited=True chain=net-fw"),
    ("shorewall", "Shorewall:net2fw:REJECT:", "reject limited=True chain=net2fw"),
    ("shorewall", "Shorewall:net-fw:ACCEPT:", "accept limited=True chain=net-fw"),
    ("shorewall", "Shorewall:net-fw:CONTINUE:", "log limited=True chain=net-fw"),
    ("vyos", "[ipv4-FWD-filter-10-A]", "accept rule=10 chain=FWD"),
    ("vyos", "[ipv4-FWD-filter-10-D]", "drop rule=10 chain=FWD"),
    ("vyos", "[ipv6-INP-filter-10-R]", "reject rule=10 chain=INP"),
    ("vyos", "[ipv4-FWD-filter-10-J]", "log rule=10 chain=FWD"),
    ("vyos", "[ipv4-FWD-filter-10-C]", "log rule=10 chain=FWD"),
    ("vyos", "[ipv4-FWD-filter-10-O]", "log rule=10 chain=FWD"),
    ("vyos", "[ipv4-FWD-filter-default-D]", "drop rule=default chain=FWD"),
    ("vyos", "[ipv4-NAM-to-web-10-D]", "drop rule=to-web-10"),
    ("vyos", "[ipv4-NAME-default-D]", "drop chain=NAME"),
    ("vyos", "[STATE-POLICY-INV-D]", "drop rule=INV"),
    ("openwrt", "drop wan in: ", "drop direction=in zone=wan"),
    ("openwrt", "reject lan out: ", "reject direction=out zone=lan"),
    ("openwrt", "drop wan invalid ct state: ", "drop zone=wan"),
    ("k3s", "DROP by policy team-a/deny ", "log limited=True policy=team-a/deny"),
    ("k3s", f"DROP by policy team-a/{'x' * 26}", f"log limited=True policy=team-a/{'x' * 26}…"),
]


@pytest.mark.parametrize(("profile", "text", "reading"), LOGGED, ids=[f"{row[0]} {row[1]}" for row in LOGGED])
def test_what_firewalls_log(profile: str, text: str, reading: str) -> None:
    found = Prefixes(prefixes_of(profile)).match(text)
    assert found is not None
    fields = {key: value for key, value in found._asdict().items() if value and key not in ("prefix", "verdict")}
    assert " ".join([found.verdict, *(f"{key}={value}" for key, value in fields.items())]) == reading


@pytest.mark.parametrize(
    ("profile", "text"),
    [
        ("antrea", "Antrea:"),
        ("firewalld", "my_log_prefix: "),
        ("firewalld", "filter_IN_public: "),
        ("k3s", "DROP by policy"),
        ("openwrt", "drop wan: "),
        ("shorewall", "DROP "),
        ("ufw", "[UFW BLOCKED] "),
        ("vyos", "[FW DROP] "),
    ],
)
def test_what_others_log_is_not_theirs(profile: str, text: str) -> None:
    assert Prefixes(prefixes_of(profile)).match(text) is None


def test_all_of_them_together_read_each_text_as_one_alone() -> None:
    together = Prefixes(prefixes_of(*SHIPPED))
    for profile, text, _ in LOGGED:
        assert together.match(text) == Prefixes(prefixes_of(profile)).match(text)


def test_what_was_logged_and_decided_nothing_is_no_loss() -> None:
    """Where a firewall only logs by default, a profile blames nobody for a drop."""
    for name in ("calico", "k3s"):
        assert not any(rule.verdict.is_loss for rule in prefixes_of(name))


class TestOwn:
    def test_one_of_the_operators(self, tmp_path: Path) -> None:
        file = ours(
            tmp_path,
            'description = """\nOurs\nMore of it.\n"""\napplies_to = "all"\n[[prefixes]]\ntext = "x {zone}:"\n'
            'verdict = "reject"\nlimited = true\n'
            '[[samples]]\ntext = "x a: "\nreading = { zone = "a", limited = true }\n',
        )
        profile = load("ours", "--profile", tmp_path)
        assert (profile.description, profile.applies_to) == ("Ours\nMore of it.", "all")
        assert profile.prefixes == (PrefixRule("x {zone}:", Verdict.REJECT, limited=True),)
        assert [(one.text, one.whole_line, one.reading) for one in profile.samples] == [
            ("x a: ", False, {"zone": "a", "limited": True})
        ]
        assert profile.file == file
        assert list(profile_files(tmp_path)) == sorted((*SHIPPED, "ours"))

    def test_it_replaces_a_shipped_one(self, tmp_path: Path) -> None:
        assert load("ufw", "--profile", tmp_path).file is None
        file = ours(tmp_path, HEAD, "ufw")
        profile = load("ufw", "--profile", tmp_path)
        assert (profile.file, profile.prefixes) == (file, ())

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            pytest.param("", ": has no text description", id="empty"),
            pytest.param('description = " "', ": has no text description", id="blank"),
            pytest.param('description = "x"', ": has no text applies_to", id="no versions"),
            pytest.param('description = ["x"]', ": has no text description", id="no text"),
            pytest.param(HEAD + "x = ", ": is not TOML: ", id="no TOML"),
            pytest.param(HEAD + "sample = 1", ": unknown key 'sample': did you mean samples?", id="unknown key"),
            pytest.param(HEAD + "prefixes = 1", ": key prefixes: is no list of tables: write [[prefixes]]", id="list"),
            pytest.param(HEAD + "[[prefixes]]", ": key prefixes, table 1: has no text", id="no prefix"),
            pytest.param(
                HEAD + '[[prefixes]]\ntext = "a{x}"',
                ": key prefixes, table 1: 'a{x}' has an unknown hole {x} at character 2",
                id="no pattern",
            ),
            pytest.param(
                HEAD + '[[prefixes]]\ntext = "a"\nverdit = "log"',
                ", table 1: unknown key 'verdit'",
                id="a key of a table",
            ),
            pytest.param(
                HEAD + '[[prefixes]]\ntext = "a"\n[[prefixes]]\ntext = "a"\nverdict = "log"',
                ": the log prefix 'a' has two verdicts",
                id="two verdicts",
            ),
            pytest.param(
                HEAD + "samples = 1", ": key samples: is no list of tables: write [[samples]]", id="no list of samples"
            ),
            pytest.param(HEAD + "[[samples]]", ": key samples, table 1: needs either text", id="no sample"),
            pytest.param(
                HEAD + '[[samples]]\ntext = "a"\nline = "b"', ": key samples, table 1: needs either text", id="both"
            ),
            pytest.param(HEAD + "[[samples]]\ntext = 1", ", table 1: needs either text", id="a number"),
            pytest.param(HEAD + '[[samples]]\ntext = "a"', ", table 1: has no table reading", id="no reading"),
            pytest.param(
                HEAD + '[[samples]]\ntext = "a"\nreading = { verdit = "log" }',
                ", table 1: reading: unknown key 'verdit': did you mean verdict?",
                id="unknown key of a reading",
            ),
            pytest.param(
                HEAD + '[[samples]]\ntext = "a"\nreading = { limited = "yes" }',
                ", table 1: reading, limited is no true or false",
                id="limited",
            ),
            pytest.param(
                HEAD + '[[samples]]\ntext = "a"\nreading = { zone = 1 }',
                ", table 1: reading, zone is no text",
                id="zone",
            ),
            pytest.param("#" * (1 << 20) + "\n", ": it is larger than 1 MiB", id="too large"),
        ],
    )
    def test_what_is_wrong_is_named_with_its_file(self, text: str, reason: str, tmp_path: Path) -> None:
        file = ours(tmp_path, text)
        with pytest.raises(SettingsError) as caught:
            load("ours", "--profile", tmp_path)
        assert str(caught.value).startswith(str(file))
        assert reason in str(caught.value)
        assert str(caught.value).isprintable()

    @pytest.mark.parametrize("name", ["Ours", "our s", "-ours", "a" * 64, "ours\x1b[2J"])
    def test_a_file_that_is_not_named_as_a_profile_is(self, name: str, tmp_path: Path) -> None:
        ours(tmp_path, HEAD, name)
        with pytest.raises(SettingsError, match="is no name of a profile: write small letters") as caught:
            profile_files(tmp_path)
        assert str(caught.value).isprintable()

    def test_what_is_no_profile_is_passed_over(self, tmp_path: Path) -> None:
        for name in (".hidden.toml", "ours.toml~", "README"):
            (tmp_path / name).touch()
        assert tuple(profile_files(tmp_path)) == SHIPPED

    def test_a_pipe_is_not_waited_for(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "ours.toml")
        with pytest.raises(SettingsError, match=r"ours\.toml: it is no regular file"):
            load("ours", "--profile", tmp_path)


class TestUnknown:
    @pytest.mark.parametrize(
        "name", ["../../etc/kiptail", "/etc/kiptail/profiles/ufw", "ufw.toml", "", "UFW", "u\x1bw"]
    )
    def test_names_are_looked_up_and_never_paths(self, name: str, tmp_path: Path) -> None:
        with pytest.raises(SettingsError, match=r"^--profile: unknown profile '") as caught:
            load(name, "--profile", tmp_path)
        assert str(caught.value).isprintable()

    def test_the_nearest_is_named_or_all(self) -> None:
        with pytest.raises(SettingsError, match="unknown profile 'firewall': did you mean firewalld"):
            load("firewall", "--profile", NOWHERE)
        with pytest.raises(SettingsError, match=re.escape(f"unknown profile 'x': known are {', '.join(SHIPPED)}")):
            load("x", "--profile", NOWHERE)


def made(name: str, *prefixes: PrefixRule) -> Profile:
    return Profile(name, "d", "a", prefixes, (), None)


class TestMerged:
    def test_what_is_configured_wins_whatever_its_holes_are_called(self) -> None:
        configured = (PrefixRule("a"), PrefixRule("b {zone}:", Verdict.LOG))
        profile = made("x", PrefixRule("b {chain}:", Verdict.DROP), PrefixRule("a", Verdict.LOG), PrefixRule("c"))
        assert merged(configured, [profile]) == (*configured, PrefixRule("c"))

    def test_two_that_contradict_each_other(self) -> None:
        one, other = made("x", PrefixRule("a {zone}:")), made("y", PrefixRule("a {chain}:", Verdict.LOG))
        with pytest.raises(
            SettingsError, match=r"profiles x and y have different verdicts for the prefix 'a \{chain\}:'"
        ):
            merged((), [one, other])
        configured = (PrefixRule("a {rule}:", Verdict.REJECT),)
        assert merged(configured, [one, other]) == configured

    def test_one_that_is_limited_makes_the_prefix_so(self) -> None:
        one, other = made("x", PrefixRule("a")), made("y", PrefixRule("a", limited=True, cut_at=20))
        assert merged((), [one, other]) == (PrefixRule("a", limited=True, cut_at=20),)

    def test_the_shipped_ones_go_together(self) -> None:
        assert len(prefixes_of(*SHIPPED)) == sum(len(prefixes_of(name)) for name in SHIPPED)


class TestSettings:
    def test_no_prefix_is_needed_beside_a_profile(self) -> None:
        settings = resolve({"profile": ("antrea", "antrea")}, {}, now_us=1, default_config=NOWHERE)
        assert [one.name for one in settings.profiles] == ["antrea"]
        assert settings.prefixes == prefixes_of("antrea")

    def test_as_a_variable_and_in_the_file(self, tmp_path: Path) -> None:
        toml = tmp_path / "kiptail.toml"
        toml.write_text('profile = ["ufw"]\n[[prefixes]]\ntext = "[UFW BLOCK]"\nverdict = "reject"\n')
        settings = resolve({}, {}, now_us=1, default_config=toml)
        assert settings.prefixes[0] == PrefixRule("[UFW BLOCK]", Verdict.REJECT)
        assert len(settings.prefixes) == 6
        settings = resolve({}, {"KIPTAIL_PROFILE": "antrea\nk3s\n"}, now_us=1, default_config=toml)
        assert [one.name for one in settings.profiles] == ["antrea", "k3s"]

    def test_the_operators_own(self, tmp_path: Path) -> None:
        ours(tmp_path, HEAD + '[[prefixes]]\ntext = "a"\n')
        settings = resolve({"profile": ("ours",)}, {}, now_us=1, default_config=NOWHERE, own_profiles=tmp_path)
        assert settings.prefixes == (PrefixRule("a"),)

    @pytest.mark.parametrize(
        ("flags", "message"),
        [
            ({"profile": ("antraa",)}, "--profile: unknown profile 'antraa': did you mean antrea?"),
            ({"profile": ("kube-router",)}, "profile kube-router has no log prefix, and none is configured beside it"),
            ({}, "no log prefix is configured: name the prefix of the rules that drop packets, --prefix TEXT"),
        ],
    )
    def test_errors(self, flags: dict[str, object], message: str) -> None:
        with pytest.raises(SettingsError) as caught:
            resolve(flags, {}, now_us=1, default_config=NOWHERE)
        assert str(caught.value).startswith(message)

    def test_too_many(self, tmp_path: Path) -> None:
        ours(tmp_path, HEAD + "".join(f'[[prefixes]]\ntext = "p{number}"\n' for number in range(100)))
        flags = {"profile": ("ours",), "prefix": ("p0",)}
        assert len(resolve(flags, {}, now_us=1, default_config=NOWHERE, own_profiles=tmp_path).prefixes) == 100
        with pytest.raises(SettingsError, match="101 prefixes, those of profiles included, are more than the 100"):
            resolve(flags | {"prefix": ("x",)}, {}, now_us=1, default_config=NOWHERE, own_profiles=tmp_path)
