"""Profiles on the command line: `kiptail profiles`, and --profile."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from kiptail.cli.main import main
from kiptail.config import profile
from tests.support.journald import export_to_journal, kernel_entry
from tests.support.pods import pod
from tests.support.running import run_kiptail

PACKET = (
    "IN=a OUT=b MAC= SRC=10.0.0.1 DST=10.0.0.2 LEN=60 TOS=0x00 PREC=0x00 TTL=63 ID=1 DF PROTO=TCP"
    " SPT=40000 DPT=80 WINDOW=64240 RES=0x00 SYN URGP=0 "
)
OURS = """
description = "Ours: \\u001b[2J"
applies_to = "here"
[[prefixes]]
text = "ours {zone}:"
[[samples]]
text = "ours a: "
reading = { prefix = "ours {zone}:", verdict = "drop", zone = "a" }
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(profile, "OWN_PROFILES", tmp_path)
    return tmp_path


def ended(arguments: Sequence[str]) -> int:
    with pytest.raises(SystemExit) as caught:
        main(list(arguments))
    return int(caught.value.code or 0)


def test_all_of_them() -> None:
    done = run_kiptail("profiles")
    assert (done.returncode, done.stderr) == (0, b"")
    lines = done.stdout.decode().splitlines()
    assert re.split(" {2,}", lines[0]) == ["antrea", "Antrea: node policies with logging", "shipped"]
    assert len(lines) == len(profile.profile_files(Path("/nonexistent")))


def test_one_of_them() -> None:
    done = run_kiptail("profiles", "k3s")
    assert (done.returncode, done.stderr) == (0, b"")
    assert "DROP by policy {policy}  → log, logged at a limited rate, cut at 48 characters" in done.stdout.decode()


def test_an_unknown_one() -> None:
    done = run_kiptail("profiles", "k4s")
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr == b"kiptail: kiptail profiles: unknown profile 'k4s': did you mean k3s?\n"


def test_the_operators_own(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (own / "ours.toml").write_text(OURS)
    assert ended(["profiles"]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("ours "))
    assert line.split() == ["ours", "Ours:", "[2J", str(own / "ours.toml")]
    assert ended(["profiles", "ours", "ufw"]) == 0
    assert "\nufw (shipped)\n" in capsys.readouterr().out
    (own / "ours.toml").write_text(OURS.replace('zone = "a"', 'zone = "b"'))
    assert ended(["profiles", "ufw", "ours"]) == 1
    assert "the profile says otherwise" in capsys.readouterr().out


def test_one_that_is_wrong_is_named(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (own / "ours.toml").write_text("description = 1")
    for arguments in (["profiles"], ["profiles", "ours"]):
        assert ended(arguments) == 2
        assert f"kiptail: {own}/ours.toml: has no text description" in capsys.readouterr().err


def test_parse_with_profiles() -> None:
    lines = "".join(
        f"Nov 26 04:00:00 host kernel: {text}{PACKET}\n"
        for text in ("Antrea:I:Drop:web:", "filter_FWD_policy_a_REJECT: ", "DROP by policy team-a/deny ", "x: ")
    )
    profiles = ("--profile", "antrea", "--profile", "firewalld", "--profile", "k3s")
    done = run_kiptail("parse", *profiles, stdin=lines.encode())
    assert (done.returncode, done.stderr) == (0, b"")
    said = [json.loads(line) for line in done.stdout.splitlines()]
    shown = [{key: value for key, value in one.items() if key in profile.READING_KEYS} for one in said]
    assert shown == [
        {
            "prefix": "Antrea:{direction}:{verdict}:{label?}:",
            "verdict": "drop",
            "direction": "in",
            "label": "web",
        },
        {"prefix": "filter_{direction}_policy_{policy}_{verdict}:", "verdict": "reject", "policy": "a"},
        {"prefix": "DROP by policy {policy}", "verdict": "log", "policy": "team-a/deny", "limited": True},
    ]


def test_a_prefix_of_ones_own_wins() -> None:
    done = run_kiptail(
        "parse", "--prefix", "calico-packet:", "--profile", "calico", stdin=f"calico-packet: {PACKET}".encode()
    )
    assert json.loads(done.stdout)["verdict"] == "drop"
    done = run_kiptail("parse", stdin=f"calico-packet: {PACKET}".encode(), KIPTAIL_PROFILE="ufw\ncalico")
    assert json.loads(done.stdout)["verdict"] == "log"


@pytest.mark.parametrize("command", [("parse",), ("--dry-run",), ("check",), ()])
def test_an_unknown_profile_is_a_usage_error_of_every_command(command: tuple[str, ...]) -> None:
    done = run_kiptail(*command, "--profile", "antraa")
    assert done.returncode == 2
    assert done.stderr == b"kiptail: --profile: unknown profile 'antraa': did you mean antrea?\n"


def test_a_dry_run_needs_no_prefix_beside_a_profile(tmp_path: Path) -> None:
    journal, pods = tmp_path / "recorded.journal", tmp_path / "pods.json"
    lines = [f"{text}{PACKET}" for text in ("Antrea:I:Reject:", "Antrea:O:Allow:", "Antrea:I:Reject:")]
    export_to_journal(
        (
            kernel_entry(line, realtime_us=1_795_000_000_000_000 + n, monotonic_us=10_000_000 + n)
            for n, line in enumerate(lines)
        ),
        journal,
    )
    pods.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": [pod("web-0", "10.0.0.2", uid="u2")]}))
    done = run_kiptail(
        "--dry-run", "--no-follow", "--journal-file", journal, "--pods", pods, "--profile", "antrea", "--output", "json"
    )
    assert done.returncode == 0, done.stderr
    events = [json.loads(line)["event"] for line in done.stdout.splitlines()]
    assert [(event["involvedObject"]["name"], event["count"]) for event in events] == [("web-0", 2)]
    assert events[0]["message"].startswith("Packet rejected when receiving traffic")
