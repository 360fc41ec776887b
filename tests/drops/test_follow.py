"""A list and a watch of Events, again and again."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kiptail.drops.changes import Change
from kiptail.drops.follow import Failed, Follower, Listed, Remark, Update
from kiptail.drops.wanted import Wanted
from kiptail.kube.event_reads import EventReader
from tests.apiserver import ApiServer
from tests.apiserver.faults import Disturbance
from tests.support.drops import drop_event

WANTED = Wanted(namespace="team-a", reason="PacketDrop")
#: The time in which a new drop has to be seen, in seconds.
SOON = 2.0


@pytest.fixture
def following(server: ApiServer, tmp_path: Path) -> Iterator[Callable[..., Follower]]:
    """Begins to follow as a user who has ``verbs`` on the Events of team-a."""
    with contextlib.ExitStack() as stack:

        def begin(verbs: str = "list watch") -> Follower:
            token = server.add_user("jane")
            server.grant("jane", verbs, "events", namespace="team-a")
            api = EventReader.from_kubeconfig(server.kubeconfig(tmp_path / "kubeconfig", token=token))
            stack.callback(api.close)
            return stack.enter_context(Follower(api, WANTED))

        yield begin


def until(follower: Follower, wanted: Callable[[Update], object], seconds: float = 10.0) -> list[Update]:
    """What came up to the update for which ``wanted`` holds."""
    came: list[Update] = []
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        update = follower.next(left)
        if update is not None:
            came.append(update)
            if wanted(update):
                return came
    raise AssertionError(came)


def shows(pod: str) -> Callable[[Update], bool]:
    def found(update: Update) -> bool:
        rows = update.rows if isinstance(update, Listed) else [update.row] if isinstance(update, Change) else []
        return any(row is not None and row.pod == pod for row in rows)

    return found


def test_what_is_there_is_listed_and_what_comes_is_watched(
    server: ApiServer, following: Callable[..., Follower]
) -> None:
    server.events.put(drop_event("web-0"))
    follower = following()
    (listed,) = until(follower, lambda update: isinstance(update, Listed))
    assert shows("web-0")(listed)
    server.wait_for(server.watches)
    server.events.put(drop_event("web-1"))
    assert all(isinstance(update, Change) for update in until(follower, shows("web-1"), SOON))
    assert len(server.requests(path_prefix="/api/v1/namespaces/team-a/events")) == 2


@pytest.mark.parametrize("disturbance", [each for each in Disturbance if each is not Disturbance.SILENCE])
def test_a_watch_that_ends_is_begun_anew(
    server: ApiServer, following: Callable[..., Follower], disturbance: Disturbance
) -> None:
    follower = following()
    until(follower, lambda update: isinstance(update, Listed))
    server.wait_for(server.watches)
    server.disturb(disturbance)
    server.events.put(drop_event("web-1"))
    until(follower, shows("web-1"))


def test_who_may_not_watch_sees_lists(server: ApiServer, following: Callable[..., Follower]) -> None:
    follower = following("list")
    came = until(follower, lambda update: isinstance(update, Remark))
    assert came[-1] == Remark("may not watch events, so they are listed every 1 s")
    server.events.put(drop_event("web-1"))
    until(follower, shows("web-1"), SOON)
    assert len(server.requests(path_prefix="/api/v1/namespaces/team-a/events")) < 6


def test_without_the_right_it_is_over_at_once(following: Callable[..., Follower]) -> None:
    (failed,) = until(following("watch"), lambda update: isinstance(update, Failed))
    assert isinstance(failed, Failed)
    assert "it takes the right to list events in namespace team-a" in str(failed.error)


def test_an_outage_is_said_once_and_lasts_as_long_as_it_lasts(
    server: ApiServer, following: Callable[..., Follower]
) -> None:
    follower = following()
    until(follower, lambda update: isinstance(update, Listed))
    server.wait_for(server.watches)
    server.stop()
    until(follower, lambda update: isinstance(update, Remark) and update.text.startswith("trying again: "))
    server.start()
    server.events.put(drop_event("web-1"))
    came = until(follower, lambda update: update == Remark("the API server answers again"), 20.0)
    assert any(map(shows("web-1"), came))
    assert sum(isinstance(update, Remark) for update in came) == 1
