"""What ``kubectl-drops`` is asked about: which cluster, as whom, and which Events."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kiptail.admin.node_kubeconfig import administrators_kubeconfigs
from kiptail.cli.flags import value_of
from kiptail.config import values
from kiptail.config.values import Moment, checked
from kiptail.credentials.kubeconfig import context_namespace, read_kubeconfigs
from kiptail.drops.owned import Target
from kiptail.drops.requests import refused
from kiptail.drops.wanted import Wanted
from kiptail.errors import ApiError, SettingsError
from kiptail.kube.event_reads import EventReader
from kiptail.kube.object_names import is_namespace

__all__ = ["REASON", "Cluster", "wanted_of"]

#: Of the Events where no other is named.
REASON = "PacketDrop"


@dataclass(frozen=True, slots=True)
class Cluster:
    """Where to ask, and as whom."""

    kubeconfigs: tuple[Path, ...]
    context: str | None
    server: str | None

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Cluster:
        """By the flags and the environment. Raises SettingsError."""
        named = value_of(given, "kubeconfig", values.path)
        return cls(
            (named,) if named is not None else administrators_kubeconfigs(os.environ),
            value_of(given, "context", values.context),
            value_of(given, "server", values.server_url),
        )

    def namespace(self, given: Mapping[str, Any]) -> str:
        """The one that was given, else the context's. Raises SettingsError, ClusterError."""
        name, source = given.get("namespace"), "--namespace"
        if name is None:
            source = "the kubeconfig"
            name = context_namespace(read_kubeconfigs(self.kubeconfigs), self.context) or "default"
        if not is_namespace(name):
            raise SettingsError(f"{source}: {values.quoted(name)} is no namespace's name")
        return name

    @contextlib.contextmanager
    def events(self, wanted: Wanted) -> Iterator[EventReader]:
        """A client, for the block that reads these Events. Raises ClusterError, also of ApiErrors in that block."""
        api = EventReader.from_kubeconfig(*self.kubeconfigs, context=self.context, server=self.server)
        with contextlib.closing(api):
            try:
                yield api
            except ApiError as error:
                raise refused(error, wanted) from error


def wanted_of(given: Mapping[str, Any], namespace: str, target: Target | None) -> Wanted:
    """Which Events, of a namespace or ("") of all. Raises SettingsError."""
    since, reason = given.get("since"), given.get("reason")
    return Wanted(
        namespace=namespace,
        reason=REASON if reason is None else checked("--reason", reason, values.event_reason),
        target=target,
        since=None if since is None else checked("--since", since, _since),
    )


def _since(text: str) -> Moment:
    """As kubectl has it, ``10m``, and as kiptail has it, ``-10m`` and times."""
    try:
        return Moment(-int(values.duration(text) * 1e6), relative=True)
    except ValueError:
        return values.moment(text)
