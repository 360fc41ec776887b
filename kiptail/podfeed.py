"""What the API server tells of pods: all of them, streamed or in pages, and then every change.

Whatever arrives is reduced at once to what ownership needs: never is a whole list, or more than one page, in memory.
"""

from __future__ import annotations

import contextlib
import gc
import json
import logging
import random
import sys
from collections.abc import Iterator
from types import TracebackType
from typing import Any, NamedTuple, Protocol

from kiptail.errors import ApiError
from kiptail.ownclock import OwnClock
from kiptail.ownership import Pod, reduce_pod
from kiptail.pod import in_steady_time

__all__ = ["Change", "PodApi", "PodFeed", "WatchLines", "items_of", "next_page"]

log = logging.getLogger(__name__)

#: Pods a page: one is in memory as a whole, as 2 MB of JSON and 10 MB of objects.
PAGE_LIMIT = 250
#: The server ends a watch after about so many seconds; bookmarks come about once a minute in between.
WATCH_TIMEOUT = 290
#: A server that streams the list says something at least so often, in seconds; one that does not know how stays silent.
STREAM_SILENCE = 5.0
#: The end of a streamed list is a bookmark with this annotation.
END_OF_LIST = "k8s.io/initial-events-end"


class WatchLines(Protocol):
    """A watch that connects when it is entered."""

    def __enter__(self) -> Iterator[bytes]: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...

    def close(self) -> None:
        """Break it off, from any thread."""


class PodApi(Protocol):
    """What is asked of the API server. All raise :class:`ApiError`."""

    def list_pods_page(
        self, *, limit: int, continue_token: str = "", resource_version: str | None = None, field_selector: str = ""
    ) -> dict[str, Any]:
        """One page of a PodList."""

    def watch_pods(
        self,
        *,
        resource_version: str,
        field_selector: str = "",
        timeout_s: int,
        initial_events: bool = False,
        silence_s: float = ...,
    ) -> WatchLines:
        """The lines of a watch with bookmarks; the iterator raises ApiError when the stream breaks or is silent."""


class Change(NamedTuple):
    """One line of a watch."""

    #: As it is now or, of one that is gone, as it was last; None when the line was about no pod.
    pod: Pod | None
    #: The ``metadata.uid`` of a pod that is gone, or "".
    gone: str
    #: The resourceVersion up to which everything is known now, or "".
    version: str
    #: The state that was asked for is complete.
    end_of_list: bool = False


class PodFeed:
    """The pods of one node (``field_selector``) or of the cluster. One thread reads, any may :meth:`close`."""

    def __init__(
        self,
        api: PodApi,
        *,
        field_selector: str = "",
        label: str | None = None,
        node: str = "",
        clock: OwnClock | None = None,
    ) -> None:
        """``label``: the key of the label whose value is kept of each pod; ``node``: whose pods' probes are kept.

        ``clock`` makes of the pods' times, which are the wall clock's, steady ones.
        """
        self._api, self._selector, self._label, self._node = api, field_selector, label, node
        self._clock = clock or OwnClock()
        self._streams = True
        self._stream: WatchLines | None = None
        self._closed = False
        #: Equal host addresses are one object: a node's pods all have them.
        self._hosts: dict[tuple[str, ...], tuple[str, ...]] = {}

    def close(self) -> None:
        """End whatever is read at present, and all that is asked for later."""
        self._closed = True
        stream = self._stream
        if stream is not None:
            stream.close()

    @property
    def closed(self) -> bool:
        """:meth:`close` was called: what is read ends early, and says nothing of the cluster."""
        return self._closed

    def all(self) -> tuple[list[Pod], str]:
        """All pods there are, and the resourceVersion of that. Raises ApiError."""
        self._hosts.clear()
        with _no_garbage():
            return self._all()

    def _all(self) -> tuple[list[Pod], str]:
        if self._streams:
            try:
                return self._streamed()
            except ApiError as error:
                if error.status not in (400, 422) and error.reason != END_OF_LIST:
                    raise
                # Servers before 1.32 refuse. One that only fell silent may do better the next time.
                self._streams = error.status is None and error.silent
                log.debug("the API server does not stream lists, reading pages instead: %s", error)
        return self._paged()

    def watch(self, version: str) -> WatchLines:
        """The lines of the changes since; each is for :meth:`change`."""
        jitter = random.uniform(0.8, 1.0)  # noqa: S311 - no secret
        stream = self._api.watch_pods(
            resource_version=version, field_selector=self._selector, timeout_s=round(WATCH_TIMEOUT * jitter)
        )
        return self._entered(stream)

    def newest_version(self) -> str:
        """The resourceVersion of the cluster's pods now. Raises ApiError."""
        return _version(self._api.list_pods_page(limit=1))

    def change(self, line: bytes) -> Change:
        """One line of the watch, a metav1.WatchEvent; raises ApiError for an ERROR or what is none."""
        try:
            event = json.loads(line)
            kind, obj = event["type"], event["object"]
            metadata = obj.get("metadata") or {}
            version, key = metadata.get("resourceVersion"), metadata.get("uid")
            annotations = (metadata.get("annotations") or {}) if kind == "BOOKMARK" else {}
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ApiError("a line of the watch is not what it should be", reason="BadLine") from error
        if kind == "ERROR":
            raise ApiError(
                str(obj.get("message") or "the watch failed"),
                status=obj.get("code") if isinstance(obj.get("code"), int) else 500,
                reason=str(obj.get("reason") or ""),
            )
        return Change(
            self._reduced(obj) if kind in ("ADDED", "MODIFIED", "DELETED") else None,
            str(key) if kind == "DELETED" else "",
            version if isinstance(version, str) else "",
            END_OF_LIST in annotations,
        )

    def _streamed(self) -> tuple[list[Pod], str]:
        """By WatchList: line by line, at the cost of one page's first item for both sides."""
        stream = self._entered(
            self._api.watch_pods(
                resource_version="",
                field_selector=self._selector,
                timeout_s=WATCH_TIMEOUT,
                initial_events=True,
                silence_s=STREAM_SILENCE,
            )
        )
        pods: dict[str, Pod] = {}
        try:
            with stream as lines:
                for line in lines:
                    change = self.change(line)
                    if change.end_of_list:
                        return list(pods.values()), change.version
                    if change.gone:
                        pods.pop(change.gone, None)
                    elif change.pod is not None:
                        pods[change.pod.key] = change.pod
                    else:
                        # An ordinary bookmark, of an ordinary watch: the server did not understand.
                        raise ApiError("the streamed list has no end", status=400, reason=END_OF_LIST)
        except ApiError as error:
            if error.silent:
                raise ApiError(str(error), status=400 if pods else None, reason=END_OF_LIST, silent=True) from error
            raise
        raise ApiError("the streamed list ended too early")

    def _paged(self) -> tuple[list[Pod], str]:
        """In pages. Those of one node come from the server's cache, which spares it a search of its whole store."""
        pods: list[Pod] = []
        token = ""
        while True:
            page = self._api.list_pods_page(
                limit=PAGE_LIMIT,
                continue_token=token,
                resource_version="0" if self._selector else None,
                field_selector=self._selector,
            )
            pods += [pod for item in items_of(page) if (pod := self._reduced(item))]
            token, version = next_page(page), _version(page)
            del page
            if not token:
                return pods, version
            if self._closed:
                raise ApiError("broken off")

    def _entered(self, stream: WatchLines) -> WatchLines:
        self._stream = stream
        if self._closed:  # close() may have looked for a stream before there was one
            stream.close()
        return stream

    def _reduced(self, obj: dict[str, Any]) -> Pod | None:
        """What is kept of a pod, with texts that many pods share kept once."""
        pod = reduce_pod(obj, label=self._label, node=self._node)
        if pod is None:
            return None
        pod = dated_by(self._clock, pod, node=self._node)
        ref = pod.ref._replace(namespace=sys.intern(pod.ref.namespace), label=sys.intern(pod.ref.label))
        hosts = self._hosts.setdefault(pod.host_addresses, pod.host_addresses)
        return pod._replace(ref=ref, node=sys.intern(pod.node), host_addresses=hosts)


def dated_by(clock: OwnClock, pod: Pod, *, node: str) -> Pod:
    """``pod`` with its times in steady time; those of ``node``, which is this machine, are by its own clock."""
    if clock.is_steady():  # nearly always, and a cluster has many pods
        return pod
    return in_steady_time(pod, clock.steady_us if pod.node == node else clock.others_us, clock.others_us)


@contextlib.contextmanager
def _no_garbage() -> Iterator[None]:
    """Of 20,000 pods, looking for cycles takes 40 % of the time, and JSON has none."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def items_of(page: dict[str, Any]) -> list[dict[str, Any]]:
    """The objects of a page of a list."""
    items = page.get("items")
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []


def next_page(page: dict[str, Any]) -> str:
    """The token of the page that follows, or ""."""
    return str((page.get("metadata") or {}).get("continue") or "")


def _version(page: dict[str, Any]) -> str:
    return str((page.get("metadata") or {}).get("resourceVersion") or "")
