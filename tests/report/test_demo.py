"""What `make demo` ends with: the recorded journal as a page, in a browser."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.report.test_page import CHOSEN, MATRIX, SAID, TABLE, across, chosen, sort
from tests.support.browser import Browser, browser

pytestmark = [pytest.mark.live, pytest.mark.timeout(180)]

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def demo() -> Path:
    """The page."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [ROOT / "tools/demo"], env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.endswith("\n==> the same as a page: build/demo/report.html\n")
    return ROOT / "build/demo/report.html"


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_demos_page_works(demo: Path, tab: Browser, width: int, scheme: str) -> None:
    tab.size(width, 800)
    tab.scheme(scheme)
    tab.requests.clear()
    tab.complaints.clear()
    tab.open(demo)
    assert tab.run("document.documentElement.scrollWidth <= innerWidth")
    assert (
        tab.run("getComputedStyle(document.body).backgroundColor")
        == {
            "light": "rgb(255, 255, 255)",
            "dark": "rgb(20, 23, 26)",
        }[scheme]
    )
    assert tab.run("[...document.querySelectorAll('.totals strong')].map(one => one.textContent)") == ["53", "7"]
    assert tab.run(MATRIX) == [
        ["team-a to team-a: 48 packets", "48", "shade-5"],
        ["team-b to (no pod): 5 packets", "5", "shade-4"],
    ]
    names = sort(tab, "flows", 2)
    assert names == ["53/UDP", "5432/TCP", "8080/TCP", "9090/TCP", "ICMP echo-request", "ICMPv6 echo-request"]
    tab.run("document.querySelector('[data-table=flows-table]').focus()")
    tab.ask("Input.insertText", text="report")
    assert [row[:3] for row in tab.run(TABLE.format("flows"))] == [["team-b/report-28f1", "192.0.2.7", "5432/TCP"]]
    tab.run("document.querySelector('.matrix a').click()")
    tab.wait_for("document.querySelector('.cell[open]')?.checkVisibility()")
    tab.drag(*across(tab, 0.0, 0.2))
    begin, end = chosen(tab)
    assert (end - begin).seconds < 20
    assert tab.run(SAID).endswith(" of 53 packets.")
    tab.press("Escape", 27)
    tab.wait_for(f"!{SAID}.startsWith('Only')")
    assert tab.run(CHOSEN)[0] != tab.run(CHOSEN)[1]
    assert tab.requests == [demo.as_uri()]
    assert tab.complaints == []
