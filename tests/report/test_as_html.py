"""A report as a page, as a parser sees it."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kiptail.flows.flow import FlowKey
from kiptail.report.as_html import as_html
from kiptail.report.ends import By, Ends
from kiptail.report.summary import report_of
from kiptail.report.tally import Period, Tally
from kiptail.text import one_line
from tests.report.pages import HOSTILE, START, Named, busy

#: Attributes that make a browser ask for something, and those that run something.
ASKS = {"src", "srcset", "href", "xlink:href", "action", "formaction", "data", "poster", "background", "ping", "style"}


class Page(HTMLParser):
    """The elements, the texts in scripts, styles and cells, and whether each end has a beginning."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.texts.setdefault(tag, []).append("")
        if tag not in {"meta", "input"}:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open:
            self.texts[self._open[-1]][-1] += data

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def page() -> Page:
    return Page(as_html(busy(), by=By.POD))


def test_nothing_in_it_asks_for_anything(page: Page) -> None:
    for tag, attributes in page.elements:
        assert tag not in {"link", "img", "iframe", "object", "embed", "base", "form", "image", "use"}
        for name, value in attributes.items():
            assert not name.startswith("on")
            assert name not in ASKS or (name == "href" and (value or "").startswith("#"))
    assert not re.search(r"url\(|@import|https?:", "".join(page.texts["style"] + page.texts["script"]))


def test_only_its_own_script_and_style_may_be_used(page: Page) -> None:
    policy = next(meta["content"] for meta in page.named("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    rules = {name: sources for name, _, sources in (rule.strip().partition(" ") for rule in policy.split(";"))}
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    for tag in ("script", "style"):
        (text,) = page.texts[tag]
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert rules[f"{tag}-src"] == f"'sha256-{digest}'"


def test_hostile_text_is_text(page: Page) -> None:
    assert HOSTILE in page.texts["td"]
    assert "<b>" in "".join(page.texts["p"])


def test_it_can_be_read_without_seeing_it(page: Page) -> None:
    ids = [attributes["id"] for _, attributes in page.elements if attributes.get("id")]
    assert len(ids) == len(set(ids))
    for _, attributes in page.elements:
        for name in ("href", "aria-labelledby"):
            target = attributes.get(name)
            assert target is None or target.removeprefix("#") in ids
    assert page.named("html")[0]["lang"] == "en"
    assert all(head.get("scope") in {"row", "col"} for head in page.named("th"))
    assert all(link.get("aria-label") or link.get("class") == "skip" for link in page.named("a"))
    assert page.named("svg")[0]["role"] == "img"
    assert [tag for tag, _ in page.elements if tag in {"h1", "h2"}][:1] == ["h1"]


def test_as_many_rows_as_there_can_be_that_lost_packets_all_the_time_are_less_than_5_mb() -> None:
    tally = Tally(Ends(None, {}), Period())
    times_us = [START + 600_000_000 * at for at in range(3 * 96)]
    for n in range(2_000):
        src, dst = (f"10.0.{one // 250}.{one % 250}" for one in (n, (n + 1) % 2_000))
        policy = f"a-namespace-of-thirty-letters-/policy-{n}"
        key = FlowKey(src, dst, "TCP", 1_000 + n, None, None, reply=False, prefix="p:", verdict="drop", policy=policy)
        tally.add(key, times_us)
    page = as_html(report_of(tally, ()), by=By.POD)
    assert Page(page).named("td")[-2]["data-when"] == " ".join("3" * 96)
    assert len(page) < 5_000_000


@given(st.text(max_size=200))
@example(HOSTILE)
@example("=HYPERLINK('http://192.0.2.1';'x')")
def test_any_text_is_text(text: str) -> None:
    tally = Tally(Named(text), Period())
    key = FlowKey("10.0.0.1", "10.0.0.2", "TCP", 80, None, None, reply=False, prefix="p:", verdict="drop", policy=text)
    tally.add(key, [START])
    made = Page(as_html(report_of(tally, [text]), by=By.POD))
    assert len(made.named("script")) == 1
    assert len(made.named("td")) == len(made.texts["td"]) > 10
    assert one_line(f"{text}/{text}") in made.texts["td"] or not text


def test_nothing_is_a_page_too() -> None:
    made = Page(as_html(report_of(Tally(Ends(None, {}), Period()), ()), by=By.POD))
    assert "No packets were dropped" in "".join(made.texts["p"])
    assert made.named("table") == []
