"""The short runs of what `make crash` does at length."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.crash.harness import FLOWS, Plan, crash
from tests.crash.victim import POINTS

pytestmark = [
    pytest.mark.live,
    pytest.mark.timeout(300),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: network namespaces, nft, /dev/kmsg and journald"),
]


@pytest.mark.parametrize("kill_server", [False, True], ids=["kiptail", "kiptail and the API server"])
def test_kills_at_any_moment_lose_nothing_and_double_nothing(tmp_path: Path, kill_server: bool) -> None:
    outcome = crash(tmp_path, Plan(kills=2 * len(POINTS), drops=400, kill_server=kill_server))
    assert not outcome.wrong, outcome
    assert outcome.lines >= 400
    assert outcome.flows == len(FLOWS) + 100
    # Not each of them has to come to its point, but if many do not, this tests less than it says.
    assert len(outcome.deaths) > len(POINTS) // 2, outcome
