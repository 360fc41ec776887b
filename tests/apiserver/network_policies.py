"""NetworkPolicies: the defaults of a create, and the API server's validation of what decides.

Written from the API's documentation and its validation, and not from kiptail's reading of them.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["new_network_policy", "validate_network_policy"]

Json = dict[str, Any]
Cause = tuple[str, str, str]

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*")
_KEY = re.compile(
    r"([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?"
)
_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
_FIELDS = {
    "spec": {"podSelector", "policyTypes", "ingress", "egress"},
    "ingress": {"from", "ports"},
    "egress": {"to", "ports"},
    "peer": {"podSelector", "namespaceSelector", "ipBlock"},
    "port": {"protocol", "port", "endPort"},
    "selector": {"matchLabels", "matchExpressions"},
    "block": {"cidr", "except"},
}


def new_network_policy(obj: Json) -> Json:
    """The defaults: policyTypes, and the protocol of ports."""
    spec = {"podSelector": {}, **(obj.get("spec") or {})}
    if not spec.get("policyTypes"):
        spec["policyTypes"] = ["Ingress", *(["Egress"] if spec.get("egress") else [])]
    for direction in ("ingress", "egress"):
        for rule in spec.get(direction) or ():
            for port in rule.get("ports") or ():
                port.setdefault("protocol", "TCP")
    metadata = {**obj["metadata"], "generation": 1}
    return {**obj, "metadata": metadata, "spec": spec}


def validate_network_policy(obj: Mapping[str, Any]) -> list[Cause]:
    """What is wrong with it; also fields that are not known, as with strict field validation."""
    return list(_causes(obj))


def _invalid(where: str, why: str) -> Cause:
    return "FieldValueInvalid", f"Invalid value: {why}", where


def _causes(obj: Mapping[str, Any]) -> Iterator[Cause]:
    if not _NAME.fullmatch(str(obj["metadata"].get("name", ""))) or len(obj["metadata"]["name"]) > 253:
        yield _invalid("metadata.name", "a lowercase RFC 1123 subdomain")
    spec = obj.get("spec") or {}
    yield from _known(spec, "spec", "spec")
    yield from _selector(spec.get("podSelector") or {}, "spec.podSelector")
    if not set(spec.get("policyTypes") or ()) <= {"Ingress", "Egress"}:
        yield _invalid("spec.policyTypes", "Ingress, Egress")
    for direction, peers in (("ingress", "from"), ("egress", "to")):
        for number, rule in enumerate(spec.get(direction) or ()):
            where = f"spec.{direction}[{number}]"
            yield from _known(rule, direction, where)
            for peer in rule.get(peers) or ():
                yield from _peer(peer, f"{where}.{peers}")
            for port in rule.get("ports") or ():
                yield from _port(port, f"{where}.ports")


def _known(obj: Any, what: str, where: str) -> Iterator[Cause]:
    if not isinstance(obj, dict) or not set(obj) <= _FIELDS[what]:
        yield _invalid(where, f"unknown fields: {obj}")


def _selector(selector: Json, where: str) -> Iterator[Cause]:
    yield from _known(selector, "selector", where)
    for key, value in (selector.get("matchLabels") or {}).items():
        yield from _label(key, value, where)
    for expression in selector.get("matchExpressions") or ():
        values, operator = expression.get("values") or [], expression.get("operator")
        for value in values or [""]:
            yield from _label(expression.get("key", ""), value, where)
        if operator in ("In", "NotIn"):
            if not values:
                yield (
                    "FieldValueRequired",
                    "Required value: must be specified when `operator` is 'In' or 'NotIn'",
                    where,
                )
        elif operator not in ("Exists", "DoesNotExist") or values:
            yield _invalid(where, "not a valid selector operator, or values that may not be there")


def _label(key: Any, value: Any, where: str) -> Iterator[Cause]:
    fits = isinstance(key, str) and isinstance(value, str) and _KEY.fullmatch(key) and _VALUE.fullmatch(value)
    if not fits or len(key.rpartition("/")[2]) > 63:
        yield _invalid(where, f"no label: {key!r}={value!r}")


def _peer(peer: Json, where: str) -> Iterator[Cause]:
    yield from _known(peer, "peer", where)
    block = peer.get("ipBlock")
    if len(peer) == 0 or (block is not None and len(peer) > 1):
        yield "FieldValueForbidden", "must specify a peer, and not an ipBlock with a selector", where
    for name in ("podSelector", "namespaceSelector"):
        yield from _selector(peer.get(name) or {}, f"{where}.{name}")
    if block is not None:
        yield from _known(block, "block", where)
        try:
            network: Any = ipaddress.ip_network(block.get("cidr", ""), strict=False)
            inner: list[Any] = [ipaddress.ip_network(text, strict=False) for text in block.get("except") or ()]
        except ValueError:
            yield _invalid(where, "not a valid CIDR")
            return
        if not all(each.version == network.version and each != network and each.subnet_of(network) for each in inner):
            yield _invalid(where, "must be a strict subset of `cidr`")


def _port(port: Json, where: str) -> Iterator[Cause]:
    yield from _known(port, "port", where)
    number, end = port.get("port"), port.get("endPort")
    if port.get("protocol", "TCP") not in ("TCP", "UDP", "SCTP"):
        yield "FieldValueNotSupported", "Unsupported value", where
    if isinstance(number, str):
        if not re.fullmatch(r"[a-z0-9-]{1,15}", number) or not re.search("[a-z]", number):
            yield _invalid(where, "no port name")
    elif number is not None and not (type(number) is int and 1 <= number <= 65535):
        yield _invalid(where, "must be between 1 and 65535, inclusive")
    if end is not None and (type(number) is not int or not number <= end <= 65535):
        yield _invalid(where, "must be greater than or equal to `port`")
