"""The parts of a running kiptail, each made as the settings say; :mod:`kiptail.daemon.run` puts them together."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple

from kiptail.clock.own import OwnClock
from kiptail.clock.steady import Timeline
from kiptail.config.settings import DEFAULT_LOOK_BACK_US, Settings
from kiptail.credentials.identity import grant_remedy
from kiptail.credentials.renewal import KeptToken
from kiptail.daemon.observer import Observer, Unobserved
from kiptail.errors import ClusterError
from kiptail.events.event import EventStyle
from kiptail.events.explainer import Explainer
from kiptail.events.locator import NameOf
from kiptail.events.sink import ApiSink, Printer
from kiptail.flows.budget import Limits
from kiptail.flows.joining import Joining
from kiptail.flows.known_lines import KnownLines, Line, lines_of_units
from kiptail.flows.ledger import Ledger
from kiptail.flows.left_out import LeaveOut
from kiptail.flows.pairs import LOOK_BACK_US
from kiptail.journal.follow import Journal
from kiptail.journal.reader import running_boot
from kiptail.names.cluster import ClusterNames
from kiptail.names.dns import Names
from kiptail.netfilter.prefixes import Prefixes
from kiptail.pods.index import PodDetails
from kiptail.pods.live import LiveIndex, NodeMode
from kiptail.pods.ranges import PodRanges
from kiptail.pods.reflector import Hooks
from kiptail.pods.snapshot import Snapshot, load_snapshot
from kiptail.policies.asker import Asker
from kiptail.state.store import Saved

if TYPE_CHECKING:
    from kiptail.daemon.metrics import Metrics
    from kiptail.kube.api import KubeApi

__all__ = [
    "Explanations",
    "connect",
    "event_style",
    "open_clock",
    "open_explainer",
    "open_index",
    "open_joining",
    "open_journal",
    "open_ledger",
    "open_metrics",
    "open_names",
    "open_sink",
    "open_snapshot",
]

log = logging.getLogger(__name__)

#: Lines of the last seconds that are read at a time.
_LOOK_BACK_LINES = 1_000


class Explanations(NamedTuple):
    """What explains flows, and whom it asks."""

    explainer: Explainer
    asker: Asker


def open_metrics(settings: Settings) -> Metrics | Unobserved:
    """What observes what happens, and can be asked for it unless nothing is served."""
    if settings.dry_run or settings.metrics_address is None:
        return Unobserved()
    from kiptail.daemon.metrics import Metrics  # noqa: PLC0415 - 35 ms and 3 MiB that such a run does without

    return Metrics()


def connect(settings: Settings, observer: Observer, tokens: KeptToken, stopped: Callable[[], bool]) -> KubeApi:
    """The API server's client. Raises ClusterError when the credentials cannot be used.

    A plugin that is to give them is broken off once ``stopped()``.
    """
    if not settings.kubeconfigs:
        raise ClusterError("no kubeconfig: name one with --kubeconfig")
    from kiptail.kube.api import KubeApi  # noqa: PLC0415 - 50 ms that a dry run with --pods does without

    return KubeApi.from_kubeconfig(
        *settings.kubeconfigs,
        context=settings.context,
        server=settings.server,
        observe=observer.request_made,
        tokens=tokens,
        stopped=stopped,
    )


def open_clock(settings: Settings, saved: Saved) -> OwnClock:
    """The machine's clocks, with what an earlier run saw of them."""
    position = None if settings.journal_files else saved.position
    timeline = Timeline(position.times if position else None)
    if position is not None and position.times is None:
        timeline = Timeline.begun(
            position.boot_id, position.monotonic_us, position.realtime_us, not_before_us=saved.watermark_us
        )
    return OwnClock(timeline, boot_id=running_boot())


def open_index(
    settings: Settings,
    api: KubeApi,
    *,
    clock: OwnClock,
    node_name: str,
    on_change: Callable[[set[str]], None],
    on_ready: Callable[[], None],
    on_found: Callable[[Iterable[str]], None],
    on_names: Callable[[], None],
    observe: Callable[[str], None],
    detailed: bool,
) -> tuple[LiveIndex, ClusterNames]:
    """The pod index, and the names of nodes and Services that it asks; neither runs yet.

    ``detailed``: with what NetworkPolicies look at.
    """
    ranges = PodRanges(settings.pod_cidrs)
    by_node = settings.pod_index == "node"
    names = ClusterNames(api, ranges=ranges, nodes=by_node, on_change=on_names)
    node_mode = NodeMode(
        on_found=on_found,
        how_to_grant=lambda: grant_remedy(api.identity(), "list", "pods"),
        unhurried=not settings.follow,
    )
    index = LiveIndex(
        api,
        node=node_name,
        label=settings.pod_identifier_label,
        ranges=ranges,
        names=names,
        # Where the names are nodes' as well, those tell of new ones.
        hooks=Hooks(on_change, on_ready, on_nodes=_nothing if by_node else on_names, observe=observe),
        clock=clock,
        node_mode=node_mode if by_node else None,
        detailed=detailed,
    )
    return index, names


def _nothing() -> None:
    pass


def open_journal(
    settings: Settings, prefixes: Prefixes, saved: Saved, *, clock: OwnClock, leave_out: LeaveOut
) -> Journal[Line]:
    """The journal, where an earlier run had got to, or at the time asked for. Raises JournalError.

    ``leave_out``: what filters say of a line.
    """
    position = None if settings.journal_files else saved.position
    since_us = settings.since_us
    if position is not None and since_us is not None:
        log.warning("--since is not used: the journal is read on from the stored position")
    if since_us is None and settings.follow:
        since_us = time.time_ns() // 1000 - DEFAULT_LOOK_BACK_US
    return Journal(
        directory=settings.journal_directory,
        files=settings.journal_files,
        # Each drop is logged with all that its line says.
        wanted=prefixes.wanted if settings.log_drops else KnownLines(prefixes, leave_out=leave_out).wanted,
        # Lines of ulogd may have no prefix.
        needle=b" OUT=" if settings.nflog else prefixes.needle,
        units=lines_of_units(settings.nflog, settings.prefixes, thorough=settings.log_drops, leave_out=leave_out),
        position=position,
        since_us=since_us,
        follow=settings.follow,
        clock=clock,
    )


def open_joining(settings: Settings, saved: Saved, leave_out: LeaveOut) -> Joining | None:
    """What joins lines about one packet, with what an earlier run had read last; None where there are none.

    Raises JournalError.
    """
    if not any(source.paired for source in settings.nflog):
        return None
    joining = Joining(leave_out)
    position = None if settings.journal_files else saved.position
    if position is not None:
        journal: Journal[Line] = Journal(
            directory=settings.journal_directory,
            wanted=_not_wanted,
            units=lines_of_units(settings.nflog, settings.prefixes),
            since_us=position.realtime_us - LOOK_BACK_US,
            follow=False,
            clock=OwnClock(Timeline(position.times), boot_id=running_boot()),
        )
        with journal:
            at_end = False
            while not at_end:
                batch = journal.read(_LOOK_BACK_LINES)
                joining.look_back(batch.lines, batch.times_us)
                there = journal.position()
                # What follows on the position is read again, and its hints do not count before their time.
                at_end = batch.at_end or (there is not None and there.realtime_us > position.realtime_us)
    return joining


def _not_wanted(message: bytes) -> bool:
    return False


def open_ledger(settings: Settings, saved: Saved) -> Ledger:
    """The ledger, with the flows and budgets of an earlier run."""
    files = settings.journal_files
    ledger = Ledger(
        (s.flow for s in saved.flows),
        next_id=saved.next_flow_id,
        watermark_us=0 if files else saved.watermark_us,
        last_stamp=0 if files else saved.last_stamp,
        budget=None if files else saved.budget,
        limits=Limits(
            flows_per_address=settings.flows_per_address,
            new_addresses=settings.new_addresses,
            window_us=round(settings.budget_window_s * 1e6),
            open_flows=settings.max_flows,
        ),
    )
    if files:
        # Files are read from their start each time: added to what is stored, a second run would count twice.
        # As flows of their own they get the same names as before, and so update the same Events.
        ledger.end_all()
    return ledger


def open_snapshot(settings: Settings, *, labelled: bool) -> Snapshot | None:
    """The pods of ``--pods``, ``labelled`` with all their labels; None without. Raises SettingsError."""
    if settings.pods is None:
        return None
    return load_snapshot(settings.pods, label=settings.pod_identifier_label, labelled=labelled)


def open_sink(settings: Settings, api: KubeApi | None, on_closed: Callable[[], None]) -> ApiSink | Printer:
    """Where Events go; ``on_closed`` is called when they can be printed no more."""
    if api is not None and not settings.dry_run:
        return ApiSink(api)
    return Printer(as_json=settings.output == "json", on_closed=on_closed)


def open_names(api: KubeApi | None, on_ready: Callable[[], None], stack: ExitStack) -> NameOf:
    """What the DNS calls an address; nobody asks it where no cluster is followed. ``stack`` closes it."""
    if api is None:
        return _nameless
    names = Names(on_ready=on_ready)
    stack.callback(names.close)
    return names.lookup


def _nameless(address: str) -> str:
    return ""


def open_explainer(
    settings: Settings, api: KubeApi | None, details: PodDetails | None, on_answer: Callable[[], None], stack: ExitStack
) -> Explanations | None:
    """What tells which NetworkPolicies are in the way, if that is wanted; ``stack`` ends what it asks with."""
    if not settings.explain or api is None or details is None:
        return None
    asker = Asker(
        api,
        on_answer=on_answer,
        how_to_grant=lambda verb, resource: grant_remedy(api.identity(), verb, resource),
    )
    stack.callback(asker.close)
    return Explanations(Explainer(details, asker), asker)


def event_style(settings: Settings, node_name: str, prefixes: Prefixes) -> EventStyle:
    """How this installation's Events look."""
    limited = prefixes.limited().union(*(source.prefixes(()).limited() for source in settings.nflog))
    return EventStyle(settings.event_reason, settings.event_component, node_name, settings.pod_identifier, limited)
