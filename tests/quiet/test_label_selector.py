"""Label selectors mean what they mean to kubectl."""

from __future__ import annotations

import pytest

from kiptail.quiet.label_selector import selector

LABELS = {"app": "web", "app.kubernetes.io/name": "web", "tier": "", "in": "x"}


@pytest.mark.parametrize(
    ("text", "selects"),
    [
        ("app=web", True),
        ("app==web", True),
        ("app = web", True),
        ("app=x", False),
        ("app!=web", False),
        ("app!=x", True),
        ("other!=x", True),
        ("app", True),
        ("other", False),
        ("!other", True),
        ("! app", False),
        ("app in (web)", True),
        ("app in (x, web)", True),
        ("app in(x,y)", False),
        ("app notin (x,y)", True),
        ("other notin (x)", True),
        ("app notin (web)", False),
        ("tier=", True),
        ("tier in (,x)", True),
        ("in=x", True),
        ("app=web,!other,tier in (a, ,b)", True),
        ("app=web,other", False),
        ("app.kubernetes.io/name=web", True),
    ],
)
def test_what_is_selected(text: str, selects: bool) -> None:
    assert selector(text).matches(LABELS) is selects


@pytest.mark.parametrize(
    "text",
    ["", ",", "app=web,", "=web", "app=a b", "app>1", "app in web", "app in (web", "app in (a b)", "!app=web", "a b",
     "/a=b", "-a=b", "app=web;x", "app=" + "x" * 64, "app\n=web\n\n,"],
)  # fmt: skip
def test_what_is_none(text: str) -> None:
    with pytest.raises(ValueError, match="is no label selector"):
        selector(text)
