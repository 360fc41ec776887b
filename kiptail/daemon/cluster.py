"""The cluster's part in a run: connecting, asking for the rights, renewing the token, and hanging up."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING

from kiptail.clock.own import OwnClock
from kiptail.config.settings import Settings
from kiptail.credentials.renewal import TOKEN_FILE, KeptToken, Renewer
from kiptail.daemon.observer import Observer
from kiptail.daemon.signals import StopSignal
from kiptail.daemon.startup import Stopped, ask_cluster
from kiptail.daemon.wiring import connect
from kiptail.errors import ClusterError
from kiptail.kube.rights import required_rights

if TYPE_CHECKING:
    from kiptail.kube.api import KubeApi

__all__ = ["DRAIN_PATIENCE", "START_PATIENCE", "Cluster"]

#: Start-up timeout for the first answer of the API server, in seconds; one that is slower is treated as away.
START_PATIENCE = 3.0
#: The same for a run that ends with the journal.
DRAIN_PATIENCE = 60.0


class Cluster:
    """The API server, unless pods come from a file."""

    def __init__(self, settings: Settings, stack: ExitStack, stop: StopSignal, observer: Observer) -> None:
        """Connects, without a request; ``stack`` closes it. Raises ClusterError, Stopped."""
        self._settings, self._stack, self._stop = settings, stack, stop
        self._tokens = KeptToken(settings.state_directory / TOKEN_FILE)
        self.api = self._connect(observer) if settings.pods is None else None
        if self.api is not None:
            stack.callback(self.api.close)
        #: This node's name, as far as it is known.
        self.node_name = settings.node_name or self.own_node or socket.gethostname().lower()

    @property
    def own_node(self) -> str | None:
        """The node's name that the credential stands for."""
        return self.api.node_name if self.api is not None else None

    def _connect(self, observer: Observer) -> KubeApi:
        try:
            return connect(self._settings, observer, self._tokens, self._stop.is_set)
        except ClusterError:
            if self._stop.is_set():  # which broke a plugin off
                raise Stopped from None
            raise

    def ask(self) -> None:
        """Ask for the rights that are needed. Raises ClusterError when it refuses."""
        if self.api is None:
            return
        dry_run = self._settings.dry_run
        node = self.node_name if self._settings.pod_index == "node" else None
        rights = required_rights(node, posting=not dry_run)
        patience = DRAIN_PATIENCE if dry_run else START_PATIENCE
        ask_cluster(self.api, rights, self._stop, must_answer=dry_run, patience=patience)

    def renew(self, clock: OwnClock) -> Renewer | None:
        """Begin to renew the token, in a run that goes on."""
        if self.api is None or self._settings.dry_run or not self._settings.follow:
            return None
        # A token's times are the API server's.
        renewer = Renewer(self.api, self._tokens, wall_clock=lambda: clock.servers_us() / 1e6)
        self._stack.callback(renewer.close)
        renewer.start()
        return renewer

    def hang_up(self) -> None:
        """Break off every request."""
        if self.api is not None:
            self.api.close()
