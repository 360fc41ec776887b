"""What a start waits for, room for the state file and the cluster's word, and what it says of what is read."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

from kiptail.clock.trouble import Trouble
from kiptail.config.nflog_tables import unread_groups
from kiptail.config.settings import Settings
from kiptail.daemon.machine import logs_all_namespaces, machine_id
from kiptail.daemon.signals import StopSignal
from kiptail.errors import KiptailError, StoreUnavailableError
from kiptail.kube.access import Reviewer, require_rights
from kiptail.kube.rights import Wanted
from kiptail.state.store import Store

__all__ = ["Stopped", "announce", "ask_cluster", "open_store"]

log = logging.getLogger(__name__)

#: How often a full disk is looked at again, in seconds.
RETRY_INTERVAL = 1.0


class Stopped(Exception):
    """Somebody asked for a stop before the run had begun."""


def open_store(settings: Settings, stop: StopSignal, waiting: Callable[[str], None]) -> Store:
    """The state, in memory for a dry run. Raises StateError, Stopped.

    While the disk is full it is tried again: leaving would only have systemd start the next one, and the journal
    keeps what is not read yet. ``waiting`` is called each second with the reason.
    """
    if settings.dry_run:
        return Store.in_memory()
    trouble = Trouble()
    while True:
        try:
            store = Store.open(settings.state_directory, machine_id())
        except StoreUnavailableError as error:
            if not settings.follow:
                raise
            if trouble.begins(str(error)):
                log.error("%s; nothing is read until then, trying every second", error)
            waiting(str(error))
        else:
            if trouble.ends():
                log.info("the state can be written again")
            return store
        if stop.wait(RETRY_INTERVAL):
            raise Stopped


def ask_cluster(
    api: Reviewer, rights: Sequence[Wanted], stop: StopSignal, *, must_answer: bool, patience: float
) -> None:
    """Ask whether the cluster takes us, but wait for its word no longer than ``patience`` seconds.

    Raises :class:`~kiptail.errors.ClusterError` when it refuses; a server that is slow is treated as one that is
    away.
    """
    answered = threading.Event()
    refusals: list[KiptailError] = []

    def ask() -> None:
        try:
            require_rights(api, rights, must_answer=must_answer)
        except KiptailError as error:
            refusals.append(error)
        answered.set()

    threading.Thread(target=ask, name="start-check", daemon=True).start()
    deadline = time.monotonic() + patience
    while not answered.wait(0.05) and time.monotonic() < deadline and not stop.is_set():
        pass
    if refusals:
        raise refusals[0]
    if not answered.is_set():
        log.warning("the API server %s does not answer yet; drops are counted meanwhile", api.server)


def announce(settings: Settings, node_name: str) -> None:
    """Log what is read, and what is wrong with that from the start."""
    source: object = settings.journal_directory or "this machine's journal"
    if settings.journal_files:
        source = ", ".join(map(str, settings.journal_files))
    log.info("reading %s as node %s for %d log prefixes", source, node_name, len(settings.prefixes))
    if settings.nflog:
        log.info("reading what ulogd writes in %s", ", ".join(nflog.unit for nflog in settings.nflog))
    for name, group in unread_groups(settings.profiles, settings.nflog).items():
        log.warning("profile %s is about NFLOG group %d, which is not read: add --nflog-group %d", name, group, group)
    if settings.follow and logs_all_namespaces():
        log.warning(
            "nf_log_all_netns=1: whoever has CAP_NET_ADMIN in any network namespace can log under any prefix;"
            " its lines cannot be distinguished from the node's own"
        )
