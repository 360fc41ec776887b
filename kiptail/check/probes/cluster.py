"""Asks the cluster for ``kiptail check``: a handful of requests that read, none that write."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime

from kiptail.check.facts import Answer, ClusterFacts, Life, Need
from kiptail.config.settings import Settings
from kiptail.credentials.identity import Identity
from kiptail.credentials.tokens import Claims
from kiptail.errors import ApiError, ClusterError
from kiptail.kube.access import is_allowed
from kiptail.kube.api import KubeApi, OwnTokens
from kiptail.kube.rights import checked_rights
from kiptail.text import one_line

__all__ = ["gather_cluster"]

#: Timeout of a request, in seconds.
_TIMEOUT = 5.0
#: A node runs at most a few hundred pods.
_PAGE = 500


def gather_cluster(settings: Settings, tokens: OwnTokens) -> ClusterFacts:
    """What there is to know; stops asking when the server does not answer."""
    if not settings.kubeconfigs:
        return ClusterFacts()
    path = one_line(":".join(map(str, settings.kubeconfigs)))
    try:
        api = KubeApi.from_kubeconfig(
            *settings.kubeconfigs,
            context=settings.context,
            server=settings.server,
            request_timeout_s=_TIMEOUT,
            tokens=tokens,
        )
    except ClusterError as error:
        return _unusable(path, error)
    with contextlib.closing(api):
        try:
            claims = api.claims()
        except ClusterError as error:
            return _unusable(path, error)
        return _ask(api, settings, path, claims)


def _unusable(path: str, error: ClusterError) -> ClusterFacts:
    return ClusterFacts(path, refusal=one_line(error.problem), refusal_remedy=one_line(error.remedy))


def _ask(api: KubeApi, settings: Settings, path: str, claims: Claims | None) -> ClusterFacts:
    node_name = settings.node_name or api.node_name or socket.gethostname().lower()
    life = _life(api, claims)
    answer = _answer(api)
    if answer.kind != "ok":
        return ClusterFacts(
            path,
            server=api.server,
            identity=Identity(one_line(api.claimed().user)),
            verified=api.verified,
            life=life,
            answer=answer,
            node_name=node_name,
        )
    identity = api.identity()
    trouble, forbidden, pods = "", False, None
    try:
        selector = f"spec.nodeName={node_name}"
        page = api.list_pods_page(limit=_PAGE, field_selector=selector, resource_version="0")
        pods = len(page["items"])
    except ApiError as error:
        trouble, forbidden = str(error), error.status == 403
    return ClusterFacts(
        path,
        server=api.server,
        identity=identity,
        verified=api.verified,
        life=life,
        answer=answer,
        needs=tuple(_needs(api, settings, node_name, claims)),
        node_name=node_name,
        node_pods=pods,
        node_trouble=trouble,
        node_forbidden=forbidden,
    )


def _life(api: KubeApi, claims: Claims | None) -> Life | None:
    if claims is not None:
        return Life("token", claims.issued, claims.expires)
    life = api.certificate_life
    return None if life is None else Life("client certificate", *life)


def _answer(api: KubeApi) -> Answer:
    before = time.time()
    try:
        version, date = api.version()
    except ApiError as error:
        if error.status == 403:  # it is there, and keeps its version to itself
            return Answer("ok", "it does not say its version")
        kind = "refused"
        if error.untrusted:
            kind = "untrusted"
        elif error.status == 401:
            kind = "unauthorized"
        elif error.unreachable or error.reason == "BadResponse":
            kind = "unreachable"
        return Answer(kind, str(error), remedy=error.remedy)
    after = time.time()
    skew = None
    with contextlib.suppress(ValueError, TypeError, OverflowError):
        # Its seconds are cut off: on average it was half a second later.
        skew = parsedate_to_datetime(date).timestamp() + 0.5 - (before + after) / 2
    return Answer("ok", version, skew, 0.5 + (after - before) / 2)


def _needs(api: KubeApi, settings: Settings, node_name: str, claims: Claims | None) -> Iterator[Need]:
    node = node_name if settings.pod_index == "node" else None
    account = claims.account if claims is not None and claims.expires is not None else None
    for wanted in checked_rights(node, account, explain=settings.explain):
        trouble = ""
        try:
            allowed = is_allowed(api, wanted)
        except ApiError as error:
            allowed, trouble = None, str(error)
        yield Need(wanted, allowed, trouble)
