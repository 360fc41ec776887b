"""The state directory on a disk of one mebibyte that is full: kiptail says so, waits, and then everything is right."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.apiserver.process import ServerProcess
from tests.crash.scenarios import LEFT, NEW_PAIRS, PORT, RIGHT, SOON, WATCHDOG, told, wait_until_told
from tests.support.running import Kiptail
from tests.support.scene import Scene, scene
from tests.support.tally import differences, miscounted

pytestmark = [
    pytest.mark.live,
    pytest.mark.timeout(600),  # other test runs on this machine are waited for: see tests.support.netns.all_netns
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: network namespaces, nft, /dev/kmsg and journald"),
]

#: Of drops that are not committed, reading stops at so many, and at what a batch has more.
MOST_UNCOMMITTED = 10_000 + 1_000
FIRST = (LEFT[10], RIGHT[10])


class Disk:
    """A tmpfs that only kiptail and this object see: it is in journald's private mount namespace, and ends with it."""

    def __init__(self, node: Scene) -> None:
        self._node, self._mount = node, node.directory / "disk"
        self._mount.mkdir()
        node.journald.run("mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(self._mount))
        #: As it is seen from here.
        self._root = node.journald.inside / str(self._mount).lstrip("/")

    def fill(self) -> None:
        """Leave no room for another byte."""
        with (self._root / "ballast").open("ab", buffering=0) as ballast:
            for size in (65_536, 1):
                with contextlib.suppress(OSError):
                    while True:
                        ballast.write(b"\0" * size)
        with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
            (self._root / "more").write_bytes(b"x")
        (self._root / "more").unlink()

    def free(self) -> None:
        """Give the room back."""
        (self._root / "ballast").unlink()

    def kiptail(self, server: ServerProcess) -> Kiptail:
        """A kiptail whose state is on this disk."""
        within = self._node.journald.command()
        return self._node.kiptail(server.kubeconfig, state=self._mount / "state", within=within, **WATCHDOG)


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Scene]:
    with scene(tmp_path, {"left": LEFT, "right": RIGHT}) as node:
        yield node


@pytest.fixture
def server(node: Scene, tmp_path: Path) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path / "cluster", node.pod_objects()) as server:
        yield server


@pytest.fixture
def disk(node: Scene) -> Disk:
    return Disk(node)


def begin(node: Scene, server: ServerProcess, kiptail: Kiptail) -> None:
    """A flow that is told while there is room."""
    node.drop(*FIRST, PORT)
    kiptail.wait_for(lambda: told(server.events(), *FIRST, 1), "told while there is room")


def drop_ten(node: Scene) -> None:
    for source, target in NEW_PAIRS:
        node.drop(source, target, PORT)


def says_full(kiptail: Kiptail, disk: Disk) -> None:
    """The log and STATUS name the trouble, when the room that folding the write-ahead log gives is gone as well."""

    def status_says_so() -> bool:
        disk.fill()
        return any(re.match("STATUS=.*(disk is full|no space)", note, re.IGNORECASE) for note in kiptail.notes)

    kiptail.wait_for(lambda: re.search("disk is full|no space", kiptail.log, re.IGNORECASE), "the log says so")
    kiptail.wait_for(status_says_so, "STATUS says so")


def lives(kiptail: Kiptail, seconds: float) -> None:
    """It neither ends nor forgets the watchdog."""
    signs = kiptail.notes.count("WATCHDOG=1")
    kiptail.watch(seconds)
    assert kiptail.notes.count("WATCHDOG=1") - signs >= seconds / 2 - 1


def is_right(node: Scene, server: ServerProcess, directory: Path) -> None:
    """Every line is in the Events, which are those of a kiptail that never had the trouble."""
    assert not miscounted(node.lines(), server.events(), node.pods)
    with ServerProcess(directory / "undisturbed", node.pod_objects()) as other:
        node.read_at_once(other.kubeconfig)
        assert not differences(server.events(), other.events())


def test_a_disk_that_becomes_full_delays_what_is_told_and_changes_nothing_of_it(
    node: Scene, server: ServerProcess, disk: Disk, tmp_path: Path
) -> None:
    with disk.kiptail(server) as kiptail:
        begin(node, server, kiptail)
        disk.fill()
        before = server.events()
        drop_ten(node)
        node.drop(*FIRST, PORT, 3)
        says_full(kiptail, disk)
        lives(kiptail, 4.0)
        assert server.events() == before, "nothing is sent that is not committed"
        assert len(re.findall("disk is full", kiptail.log)) < 5, "said when it begins, not each time it is met"
        disk.free()
        wait_until_told(kiptail, server.events)
        kiptail.wait_for(lambda: told(server.events(), *FIRST, 4), "the flow that went on", SOON)
        assert kiptail.stop() == 0
    is_right(node, server, tmp_path)


def test_reading_stops_at_a_number_of_uncommitted_drops_and_goes_on_when_there_is_room(
    node: Scene, server: ServerProcess, disk: Disk, tmp_path: Path
) -> None:
    with disk.kiptail(server) as kiptail:
        begin(node, server, kiptail)
        disk.fill()
        for _ in range(15_000 // 50):
            node.drop(*FIRST, PORT, 50)
            kiptail.watch(0.01)
            disk.fill()  # the room, too, that folding the write-ahead log gives
        lines = sum(node.lines().values())
        assert lines > MOST_UNCOMMITTED, "the kernel log had room for enough of them"
        kiptail.watch(6.0)  # STATUS comes every five
        assert 10_000 <= kiptail.counted <= MOST_UNCOMMITTED
        disk.free()
        kiptail.wait_for(lambda: told(server.events(), *FIRST, lines), f"{lines} of them")
        assert kiptail.stop() == 0
    is_right(node, server, tmp_path)


def test_a_crash_while_the_disk_is_full_loses_nothing(
    node: Scene, server: ServerProcess, disk: Disk, tmp_path: Path
) -> None:
    with disk.kiptail(server) as kiptail:
        begin(node, server, kiptail)
        disk.fill()
        drop_ten(node)
        says_full(kiptail, disk)
        kiptail.kill()
    disk.free()
    with disk.kiptail(server) as kiptail:
        wait_until_told(kiptail, server.events)
        assert kiptail.stop() == 0
    is_right(node, server, tmp_path)


@pytest.mark.parametrize("known", [False, True], ids=["no state yet", "a state from before"])
def test_a_disk_that_is_full_at_start_is_waited_for(
    node: Scene, server: ServerProcess, disk: Disk, tmp_path: Path, known: bool
) -> None:
    if known:
        with disk.kiptail(server) as kiptail:
            begin(node, server, kiptail)
            assert kiptail.stop() == 0
    disk.fill()
    before = server.events()
    drop_ten(node)
    with disk.kiptail(server) as kiptail:
        says_full(kiptail, disk)
        lives(kiptail, 4.0)
        assert server.events() == before, "nothing is sent that is not committed"
        disk.free()
        wait_until_told(kiptail, server.events)
        assert kiptail.stop() == 0
    is_right(node, server, tmp_path)


def test_whoever_waits_for_room_can_be_stopped(node: Scene, server: ServerProcess, disk: Disk) -> None:
    disk.fill()
    with disk.kiptail(server) as kiptail:
        says_full(kiptail, disk)
        begin = time.monotonic()
        assert kiptail.stop() == 0
        assert time.monotonic() - begin < 10


def test_a_mebibyte_is_enough_for_many_commits(node: Scene, server: ServerProcess, disk: Disk, tmp_path: Path) -> None:
    """SQLite's write-ahead log grows with each commit until it is checkpointed: that has to be soon enough."""
    with disk.kiptail(server) as kiptail:
        # A new flow is committed at once: these are as many commits as one that goes on makes in minutes.
        for source, target in NEW_PAIRS:
            for port in range(1_000, 1_018):
                node.drop(source, target, port)
                kiptail.watch(0.02)
        kiptail.wait_for(lambda: sum(event["count"] for event in server.events()) == 2 * node.sent, "all are told")
        assert "disk is full" not in kiptail.log
        assert kiptail.stop() == 0
    is_right(node, server, tmp_path)
