"""What systemd and scrapers see of a run."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.request import urlopen

import pytest

from kiptail.daemon.metrics import Metrics
from kiptail.daemon.observer import Reading, Unobserved
from kiptail.daemon.presence import Presence


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


class Systemd:
    """The other end of $NOTIFY_SOCKET."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.socket.bind(str(path))

    def heard(self) -> list[str]:
        """What has come since it was asked last."""
        messages = []
        while True:
            try:
                messages.append(self.socket.recv(4096).decode())
            except BlockingIOError:
                return messages


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Systemd]:
    heard = Systemd(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    with closing(heard.socket):
        yield heard


def presence(stack: ExitStack, *, dry_run: bool = False, address: tuple[str, int] | None = None) -> Presence:
    settings: Any = SimpleNamespace(dry_run=dry_run, metrics_address=address)
    return Presence(settings, stack)


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_systemd_hears_from_the_start_to_the_end(stack: ExitStack, systemd: Systemd) -> None:
    told = presence(stack)
    told.ready()
    told.status("9 drops counted")
    told.stopping()
    assert systemd.heard() == ["READY=1", "STATUS=9 drops counted", "STOPPING=1"]


def test_a_start_that_waits_is_alive_and_says_for_what(stack: ExitStack, systemd: Systemd) -> None:
    presence(stack).waiting("the disk\nis full")
    ready, alive, status = systemd.heard()
    assert (ready, alive) == ("READY=1", "WATCHDOG=1")
    assert status.startswith("STATUS=the disk")
    assert "\n" not in status


def test_the_watchdog_hears_as_often_as_it_asks_to(
    stack: ExitStack, systemd: Systemd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "60000000")
    told = presence(stack)
    for now in (100.0, 101.0, 129.9, 130.0, 131.0):
        told.beat(now)
    assert systemd.heard() == ["WATCHDOG=1"] * 2


def test_who_does_not_watch_hears_nothing(stack: ExitStack, systemd: Systemd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    presence(stack).beat(100.0)
    assert systemd.heard() == []


def test_metrics_are_served_with_what_is_read(stack: ExitStack) -> None:
    port = free_port()
    told = presence(stack, address=("127.0.0.1", port))
    assert isinstance(told.observer, Metrics)
    readings: Any = SimpleNamespace(read=lambda: [Reading("kiptail_things", "Things.", 7)])
    told.read_from(readings)
    told.serve(lambda: ["not yet"])
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        assert b"kiptail_things_total 7.0" in answer.read()


@pytest.mark.parametrize(("dry_run", "address"), [(True, ("127.0.0.1", 1)), (False, None)])
def test_a_run_that_serves_nothing_observes_nothing(
    dry_run: bool, address: tuple[str, int] | None, stack: ExitStack
) -> None:
    told = presence(stack, dry_run=dry_run, address=address)
    assert isinstance(told.observer, Unobserved)
    nothing: Any = None
    told.read_from(nothing)
    told.serve(list)


def test_a_port_that_is_taken_ends_no_run(stack: ExitStack, caplog: pytest.LogCaptureFixture) -> None:
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        presence(stack, address=("127.0.0.1", port)).serve(list)
    assert caplog.messages == [f"no metrics: cannot listen on 127.0.0.1:{port}: Address already in use"]
