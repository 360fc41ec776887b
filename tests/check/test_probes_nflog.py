"""What is found of units that run ulogd2."""

from __future__ import annotations

from pathlib import Path

import pytest

from kiptail.check.facts import NflogFacts
from kiptail.check.probes import nflog
from kiptail.config.settings import Settings, resolve
from kiptail.netfilter.prefixes import Verdict
from tests.journal.test_units import EMPTY, START, SUPPRESSED_MESSAGE_ID, UNIT, entry, of_kernel
from tests.support.journald import export_to_journal

NOW = START / 1e6 + 60


def settings(tmp_path: Path, directory: Path | None) -> Settings:
    file = tmp_path / "kiptail.toml"
    file.write_text('[[nflog]]\ngroup = 100\nprofile = "k3s"\n')
    flags = {"journal_directory": str(directory)} if directory else {}
    return resolve(flags, {}, now_us=0, default_config=file)


def test_lines_of_the_last_hour(tmp_path: Path) -> None:
    notice = {"_TRANSPORT": "driver", "MESSAGE_ID": SUPPRESSED_MESSAGE_ID}
    old = entry(-5_000_000)
    entries = [
        old,
        entry(0),
        entry(1, "DROP by policy a/b" + EMPTY),
        entry(2, "other:" + EMPTY),
        entry(3, "We are losing events, increasing buffer size to 1"),
        entry(4, _SYSTEMD_UNIT="user@1000.service"),
        of_kernel(5, f"Suppressed 7 messages from {UNIT}", **notice),
        of_kernel(6, "Suppressed 8 messages from cron.service", **notice),
        of_kernel(7),
        entry(8, SYSLOG_IDENTIFIER="sh"),
    ]
    # An entry's monotonic time is not negative.
    old["__MONOTONIC_TIMESTAMP"] = 1
    export_to_journal(entries, tmp_path / "journal" / "x.journal")
    (found,) = nflog.gather_nflog(settings(tmp_path, tmp_path / "journal"), now=NOW)
    assert found == NflogFacts(
        UNIT,
        "NFLOG group 100",
        100,
        Verdict.REJECT,
        installed=found.installed,
        counted=2,
        uncounted=1,
        overruns=1,
        suppressed=7,
    )


def test_a_journal_that_cannot_be_read_is_a_finding_of_its_own(tmp_path: Path) -> None:
    (found,) = nflog.gather_nflog(settings(tmp_path, tmp_path / "none"), now=NOW)
    assert (found.counted, found.uncounted) == (0, 0)


def test_who_listens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listeners = tmp_path / "nfnetlink_log"
    monkeypatch.setattr(nflog, "_LISTENERS", listeners)
    assert nflog._listener(100) == "", "no such file"
    listeners.write_text("    7  4194999     0 2 65535     100  1\n  100      1     0 2 65535     100  1\n")
    assert nflog._listener(100) == Path("/proc/1/comm").read_text().strip()
    assert nflog._listener(7) == "process 4194999"
    assert nflog._listener(8) == ""


def test_who_else_listens_than_the_unit_for_the_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listeners = tmp_path / "nfnetlink_log"
    monkeypatch.setattr(nflog, "_LISTENERS", listeners)
    monkeypatch.setattr(nflog, "_PROC", tmp_path)
    processes = {
        100: ("ulogd", f"0::/system.slice/system-kiptail\\x2dulogd.slice/{UNIT}"),
        7: ("ulogd", f"0::/system.slice/{UNIT}"),
        8: ("felix", "1:name=systemd:/kubepods.slice/x.scope"),
    }
    rows = ["    9  999     0 2 65535     0  1"]
    for number, (name, group) in processes.items():
        folder = tmp_path / f"{number}1"
        folder.mkdir()
        (folder / "comm").write_text(f"{name}\n")
        (folder / "cgroup").write_text(f"{group}\n")
        rows.append(f"{number:5}  {number}1     0 2 65535     0  1")
    listeners.write_text("".join(f"{row}\n" for row in rows))
    assert nflog.gather_listeners([100, 7, 8, 9, 10]) == {7: "ulogd", 8: "felix", 9: "process 999"}


def test_the_state_of_a_unit_where_there_is_no_systemd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nflog, "_PATH", "/nowhere")
    assert nflog._state(UNIT) in ("", "inactive")
