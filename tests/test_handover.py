"""An address changes hands while its pods lose packets, as recorded on a real node: each is counted on its own pod.

Everything but kernel and kubelet is real: journal, kiptail as a process, an API server. See tests/handover/README.md.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.recordings import RECORDINGS, Recording, Span
from tests.support.replay import Action, Plan, play

pytestmark = [
    pytest.mark.live,
    pytest.mark.timeout(300),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: a private mount namespace"),
]

INDEXES = ("node", "cluster")
#: So many are played at a time. They mostly sleep; what they need is the time that kiptail takes to start.
TOGETHER = 10
#: How long there is no API server before a's last packet, and after b's first one.
BROKEN_BEFORE_S, BROKEN_AFTER_S = 0.5, 1.5
#: Pairs of an end and a start for each recording and way to end.
PAIRS = 2
#: The last start is so long before b's last packet: b is gone soon after that, and then nobody can say whose the
#: packets were. kiptail takes a second or so to ask for pods, on a busy machine.
START_BEFORE_S = 3.0


@pytest.mark.parametrize("lag", [0.0, 0.5, 3.0, 20.0])
def test_each_packet_is_counted_on_the_pod_that_sent_it_however_late_the_news_of_pods_is(
    tmp_path: Path, lag: float
) -> None:
    _play_all(tmp_path, (Plan(name, index, lag=lag) for name in RECORDINGS for index in INDEXES))


def test_each_packet_is_counted_on_the_pod_that_sent_it_when_the_api_server_was_away_meanwhile(tmp_path: Path) -> None:
    _play_all(tmp_path, (Plan(name, index, broken=_around_change(name)) for name in RECORDINGS for index in INDEXES))


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_each_packet_is_counted_on_the_pod_that_sent_it_when_kiptail_was_away_meanwhile(
    tmp_path: Path, end: str
) -> None:
    plans = (
        Plan(name, INDEXES[number % 2], actions=_away(name, end, number))
        for name in RECORDINGS
        for number in range(PAIRS)
    )
    _play_all(tmp_path, plans)


def _play_all(directory: Path, plans: Iterable[Plan]) -> None:
    def play_one(numbered: tuple[int, Plan]) -> str:
        number, plan = numbered
        try:
            outcome = play(directory / str(number), plan)
        except AssertionError as error:
            # The others' outcomes are worth having, too.
            return f"{plan}: {error}"
        return str(outcome) if outcome.wrong else ""

    with ThreadPoolExecutor(TOGETHER, thread_name_prefix="play") as pool:
        wrong = [text for text in pool.map(play_one, enumerate(plans)) if text]
    if wrong:
        pytest.fail(f"{len(wrong)} went wrong\n" + "\n".join(wrong), pytrace=False)


def _around_change(name: str) -> Span:
    recording = Recording.load(name)
    return Span(
        recording.since_began("a", -1) - BROKEN_BEFORE_S,
        recording.since_began("b", 0) + BROKEN_AFTER_S,
    )


def _away(name: str, end: str, number: int) -> tuple[Action, Action]:
    """An end at any moment between a's first packet and b's last ones, and a start at any later one.

    The same ones each time. Every other end is before b's first packet: that is where the most can go wrong.
    """
    chance = random.Random(f"{name} {end} {number}")
    recording = Recording.load(name)
    first, last = recording.since_began("a", 0), recording.since_began("b", -1) - START_BEFORE_S
    ended = chance.uniform(first, recording.since_began("b", 0) if number % 2 else last)
    return Action(ended, end), Action(chance.uniform(ended, last), "start")
