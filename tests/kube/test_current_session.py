"""The session in use, and when another takes its place. With real credentials and threads: test_transport.py."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kiptail.credentials.files import stamp
from kiptail.errors import ClusterError
from kiptail.kube.current_session import CurrentSession


class Opened:
    """A session of which it is seen whether it was closed."""

    def __init__(self, file: Path, number: int) -> None:
        self.number = number
        self.closed = False
        self.stamps = {file: stamp(file)}
        self.credential = self
        self.is_outdated = False

    def outdated(self) -> bool:
        return self.is_outdated

    def close(self) -> None:
        self.closed = True


class Opener:
    """Opens sessions, or fails as it is told to."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.opened: list[Opened] = []
        self.error = ""
        self.stopped: Callable[[], bool] = bool

    def __call__(self, stopped: Callable[[], bool]) -> Any:
        self.stopped = stopped
        if self.error:
            raise ClusterError(self.error)
        self.opened.append(Opened(self._file, len(self.opened)))
        return self.opened[-1]

    def closed(self) -> list[bool]:
        return [session.closed for session in self.opened]


@pytest.fixture
def opener(tmp_path: Path) -> Opener:
    file = tmp_path / "kubeconfig"
    file.write_text("a")
    return Opener(file)


def change(opener: Opener) -> None:
    (file,) = opener.opened[-1].stamps
    file.write_text("something else")


def test_it_stays_while_its_files_do(opener: Opener) -> None:
    current = CurrentSession(opener, files_check_s=0.0)
    assert current.fresh() is current.fresh() is current.latest
    assert opener.closed() == [False]


def test_another_takes_its_place_when_a_file_changes(opener: Opener) -> None:
    current = CurrentSession(opener, files_check_s=0.0)
    change(opener)
    assert current.fresh() is current.latest is opener.opened[1]
    assert opener.closed() == [True, False]


def test_another_takes_its_place_when_its_credential_is_outdated(opener: Opener) -> None:
    current = CurrentSession(opener, files_check_s=0.0)
    opener.opened[0].is_outdated = True
    assert current.fresh() is opener.opened[1]


def test_files_are_not_looked_at_all_the_time(opener: Opener) -> None:
    current = CurrentSession(opener, files_check_s=1000.0)
    change(opener)
    assert current.fresh() is opener.opened[0]


def test_it_stays_while_what_changed_cannot_be_used(opener: Opener, caplog: pytest.LogCaptureFixture) -> None:
    current = CurrentSession(opener, files_check_s=0.0)
    change(opener)
    opener.error = "no YAML"
    for _ in range(2):
        current._check_at = 0.0  # the pause after a failure is as long as the failure took
        assert current.fresh() is opener.opened[0]
    assert caplog.messages == ["still using the old credentials: no YAML"], "said once"
    opener.error = ""
    current._check_at = 0.0
    assert current.fresh() is opener.opened[1]


def test_after_a_401_another_takes_its_place_once(opener: Opener) -> None:
    refused: list[Any] = []
    current = CurrentSession(opener, files_check_s=1000.0, on_unauthorized=refused.append)
    first = current.latest
    current.renew(first, refused=True)
    current.renew(first, refused=True)
    assert (len(opener.opened), refused) == (2, [first])
    current.renew(current.latest, refused=False)
    assert (len(opener.opened), refused) == (3, [first]), "a gateway's page says nothing of the token"


def test_who_cannot_read_them_again_keeps_the_old_ones(opener: Opener) -> None:
    current = CurrentSession(opener, files_check_s=1000.0)
    opener.error = "gone"
    with pytest.raises(ClusterError, match="gone"):
        current.reload()
    with pytest.raises(ClusterError, match="gone"):
        current.renew(current.latest, refused=True)
    assert (current.latest, opener.closed()) == (opener.opened[0], [False])


def test_whoever_reads_credentials_hears_that_it_is_over(opener: Opener) -> None:
    current = CurrentSession(opener, files_check_s=0.0)
    assert not opener.stopped()
    current.stop()
    assert (opener.stopped(), opener.closed()) == (True, [False])
    current.close()
    assert opener.closed() == [True]
