"""Conditions of nftables' rules, in the form of libnftables-json(5) (pure)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from kiptail.check.firewall.rulesets import PROTOCOL, Match

__all__ = ["about", "match_of", "meta_is"]

#: What a look into a header takes for granted, and nft does not print: ``meta l4proto``, by the header's name.
_TRANSPORT = {
    **{name: name for name in ("tcp", "udp", "udplite", "sctp", "dccp", "icmp", "esp", "ah", "comp")},
    "icmpv6": "ipv6-icmp",
}
#: Keys of ``meta`` that are the same on all of the packet's way, and those that are not even in one place.
_META_PROTOCOL = ("l4proto", "nfproto")
_META_CHANCE = ("random", "time", "hour", "day", "cpu")


def match_of(body: dict[str, Any]) -> Iterator[Match]:
    """The condition of a ``match`` statement, after what it takes for granted."""
    op, left, right = body.get("op", "=="), body.get("left"), body.get("right")
    payload = left.get("payload") if isinstance(left, dict) else None
    protocol = payload.get("protocol") if isinstance(payload, dict) else None
    if isinstance(protocol, str) and protocol in _TRANSPORT:
        yield meta_is("l4proto", _TRANSPORT[protocol])
    negated = op == "!="
    selector = json.dumps(["==" if negated else op, left], sort_keys=True)
    value = json.dumps(right, sort_keys=True)
    looks_at = about(left) | (about(right) if isinstance(right, dict | list) else frozenset())
    if isinstance(right, str) and right.startswith("@"):
        looks_at |= {"set"}
    steady = not _is_chance(left) and not _is_chance(right)
    # An interface's name may end with an asterisk for many.
    single = isinstance(right, int) or (isinstance(right, str) and right[:1] != "@" and right[-1:] != "*")
    yield Match(f"{selector} {value}", negated, looks_at, steady, point=selector if single and op == "==" else "")


def meta_is(key: str, value: str) -> Match:
    """The condition ``meta KEY VALUE``."""
    (match,) = match_of({"left": {"meta": {"key": key}}, "right": value})
    return match


def about(expression: object) -> frozenset[str]:
    """What an expression looks at, or what it changes where it is written to."""
    if isinstance(expression, list):
        return frozenset[str]().union(*map(about, expression))
    if not isinstance(expression, dict):
        if isinstance(expression, str) and expression.startswith("@"):
            return frozenset(("set",))
        return frozenset()
    found = set[str]()
    for kind, body in expression.items():
        if kind == "meta":
            key = body.get("key") if isinstance(body, dict) else body
            found |= PROTOCOL if key in _META_PROTOCOL else {"mark"} if key == "mark" else {"packet"}
        elif kind == "ct":
            found.add("ct")
        elif kind in ("fib", "socket"):
            found |= {"packet", "mark"}
        elif kind in ("prefix", "range"):
            continue
        elif kind in ("set", "&", "|", "^", "<<", ">>", "concat", "map", "elem"):
            found |= about(body)
        else:
            found.add("packet")
    return frozenset(found)


def _is_chance(expression: object) -> bool:
    if isinstance(expression, list):
        return any(map(_is_chance, expression))
    if not isinstance(expression, dict):
        return False
    meta = expression.get("meta")
    if isinstance(meta, dict) and meta.get("key") in _META_CHANCE:
        return True
    return "numgen" in expression or any(map(_is_chance, expression.values()))
