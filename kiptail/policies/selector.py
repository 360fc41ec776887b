"""Label selectors (metav1.LabelSelector): which labels they hold for, and in words what they want (pure)."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from kiptail.policies.malformed import Malformed
from kiptail.text import one_line

__all__ = ["EVERYTHING", "Requirement", "Selector", "listed", "selector_of"]

_OPERATORS = ("In", "NotIn", "Exists", "DoesNotExist")
#: A label's key has at most 317 characters and a value 63; an object that breaks this is cut.
_TEXT = 120
#: Values, ports or names that a text lists.
_MOST_LISTED = 5


@dataclass(frozen=True, slots=True)
class Requirement:
    """One condition on labels; ``matchLabels`` are such, with the operator ``In`` and one value."""

    key: str
    operator: str
    values: tuple[str, ...] = ()

    def holds(self, labels: Mapping[str, str]) -> bool:
        """``NotIn`` and ``DoesNotExist`` hold when the key is missing."""
        value = labels.get(self.key)
        match self.operator:
            case "In":
                return value is not None and value in self.values
            case "NotIn":
                return value is None or value not in self.values
            case "Exists":
                return value is not None
        return value is None

    def wanted(self) -> str:
        """In words: ``app=client``, ``app in (a, b)``, ``app not in (a)``, ``a label app``, ``no label app``."""
        key = one_line(self.key, _TEXT)
        match self.operator:
            case "In" if len(self.values) == 1:
                return _equation(self.key, self.values[0])
            case "In" | "NotIn":
                word = "in" if self.operator == "In" else "not in"
                return f"{key} {word} ({listed(one_line(value, _TEXT) for value in self.values)})"
            case "Exists":
                return f"a label {key}"
        return f"no label {key}"

    def found(self, labels: Mapping[str, str]) -> str:
        """What ``labels`` have there instead: ``app=worker``, ``no label app``."""
        value = labels.get(self.key)
        return f"no label {one_line(self.key, _TEXT)}" if value is None else _equation(self.key, value)


@dataclass(frozen=True, slots=True)
class Selector:
    """Requirements that all have to hold; without any it selects everything."""

    requirements: tuple[Requirement, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether it selects what has these labels."""
        return all(requirement.holds(labels) for requirement in self.requirements)

    def failed(self, labels: Mapping[str, str]) -> list[Requirement]:
        """The requirements that do not hold."""
        return [requirement for requirement in self.requirements if not requirement.holds(labels)]


EVERYTHING = Selector()


def selector_of(obj: Mapping[str, Any] | None) -> Selector:
    """The selector of a ``metav1.LabelSelector`` whose fields have the right types. Raises Malformed.

    An operator that is not known, or that lacks values or has some too many, is refused as the API server does it.
    Strings are interned: policies have the same labels again and again.
    """
    obj = obj or {}
    requirements = [
        Requirement(sys.intern(key), "In", (sys.intern(value or ""),))
        for key, value in sorted((obj.get("matchLabels") or {}).items())
    ]
    for expression in (each or {} for each in obj.get("matchExpressions") or ()):
        key, operator = expression.get("key") or "", expression.get("operator")
        values = tuple(value or "" for value in expression.get("values") or ())
        if operator not in _OPERATORS:
            raise Malformed("a matchExpression has an operator that is not known")
        if not key or bool(values) != (operator in ("In", "NotIn")):
            raise Malformed("a matchExpression lacks its key or values, or has values too many")
        requirements.append(Requirement(sys.intern(key), operator, tuple(map(sys.intern, values))))
    return Selector(tuple(requirements))


def listed(texts: Iterable[str], most: int = _MOST_LISTED) -> str:
    """``a, b, c and 4 more``."""
    parts = list(texts)
    if len(parts) <= most:
        return ", ".join(parts)
    return f"{', '.join(parts[:most])} and {len(parts) - most} more"


def _equation(key: str, value: str) -> str:
    return f"{one_line(key, _TEXT)}={one_line(value, _TEXT) or repr('')}"
