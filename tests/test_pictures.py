"""The documents' pictures can be taken anew."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import pictures


@pytest.mark.live
@pytest.mark.timeout(180)
def test_the_pictures_are_taken_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = {path.name: path.read_bytes() for path in pictures.PICTURES.iterdir()}
    monkeypatch.setattr(pictures, "PICTURES", tmp_path)
    pictures.main()
    taken = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert taken.keys() == kept.keys()
    for name, png in taken.items():
        # What a PNG begins with, its size included: fonts are not the same everywhere.
        assert png[:24] == kept[name][:24]
        assert len(png) < 200_000
