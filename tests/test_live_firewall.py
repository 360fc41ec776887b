"""Random rule sets against the kernel: what is said of a logging rule is what became of the packets that it logged."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.support.fuzzing import FACTOR, cases, source
from tests.support.running import ROOT, _environment

pytestmark = [pytest.mark.live, pytest.mark.fuzz]

#: Each in network namespaces of its own.
_PROCESSES = 2
_SETS = 240 if FACTOR <= 1 else cases(100)
#: Of logging rules that are before a drop, or let packets pass, so many may be given up as unknown.
_MOST_CAUTIOUS = 0.25


def _try(seed: str, count: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.firewalls", seed, str(count)]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, env=_environment({}), timeout=3_500, check=False
    )
    assert done.returncode == 0, f"{seed}: {done.stderr[-2000:]}"
    tally: dict[str, Any] = json.loads(done.stdout)
    return tally


@pytest.mark.timeout(3_600 if FACTOR > 1 else 120)
def test_what_is_said_of_a_rule_is_what_the_kernel_does() -> None:
    """10,000 rule sets by `make fuzz`: nothing is said to drop that passes, and nothing to pass that is dropped."""
    if os.geteuid() != 0:
        pytest.skip("needs root, for network namespaces with rules")
    rng, seed = source("firewalls")
    seeds = [f"{rng.getrandbits(32):08x}" for _ in range(_PROCESSES)]
    with ThreadPoolExecutor(_PROCESSES) as pool:
        tallies = list(pool.map(lambda one: _try(one, _SETS // _PROCESSES), seeds))
    wrong = [text for tally in tallies for text in tally["wrong"]]
    said = {name: sum(tally["said"][name] for tally in tallies) for name in ("ok", "problem", "unknown")}
    cautious = sum(tally["cautious"] for tally in tallies)
    assert not wrong, f"{seed}, {len(wrong)} rule sets:\n" + "\n\n".join(sorted(wrong, key=len)[:3])
    # It is no answer to say nothing.
    assert min(said["ok"], said["problem"]) > _SETS / 10, said
    assert cautious < _MOST_CAUTIOUS * sum(said.values()), (said, cautious)
