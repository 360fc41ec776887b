"""What an Event says of its flow for programs: the annotation ``kiptail/flow``, one JSON object (pure).

docs/kubectl-drops.md is the reference of its keys. Nothing in it changes from packet to packet.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from kiptail.events.endpoint import Endpoint, direction_at, known_as, workload_at
from kiptail.events.event import POLICY_LIMIT, EventStyle, is_limited
from kiptail.flows.flow import Flow
from kiptail.text import one_line

__all__ = ["ANNOTATION", "ANNOTATION_LIMIT", "flow_annotation"]

#: Its key.
ANNOTATION = "kiptail/flow"
#: The longest value, in bytes. Addresses, protocol, port and verdict have a length that always fits.
ANNOTATION_LIMIT = 2_048

#: What is left out where the value would be too long, the longest of these first.
_OPTIONAL = ("prefix", "policy", "isolated_by", "node", "peer", "workload", "peer_workload")
#: The longest name of a protocol, in characters.
_PROTOCOL_LIMIT = 40


def flow_annotation(
    flow: Flow,
    end: str,
    peer: Endpoint,
    style: EventStyle,
    *,
    workload: str = "",
    port_name: str = "",
    isolated_by: Sequence[str] = (),
) -> str:
    """The annotation of the Event at ``end`` of the flow, with ``peer`` at the other one: compact JSON in ASCII.

    What is not known, or not so, has no key. ``workload``: that of the Event's pod. ``port_name``: what the
    port is called. ``isolated_by``: the NetworkPolicies, as ``namespace/name``, of which no rule admits the packets.
    """
    key = flow.key
    icmp = {"type": key.icmp_type, "code": key.icmp_code}
    found = {
        "src": key.src,
        "dst": key.dst,
        "protocol": key.protocol[:_PROTOCOL_LIMIT],
        "port": key.port,
        "port_name": port_name,
        "reply": key.reply or None,
        "icmp": _without_nothing(icmp) if key.icmp_type is not None else None,
        "direction": direction_at(end),
        "verdict": key.verdict,
        "prefix": key.prefix,
        "policy": one_line(key.policy, POLICY_LIMIT),
        "isolated_by": [one_line(name) for name in isolated_by] or None,
        "workload": workload,
        "peer": {"kind": "several"} if flow.spread is not None else _peer(peer),
        "peer_workload": "" if flow.spread is not None else workload_at(peer),
        "node": style.node_name,
        "limited": is_limited(flow, style) or None,
    }
    return _fitted(_without_nothing(found))


def _peer(peer: Endpoint) -> dict[str, Any]:
    """Who is at the other end; its address is ``src`` or ``dst``."""
    kind, name = known_as(peer)
    if kind == "ambiguous":
        return {"kind": kind, "names": [f"{pod.namespace}/{pod.name}" for pod in peer.pods]}
    namespace, _, of_it = name.rpartition("/") if kind in ("pod", "service") else ("", "", name)
    return _without_nothing({"kind": kind, "namespace": namespace, "name": one_line(of_it)})


def _without_nothing(found: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in found.items() if value is not None and value != ""}


def _fitted(found: dict[str, Any]) -> str:
    """As JSON, without the longest optional values where it would be too long."""
    while len(text := _written(found)) > ANNOTATION_LIMIT:
        longest = max((key for key in _OPTIONAL if key in found), key=lambda key: len(_written(found[key])))
        if longest == "peer" and len(found["peer"]) > 1:
            found["peer"] = {"kind": found["peer"]["kind"]}
        else:
            del found[longest]
    return text


def _written(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))
