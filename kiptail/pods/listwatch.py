"""What the API server tells of pods: all of them, streamed or in pages, and then every change.

Whatever arrives is reduced at once to what ownership needs: never is a whole list, or more than one page, in memory.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Protocol

from kiptail.clock.own import OwnClock
from kiptail.errors import ApiError
from kiptail.kube.errors import bad_answer
from kiptail.kube.pages import items_of, pages, version_of
from kiptail.pods.changes import END_OF_LIST, ChangeReader
from kiptail.pods.garbage import uncollected
from kiptail.pods.pod import Pod
from kiptail.pods.reducer import PodReducer
from kiptail.pods.traits import SharedTraits

__all__ = ["PodApi", "PodFeed", "WatchLines"]

log = logging.getLogger(__name__)

#: Pods a page: one is in memory as a whole, as 2 MB of JSON and 10 MB of objects.
PAGE_LIMIT = 250
#: Seconds after which the server is asked to end a watch; bookmarks come about once a minute in between.
WATCH_TIMEOUT = 290
#: The longest silence of a server that streams the list, in seconds; one that does not know how says nothing.
STREAM_SILENCE = 5.0
#: Pods that there can be: Kubernetes is made for 150,000 a cluster and for 110 a node, of which many may have finished.
MAX_PODS, MAX_PODS_OF_NODE = 200_000, 20_000
#: Pages of all those, where the server leaves every second one empty.
MAX_PAGES = 2 * MAX_PODS // PAGE_LIMIT


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
        traits: SharedTraits | None = None,
    ) -> None:
        """``label``: the key of the label whose value is kept of each pod; ``node``: whose pods' probes are kept.

        ``clock`` makes of the pods' times, which are the wall clock's, steady ones. ``traits``: as for
        :func:`~kiptail.pods.pod_object.reduce_pod`.
        """
        self._api = api
        self._selector = field_selector
        self._reducer = PodReducer(label=label, node=node, clock=clock or OwnClock(), traits=traits)
        #: Reads the lines of what :meth:`watch` gave.
        self.changes = ChangeReader(self._reducer.reduced)
        self._streams = True
        self._stream: WatchLines | None = None
        self._closed = False
        self._items_refused = 0
        #: More pods than there can be.
        self.most = MAX_PODS_OF_NODE if field_selector else MAX_PODS

    def close(self) -> None:
        """End whatever is read at present, and all that is asked for later."""
        self._closed = True
        stream = self._stream
        if stream is not None:
            stream.close()

    @property
    def refused(self) -> int:
        """Pods and lines that were not what they should be and were passed over; it only grows."""
        return self._items_refused + self.changes.refused

    def all(self) -> tuple[list[Pod], str]:
        """All pods there are, and the resourceVersion of that. Raises ApiError."""
        self._reducer.clear()
        with uncollected():
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
        """The lines of the changes since; each is for :attr:`changes`."""
        jitter = random.uniform(0.8, 1.0)  # noqa: S311 - no secret
        stream = self._api.watch_pods(
            resource_version=version, field_selector=self._selector, timeout_s=round(WATCH_TIMEOUT * jitter)
        )
        return self._entered(stream)

    def newest_version(self) -> str:
        """The resourceVersion of the cluster's pods now. Raises ApiError."""
        return version_of(self._api.list_pods_page(limit=1))

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
                    change = self.changes.read(line)
                    if change.end_of_list:
                        return list(pods.values()), change.version
                    if change.gone:
                        pods.pop(change.gone, None)
                    elif change.pod is not None:
                        pods[change.pod.key] = change.pod
                        self._check_number(len(pods))
                    elif not change.bad:
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
        version = ""
        for page in pages(self._page, most=MAX_PAGES):
            for item in items_of(page):
                pod = self._reducer.reduced(item)
                self._items_refused += pod is None
                if pod is not None:
                    pods.append(pod)
            version = version_of(page)
            del page
            self._check_number(len(pods))
            if self._closed:
                raise ApiError("broken off")
        return pods, version

    def _page(self, token: str) -> dict[str, Any]:
        return self._api.list_pods_page(
            limit=PAGE_LIMIT,
            continue_token=token,
            resource_version="0" if self._selector else None,
            field_selector=self._selector,
        )

    def _check_number(self, pods: int) -> None:
        """Memory is not without an end, nor are clusters. Raises ApiError."""
        if pods > self.most:
            raise bad_answer("cannot list pods", f"has more than {self.most} pods")

    def _entered(self, stream: WatchLines) -> WatchLines:
        self._stream = stream
        self.changes.begin()
        if self._closed:  # close() may have looked for a stream before there was one
            stream.close()
        return stream
