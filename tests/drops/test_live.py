"""What ``kubectl drops -w`` shows."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import pytest

from kiptail.config.values import Moment
from kiptail.drops.changes import Change, Rows
from kiptail.drops.follow import Failed, Follower, Listed, Remark, Update
from kiptail.drops.live import Appended, Drawn, follow
from kiptail.drops.row import Row, row_of
from kiptail.drops.table import Style
from kiptail.drops.wanted import Wanted
from kiptail.errors import ClusterError
from tests.support.drops import drop_event, flow_of

ALL = Wanted(namespace="team-a", reason="PacketDrop")


def row(pod: str, *, ago: float = 100.0, count: int = 3) -> Row:
    made = row_of(drop_event(pod, flow=flow_of(count, last=time.time() - ago)))
    assert made is not None
    return made


def rows_of(*rows: Row) -> Rows:
    made = Rows()
    made.replace(rows)
    return made


class Script:
    """A follower by which these updates come, each batch in a tick of its own; then it fails."""

    def __init__(self, *batches: list[Update]) -> None:
        self._batches = [*batches, [Failed(ClusterError("over"))]]

    def __enter__(self) -> Script:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def next(self, timeout_s: float) -> Update | None:
        if not self._batches[0]:
            self._batches.pop(0)
            return None
        return self._batches[0].pop(0)


def followed(*batches: list[Update], form: str = "table", **options: Any) -> tuple[list[str], list[str]]:
    """What was written and what was said."""
    written: list[str] = []
    said: list[str] = []
    shown = Appended(Style(**options), "last", ALL, written.append, say=said.append, form=form)
    with pytest.raises(ClusterError, match="over"):
        follow(cast(Follower, Script(*batches)), shown)
    return "".join(written).splitlines(), said


def test_lines_are_appended_for_what_is_new_or_has_changed() -> None:
    first, second = row("web-0"), row("web-1", ago=50)
    grown = replace(first, count=9)
    lines, said = followed(
        [Listed([second, first])],
        [],
        [Change(first.key, grown, "7"), Change(first.key, replace(grown, count=10), "8"), Remark("trying again")],
        [Change(second.key, None, "9"), Listed([replace(grown, count=10)])],
    )
    assert [line.split()[1:3] for line in lines] == [["SEEN", "COUNT"], ["3", "web-0"], ["3", "web-1"], ["10", "web-0"]]
    assert lines[1].split()[0].endswith("Z")
    assert said == ["trying again"]


def test_forms_for_programs_have_no_heading() -> None:
    first = row("web-0")
    updates: list[Update] = [Listed([first])]
    again: list[Update] = [Change(first.key, replace(first, count=9), "7")]
    lines, _ = followed(list(updates), list(again), form="json")
    assert [json.loads(line)["count"] for line in lines] == [3, 9]
    assert followed(list(updates), list(again), form="name")[0] == ["pod/web-0"]
    assert len(followed(list(updates), headings=False)[0]) == 1


def test_what_is_not_wanted_is_not_appended() -> None:
    written: list[str] = []
    since = replace(ALL, since=Moment(-60_000_000, relative=True))
    shown = Appended(Style(), "last", since, written.append, say=written.append, form="name")
    shown.begin()
    changed = [row("old"), row("new", ago=1)]
    shown.show(rows_of(*changed), changed)
    assert written == ["pod/new\n"]


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Draws rows on a terminal of so many lines and columns, and gives what was written."""

    def draw(
        *rows: Row, lines: int = 6, columns: int = 40, sort: str = "last", remark: str = "", **options: Any
    ) -> list[str]:
        monkeypatch.setattr(shutil, "get_terminal_size", lambda: os.terminal_size((columns, lines)))
        written: list[str] = []
        shown = Drawn(Style(**options), sort, ALL, written.append)
        shown.begin()
        shown.remark(remark)
        shown.show(rows_of(*rows), ())
        assert written[0] == "\x1b[2J"
        assert written[1].startswith("\x1b[H")
        assert written[1].endswith("\x1b[J")
        return written[1].removeprefix("\x1b[H").removesuffix("\x1b[J").split("\x1b[K\n")[:-1]

    return draw


def test_a_screen_has_the_last_rows_that_it_has_room_for(screen: Callable[..., list[str]]) -> None:
    rows = [row(f"web-{number}", ago=100 - number, count=number) for number in range(9)]
    lines = screen(*rows)
    assert [line.split()[2] for line in lines[1:]] == ["web-5", "web-6", "web-7", "web-8"]
    assert max(map(len, lines)) <= 40
    assert len(screen(*rows, headings=False)) == 5
    assert len(screen(*rows, lines=1)) == 2
    assert [line.split()[1] for line in screen(*rows, sort="count")[1:]] == ["5", "6", "7", "8"]


def test_an_empty_screen_says_so(screen: Callable[..., list[str]]) -> None:
    assert screen() == ["No drops found in team-a namespace."]


def test_what_there_is_to_say_stands_below(screen: Callable[..., list[str]]) -> None:
    rows = [row(f"web-{number}", ago=100 - number) for number in range(9)]
    lines = screen(*rows, remark="trying again: \x1b[31m" + "x" * 100)
    assert len(lines) == 5
    assert lines[-1].startswith("trying again: [31mxxx")
    assert len(lines[-1]) == 40
    assert lines[-1].isprintable()
