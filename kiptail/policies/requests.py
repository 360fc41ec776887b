"""One namespace's policies and its labels, requested and reduced to what decides, within bounds."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from kiptail.kube.pages import items_of, pages
from kiptail.pods.opt_out import OptOut, opt_out
from kiptail.pods.shape import misfit
from kiptail.policies.evaluate import Rules
from kiptail.policies.malformed import Malformed
from kiptail.policies.policy import Policy, policy_of

__all__ = ["Namespace", "PolicyApi", "Unusable", "request_namespace", "request_rules"]

#: Policies a page: at resourceVersion 0 the server answers from memory, and with all of them.
PAGE_LIMIT, MAX_PAGES = 500, 4
#: A page's size: 2 KB for each of 500 policies is 1 MB.
MAX_BYTES = 8 << 20
#: What is kept of one namespace's policies: conditions, ranges and ports.
MAX_TERMS = 20_000
#: A namespace with more labels is not used.
MAX_LABELS = 1_000

_NAMESPACE = {"metadata": {"name": str, "labels": {"": str}, "annotations": {"": str}}}


class Namespace(NamedTuple):
    """What is kept of a namespace."""

    labels: dict[str, str]
    #: Whether its owner wants Events.
    opt_out: OptOut = ""


class Unusable(Exception):
    """An answer that is too large, or holds what no API server would have taken."""


class PolicyApi(Protocol):
    """What is asked of the API server. Both raise ApiError."""

    def list_network_policies_page(
        self,
        namespace: str,
        *,
        limit: int,
        continue_token: str = "",
        resource_version: str | None = None,
        most_bytes: int = MAX_BYTES,
    ) -> dict[str, Any]:
        """A namespace's NetworkPolicies."""

    def namespace(self, name: str) -> dict[str, Any]:
        """A namespace."""


def request_rules(api: PolicyApi, namespace: str) -> tuple[Rules, int]:
    """The policies of a namespace, and the size of what is kept. Raises ApiError, Unusable.

    One that cannot be used may be the one that admits, so there is no answer without it.
    """

    def page(token: str) -> dict[str, Any]:
        return api.list_network_policies_page(
            namespace, limit=PAGE_LIMIT, continue_token=token, resource_version="0", most_bytes=MAX_BYTES
        )

    policies: list[Policy] = []
    size = 1
    for got in pages(page, most=MAX_PAGES):
        for item in items_of(got):
            try:
                policy = policy_of(item)
            except Malformed as error:
                raise Unusable(f"a policy cannot be used: {error}") from error
            size += _size(policy)
            if policy.namespace != namespace or size > MAX_TERMS:
                raise Unusable("its policies are too many or too large, or another namespace's")
            policies.append(policy)
    return Rules(policies, {}), size


def request_namespace(api: PolicyApi, namespace: str) -> tuple[Namespace, int]:
    """A namespace, and the size of what is kept. Raises ApiError, Unusable."""
    found = api.namespace(namespace)
    if misfit(found, _NAMESPACE):
        raise Unusable("its labels or annotations are none")
    labels = {key: value or "" for key, value in (found["metadata"].get("labels") or {}).items()}
    if len(labels) > MAX_LABELS:
        raise Unusable("it has too many labels")
    return Namespace(labels, opt_out(found["metadata"].get("annotations"))), 1 + len(labels)


def _size(policy: Policy) -> int:
    """How many conditions, ranges and ports it has."""
    selectors = [policy.selects]
    size = 1
    for rule in (*(policy.ingress or ()), *(policy.egress or ())):
        size += 1 + len(rule.peers) + len(rule.ports)
        for peer in rule.peers:
            selectors += [selector for selector in (peer.pods, peer.namespaces) if selector is not None]
            size += len(peer.block.excepts) if peer.block is not None else 0
    return size + sum(1 + len(each.values) for selector in selectors for each in selector.requirements)
