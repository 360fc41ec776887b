"""Whom the API server takes kiptail for, and what would grant that identity a right it lacks (pure).

A remedy names a command only where running it changes the outcome: ``kiptail manifests`` grants to one service account,
and ``kiptail manifests --identity kubelet`` grants kubelets one right. :mod:`kiptail.kube.rights` is what
both are made from.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["ACCOUNT", "NAMESPACE", "NOBODY", "Identity", "grant_remedy", "manifests_command", "node_remedy"]

#: The service account that `kiptail manifests` makes.
NAMESPACE, ACCOUNT = "kube-system", "kiptail"

#: A kubelet's user is called so, with its node's name behind it, and is in this group.
_NODE_USER = "system:node:"
_NODES = "system:nodes"
_ACCOUNT_USER = "system:serviceaccount:"
#: What the node authorizer grants every kubelet, of what kiptail asks for (Kubernetes' auth/authorizer/node and
#: rbac/bootstrappolicy, NodeRules); pods are those of its own node.
_NODE_AUTHORIZER = {"events", "pods", "services", "serviceaccounts/token"}
_OWN = "kiptail's own (`kiptail manifests`, then `kiptail kubeconfig`)"


class Identity(NamedTuple):
    """Whom the API server takes this for."""

    #: "" when not known.
    user: str = ""
    #: None when not known.
    groups: tuple[str, ...] | None = None

    @property
    def node(self) -> str:
        """NAME of a kubelet's ``system:node:NAME``; "" for everybody else."""
        return self.user.removeprefix(_NODE_USER) if self.user.startswith(_NODE_USER) else ""

    @property
    def account(self) -> tuple[str, str] | None:
        """Namespace and name of a service account."""
        namespace, _, name = self.user.removeprefix(_ACCOUNT_USER).partition(":")
        return (namespace, name) if self.user.startswith(_ACCOUNT_USER) and namespace and name else None


#: Not known.
NOBODY = Identity()


def grant_remedy(
    identity: Identity, verb: str, resource: str, *, node: str | None = None, every_pod: bool = False
) -> str:
    """What gives ``identity`` the right to ``verb`` the ``resource`` (a plural, perhaps with a subresource).

    ``node``: only pods of the node of this name are asked for. ``every_pod``: all nodes' pods are to be kept, as with
    ``--pod-index cluster``.
    """
    if identity.node:
        return _kubelet_remedy(identity, verb, resource, node, every_pod=every_pod)
    if identity.account is not None and identity.account[1] == ACCOUNT:
        return f"`{manifests_command(identity.account[0])} | kubectl apply -f -` grants it"
    if resource == "serviceaccounts/token":
        role = "as the Role kiptail-token that `kiptail manifests` prints"
        return f"let it {verb} {resource} for itself, {role}, or use an account of {_OWN}"
    whom = identity.user or "this credential's user"
    return f"bind {whom} to the ClusterRole kiptail that `kiptail manifests` prints, or use an account of {_OWN}"


def node_remedy(own: str) -> str:
    """What to do where the pods of another node than the credential's ``own`` are asked for."""
    return f"use {own} (--node-name {own}): a kubelet may follow the pods of its own node only"


def manifests_command(namespace: str) -> str:
    """The command that prints what the service account kiptail needs in ``namespace``."""
    return "kiptail manifests" + ("" if namespace == NAMESPACE else f" --namespace {namespace}")


def _kubelet_remedy(identity: Identity, verb: str, resource: str, node: str | None, *, every_pod: bool) -> str:
    if identity.groups is not None and _NODES not in identity.groups:
        return f"put the credential into the group {_NODES} (O={_NODES} in a certificate), as a kubelet's is"
    if resource == "pods":
        if node is not None and node != identity.node:
            return node_remedy(identity.node)
        if node is None and every_pod:
            return "use --pod-index node, for which a kubelet's credential is enough"
        if node is None and verb == "list":
            return "`kiptail manifests --identity kubelet | kubectl apply -f -` grants it, to all kubelets"
    if resource not in _NODE_AUTHORIZER:
        return f"no kubelet may by itself; a ClusterRole to {verb} {resource}, bound to the group {_NODES}, grants it"
    mode = "add Node to the API server's --authorization-mode, which lets kubelets do this"
    return f"{mode}, or use an account of {_OWN}"
