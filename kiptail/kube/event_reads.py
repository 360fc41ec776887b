"""The API server's Events, read: what ``kubectl drops`` asks for beside what the daemon does."""

from __future__ import annotations

from urllib.parse import quote, urlencode

from kiptail.kube.answers import Json
from kiptail.kube.api import WATCH_SILENCE_S, KubeApi
from kiptail.kube.transport import Request
from kiptail.kube.watch import WatchStream

__all__ = ["EventReader"]


class EventReader(KubeApi):
    """A client that reads Events, too; ``namespace`` "" is all of them."""

    def list_events_page(
        self, namespace: str, *, limit: int, continue_token: str = "", field_selector: str = ""
    ) -> Json:
        """One page of a namespace's Events, a v1.EventList, as :meth:`~KubeApi.list_pods_page`."""
        query = {"fieldSelector": field_selector} if field_selector else {}
        return self._page("events", query, limit=limit, continue_token=continue_token, namespace=namespace)

    def watch_events(
        self, namespace: str, *, resource_version: str, field_selector: str = "", timeout_s: int
    ) -> WatchStream:
        """A watch of a namespace's Events, that connects when it is entered; the server ends it after ``timeout_s``."""
        query = {
            "watch": "1",
            "timeoutSeconds": str(timeout_s),
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
        }
        if field_selector:
            query["fieldSelector"] = field_selector
        where = f"/namespaces/{quote(namespace, safe='')}" if namespace else ""
        what = f"cannot watch events in {namespace}" if namespace else "cannot watch events"
        request = Request(what, "watch", "GET", f"/api/v1{where}/events?{urlencode(query)}")
        return WatchStream(self._transport, request, timeout_s=timeout_s, silence_s=WATCH_SILENCE_S)
