"""Who owned an address, in a run: the index of pods, what is remembered of it, and who has to hear of it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack

from kiptail.clock.own import OwnClock
from kiptail.config.settings import Settings
from kiptail.credentials.identity import node_remedy
from kiptail.daemon.cluster import Cluster
from kiptail.daemon.observer import Observer
from kiptail.daemon.pod_changes import ChangedAddresses
from kiptail.daemon.wiring import open_index
from kiptail.events.poster import Poster
from kiptail.flows.intake import Follower
from kiptail.names.cluster import ClusterNames
from kiptail.pods.index import PodIndex
from kiptail.pods.memory import PodMemory
from kiptail.pods.snapshot import Snapshot, SnapshotIndex
from kiptail.state.store import Store

__all__ = ["Owners"]

log = logging.getLogger(__name__)

#: A change of hands turns up at the latest this long after everything before it was known, in µs.
SETTLE_US = 40_000_000
#: How long flows can be put right while pods cannot be followed, in µs.
BLIND_US = 3_600_000_000


class Owners:
    """The index, and its changes on their way to the journal loop and the poster."""

    #: Who hears of changes; given before :meth:`start`, and nothing is heard before that.
    _poster: Poster
    _follower: Follower

    def __init__(
        self,
        settings: Settings,
        cluster: Cluster,
        snapshot: Snapshot | None,
        *,
        store: Store,
        clock: OwnClock,
        observer: Observer,
        wake: Callable[[], None],
        labelled: bool,
        stack: ExitStack,
    ) -> None:
        """``snapshot``: the pods from a file; ``wake`` wakes the journal loop for them.

        ``labelled``: all labels of pods are kept.
        """
        self._cluster, self._clock = cluster, clock
        self.changed = ChangedAddresses(wake)
        self.index: PodIndex
        self._names: ClusterNames | None = None
        if cluster.api is None or snapshot is not None:
            snapshot = snapshot or Snapshot([], {})
            self.index = SnapshotIndex(snapshot, now_us=time.time_ns() // 1000, wall_us=clock.wall_us)
        else:
            self.index, self._names = open_index(
                settings,
                cluster.api,
                clock=clock,
                node_name=cluster.node_name,
                on_change=self.changed.note,
                on_ready=self._ready,
                on_found=self._found,
                on_names=self._renamed,
                observe=observer.watch_interrupted,
                detailed=settings.explain or labelled,
            )
            stack.callback(self._names.stop)
        self._memory: PodMemory | None = None
        if self.index.local is not None:
            self._memory = PodMemory(
                self.index.local, store, current=self.index.owners.current, forget=self.index.forget
            )

    def inform_poster(self, poster: Poster) -> None:
        """It hears of what turns out; before it restores flows."""
        self._poster = poster
        if self._memory is not None:
            poster.settle(0)  # nothing, until the pods are listed

    def inform_follower(self, follower: Follower) -> None:
        """It hears of changes of hands."""
        self._follower = follower

    def start(self) -> None:
        """Begin to list what the cluster has."""
        if self._names is not None:
            self._names.start()
        self.index.start()

    # -- called by the index' threads -----------------------------------------------------------------------

    def _ready(self) -> None:
        name, own = self._cluster.node_name, self._cluster.own_node
        if not self.index.has_node(name):
            remedy = "if that is not this machine's name in the cluster, set --node-name"
            if own is not None and own != name:
                remedy = node_remedy(own)
            log.warning("no pod runs on a node named %s: %s", name, remedy)
        self._poster.wake()

    def _found(self, addresses: Iterable[str]) -> None:
        self._poster.reattribute(addresses)
        self._poster.wake()

    def _renamed(self) -> None:
        self._poster.rename()

    # -- called by the journal loop -------------------------------------------------------------------------

    def apply_changes(self) -> None:
        """Cut what the changes of pods concern, and then have it decided anew whose it is."""
        addresses = self.changed.take()
        if not addresses:
            return
        # While the state cannot be written nothing is decided, and this is tried again.
        if self._follower.hand_over({address: self.index.owners.hands(address) for address in addresses}):
            self.changed.done()
            self.remember()
            self._poster.reattribute(addresses)

    def settle(self, now_us: int, read_us: int) -> None:
        """Give up what no change of hands can concern any more; the journal is read up to ``read_us``."""
        if self._memory is None:
            return
        ready = self.index.ready()
        settled_us = max(self.index.fresh_us() - SETTLE_US if ready else 0, now_us - BLIND_US)
        # The ledger first: what it may still cut is kept.
        self._follower.settle(settled_us, blind=not (ready and self.index.owners.current()))
        self._poster.settle(settled_us)
        if not self._follower.trouble:
            # What is read but not committed is not attributed either.
            self._memory.forget(read_us)

    def remember(self, *, last: bool = False) -> None:
        """Store what is known of pods."""
        if self._memory is not None:
            self._memory.save(self._clock.now_us(), last=last)
