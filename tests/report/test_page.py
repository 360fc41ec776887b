"""The page of a report in a browser: it sorts, filters, opens, and asks nobody for anything."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kiptail.report.as_html import as_html
from kiptail.report.ends import By
from tests.report.pages import HOSTILE, busy
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
