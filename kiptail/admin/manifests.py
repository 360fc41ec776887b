"""RBAC manifests (pure): what a cluster has to grant, as text for ``kubectl apply -f -``.

The one source of truth about rights: packaging/rbac.yaml is what :func:`dedicated` gives, and a test holds the two
together.
"""

from __future__ import annotations

from kiptail.credentials.identity import NAMESPACE

__all__ = ["dedicated", "kubelet"]

_DEDICATED = """\
# What kiptail may do in a cluster: list and watch pods, to know whose address a packet had; create Events and update
# their counts; list nodes and Services, to name their addresses; renew its own token. Nothing else.
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
  - apiGroups: [""]
    resources: [pods]
    verbs: [list, watch]
  - apiGroups: [""]
    resources: [events]
    verbs: [create, patch]
  # Optional: without these, Events tell such an address as it is.
  - apiGroups: [""]
    resources: [nodes, services]
    verbs: [list]
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
  - apiGroups: [""]
    resources: [serviceaccounts/token]
    resourceNames: [kiptail]
    verbs: [create]
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
  - apiGroups: [""]
    resources: [pods]
    verbs: [list]
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
    return _DEDICATED.replace("NAMESPACE", namespace)


def kubelet() -> str:
    """What the kubelets' own identities lack."""
    return _KUBELET
