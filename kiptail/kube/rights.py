"""The rights that kiptail needs in a cluster (pure): the one table of them.

``kiptail manifests`` prints what grants them (:mod:`kiptail.admin.manifests`), a start asks for those that it cannot do
without (:mod:`kiptail.kube.access`), and ``kiptail check`` for all of them (:mod:`kiptail.check.probes.cluster`). A
further right is a row of :data:`PURPOSES`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Literal, NamedTuple

from kiptail.credentials.identity import Identity, grant_remedy

__all__ = ["PURPOSES", "Purpose", "Right", "Scope", "Wanted", "checked_rights", "required_rights", "what_grants"]


class Scope(Enum):
    """Of which objects a right is."""

    #: All of the cluster.
    CLUSTER = auto()
    #: The pods of this node: a kubelet may list and watch no others.
    NODE = auto()
    #: Kiptail's own service account.
    ACCOUNT = auto()


@dataclass(frozen=True, slots=True)
class Right:
    """A verb on a resource."""

    verb: str
    #: A plural, perhaps with a subresource (``serviceaccounts/token``).
    resource: str
    #: The consequence of lacking it, as ``kiptail check`` says it behind "may not list pods, ".
    without: str
    #: The API group; "" is the core group.
    group: str = ""
    scope: Scope = Scope.CLUSTER
    #: The ``--pod-index`` that needs it; "": both do.
    pod_index: Literal["node", "cluster", ""] = ""
    #: kiptail works without it: a start does not ask for it, and lacking it is a warning.
    optional: bool = False
    #: ``kiptail manifests --identity kubelet`` grants it; :mod:`kiptail.credentials.identity` advises that.
    for_kubelets: bool = False
    #: What ``kiptail check`` calls it, where that is not verb and resource.
    called: str = ""

    @property
    def name(self) -> str:
        """What ``kiptail check`` calls it."""
        return self.called or f"{self.verb} {self.resource}"


@dataclass(frozen=True, slots=True)
class Purpose:
    """What some rights are for."""

    #: As the first comment of ``kiptail manifests`` says it.
    text: str
    rights: tuple[Right, ...]
    #: The comment above its rules there; "" for none.
    note: str = ""
    #: Only who writes Events needs it, so a dry run does not.
    posting: bool = False
    #: Only ``--explain on`` needs it.
    explaining: bool = False


_BLIND = "so it does not know whose packets they were"

PURPOSES = (
    Purpose(
        "list and watch pods, to know whose address a packet had",
        (
            Right("list", "pods", _BLIND, scope=Scope.NODE, pod_index="node", called="list pods of its node"),
            Right("watch", "pods", _BLIND, scope=Scope.NODE, pod_index="node", called="watch pods of its node"),
            Right(
                "list",
                "pods",
                "so a pod of another node is called by its address and gets no Event from here",
                pod_index="node",
                optional=True,
                for_kubelets=True,
            ),
            Right("list", "pods", _BLIND, pod_index="cluster"),
            Right("watch", "pods", _BLIND, pod_index="cluster"),
        ),
    ),
    Purpose(
        "create Events and update their counts",
        (
            Right("create", "events", "so no Event is posted"),
            Right("patch", "events", "so counts of Events do not grow"),
        ),
        posting=True,
    ),
    Purpose(
        "list nodes and Services, to name their addresses",
        (
            Right("list", "nodes", "so Events show the addresses of nodes without a name", optional=True),
            Right("list", "services", "so Events show the addresses of services without a name", optional=True),
        ),
        note="Optional: without these, Events tell such an address as it is.",
    ),
    Purpose(
        "list NetworkPolicies and get namespaces, to say which policies are in a packet's way",
        (
            Right(
                "list",
                "networkpolicies",
                "so Events do not say which NetworkPolicies are in the way",
                group="networking.k8s.io",
                optional=True,
            ),
            Right(
                "get",
                "namespaces",
                "so Events do not say so where NetworkPolicies select namespaces by labels, and no namespace opts out",
                optional=True,
            ),
        ),
        note="Optional: without these, Events do not say which policies. kiptail asks for single namespaces only.",
        explaining=True,
    ),
    Purpose(
        "renew its own token",
        (
            Right(
                "create",
                "serviceaccounts/token",
                "so the credential ends when the token expires",
                scope=Scope.ACCOUNT,
                optional=True,
                called="renew its token",
            ),
        ),
    ),
)


class Wanted(NamedTuple):
    """A right of this kiptail, with the objects that it is of."""

    right: Right
    #: The node's name, where the right is of its pods.
    node: str | None = None
    #: Namespace and name, where the right is of a service account.
    account: tuple[str, str] | None = None

    @property
    def selector(self) -> tuple[str, str] | None:
        """The field (key, value) that is selected by."""
        return None if self.node is None else ("spec.nodeName", self.node)

    @property
    def text(self) -> str:
        """Verb and resource, and the selector."""
        plain = f"{self.right.verb} {self.right.resource}"
        return plain if self.selector is None else f"{plain} with {'='.join(self.selector)}"


def required_rights(node: str | None, *, posting: bool) -> tuple[Wanted, ...]:
    """Those that kiptail cannot do without.

    ``node``: this node's name, for ``--pod-index node``; None: ``--pod-index cluster``. ``posting``: Events are
    written.
    """
    return tuple(
        _wanted(right, node, None)
        for purpose in PURPOSES
        if posting or not purpose.posting
        for right in purpose.rights
        if not right.optional and _applies(right, node)
    )


def checked_rights(node: str | None, account: tuple[str, str] | None, *, explain: bool = True) -> tuple[Wanted, ...]:
    """All of them, the optional ones too.

    ``node``: as for :func:`required_rights`. ``account``: namespace and name of the service account whose token is to
    be renewed; None where there is none. ``explain``: Events are to say which NetworkPolicies are in the way.
    """
    return tuple(
        _wanted(right, node, account)
        for purpose in PURPOSES
        if explain or not purpose.explaining
        for right in purpose.rights
        if _applies(right, node) and (account is not None or right.scope is not Scope.ACCOUNT)
    )


def what_grants(identity: Identity, wanted: Wanted) -> str:
    """What to do so that ``identity`` has the right that it lacks."""
    right = wanted.right
    every_pod = right.pod_index == "cluster"
    return grant_remedy(identity, right.verb, right.resource, node=wanted.node, every_pod=every_pod)


def _applies(right: Right, node: str | None) -> bool:
    return right.pod_index in ("", "cluster" if node is None else "node")


def _wanted(right: Right, node: str | None, account: tuple[str, str] | None) -> Wanted:
    return Wanted(
        right,
        node=node if right.scope is Scope.NODE else None,
        account=account if right.scope is Scope.ACCOUNT else None,
    )
