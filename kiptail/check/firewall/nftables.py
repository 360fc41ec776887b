"""Rules as ``nft -j list ruleset`` prints them, the form that libnftables-json(5) describes (pure)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from kiptail.check.firewall.nft_matches import about, match_of, meta_is
from kiptail.check.firewall.rulesets import (
    CHANGEABLE,
    OPAQUE,
    Base,
    Chain,
    Change,
    Decision,
    Fork,
    Key,
    Log,
    Match,
    Step,
)
from kiptail.check.firewall.targets import ABOUT_CT, ABOUT_PACKET, LOGGING, steps_of_target

__all__ = ["parse_nft"]

_DECISIONS = ("accept", "drop", "reject", "return", "continue")
#: Of these nft leaves out that they are for packets of one protocol only.
_FOR_ONE_PROTOCOL = {"tcp reset": ("l4proto", "tcp"), "icmp": ("nfproto", "ipv4"), "icmpv6": ("nfproto", "ipv6")}
_UNKNOWN = Fork((Decision("unknown"),))
#: Statements that do the same whatever they hold.
_PLAIN: dict[str, tuple[Step, ...]] = {
    **{verdict: (Decision(verdict),) for verdict in _DECISIONS if verdict != "reject"},
    # They end the way through the chain and let the packet pass.
    **dict.fromkeys(("masquerade", "redirect"), (Decision("accept"),)),
    # A program, or the state of things, decides.
    **dict.fromkeys(("queue", "synproxy", "fwd"), (_UNKNOWN,)),
    **dict.fromkeys(("counter", "comment", "last", "dup", "ct timeout", "ct expectation"), ()),
    **dict.fromkeys(("notrack", "ct helper"), (Change(ABOUT_CT),)),
    "secmark": (Change(ABOUT_PACKET),),
}
#: They let through whom they like.
_LIMITS = ("limit", "quota", "ct count")
#: Flags of a table which say nothing of whether it works. nft 1.0.6 prints anything in place of ``dormant``.
_AWAKE = ("owner", "persist")

#: As ``nft -a list ruleset`` prints a rule of iptables' that logs. Quotation marks in a prefix are printed as they are.
_LISTED_LOG = re.compile(
    r'\blog(?: prefix "(?P<prefix>.*?)"(?= (?:level|group|snaplen|queue-threshold|flags|comment)|$))?'
    r"(?: group (?P<group>\d{1,5}))?(?= |$)"
)
_TABLE = re.compile(r"^table (\S+) (.+) \{ # handle \d+$")
_HANDLE = re.compile(r" # handle (\d+)$")

_Tables = dict[tuple[str, str], dict[str, Any]]


def parse_nft(text: str, *, listed: str = "") -> dict[Key, Chain]:
    """What ``nft -j list ruleset`` printed. ValueError, RecursionError.

    ``listed`` is what ``nft -a list ruleset`` printed: there nft shows more of the rules of iptables.
    """
    lines = _by_handle(listed)
    document = json.loads(text)
    items = document.get("nftables") if isinstance(document, dict) else None
    if not isinstance(items, list):
        raise ValueError("is not what nft -j prints")  # noqa: TRY004 - it is bad input, as bad JSON is
    chains: dict[Key, Chain] = {}
    maps: _Tables = {}
    dormant = set[tuple[str, str]]()
    rules = list[tuple[Key, dict[str, Any]]]()
    for item in items:
        kind, body = _only(item)
        if not isinstance(body, dict):
            continue
        family = _text(body.get("family"))
        table = _text(body.get("name" if kind == "table" else "table"))
        if kind == "table":
            flags = body.get("flags", [])
            if any(flag not in _AWAKE for flag in (flags if isinstance(flags, list) else [flags])):
                dormant.add((family, table))
        elif kind == "map":
            maps.setdefault((family, table), {})[_text(body.get("name"))] = body.get("elem", [])
        elif kind in ("chain", "rule"):
            key = Key("nf_tables", family, table, _text(body.get("name" if kind == "chain" else "chain")))
            chain = chains.setdefault(key, Chain("nftables", f"{family} {table} {key.chain}"))
            if kind == "chain":
                chain.base = _base(body, dormant=(family, table) in dormant)
            else:
                rules.append((key, body))
    for key, body in rules:
        expressions = body.get("expr")
        line = lines.get((key.family, key.table, str(body.get("handle"))), "")
        reading = _Reading(key.family, maps.get((key.family, key.table), {}), line)
        steps = _steps(expressions if isinstance(expressions, list) else [], reading)
        chains[key].rules.append(tuple(steps))
    return chains


def _by_handle(listed: str) -> dict[tuple[str, str, str], str]:
    """Each line of the plain list by (family, table, handle)."""
    found = {}
    family = table = ""
    for line in listed.split("\n"):
        begins, handle = _TABLE.match(line), _HANDLE.search(line)
        if begins:
            family, table = begins[1], begins[2]
        elif handle:
            found[family, table, handle[1]] = line[: handle.start()]
    return found


def _base(body: dict[str, Any], *, dormant: bool) -> Base | None:
    if "hook" not in body:
        return None
    priority = body.get("prio")
    return Base(
        _text(body.get("hook")),
        priority if isinstance(priority, int) else 0,
        _text(body.get("policy", "accept")),
        nat=body.get("type") == "nat",
        dormant=dormant,
    )


def _only(item: object) -> tuple[str, Any]:
    """The one key of an object, and what it has."""
    return next(iter(item.items())) if isinstance(item, dict) and item else ("", None)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


class _Reading(NamedTuple):
    """What a rule's statements are read with."""

    family: str
    #: The elements of its table's maps.
    maps: dict[str, Any]
    #: The rule in the plain list; "" when it is not needed.
    listed: str


def _steps(expressions: list[Any], reading: _Reading) -> Iterator[Step]:
    limited = logged = False
    for expression in expressions:
        kind, body = _only(expression)
        if kind in _PLAIN:
            yield from _PLAIN[kind]
        elif kind == "match" and isinstance(body, dict):
            yield from match_of(body)
        elif kind == "reject":
            yield from _reject(body if isinstance(body, dict) else {}, reading.family, logged=logged)
        elif kind in ("dnat", "snat"):
            yield _translated(body if isinstance(body, dict) else {})
        elif kind == "log":
            logged = True
            yield from _log(body if isinstance(body, dict) else {}, limited=limited)
        elif kind in ("jump", "goto"):
            yield _decision(expression)
        elif kind == "vmap":
            yield _fork(body, reading.maps)
        elif kind == "xt":
            limited = limited or (isinstance(body, dict) and body.get("name") == "limit")
            yield from _xt(body, reading.listed, limited=limited)
        else:
            # Mangling, limits, sets that are added to, and what a later nft may have: each can end the rule.
            bounded = _holds_limit(expression)
            limited = limited or bounded
            if kind not in _LIMITS:
                known = kind == "mangle" and isinstance(body, dict)
                yield Change(about(body.get("key")) if known else CHANGEABLE)
            yield _chance(expression, limit=bounded)


def _reject(body: dict[str, Any], family: str, *, logged: bool) -> Iterator[Step]:
    """``logged``: the same rule has logged the packet."""
    only = _FOR_ONE_PROTOCOL.get(_text(body.get("type")))
    if only == ("l4proto", "tcp"):
        yield meta_is(*only)
        # nft (1.0.6 at least) leaves out a match on nfproto before it. What a rule asks, it asks before it logs.
        if family not in ("ip", "ip6") and not logged:
            yield _chance({"reject": body})
    # A table of one family has packets of that alone.
    elif only and family not in ("ip", "ip6"):
        yield meta_is(*only)
    yield Decision("reject")


def _translated(body: dict[str, Any]) -> Step:
    """An address of one family changes nothing of the other's packets, nor does a map in which a packet is not."""
    plain = "family" not in body and not any(isinstance(body.get(key), dict) for key in ("addr", "port"))
    accept = Decision("accept")
    return accept if plain else Fork((accept,))


def _log(body: dict[str, Any], *, limited: bool) -> Iterator[Step]:
    group = body.get("group")
    # What goes to the audit subsystem is in no log of the kernel's.
    if body.get("level") != "audit":
        yield Log(_text(body.get("prefix")), group if isinstance(group, int) else None, limited)


def _xt(body: object, listed: str, *, limited: bool) -> Iterator[Step]:
    """A match or target of iptables, of which JSON has the name at most, and the plain list what it stands for."""
    kind, name = (body.get("type"), _text(body.get("name"))) if isinstance(body, dict) else (None, "")
    logged = _LISTED_LOG.search(listed)
    if kind == "match":
        if name != "comment":
            yield _chance({"xt": body}, limit=name == "limit")
    elif kind == "target" and name not in LOGGING:
        yield steps_of_target(name)
    elif logged is not None and name in (*LOGGING, ""):
        yield Log(logged["prefix"] or "", int(logged["group"]) if logged["group"] else None, limited)
    else:
        yield Change(CHANGEABLE)
        yield _UNKNOWN
        yield OPAQUE


def _chance(expression: object, *, limit: bool = False) -> Match:
    return Match(json.dumps(expression, sort_keys=True), steady=False, limit=limit)


def _holds_limit(expression: object) -> bool:
    """Whether a rate limit is in there that takes what is under the rate."""
    if isinstance(expression, dict):
        limit = expression.get("limit")
        inverted = isinstance(limit, dict) and bool(limit.get("inv"))
        return ("limit" in expression and not inverted) or any(_holds_limit(value) for value in expression.values())
    return isinstance(expression, list) and any(_holds_limit(value) for value in expression)


def _decision(expression: object) -> Decision:
    kind, body = _only(expression)
    if kind in ("jump", "goto"):
        return Decision(kind, _text(body.get("target")) if isinstance(body, dict) else "")
    return Decision(kind if kind in _DECISIONS else "unknown")


def _fork(body: object, maps: dict[str, Any]) -> Fork:
    """What a verdict map can decide: its own elements, or those of a named one."""
    data = body.get("data") if isinstance(body, dict) else None
    elements = data.get("set") if isinstance(data, dict) else None
    if isinstance(data, str):
        elements = maps.get(data.removeprefix("@"))
    if not isinstance(elements, list):
        return Fork((Decision("unknown"),))
    values = [element[1] if isinstance(element, list) and len(element) == 2 else None for element in elements]
    return Fork(tuple(dict.fromkeys(map(_decision, values))))
