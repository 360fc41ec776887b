"""Filters by a judge of their own: written from what docs/filters.md says, compared one by one, without an index."""

from __future__ import annotations

import fnmatch
import ipaddress
from collections.abc import Mapping, Sequence
from typing import Any

from kiptail.flows.flow import FlowKey

__all__ = ["Judge", "first_of", "holds"]

#: A filter as a table says it, in plain values: lists of texts, numbers and ranges "8000-8100".
Judge = Mapping[str, Any]

#: Who is at an end: ``{"is": "pod"|"node"|"service"|"outside", "namespace": …, "labels": {…}, "probes": bool}``.
Who = Mapping[str, Any]


def _in(address: str, ranges: Sequence[str], who: Who | None) -> bool:
    for each in ranges:
        if each in ("node", "service", "outside"):
            if who is not None and who["is"] == each:
                return True
        elif address:
            network = ipaddress.ip_network(each)
            mine = ipaddress.ip_address(address)
            if mine.version == network.version and network.network_address <= mine <= network.broadcast_address:
                return True
    return False


def _port(port: int | None, ports: Sequence[int | str]) -> bool:
    for each in ports:
        first, _, last = str(each).partition("-")
        if port is not None and port in range(int(first), int(last or first) + 1):
            return True
    return False


def holds(
    wanted: Judge, key: FlowKey, *, reset: bool = False, who: Mapping[str, Who] | None = None, end: str = ""
) -> bool:
    """Whether all that ``wanted`` says is so."""
    who = who or {}
    folded = not (key.src and key.dst)
    answers = []
    for name, value in wanted.items():
        match name:
            case "src" | "dst":
                answers.append(_in(key.address(name), value, who.get(name)))
            case "peer":
                answers.append(any(_in(key.address(each), value, who.get(each)) for each in ("src", "dst")))
            case "port":
                answers.append(_port(key.port, value))
            case "protocol":
                answers.append(key.protocol in value)
            case "icmp":
                said = [f"{key.icmp_type}", f"{key.icmp_type}/{key.icmp_code}"]
                answers.append(key.icmp_type is not None and any(each in said for each in value))
            case "prefix":
                answers.append(key.prefix in value)
            case "policy":
                answers.append(bool(key.policy) and any(fnmatch.fnmatchcase(key.policy, each) for each in value))
            case "verdict":
                answers.append(key.verdict in value)
            case "reply":
                answers.append(not folded and key.reply == value)
            case "direction":
                answers.append(end == {"sent": "src", "received": "dst"}[value])
            case "name":
                answers.append(_noise(value, key, reset, who))
    if "namespace" in wanted or "pod" in wanted:
        answers.append(any(_of(wanted, each) for each in who.values()))
    return all(answers)


def _of(wanted: Judge, who: Who) -> bool:
    if who["is"] != "pod":
        return False
    if "namespace" in wanted and not any(fnmatch.fnmatchcase(who["namespace"], each) for each in wanted["namespace"]):
        return False
    if "pod" in wanted:
        key, value = wanted["pod"].split("=")
        return who["labels"].get(key) == value
    return True


def _noise(name: str, key: FlowKey, reset: bool, who: Mapping[str, Who]) -> bool:
    match name:
        case "replies":
            return key.protocol == "TCP" and (key.reply or reset)
        case "multicast":
            return bool(key.dst) and (key.dst == "255.255.255.255" or ipaddress.ip_address(key.dst).is_multicast)
    return any(each.get("probes") for each in who.values())


def first_of(filters: Sequence[Judge], key: FlowKey, **more: Any) -> tuple[str, bool] | None:
    """What the filter says that counts: its reason, and whether nothing is kept."""
    found = [each for each in filters if holds(each, key, **more)]
    everything = [each for each in found if each.get("what") == "all"]
    for each in (*everything, *found):
        return each.get("reason") or each.get("name") or "filter", each.get("what") == "all"
    return None
