"""What a batch of lines counts as. That lines count together as they do one by one is in test_intake.py."""

from __future__ import annotations

import json

import pytest

from kiptail.flows.counter import MANY, LineCounter
from kiptail.flows.known_lines import KnownLine, KnownLines
from kiptail.flows.ledger import Ledger
from kiptail.netfilter.prefixes import Prefixes, PrefixRule, Verdict
from tests.support.clock import own_clock

T0 = 1_800_000_000_000_000
LINE = (
    "{prefix} IN=a OUT=b MAC= SRC=10.0.0.1 DST=10.0.0.2 LEN=60 TOS=0x00 PREC=0x00 TTL=63 ID=1 DF PROTO=TCP"
    " SPT=40000 DPT=80 WINDOW=64240 RES=0x00 SYN URGP=0 "
)
DROPPED, SEEN, FOREIGN = (LINE.format(prefix=prefix) for prefix in ("calico-drop:", "seen:", "other:"))
PREFIXES = Prefixes([PrefixRule("calico-drop:", Verdict.DROP), PrefixRule("seen:", Verdict.LOG)])


def known(text: str) -> KnownLine:
    line = KnownLines(PREFIXES).wanted(text.encode())
    assert isinstance(line, KnownLine)
    return line


def counter(*, expire_after: float | None = None, log_drops: bool = False) -> LineCounter:
    clock = own_clock(lambda: T0 / 1e6)
    return LineCounter(PREFIXES, Ledger(), clock, expire_after=expire_after, log_drops=log_drops)


def counts(lines: LineCounter) -> list[int]:
    return [flow.count for flow in lines._ledger.changes().flows]


@pytest.mark.parametrize("number", [1, MANY - 1, MANY, 10 * MANY])
@pytest.mark.parametrize("known_line", [True, False])
def test_each_line_of_a_drop_counts(number: int, known_line: bool) -> None:
    lines = counter()
    lines.count([known(DROPPED) if known_line else DROPPED] * number, [T0] * number)
    assert (counts(lines), lines.uncommitted) == ([number], number)
    assert lines.intake.drops == {("drop", "TCP"): number}


@pytest.mark.parametrize("line", [SEEN, known(SEEN)], ids=["text", "known"])
def test_what_is_only_logged_is_seen_and_nothing_to_commit(line: KnownLine | str) -> None:
    lines = counter()
    lines.count([line] * 2 * MANY, [T0] * 2 * MANY)
    assert (counts(lines), lines.uncommitted, lines.intake.drops) == ([], 0, {("log", "TCP"): 2 * MANY})


def test_an_empty_batch_and_a_line_without_a_wanted_prefix_are_nothing() -> None:
    lines = counter(expire_after=60.0)
    lines.count([], [])
    lines.count([FOREIGN], [T0])
    assert (counts(lines), lines.uncommitted, lines.intake.drops) == ([], 0, {})


@pytest.mark.parametrize("line", [DROPPED, known(DROPPED)], ids=["text", "known"])
def test_what_is_too_old_is_decided_on_and_not_counted(line: KnownLine | str) -> None:
    lines = counter(expire_after=60.0)
    lines.count([line, line], [T0 - 60_000_001, T0 - 60_000_000])
    assert (counts(lines), lines.intake.expired, lines.uncommitted) == ([1], 1, 2)


def test_drops_are_logged_on_request(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "kiptail.drops")
    counter().count([DROPPED], [T0])
    assert caplog.messages == []
    counter(log_drops=True).count([DROPPED, SEEN], [T0, T0])
    assert [json.loads(text)["verdict"] for text in caplog.messages] == ["drop", "log"]
