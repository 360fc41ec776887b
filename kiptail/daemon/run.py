"""Wiring, signals and systemd's notifications: what runs between ``kiptail`` and its exit code."""

from __future__ import annotations

import logging
import math
import os
import socket
import time
from collections.abc import Iterable
from contextlib import ExitStack
from typing import TYPE_CHECKING

from kiptail.config.settings import Settings
from kiptail.credentials.identity import node_remedy
from kiptail.credentials.renewal import TOKEN_FILE, KeptToken, Renewer
from kiptail.daemon.machine import ThisMachine, logs_all_namespaces
from kiptail.daemon.notify import Notifier
from kiptail.daemon.observer import Unobserved
from kiptail.daemon.pod_changes import ChangedAddresses
from kiptail.daemon.report import Report
from kiptail.daemon.signals import StopSignal
from kiptail.daemon.startup import Stopped, ask_cluster, open_store
from kiptail.daemon.wiring import connect, event_style, open_clock, open_index, open_journal, open_ledger, open_metrics
from kiptail.errors import ClusterError, JournalError, KiptailError, StateError
from kiptail.events.endpoint import Locator
from kiptail.events.poster import Poster
from kiptail.events.recorder import Recorder
from kiptail.events.sink import ApiSink, Printer
from kiptail.events.tally import Tally
from kiptail.events.writer import EventSink
from kiptail.flows.intake import Follower, Step
from kiptail.kube.rights import POST_RIGHTS, watch_rights
from kiptail.names.cluster import ClusterNames
from kiptail.names.dns import Names
from kiptail.netfilter.prefixes import Prefixes
from kiptail.pods.index import PodIndex
from kiptail.pods.memory import PodMemory
from kiptail.pods.snapshot import Snapshot, SnapshotIndex, load_snapshot
from kiptail.text import one_line

if TYPE_CHECKING:
    from kiptail.kube.api import KubeApi

__all__ = ["run"]

log = logging.getLogger(__name__)

#: So long the start waits for the cluster's word; a server that is slower is treated as one that is away.
START_PATIENCE = 3.0
#: So long the last counts may take on a stop, in seconds; the unit's TimeoutStopSec is 30.
STOP_PATIENCE = 6.0
#: So long a run that ends with the journal waits for the cluster, in seconds.
DRAIN_PATIENCE = 60.0
#: What is known of pods is stored so often at most, in seconds.
SAVE_INTERVAL = 1.0
#: A change of hands turns up no later than so long after everything before it was known, in µs.
SETTLE_US = 40_000_000
#: While pods cannot be followed, flows can be put right for so long, in µs.
BLIND_US = 3_600_000_000
#: While the state cannot be written, the journal loop rests so long, in seconds.
STALL_PAUSE = 0.25
#: STATUS is renewed so often, in seconds.
STATUS_INTERVAL = 5.0


def run(settings: Settings) -> int:
    """Run until the journal's end or a signal; returns the exit code. Raises :class:`KiptailError`."""
    with ExitStack() as stack:
        try:
            return _Daemon(settings, stack).run()
        except Stopped:
            return 0


class _Daemon:
    """The parts of a running kiptail. Everything is closed by ``stack``, in reverse."""

    def __init__(self, settings: Settings, stack: ExitStack) -> None:
        self._settings, self._stack = settings, stack
        self._stop = StopSignal(stack)
        self._notifier = Notifier()
        stack.callback(self._notifier.close)
        self._changed = ChangedAddresses(self._stop.wake)
        self._metrics = open_metrics(settings)

        prefixes = Prefixes(settings.prefixes)
        snapshot = load_snapshot(settings.pods, label=settings.pod_identifier_label) if settings.pods else None
        self._tokens = KeptToken(settings.state_directory / TOKEN_FILE)
        self._api = self._connect() if settings.pods is None else None
        if self._api is not None:
            stack.callback(self._api.close)
        self._renewer: Renewer | None = None
        node_name = settings.node_name or (self._api.node_name if self._api else None)
        self._node_name = node_name or socket.gethostname().lower()

        # The store before the journal: what another kiptail uses is not to be touched.
        self._store = open_store(settings, self._stop, self._wait_for_room)
        stack.callback(self._store.close)
        saved = self._store.load()
        self._begins = saved.position is None
        self._clock = open_clock(settings, saved)
        if self._api is not None:
            self._clock.others = self._api.time_us
        self._journal = stack.enter_context(
            open_journal(settings, prefixes, saved, clock=self._clock, now_us=time.time_ns() // 1000)
        )

        self._names: Names | None = None
        if self._api is not None:
            self._names = Names(on_ready=self._wake_poster)
            stack.callback(self._names.close)
        self._cluster_names: ClusterNames | None = None
        self._index: PodIndex
        if self._api is None or snapshot is not None:
            snapshot = snapshot or Snapshot([], {})
            self._index = SnapshotIndex(snapshot, now_us=time.time_ns() // 1000, wall_us=self._clock.wall_us)
        else:
            self._index, self._cluster_names = open_index(
                settings,
                self._api,
                clock=self._clock,
                node_name=self._node_name,
                on_change=self._changed.note,
                on_ready=self._index_ready,
                on_found=self._tell_found,
                on_names=self._rename,
                observe=self._metrics.watch_interrupted,
            )
            stack.callback(self._cluster_names.stop)
        self._memory: PodMemory | None = None
        if self._index.local is not None:
            self._memory = PodMemory(
                self._index.local, self._store, current=self._index.owners.current, forget=self._index.forget
            )
        tally = Tally()
        self._printer: Printer | None = None
        self._poster = Poster(
            Recorder(
                sink=self._sink(),
                # What somebody else's journal says of its machine is nothing that can be asked here.
                locate=Locator(
                    self._index.owners, self._name_of, ThisMachine(self._node_name) if settings.follow else None
                ),
                outbox=self._store,
                style=event_style(settings, self._node_name),
                repeat_interval=settings.repeat_interval_s,
                give_up_after=math.inf if settings.give_up_after_s is None else settings.give_up_after_s,
                most_ended=settings.max_flows,
                hold=settings.dry_run and not settings.follow,
                paced=not settings.dry_run,
                observe=self._metrics.event_written,
                tally=tally,
                remember=self._remember,
                uncut=self._changed.pending,
                own_clock=self._clock,
            )
        )
        if self._memory is not None:
            self._poster.settle(0)  # nothing, until the pods are listed
        for flow in saved.flows:
            self._poster.restore(flow.flow.copy(), flow.ends, flow.records)
        ledger = open_ledger(settings, saved)
        self._follower = Follower(
            journal=self._journal,
            prefixes=prefixes,
            ledger=ledger,
            book=self._store,
            offer=self._poster.offer,
            keep_position=not settings.journal_files,
            expire_after=settings.expire_after_s,
            own_clock=self._clock,
            log_drops=settings.log_drops,
        )
        self._report = Report(
            journal=self._journal,
            follower=self._follower,
            ledger=ledger,
            poster=self._poster,
            index=self._index,
            tally=tally,
            damaged=self._store.damaged is not None,
        )

    # -- the run --------------------------------------------------------------------------------------------

    def run(self) -> int:
        """Start the threads, follow, and stop in order."""
        self._start_cluster()
        if self._stop.is_set():
            return 1 if self._stop.crashed else 0
        self._serve_metrics()
        self._poster.start()
        source: object = self._settings.journal_directory or "this machine's journal"
        if self._settings.journal_files:
            source = ", ".join(map(str, self._settings.journal_files))
        log.info("reading %s as node %s for %d log prefixes", source, self._node_name, len(self._settings.prefixes))
        if self._settings.follow and logs_all_namespaces():
            log.warning(
                "nf_log_all_netns=1: whoever has CAP_NET_ADMIN in any network namespace can log under any prefix;"
                " its lines cannot be told from the node's own"
            )
        try:
            if self._begins:
                # Where reading begins is where a restart goes on, also if this run dies before it has read anything:
                # with --since it would begin later. On a full disk the journal loop tries it again each second.
                self._follower.commit()
            self._notifier.tell("READY=1")
            self._follow()
        except KiptailError:
            self._shut_down()
            raise
        # Anything else is a bug, perhaps in the middle of a batch: what was read then must not be committed.
        left = self._shut_down()
        if self._printer is not None and self._printer.error is not None:
            raise self._printer.error
        if not self._settings.follow:
            log.info("%s", self._report.summary())
        if left and not self._settings.follow and not self._stop.is_set():
            if not self._index.ready():
                raise ClusterError("the cluster's pods could not be listed in time; see --kubeconfig and --server")
            raise ClusterError(f"{left} Events could not be delivered; they are kept for the next run")
        return 1 if self._stop.crashed else 0

    def _follow(self) -> None:
        watchdog = _watchdog_interval()
        beat_at = status_at = save_at = 0.0
        self._await_index()
        while not self._stop.is_set():
            self._apply_changes()  # what is known before a drop is read is known when it is counted
            step = self._follower.step()
            now = time.monotonic()
            if watchdog and now >= beat_at:
                self._notifier.tell("WATCHDOG=1")
                beat_at = now + watchdog
            if now >= status_at:
                now_us, lag_us = self._clock.now_us(), self._journal.lag_us()
                self._report.beat(lag=lag_us / 1e6 if self._settings.follow else 0.0)
                self._settle(now_us)
                if self._memory is not None and not self._follower.trouble:
                    # What is read but not committed is not placed either.
                    self._memory.forget(now_us - lag_us)
                self._notifier.tell(f"STATUS={self._report.status()}")
                status_at = now + STATUS_INTERVAL
            if self._memory is not None and now >= save_at:
                self._memory.save(self._clock.now_us())
                save_at = now + SAVE_INTERVAL
            if step is Step.STALLED:
                if not self._settings.follow:
                    raise StateError(self._follower.trouble)
                time.sleep(STALL_PAUSE)
            elif step is Step.AT_END:
                if not self._settings.follow:
                    if self._journal.trouble:
                        raise JournalError(self._journal.trouble)
                    return
                self._journal.wait(1.0, self._stop.fileno())
                self._stop.heard()

    def _await_index(self) -> None:
        """Wait a moment for the list of pods: what is known when a drop is counted need not be put right later."""
        deadline = time.monotonic() + (START_PATIENCE if self._settings.follow else DRAIN_PATIENCE)
        while not (self._index.ready() or self._stop.is_set()) and time.monotonic() < deadline:
            time.sleep(0.02)
        self._apply_changes()

    def _shut_down(self) -> int:
        """Commit, send the last counts and end the threads; returns how many Events are left."""
        if self._settings.follow:
            log.info("stopping")
        self._notifier.tell("STOPPING=1")
        committed = self._commit()
        drain = not self._settings.follow and not self._stop.is_set()
        patience = DRAIN_PATIENCE if drain else STOP_PATIENCE
        left = self._poster.finish(
            patience,
            drain=drain,
            stop=self._stop.is_set if drain else _never,
            abort=self._hang_up,
            meanwhile=self._apply_changes,
        )
        self._index.stop()
        if self._memory is not None:  # last, for the watch went on until now
            self._memory.save(self._clock.now_us(), last=True)
        if not committed and not self._settings.follow:
            raise StateError(self._follower.trouble or "the state cannot be written")
        return left

    def _commit(self) -> bool:
        """The last commit of all; False when the state cannot be written."""
        try:
            return self._follower.commit()
        except StateError as error:
            log.error("%s", error)
            return False

    def _hang_up(self) -> None:
        """Break off every request. The index first: it would take that for an outage."""
        self._index.stop(timeout=0.0)
        if self._api is not None:
            self._api.close()

    # -- the start ------------------------------------------------------------------------------------------

    def _connect(self) -> KubeApi:
        """Raises ClusterError, Stopped."""
        try:
            return connect(self._settings, self._metrics, self._tokens, self._stop.is_set)
        except ClusterError:
            if self._stop.is_set():  # which broke a plugin off
                raise Stopped from None
            raise

    def _wait_for_room(self, reason: str) -> None:
        """Alive, and waiting: as ready as a kiptail whose cluster is away."""
        for message in ("READY=1", "WATCHDOG=1", f"STATUS={one_line(reason)}"):
            self._notifier.tell(message)

    def _sink(self) -> EventSink:
        if self._api is not None and not self._settings.dry_run:
            return ApiSink(self._api)
        self._printer = Printer(as_json=self._settings.output == "json", on_closed=self._stop.set)
        return self._printer

    def _start_cluster(self) -> None:
        """Ask the cluster for the rights that are needed, and begin to list pods."""
        if self._api is None:
            return
        dry_run = self._settings.dry_run
        followed = watch_rights(self._node_name if self._settings.pod_index == "node" else None)
        rights = followed if dry_run else (*followed, *POST_RIGHTS)
        patience = DRAIN_PATIENCE if dry_run else START_PATIENCE
        ask_cluster(self._api, rights, self._stop, must_answer=dry_run, patience=patience)
        if self._cluster_names is not None:
            self._cluster_names.start()
        self._index.start()
        if not dry_run and self._settings.follow:
            # A token's times are the API server's.
            self._renewer = Renewer(self._api, self._tokens, wall_clock=lambda: self._clock.servers_us() / 1e6)
            self._stack.callback(self._renewer.close)
            self._renewer.start()
            self._report.renewal = self._renewer

    def _serve_metrics(self) -> None:
        address = self._settings.metrics_address
        if address is None or isinstance(self._metrics, Unobserved):
            return
        from kiptail.daemon.scrapes import MetricsServer  # noqa: PLC0415 - see open_metrics()

        try:
            self._metrics.read_from(self._report.readings)
            server = MetricsServer(self._metrics.registry, address, obstacles=self._report.obstacles)
        except OSError as error:
            # Counting drops matters more than being scraped.
            log.error("no metrics: cannot listen on %s:%d: %s", *address, error.strerror)
            return
        self._stack.callback(server.close)

    # -- between the threads --------------------------------------------------------------------------------

    def _name_of(self, address: str) -> str | None:
        if self._names is None:
            return ""
        return self._names.lookup(address)

    def _wake_poster(self) -> None:
        self._poster.wake()

    def _index_ready(self) -> None:
        if not self._index.has_node(self._node_name):
            own = self._api.node_name if self._api is not None else None
            remedy = "if that is not this machine's name in the cluster, set --node-name"
            if own is not None and own != self._node_name:
                remedy = node_remedy(own)
            log.warning("no pod runs on a node named %s: %s", self._node_name, remedy)
        self._poster.wake()

    def _tell_found(self, addresses: Iterable[str]) -> None:
        self._poster.reconsider(addresses)
        self._poster.wake()

    def _rename(self) -> None:
        self._poster.rename()

    def _apply_changes(self) -> None:
        """Cut what the changes of pods concern, and then have it decided anew whose it is."""
        addresses = self._changed.take()
        if not addresses:
            return
        # While the state cannot be written nothing is decided, and this is tried again.
        if self._follower.hand_over({address: self._index.owners.hands(address) for address in addresses}):
            self._changed.done()
            self._remember()
            self._poster.reconsider(addresses)

    def _settle(self, now_us: int) -> None:
        """Let go of what no change of hands can concern any more."""
        if self._memory is None:
            return
        ready = self._index.ready()
        settled_us = max(self._index.fresh_us() - SETTLE_US if ready else 0, now_us - BLIND_US)
        # The ledger first: what it may still cut is kept.
        self._follower.settle(settled_us, blind=not (ready and self._index.owners.current()))
        self._poster.settle(settled_us)

    def _remember(self) -> None:
        if self._memory is not None:
            self._memory.save(self._clock.now_us())


def _watchdog_interval() -> float:
    """Half of what systemd asks for in $WATCHDOG_USEC, in seconds; 0.0 when it does not watch."""
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    return int(microseconds) / 2e6 if microseconds.isdigit() else 0.0


def _never() -> bool:
    return False
