"""`make crash`: at full length what the tests run in short. `python -m tests.crash --help`."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.crash.harness import Plan, crash
from tests.crash.scenarios import flood, freeze, restart_empty

Run = Callable[[Path], str]


def main() -> int:
    """Run what was asked for, print a table; 1 when anything was lost, double or late."""
    given = _arguments()
    runs: dict[str, Run] = {
        "kills": lambda directory: _crash(directory, given, kill_server=False),
        "server-kills": lambda directory: _crash(directory, given, kill_server=True),
        "freeze": lambda directory: freeze(directory, given.outage),
        "empty": lambda directory: restart_empty(directory, given.outage),
        "flood": lambda directory: flood(directory, given.packets, given.rate),
    }
    _print(f"seed {given.seed}")
    rows = []
    for name in given.only or runs:
        begin = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="kiptail-crash-") as directory:
            try:
                result, what = "ok", runs[name](Path(directory))
            except AssertionError as error:
                result, what = "FAILED", str(error)
        _print(f"{name}: {result}, {time.monotonic() - begin:.0f} s: {what}")
        rows.append((name, result, what.splitlines()[0] if what else ""))
    _print("")
    for name, result, what in rows:
        _print(f"{name:12}  {result:6}  {what}")
    return int(any(result != "ok" for _, result, _ in rows))


def _crash(directory: Path, given: argparse.Namespace, *, kill_server: bool) -> str:
    outcome = crash(directory, Plan(kills=given.kills, drops=given.drops, kill_server=kill_server, seed=given.seed))
    assert not outcome.wrong, str(outcome)
    return str(outcome)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.crash", description="Needs root, and minutes.")
    parser.add_argument("--kills", type=int, default=50, help="SIGKILLs of kiptail, in each of the first two runs")
    parser.add_argument("--drops", type=int, default=2_000, help="packets at least, over 154 flows")
    parser.add_argument("--outage", type=float, default=60.0, metavar="SECONDS", help="how long the API server is away")
    parser.add_argument("--packets", type=int, default=50_000, help="of one flow")
    parser.add_argument("--rate", type=int, default=5_000, help="of those packets, a second")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32), help="of what is random")
    parser.add_argument(
        "only", nargs="*", metavar="RUN", help="kills, server-kills, freeze, empty, flood; without one, all"
    )
    return parser.parse_args()


def _print(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
