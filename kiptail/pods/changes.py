"""The lines of a watch of pods: each is read by itself, and what makes no sense is passed over and counted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from kiptail.kube import strict_json
from kiptail.kube.errors import bad_answer, watch_failed
from kiptail.kube.object_names import is_uid, is_version
from kiptail.pods.pod import Pod
from kiptail.pods.shape import misfit

__all__ = ["END_OF_LIST", "Change", "ChangeReader"]

#: A stream with this number of lines in a row that are not what they should be is no watch.
MAX_BAD_LINES = 100
#: The end of a streamed list is a bookmark with this annotation.
END_OF_LIST = "k8s.io/initial-events-end"


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
    #: Why the line, or the object in it, was passed over, or "".
    bad: str = ""


class ChangeReader:
    """Reads the lines of one stream after the other, in one thread."""

    def __init__(self, reduced: Callable[[dict[str, Any]], Pod | None]) -> None:
        """``reduced`` makes of a pod object what is kept of it; None when it is no pod."""
        self._reduced = reduced
        #: Of the present stream: lines in a row that were passed over, whether any was, and whether any was not.
        self._bad_in_a_row = 0
        self._some_bad = False
        self._some_good = False
        #: Lines that were passed over; it only grows.
        self.refused = 0

    def begin(self) -> None:
        """What follows is another stream."""
        self._bad_in_a_row = 0
        self._some_bad = self._some_good = False

    @property
    def gaps(self) -> bool:
        """Some line of the present, or the last, stream was passed over: a change may be missing."""
        return self._some_bad

    @property
    def garbled(self) -> bool:
        """No line of it was what it should be, and there were some: it is no watch."""
        return self._some_bad and not self._some_good

    def read(self, line: bytes) -> Change:
        """One line of the watch, a metav1.WatchEvent.

        One that is none, or whose object is no pod, is passed over (``bad``). Raises ApiError for an ERROR, and when
        too many in a row were passed over.
        """
        change = self._parsed(line)
        if not change.bad:
            self._some_good, self._bad_in_a_row = True, 0
            return change
        self._some_bad = True
        self._bad_in_a_row += 1
        self.refused += 1
        if self._bad_in_a_row >= MAX_BAD_LINES:
            raise bad_answer("cannot watch pods", f"is no watch: {change.bad}")
        return change

    def _parsed(self, line: bytes) -> Change:
        try:
            event = strict_json.parse(line)
        except ValueError as error:
            return _bad(f"a line is no JSON: {error}")
        kind = event.get("type") if isinstance(event, dict) else None
        obj = event.get("object") if isinstance(event, dict) else None
        if kind == "ERROR":
            raise watch_failed(obj)
        if not isinstance(obj, dict) or kind not in ("ADDED", "MODIFIED", "DELETED", "BOOKMARK"):
            return _bad("a line is no change of an object")
        if obj.get("kind") != "Pod" or obj.get("apiVersion") != "v1":
            return _bad("an object is no pod")
        metadata = obj.get("metadata")
        if not isinstance(metadata, dict) or not is_version(version := metadata.get("resourceVersion")):
            return _bad("an object has no version")
        if kind == "BOOKMARK":
            annotations = metadata.get("annotations")
            return Change(None, "", version, isinstance(annotations, dict) and END_OF_LIST in annotations)
        # Whatever else is known of a pod that is gone: that it is.
        gone = uid if kind == "DELETED" and is_uid(uid := metadata.get("uid")) else ""
        pod = self._reduced(obj)
        if pod is not None:
            return Change(pod, gone, version)
        return Change(None, gone, version, bad=f"an object is no pod: see its {misfit(obj) or 'name'}")


def _bad(why: str) -> Change:
    return Change(None, "", "", bad=why)
