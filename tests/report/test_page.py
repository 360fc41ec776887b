"""The page of a report in a browser: it sorts, filters, opens, shows parts of the time, and asks for nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from kiptail.flows.flow import FlowKey
from kiptail.report.as_html import as_html
from kiptail.report.ends import By
from tests.report.pages import HOSTILE, busy, name_of, traffic
from tests.support.browser import Browser, browser

pytestmark = [pytest.mark.live, pytest.mark.timeout(180)]

VISIBLE = (
    "[...document.querySelectorAll('#{}-table tbody tr')].filter(r => !r.hidden).map(r => r.cells[{}].textContent)"
)


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture(params=[1280, 390])
def page(tab: Browser, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Browser]:
    """A page with hostile names, on a desk and on a telephone; nothing may be asked for or complained of."""
    path = tmp_path / "report.html"
    path.write_text(as_html(busy(), by=By.POD))
    tab.size(request.param, 800)
    tab.scheme("light")
    tab.requests.clear()
    tab.complaints.clear()
    tab.open(path)
    yield tab
    assert tab.requests == [path.as_uri()]
    assert tab.complaints == []


def sort(page: Browser, table: str, column: int) -> list[str]:
    page.run(f"document.querySelectorAll('#{table}-table th button')[{column}].click()")
    rows: list[str] = page.run(VISIBLE.format(table, column))
    return rows


def test_nothing_is_wider_than_the_window(page: Browser) -> None:
    assert page.run("document.documentElement.scrollWidth <= innerWidth")


def test_columns_sort_both_ways(page: Browser) -> None:
    down = [int(text.replace(",", "")) for text in sort(page, "flows", 5)]
    assert down == sorted(down, reverse=True)
    up = [int(text.replace(",", "")) for text in sort(page, "flows", 5)]
    assert up == sorted(down)
    assert page.run("document.querySelector('#flows-table th[aria-sort]').getAttribute('aria-sort')") == "ascending"
    names = sort(page, "peers", 0)
    assert len(names) == len(set(names)) > 2
    assert sort(page, "peers", 0) == names[::-1]


def test_rows_are_filtered_as_one_types(page: Browser) -> None:
    page.run("document.querySelector('[data-table=flows-table]').focus()")
    page.ask("Input.insertText", text="443 WEB-1")
    rows = list(zip(*(page.run(VISIBLE.format("flows", column)) for column in range(3)), strict=True))
    assert rows
    assert all("team-a/web-1" in row[:2] and row[2] == "443/TCP" for row in rows)
    said = page.run("document.querySelector('.filter output').textContent")
    assert said.startswith(f"{len(rows)} of ")


def test_a_cell_opens_to_pods_by_the_keyboard(page: Browser) -> None:
    assert page.run("document.querySelectorAll('.cell[open]').length") == 0
    page.run("document.querySelector('.matrix a').focus()")
    page.press("Enter", 13)
    page.wait_for("document.querySelectorAll('.cell[open]').length === 1")
    assert page.run("document.activeElement.tagName") == "SUMMARY"
    assert page.run("document.querySelector('.cell[open] tbody').checkVisibility()")
    first = page.run("document.querySelector('.matrix a').getAttribute('aria-label')")
    assert page.run("document.querySelector('.cell[open] summary').textContent") == first
    assert "/db-4" in page.run("document.querySelector('.cell[open] tbody').textContent")


def test_the_dark_scheme_is_dark(page: Browser) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    assert page.run(ground) == "rgb(255, 255, 255)"
    page.scheme("dark")
    assert page.run(ground) == "rgb(20, 23, 26)"


def test_hostile_text_is_text(page: Browser) -> None:
    assert page.run("[...document.querySelectorAll('td')].some(cell => cell.textContent === " + repr(HOSTILE) + ")")
    assert page.run("document.querySelectorAll('script, img').length") == 1
    assert page.run("typeof wrong") == "undefined"


#: Where the bars are in the window: left, top, width, height.
PLOT = "(b => [b.x, b.y, b.width, b.height])(document.querySelector('.timeline svg').getBoundingClientRect())"
CHOSEN = "['part-begin', 'part-end'].map(id => document.getElementById(id).getAttribute('aria-valuetext'))"
SAID = "document.getElementById('choice').textContent"
TABLE = """[...document.querySelectorAll('#{}-table tbody tr')].filter(row => row.checkVisibility())
  .map(row => [...row.cells].filter(cell => cell.checkVisibility()).map(cell => cell.textContent))"""
MATRIX = """[...document.querySelectorAll('.matrix a')].filter(cell => cell.checkVisibility())
  .map(cell => [cell.getAttribute('aria-label'), cell.textContent, cell.parentElement.className])"""


def across(page: Browser, begin: float, end: float) -> tuple[tuple[float, float], tuple[float, float]]:
    """Two points of the window over the bars, at these parts of their width."""
    page.run("document.querySelector('.timeline').scrollIntoView({block: 'center'})")
    left, top, width, height = page.run(PLOT)
    return (left + begin * width, top + height / 4), (left + end * width, top + height / 4)


def chosen(page: Browser) -> tuple[datetime, datetime]:
    """The part of the time that is shown, once the numbers are."""
    begin, end = (datetime.fromisoformat(text.removesuffix(" UTC")) for text in page.run(CHOSEN))
    page.wait_for(f"{SAID}.startsWith('Only {begin} to {end:%H:%M:%S} UTC is shown: ')")
    return begin, end


def packets_between(begin: datetime, end: datetime) -> Counter[FlowKey]:
    """Of each flow, by going through all packets."""
    counts: Counter[FlowKey] = Counter()
    for key, times_us in traffic():
        for time_us in times_us:
            if begin <= datetime.fromtimestamp(time_us / 1e6, UTC).replace(tzinfo=None) < end:
                counts[key] += 1
    return counts


def by(counts: Counter[FlowKey], name: Callable[[FlowKey], Sequence[str]]) -> list[list[str]]:
    """As rows of a table, each with its sum."""
    sums: Counter[tuple[str, ...]] = Counter()
    for key, count in counts.items():
        sums[tuple(name(key))] += count
    return sorted([*label, f"{count:,}"] for label, count in sums.items())


def assert_shows(page: Browser, counts: Counter[FlowKey]) -> None:
    """The page has these packets in all its numbers, and no row without any."""

    def flow(key: FlowKey) -> tuple[str, ...]:
        return name_of(key.src), name_of(key.dst), f"{key.port}/TCP", key.policy, key.verdict

    assert counts
    rows = page.run(TABLE.format("flows"))
    assert sorted(rows) == by(counts, flow)
    numbers = [int(row[-1]) for row in rows]
    assert numbers == sorted(numbers, reverse=True)
    assert sorted(page.run(TABLE.format("policies"))) == by(counts, lambda key: (key.policy,))
    assert sorted(page.run(TABLE.format("ports"))) == by(counts, lambda key: (f"{key.port}/TCP",))
    sent = dict(by(counts, lambda key: (name_of(key.src),)))
    meant = dict(by(counts, lambda key: (name_of(key.dst),)))
    peers = {name: numbers for name, *numbers in page.run(TABLE.format("peers"))}
    assert peers == {name: [sent.get(name, "0"), meant.get(name, "0")] for name in sent | meant}

    def spaces(key: FlowKey) -> tuple[str]:
        names = (name_of(end).rpartition("/")[0] or "(no pod)" for end in (key.src, key.dst))
        return (" to ".join(names),)

    cells = dict(by(counts, spaces))
    shown = page.run(MATRIX)
    assert {label: number for label, number, _ in shown} == {
        f"{name}: {number} packets": number for name, number in cells.items()
    }
    most = max(int(number.replace(",", "")) for number in cells.values())
    for _, number, shade in shown:
        assert shade == f"shade-{5 - (most.bit_length() - int(number.replace(',', '')).bit_length()) // 2}"
    verdicts = dict(by(counts, lambda key: (key.verdict,)))
    totals = page.run("[...document.querySelectorAll('.totals li:not(.whole)')].map(one => one.textContent)")
    assert [text.split() for text in totals] == [
        [f"{counts.total():,}", "packets"],
        *(
            [verdicts.get(verdict, "0"), f"{verdict}{ending}"]
            for verdict, ending in (("drop", "ped"), ("reject", "ed"))
        ),
    ]


def test_a_part_of_the_time_is_chosen_by_dragging(page: Browser) -> None:
    page.drag(*across(page, 0.31, 0.47))
    begin, end = chosen(page)
    assert (f"{begin:%H:%M:%S}", f"{end:%H:%M:%S}") == ("01:03:10", "01:05:10")
    counts = packets_between(begin, end)
    assert_shows(page, counts)
    assert page.run(SAID).endswith(f": {counts.total():,} of 1,626 packets.")
    assert page.run("document.getElementById('period').textContent") == (
        "2026-01-01 01:03:10 to 01:05:10 UTC, a part of 2026-01-01 01:00:00 to 01:10:30 UTC"
    )
    # Back to the left, beyond the end: it can be done with one hand.
    page.drag(*across(page, 0.2, -0.5))
    assert [f"{each:%H:%M:%S}" for each in chosen(page)] == ["01:00:00", "01:02:10"]
    assert_shows(page, packets_between(*chosen(page)))


def test_a_click_is_one_bar(page: Browser) -> None:
    page.drag(*across(page, 0.5, 0.5))
    begin, end = chosen(page)
    assert (end - begin).seconds == 10
    assert_shows(page, packets_between(begin, end))


def test_a_finger_chooses_too(page: Browser) -> None:
    page.ask("Emulation.setTouchEmulationEnabled", enabled=True)
    page.swipe(*across(page, 0.7, 0.9))
    begin, end = chosen(page)
    assert_shows(page, packets_between(begin, end))
    page.ask("Emulation.setTouchEmulationEnabled", enabled=False)


def test_a_part_is_chosen_by_the_keyboard(page: Browser) -> None:
    assert page.run(CHOSEN) == ["2026-01-01 01:00:00 UTC", "2026-01-01 01:10:40 UTC"]
    page.run("document.getElementById('part-begin').focus()")
    for _ in range(3):
        page.press("ArrowRight", 39)
    page.press("Tab", 9)
    assert page.run("document.activeElement.id") == "part-end"
    for _ in range(40):
        page.press("ArrowLeft", 37)
    begin, end = chosen(page)
    assert (f"{begin:%H:%M:%S}", f"{end:%H:%M:%S}") == ("01:00:30", "01:04:00")
    assert_shows(page, packets_between(begin, end))
    # A handle takes the other one along, so that there is always something between them.
    page.press("Home", 36)
    assert [f"{each:%H:%M:%S}" for each in chosen(page)] == ["01:00:00", "01:00:10"]
    assert_shows(page, packets_between(*chosen(page)))


@pytest.mark.parametrize("way", ["Escape", "button"])
def test_all_is_shown_again(page: Browser, way: str) -> None:
    everything = page.run("document.body.innerText"), page.run(MATRIX)
    assert page.run("document.querySelector('.choice button').checkVisibility()") is False
    page.drag(*across(page, 0.5, 0.6))
    chosen(page)
    if way == "Escape":
        page.press("Escape", 27)
    else:
        page.run("document.querySelector('.choice button').focus()")
        page.press("Enter", 13)
    page.wait_for(f"!{SAID}.startsWith('Only')")
    assert (page.run("document.body.innerText"), page.run(MATRIX)) == everything
    assert page.run(CHOSEN) == ["2026-01-01 01:00:00 UTC", "2026-01-01 01:10:40 UTC"]
    assert page.run("document.querySelectorAll('.none, .out, .part').length") == 0
    # Where whoever used it can go on.
    assert page.run("document.activeElement.id") == ("part-begin" if way == "button" else "")


def test_a_part_can_be_filtered_and_sorted(page: Browser) -> None:
    page.run("document.querySelector('[data-table=flows-table]').focus()")
    page.ask("Input.insertText", text="443 web-1")
    sort(page, "flows", 0)
    page.drag(*across(page, 0.1, 0.9))
    counts = packets_between(*chosen(page))
    rows = page.run(TABLE.format("flows"))
    wanted = [key for key in counts if key.port == 443 and "team-a/web-1" in (name_of(key.src), name_of(key.dst))]
    assert len(rows) == len(wanted) > 3
    assert [row[0] for row in rows] == sorted(row[0] for row in rows)
    said = page.run("document.querySelector('.filter output').textContent")
    assert said == f"{len(rows)} of {len(counts)} rows"


def test_an_open_cell_shows_the_part(page: Browser) -> None:
    page.run("document.querySelector('.matrix a').click()")
    page.drag(*across(page, 0.2, 0.5))
    chosen(page)
    assert page.run("document.querySelector('.cell[open] summary').textContent") == page.run(MATRIX)[0][0]
    numbers = page.run(
        "[...document.querySelectorAll('.cell[open] tbody tr')].filter(row => row.checkVisibility())"
        ".map(row => Number(row.querySelector('.number').textContent))"
    )
    assert numbers
    assert sum(numbers) <= int(page.run(MATRIX)[0][1])


def test_print_says_what_is_chosen(page: Browser) -> None:
    page.drag(*across(page, 0.2, 0.5))
    begin, end = chosen(page)
    page.ask("Emulation.setEmulatedMedia", media="print")
    text = page.run("document.body.innerText")
    assert f"Only {begin} to {end:%H:%M:%S} UTC is shown" in text
    assert "Show all" not in text
    assert page.run("document.getElementById('part-begin').checkVisibility()") is False
    page.press("Escape", 27)
    page.wait_for(f"!{SAID}.startsWith('Only')")
    assert page.run(SAID) not in page.run("document.body.innerText")
    page.ask("Emulation.setEmulatedMedia", media="")


def test_what_is_chosen_is_announced_and_the_handles_have_names(page: Browser) -> None:
    assert page.run("document.getElementById('choice').role") == "status"
    nodes = page.ask("Accessibility.getFullAXTree")["nodes"]
    sliders = [node["name"]["value"] for node in nodes if node.get("role", {}).get("value") == "slider"]
    assert sliders == ["Begin of the part that is shown", "End of the part that is shown"]


def test_no_request_can_be_made(tab: Browser, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text(as_html(busy(), by=By.POD))
    tab.open(path)
    tab.requests.clear()
    tab.complaints.clear()
    tab.run("document.body.append(Object.assign(new Image(), {src: 'http://192.0.2.1/x'}))")
    tab.run("fetch('http://192.0.2.1/y').catch(() => 0)")
    assert tab.run("1") == 1
    assert len(tab.complaints) >= 2
    assert all("Content Security Policy" in complaint for complaint in tab.complaints)
