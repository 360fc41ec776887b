"""Objects from a cluster, as far as one question needs them, with the caller's own rights."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from kiptail.errors import ApiError, ClusterError
from kiptail.kube.pages import items_of, pages
from kiptail.policies.cluster import Objects
from kiptail.policies.ends import shown
from kiptail.policies.policy import Address

__all__ = ["Reader", "request_objects"]

PAGE = 500
_MOST_PAGES = 1_000


class Reader(Protocol):
    """What is asked of the API server. All raise ApiError."""

    def list_pods_page(
        self,
        *,
        limit: int,
        continue_token: str = "",
        resource_version: str | None = None,
        field_selector: str = "",
        namespace: str = "",
    ) -> dict[str, Any]:
        """Pods."""

    def list_network_policies_page(self, namespace: str, *, limit: int, continue_token: str = "") -> dict[str, Any]:
        """A namespace's NetworkPolicies."""

    def list_services_page(self, *, limit: int, continue_token: str = "") -> dict[str, Any]:
        """Services."""

    def namespace(self, name: str) -> dict[str, Any]:
        """A namespace."""

    def groups(self) -> frozenset[str]:
        """The API groups."""


def request_objects(api: Reader, namespaces: Iterable[str], addresses: Iterable[Address]) -> tuple[Objects, list[str]]:
    """What is needed to explain a connection between ends in ``namespaces`` and at ``addresses``; and notes.

    A right that is missing is a note where there can be an answer without it. Raises ClusterError.
    """
    gathering = _Gathering(api)
    for namespace in dict.fromkeys(namespaces):
        gathering.pods_of(namespace)
    for address in dict.fromkeys(addresses):
        gathering.owner_of(address)
    if not gathering.concerned:
        gathering.require_owners()
    for namespace in sorted(gathering.concerned):
        gathering.rules_of(namespace)
    gathering.other_kinds()
    return gathering.objects, gathering.notes


class _Gathering:
    """Takes in what the API server answers, and notes what it may not be asked."""

    def __init__(self, api: Reader) -> None:
        self._api = api
        self.objects = Objects()
        self.notes: list[str] = []
        #: Namespaces of pods at an end.
        self.concerned: set[str] = set()
        #: Why other namespaces' pods are not known.
        self._blind: ApiError | None = None
        self._everything = False
        self._services = False

    def pods_of(self, namespace: str) -> None:
        """All of a namespace's pods, of which one is at an end."""
        self.concerned.add(namespace)
        if not self._everything:
            page = functools.partial(self._api.list_pods_page, namespace=namespace)
            _required(lambda: self._pods(page), f"list pods in namespace {namespace}")

    def owner_of(self, address: Address) -> None:
        """Whose address it is: a pod's, with the pods of its namespace, or a Service's."""
        if self._blind is None and not self.objects.pods_at(address):
            selector = f"status.podIP={shown(address)}"
            self._optional(lambda: self._pods(functools.partial(self._api.list_pods_page, field_selector=selector)))
        if self._blind is None and not self._everything and not self.objects.pods_at(address):
            # Its second address cannot be selected by.
            self._optional(lambda: self._pods(self._api.list_pods_page))
            self._everything = self._blind is None
        owners = self.objects.pods_at(address)
        for namespace in sorted({pod.namespace for pod in owners} - self.concerned):
            self.pods_of(namespace)
        if not owners:
            if self._blind is not None:
                self.notes.append(
                    f"may not list the pods of all namespaces: {shown(address)} is taken for no pod's address"
                )
            self._service_addresses()

    def require_owners(self) -> None:
        """Raise ClusterError where it is not known whether any end is a pod."""
        if self._blind is not None:
            raise _refused(self._blind, "list pods in all namespaces") from self._blind

    def rules_of(self, namespace: str) -> None:
        """The policies of a namespace, and its labels."""
        page = functools.partial(self._api.list_network_policies_page, namespace)
        _required(
            lambda: self._take(page, "NetworkPolicy", "networking.k8s.io/v1"),
            f"list networkpolicies in namespace {namespace}",
        )
        try:
            self.objects.take(self._api.namespace(namespace))
        except ApiError as error:
            if error.status not in (403, 404):
                raise _refused(error, "") from error
            self.notes.append(
                f"cannot get namespace {namespace}: of its labels only its name is known, so a namespaceSelector by"
                " others may be misjudged"
            )

    def other_kinds(self) -> None:
        """Which policies of other kinds there may be."""
        try:
            self.objects.take_groups(self._api.groups())
        except ApiError as error:
            if error.status not in (403, 404):
                raise _refused(error, "") from error
            self.notes.append("cannot ask which API groups there are: policies of other kinds may count as well")

    def _service_addresses(self) -> None:
        if self._services:
            return
        self._services = True
        try:
            self._take(self._api.list_services_page, "Service", "v1")
        except ApiError as error:
            if error.status != 403:
                raise _refused(error, "") from error
            self.notes.append("may not list services: whether an address is a Service's is not known")

    def _pods(self, page: Callable[..., dict[str, Any]]) -> None:
        self._take(page, "Pod", "v1")

    def _take(self, page: Callable[..., dict[str, Any]], kind: str, api_version: str) -> None:
        for got in pages(lambda token: page(limit=PAGE, continue_token=token), most=_MOST_PAGES):
            for item in items_of(got):
                self.objects.take(item, kind, api_version)

    def _optional(self, ask: Callable[[], None]) -> None:
        try:
            ask()
        except ApiError as error:
            if error.status != 403:
                raise _refused(error, "") from error
            self._blind = error


def _required(ask: Callable[[], None], right: str) -> None:
    try:
        ask()
    except ApiError as error:
        raise _refused(error, right) from error


def _refused(error: ApiError, right: str) -> ClusterError:
    """``right`` is what to ask an administrator for, where that was refused."""
    if error.status == 403 and right:
        return ClusterError(str(error), remedy=f"it takes the right to {right}")
    if error.status == 401:
        return ClusterError(str(error), remedy="renew the credential in the kubeconfig, or name another: --kubeconfig")
    return ClusterError(str(error), remedy=error.remedy)
