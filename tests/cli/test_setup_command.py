"""`kiptail setup` as a command: what it prints and writes, and how it ends where there is nothing to propose."""

from __future__ import annotations

import os
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from kiptail.check import run
from kiptail.check.facts import NEEDS_ROOT, NOT_INSTALLED, CalicoFacts, JournalFacts, RuleFacts
from kiptail.check.firewall.log_rules import Fate, LogRule
from kiptail.cli.ending import exit_code
from kiptail.cli.main import cli
from kiptail.config.settings import Settings

RULE = LogRule("nftables", "inet filter forward", "x: ", Fate.DROP)
READ = ("nft",)


@pytest.fixture
def rules(monkeypatch: pytest.MonkeyPatch) -> list[RuleFacts]:
    """What this machine's rules are taken for: the last of the list. Its journal is empty."""
    found = [RuleFacts((RULE,), READ)]
    monkeypatch.setattr(run, "gather_rules", lambda: found[-1])
    monkeypatch.setattr(run, "gather_journal", journal)
    for name in [name for name in os.environ if name.startswith("KIPTAIL_")]:
        monkeypatch.delenv(name)
    return found


def journal(settings: Settings, *, now: float, window_s: float) -> JournalFacts:
    assert window_s == 86_400
    return JournalFacts("the journal", last_kernel_at=now)


def kiptail(*arguments: object) -> int:
    return exit_code(cli, "kiptail", [str(argument) for argument in arguments])


def test_it_prints_what_it_would_write(
    rules: list[RuleFacts], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert kiptail("setup") == 0
    printed, said = capsys.readouterr()
    assert tomllib.loads(printed) == {"prefixes": [{"text": "x:", "verdict": "drop"}]}
    assert said == ""
    file = tmp_path / "kiptail.toml"
    assert kiptail("--config", file, "setup", "--write") == 0
    assert file.read_text() == printed
    assert file.stat().st_mode & 0o777 == 0o644
    printed, said = capsys.readouterr()
    assert printed == ""
    assert f"written to {file}" in said
    assert "`kiptail check`" in said
    assert "systemctl enable" in said


@pytest.mark.parametrize("by", ["flag", "variable"])
def test_a_file_that_is_none_of_its_own_stays(
    rules: list[RuleFacts], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    """However it is named, and though it could not be read as a configuration."""
    file = tmp_path / "kiptail.toml"
    file.write_text("no = [toml\n")
    arguments: tuple[object, ...] = ("--config", file) if by == "flag" else ()
    if by == "variable":
        monkeypatch.setenv("KIPTAIL_CONFIG", str(file))
    assert kiptail("setup", "--write", *arguments) == 1
    assert file.read_text() == "no = [toml\n"
    assert kiptail("setup", "--write", "--force", *arguments) == 0
    assert kiptail("setup", "--write", *arguments) == 0
    assert "x:" in file.read_text()


OBSTACLES: list[tuple[str, RuleFacts, str]] = [
    ("not root", RuleFacts((), (), {"nft": NEEDS_ROOT}), "as root"),
    ("no tool", RuleFacts((), (), {"nft, iptables": NOT_INSTALLED}), "install nftables or iptables"),
    ("unreadable", RuleFacts((), (), {"nft": "ended with 3"}), "ended with 3"),
    ("no rule that logs", RuleFacts((), READ), "kiptail rules"),
]


@pytest.mark.parametrize(("facts", "said"), [c[1:] for c in OBSTACLES], ids=[c[0] for c in OBSTACLES])
def test_what_is_in_the_way_is_one_line(
    rules: list[RuleFacts], tmp_path: Path, capsys: pytest.CaptureFixture[str], facts: RuleFacts, said: str
) -> None:
    rules.append(facts)
    file = tmp_path / "kiptail.toml"
    for write in ((), ("--write",)):
        assert kiptail("setup", "--config", file, *write) == 1
        printed, complaint = capsys.readouterr()
        assert printed == ""
        assert complaint.count("\n") == 1
        assert said in complaint
    assert not file.exists()


def test_a_data_plane_that_logs_nothing_is_named_where_no_rule_logs(
    rules: list[RuleFacts], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run, "gather_calico", lambda: CalicoFacts(2, bpf_maps=True))
    rules.append(RuleFacts((), READ))
    assert kiptail("setup") == 1
    assert "eBPF data plane" in capsys.readouterr().err
    rules.append(RuleFacts((RULE,), READ))
    assert kiptail("setup") == 0
    assert "warning: 2 interfaces of Calico's have no chains" in capsys.readouterr().err


def test_a_journal_that_cannot_be_read_is_exit_code_3(
    rules: list[RuleFacts], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        run, "gather_journal", lambda *_, **__: JournalFacts("x", refusal="this machine has no journal")
    )
    assert kiptail("setup") == 3
    assert capsys.readouterr() == ("", "kiptail: this machine has no journal\n")


def test_what_is_not_certain_is_printed_and_not_written(
    rules: list[RuleFacts], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rules.append(RuleFacts((replace(RULE, fate=Fate.UNKNOWN),), READ, {"iptables": "ended with 1"}))
    assert kiptail("setup") == 0
    printed, said = capsys.readouterr()
    assert tomllib.loads(printed) == {}
    assert "the rules do not say what follows" in printed
    assert "1 prefix not proposed" in said
    assert "warning: not all rules of the firewall could be read (iptables: ended with 1)" in said
    file = tmp_path / "kiptail.toml"
    assert kiptail("setup", "--write", "--config", file) == 1
    assert "nothing is written" in capsys.readouterr().err
    assert not file.exists()


def test_a_profile_that_cannot_be_used_is_a_warning(
    rules: list[RuleFacts], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run, "gather_profiles", lambda: ({}, ["/etc/kiptail/profiles/mine.toml: is not TOML"]))
    assert kiptail("setup") == 0
    assert "warning: /etc/kiptail/profiles/mine.toml: is not TOML; no such profile" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [("--force",), ("--config", ""), ("more",)])
def test_a_usage_error_is_exit_code_2(rules: list[RuleFacts], arguments: tuple[str, ...]) -> None:
    assert kiptail("setup", *arguments) == 2
