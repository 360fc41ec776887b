"""The Events of a namespace, and which pods a workload has, with the caller's own rights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Protocol

from kiptail.drops.owned import owned_by
from kiptail.drops.row import Row, row_of
from kiptail.drops.wanted import Wanted
from kiptail.errors import ApiError, ClusterError
from kiptail.kube.pages import items_of, pages, version_of
from kiptail.pods.listwatch import WatchLines

__all__ = ["EventApi", "list_rows", "refused", "rows_at_once", "with_known_pods"]

#: Objects a page, and the most pages: of 50,000 Events more are of no use to anybody who looks at them.
PAGE = 500
_MOST_PAGES = 100


class EventApi(Protocol):
    """What is asked of the API server. All raise ApiError."""

    def list_events_page(
        self, namespace: str, *, limit: int, continue_token: str = "", field_selector: str = ""
    ) -> dict[str, Any]:
        """One page of an EventList."""

    def watch_events(
        self, namespace: str, *, resource_version: str, field_selector: str = "", timeout_s: int
    ) -> WatchLines:
        """The lines of a watch with bookmarks."""

    def list_pods_page(self, *, limit: int, continue_token: str = "", namespace: str = "") -> dict[str, Any]:
        """One page of a PodList."""


def list_rows(api: EventApi, wanted: Wanted) -> tuple[list[Row], str]:
    """All rows of the namespace, and the resourceVersion of that. Raises ApiError."""
    rows: list[Row] = []
    version = ""
    for page in _pages(
        lambda token: api.list_events_page(
            wanted.namespace, limit=PAGE, continue_token=token, field_selector=wanted.field_selector
        )
    ):
        rows += _rows_of(page)
        version = version_of(page)
    return rows, version


def rows_at_once(api: EventApi, wanted: Wanted) -> list[Row]:
    """As many rows as one request gives. Raises ApiError."""
    page = api.list_events_page(wanted.namespace, limit=PAGE, field_selector=wanted.field_selector)
    return list(_rows_of(page))


def _rows_of(page: dict[str, Any]) -> Iterator[Row]:
    return (row for item in items_of(page) if (row := row_of(item)) is not None)


def with_known_pods(api: EventApi, wanted: Wanted) -> Wanted:
    """``wanted``, with what the controllers of a namespace's pods say where these may be listed. Raises ApiError."""
    if wanted.target is None or wanted.target.kind == "Pod" or not wanted.namespace:
        return wanted
    known: dict[str, bool] = {}
    try:
        for page in _pages(
            lambda token: api.list_pods_page(limit=PAGE, continue_token=token, namespace=wanted.namespace)
        ):
            known |= {_name(item): owned_by(wanted.target, item) for item in items_of(page)}
    except ApiError as error:
        if error.status != 403:
            raise
        return wanted
    return replace(wanted, known=known)


def refused(error: ApiError, wanted: Wanted) -> ClusterError:
    """What it means that the Events could not be read, and what to do."""
    if error.status == 403:
        where = (
            f"namespace {wanted.namespace}"
            if wanted.namespace
            else "all namespaces, or name one of yours: -n NAMESPACE"
        )
        return ClusterError(str(error), remedy=f"it takes the right to list events in {where}")
    if error.status == 401:
        return ClusterError(str(error), remedy="renew the credential in the kubeconfig, or name another: --kubeconfig")
    return ClusterError(str(error), remedy=error.remedy)


def _pages(page: Callable[[str], dict[str, Any]]) -> Iterator[dict[str, Any]]:
    return pages(page, most=_MOST_PAGES)


def _name(item: dict[str, Any]) -> str:
    metadata = item.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    return name if isinstance(name, str) else ""
