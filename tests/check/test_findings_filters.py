"""What is said of filters that were tried on the packets of the last day."""

from __future__ import annotations

import pytest

from kiptail.check.facts import FilterFacts, FilterTried, Finding, Level
from kiptail.check.findings.filters import filter_findings


def found(*tried: tuple[str, int], packets: int = 10, untried: int = 0, incomplete: bool = False) -> list[Finding]:
    facts = FilterFacts(tuple(FilterTried(*each) for each in tried), packets, untried, incomplete)
    return list(filter_findings(facts))


def warnings(findings: list[Finding]) -> list[str]:
    return [each.text for each in findings if each.level is Level.WARNING]


def test_without_filters_nothing_is_said() -> None:
    assert list(filter_findings(None)) == []


def test_those_that_hold_for_all_or_for_nothing_are_named() -> None:
    findings = found(("port=22", 0), ("verdict=drop", 10), ("port=80", 4))
    assert warnings(findings) == [
        "'verdict=drop' holds for all 10 packets of the last day, so there is nothing to tell of",
        "'port=22' holds for none of the 10 packets of the last day",
    ]
    assert findings[-1] == Finding(
        "filters", Level.OK, "1 of 3 filters hold for some of the 10 packets of the last day"
    )
    assert all(each.remedy for each in findings[:-1])


def test_what_was_not_read_may_have_been_it() -> None:
    assert warnings(found(("port=22", 0), incomplete=True)) == []
    assert warnings(found(("port=22", 10), incomplete=True)) != []


def test_a_quiet_day_says_nothing_of_them() -> None:
    (finding,) = found(("port=22", 0), ("port=23", 0), packets=0)
    assert finding == Finding("filters", Level.OK, "nothing was logged within the last day to try 2 filters on")


@pytest.mark.parametrize(
    ("tried", "said"), [((), ""), ((("port=22", 3),), "1 of 1 filter hold for some of the 10 pac")]
)
def test_those_that_need_the_ends_are_not_tried(tried: tuple[tuple[str, int], ...], said: str) -> None:
    (finding,) = found(*tried, untried=2)
    assert finding.text.startswith(said)
    assert finding.text.endswith("2 filters not tried, as it takes the ends of flows to decide")


def test_many_are_counted_and_hostile_texts_are_one_line() -> None:
    findings = found(*((f"port={n}", 0) for n in range(8)), ("prefix=a\x1bb", 0))
    assert len(warnings(findings)) == 6
    assert warnings(findings)[-1] == "and 4 more filters: each holds for none of the 10 packets of the last day"
    (finding, _) = found(("prefix=a\x1bb" + "x" * 500, 0))
    assert finding.text.isprintable()
    assert len(finding.text) < 250
