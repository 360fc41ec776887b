"""The journal loop."""

from __future__ import annotations

import copy
import itertools
from dataclasses import dataclass, field

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kiptail.errors import StateError, StoreUnavailableError
from kiptail.events.endpoint import Endpoint, Kind
from kiptail.events.tally import Tally
from kiptail.flows import counter as counter_module
from kiptail.flows.budget import Limits
from kiptail.flows.counter import MANY, LineCounter
from kiptail.flows.flow import ENDS, Flow
from kiptail.flows.intake import MAX_UNCOMMITTED, Follower, Step
from kiptail.flows.known_lines import KnownLine, KnownLines
from kiptail.flows.ledger import IDLE_US, Changes, Ledger
from kiptail.journal.position import Position
from kiptail.journal.scanner import Batch
from kiptail.netfilter.prefixes import Prefixes, PrefixRule, Verdict
from kiptail.pods.ownership import Hands, PodRef
from tests.support.clock import Clock, own_clock

T0 = 1_800_000_000_000_000
LINE = (
    "{prefix} IN=a OUT=b MAC= SRC=10.0.0.1 DST=10.0.0.2 LEN=60 TOS=0x00 PREC=0x00 TTL=63 ID=1 DF PROTO=TCP"
    " SPT=40000 DPT={port} WINDOW=64240 RES=0x00 SYN URGP=0 "
)

PREFIXES = Prefixes([PrefixRule("calico-drop:", Verdict.DROP), PrefixRule("seen:", Verdict.LOG)])

#: What is known of a line, or its text; and when the kernel wrote it.
Line = tuple[KnownLine | str, int]


@dataclass
class Script:
    """A journal that gives its pages one after the other."""

    pages: list[list[Line]]
    read_pages: int = 0

    def read(self, limit: int) -> Batch:
        if self.read_pages == len(self.pages):
            return Batch(at_end=True)
        page = self.pages[self.read_pages]
        self.read_pages += 1
        return Batch([line for line, _ in page], [time_us for _, time_us in page], self.read_pages == len(self.pages))

    def position(self) -> Position | None:
        return Position(f"page {self.read_pages}", "b", self.read_pages, T0, None)


@dataclass
class Book:
    """A store that can be full."""

    commits: list[tuple[dict[int, int], str | None]] = field(default_factory=list)
    full: bool = False

    def commit(self, changes: Changes, position: Position | None) -> None:
        if self.full:
            raise StoreUnavailableError("database or disk is full")
        self.commits.append(({f.id: f.count for f in changes.flows}, position.cursor if position else None))


@dataclass
class Stage:
    pages: list[list[Line]]
    expire_after: float | None = None
    keep_position: bool = True
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        self.journal, self.book, self.clock = Script(self.pages), Book(), Clock()
        self.offered: list[Flow] = []
        self.follower = Follower(
            journal=self.journal,
            prefixes=PREFIXES,
            ledger=Ledger(limits=self.limits),
            book=self.book,
            offer=self.offered.extend,
            keep_position=self.keep_position,
            expire_after=self.expire_after,
            clock=self.clock,
            own_clock=own_clock(lambda: T0 / 1e6),
        )


def entry(port: int = 80, prefix: str = "calico-drop:", at_us: int = T0) -> tuple[str, int]:
    return LINE.format(prefix=prefix, port=port), at_us


def test_a_new_flow_is_committed_at_once_and_offered_after_that() -> None:
    stage = Stage([[entry(), entry()]])
    assert stage.follower.step() is Step.AT_END
    assert stage.book.commits == [({1: 2}, "page 1")]
    assert [flow.count for flow in stage.offered] == [2]


def test_what_is_offered_does_not_change_any_more() -> None:
    stage = Stage([[entry()], [entry()]])
    stage.follower.step()
    stage.follower.step()
    assert stage.offered[0].count == 1


def test_counts_of_known_flows_are_committed_about_once_a_second() -> None:
    stage = Stage([[entry()] for _ in range(30)])
    for _ in range(30):
        stage.follower.step()
        stage.clock.now += 0.1
    assert 3 <= len(stage.book.commits) <= 4
    assert stage.book.commits[-1][0][1] > 20


def test_the_position_moves_on_without_drops_but_rarely() -> None:
    stage = Stage([[] for _ in range(100)])
    for _ in range(100):
        stage.follower.step()
        stage.clock.now += 1
    assert 2 <= len(stage.book.commits) <= 4


def test_a_commit_with_nothing_new_is_none() -> None:
    stage = Stage([[entry()]])
    stage.follower.step()
    for _ in range(10):
        stage.clock.now += 60
        stage.follower.step()
    assert len(stage.book.commits) == 1


def test_files_do_not_move_the_stored_position() -> None:
    stage = Stage([[entry()]], keep_position=False)
    stage.follower.step()
    assert stage.book.commits == [({1: 1}, None)]


def test_lines_are_told_apart() -> None:
    cut = LINE.format(prefix="calico-drop:", port=80)[:48]
    lines = [entry(), entry(prefix="seen:"), entry(prefix="other:"), (cut, T0), ("no netfilter line", T0)]
    whole = LINE.format(prefix="calico-drop:", port=81)
    lines += [(f"overlayfs: failed to resolve ' {whole}': -2", T0), (f"{whole}x", T0)]
    stage = Stage([lines])
    stage.follower.step()
    intake = stage.follower.intake
    assert intake.drops == {("drop", "TCP"): 1, ("log", "TCP"): 1}
    assert (intake.unparsed, intake.unparsed_why) == (1, "addresses are cut off")
    assert (intake.untrusted, intake.untrusted_why) == (2, "not what packet logging prints")
    assert stage.book.commits == [({1: 1}, "page 1")], "what is only logged makes no flow"


def test_old_drops_expire_when_they_are_read() -> None:
    stage = Stage([[entry(at_us=T0 - 61_000_000), entry(at_us=T0 - 59_000_000)]], expire_after=60.0)
    stage.follower.step()
    assert stage.follower.intake.expired == 1
    assert stage.book.commits == [({1: 1}, "page 1")]


def test_while_the_state_cannot_be_written_nothing_is_offered_and_reading_stops_after_a_while(
    caplog: pytest.LogCaptureFixture,
) -> None:
    pages = [[entry(port=n % 500) for n in range(1000)] for _ in range(30)]
    stage = Stage(pages, limits=Limits(flows_per_address=500))
    stage.book.full = True
    for _ in range(30):
        stage.follower.step()
        stage.clock.now += 0.5
    assert stage.follower.step() is Step.STALLED, "which is not the journal's end"
    assert stage.offered == []
    assert stage.journal.read_pages * 1000 == MAX_UNCOMMITTED
    assert len(caplog.records) == 1, "said once"
    stage.book.full = False
    for _ in range(100):
        stage.clock.now += 1.1
        stage.follower.step()
    latest = {flow.id: flow.count for flow in stage.offered}
    assert stage.journal.read_pages == 30
    assert sum(latest.values()) == 30_000


def test_a_long_backlog_is_read_without_waiting_for_the_next_commit() -> None:
    stage = Stage([[entry()] * 1000 for _ in range(40)])
    steps = [stage.follower.step() for _ in range(40)]
    assert steps == [Step.MORE] * 39 + [Step.AT_END]
    assert stage.follower.commit()
    assert stage.offered[-1].count == 40_000


def test_idle_flows_end_on_a_busy_node() -> None:
    pages = [[entry(port=1), entry(port=2)]]
    pages += [[entry(port=2, at_us=T0 + n * 10_000_000)] for n in range(1, IDLE_US // 10_000_000 + 50)]
    stage = Stage(pages)
    for _ in pages:
        stage.follower.step()
        stage.clock.now += 1.1
    assert [flow.id for flow in stage.offered if flow.ended] == [1]


def test_a_first_commit_stores_where_reading_begins() -> None:
    stage = Stage([[] for _ in range(10)])
    assert stage.follower.commit()
    assert stage.book.commits == [({}, "page 0")]
    for _ in range(10):
        stage.follower.step()
        stage.clock.now += 1.1
    assert len(stage.book.commits) == 1, "and the next one without drops is a bare position"


def test_where_reading_begins_is_stored_as_soon_as_the_disk_has_room(caplog: pytest.LogCaptureFixture) -> None:
    stage = Stage([[] for _ in range(10)])
    stage.journal.position = lambda: Position("start", "b", 0, T0, None)  # type: ignore[method-assign]
    stage.book.full = True
    assert not stage.follower.commit()
    assert "disk is full" in stage.follower.trouble
    stage.follower.step()
    stage.book.full = False
    stage.follower.step()
    assert stage.book.commits == [], "tried every second"
    stage.clock.now += 1.1
    stage.follower.step()
    assert stage.book.commits == [({}, "start")]
    assert stage.follower.trouble == ""
    assert len(caplog.records) == 1, "said once"


def test_folding_is_said_once_for_each_address_and_direction(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    stage = Stage([[entry(port=n) for n in range(5)], [entry(port=n) for n in range(5, 9)]])
    stage = Stage(stage.pages, limits=Limits(flows_per_address=2))
    for _ in stage.pages:
        stage.follower.step()
        stage.clock.now += 1.1
    assert sorted(record.getMessage() for record in caplog.records) == [
        "10.0.0.1 sends more flows than its budget allows: further ones are counted in one Event",
        "10.0.0.2 receives more flows than its budget allows: further ones are counted in one Event",
    ]
    folded = {flow.ends: flow.count for flow in stage.offered if flow.spread}
    assert folded == {("src",): 7, ("dst",): 7}


def test_too_many_new_addresses_are_said_once_in_a_while(caplog: pytest.LogCaptureFixture) -> None:
    line = LINE.format(prefix="calico-drop:", port=80)
    pages = [[(line.replace("10.0.0.1", f"10.{page}.0.{n}"), T0) for n in range(4)] for page in range(3)]
    stage = Stage(pages, limits=Limits(new_addresses=1))
    for _ in pages:
        stage.follower.step()
        stage.clock.now += 1.1
    assert [record.getMessage().split(":")[0] for record in caplog.records] == [
        "packets of 1 new addresses or more were dropped within one window"
    ]


def test_expiry_is_decided_once() -> None:
    """The position behind what was too old is stored within a second, not with the next bare position."""
    stage = Stage([[entry(at_us=T0 - 61_000_000)]], expire_after=60.0)
    stage.follower.step()
    stage.clock.now += 1.1
    stage.follower.step()
    assert stage.book.commits == [({}, "page 1")]


def test_a_state_that_cannot_be_mended_ends_the_run() -> None:
    stage = Stage([[entry()]])

    def broken(changes: Changes, position: Position | None) -> None:
        raise StateError("damaged")

    stage.book.commit = broken  # type: ignore[method-assign]
    with pytest.raises(StateError, match="damaged"):
        stage.follower.step()


def test_what_is_cut_is_committed_at_once_and_offered() -> None:
    stage = Stage([[entry(), entry(at_us=T0 + 5_000_000)]])
    stage.follower.step()
    assert stage.follower.hand_over({"10.0.0.2": Hands((T0 + 3_000_000,), ())})
    assert stage.book.commits == [({1: 2}, "page 1"), ({1: 1, 2: 1}, "page 1")]
    assert [(flow.id, flow.count, flow.ended) for flow in stage.offered[1:]] == [(1, 1, True), (2, 1, False)]
    assert stage.follower.hand_over({"10.0.0.3": Hands((T0,), ())})
    assert len(stage.book.commits) == 2, "nothing to store"


def test_a_cut_that_cannot_be_stored_is_tried_again() -> None:
    stage = Stage([[entry(), entry(at_us=T0 + 5_000_000)]])
    stage.follower.step()
    stage.book.full = True
    hands = {"10.0.0.2": Hands((T0 + 3_000_000,), ())}
    assert not stage.follower.hand_over(hands)
    assert not stage.follower.hand_over(hands)
    assert [flow.count for flow in stage.offered] == [2], "nothing is decided meanwhile"
    stage.book.full = False
    assert stage.follower.hand_over(hands)
    assert stage.book.commits[-1][0] == {1: 1, 2: 1}


def test_what_is_settled_is_not_cut_any_more() -> None:
    stage = Stage([[entry(), entry(at_us=T0 + 5_000_000)]])
    stage.follower.step()
    stage.follower._ledger.end_all()
    stage.follower.settle(T0 + 6_000_000, blind=True)
    assert stage.follower.hand_over({"10.0.0.2": Hands((T0 + 3_000_000,), ())})
    assert [flow.count for flow in stage.follower._ledger.changes().flows] == [2]
    assert stage.follower._ledger.blind


# Counted together, or one by one

#: The same flow in two lines (from other interfaces), more flows, one that is only logged; what is never known.
TEXTS = [
    entry()[0],
    entry()[0].replace("IN=a", "IN=other"),
    entry(port=81)[0],
    entry()[0].replace("10.0.0.1", "10.0.0.9"),
    entry(prefix="seen:")[0],
    entry()[0].replace(" DF ", " FRAG:64 "),
    "calico-drop: IN=a OUT=b",
    *(entry(port=82 + n)[0] for n in range(3)),
    *(entry()[0].replace("10.0.0.1", f"10.0.1.{n}") for n in range(3)),
    *(entry()[0].replace("10.0.0.2", f"10.0.2.{n}") for n in range(3)),
]
known = KnownLines(PREFIXES)
LINES = [line if isinstance(line := known.wanted(text.encode()), KnownLine) else text for text in TEXTS]

#: Seconds: most within minutes of each other, some beyond what a flow lasts.
whole = st.integers(0, 200) | st.integers(0, 3 * IDLE_US // 1_000_000)
times = (
    whole
    | st.integers(0, 800).map(lambda quarter: quarter / 4)
    | st.integers(400, 408).map(lambda quarter: quarter / 4)
)
entries = st.tuples(st.sampled_from(LINES[:4]) | st.sampled_from(LINES) | st.sampled_from(LINES[7:]), times)
batches = st.lists(entries, max_size=16)
rising = batches.map(lambda batch: sorted(batch, key=lambda one: one[1]))


@given(
    pages=st.lists(rising | batches, max_size=6),
    handovers=st.lists(
        st.dictionaries(st.sampled_from(["10.0.0.1", "10.0.0.9"]), st.lists(whole, max_size=3)), max_size=6
    ),
    limits=st.builds(
        Limits,
        flows_per_address=st.sampled_from([1, 2, 100]),
        new_addresses=st.sampled_from([1, 500]),
        open_flows=st.sampled_from([3, 8, 20_000]),
        sender_factor=st.sampled_from([1, 2, 20]),
    ),
    expire_after=st.sampled_from([None, 100.0]),
)
@example([[(LINES[0], 0)], [(LINES[0], 5), (LINES[1], 6), (LINES[0], 7)]], [], Limits(), None)
@example([[(LINES[0], 0)], [(LINES[0], 10)], [(LINES[0], 5)]], [{"10.0.0.1": [6]}], Limits(), None)
@example([[(LINES[0], 100)], [(LINES[0], 19), (LINES[0], 20)]], [], Limits(), 100.0)
@example([[(LINES[0], 1)], [(LINES[3], 1_800)], [(LINES[0], 1_830)]], [], Limits(), None)
@example([[(LINES[0], 0), (LINES[3], 59)], [(LINES[3], 59), (LINES[3], 60)], [(LINES[0], 1_830)]], [], Limits(), None)
@example([[(LINES[0], 50)], [(LINES[0], 3), (LINES[0], 4)]], [], Limits(), None)
@example([[(LINES[0], 0), (LINES[3], 50)], [(LINES[0], 3), (LINES[0], 4)]], [], Limits(), None)
def test_lines_are_counted_together_as_they_are_one_by_one(
    pages: list[list[tuple[KnownLine | str, float]]],
    handovers: list[dict[str, list[int]]],
    limits: Limits,
    expire_after: float | None,
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(counter_module, "MANY", 1)
        _count_both_ways(pages, handovers, limits, expire_after)


def _count_both_ways(
    pages: list[list[tuple[KnownLine | str, float]]],
    handovers: list[dict[str, list[int]]],
    limits: Limits,
    expire_after: float | None,
) -> None:
    def us(seconds: float) -> int:
        return T0 + round((seconds - 120) * 1_000_000)

    outcomes = []
    for one_by_one in (False, True):
        script = [[(line, us(seconds)) for line, seconds in page] for page in pages]
        stage = Stage(script, expire_after, limits=limits)
        follower = stage.follower
        counter = follower._counter
        if one_by_one:
            counter._count_together = counter._count_each  # type: ignore[method-assign]
        states: list[object] = []
        for _, changed in itertools.zip_longest(pages, handovers[: len(pages)], fillvalue={}):
            follower.step()
            hands = {address: tuple(map(us, sorted(set(seconds)))) for address, seconds in changed.items()}
            follower.hand_over({address: Hands(changes, changes) for address, changes in hands.items()})
            states.append((copy.deepcopy(follower._ledger.changes()), counter.uncommitted, len(follower._ledger)))
        outcomes.append((states, stage.offered, stage.book.commits, follower.intake))
    assert outcomes[0] == outcomes[1]


#: So many lines of a second are worth it.
ENOUGH = range(2 * MANY)


@pytest.mark.parametrize(
    ("batch", "together"),
    [
        pytest.param([(LINES[n % 3], T0 + n) for n in range(99)], True, id="known flows"),
        pytest.param([(LINES[4 * (n % 2)], T0) for n in ENOUGH], True, id="one that is only logged"),
        pytest.param([(LINES[0], T0 + n % 2 * 1_000_000) for n in ENOUGH][::2], True, id="enough in their second"),
        pytest.param([(LINES[0], T0 + n * 1_000_000) for n in ENOUGH], False, id="each in another second"),
        pytest.param([(LINES[0], T0)] * (MANY - 1), False, id="too few to be worth it"),
        pytest.param([(LINES[3 * (n % 2)], T0) for n in ENOUGH], False, id="a new flow"),
        pytest.param([(LINES[5 * (n % 2)], T0) for n in ENOUGH], True, id="with an unusual line"),
        pytest.param([(LINES[0], T0 - n) for n in ENOUGH], False, id="of a second that is over"),
        pytest.param([(LINES[0], T0 + n * 7 % 16) for n in ENOUGH], True, id="a little out of order"),
    ],
)
def test_what_is_counted_together(
    batch: list[tuple[KnownLine | str, int]], together: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    one_by_one: list[object] = []
    stage = Stage([[(line, T0) for line in LINES[:3]], batch])
    stage.follower.step()
    monkeypatch.setattr(LineCounter, "_count_known", lambda _self, line, *_: one_by_one.append(line))
    stage.follower.step()
    assert (one_by_one == []) is together


@pytest.mark.parametrize(
    ("limits", "lines"),
    [
        pytest.param(Limits(flows_per_address=2), LINES[10:13], id="many senders to one address"),
        pytest.param(Limits(flows_per_address=2), LINES[13:16], id="one sender to many addresses"),
        pytest.param(Limits(flows_per_address=1), LINES[7:10], id="many ports"),
        pytest.param(Limits(flows_per_address=1, sender_factor=1), LINES[7:10], id="a sender with a full account"),
    ],
)
def test_what_is_folded_is_counted_together(
    limits: Limits, lines: list[KnownLine | str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = Stage([[(line, T0) for line in lines], [(lines[n % 3], T0 + n) for n in range(99)]], limits=limits)
    stage.follower.step()
    monkeypatch.setattr(LineCounter, "_count_known", lambda _self, line, *_: pytest.fail(f"one by one: {line}"))
    stage.follower.step()
    ledger = stage.follower._ledger
    assert sum(ledger.folded.values()) >= 33
    told = {end: sum(flow.count for flow in ledger.changes().flows if end in flow.ends) for end in ENDS}
    assert (told["src"], told["dst"] + ledger.denied) == (99 + 3, 99 + 3)


def test_protocols_that_kernels_do_not_have_are_counted_as_one_and_told_as_they_are() -> None:
    line = LINE.format(prefix="calico-drop:", port=80).partition("PROTO=")[0]
    names = [*(f"P{n:04}" for n in range(1_000)), *map(str, range(300)), "TCP", "ICMPv6", "-", "a" * 16]
    stage = Stage([[(f"{line}PROTO={name} ", T0 + n) for n, name in enumerate(names)]], limits=Limits(10_000, 10_000))
    stage.follower.step()
    drops = stage.follower.intake.drops
    assert sum(drops.values()) == len(names)
    assert len(drops) <= 266
    assert drops["drop", "other"] == 1_001
    assert {"P0007", "a" * 16, "47", "SCTP"} <= {flow.key.protocol for flow in stage.offered}
    tally = Tally()
    for flow in stage.offered:
        tally.add(flow, {"src": Endpoint(Kind.POD, flow.key.src, (PodRef("team-a", "p", "u"),))}, flow.count)
    assert {labels.protocol for labels, _ in tally.items()} == {protocol for _, protocol in drops}
