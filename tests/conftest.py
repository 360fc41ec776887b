"""What holds for every test: nothing is skipped where it could run, and no thread or database outlives its test."""

from __future__ import annotations

import importlib.metadata
import os
import sqlite3
import ssl
import tempfile
import threading
import time
import traceback
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from tests.support.fuzzing import cases
from tests.support.kube import opened, server  # noqa: F401 - fixtures

#: Root can run everything, and in CI nobody reads what was skipped: there a skipped test is a failed one.
NOTHING_IS_SKIPPED = os.geteuid() == 0 or os.environ.get("CI", "") not in ("", "0", "false")
#: How long a thread may take to end after its test, in seconds.
THREAD_GRACE_S = 3.0

# CI machines stall: how long one example takes says nothing.
hypothesis.settings.register_profile("kiptail", deadline=None, max_examples=cases(100))
hypothesis.settings.load_profile("kiptail")


@pytest.fixture(scope="session", autouse=True)
def _sockets_that_are_reset_before_tls_are_closed() -> Iterator[None]:
    """Python 3.11's ssl forgets to close one that is reset just before it is wrapped: that is no leak of ours."""
    original = ssl.SSLSocket._create.__func__  # type: ignore[attr-defined]

    def create(cls: type, *args: Any, **options: Any) -> ssl.SSLSocket:
        try:
            return original(cls, *args, **options)  # type: ignore[no-any-return]
        except OSError as error:
            for frame, _ in traceback.walk_tb(error.__traceback__):
                if frame.f_code is original.__code__ and "self" in frame.f_locals:
                    frame.f_locals["self"].close()
            raise

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ssl.SSLSocket, "_create", classmethod(create))
        yield


@pytest.fixture
def quick_path() -> Iterator[Path]:
    """As ``tmp_path``, in memory where that is possible: for tests that write, and sync, hundreds of files."""
    memory = Path("/dev/shm")  # noqa: S108 - the directory in it has a name of its own
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as directory:
        yield Path(directory)


def pytest_report_header() -> str:
    packages = (
        "systemd-python",
        "kubernetes",
        "cachetools",
        "click",
        "prometheus-client",
        "dnspython",
        "jinja2",
        "urllib3",
    )
    return "versions: " + ", ".join(f"{name} {_version(name)}" for name in packages)


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "missing"


def _fail_skipped(report: Any) -> Any:
    if NOTHING_IS_SKIPPED and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        report.outcome = "failed"
        report.longrepr = f"{report.nodeid}: may not be skipped as root or in CI. {reason}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, Any, Any]:
    return _fail_skipped((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, Any, Any]:
    return _fail_skipped((yield))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    skipped = terminalreporter.getreports("skipped")
    if skipped:
        terminalreporter.section("not tested here")
        terminalreporter.write_line(f"{len(skipped)} tests were skipped, for the reasons below; root can run all.")


@pytest.fixture(autouse=True)
def no_thread_outlives_its_test() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    deadline = time.monotonic() + THREAD_GRACE_S
    while (left := _left_since(before)) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not left, f"threads that outlived the test: {', '.join(thread.name for thread in left)}"


def _left_since(before: set[threading.Thread]) -> list[threading.Thread]:
    # A thread that Python did not start (a C library's) shows as a dummy and cannot be waited for.
    return [
        thread
        for thread in threading.enumerate()
        if thread not in before and not isinstance(thread, threading._DummyThread)
    ]


@pytest.fixture(autouse=True)
def no_database_outlives_its_test() -> Iterator[None]:
    """Python 3.13 warns of a connection that nobody closed, but when it is collected: in another test, or in none."""
    made: list[sqlite3.Connection] = []
    connect = sqlite3.connect

    def connect_and_note(*arguments: Any, **options: Any) -> sqlite3.Connection:
        made.append(connect(*arguments, **options))
        return made[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sqlite3, "connect", connect_and_note)
        yield
    left = [connection for connection in made if _is_open(connection)]
    for connection in left:
        connection.close()
    assert not left, f"{len(left)} of {len(made)} databases were left open by the test"


def _is_open(connection: sqlite3.Connection) -> bool:
    try:
        connection.total_changes  # noqa: B018 - the one question that has no other effect, in any thread
    except sqlite3.ProgrammingError:
        return False
    return True
