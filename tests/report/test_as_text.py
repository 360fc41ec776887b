"""A report for a terminal."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kiptail.flows.flow import FlowKey
from kiptail.report.as_text import Screen, as_text
from kiptail.report.ends import By, Ends
from kiptail.report.summary import Report, report_of
from kiptail.report.tally import Period, Tally
from tests.report.pages import Named

SECOND = 1_000_000
START = 1_767_225_600 * SECOND
PLAIN, BLOCKS = Screen(80, blocks=False), Screen(80, blocks=True)


def key(n: int = 0, *, policy: str = "") -> FlowKey:
    return FlowKey(
        "10.0.0.1",
        f"10.0.0.{n + 2}",
        "TCP",
        80 + n,
        None,
        None,
        reply=False,
        prefix="p:",
        verdict="drop",
        policy=policy,
    )


def report(*remarks: str, policy: str = "") -> Report:
    counted = Tally(Ends(None, {}), Period())
    for n in range(20):
        counted.add(key(n, policy=policy), [START + second * SECOND for second in range(0, 60 * (n + 1), 60)])
    return report_of(counted, remarks)


def text(made: Report, screen: Screen = PLAIN, *, by: By = By.POD, most: int = 3) -> list[str]:
    return "".join(as_text(made, by=by, most=most, screen=screen)).splitlines()


def test_it_says_how_many_then_when_then_who() -> None:
    lines = text(report("some lines were not read"))
    assert lines[0] == (
        "2026-01-01T00:00:00Z to 2026-01-01T00:19:00Z: 210 packets (drop 210) in 20 flows, from 1 address to 20"
    )
    assert lines[1] == "some lines were not read"
    assert lines[3].startswith("by time: a column is 14 seconds, the highest ")
    at = lines.index("from and to, pods: the first 3 of 20")
    assert lines[at + 2 : at + 5] == [
        "          20   9.5%  2026-01-01T00:19:00Z  10.0.0.1 -> 10.0.0.21",
        "          19   9.0%  2026-01-01T00:18:00Z  10.0.0.1 -> 10.0.0.20",
        "          18   8.6%  2026-01-01T00:17:00Z  10.0.0.1 -> 10.0.0.19",
    ]
    assert "ports: the first 3 of 20" in lines
    assert lines[-1] == "         210 100.0%  2026-01-01T00:19:00Z  p:"


def test_by_namespace_all_addresses_are_one() -> None:
    lines = text(report(), by=By.NAMESPACE)
    at = lines.index("from and to, namespaces: 1 in all")
    assert lines[at + 2].endswith("(no pod) -> (no pod)")


def test_the_timeline_falls_as_the_packets_do() -> None:
    lines = text(report(), BLOCKS)
    bars = lines[3:8]
    assert all(set(line) <= set(" ▁▂▃▄▅▆▇█") for line in bars)
    assert bars[0][0] == "█"
    assert len(bars[0]) < len(bars[-1]) <= 80
    assert lines[8].split() == ["2026-01-01T00:00:00Z", "2026-01-01T00:19:00Z"]


def test_nothing_is_one_line() -> None:
    assert text(report_of(Tally(Ends(None, {}), Period()), ())) == ["0 packets"]
    bounded = report_of(Tally(Ends(None, {}), Period(START, START + SECOND)), ())
    assert text(bounded) == ["2026-01-01T00:00:00Z to 2026-01-01T00:00:01Z: 0 packets"]


@pytest.mark.parametrize("width", [0, 1, 40, 80, 1_000])
def test_lines_are_as_wide_as_the_terminal(width: int) -> None:
    lines = text(report(), Screen(width, blocks=True))
    assert max(map(len, lines[2:])) <= min(max(width, 75), 160)


@given(st.text(max_size=300))
def test_a_policy_is_text_whatever_it_is(policy: str) -> None:
    lines = "".join(as_text(report(policy=policy), by=By.POD, most=2, screen=PLAIN)).split("\n")
    assert all(line.isprintable() for line in lines)


@given(st.text(max_size=300), st.sampled_from(By))
@example("=HYPERLINK('http://192.0.2.1')\x1b]0;owned\x07\x1b[2J", By.POD)
def test_a_name_is_text_whatever_it_is(name: str, by: By) -> None:
    counted = Tally(Named(name), Period())
    counted.add(key(), [START])
    lines = "".join(as_text(report_of(counted, [name]), by=by, most=2, screen=PLAIN)).split("\n")
    assert all(line.isprintable() for line in lines)


@given(st.lists(st.integers(min_value=0, max_value=10**17), min_size=1, max_size=20))
def test_any_times_can_be_shown(times: list[int]) -> None:
    counted = Tally(Ends(None, {}), Period())
    for time_us in times:
        counted.add(key(), [time_us])
    assert text(report_of(counted, ()), BLOCKS)
