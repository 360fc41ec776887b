"""What `kiptail report` says of lines and flow records that a test has, by way of a real journal file."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from kiptail.config.settings import Settings, resolve
from kiptail.report.run import By, CountedBy, Period, Wanted, made
from kiptail.report.summary import Report
from tests.support.journald import BOOT, GrowingJournal, kernel_entry

__all__ = ["MACHINE", "record_entry", "reported", "settings_of", "written_journal"]

SECOND = 1_000_000
#: The one that wrote :func:`kernel_entry`'s lines.
MACHINE = "3000000000000000000000000000000d"


def record_entry(fields: Mapping[str, str], *, realtime_us: int, monotonic_us: int, **more: Any) -> dict[str, Any]:
    """A flow record as journald stores it of kiptail's unit; a field given as None is left out."""
    entry: dict[str, Any] = {
        "__REALTIME_TIMESTAMP": realtime_us,
        "__MONOTONIC_TIMESTAMP": monotonic_us,
        "_BOOT_ID": BOOT,
        "_MACHINE_ID": MACHINE,
        "_HOSTNAME": "node-1",
        "_TRANSPORT": "journal",
        "_SYSTEMD_UNIT": "kiptail.service",
        "SYSLOG_IDENTIFIER": "kiptail",
        **fields,
        **more,
    }
    return {key: value for key, value in entry.items() if value is not None}


def written_journal(
    path: Path, lines: Iterable[tuple[int, str]], records: Iterable[Mapping[str, str]], **more: Any
) -> None:
    """A journal with kernel lines, by when they were logged (µs), and then with records, a second apart.

    ``more`` is as :func:`record_entry` takes it.
    """
    lines = sorted(lines)
    begin_us = lines[0][0] - 3_600 * SECOND if lines else 1_795_000_000 * SECOND
    end_us = lines[-1][0] if lines else begin_us
    with GrowingJournal(path) as journal:
        journal.extend(kernel_entry(line, realtime_us=at_us, monotonic_us=at_us - begin_us) for at_us, line in lines)
        journal.extend(
            record_entry(fields, realtime_us=at_us, monotonic_us=at_us - begin_us, **more)
            for at_us, fields in zip(itertools.count(end_us + SECOND, SECOND), records)
        )


def settings_of(directory: Path, prefix: str = "calico-drop:", **flags: object) -> Settings:
    """Those of a report of the journal files in ``directory``, in which pods.json is, if it is there."""
    config = directory / "kiptail.toml"
    config.write_text("")
    pods = directory / "pods.json"
    given = {
        "config": str(config), "journal_directory": str(directory), "prefix": (prefix,), "dry_run": True,
        "no_follow": True, "pods": str(pods) if pods.exists() else None, "kubeconfig": str(directory / "none"), **flags,
    }  # fmt: skip
    return resolve(given, {}, now_us=4_000_000_000 * SECOND)


def reported(
    settings: Settings, by: CountedBy = CountedBy.AUTO, period: Period | None = None, policies: tuple[Path, ...] = ()
) -> Report:
    """The report."""
    wanted = Wanted(
        settings=settings,
        period=period or Period(),
        counted_by=by,
        policies=policies,
        cluster_named=False,
        by=By.POD,
        most=10,
        output="json",
    )
    return made(wanted, lambda _: lambda _part, _count: None)


def scratch() -> tempfile.TemporaryDirectory[str]:
    """A directory for one example."""
    return tempfile.TemporaryDirectory(prefix="kiptail-report-")
