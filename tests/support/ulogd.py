"""Debian's ulogd2 in a test's network namespace, whose lines go to a test's journald as those of a unit do."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.journald import Journald, fields_of, until

__all__ = ["CONFIGURATION", "UNIT", "in_unit", "needs_ulogd", "ulogd"]

ROOT = Path(__file__).parents[2]
#: What the package ships, for one group.
CONFIGURATION = ROOT / "packaging" / "ulogd" / "kiptail-ulogd.conf"
UNIT = "kiptail-ulogd@{group}.service"

_ULOGD = "/usr/sbin/ulogd"
#: journald takes a process' unit from its control group: version 2's, and where both are there, systemd's own as well.
_HIERARCHIES = [Path("/sys/fs/cgroup", name) for name in ("systemd", "unified", "")]
#: /dev is one for the whole machine, and what syslog(3) writes to is there.
_START = """
set -eu
mount -t tmpfs tmpfs /dev
mknod -m 666 /dev/null c 1 3
ln -s /run/systemd/journal/dev-log /dev/log
for file in "$@"; do echo $$ > "$file"; done
exec nsenter --net=/proc/self/fd/"$NETNS" "$ULOGD" -c "$CONFIGURATION"
"""


def needs_ulogd() -> None:
    """Skip the test where there is no ulogd2."""
    if not os.access(_ULOGD, os.X_OK):
        pytest.skip("needs ulogd2")


@contextmanager
def in_unit(slices: str, unit: str) -> Iterator[list[str]]:
    """Control groups as systemd makes them for ``unit``: the files whose writers journald finds in it."""
    made: list[Path] = []
    for hierarchy in _HIERARCHIES:
        if not (hierarchy / "cgroup.procs").exists():
            continue
        folder = hierarchy
        for name in (*slices.split("/"), unit):
            folder /= name
            with contextlib.suppress(FileExistsError):
                folder.mkdir()
                made.append(folder)
    try:
        yield [str(folder / "cgroup.procs") for folder in made if folder.name == unit]
    finally:
        for folder in reversed(made):
            # Another test may have its own beside it.
            with contextlib.suppress(OSError):
                folder.rmdir()


@contextmanager
def ulogd(journald: Journald, namespace: str, group: int, folder: Path, *, unit: str = "") -> Iterator[None]:
    """Have ulogd log what NFLOG rules of a named network namespace give to ``group``, until the end."""
    configuration = folder / f"ulogd-{group}.conf"
    plugins = next(Path("/usr").glob("lib*/**/ulogd_inppkt_NFLOG.so")).parent
    text = CONFIGURATION.read_text().replace("@GROUP@", str(group)).replace("@PLUGINS@", str(plugins))
    configuration.write_text(text)
    unit = unit or UNIT.format(group=group)
    # As a file that is open: journald's mount namespace has a /run of its own.
    with in_unit("system.slice", unit) as files, Path("/run/netns", namespace).open() as netns:
        environment = {**os.environ, "NETNS": str(netns.fileno()), "ULOGD": _ULOGD, "CONFIGURATION": str(configuration)}
        command = journald.command("unshare", "--mount", "--propagation", "private", "sh", "-c", _START, "sh", *files)
        process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, pass_fds=[netns.fileno()])
        try:
            until(lambda: _runs(journald, process.pid), "ulogd's start")
            yield
        finally:
            process.terminate()
            process.wait(10)


def _runs(journald: Journald, pid: int) -> bool:
    """Whether it has said that it listens."""
    journald.sync()
    said = (entry for entry in fields_of(journald.directory) if entry.get("_PID") == str(pid))
    return any("entering main loop" in entry["MESSAGE"] for entry in said)
