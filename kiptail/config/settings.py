"""Frozen, validated settings: flags > ``KIPTAIL_*`` > kube-iptables-tailer's variables > TOML > defaults.

What can be set is the table in :mod:`kiptail.config.options`; how one value is read is :mod:`kiptail.config.values`;
where it stands is :mod:`kiptail.config.sources`. Here is what must hold between settings. Every error is a
:class:`~kiptail.errors.SettingsError` of one line that begins with where the value stands: ``--since``,
``KIPTAIL_SINCE`` or ``FILE: key since``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kiptail.config import options
from kiptail.config.options import LogFormat, LogLevel, MetricsLabels, Output, PodIdentifier, PodIndex
from kiptail.config.profile import OWN_PROFILES, Profile
from kiptail.config.sources import DEFAULT_CONFIG, Found, Levels, read_config
from kiptail.config.values import Moment, Network, checked, path
from kiptail.config.wanted_lines import wanted_lines
from kiptail.errors import SettingsError
from kiptail.netfilter.nflog import NflogSource
from kiptail.netfilter.prefixes import PrefixRule
from kiptail.quiet.filter import Filter

__all__ = ["DEFAULT_CONFIG", "DEFAULT_KUBECONFIG", "DEFAULT_LOOK_BACK_US", "Settings", "resolve"]

DEFAULT_KUBECONFIG = Path("/etc/kiptail/kubeconfig")
DEFAULT_STATE_DIRECTORY = Path("/var/lib/kiptail")
#: How far back a follower without a stored position starts when ``Settings.since_us`` is None.
DEFAULT_LOOK_BACK_US = 600 * 1_000_000


# More than 12 attributes: one for each option.
@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What one run of kiptail works with; values are checked, files and servers are not touched yet."""

    #: Kubeconfig files, which are merged, and may be missing; none with ``pods``: no cluster is contacted.
    kubeconfigs: tuple[Path, ...]
    #: Name of a kubeconfig context; None for the current one.
    context: str | None
    #: ``https://HOST:PORT`` in place of the kubeconfig's server; None for the kubeconfig's.
    server: str | None
    #: This machine's name in the cluster; None to find out.
    node_name: str | None
    #: Those of the profiles included. At least one, but for `kiptail check`; at most 100, each text once.
    prefixes: tuple[PrefixRule, ...]
    #: Each name once.
    profiles: tuple[Profile, ...]
    #: Units of ulogd2 that are read, each once; with them there may be no prefix.
    nflog: tuple[NflogSource, ...]
    #: What is left out, in the order in which it counts.
    ignore: tuple[Filter, ...] = ()
    #: Directory with the journal's files; None for this machine's journal.
    journal_directory: Path | None
    #: Journal files to read in place of a directory; then the stored position is not used.
    journal_files: tuple[Path, ...]
    #: Where to start, µs since the epoch; None when not given.
    since_us: int | None
    #: Wait for more at the journal's end.
    follow: bool
    #: Where the state store lives; unused in a dry run.
    state_directory: Path
    #: Which pods are kept in memory.
    pod_index: PodIndex
    #: Addresses that pods can have; empty when not known.
    pod_cidrs: tuple[Network, ...]
    #: Snapshot of the pods, as ``kubectl get pods -A -o json`` writes it; only in a dry run.
    pods: Path | None
    #: How a dry run prints Events.
    output: Output
    #: Drops older than this when read do not count, in seconds; None: none is too old.
    expire_after_s: float | None
    #: Least time between two updates of one Event, in seconds.
    repeat_interval_s: float
    #: Seconds after its flow's last drop at which an Event that could not be delivered is given up; None: never.
    give_up_after_s: float | None
    #: Different flows of one address and direction within the budget window, before they are folded.
    flows_per_address: int
    #: New addresses within the budget window, before they are reported at their other end only.
    new_addresses: int
    #: The budget window, in seconds.
    budget_window_s: float
    #: Flows that may be open, and as many again that have ended and wait to be posted.
    max_flows: int
    #: How an Event's text names the pod at the other end.
    pod_identifier: PodIdentifier
    #: The label that names a pod; never None when ``pod_identifier`` is ``label``.
    pod_identifier_label: str | None
    #: Events say which NetworkPolicies are in a packet's way.
    explain: bool
    node_events: bool
    #: CamelCase, at most 128 letters and digits.
    event_reason: str
    #: ``source.component`` of the Events, at most 253 characters without blanks.
    event_component: str
    #: Host (no brackets) and port (0: any free one) of the metrics server; None: no metrics.
    metrics_address: tuple[str, int] | None
    #: By what drops of pods are distinguished in metrics.
    metrics_labels: MetricsLabels
    #: Log each drop that counts.
    log_drops: bool
    #: Least important level to log.
    log_level: LogLevel
    #: How log lines are written.
    log_format: LogFormat
    #: Write nothing to the cluster.
    dry_run: bool


def resolve(
    flags: Mapping[str, object],
    environ: Mapping[str, str],
    *,
    now_us: int,
    default_config: Path = DEFAULT_CONFIG,
    own_profiles: Path = OWN_PROFILES,
    need_prefix: bool = True,
) -> Settings:
    """The settings that flags, environment and configuration file make; raises only :class:`SettingsError`.

    ``flags`` go by :attr:`Option.key`, as click passes them: text, texts, or True; None, False and ()
    mean "not given". ``now_us`` is the time, in µs since the epoch, that ``--since -10m`` counts from. Reads
    the configuration file (``default_config`` when none is named) and profiles (shipped, or in ``own_profiles``), looks
    which kubeconfig is there, and touches nothing else. Without ``need_prefix`` there may be no prefix.
    """
    named_config = Levels(flags, environ, {}).find(options.CONFIG)
    levels = Levels(flags, environ, read_config(named_config, default_config))
    follow = not levels.on(options.NO_FOLLOW)
    dry_run = levels.on(options.DRY_RUN)
    pods = _pods(levels, dry_run=dry_run)
    journal_directory, journal_files = _journal(levels)
    expire_after = levels.find(options.EXPIRE_AFTER)
    lines = wanted_lines(levels, own_profiles, needed=need_prefix)
    return Settings(
        kubeconfigs=() if pods else _kubeconfigs(levels, environ),
        context=levels.one(options.CONTEXT),
        server=levels.one(options.SERVER),
        node_name=levels.one(options.NODE_NAME),
        prefixes=lines.prefixes,
        profiles=lines.profiles,
        nflog=lines.nflog,
        ignore=levels.filters(),
        journal_directory=journal_directory,
        journal_files=journal_files,
        since_us=_since(levels.find(options.SINCE), now_us),
        follow=follow,
        state_directory=_state_directory(levels, environ),
        pod_index=levels.need(options.POD_INDEX),
        pod_cidrs=tuple(dict.fromkeys(levels.all(options.POD_CIDR))),
        pods=pods,
        output=levels.need(options.OUTPUT),
        expire_after_s=levels.need(options.EXPIRE_AFTER) if follow or expire_after else None,
        repeat_interval_s=levels.need(options.REPEAT_INTERVAL),
        give_up_after_s=_give_up_after(levels, follow=follow),
        flows_per_address=levels.need(options.FLOWS_PER_ADDRESS),
        new_addresses=levels.need(options.NEW_ADDRESSES),
        budget_window_s=levels.need(options.BUDGET_WINDOW),
        max_flows=levels.need(options.MAX_FLOWS),
        pod_identifier=levels.need(options.POD_IDENTIFIER),
        pod_identifier_label=_pod_identifier_label(levels),
        explain=levels.need(options.EXPLAIN) == "on",
        node_events=levels.on(options.NODE_EVENTS),
        event_reason=levels.need(options.EVENT_REASON),
        event_component=levels.need(options.EVENT_COMPONENT),
        metrics_address=levels.need(options.METRICS_ADDRESS),
        metrics_labels=levels.need(options.METRICS_LABELS),
        log_drops=levels.on(options.LOG_DROPS),
        log_level=levels.need(options.LOG_LEVEL),
        log_format=levels.need(options.LOG_FORMAT),
        dry_run=dry_run,
    )


def _since(found: Found[Moment] | None, now_us: int) -> int | None:
    if found is None:
        return None
    since_us = found.value.at(now_us)
    if since_us < 0:
        raise SettingsError(f"{found.source}: lies before 1970")
    if since_us > now_us:
        raise SettingsError(f"{found.source}: lies in the future")
    return since_us


def _journal(levels: Levels) -> tuple[Path | None, tuple[Path, ...]]:
    """Directory and files, of which at most one is set; a stronger level's choice replaces a weaker one's."""
    directory, files = levels.find(options.JOURNAL_DIRECTORY), levels.find(options.JOURNAL_FILE)
    if directory and files and directory.level == files.level:
        raise SettingsError(f"{directory.source} and {files.source} exclude each other: read a directory or files")
    if files and (directory is None or files.level < directory.level):
        return None, files.values
    return (directory.value if directory else None), ()


def _pods(levels: Levels, *, dry_run: bool) -> Path | None:
    found = levels.find(options.PODS)
    if found and not dry_run:
        raise SettingsError(f"{found.source}: a snapshot of the pods serves only a dry run: add --dry-run")
    return found.value if found else None


def _pod_identifier_label(levels: Levels) -> str | None:
    label = levels.one(options.POD_IDENTIFIER_LABEL)
    identifier = levels.find(options.POD_IDENTIFIER)
    if identifier and identifier.value == "label" and label is None:
        raise SettingsError(
            f"{identifier.source}: label needs to know which: add {options.POD_IDENTIFIER_LABEL.flag} KEY"
            f" (or {options.POD_IDENTIFIER_LABEL.variable})"
        )
    return label


def _give_up_after(levels: Levels, *, follow: bool) -> float | None:
    """A day, or what is set; never less than the age at which drops still count, or they would not be reported."""
    if not follow and levels.find(options.EXPIRE_AFTER) is None:
        return None
    give_up_after, expire_after = levels.need(options.GIVE_UP_AFTER), levels.need(options.EXPIRE_AFTER)
    return give_up_after if expire_after <= give_up_after else expire_after + give_up_after


def _kubeconfigs(levels: Levels, environ: Mapping[str, str]) -> tuple[Path, ...]:
    if given := levels.one(options.KUBECONFIG):
        return (given,)
    if directory := environ.get("CREDENTIALS_DIRECTORY"):
        credential = checked("CREDENTIALS_DIRECTORY", directory, path) / "kubeconfig"
        if os.path.exists(credential):
            return (credential,)
    listed = [checked("KUBECONFIG", name, path) for name in environ.get("KUBECONFIG", "").split(":") if name]
    return tuple(dict.fromkeys(listed)) or (DEFAULT_KUBECONFIG,)


def _state_directory(levels: Levels, environ: Mapping[str, str]) -> Path:
    if given := levels.one(options.STATE_DIRECTORY):
        return given
    first = environ.get("STATE_DIRECTORY", "").split(":")[0]
    return checked("STATE_DIRECTORY", first, path) if first else DEFAULT_STATE_DIRECTORY
