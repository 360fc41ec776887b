"""The API server: what kiptail asks of it, as paths, queries and bodies. List, watch, create, patch, review.

Below it, from the file to the wire: :mod:`kiptail.kube.session` reads the credentials, :mod:`kiptail.kube.transport`
sends with them, :mod:`kiptail.kube.calls` ends what takes too long, :mod:`kiptail.kube.watch` reads a watch and
:mod:`kiptail.kube.errors` tells what went wrong.

Two things are stricter than in the Python client, for a daemon needs them. A request has a deadline for the whole
of it, name look-up, handshake and a dripping answer included, and :meth:`KubeApi.close` or
:meth:`WatchStream.close` break it off from another thread. Credentials are followed: a token file is read again
when it changes, so are certificates and the kubeconfig, and everything after a 401.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypeAlias
from urllib.parse import quote, urlencode

from kiptail.credentials.identity import NOBODY, Identity
from kiptail.credentials.tokens import Claims, claims_of
from kiptail.errors import ApiError, ClusterError
from kiptail.kube import strict_json
from kiptail.kube.errors import bad_answer
from kiptail.kube.object_names import is_version
from kiptail.kube.session import Session, Tokens, open_session
from kiptail.kube.transport import Observe, Request, Transport
from kiptail.kube.watch import WatchStream
from kiptail.text import one_line

__all__ = ["KubeApi", "Observe", "OwnTokens", "WatchStream"]

log = logging.getLogger(__name__)

Json: TypeAlias = dict[str, Any]

REQUEST_TIMEOUT_S = 10.0
#: A watch that says nothing for so long is taken for dead. Bookmarks come every 45 to 75 s.
WATCH_SILENCE_S = 150.0
#: How often the files that credentials came from are looked at (a few stat calls).
FILES_CHECK_S = 3.0
#: A page: 130 KiB for each of 250 pods. Read and parsed it takes ten times as much, at worst.
LIST_BYTES = 32 << 20

#: A token for the next page holds the name of an object, and is no longer than this.
CONTINUE_LENGTH = 4_096

_LISTS = {"pods": "PodList", "nodes": "NodeList", "services": "ServiceList"}
_STRATEGIC_MERGE = "application/strategic-merge-patch+json"
_PODS = "/api/v1/pods"
#: RFC 6750: what can stand in a header, and in a file.
_TOKEN = re.compile(r"[-A-Za-z0-9._~+/]{1,65536}=*")
_REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
_WHO = "/apis/authentication.k8s.io/v1/selfsubjectreviews"


class OwnTokens(Tokens, Protocol):
    """Where renewed tokens are kept."""

    def refused(self, token: str) -> None:
        """The API server did not accept this one."""


class KubeApi:
    """Requests to one API server, from any number of threads.

    Every method that sends one raises :class:`~kiptail.errors.ApiError` and nothing else. A 401 makes it
    read the kubeconfig again (once for all the threads that got one) and ask a second time. Nothing else is
    retried.
    """

    def __init__(self, transport: Transport) -> None:
        """Use :meth:`from_kubeconfig`."""
        self._transport = transport
        if not transport.session.verified:
            log.warning("insecure-skip-tls-verify: anybody between here and %s can read the token", self.server)

    @classmethod
    def from_kubeconfig(
        cls,
        *paths: Path,
        context: str | None = None,
        server: str | None = None,
        request_timeout_s: float = REQUEST_TIMEOUT_S,
        files_check_s: float = FILES_CHECK_S,
        observe: Observe | None = None,
        tokens: OwnTokens | None = None,
        stopped: Callable[[], bool] = bool,
    ) -> KubeApi:
        """From a kubeconfig, or from several that are merged; no request is made, but an exec plugin is run.

        ``context`` instead of the current one, ``server`` (a URL) instead of the cluster's. A request may
        take ``request_timeout_s`` in all. Files are looked at for changes every ``files_check_s``.
        ``tokens`` may have a newer token than the kubeconfig. A plugin is broken off once ``stopped()``, and by
        :meth:`close`.
        Raises ClusterError, one line, that names the file and what is wrong with it.
        """
        return cls(
            Transport(
                lambda closed: open_session(paths, context, server, tokens, stopped=lambda: closed() or stopped()),
                request_timeout_s=request_timeout_s,
                files_check_s=files_check_s,
                observe=observe,
                on_unauthorized=None if tokens is None else lambda session: tokens.refused(_token(session)),
            )
        )

    @property
    def server(self) -> str:
        """The URL of the API server, without a slash at the end."""
        return self._transport.session.server

    def time_us(self) -> int | None:
        """What the API server's clock shows now, µs since the epoch, to a second or so; None while nothing tells."""
        ahead_s = self._transport.server_time_s
        # A Date is cut to whole seconds.
        return None if ahead_s is None else round((ahead_s + time.monotonic() + 0.5) * 1e6)

    @property
    def user_name(self) -> str | None:
        """The user that is impersonated; else, where the credential is a client certificate, its CN."""
        return self._transport.session.user_name

    @property
    def verified(self) -> bool:
        """Whether the server's certificate is looked at."""
        return self._transport.session.verified

    @property
    def certificate_life(self) -> tuple[float, float] | None:
        """From when until when the client certificate is good, in seconds since the epoch; None without one."""
        return self._transport.session.certificate_life

    def claims(self) -> Claims | None:
        """What the token says of itself; None where there is none. May run an exec plugin: raises ClusterError."""
        return claims_of(_token(self._transport.session))

    @property
    def node_name(self) -> str | None:
        """NAME, where the credential is a kubelet's client certificate, for ``system:node:NAME``."""
        return Identity(self.user_name or "").node or None

    def list_pods_page(
        self,
        *,
        limit: int,
        continue_token: str = "",
        resource_version: str | None = None,
        field_selector: str = "",
    ) -> Json:
        """One page of all namespaces' pods: a v1.PodList as a plain dict, with ``items`` and ``metadata``.

        ``resource_version`` belongs to the first page only and is left out where ``continue_token`` is given:
        the server refuses both. An answer larger than 32 MiB is an error.
        """
        query = {"resourceVersion": resource_version} if resource_version is not None and not continue_token else {}
        if field_selector:
            query["fieldSelector"] = field_selector
        return self._page("pods", query, limit=limit, continue_token=continue_token)

    def list_nodes_page(self, *, limit: int, continue_token: str = "") -> Json:
        """One page of the nodes, a v1.NodeList, as :meth:`list_pods_page`."""
        return self._page("nodes", {}, limit=limit, continue_token=continue_token)

    def list_services_page(self, *, limit: int, continue_token: str = "") -> Json:
        """One page of all namespaces' Services, a v1.ServiceList, as :meth:`list_pods_page`."""
        return self._page("services", {}, limit=limit, continue_token=continue_token)

    def _page(self, plural: str, query: dict[str, str], *, limit: int, continue_token: str) -> Json:
        query = {"limit": str(limit)} | ({"continue": continue_token} if continue_token else {}) | query
        request = Request(f"cannot list {plural}", "list", "GET", f"/api/v1/{plural}?{urlencode(query)}")
        page = _object(request.what, self._transport.ask(request, LIST_BYTES), _LISTS[plural])
        if page.get("items") is None:
            page["items"] = []
        metadata = page.get("metadata")
        if not isinstance(page["items"], list) or not isinstance(metadata, dict):
            raise bad_answer(request.what, f"is no {_LISTS[plural]}")
        if not is_version(metadata.get("resourceVersion")):
            raise bad_answer(request.what, "is a list without a version")
        token = metadata.get("continue") or ""
        if not isinstance(token, str) or len(token) > CONTINUE_LENGTH or not token.isascii():
            raise bad_answer(request.what, "is a list without an end")
        return page

    def watch_pods(
        self,
        *,
        resource_version: str,
        field_selector: str = "",
        timeout_s: int,
        initial_events: bool = False,
        silence_s: float = WATCH_SILENCE_S,
    ) -> WatchStream:
        """A watch of all namespaces' pods, that connects when it is entered.

        The server ends it after ``timeout_s``. ``silence_s`` without a byte are an error: two bookmarks have
        not come then. With ``initial_events`` the state comes first (WatchList), up to an annotated bookmark.
        """
        query = {"watch": "1", "timeoutSeconds": str(timeout_s), "allowWatchBookmarks": "true"}
        if resource_version:
            query["resourceVersion"] = resource_version
        if field_selector:
            query["fieldSelector"] = field_selector
        if initial_events:
            query |= {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan"}
        request = Request("cannot watch pods", "watch", "GET", f"{_PODS}?{urlencode(query)}")
        return WatchStream(self._transport, request, timeout_s=timeout_s, silence_s=silence_s)

    def create_event(self, namespace: str, body: Json) -> None:
        """Create a v1.Event. 409 (AlreadyExists): an Event of that name is there.

        It is created when the server answers with an Event of that name, and by no other answer.
        """
        path = f"/api/v1/namespaces/{_segment(namespace)}/events"
        what = f"cannot create an Event in {namespace}"
        answer = self._transport.ask(Request(what, "create", "POST", path, _encode(body)))
        _require_event(what, answer, namespace, body["metadata"]["name"])

    def patch_event(self, namespace: str, name: str, body: Json) -> None:
        """Change some fields of a v1.Event (a strategic merge patch). 404 (NotFound): there is none."""
        path = f"/api/v1/namespaces/{_segment(namespace)}/events/{_segment(name)}"
        what = f"cannot update an Event in {namespace}"
        answer = self._transport.ask(Request(what, "patch", "PATCH", path, _encode(body), _STRATEGIC_MERGE))
        _require_event(what, answer, namespace, name)

    def allowed(
        self,
        verb: str,
        resource: str,
        *,
        field_selector: tuple[str, str] | None = None,
        namespace: str = "",
        name: str = "",
    ) -> bool | None:
        """Whether this user may (a SelfSubjectAccessReview); None where none may ask that.

        Raises ApiError also where the credential may not impersonate that user.

        ``resource`` is a plural of the core group, perhaps with a subresource (``serviceaccounts/token``). Without
        ``namespace`` it is all of them. Without the ``field_selector`` (key, value) that will be used, a kubelet
        is told that it may not list pods. Servers before 1.31 do not look at it.
        """
        plural, _, subresource = resource.partition("/")
        attributes: Json = {"verb": verb, "resource": plural, "subresource": subresource}
        attributes |= {"namespace": namespace, "name": name}
        attributes = {key: value for key, value in attributes.items() if value}
        if field_selector is not None:
            key, value = field_selector
            requirement = {"key": key, "operator": "In", "values": [value]}
            attributes["fieldSelector"] = {"requirements": [requirement]}
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        }
        what = f"cannot ask for the right to {verb} {resource}"
        try:
            body = self._transport.ask(Request(what, "review", "POST", _REVIEWS, _encode(review)))
        except ApiError as error:
            if error.status in (403, 404) and "cannot impersonate" not in str(error):
                return None
            raise
        status = _object(what, body, "SelfSubjectAccessReview", "authorization.k8s.io/v1").get("status")
        allowed = status.get("allowed") if isinstance(status, dict) else None
        if not isinstance(allowed, bool):
            raise bad_answer(what, "is no SelfSubjectAccessReview")
        return allowed

    def version(self) -> tuple[str, str]:
        """The server's version, such as ``v1.36.0``, and the ``Date`` of its answer ("" without one)."""
        what = "cannot ask for the version"
        body, date = self._transport.ask_dated(Request(what, "get", "GET", "/version"))
        version = _document(what, body).get("gitVersion")
        if not isinstance(version, str):
            raise bad_answer(what, "holds no version")
        return one_line(version, 60), date

    def identity(self) -> Identity:
        """Whom the server takes this for; where it does not tell, whom the kubeconfig says."""
        with contextlib.suppress(ApiError):
            told = self.who()
            if told.user:
                return told
        return self.claimed()

    def claimed(self) -> Identity:
        """Whom the kubeconfig says that this is, without a request: impersonated, by a certificate, or by a token."""
        claims = None
        with contextlib.suppress(ClusterError):
            claims = self.claims()
        return Identity(self.user_name or (claims.subject if claims is not None else ""))

    def who(self) -> Identity:
        """Whom the server takes this for (a SelfSubjectReview, Kubernetes 1.28 and later), or :data:`NOBODY`."""
        what = "cannot ask who this is"
        review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
        try:
            body = self._transport.ask(Request(what, "review", "POST", _WHO, _encode(review)))
        except ApiError as error:
            if error.status in (403, 404):
                return NOBODY
            raise
        status = _object(what, body, "SelfSubjectReview", "authentication.k8s.io/v1").get("status")
        info = status.get("userInfo") if isinstance(status, dict) else None
        if not isinstance(info, dict):
            return NOBODY
        user, groups = info.get("username"), info.get("groups")
        known = tuple(group for group in groups if isinstance(group, str)) if isinstance(groups, list) else None
        return Identity(one_line(user, 300) if isinstance(user, str) else "", known)

    def request_token(self, namespace: str, name: str, *, seconds: int) -> str:
        """A new token for a service account (a TokenRequest), good for about so long; the server has its own mind."""
        path = f"/api/v1/namespaces/{_segment(namespace)}/serviceaccounts/{_segment(name)}/token"
        what = f"cannot get a token for the service account {namespace}/{name}"
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"expirationSeconds": seconds},
        }
        answer = self._transport.ask(Request(what, "create", "POST", path, _encode(body)))
        status = _object(what, answer, "TokenRequest", "authentication.k8s.io/v1").get("status")
        token = status.get("token") if isinstance(status, dict) else None
        if not isinstance(token, str) or not _TOKEN.fullmatch(token):
            raise bad_answer(what, "holds no token")
        return token

    def reload(self) -> None:
        """Read the kubeconfig, token and certificates again and let go of idle connections.

        Raises ClusterError; what was in use stays in use then.
        """
        self._transport.reload()

    def close(self) -> None:
        """Break off all requests and watches, whatever thread they are in; every later one fails."""
        self._transport.close()


def _document(what: str, body: bytes) -> Json:
    """The JSON object. Raises ApiError."""
    try:
        document = strict_json.parse(body)
    except ValueError as error:
        raise bad_answer(what, f"is no JSON ({one_line(str(error), 60)})") from error
    if not isinstance(document, dict):
        raise bad_answer(what, "is no JSON object")
    return document


def _object(what: str, body: bytes, kind: str, api_version: str = "v1") -> Json:
    """The object of this kind. Raises ApiError."""
    document = _document(what, body)
    if document.get("kind") != kind or document.get("apiVersion") != api_version:
        raise bad_answer(what, f"is no {kind}")
    return document


def _require_event(what: str, body: bytes, namespace: str, name: str) -> None:
    """Raises ApiError unless that is the Event that was written."""
    metadata = _object(what, body, "Event").get("metadata")
    if not isinstance(metadata, dict) or (metadata.get("namespace"), metadata.get("name")) != (namespace, name):
        raise bad_answer(what, "is another Event")


def _token(session: Session) -> str:
    """The bearer token in use; "" where it is something else."""
    scheme, _, token = (session.credential.header() or "").partition(" ")
    return token if scheme == "Bearer" else ""


def _segment(text: str) -> str:
    """``text`` as one segment of a path. Raises ValueError for what would change the path's meaning."""
    if text in ("", ".", ".."):
        raise ValueError(f"not a name: {text!r}")
    return quote(text, safe="")


def _encode(body: Json) -> bytes:
    return json.dumps(body, separators=(",", ":")).encode()
