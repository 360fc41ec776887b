"""Root directories are made once, used by several at a time, and removed when nobody wants them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.system import root
from tests.system.root import Release, debian_root


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Release]:
    """Which ones debootstrap would have been started for."""
    releases: list[Release] = []

    def make(release: Release, _packages: list[str], target: Path) -> None:
        releases.append(release)
        target.mkdir()

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(root, "_make", make)
    return releases


def test_each_release_has_one_that_several_use_at_once(made: list[Release]) -> None:
    with (
        debian_root(Release.DEBIAN_12) as twelve,
        debian_root(Release.DEBIAN_13) as thirteen,
        debian_root(Release.DEBIAN_13) as again,
    ):
        assert twelve.is_dir()
        assert thirteen.is_dir()
        assert twelve != thirteen == again
    with debian_root(Release.DEBIAN_12) as later:
        assert later == twelve
    assert made == [Release.DEBIAN_12, Release.DEBIAN_13]


def test_another_list_of_packages_replaces_it_and_no_other_releases(
    made: list[Release], monkeypatch: pytest.MonkeyPatch
) -> None:
    with debian_root(Release.DEBIAN_12) as twelve, debian_root(Release.DEBIAN_13) as thirteen:
        pass
    monkeypatch.setitem(root.MORE, Release.DEBIAN_13, ("more",))
    with debian_root(Release.DEBIAN_13) as other:
        assert other != thirteen
    assert not thirteen.exists()
    assert twelve.exists()
    assert made == [Release.DEBIAN_12, Release.DEBIAN_13, Release.DEBIAN_13]
