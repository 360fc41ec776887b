"""What NetworkPolicies look at of a pod: its labels, and the names of its containers' ports, also Events' (pure).

Source of the fields: the Kubernetes type core/v1 Pod.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from kiptail.kube.object_names import is_port_name
from kiptail.pods.shape import misfit

__all__ = ["NamedPort", "SharedTraits", "Traits", "name_of_port", "named_ports"]

#: Protocols whose ports rules can name.
_PROTOCOLS = ("TCP", "UDP", "SCTP")
#: A pod has a few; more are not read.
_MOST_PORTS = 1_000
#: Of a pod with more labels, more named ports or longer texts (in characters) nothing is kept.
_MOST_KEPT_LABELS, _MOST_KEPT_PORTS, _MOST_TEXT = 256, 64, 16_384
#: Different ones that are known at a time, so that pods can share them.
_MOST_SHARED = 16_384

_PORTS = ({"name": str, "containerPort": int, "protocol": str},)
_SHAPE = {"spec": {"containers": ({"ports": _PORTS},), "initContainers": ({"ports": _PORTS, "restartPolicy": str},)}}


@dataclass(frozen=True, slots=True)
class NamedPort:
    """A container's port that rules can call by its name, or a Service's."""

    name: str
    protocol: str
    number: int


class Traits(NamedTuple):
    """What selects a pod, and what its ports are called. Small: the pods of a workload share one."""

    #: Keys and values in turn, by key.
    texts: tuple[str, ...] = ()
    ports: tuple[NamedPort, ...] = ()

    @property
    def labels(self) -> Mapping[str, str]:
        """The pod's labels."""
        return dict(zip(self.texts[::2], self.texts[1::2], strict=True))


class SharedTraits:
    """Makes of pod objects their traits; equal ones are one object."""

    def __init__(self, *, labels: bool = True) -> None:
        """Without ``labels``, only ports are kept."""
        self._labels = labels
        self._known: dict[Traits, Traits] = {}

    def of(self, obj: Mapping[str, Any]) -> Traits | None:
        """The traits of a pod object that fits :data:`kiptail.pods.shape`; None where they cannot be used."""
        if misfit(obj, _SHAPE):
            return None
        labels = ((obj.get("metadata") or {}).get("labels") or {}) if self._labels else {}
        ports = tuple(named_ports(obj.get("spec") or {}))
        texts = tuple(text or "" for pair in sorted(labels.items()) for text in pair)
        if len(labels) > _MOST_KEPT_LABELS or len(ports) > _MOST_KEPT_PORTS or sum(map(len, texts)) > _MOST_TEXT:
            return None
        if len(self._known) >= _MOST_SHARED:
            self._known.clear()
        made = Traits(texts, ports)
        known = self._known.get(made)
        if known is None:
            known = Traits(tuple(map(sys.intern, texts)), ports)
            self._known[known] = known
        return known


def named_ports(spec: Mapping[str, Any]) -> Iterator[NamedPort]:
    """Those of a pod's containers, and of its init containers that go on running (sidecars)."""
    running = [each for each in spec.get("initContainers") or () if each and each.get("restartPolicy") == "Always"]
    found = 0
    for container in (*(spec.get("containers") or ()), *running):
        for port in (container or {}).get("ports") or ():
            protocol, number = (port or {}).get("protocol") or "TCP", (port or {}).get("containerPort")
            if not number or not port.get("name") or protocol not in _PROTOCOLS or found == _MOST_PORTS:
                continue
            found += 1
            yield NamedPort(port["name"], protocol, number)


def name_of_port(ports: Iterable[NamedPort], protocol: str, number: int, *, longest: int = 15) -> str:
    """What a port is called, "" where it has no name, or one that no API server takes; ``longest`` in characters."""
    names = (port.name for port in ports if port.number == number and port.protocol == protocol)
    return next((name for name in names if is_port_name(name, longest=longest)), "")
