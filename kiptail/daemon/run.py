"""One run: everything between ``kiptail`` and its exit code."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from contextlib import ExitStack

from kiptail.config.settings import Settings
from kiptail.daemon.cluster import DRAIN_PATIENCE, START_PATIENCE, Cluster
from kiptail.daemon.machine import ThisMachine
from kiptail.daemon.owners import Owners
from kiptail.daemon.presence import Presence
from kiptail.daemon.readings import Readings
from kiptail.daemon.record_sinks import open_record_sink
from kiptail.daemon.report import Report
from kiptail.daemon.signals import StopSignal
from kiptail.daemon.startup import Stopped, announce, open_store
from kiptail.daemon.ulogd_units import units_to_watch
from kiptail.daemon.wiring import (
    event_style,
    open_clock,
    open_explainer,
    open_joining,
    open_journal,
    open_ledger,
    open_names,
    open_sink,
    open_snapshot,
)
from kiptail.errors import ClusterError, JournalError, KiptailError, StateError
from kiptail.events.attribution import unexplained
from kiptail.events.locator import Locator
from kiptail.events.muting import Muting
from kiptail.events.poster import Poster
from kiptail.events.recorder import Recorder
from kiptail.events.sink import Printer
from kiptail.events.tally import Tally
from kiptail.flows.intake import Follower, Step
from kiptail.journal.source import Source
from kiptail.netfilter.prefixes import Prefixes
from kiptail.quiet.filters import Filters

__all__ = ["run"]

log = logging.getLogger(__name__)

Progress = Callable[[float, int], None]

#: The time that the last counts have on a stop, in seconds; the unit's TimeoutStopSec is 30.
STOP_PATIENCE = 6.0
#: The shortest time between two writes of what is known of pods, in seconds.
SAVE_INTERVAL = 1.0
#: The pause of the journal loop while the state cannot be written, in seconds.
STALL_PAUSE = 0.25
#: The interval at which STATUS is renewed, in seconds.
STATUS_INTERVAL = 5.0


def run(settings: Settings, progress: Progress | None = None) -> int:
    """Run until the journal's end or a signal; returns the exit code. Raises :class:`KiptailError`.

    A run that ends with the journal calls ``progress`` with the part that has been read (0 to 1, which is the end) and
    the lines in that.
    """
    with ExitStack() as stack:
        try:
            return _Daemon(settings, stack).run(progress)
        except Stopped:
            return 0


class _Daemon:
    """The parts of a running kiptail. Everything is closed by ``stack``, in reverse."""

    def __init__(self, settings: Settings, stack: ExitStack) -> None:
        self._settings = settings
        self._stop = StopSignal(stack)
        self._presence = Presence(settings, stack)
        observer = self._presence.observer

        prefixes, filters = Prefixes(settings.prefixes), Filters(settings.ignore)
        snapshot = open_snapshot(settings, labelled=filters.need_labels)
        self._cluster = Cluster(settings, stack, self._stop, observer)

        # Before the journal: what another kiptail uses is not to be touched.
        store = open_store(settings, self._stop, self._presence.waiting)
        stack.callback(store.close)
        saved = store.load()
        self._begins = saved.position is None
        self._clock = open_clock(settings, saved)
        if self._cluster.api is not None:
            self._clock.others = self._cluster.api.time_us
        self._journal = stack.enter_context(
            open_journal(settings, prefixes, saved, clock=self._clock, leave_out=filters.leave_out)
        )
        self._owners = Owners(
            settings,
            self._cluster,
            snapshot,
            store=store,
            clock=self._clock,
            observer=observer,
            wake=self._stop.wake,
            labelled=filters.need_labels,
            stack=stack,
        )
        index = self._owners.index
        explanations = open_explainer(settings, self._cluster.api, index.details, self._wake_poster, stack)
        muting = Muting(filters, index.owners, explanations.asker if explanations else None)
        tally = Tally(workloads=settings.metrics_labels == "workload")
        sink = open_sink(settings, self._cluster.api, self._stop.set)
        self._printer = sink if isinstance(sink, Printer) else None
        self._poster = Poster(
            Recorder(
                sink=sink,
                locate=self._locator(stack),
                outbox=store,
                style=event_style(settings, self._cluster.node_name, prefixes),
                repeat_interval=settings.repeat_interval_s,
                give_up_after=math.inf if settings.give_up_after_s is None else settings.give_up_after_s,
                most_ended=settings.max_flows,
                hold=settings.dry_run and not settings.follow,
                paced=not settings.dry_run,
                observe=observer.event_written,
                tally=tally,
                remember=self._owners.remember,
                uncut=self._owners.changed.pending,
                explain=explanations.explainer.explain if explanations else unexplained,
                own_clock=self._clock,
                records=open_record_sink(settings, stack),
                node_book=store.node_events if settings.node_events else None,
                anew=bool(settings.journal_files),
                muting=muting,
            )
        )
        self._owners.inform_poster(self._poster)
        for flow in saved.flows:
            self._poster.restore(flow.flow.copy(), flow.endpoints, flow.records)
        ledger = open_ledger(settings, saved)
        self._follower = Follower(
            journal=self._journal,
            prefixes=prefixes,
            ledger=ledger,
            book=store,
            offer=self._poster.offer,
            keep_position=not settings.journal_files,
            expire_after=settings.expire_after_s,
            own_clock=self._clock,
            log_drops=settings.log_drops,
            joining=open_joining(settings, saved, filters.leave_out),
            leave_out=filters.leave_out,
        )
        self._owners.inform_follower(self._follower)
        ulogd = units_to_watch(settings)
        self._report = Report(
            journal=self._journal, follower=self._follower, poster=self._poster, index=index, ulogd=ulogd
        )
        self._presence.read_from(
            Readings(
                journal=self._journal,
                follower=self._follower,
                ledger=ledger,
                poster=self._poster,
                index=index,
                tally=tally,
                report=self._report,
                damaged=store.damaged is not None,
                explanations=explanations,
            )
        )

    # -- the run --------------------------------------------------------------------------------------------

    def run(self, progress: Progress | None) -> int:
        """Start the threads, follow, and stop in order."""
        self._cluster.ask()
        self._owners.start()
        self._report.renewal = self._cluster.renew(self._clock)
        if self._stop.is_set():
            return 1 if self._stop.crashed else 0
        self._presence.serve(self._report.obstacles)
        self._poster.start()
        announce(self._settings, self._cluster.node_name)
        try:
            if self._begins:
                # Where reading begins is where a restart goes on, also if this run dies before it has read anything:
                # with --since it would begin later. On a full disk the journal loop tries it again each second.
                self._follower.commit()
            self._presence.ready()
            self._follow(progress)
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
            if not self._owners.index.ready():
                raise ClusterError("the cluster's pods could not be listed in time; see --kubeconfig and --server")
            raise ClusterError(f"{left} Events could not be delivered; they are kept for the next run")
        return 1 if self._stop.crashed else 0

    def _follow(self, progress: Progress | None) -> None:
        status_at = save_at = 0.0
        extent = None
        if progress is not None and not self._settings.follow:
            extent = Source(self._settings.journal_directory, self._settings.journal_files).extent()
        self._await_index()
        while not self._stop.is_set():
            self._owners.apply_changes()  # what is known before a drop is read is known when it is counted
            step = self._follower.step()
            now = time.monotonic()
            self._presence.beat(now)
            if now >= status_at:
                now_us, lag_us = self._clock.now_us(), self._journal.lag_us()
                self._report.beat(lag=lag_us / 1e6 if self._settings.follow else 0.0)
                self._owners.settle(now_us, now_us - lag_us)
                self._report.ulogd.look()
                self._presence.status(self._report.status())
                status_at = now + STATUS_INTERVAL
            if now >= save_at:
                self._owners.remember()
                save_at = now + SAVE_INTERVAL
            if progress is not None and extent is not None:
                progress(extent.part(self._journal.position()), self._journal.counts.wanted)
            if step is Step.STALLED:
                if not self._settings.follow:
                    raise StateError(self._follower.trouble)
                time.sleep(STALL_PAUSE)
            elif step is Step.AT_END:
                if not self._settings.follow:
                    if self._journal.trouble:
                        raise JournalError(self._journal.trouble)
                    if progress is not None:
                        progress(1.0, self._journal.counts.wanted)
                    return
                self._journal.wait(1.0, self._stop.fileno())
                self._stop.heard()

    def _await_index(self) -> None:
        """Wait a moment for the list of pods: what is known when a drop is counted need not be put right later."""
        deadline = time.monotonic() + (START_PATIENCE if self._settings.follow else DRAIN_PATIENCE)
        while not (self._owners.index.ready() or self._stop.is_set()) and time.monotonic() < deadline:
            time.sleep(0.02)
        self._owners.apply_changes()

    def _shut_down(self) -> int:
        """Commit, send the last counts and end the threads; returns how many Events are left."""
        if self._settings.follow:
            log.info("stopping")
        self._presence.stopping()
        committed = self._commit()
        drain = not self._settings.follow and not self._stop.is_set()
        patience = DRAIN_PATIENCE if drain else STOP_PATIENCE
        left = self._poster.finish(
            patience,
            drain=drain,
            stop=self._stop.is_set if drain else _never,
            abort=self._hang_up,
            meanwhile=self._owners.apply_changes,
        )
        self._owners.index.stop()
        self._owners.remember(last=True)  # for the watch went on until now
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
        self._owners.index.stop(timeout=0.0)
        self._cluster.hang_up()

    # -- the start ------------------------------------------------------------------------------------------

    def _locator(self, stack: ExitStack) -> Locator:
        # What somebody else's journal says of its machine is nothing that can be asked here.
        machine = ThisMachine(self._cluster.node_name) if self._settings.follow else None
        names = open_names(self._cluster.api, self._wake_poster, stack)
        return Locator(self._owners.index.owners, names, machine)

    def _wake_poster(self) -> None:
        self._poster.wake()


def _never() -> bool:
    return False
