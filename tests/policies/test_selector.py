"""Label selectors: what they hold for, what they say, and what is none."""

from __future__ import annotations

from typing import Any

import pytest

from kiptail.policies.malformed import Malformed
from kiptail.policies.selector import EVERYTHING, Requirement, listed, selector_of

LABELS = {"app": "worker", "empty": ""}


@pytest.mark.parametrize(
    ("requirement", "wanted", "found"),
    [
        (Requirement("app", "In", ("client",)), "app=client", "app=worker"),
        (Requirement("app", "In", ("a", "b")), "app in (a, b)", "app=worker"),
        (Requirement("app", "NotIn", ("worker",)), "app not in (worker)", "app=worker"),
        (Requirement("tier", "Exists"), "a label tier", "no label tier"),
        (Requirement("app", "DoesNotExist"), "no label app", "app=worker"),
        (Requirement("empty", "In", ("x",)), "empty=x", "empty=''"),
        (Requirement("tier", "In", tuple("abcdefg")), "tier in (a, b, c, d, e and 2 more)", "no label tier"),
    ],
)
def test_what_fails_is_said_in_words(requirement: Requirement, wanted: str, found: str) -> None:
    assert not requirement.holds(LABELS)
    assert (requirement.wanted(), requirement.found(LABELS)) == (wanted, found)


def test_foreign_text_is_cut_and_has_no_control_characters() -> None:
    requirement = Requirement("a\x1b[31m\n" * 200, "In", ("\u202e" * 500,))
    for text in (requirement.wanted(), requirement.found({requirement.key: "\x00" * 900})):
        assert text.isprintable()
        assert len(text) < 300


def test_nothing_selects_everything() -> None:
    for obj in (None, {}, {"matchLabels": None, "matchExpressions": None}, {"matchLabels": {}}):
        assert selector_of(obj) == EVERYTHING
    assert EVERYTHING.matches({})


def test_all_requirements_have_to_hold() -> None:
    selector = selector_of(
        {"matchLabels": {"app": "worker"}, "matchExpressions": [{"key": "tier", "operator": "Exists"}]}
    )
    assert not selector.matches(LABELS)
    assert selector.matches({**LABELS, "tier": "x"})
    assert selector.failed(LABELS) == [Requirement("tier", "Exists")]
    assert selector.failed({}) == [Requirement("app", "In", ("worker",)), Requirement("tier", "Exists")]


@pytest.mark.parametrize(
    "expression",
    [
        {"key": "a", "operator": "Gt", "values": ["1"]},
        {"key": "a", "operator": None},
        {"key": "a"},
        {"key": "a", "operator": "In"},
        {"key": "a", "operator": "NotIn", "values": []},
        {"key": "a", "operator": "Exists", "values": ["x"]},
        {"operator": "Exists"},
        None,
    ],
)
def test_what_the_api_server_refuses_is_refused(expression: Any) -> None:
    with pytest.raises(Malformed, match="matchExpression"):
        selector_of({"matchExpressions": [expression]})


def test_many_are_counted() -> None:
    assert listed([]) == ""
    assert listed("abc", 3) == "a, b, c"
    assert listed("abcd", 3) == "a, b, c and 1 more"
