"""Label selectors as ``kubectl get -l`` takes them (pure).

Source: "Labels and Selectors" in Kubernetes' documentation.
"""

from __future__ import annotations

import re

from kiptail.policies.selector import Requirement, Selector

__all__ = ["selector"]

_KEY = r"(?:[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?/)?[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?"
_VALUE = r"(?:[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?"
_SET = re.compile(rf"({_KEY})\s+(in|notin)\s*\(([^()]*)\)")
_EQUATION = re.compile(rf"({_KEY})\s*(==|=|!=)\s*({_VALUE})")
_EXISTENCE = re.compile(rf"(!?)\s*({_KEY})")
#: Where one requirement ends: a comma that is not within brackets.
_COMMA = re.compile(r",(?![^()]*\))")
_OPERATORS = {"in": "In", "notin": "NotIn", "=": "In", "==": "In", "!=": "NotIn"}


def selector(text: str) -> Selector:
    """``app=web,tier in (front, back),!canary``; ValueError, which completes "TEXT …", when it is none."""
    return Selector(tuple(_requirement(part.strip()) for part in _COMMA.split(text)))


def _requirement(text: str) -> Requirement:
    if found := _SET.fullmatch(text):
        values = tuple(value.strip() for value in found[3].split(","))
        if all(re.fullmatch(_VALUE, value) for value in values):
            return Requirement(found[1], _OPERATORS[found[2]], values)
    elif found := _EQUATION.fullmatch(text):
        return Requirement(found[1], _OPERATORS[found[2]], (found[3],))
    elif found := _EXISTENCE.fullmatch(text):
        return Requirement(found[2], "DoesNotExist" if found[1] else "Exists")
    raise ValueError("is no label selector: write it as `kubectl get pods -l` takes it, such as app=web,tier!=test")
