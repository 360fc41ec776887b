"""``python -m bench``: measure, print one table, and keep it under build/bench."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from bench.filters import FILTERS
from bench.journal import BOTH_SOURCES, FLOODS, ONE_SOURCE, PREFIX, Workload, make_workload, pods_of_a_node
from bench.node import measure_node
from bench.parts import count_drops, drops_of, parse_lines, real_lines
from bench.prefixes import PATTERNS
from bench.programs import BenchError, cpu_seconds, journalctl, kiptail, python
from bench.report import Row, machine, table, versions
from bench.soak import soak
from bench.state import state_bytes

_BUILD = Path(__file__).parent.parent / "build" / "bench"

#: Flows in each journal.
_FLOWS = 200
#: Open flows in the ledger.
_LEDGER_FLOWS = (1, 200, 20_000)
#: Lines parsed, and drops counted, in one run.
_PART_SIZE = 200_000


class _Bench:
    """The rows, in the table's order, and what a run adds to them."""

    def __init__(self, entries: int, state_hours: int) -> None:
        def rate(name: str) -> Row:
            return Row(name, "entries/s")

        _say("making the journals, unless they are there from an earlier run")
        self._one = make_workload(_BUILD, entries=1, drop_every=1, shape=pods_of_a_node(1))
        self._workloads = [
            make_workload(_BUILD, entries=entries, drop_every=100, shape=pods_of_a_node(_FLOWS)),
            *(
                make_workload(_BUILD, entries=max(1, entries // 2), drop_every=1, shape=shape)
                for shape in (pods_of_a_node(_FLOWS), *FLOODS)
            ),
        ]
        self._programs = {
            w.title: (
                rate(f"{w.title}: kiptail, start-up included"),
                rate(f"{w.title}: journalctl -o cat"),
            )
            for w in self._workloads
        }
        #: Each with its journal: one of flows that are known soon, and one with many that are new.
        self._patterns = [
            (w, Row(f"{w.title}: CPU with {len(PATTERNS)} patterns", "times that of one literal prefix"))
            for w in (self._workloads[1], self._workloads[-1])
        ]
        #: The same with filters, of which none holds.
        self._filters = [
            (w, Row(f"{w.title}: CPU with {len(PATTERNS)} patterns, {len(FILTERS):,} filters", row.unit))
            for w, row in self._patterns
        ]
        #: What NFLOG beside the kernel's drops costs, and reading it where there is none: both against the first.
        self._one_source, both = (
            make_workload(_BUILD, entries=max(1, entries // 2), drop_every=1, shape=shape)
            for shape in (ONE_SOURCE, BOTH_SOURCES)
        )
        self._nflog = [
            (workload, Row(f"{workload.title}: CPU a drop, NFLOG read", "times that of 5,000 a second alone"))
            for workload in (both, self._one_source)
        ]
        self._start = Row("start-up: kiptail on a journal of one entry", "ms")
        self._imports = {
            "import kiptail.daemon.run": Row("start-up: python, import kiptail.daemon.run", "ms"),
            "import kiptail.cli.main": Row("start-up: python, import kiptail.cli.main", "ms"),
            "pass": Row("start-up: python alone", "ms"),
        }
        self._lines = real_lines()
        self._parser = Row(f"parser alone, the corpus' {len(self._lines)} real lines", "lines/s")
        self._drops = {flows: drops_of(flows, _PART_SIZE) for flows in _LEDGER_FLOWS}
        self._ledger = {
            flows: Row(f"ledger alone, {flows:,} flow{'s' if flows > 1 else ''}", "drops/s") for flows in _LEDGER_FLOWS
        }

        self._state_hours = state_hours
        self._state = {
            away: Row(f"state file after {state_hours} h of churn, the cluster {'away' if away else 'there'}", "KiB")
            for away in (False, True)
        }
        #: Of a node, by name.
        self._node: dict[str, Row] = {}
        self.soak: list[Row] = []

    @property
    def rows(self) -> list[Row]:
        """All of them."""
        whole = [row for rows in self._programs.values() for row in rows]
        return [
            *whole,
            *(row for _, row in self._patterns),
            *(row for _, row in self._filters),
            *(row for _, row in self._nflog),
            self._start,
            *self._imports.values(),
            self._parser,
            *self._ledger.values(),
            *self._state.values(),
            *self._node.values(),
            *self.soak,
        ]

    def warm_up(self) -> None:
        """Have the files in memory and the modules compiled before anything is timed."""
        kiptail(self._one)
        for workload in (*self._workloads, *(workload for workload, _ in self._nflog)):
            journalctl(workload)

    def run_once(self) -> None:
        """Measure what comes out the same each time."""
        for away, row in self._state.items():
            row.samples.append(state_bytes(self._state_hours, away=away) / 1024)

    def run(self, number: int) -> None:
        """Measure everything once."""
        self._start.samples.append(kiptail(self._one) * 1000)
        for workload in self._workloads:
            # In turn, so that neither always has the machine as the other left it.
            ours, theirs = _in_turn(workload, theirs_first=bool(number % 2))
            row, reference = self._programs[workload.title]
            row.samples.append(workload.entries / ours)
            row.ratios.append(theirs / ours)
            reference.samples.append(workload.entries / theirs)
        for workload, row in self._patterns:
            row.samples.append(_times(workload, PATTERNS, (), patterns_first=bool(number % 2)))
        for workload, row in self._filters:
            row.samples.append(_times(workload, PATTERNS, FILTERS, patterns_first=bool(number % 2)))
        start = cpu_seconds(partial(kiptail, self._one))
        alone = cpu_seconds(partial(kiptail, self._one_source)) - start
        for workload, row in self._nflog:
            row.samples.append((cpu_seconds(partial(kiptail, workload, nflog=True)) - start) / alone)
        for code, row in self._imports.items():
            row.samples.append(python(code) * 1000)
        self._parser.samples.append(parse_lines(self._lines, max(1, _PART_SIZE // len(self._lines))))
        for flows, row in self._ledger.items():
            row.samples.append(count_drops(self._drops[flows]))

    def run_node(self, flows: int) -> None:
        """Measure a node once, with each index."""
        for index in ("cluster", "node"):
            for figure in measure_node(index, flows):
                self._node.setdefault(figure.name, Row(figure.name, figure.unit)).samples.append(figure.value)


def main() -> int:
    """Run the benchmark; returns the exit code."""
    arguments = _arguments()
    # Before anything keeps the machine busy.
    host, software = machine(), versions()
    begin = time.monotonic()
    try:
        bench = _Bench(arguments.entries, arguments.state_hours)
        bench.warm_up()
        bench.run_once()
        for number in range(arguments.runs):
            _say(f"run {number + 1} of {arguments.runs}")
            bench.run(number)
        for number in range(arguments.node_runs if os.geteuid() == 0 else 0):
            _say(f"a node: packets, kernel, journald, API server; run {number + 1} of {arguments.node_runs}")
            bench.run_node(arguments.flows)
        if arguments.soak:
            _say(f"a soak of {arguments.soak:g} minutes")
            bench.soak += soak(arguments.soak)
    except FileNotFoundError as error:
        _say(f"error: {error.filename} is missing; `make bench` as root installs what is needed")
        return 1
    except BenchError as error:
        _say(f"error: {error}")
        return 1
    _say(f"took {time.monotonic() - begin:.0f} s")
    results = _BUILD / "results.json"
    document = {
        "machine": host,
        "versions": software,
        "runs": arguments.runs,
        "rows": [row.to_json_dict() for row in bench.rows],
    }
    results.write_text(json.dumps(document, indent=1) + "\n")
    sys.stdout.write(
        f"\n{host['cpu']}, {host['cores']} cores, {host['memory_mib']:,} MiB, Linux {host['kernel']},"
        f" load {host['load_before']} before\n"
        f"{', '.join(f'{name} {version}' for name, version in software.items())}\n"
        f"medians of {arguments.runs} runs; ratios are of two programs within one run\n\n"
        f"{table(bench.rows)}\n\nas JSON: {results}\n"
    )
    return 0


def _in_turn(workload: Workload, *, theirs_first: bool) -> tuple[float, float]:
    """Seconds of kiptail and of journalctl, one right after the other."""
    programs: list[Callable[[Workload], float]] = [kiptail, journalctl]
    if theirs_first:
        programs.reverse()
    seconds = {program: program(workload) for program in programs}
    return seconds[kiptail], seconds[journalctl]


def _times(workload: Workload, patterns: Sequence[str], filters: Sequence[str], *, patterns_first: bool) -> float:
    """The CPU that kiptail takes with all these over what it takes with one prefix, one right after the other."""
    configured: list[tuple[Sequence[str], Sequence[str]]] = [((PREFIX,), ()), (patterns, filters)]
    if patterns_first:
        configured.reverse()
    seconds = {each: cpu_seconds(partial(kiptail, workload, *each)) for each in configured}
    return seconds[patterns, filters] / seconds[(PREFIX,), ()]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "--entries", type=_positive, default=1_000_000, metavar="N",
        help="entries of the journal with 1 %% drops; the one that is all drops has half of it [%(default)s]",
    )  # fmt: skip
    parser.add_argument(
        "--state-hours", type=_positive, default=2, metavar="N", help="hours of churn for the state file [%(default)s]"
    )
    parser.add_argument(
        "--node-runs", type=int, default=1, metavar="N",
        help="how often to measure a node with packets, which needs root and takes nine minutes [%(default)s]",
    )  # fmt: skip
    parser.add_argument(
        "--flows", type=_positive, default=1_000, metavar="N",
        help="flows of a node, ten a second, at most 2,500 [%(default)s]",
    )  # fmt: skip
    parser.add_argument(
        "--soak",
        type=float,
        default=0.0,
        metavar="MIN",
        help="watch memory for so many minutes of churn, 10 or more [none]",
    )
    parser.add_argument("--runs", type=_positive, default=5, metavar="N", help="how often to measure [%(default)s]")
    return parser.parse_args()


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


def _say(text: str) -> None:
    """Tell whoever waits; the standard output is for the result."""
    sys.stderr.write(f"bench: {text}\n")
    sys.stderr.flush()


sys.exit(main())
