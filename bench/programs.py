"""Whole programs, from start to end: kiptail and what it is held against."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

from bench.journal import NFLOG_GROUP, PREFIX, Workload

__all__ = ["BenchError", "cpu_seconds", "journalctl", "kiptail", "output_of", "python"]

_ROOT = Path(__file__).parent.parent

#: The machine's own settings would change what is measured.
_ENVIRONMENT = {"PATH": os.environ.get("PATH", os.defpath), "KIPTAIL_CONFIG": os.devnull}


class BenchError(Exception):
    """A program failed, or what it said is wrong: there is nothing to measure."""


def kiptail(
    workload: Workload, prefixes: Iterable[str] = (PREFIX,), filters: Iterable[str] = (), *, nflog: bool = False
) -> float:
    """Seconds of a dry run over the journal; raises BenchError unless it counted every drop, pod by pod.

    ``nflog``: what ulogd logs is read as well.
    """
    journal, pods, output = (workload.directory / name for name in ("journal", "pods.json", "events.json"))
    command = [sys.executable, "-m", "kiptail", "--dry-run", "--no-follow", "--output", "json", "--log-level", "error"]
    command += ["--journal-directory", str(journal), "--pods", str(pods)]
    command += [f"--prefix={prefix}" for prefix in prefixes]
    command += [f"--ignore={text}" for text in filters]
    if nflog:
        config = workload.directory / "kiptail.toml"
        config.write_text(f'[[nflog]]\ngroup = {NFLOG_GROUP}\nverdict = "reject"\n')
        command.append(f"--config={config}")
    seconds = _seconds(command, output)
    counts: Counter[str] = Counter()
    for line in output.read_text().splitlines():
        event = json.loads(line)["event"]
        pod = event["involvedObject"]
        counts[f"{pod['namespace']}/{pod['name']}"] += event["count"]
    if counts != workload.drops:
        raise BenchError(
            f"kiptail counted {counts.total():,} drops of {len(counts):,} pods in {journal};"
            f" there are {sum(workload.drops.values()):,} of {len(workload.drops):,}, or they differ pod by pod"
        )
    return seconds


def cpu_seconds(run: Callable[[], object]) -> float:
    """Seconds of CPU that the programs take which ``run`` runs: what else is running matters less to them."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    run()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def journalctl(workload: Workload) -> float:
    """Seconds that journalctl takes to print the messages of the same files."""
    command = ["journalctl", "--directory", str(workload.directory / "journal"), "-o", "cat", "--no-pager", "--quiet"]
    return _seconds(command, Path(os.devnull))


def python(code: str) -> float:
    """Seconds that this Python takes to start, run ``code`` and end."""
    return _seconds([sys.executable, "-c", code], Path(os.devnull))


def output_of(*command: str) -> str:
    """What a program prints; "" when there is no such program or it fails."""
    try:
        done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, check=True)  # noqa: S603 - fixed
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()


def _seconds(command: list[str], output: Path) -> float:
    with output.open("wb") as stream:
        begin = time.perf_counter()
        done = subprocess.run(  # noqa: S603 - fixed commands
            command,
            cwd=_ROOT,
            env=_ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.PIPE,
            check=False,
        )
        seconds = time.perf_counter() - begin
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip()
        raise BenchError(f"`{' '.join(command)}` ended with {done.returncode}: {said[-2_000:]}")
    return seconds
