"""Whose turn it is to be written."""

from __future__ import annotations

import math
from dataclasses import dataclass

from kiptail.events.schedule import Schedule
from kiptail.events.turns import Turns
from kiptail.events.writer import Again, Sender
from tests.events.test_poster import EventServer
from tests.support.clock import Clock


@dataclass
class Waiting:
    """An Event, as far as its turn goes."""

    number: int
    writes: int = 0
    sent_at_us: int = 0

    @property
    def key(self) -> tuple[int, str, str]:
        return (self.number, "src", "uid")


def turns(clock: Clock, *, hold: bool = False) -> tuple[Turns, Sender]:
    sender = Sender(EventServer(), paced=False, observe=lambda operation, result: None, clock=clock)
    return Turns(Schedule(60.0, ()), sender, hold=hold, clock=clock), sender


def test_each_has_its_turn_once() -> None:
    clock = Clock()
    made, _ = turns(clock)
    for number in (1, 2):
        made.plan(Waiting(number), now_us=0)
    assert (made.due, made.unposted, made.ending) == (clock(), 2, False)
    taken = [made.take() for _ in range(3)]
    assert [turn and turn[1][0] for turn in taken] == [1, 2, None]
    assert (made.due, made.unposted) == (None, 0)


def test_nothing_has_its_turn_while_it_is_held_but_in_the_last_round() -> None:
    made, _ = turns(Clock(), hold=True)
    made.plan(Waiting(1), now_us=0)
    assert (made.due, made.take()) == (None, None)
    made.last_round([Waiting(1)], retry=False)
    assert made.ending
    assert made.due is not None
    turn = made.take()
    assert turn is not None
    assert turn[1][0] == 1


def test_nothing_has_its_turn_before_the_servers_pause_is_over() -> None:
    clock = Clock()
    made, sender = turns(clock)
    made.plan(Waiting(1), now_us=0)
    sender.paused_until = clock() + 3.0
    assert (made.due, made.take()) == (clock() + 3.0, None)
    clock.now += 3.0
    assert made.take() is not None


def test_what_did_not_succeed_comes_again_in_its_old_turn_or_after_the_pause() -> None:
    clock = Clock()
    made, _ = turns(clock)
    one, other = Waiting(1), Waiting(2)
    for event in (one, other):
        made.plan(event, now_us=0)
    taken = made.take()
    assert taken is not None
    clock.now += 1.0
    made.again(one, taken[0], Again(math.nan, unreachable=True))
    assert made.due == taken[0], "nobody answered: what came first is first"
    clock.now += 1.0
    assert made.take() is not None
    assert made.take() is not None
    made.again(other, taken[0], Again(5.0))
    assert made.due == clock() + 5.0
