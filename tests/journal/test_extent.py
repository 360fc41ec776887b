"""How much of a journal has been read."""

from __future__ import annotations

import pytest

from kiptail.journal.extent import Extent
from kiptail.journal.position import Position


@pytest.mark.parametrize(
    ("at_us", "part"), [(None, 0.0), (500, 0.0), (1_000, 0.0), (1_500, 0.5), (2_000, 1.0), (3_000, 1.0)]
)
def test_the_part_that_has_been_read(at_us: int | None, part: float) -> None:
    position = None if at_us is None else Position("", "boot", 0, at_us)
    assert Extent(1_000, 2_000).part(position) == part


def test_a_journal_of_one_moment() -> None:
    assert Extent(1_000, 1_000).part(Position("", "boot", 0, 1_000)) == 0.0


def test_a_period_of_it() -> None:
    whole = Extent(1_000, 2_000)
    assert whole.within(None, None) == whole
    assert whole.within(500, 3_000) == whole
    assert whole.within(1_200, 1_800) == Extent(1_200, 1_800)
