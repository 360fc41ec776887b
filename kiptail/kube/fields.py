"""Fields of an object that may be anything: what is of another type than is read for counts as empty (pure)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["elements", "mapping", "mappings"]


def mapping(value: object) -> Mapping[str, Any]:
    """An object, or an empty one."""
    return value if isinstance(value, Mapping) else {}


def elements(value: object) -> list[Any]:
    """A list, or an empty one."""
    return value if isinstance(value, list) else []


def mappings(value: object) -> Iterator[Mapping[str, Any]]:
    """The objects of a list; an empty one for each element that is none."""
    return map(mapping, elements(value))
