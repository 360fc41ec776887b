"""Programs that are run for a moment: how they end, and what is left of them."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kiptail import program
from kiptail.program import Finished, ProgramError, in_memory, run_program
from tests.support.journald import until
from tests.support.processes import gone

MIB = 1 << 20


def run(script: str, **more: Any) -> Finished:
    options = {"env": dict(os.environ), "seconds": 10.0, "limit": MIB, **more}
    return run_program(["/bin/sh", "-c", script], **options)


def test_what_it_says_and_how_it_ends() -> None:
    done = run("cat; echo ' no\n way ' >&2; exit 3", stdin=subprocess.DEVNULL)
    assert (done.code, done.output, done.complaint, done.fate) == (3, b"", "no way", "ended with 3")
    assert run("kill -TERM $$").fate == "was ended by SIGTERM"


def test_it_reads_what_is_given_from_memory() -> None:
    data = os.urandom(300_000)
    before = len(os.listdir("/proc/self/fd"))
    with in_memory(data) as stdin:
        assert run("cat", stdin=stdin).output == data
    assert len(os.listdir("/proc/self/fd")) == before


def test_as_much_as_is_allowed_is_read_and_no_more() -> None:
    assert len(run(f"head -c {MIB} /dev/zero").output) == MIB
    with pytest.raises(ProgramError, match="printed more than 1 MiB"):
        run(f"head -c {MIB + 1} /dev/zero")


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("trap 'echo asked >$F' TERM; sleep 60 & wait", "asked\n"),
        ("trap '' TERM; sleep 60", ""),
    ],
    ids=["it may clean up", "it is killed"],
)
def test_it_is_asked_to_end_and_then_killed(script: str, expected: str, tmp_path: Path) -> None:
    file = tmp_path / "said"
    file.touch()
    began = time.monotonic()
    with pytest.raises(ProgramError, match=r"took longer than 0\.3 s"):
        run(f"echo $$ >{tmp_path}/pid; {script}", seconds=0.3, env={**os.environ, "F": str(file)})
    assert time.monotonic() - began < 0.3 + program.GRACE_S + 1
    assert file.read_text() == expected
    until(lambda: gone(int((tmp_path / "pid").read_text())), "none of them is left")


def test_a_child_with_its_own_session_loses_its_pipe(tmp_path: Path) -> None:
    child = "import os, signal, sys, time\nopen(sys.argv[1], 'w').write(str(os.getpid()))\n"
    child += "signal.signal(signal.SIGPIPE, signal.SIG_DFL)\nwhile True:\n  os.write(1, b'x')\n  time.sleep(0.05)"
    began = time.monotonic()
    wait = f"while ! test -s {tmp_path}/pid; do sleep 0.02; done"
    done = run(f'setsid {sys.executable} -c "{child}" {tmp_path}/pid & {wait}')
    assert time.monotonic() - began < 5
    assert done.code == 0
    pid = int((tmp_path / "pid").read_text())
    until(lambda: not Path(f"/proc/{pid}").exists() or " Z " in Path(f"/proc/{pid}/stat").read_text(), "SIGPIPE")


def test_it_is_broken_off_at_once() -> None:
    began = time.monotonic()
    with pytest.raises(ProgramError, match="was broken off, for kiptail stops"):
        run("sleep 60", stopped=lambda: time.monotonic() > began + 0.2)
    assert time.monotonic() - began < 1


def without_descriptors(_: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")), hard))
    try:
        run("true")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        (without_descriptors, "cannot be run: Too many open files"),
        (lambda path: run_program([str(path)], env={}, seconds=1, limit=1), "cannot be run: Permission denied"),
        (lambda _: run_program(["/bin/tr\0ue"], env={}, seconds=1, limit=1), "cannot be run: embedded null byte"),
        (lambda _: run_program(["/bin/true"], env={"A=": "x"}, seconds=1, limit=1), "cannot be run: illegal"),
    ],
    ids=["no descriptors", "a directory", "a NUL", "an odd environment"],
)
def test_what_cannot_be_run(start: Callable[[Path], object], expected: str, tmp_path: Path) -> None:
    with pytest.raises(ProgramError, match=expected):
        start(tmp_path)
