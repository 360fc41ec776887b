"""What a start waits for."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from kiptail.admin.manifests import dedicated
from kiptail.config.settings import Settings, resolve
from kiptail.credentials.identity import NOBODY, Identity
from kiptail.daemon import startup
from kiptail.daemon.machine import machine_id
from kiptail.daemon.signals import StopSignal
from kiptail.daemon.startup import Stopped, ask_cluster, open_store
from kiptail.errors import ApiError, ClusterError, StateError, StoreUnavailableError
from kiptail.kube.rights import Right, Wanted
from kiptail.state.store import Store
from tests.apiserver import ApiServer
from tests.support.journald import export_to_journal, kernel_entry
from tests.support.running import Kiptail, with_file


@pytest.fixture
def stop() -> Iterator[StopSignal]:
    with ExitStack() as stack:
        yield StopSignal(stack)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(startup, "RETRY_INTERVAL", 0.02)


def settings(directory: Path, **flags: object) -> Settings:
    given = {"prefix": ("p:",), "state_directory": str(directory), "kubeconfig": "/nowhere", **flags}
    return resolve(given, {}, now_us=0, default_config=Path("/nonexistent"))


class FullDisk:
    """Refuses so many times."""

    def __init__(self, times: int) -> None:
        self.times = times
        self.open = Store.open

    def __call__(self, directory: Path, machine_id: str) -> Store:
        self.times -= 1
        if self.times >= 0:
            raise StoreUnavailableError("the disk is full")
        return self.open(directory, machine_id)


def test_a_full_disk_is_waited_for_and_said_once(
    tmp_path: Path, stop: StopSignal, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr(Store, "open", FullDisk(3))
    waited: list[str] = []
    open_store(settings(tmp_path), stop, waited.append).close()
    assert waited == ["the disk is full"] * 3
    assert [record.levelname for record in caplog.records] == ["ERROR", "INFO"]


def test_a_stop_ends_the_wait(tmp_path: Path, stop: StopSignal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Store, "open", FullDisk(1_000_000))
    monkeypatch.setattr(startup, "RETRY_INTERVAL", 60.0)
    timer = threading.Timer(0.1, signal.raise_signal, [signal.SIGTERM])
    timer.start()
    with pytest.raises(Stopped):
        open_store(settings(tmp_path), stop, lambda _reason: None)
    timer.join()


def test_a_run_that_ends_with_the_journal_does_not_wait(
    tmp_path: Path, stop: StopSignal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Store, "open", FullDisk(1))
    with pytest.raises(StoreUnavailableError):
        open_store(settings(tmp_path, no_follow=True), stop, lambda _reason: None)


def test_what_waiting_does_not_mend_is_not_waited_for(tmp_path: Path, stop: StopSignal) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError):
        open_store(settings(tmp_path / "file" / "state"), stop, lambda _reason: None)


@pytest.mark.live
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: a mount namespace with another machine's id")
def test_a_start_says_in_one_line_what_it_does_not_read_on(server: ApiServer, tmp_path: Path) -> None:
    """Of another machine's state, and of a damaged one: each time it starts anew, and goes on with its own."""
    server.apply(dedicated())
    journal, state, id_file = tmp_path / "journal", tmp_path / "state", tmp_path / "machine-id"
    export_to_journal([kernel_entry("x", realtime_us=1, monotonic_us=1)], journal / "system.journal")
    arguments = (
        "--kubeconfig", server.kubeconfig(tmp_path / "kubeconfig"), "--state-directory", state, "--prefix", "x:",
        "--journal-directory", journal, "--metrics-address", "off",
    )  # fmt: skip

    def start(digit: str) -> list[str]:
        id_file.write_text(digit * 32 + "\n")
        with Kiptail(tmp_path, *arguments, within=with_file(id_file, Path("/etc/machine-id"))) as kiptail:
            assert kiptail.stop() == 0
            log = kiptail.log
        assert "Traceback" not in log
        return [line for line in log.splitlines() if "starting anew" in line]

    assert start("a") == start("a") == []
    (line,) = start("b")
    assert "is another machine's" in line
    assert start("b") == []
    assert "b" * 32 not in (state / "state.sqlite").read_bytes().decode("latin-1"), "machine-id(5) asks not to tell it"
    with (state / "state.sqlite").open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 4096)
    (line,) = start("b")
    assert "the state file was damaged" in line
    assert len(list(state.glob("state.sqlite.foreign-*"))) == len(list(state.glob("state.sqlite.damaged-*"))) == 1


@pytest.mark.live
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: a mount namespace with another machine's id")
@pytest.mark.parametrize("text", ["", "uninitialized\n", "no id\n", "0" * 32 + "\n"])
def test_a_machine_without_an_id_is_none_in_particular(tmp_path: Path, text: str) -> None:
    (tmp_path / "machine-id").write_text(text)
    asked = [sys.executable, "-c", "from kiptail.daemon.machine import machine_id; print(repr(machine_id()))"]
    within = with_file(tmp_path / "machine-id", Path("/etc/machine-id"))
    done = subprocess.run([*within, *asked], capture_output=True, text=True, timeout=20, check=True)
    assert done.stdout == "''\n"


def test_a_machine_is_known_by_an_id_of_kiptails_own() -> None:
    assert re.fullmatch(r"[0-9a-f]{32}|", machine_id())
    try:
        real = Path("/etc/machine-id").read_text().strip()
    except OSError:
        real = ""
    assert machine_id() != real or not real


class Cluster:
    """Says the same to everyone, or nothing."""

    server = "https://cluster"

    def __init__(self, answer: bool | ApiError | threading.Event) -> None:
        self.answer = answer

    def allowed(
        self,
        verb: str,
        resource: str,
        *,
        group: str = "",
        field_selector: tuple[str, str] | None = None,
        namespace: str = "",
        name: str = "",
    ) -> bool | None:
        if isinstance(self.answer, threading.Event):
            self.answer.wait(10)
            return None
        if isinstance(self.answer, ApiError):
            raise self.answer
        return self.answer

    def identity(self) -> Identity:
        return NOBODY


RIGHTS = (Wanted(Right("list", "pods", "so it is blind")),)
POSTING = (Wanted(Right("create", "events", "so it is mute")),)


def test_a_refusal_ends_the_start(stop: StopSignal) -> None:
    with pytest.raises(ClusterError, match="list pods") as caught:
        ask_cluster(Cluster(False), RIGHTS, stop, must_answer=False, patience=5.0)
    assert "kiptail manifests" in str(caught.value), "what grants it"
    with pytest.raises(ClusterError, match="create events") as caught:
        ask_cluster(Cluster(False), POSTING, stop, must_answer=False, patience=5.0)
    assert "kubelet" not in str(caught.value)


def test_a_silent_server_is_not_waited_for_long(stop: StopSignal, caplog: pytest.LogCaptureFixture) -> None:
    released = threading.Event()
    ask_cluster(Cluster(released), RIGHTS, stop, must_answer=False, patience=0.1)
    released.set()
    assert "does not answer yet" in caplog.text


def test_an_absent_server_matters_only_to_those_who_need_it(stop: StopSignal) -> None:
    ask_cluster(Cluster(ApiError("refused")), RIGHTS, stop, must_answer=False, patience=5.0)
    with pytest.raises(ClusterError, match="does not answer"):
        ask_cluster(Cluster(ApiError("refused")), RIGHTS, stop, must_answer=True, patience=5.0)
