"""Rules and policies as manifests, as ``kubectl apply`` takes them (pure)."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, TypeAlias

from kiptail.policies.ends import range_text
from kiptail.policies.evaluate import Direction
from kiptail.policies.policy import Peer, Policy, Port, Rule
from kiptail.policies.selector import Selector

__all__ = ["Json", "new_manifest", "with_rule"]

Json: TypeAlias = dict[str, Any]

_PEERS = {"ingress": "from", "egress": "to"}
#: What kubectl keeps for itself: it writes it anew.
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


def new_manifest(policy: Policy, direction: Direction) -> Json:
    """The manifest of a policy for one direction."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": policy.name, "namespace": policy.namespace},
        "spec": {
            "podSelector": _selector(policy.selects),
            "policyTypes": [direction.capitalize()],
            direction: [_rule(rule, direction) for rule in policy.rules(direction) or ()],
        },
    }


def with_rule(original: Mapping[str, Any], rule: Rule, direction: Direction) -> Json:
    """The object with one rule more, and without what the API server adds to it.

    Labels and annotations stay, for ``kubectl apply`` would take them away.
    """
    metadata = original.get("metadata") or {}
    annotations = {k: v for k, v in (metadata.get("annotations") or {}).items() if k != _LAST_APPLIED}
    kept = {"name": metadata["name"], "namespace": metadata["namespace"]}
    if metadata.get("labels"):
        kept["labels"] = copy.deepcopy(metadata["labels"])
    if annotations:
        kept["annotations"] = copy.deepcopy(annotations)
    spec = copy.deepcopy(dict(original.get("spec") or {}))
    spec.setdefault("podSelector", {})
    spec[direction] = [each or {} for each in spec.get(direction) or ()] + [_rule(rule, direction)]
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": kept, "spec": spec}


def _rule(rule: Rule, direction: Direction) -> Json:
    made: Json = {_PEERS[direction]: [_peer(peer) for peer in rule.peers]} if rule.peers else {}
    if rule.ports:
        made["ports"] = [_port(port) for port in rule.ports]
    return made


def _peer(peer: Peer) -> Json:
    if peer.block is not None:
        made: Json = {"cidr": range_text(peer.block.network)}
        if peer.block.excepts:
            made["except"] = [range_text(network) for network in peer.block.excepts]
        return {"ipBlock": made}
    made = {}
    if peer.namespaces is not None:
        made["namespaceSelector"] = _selector(peer.namespaces)
    if peer.pods is not None:
        made["podSelector"] = _selector(peer.pods)
    return made


def _port(port: Port) -> Json:
    made: Json = {"protocol": port.protocol}
    if port.port is not None:
        made["port"] = port.port
    if port.end is not None:
        made["endPort"] = port.end
    return made


def _selector(selector: Selector) -> Json:
    made: Json = {}
    labels: Json = {}
    expressions = []
    for requirement in selector.requirements:
        if requirement.operator == "In" and len(requirement.values) == 1 and requirement.key not in labels:
            labels[requirement.key] = requirement.values[0]
        else:
            values = {"values": list(requirement.values)} if requirement.values else {}
            expressions.append({"key": requirement.key, "operator": requirement.operator, **values})
    if labels:
        made["matchLabels"] = labels
    if expressions:
        made["matchExpressions"] = expressions
    return made
