"""Which objects have fields of the right types."""

from __future__ import annotations

from typing import Any

import pytest

from kiptail.pods.shape import misfit

SHAPE: Any = {"a": str, "list": (str,), "objects": ({"n": int},), "texts": {"": str}}


@pytest.mark.parametrize(
    "obj",
    [
        {},
        {"a": "x", "list": ["x", None], "objects": [{"n": 1}, {}, None], "texts": {"k": "v"}},
        {"a": None, "list": None, "objects": None, "texts": None, "unknown": 7},
    ],
)
def test_what_fits(obj: Any) -> None:
    assert misfit(obj, SHAPE) == ""


@pytest.mark.parametrize(
    ("obj", "field"),
    [
        ([], "pod"),
        ({"a": 1}, "a"),
        ({"list": "x"}, "list"),
        ({"list": [1]}, "list"),
        ({"list": ["x", []]}, "list"),
        ({"objects": [{"n": True}]}, "n"),
        ({"objects": ["x"]}, "objects"),
        ({"texts": {"secret": 1}}, "texts"),
    ],
)
def test_the_field_that_does_not_fit_is_named(obj: Any, field: str) -> None:
    assert misfit(obj, SHAPE) == field
