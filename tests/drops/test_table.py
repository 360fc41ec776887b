"""Rows as a table, as JSON and as names."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kiptail.drops.row import Row, row_of
from kiptail.drops.table import SORTS, Columns, Style, age, as_document, as_item, as_names, in_order
from tests.support.drops import drop_event, flow_of, other_event

NOW = 1_800_000_000.0


def row(pod: str = "web-0", *, last: float = NOW - 90, count: int = 3, **key: object) -> Row:
    made = row_of(drop_event(pod, flow=flow_of(count, last=last, **key)))
    assert made is not None
    return made


def test_a_table_has_aligned_columns_and_nothing_unknown_is_empty() -> None:
    other = row_of(other_event("cannot be read"))
    assert other is not None
    rows = [row(policy="team-b/deny"), row("web-10", count=12_345, reply=True), replace(other, last=None)]
    assert Columns(Style()).table(rows, NOW) == [
        "LAST SEEN   COUNT   POD      DIRECTION    PEER            PORT       POLICY        WHY",
        "90s         3       web-0    sent         team-b/server   8080/TCP   team-b/deny   -",
        "90s         12345   web-10   sent reply   team-b/server   8080/TCP   -             -",
        "-           2       web-0    -            -               -          -             cannot be read",
    ]


def test_wide_has_all_there_is() -> None:
    heading, line = Columns(Style(wide=True, namespaces=True)).table([row()], NOW)
    assert heading.split()[:4] == ["NAMESPACE", "LAST", "SEEN", "FIRST"]
    for cell in ("team-a", "2m30s", "10.0.0.2", "worker-3", "Packet dropped when sending traffic to team-b/server"):
        assert cell in line


def test_without_a_heading_and_with_times() -> None:
    columns = Columns(Style(headings=False, times=True))
    assert [line.split()[0] for line in columns.table([row(last=NOW)], NOW)] == ["2027-01-15T08:00:00Z"]


def test_lines_that_come_later_stand_below_the_first() -> None:
    columns = Columns(Style())
    (first,) = columns.lines([row("a-pod-with-a-long-name")], NOW)
    (second,) = columns.lines([row("web-0")], NOW)
    assert first.index("sent") == second.index("sent")


def test_colours_are_for_the_heading_and_for_what_is_fresh() -> None:
    plain = Columns(Style()).table([row(last=NOW), row(last=NOW - 61)], NOW)
    heading, fresh, old = Columns(Style(colours=True)).table([row(last=NOW), row(last=NOW - 61)], NOW)
    assert (heading, fresh, old) == (f"\x1b[1m{plain[0]}\x1b[0m", f"\x1b[33m{plain[1]}\x1b[0m", plain[2])


def test_a_line_is_cut_where_the_terminal_ends() -> None:
    lines = Columns(Style(width=20, colours=True)).table([row(last=NOW)], NOW)
    assert [line.replace("\x1b[1m", "").replace("\x1b[33m", "").replace("\x1b[0m", "") for line in lines] == [
        "LAST SEEN   COUNT   ",
        "0s          3       ",
    ]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-5, "0s"), (0, "0s"), (119, "119s"), (120, "2m"), (200, "3m20s"), (600, "10m"), (10_799, "179m"), (10_800, "3h"),
     (18_600, "5h10m"), (28_800, "8h"), (172_799, "47h"), (172_800, "2d"), (1e12, "11574074d")],
)  # fmt: skip
def test_ages_are_as_kubectl_has_them(seconds: float, text: str) -> None:
    assert age(seconds) == text


def test_the_greatest_is_last() -> None:
    rows = [row("b", last=NOW, count=1), row("a", last=NOW - 9, count=7), row("c", last=NOW - 5, count=3, port=53)]
    assert [each.pod for each in in_order(rows, "last")] == ["a", "c", "b"]
    assert [each.pod for each in in_order(rows, "count")] == ["b", "c", "a"]
    assert [each.pod for each in in_order(rows, "pod")] == ["a", "b", "c"]
    assert [each.pod for each in in_order(rows, "port")] == ["c", "a", "b"]
    for sort in SORTS:
        assert len(in_order([*rows, replace(rows[0], last=None, first=None, port=None)], sort)) == 4


def test_json_has_every_key_and_null_for_what_is_not_known() -> None:
    other = row_of(other_event("x", firstTimestamp=None, lastTimestamp=None))
    assert other is not None
    document = json.loads(as_document([row(last=NOW), other]))
    assert list(document) == ["items"]
    first, second = document["items"]
    keys = ["namespace", "pod", "direction", "peer", "port", "protocol", "count", "first", "last", "policy", "why"]
    assert list(first) == list(second) == [*keys, "message"]
    assert (first["last"], first["first"]) == ("2027-01-15T08:00:00Z", "2027-01-15T07:59:00Z")
    assert (second["port"], second["first"], second["last"], second["peer"]) == (None, None, None, "")
    assert json.loads(as_document([])) == {"items": []}


def test_names_are_the_pods_each_once() -> None:
    assert as_names([row("b"), row("a"), row("b", port=1)]) == ["pod/b", "pod/a"]


@given(st.text(max_size=3_000), st.booleans())
def test_no_foreign_text_is_more_than_a_cell(text: str, wide: bool) -> None:
    hostile = replace(row(), peer=text, policy=text, why=text, node=text, protocol=text, message=text)
    heading, line = Columns(Style(wide=wide)).table([hostile], NOW)
    assert line.isprintable()
    assert line.count("   ") <= line.rstrip().count(" ")
    assert len(line) < 12 * 130 + 1_200
    json.dumps(as_item(hostile)).encode("ascii")
    assert heading.startswith("LAST SEEN")
