"""The API server: what kiptail asks of it, as paths, queries and bodies. List, watch, create, patch, review.

:mod:`kiptail.kube.answers` reads what it answers. Below, from the file to the wire: :mod:`kiptail.kube.client` begins
and ends, :mod:`kiptail.kube.session` reads the credentials, :mod:`kiptail.kube.transport` sends with them,
:mod:`kiptail.kube.calls` ends what takes too long, :mod:`kiptail.kube.watch` reads a watch and
:mod:`kiptail.kube.errors` tells what went wrong.

Two things are stricter than in the Python client, for a daemon needs them. A request has a deadline for the whole
of it, name look-up, handshake and a dripping answer included, and :meth:`KubeApi.close` or
:meth:`WatchStream.close` break it off from another thread. Credentials are followed: a token file is read again
when it changes, so are certificates and the kubeconfig, and everything after a 401.
"""

from __future__ import annotations

import contextlib
import json
from urllib.parse import quote, urlencode

from kiptail.credentials.identity import NOBODY, Identity
from kiptail.errors import ApiError
from kiptail.kube.answers import (
    Json,
    group_names,
    namespace_of,
    page_of,
    require_event,
    review_allows,
    reviewed_identity,
    server_version,
    token_of,
)
from kiptail.kube.client import Client, OwnTokens
from kiptail.kube.transport import Observe, Request
from kiptail.kube.watch import WatchStream

__all__ = ["KubeApi", "Observe", "OwnTokens", "WatchStream"]

#: A watch that says nothing for longer is taken for dead, in seconds. Bookmarks come every 45 to 75 s.
WATCH_SILENCE_S = 150.0
#: A page: 130 KiB for each of 250 pods. Read and parsed it takes ten times as much, at worst.
LIST_BYTES = 32 << 20

_STRATEGIC_MERGE = "application/strategic-merge-patch+json"
_PODS = "/api/v1/pods"
_REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
_WHO = "/apis/authentication.k8s.io/v1/selfsubjectreviews"


class KubeApi(Client):
    """Requests to one API server, from any number of threads.

    Every method that sends one raises :class:`~kiptail.errors.ApiError` and nothing else. A 401 makes it
    read the kubeconfig again (once for all the threads that got one) and ask a second time. Nothing else is
    retried.
    """

    def list_pods_page(
        self,
        *,
        limit: int,
        continue_token: str = "",
        resource_version: str | None = None,
        field_selector: str = "",
        namespace: str = "",
    ) -> Json:
        """One page of all namespaces' pods: a v1.PodList as a plain dict, with ``items`` and ``metadata``.

        With ``namespace`` they are those of that one.
        ``resource_version`` belongs to the first page only and is left out where ``continue_token`` is given:
        the server refuses both. An answer larger than 32 MiB is an error.
        """
        query = {"resourceVersion": resource_version} if resource_version is not None and not continue_token else {}
        if field_selector:
            query["fieldSelector"] = field_selector
        return self._page("pods", query, limit=limit, continue_token=continue_token, namespace=namespace)

    def list_nodes_page(self, *, limit: int, continue_token: str = "") -> Json:
        """One page of the nodes, a v1.NodeList, as :meth:`list_pods_page`."""
        return self._page("nodes", {}, limit=limit, continue_token=continue_token)

    def list_services_page(self, *, limit: int, continue_token: str = "") -> Json:
        """One page of all namespaces' Services, a v1.ServiceList, as :meth:`list_pods_page`."""
        return self._page("services", {}, limit=limit, continue_token=continue_token)

    def list_network_policies_page(
        self,
        namespace: str,
        *,
        limit: int,
        continue_token: str = "",
        resource_version: str | None = None,
        most_bytes: int = LIST_BYTES,
    ) -> Json:
        """One page of a namespace's NetworkPolicies, a networking.k8s.io/v1 list, as :meth:`list_pods_page`.

        An answer larger than ``most_bytes`` is an error.
        """
        return self._page(
            "networkpolicies",
            {"resourceVersion": resource_version} if resource_version is not None and not continue_token else {},
            limit=limit,
            continue_token=continue_token,
            namespace=namespace,
            group="/apis/networking.k8s.io/v1",
            most_bytes=most_bytes,
        )

    def _page(
        self,
        plural: str,
        query: dict[str, str],
        *,
        limit: int,
        continue_token: str,
        namespace: str = "",
        group: str = "/api/v1",
        most_bytes: int = LIST_BYTES,
    ) -> Json:
        query = {"limit": str(limit)} | ({"continue": continue_token} if continue_token else {}) | query
        what, path = f"cannot list {plural}", f"{group}/{plural}"
        if namespace:
            what, path = f"{what} in {namespace}", f"{group}/namespaces/{_segment(namespace)}/{plural}"
        request = Request(what, "list", "GET", f"{path}?{urlencode(query)}")
        return page_of(plural, request.what, self._transport.ask(request, most_bytes))

    def namespace(self, name: str) -> Json:
        """A v1.Namespace. 404 (NotFound): there is none of that name."""
        what = f"cannot get namespace {name}"
        answer = self._transport.ask(Request(what, "get", "GET", f"/api/v1/namespaces/{_segment(name)}"))
        return namespace_of(what, answer, name)

    def groups(self) -> frozenset[str]:
        """The names of the API groups that the server has beside the core."""
        what = "cannot ask which API groups there are"
        return group_names(what, self._transport.ask(Request(what, "get", "GET", "/apis")))

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
        require_event(what, answer, namespace, body["metadata"]["name"])

    def patch_event(self, namespace: str, name: str, body: Json) -> None:
        """Change some fields of a v1.Event (a strategic merge patch). 404 (NotFound): there is none."""
        path = f"/api/v1/namespaces/{_segment(namespace)}/events/{_segment(name)}"
        what = f"cannot update an Event in {namespace}"
        answer = self._transport.ask(Request(what, "patch", "PATCH", path, _encode(body), _STRATEGIC_MERGE))
        require_event(what, answer, namespace, name)

    def allowed(
        self,
        verb: str,
        resource: str,
        *,
        group: str = "",
        field_selector: tuple[str, str] | None = None,
        namespace: str = "",
        name: str = "",
    ) -> bool | None:
        """Whether this user may (a SelfSubjectAccessReview); None where none may ask that.

        Raises ApiError also where the credential may not impersonate that user.

        ``resource`` is a plural of the API group ``group`` ("" is the core group), perhaps with a subresource
        (``serviceaccounts/token``). Without ``namespace`` it is all of them. Without the ``field_selector`` (key,
        value) that will be used, a kubelet learns that it may not list pods. Servers before 1.31 do not look at it.
        """
        plural, _, subresource = resource.partition("/")
        attributes: Json = {"verb": verb, "group": group, "resource": plural, "subresource": subresource}
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
        return review_allows(what, body)

    def version(self) -> tuple[str, str]:
        """The server's version, such as ``v1.36.0``, and the ``Date`` of its answer ("" without one)."""
        what = "cannot ask for the version"
        body, date = self._transport.ask_dated(Request(what, "get", "GET", "/version"))
        return server_version(what, body), date

    def identity(self) -> Identity:
        """Whom the server takes this for; where it does not tell, whom the kubeconfig says."""
        with contextlib.suppress(ApiError):
            answered = self.who()
            if answered.user:
                return answered
        return self.claimed()

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
        return reviewed_identity(what, body)

    def request_token(self, namespace: str, name: str, *, seconds: int) -> str:
        """A new token for a service account (a TokenRequest), for ``seconds`` or what the server makes of them."""
        path = f"/api/v1/namespaces/{_segment(namespace)}/serviceaccounts/{_segment(name)}/token"
        what = f"cannot get a token for the service account {namespace}/{name}"
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"expirationSeconds": seconds},
        }
        return token_of(what, self._transport.ask(Request(what, "create", "POST", path, _encode(body))))


def _segment(text: str) -> str:
    """``text`` as one segment of a path. Raises ValueError for what would change the path's meaning."""
    if text in ("", ".", ".."):
        raise ValueError(f"not a name: {text!r}")
    return quote(text, safe="")


def _encode(body: Json) -> bytes:
    return json.dumps(body, separators=(",", ":")).encode()
