"""Objects with resourceVersions, a bounded history of changes, snapshots of the past, and feeds for watches.

Each version of an object is serialised once. Lists and watches join those bytes.
"""

from __future__ import annotations

import bisect
import contextlib
import json
import os
import threading
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tests.apiserver import kinds
from tests.apiserver.answers import already_exists, conflict, dump, not_found
from tests.apiserver.faults import Disturbance
from tests.apiserver.kinds import Kind
from tests.apiserver.patching import strategic_merge

__all__ = ["FIRST_VERSION", "Change", "Collection", "Expired", "Feed", "Store", "Stored"]

Json = dict[str, Any]

# A real cluster is never young: a client that asks for resourceVersion 1 has to find it compacted.
FIRST_VERSION = 1000


class Expired(Exception):
    """The history does not reach back to the version asked for; `oldest` is the oldest one there."""

    def __init__(self, oldest: int) -> None:
        super().__init__(f"history begins at {oldest}")
        self.oldest = oldest


@dataclass(frozen=True, slots=True)
class Stored:
    """One version of an object. `body` is its JSON without kind and apiVersion: how lists carry items."""

    key: str
    namespace: str
    name: str
    version: int
    body: bytes
    fields: tuple[str, ...]
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Change:
    """What happened at one resourceVersion: `old` is None for a new object, `new` for one that is gone.

    `last` is the object as a watch shows it when it is gone: its last state with the version of the deletion.
    """

    version: int
    key: str
    old: Stored | None
    new: Stored | None
    last: Stored | None = None


class Feed:
    """The changes that one watch still has to send. `wake` is an eventfd: polled along with the socket."""

    def __init__(self) -> None:
        self.items: deque[Change | Disturbance] = deque()
        self.wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._open = True
        self._lock = threading.Lock()

    def push(self, item: Change | Disturbance) -> None:
        """Add a change, or what a test does to the watch after it (called with the store locked)."""
        self.items.append(item)
        self.ring()

    def ring(self) -> None:
        """Wake the watch without a change."""
        with self._lock:
            if self._open:
                os.eventfd_write(self.wake, 1)

    def silence(self) -> None:
        """Take back the wake-up, before looking at `items`."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self.wake)

    def close(self) -> None:
        """Give the descriptor back."""
        with self._lock:
            if self._open:
                self._open = False
                os.close(self.wake)


class Store:
    """All collections, one lock, one sequence of resourceVersions, as one etcd has them."""

    def __init__(self, *, history: int, changed: Callable[[], None]) -> None:
        self.lock = threading.RLock()
        self.history = history
        self._changed = changed
        #: Called with each change, with the lock held, before anybody is told of it.
        self.keep: Callable[[Kind, Change], None] = lambda kind, change: None
        self._version = FIRST_VERSION
        self.collections = {kind.plural: Collection(self, kind) for kind in kinds.KINDS}
        self.reset()

    @property
    def version(self) -> int:
        """The newest resourceVersion."""
        return self._version

    def advance(self) -> int:
        """Take the next resourceVersion: of a change here, or of one to a resource that is not here."""
        with self.lock:
            self._version += 1
            return self._version

    def notify(self) -> None:
        """Tell those who wait for a change of state."""
        self._changed()

    def reset(self) -> None:
        """An empty cluster with its four namespaces, at the first resourceVersion again."""
        with self.lock:
            self._version = FIRST_VERSION
            for collection in self.collections.values():
                collection.forget()
            for name in ("default", "kube-node-lease", "kube-public", "kube-system"):
                self.ensure_namespace(name)

    def replay(self, plural: str, version: int, key: str, obj: Json | None) -> None:
        """Make a change again that another store's `keep` was told of, with the same resourceVersion."""
        with self.lock:
            collection = self.collections[plural]
            self._version = version - 1
            old = collection.stored(key)
            if obj is not None:
                collection.restore(obj, old)
            elif old is not None:
                collection.remove(old)

    def ensure_namespace(self, name: str) -> None:
        """Make the namespace if it is missing."""
        namespaces = self.collections["namespaces"]
        if namespaces.stored(name) is None:
            namespaces.create(kinds.NAMESPACES.fill({"metadata": {"name": name}}))


class Collection:
    """The objects of one kind. Tests use it directly: `server.pods.put({...})`, `server.pods()`.

    Objects given and returned are plain dicts; they are copied on the way (through JSON), so changing them
    later changes nothing here.
    """

    def __init__(self, store: Store, kind: Kind) -> None:
        self.kind = kind
        self._store = store
        self._head = dump({"kind": kind.kind, "apiVersion": kind.group_version})[:-1] + b","
        self._objects: dict[str, Stored] = {}
        self._keys: list[str] = []
        self._changes: deque[Change] = deque()
        self._compacted = FIRST_VERSION
        self._version = FIRST_VERSION
        self._feeds: set[Feed] = set()

    # -- for tests

    def __call__(self, namespace: str | None = None) -> list[Json]:
        """All objects (of the namespace), in key order."""
        return [self.load(item) for item in self.snapshot()[0] if namespace in (None, item.namespace)]

    def __len__(self) -> int:
        return len(self._objects)

    def get(self, name: str, *, namespace: str = "") -> Json | None:
        """The object, or None."""
        stored = self.stored(self.key(namespace, name))
        return None if stored is None else self.load(stored)

    def put(self, obj: Mapping[str, Any]) -> Json:
        """Create or replace, just as given: only metadata is completed (namespace, uid, creationTimestamp).

        A missing namespace is made. Returns the object with its resourceVersion.
        """
        metadata = dict(obj.get("metadata") or {})
        if self.kind.namespaced:
            metadata.setdefault("namespace", "default")
            self._store.ensure_namespace(metadata["namespace"])
        key = self.key(metadata.get("namespace", ""), metadata["name"])
        with self._store.lock:
            old = self._objects.get(key)
            if old is not None:
                known = json.loads(old.body)["metadata"]
                metadata.setdefault("uid", known["uid"])
                metadata.setdefault("creationTimestamp", known["creationTimestamp"])
            return self.load(self._commit({**obj, "metadata": metadata}, old))

    def patch(self, name: str, patch: Mapping[str, Any], *, namespace: str = "") -> Json:
        """Apply a strategic-merge patch; KeyError if there is no such object."""
        with self._store.lock:
            old = self._objects[self.key(namespace, name)]
            return self.load(self._commit(strategic_merge(json.loads(old.body), patch), old))

    def delete(self, name: str, *, namespace: str = "") -> None:
        """The object is gone at once; KeyError if it was not there."""
        with self._store.lock:
            self.remove(self._objects[self.key(namespace, name)])

    def clear(self) -> None:
        """Delete all objects, one by one, as watches see it."""
        with self._store.lock:
            for stored in list(self._objects.values()):
                self.remove(stored)

    def compact(self) -> None:
        """Forget the history now: what is older than this moment is 410."""
        with self._store.lock:
            self._changes.clear()
            self._compacted = self._store.version

    # -- for the API

    @property
    def version(self) -> int:
        """The resourceVersion of the newest change of this kind: where the watch cache stands."""
        return self._version

    @property
    def compacted(self) -> int:
        """The oldest resourceVersion from which a watch can go on."""
        return self._compacted

    def key(self, namespace: str, name: str) -> str:
        """The etcd key under the kind's prefix; lists are in the order of these."""
        return f"{namespace}/{name}" if self.kind.namespaced else name

    def stored(self, key: str) -> Stored | None:
        """The newest version under a key."""
        return self._objects.get(key)

    def load(self, stored: Stored) -> Json:
        """The object as a dict, with kind and apiVersion."""
        obj: Json = json.loads(self.whole(stored))
        return obj

    def whole(self, stored: Stored) -> bytes:
        """The object's JSON with kind and apiVersion."""
        return self._head + stored.body[1:]

    def at(self, stored: Stored, version: int) -> Stored:
        """The object unchanged, but with another resourceVersion in it."""
        obj = json.loads(stored.body)
        obj["metadata"]["resourceVersion"] = str(version)
        return Stored(stored.key, stored.namespace, stored.name, version, dump(obj), stored.fields, stored.labels)

    def snapshot(self, version: int | None = None) -> tuple[list[Stored], int]:
        """All objects in key order as they were at `version` (None: now), and the version. Raises Expired."""
        with self._store.lock:
            if version is None or version >= self._version:
                objects = self._objects
                return [objects[key] for key in self._keys], version or self._store.version
            if version < self._compacted:
                raise Expired(self._compacted)
            past = dict(self._objects)
            for change in reversed(self._changes):
                if change.version <= version:
                    break
                if change.old is None:
                    past.pop(change.key, None)
                else:
                    past[change.key] = change.old
            return [past[key] for key in sorted(past)], version

    def create(self, obj: Mapping[str, Any]) -> Stored:
        """A new object; 409 if it is there."""
        metadata = obj["metadata"]
        with self._store.lock:
            if self.key(metadata.get("namespace", ""), metadata["name"]) in self._objects:
                raise already_exists(self.kind.plural, metadata["name"])
            return self._commit(obj, None)

    def modify(self, key: str, name: str, change: Callable[[Json], Json]) -> Stored:
        """Read, change, write in one step; 404, or 409 when the changed object names an old resourceVersion.

        A change that changes nothing writes nothing and keeps the resourceVersion.
        """
        with self._store.lock:
            old = self._objects.get(key)
            if old is None:
                raise not_found(self.kind.plural, name)
            current = self.load(old)
            wanted = change(self.load(old))
            named = wanted["metadata"].get("resourceVersion")
            if named and named != str(old.version):
                raise conflict(self.kind.plural, name)
            wanted["metadata"]["resourceVersion"] = str(old.version)
            if wanted == current:
                return old
            return self._commit(wanted, old)

    def restore(self, obj: Mapping[str, Any], old: Stored | None) -> Stored:
        """Write an object as it is."""
        with self._store.lock:
            return self._commit(obj, old)

    def remove(self, old: Stored) -> Stored:
        """Delete; returns the object as it last was, with the version of the deletion."""
        with self._store.lock:
            version = self._store.advance()
            last = self.at(old, version)
            del self._objects[old.key]
            del self._keys[bisect.bisect_left(self._keys, old.key)]
            self._record(Change(version, old.key, old, None, last))
            return last

    def subscribe(self, *, since: int | None, initial: bool) -> tuple[Feed, list[Stored], int]:
        """A feed of the changes after `since` (None: from now on), the objects (if `initial`), the version.

        Atomic: nothing is missed between the objects and the feed. Raises Expired.
        """
        with self._store.lock:
            if since is not None and since < self._compacted:
                raise Expired(self._compacted)
            feed = Feed()
            if since is not None:
                for change in self._changes:
                    if change.version > since:
                        feed.push(change)
            self._feeds.add(feed)
            objects = [self._objects[key] for key in self._keys] if initial else []
            return feed, objects, self._store.version

    def progress(self, feed: Feed) -> int:
        """Up to which resourceVersion a feed has been read: what a bookmark may promise."""
        with self._store.lock:
            waiting = (item.version - 1 for item in feed.items if isinstance(item, Change))
            return next(waiting, self._store.version)

    def order(self, feed: Feed, disturbance: Disturbance) -> None:
        """Have a watch disturbed after the changes so far."""
        with self._store.lock:
            feed.push(disturbance)

    def unsubscribe(self, feed: Feed) -> None:
        """The watch is over."""
        with self._store.lock:
            self._feeds.discard(feed)
        feed.close()

    def forget(self) -> None:
        """Drop everything without a trace (the cluster's store was lost)."""
        self._objects.clear()
        self._keys.clear()
        self._changes.clear()
        self._compacted = self._version = FIRST_VERSION

    def _commit(self, obj: Mapping[str, Any], old: Stored | None) -> Stored:
        """Give the object a resourceVersion, serialise it and record the change (with the lock held)."""
        version = self._store.advance()
        metadata = dict(obj["metadata"])
        metadata.setdefault("uid", str(uuid.uuid4()))
        metadata.setdefault("creationTimestamp", kinds.now())
        metadata["resourceVersion"] = str(version)
        whole = {**obj, "metadata": metadata}
        whole.pop("kind", None)
        whole.pop("apiVersion", None)
        namespace, name = metadata.get("namespace", ""), metadata["name"]
        new = Stored(
            key=self.key(namespace, name),
            namespace=namespace,
            name=name,
            version=version,
            body=dump({"metadata": _ordered(metadata), **{k: v for k, v in whole.items() if k != "metadata"}}),
            fields=tuple(read(whole) for read in self.kind.selectable.values()),
            labels=metadata.get("labels") or {},
        )
        if old is None:
            bisect.insort(self._keys, new.key)
        self._objects[new.key] = new
        self._record(Change(version, new.key, old, new))
        return new

    def _record(self, change: Change) -> None:
        self._version = change.version
        self._store.keep(self.kind, change)
        self._changes.append(change)
        while len(self._changes) > self._store.history:
            self._compacted = self._changes.popleft().version
        for feed in self._feeds:
            feed.push(change)
        self._store.notify()


_METADATA_ORDER = (
    "name",
    "generateName",
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
)


def _ordered(metadata: Mapping[str, Any]) -> Json:
    """Metadata with its keys in the API's order, so that texts in logs and demos look familiar."""
    first: Iterable[str] = (key for key in _METADATA_ORDER if key in metadata)
    return {key: metadata[key] for key in (*first, *(k for k in metadata if k not in _METADATA_ORDER))}
