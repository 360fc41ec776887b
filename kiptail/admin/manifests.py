"""RBAC manifests (pure): what a cluster has to grant, as text for ``kubectl apply -f -``.

Their rules are made from the table in :mod:`kiptail.kube.rights`. packaging/rbac.yaml is what :func:`dedicated` gives,
and a test holds the two together.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable, Iterable, Iterator

from kiptail.credentials.identity import ACCOUNT, NAMESPACE
from kiptail.kube.rights import PURPOSES, Right, Scope

__all__ = ["dedicated", "kubelet"]

_DEDICATED = """\
SUMMARY
#
#     kiptail manifests | kubectl apply -f -
#     kiptail kubeconfig --out kiptail.kube.session     # for the nodes: /etc/kiptail/kubeconfig, mode 0600
apiVersion: v1
kind: ServiceAccount
metadata:
  name: kiptail
  namespace: NAMESPACE
  labels:
    app.kubernetes.io/name: kiptail
# kiptail runs on the nodes, outside of pods.
automountServiceAccountToken: false
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  name: kiptail
  labels:
    app.kubernetes.io/name: kiptail
rules:
CLUSTER_RULES
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata:
  name: kiptail
  labels:
    app.kubernetes.io/name: kiptail
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: ClusterRole
  name: kiptail
subjects:
  - kind: ServiceAccount
    name: kiptail
    namespace: NAMESPACE
---
# Nobody renews a token for a host, so kiptail renews its own, and nobody else's. Without this Role and its binding
# kiptail works until the token of its kubeconfig expires.
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  name: kiptail-token
  namespace: NAMESPACE
  labels:
    app.kubernetes.io/name: kiptail
rules:
ACCOUNT_RULES
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  name: kiptail-token
  namespace: NAMESPACE
  labels:
    app.kubernetes.io/name: kiptail
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: Role
  name: kiptail-token
subjects:
  - kind: ServiceAccount
    name: kiptail
    namespace: NAMESPACE
"""

_KUBELET = """\
# For a kiptail that uses the kubelet's credential (system:node:NAME). The kubelet may already watch the pods of its own
# node, and create and patch Events. This lets all kubelets list the pods of other nodes too, so that the pod at the
# other end of a dropped packet has its name. It is a right that kubelets do not have otherwise: consider a dedicated
# identity (`kiptail manifests` without --identity) where that is too much.
#
#     kiptail manifests --identity kubelet | kubectl apply -f -
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  name: kiptail-kubelet
  labels:
    app.kubernetes.io/name: kiptail
rules:
KUBELET_RULES
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata:
  name: kiptail-kubelet
  labels:
    app.kubernetes.io/name: kiptail
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: ClusterRole
  name: kiptail-kubelet
subjects:
  - apiGroup: rbac.authorization.k8s.io
    kind: Group
    name: system:nodes
"""


def dedicated(namespace: str = NAMESPACE) -> str:
    """A service account for all nodes' kiptails, with what it may do."""
    doing = "; ".join(purpose.text for purpose in PURPOSES)
    summary = textwrap.wrap(f"What kiptail may do in a cluster: {doing}. Nothing else.", 118)
    return _filled(
        _DEDICATED,
        SUMMARY="\n".join(f"# {line}" for line in summary),
        CLUSTER_RULES=_rules(lambda right: right.scope is not Scope.ACCOUNT),
        ACCOUNT_RULES=_rules(lambda right: right.scope is Scope.ACCOUNT, of=ACCOUNT),
        NAMESPACE=namespace,
    )


def kubelet() -> str:
    """What the kubelets' own identities lack."""
    return _filled(_KUBELET, KUBELET_RULES=_rules(lambda right: right.for_kubelets))


def _filled(text: str, **values: str) -> str:
    for key, value in values.items():
        text = text.replace(key, value)
    return text


def _rules(granted: Callable[[Right], bool], *, of: str = "") -> str:
    """The rules of a Role, in YAML; ``of``: the name of the one object that they are about."""
    lines: list[str] = []
    for purpose in PURPOSES:
        rules = list(_merged(filter(granted, purpose.rights)))
        if rules and purpose.note:
            lines += [f"  # {purpose.note}"]
        for group, resources, verbs in rules:
            lines += [f"  - apiGroups: [{json.dumps(group)}]", f"    resources: [{', '.join(resources)}]"]
            if of:
                lines += [f"    resourceNames: [{of}]"]
            lines += [f"    verbs: [{', '.join(verbs)}]"]
    return "\n".join(lines)


def _merged(rights: Iterable[Right]) -> Iterator[tuple[str, list[str], tuple[str, ...]]]:
    """An API group, resources of it, and the verbs that each of them has, once for each such set of verbs."""
    verbs: dict[tuple[str, str], dict[str, None]] = {}
    for right in rights:
        verbs.setdefault((right.group, right.resource), {})[right.verb] = None
    resources: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for (group, resource), of_resource in verbs.items():
        resources.setdefault((group, tuple(of_resource)), []).append(resource)
    for (group, of_group), plurals in resources.items():
        yield group, plurals, of_group
