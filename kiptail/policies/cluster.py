"""What a cluster's objects say, as far as policies look at them (pure)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from kiptail.kube.object_names import is_name, is_namespace
from kiptail.pods.address_names import AddressNames, note_node, note_service
from kiptail.pods.shape import misfit
from kiptail.policies.ends import Pod, pod_of
from kiptail.policies.evaluate import Rules
from kiptail.policies.malformed import Malformed
from kiptail.policies.policy import Address, Policy, policy_of
from kiptail.text import plural

__all__ = ["OTHER_GROUPS", "Objects", "other_policies"]

#: API groups with policies of other kinds, and whose they are.
OTHER_GROUPS: Mapping[str, str] = {
    "crd.projectcalico.org": "Calico",
    "projectcalico.org": "Calico",
    "cilium.io": "Cilium",
    "policy.networking.k8s.io": "AdminNetworkPolicy, ClusterNetworkPolicy",
    "crd.antrea.io": "Antrea",
    "k8s.ovn.org": "OpenShift's OVN-Kubernetes",
    "network.openshift.io": "OpenShift",
    "networking.k8s.aws": "Amazon's network policy agent",
    "kubeovn.io": "Kube-OVN",
}
_NAMESPACE = {"metadata": {"name": str, "labels": {"": str}}}
#: Reasons of refusal, and groups, that a note lists.
_MOST_REASONS = 10


class Objects:
    """Pods, namespaces and policies, taken in one by one; of each name the last one counts."""

    def __init__(self) -> None:
        self.pods: dict[str, Pod] = {}
        self.policies: dict[str, Policy] = {}
        #: The NetworkPolicies as they came.
        self.originals: dict[str, Mapping[str, Any]] = {}
        #: Labels, by the namespaces' names.
        self.namespaces: dict[str, Mapping[str, str]] = {}
        #: By address ``node/NAME`` or ``service NAMESPACE/NAME``, where nodes and Services were given.
        self.named = AddressNames()
        #: Groups of :data:`OTHER_GROUPS` of which there are objects.
        self.other_groups: set[str] = set()
        #: How many, and the first of them, by kind and reason.
        self._refused: dict[tuple[str, str], tuple[int, str]] = {}

    def take(self, obj: object, kind: str = "", api_version: str = "") -> None:
        """Take an object in; of one of a list, ``kind`` and ``api_version`` may stand at the list only.

        What cannot be used is counted, and what is of another kind is passed over.
        """
        if not isinstance(obj, dict):
            self._refuse("", "is no object", {})
            return
        kind, api_version = (_text(obj, "kind") or kind), (_text(obj, "apiVersion") or api_version)
        group = api_version.rpartition("/")[0]
        try:
            match kind, group:
                case "Pod", "":
                    pod = pod_of(obj)
                    self.pods[pod.ref] = pod
                case "NetworkPolicy", "networking.k8s.io":
                    policy = policy_of(obj)
                    self.policies[policy.ref] = policy
                    self.originals[policy.ref] = obj
                case "NetworkPolicy", "":
                    raise Malformed("it does not say of which apiVersion it is")
                case "Namespace", "":
                    self._take_namespace(obj)
                case "Service", "":
                    note_service(obj, self.named)
                case "Node", "":
                    note_node(obj, self.named)
                case _:
                    self.other_groups |= {group} & OTHER_GROUPS.keys()
        except Malformed as error:
            self._refuse(kind, str(error), obj)

    def take_groups(self, groups: Iterable[str]) -> None:
        """Note which kinds of policies a cluster serves, by its API groups."""
        self.other_groups.update(OTHER_GROUPS.keys() & set(groups))

    def rules(self) -> Rules:
        """The policies, with the namespaces' labels."""
        return Rules(self.policies.values(), self.namespaces)

    def pods_at(self, address: Address) -> list[Pod]:
        """The pods that may have this address: not those that have finished, nor those on their node's network."""
        return [
            pod for pod in self.pods.values() if address in pod.addresses and not (pod.finished or pod.host_network)
        ]

    def refusals(self) -> list[str]:
        """What could not be used, in lines: how many objects, the first of them, and why."""
        lines = [
            f"{plural(count, 'object')} cannot be used{f', as {first}' if first else ''}: {reason}"
            for (_, reason), (count, first) in self._refused.items()
        ]
        if len(lines) <= _MOST_REASONS:
            return lines
        return [*lines[:_MOST_REASONS], "and more objects, for other reasons"]

    def _refuse(self, kind: str, reason: str, obj: dict[str, Any]) -> None:
        metadata = obj.get("metadata")
        metadata = metadata if isinstance(metadata, dict) else {}
        namespace, name = metadata.get("namespace"), metadata.get("name")
        first = f"{kind} {namespace}/{name}" if is_namespace(namespace) and is_name(name) else kind
        count, first = self._refused.get((kind, reason), (0, first))
        self._refused[kind, reason] = count + 1, first

    def _take_namespace(self, obj: dict[str, Any]) -> None:
        metadata = _fitting(obj, _NAMESPACE).get("metadata") or {}
        name = metadata.get("name")
        if not is_namespace(name):
            raise Malformed("it has no usable name")
        self.namespaces[name] = {key: value or "" for key, value in (metadata.get("labels") or {}).items()}


def other_policies(groups: Iterable[str]) -> list[str]:
    """``Calico (crd.projectcalico.org)`` of each group of policies that are not looked at."""
    return sorted(f"{OTHER_GROUPS[group]} ({group})" for group in groups if group in OTHER_GROUPS)


def _fitting(obj: dict[str, Any], shape: dict[str, Any]) -> dict[str, Any]:
    if field := misfit(obj, shape, "object"):
        raise Malformed(f"its {field} has the wrong type")
    return obj


def _text(obj: dict[str, Any], key: str) -> str:
    value = obj.get(key)
    return value if isinstance(value, str) else ""
