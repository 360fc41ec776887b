"""What is kept of the pods of a whole cluster: small, in steady time, and with shared texts held once."""

from __future__ import annotations

import sys
from typing import Any

from kiptail.clock.own import OwnClock
from kiptail.pods.pod import Pod, in_steady_time
from kiptail.pods.pod_object import reduce_pod
from kiptail.pods.traits import SharedTraits

__all__ = ["PodReducer", "dated_by"]

#: Nodes whose addresses are kept once; a cluster has 5,000.
MAX_HOSTS = 16_384


class PodReducer:
    """Makes of pod objects what is kept of them."""

    def __init__(self, *, label: str | None, node: str, clock: OwnClock, traits: SharedTraits | None = None) -> None:
        """``label``: the key of the label whose value is kept of each pod; ``node``: whose pods' probes are kept.

        ``clock`` makes of the pods' times, which are the wall clock's, steady ones. ``traits``: as for
        :func:`reduce_pod`.
        """
        self._label = label
        self._node = node
        self._clock = clock
        self._traits = traits
        #: Equal host addresses are one object: a node's pods all have them.
        self._hosts: dict[tuple[str, ...], tuple[str, ...]] = {}

    def clear(self) -> None:
        """All pods come anew."""
        self._hosts.clear()

    def reduced(self, obj: dict[str, Any]) -> Pod | None:
        """What is kept of a pod; None when the object is none."""
        pod = reduce_pod(obj, label=self._label, node=self._node, traits=self._traits)
        if pod is None:
            return None
        pod = dated_by(self._clock, pod, node=self._node)
        ref = pod.ref._replace(namespace=sys.intern(pod.ref.namespace), label=sys.intern(pod.ref.label))
        if len(self._hosts) >= MAX_HOSTS:
            self._hosts.clear()
        hosts = self._hosts.setdefault(pod.host_addresses, pod.host_addresses)
        return pod._replace(ref=ref, node=sys.intern(pod.node), host_addresses=hosts)


def dated_by(clock: OwnClock, pod: Pod, *, node: str) -> Pod:
    """``pod`` with its times in steady time; those of ``node``, which is this machine, are by its own clock."""
    if clock.is_steady():  # nearly always, and a cluster has many pods
        return pod
    return in_steady_time(pod, clock.steady_us if pod.node == node else clock.others_us, clock.others_us)
