"""Fields of objects that may be anything."""

from __future__ import annotations

import pytest

from kiptail.kube.fields import elements, mapping, mappings


@pytest.mark.parametrize("value", [None, "", "a", 0, 1, True, 1.5, b"a", object()])
def test_what_is_of_another_type_is_empty(value: object) -> None:
    assert (mapping(value), elements(value), list(mappings(value))) == ({}, [], [])


def test_what_is_of_its_type_is_itself() -> None:
    obj, values = {"a": 1}, [1, {"b": 2}, None]
    assert (mapping(obj), mapping(values)) == (obj, {})
    assert (elements(values), elements(obj)) == (values, [])
    assert list(mappings(values)) == [{}, {"b": 2}, {}]
