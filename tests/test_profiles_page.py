"""docs/profiles.md: each of its examples is tried."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kiptail.admin.profile_pages import explained
from kiptail.config.profile import load, profile_files
from kiptail.config.settings import Settings, resolve
from kiptail.errors import SettingsError
from kiptail.netfilter.prefixes import Prefixes, Verdict

PAGE = (Path(__file__).parent.parent / "docs" / "profiles.md").read_text()
NOWHERE = Path("/nonexistent")


def rows(columns: int) -> list[list[str]]:
    """The rows of tables whose columns are all code."""
    found = [re.fullmatch(r"\| " + r" \| ".join(["`([^`]+)`"] * columns) + r" \|", line) for line in PAGE.splitlines()]
    return [list(match.groups()) for match in found if match]


def blocks() -> list[str]:
    return re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)


def settings(directory: Path, text: str) -> Settings:
    file = directory / "kiptail.toml"
    file.write_text(text)
    return resolve({}, {}, now_us=1, default_config=file, own_profiles=NOWHERE)


@pytest.mark.parametrize(("pattern", "text", "reading"), rows(3))
def test_patterns(pattern: str, text: str, reading: str) -> None:
    prefixes = resolve({"prefix": (pattern,)}, {}, now_us=1, default_config=NOWHERE).prefixes
    found = Prefixes(prefixes).match(text)
    assert found is not None
    fields = {key: value for key, value in found._asdict().items() if value and key != "prefix"}
    assert " ".join(f"{key}={value}" for key, value in fields.items()) == reading


@pytest.mark.parametrize(("pattern", "error"), rows(2))
def test_what_is_refused(pattern: str, error: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(f"--prefix: '{pattern}' {error}")):
        resolve({"prefix": (pattern,)}, {}, now_us=1, default_config=NOWHERE)


def test_the_configurations(tmp_path: Path) -> None:
    two, calico, tables, _ = blocks()
    assert [profile.name for profile in settings(tmp_path, two).profiles] == ["antrea", "firewalld"]
    found = Prefixes(settings(tmp_path, calico).prefixes).match("calico-packet: ")
    assert found is not None
    assert found.verdict is Verdict.DROP
    found = Prefixes(settings(tmp_path, tables).prefixes).match("[fw-3-r]")
    assert found is not None
    assert (found.verdict, found.rule, found.limited) == (Verdict.REJECT, "3", True)


def test_the_profile(tmp_path: Path) -> None:
    (tmp_path / "our-gateway.toml").write_text(blocks()[-1])
    profile = load("our-gateway", "", tmp_path)
    assert len(profile.samples) == 2
    text, well = explained(profile)
    assert well, text


def test_the_table_has_all_that_are_shipped() -> None:
    named = re.findall(r"(?m)^\| `([a-z0-9-]+)` \| [^`]", PAGE) + re.findall(r"(?m)^\| `(calico-enterprise)` \|", PAGE)
    assert sorted(named) == list(profile_files(NOWHERE))


def test_there_are_examples() -> None:
    assert (len(rows(3)), len(rows(2)), len(blocks())) == (8, 5, 4)
