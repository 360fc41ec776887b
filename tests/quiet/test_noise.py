"""Names of known noise."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path

import pytest

from kiptail.quiet.noise import NOISE, is_to_many
from tools.package_files import manual

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("address", "many"),
    [("224.0.0.1", True), ("239.1.2.3", True), ("240.0.0.1", False), ("223.255.255.255", False),
     ("255.255.255.255", True), ("10.0.0.255", False), ("ff02::1", True), ("fe80::1", False)],
)  # fmt: skip
def test_what_is_for_many(address: str, many: bool) -> None:
    assert is_to_many(ip_address(address)) is many


@pytest.mark.parametrize("name", NOISE)
def test_each_name_is_explained_where_people_look(name: str) -> None:
    page = (ROOT / "docs/filters.md").read_text()
    assert f"| `{name}` |" in page
    manual_page = manual((ROOT / "packaging/man/kiptail.toml.5").read_text())
    assert f"\\fB{name}\\fR" in manual_page
    assert NOISE[name][1:40].replace("-", "\\-") in manual_page
