"""Each drop is tallied once."""

from __future__ import annotations

from dataclasses import replace

from kiptail.events.counting import Counting
from kiptail.events.endpoint import Endpoint, Kind
from kiptail.events.stages import Tracked
from kiptail.events.tally import Tally
from kiptail.flows.flow import Flow
from tests.events.test_poster import CLIENT, HEIR, WEB, flow

SRC, DST = Endpoint(Kind.POD, "10.0.0.1", (CLIENT,)), Endpoint(Kind.POD, "10.0.0.2", (WEB,))
EITHER = Endpoint(Kind.AMBIGUOUS, "10.0.0.1", (CLIENT, HEIR))


class Book:
    """What is counted, and the tally behind it."""

    def __init__(self) -> None:
        self.tally = Tally()
        self.counting = Counting(self.tally)

    def arrives(self, made: Flow, tracked: Tracked | None = None) -> Tracked:
        """As the recorder takes a flow in."""
        if tracked is None:
            tracked = Tracked(made, 0.0)
            self.counting.arrived(tracked)
        else:
            tracked.flow = made
            self.counting.changed(tracked)
        self.counting.count(tracked)
        return tracked

    def attributed(self, tracked: Tracked, src: Endpoint = SRC) -> None:
        tracked.endpoints = {"src": src, "dst": DST}
        self.counting.count(tracked)

    def received(self) -> int:
        return sum(count for labels, count in self.tally.items() if labels.direction == "received")


def test_a_flow_is_tallied_once_it_is_attributed_and_then_as_it_grows() -> None:
    book = Book()
    tracked = book.arrives(flow(count=3))
    assert book.received() == 0
    book.attributed(tracked)
    assert book.received() == 3
    for count in (5, 5, 9):
        book.arrives(flow(count=count), tracked)
    assert book.received() == 9
    assert book.counting.ambiguous == 0


def test_what_a_flow_loses_to_another_is_not_tallied_there_once_more() -> None:
    book = Book()
    whole = flow(count=5)
    tracked = book.arrives(whole)
    book.attributed(tracked)
    book.arrives(replace(whole, count=2), tracked)
    rest = book.arrives(replace(whole, id=2, count=4))
    book.attributed(rest)
    assert book.received() == 6, "one came in addition"
    book.counting.all_arrived()
    book.attributed(book.arrives(replace(whole, id=3, count=1)))
    assert book.received() == 7


def test_what_was_moved_in_one_commit_is_no_matter_of_the_next() -> None:
    book = Book()
    whole = flow(count=5)
    tracked = book.arrives(whole)
    book.attributed(tracked)
    book.arrives(replace(whole, count=2), tracked)
    book.counting.all_arrived()
    book.attributed(book.arrives(replace(whole, id=2, count=3)))
    assert book.received() == 8


def test_drops_of_either_of_two_pods_are_counted_once_as_nobodys_and_only_where_the_flow_is_told() -> None:
    book = Book()
    tracked = book.arrives(flow(count=3))
    book.attributed(tracked, EITHER)
    book.attributed(tracked, EITHER)
    assert book.counting.ambiguous == 3
    book.arrives(flow(count=5), tracked)
    assert book.counting.ambiguous == 5
    other = book.arrives(replace(flow(2, count=7), ends=("dst",)))
    book.attributed(other, EITHER)
    assert book.counting.ambiguous == 5


def test_an_earlier_run_counted_what_it_had_attributed() -> None:
    book = Book()
    tracked = Tracked(flow(count=3), 0.0, {"src": EITHER, "dst": DST})
    waiting = Tracked(flow(2, count=4), 0.0)
    for each in (tracked, waiting):
        book.counting.restored(each)
        book.counting.count(each)
    assert (book.received(), book.counting.ambiguous) == (0, 0)
    book.attributed(waiting)
    assert book.received() == 4
