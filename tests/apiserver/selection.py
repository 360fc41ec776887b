"""Field and label selectors."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tests.apiserver.answers import bad_request

__all__ = ["Requirement", "label_matcher", "parse_fields", "truth"]

_OPERATOR = re.compile(r"(?<!\\)(!=|==|=)")
_COMMA = re.compile(r"(?<!\\),")
_ESCAPE = re.compile(r"\\([\\,=])")
_SET = re.compile(r"^\s*(\S+)\s+(in|notin)\s+\(([^)]*)\)\s*$")


@dataclass(frozen=True, slots=True)
class Requirement:
    """One term of a field selector: `field` equals `value`, or does not (`negated`)."""

    field: str
    value: str
    negated: bool = False


def parse_fields(text: str) -> tuple[Requirement, ...]:
    """The terms of a `fieldSelector`; what cannot be read is a 400."""
    found = []
    for term in _COMMA.split(text):
        if not term:
            continue
        parts = _OPERATOR.split(term, maxsplit=1)
        if len(parts) != 3:
            raise bad_request(f"invalid selector: '{text}'; can't understand '{term}'")
        field, operator, value = parts
        found.append(Requirement(field, _ESCAPE.sub(r"\1", value), operator == "!="))
    return tuple(found)


def _split_labels(text: str) -> Sequence[str]:
    """Terms of a label selector; commas within `in (a,b)` do not split."""
    terms, depth, start = [], 0, 0
    for position, character in enumerate(text):
        if character == "(":
            depth += 1
        elif character == ")":
            depth -= 1
        elif character == "," and depth == 0:
            terms.append(text[start:position])
            start = position + 1
    terms.append(text[start:])
    return [term.strip() for term in terms if term.strip()]


def label_matcher(text: str) -> Callable[[Mapping[str, str]], bool] | None:
    """A predicate on labels, or None if all match: `a=b`, `a!=b`, `a`, `!a`, `a in (b,c)`, `a notin (b)`."""
    tests: list[tuple[str, str, frozenset[str]]] = []
    for term in _split_labels(text):
        found = _SET.match(term)
        parts = _OPERATOR.split(term, maxsplit=1)
        if found:
            values = frozenset(value.strip() for value in found[3].split(","))
            tests.append((found[1], found[2], values))
        elif len(parts) == 3:
            operator = "notin" if parts[1] == "!=" else "in"
            tests.append((parts[0].strip(), operator, frozenset((parts[2].strip(),))))
        elif term.startswith("!"):
            tests.append((term[1:].strip(), "absent", frozenset()))
        elif re.fullmatch(r"[\w./-]+", term):
            tests.append((term, "present", frozenset()))
        else:
            raise bad_request(f"unable to parse requirement: found '{term}'")
    if not tests:
        return None

    def matches(labels: Mapping[str, str]) -> bool:
        for key, operator, values in tests:
            value = labels.get(key)
            if operator == "in":
                wanted = value in values
            elif operator == "notin":
                wanted = value not in values
            else:
                wanted = (value is None) == (operator == "absent")
            if not wanted:
                return False
        return True

    return matches


def truth(query: Mapping[str, str], name: str) -> bool:
    """A boolean parameter: absent, `0` and `false` are false, all else is true, as in apimachinery."""
    return name in query and query[name].lower() not in ("0", "false")
