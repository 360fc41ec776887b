"""Which pods there are: from a file, or asked for once."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from kiptail.config.settings import Settings
from kiptail.credentials.renewal import TOKEN_FILE, KeptToken
from kiptail.errors import ApiError, ClusterError
from kiptail.kube.pages import items_of, pages
from kiptail.pods.snapshot import Also, Collector, Snapshot, load_snapshot

if TYPE_CHECKING:
    from kiptail.kube.api import KubeApi

__all__ = ["known_pods"]

log = logging.getLogger(__name__)

#: Objects a page, and pages: Kubernetes is made for 150,000 pods, and a server may leave every second page empty.
PAGE, MOST_PAGES = 250, 1_600
#: Namespaces whose labels are asked for, one by one.
MOST_NAMESPACES = 2_000
_ONLY_ADDRESSES = "so packets are reported by addresses alone"
_AND_RECORDS = "so packets of which no flow record tells are reported by addresses alone"


def known_pods(
    settings: Settings, *, demanded: bool, also: Also | None = None, recorded: bool = False
) -> Snapshot | None:
    """The pods, and names of nodes and Services; None, and a warning that says why, where nobody tells.

    ``demanded``: the cluster was named, so it is an error when it does not answer. ``also`` is shown each object, and
    the namespaces of a cluster as well. ``recorded``: there are flow records, which name most. Raises SettingsError,
    ClusterError.
    """
    if settings.pods is not None:
        return load_snapshot(settings.pods, label=None, also=also)
    consequence = _AND_RECORDS if recorded else _ONLY_ADDRESSES
    if not demanded and not any(map(os.path.exists, settings.kubeconfigs)):
        log.warning("there is neither --pods nor a kubeconfig, %s", consequence)
        return None
    try:
        return _asked(settings, also)
    except (ApiError, ClusterError) as error:
        if demanded:
            raise error if isinstance(error, ClusterError) else ClusterError(str(error)) from error
        log.warning("the pods are not known, %s (see --pods): %s", consequence, error)
        return None


def _asked(settings: Settings, also: Also | None) -> Snapshot:
    from kiptail.kube.api import KubeApi  # noqa: PLC0415 - 50 ms that a report with --pods does without

    tokens = KeptToken(settings.state_directory / TOKEN_FILE)
    api = KubeApi.from_kubeconfig(
        *settings.kubeconfigs, context=settings.context, server=settings.server, tokens=tokens
    )
    with contextlib.closing(api):
        collector = Collector(also=also)
        try:
            _collect(collector, "Pod", _paged(api.list_pods_page))
        except ApiError as error:
            if error.status != 403:
                raise
            _collect_own(api, collector, settings.node_name or api.node_name or socket.gethostname().lower())
        for kind, list_page in (("Service", api.list_services_page), ("Node", api.list_nodes_page)):
            try:
                _collect(collector, kind, _paged(list_page))
            except ApiError as error:
                log.info("addresses of %ss are not named: %s", kind.lower(), error)
        snapshot = collector.snapshot()
        if also is not None:
            _show_namespaces(api, {pod.ref.namespace for pod in snapshot.pods}, also)
        return snapshot


def _show_namespaces(api: KubeApi, names: set[str], also: Also) -> None:
    """Of these names: to list all of them is a right that kiptail does without."""
    for name in sorted(names)[:MOST_NAMESPACES]:
        try:
            also(api.namespace(name), "Namespace")
        except ApiError as error:
            if error.status == 404:
                continue
            log.warning("the labels of namespaces are not known: %s", error)
            return


def _collect_own(api: KubeApi, collector: Collector, node: str) -> None:
    """A kubelet may list the pods of its node."""
    selector = f"spec.nodeName={node}"
    _collect(collector, "Pod", _paged(partial(api.list_pods_page, field_selector=selector)))
    log.warning("only the pods of node %s may be listed: others are reported by their addresses", node)


def _paged(list_page: Callable[..., dict[str, Any]]) -> Callable[[str], dict[str, Any]]:
    return lambda token: list_page(limit=PAGE, continue_token=token)


def _collect(collector: Collector, kind: str, page: Callable[[str], dict[str, Any]]) -> None:
    for got in pages(page, most=MOST_PAGES):
        for item in items_of(got):
            collector.add(item, kind)
