"""The table of options: the one place that says what can be set, in which words, and how a value is read.

The command line builds its flags from :data:`OPTIONS`; :mod:`kiptail.config.sources` reads flags, variables and the
TOML file by the same rows. kube-iptables-tailer's variables are taken too, so that its users can keep their
environment.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from kiptail.config import values
from kiptail.config.ignore_tables import filter_of_text
from kiptail.netfilter.prefixes import PrefixRule
from kiptail.quiet.filter import Filter

__all__ = [
    "OPTIONS",
    "LogFormat",
    "LogLevel",
    "MetricsLabels",
    "Option",
    "Output",
    "Peer",
    "PodIdentifier",
    "PodIndex",
]

LogFormat = Literal["auto", "text", "json"]
LogLevel = Literal["debug", "info", "warning", "error"]
Output = Literal["text", "json"]
MetricsLabels = Literal["namespace", "workload"]
PodIdentifier = Literal["name_with_namespace", "namespace", "name", "label", "workload"]
PodIndex = Literal["node", "cluster"]
Switch = Literal["on", "off"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Peer:
    """A variable of kube-iptables-tailer that stands for an option."""

    variable: str
    #: Its text in kiptail's own notation, None to leave it unread; ValueError as in :mod:`kiptail.config.values`.
    translate: Callable[[str], str | None] = str


@dataclass(frozen=True, slots=True)
class Option(Generic[T]):
    """One thing that can be set: as ``--name``, as ``KIPTAIL_NAME`` and as the TOML key ``name``."""

    name: str
    #: Text to value; raises ValueError as in :mod:`kiptail.config.values`.
    convert: Callable[[str], T]
    _: KW_ONLY
    help: str
    metavar: str = ""
    #: In the notation of the flag; None when there is none or it depends on something else.
    default: str | None = None
    #: How the default reads in the help, where it is not ``default`` itself.
    shown_default: str = ""
    #: Can be given several times: a list in TOML, one a line in the variable.
    repeatable: bool = False
    #: Takes no value on the command line; true or false elsewhere.
    switch: bool = False
    #: A whole number, which TOML has as such.
    number: bool = False
    #: Whether the TOML file may set it.
    in_file: bool = True
    peer: Peer | None = None

    @property
    def key(self) -> str:
        """The parameter's name in Python: the key in the ``flags`` of :func:`kiptail.config.settings.resolve`."""
        return self.name.replace("-", "_")

    @property
    def flag(self) -> str:
        return f"--{self.name}"

    @property
    def variable(self) -> str:
        return f"KIPTAIL_{self.key.upper()}"

    @property
    def help_text(self) -> str:
        """The help with its default in brackets."""
        default = self.shown_default or self.default
        return f"{self.help} [default: {default}]" if default else self.help


def _minutes(text: str) -> str:
    if text.strip().isdecimal() and text.isascii():
        return f"{text.strip()}m"
    raise ValueError("is no whole number of minutes")


def _port(text: str) -> str | None:
    # In a pod, METRICS_SERVER_PORT=tcp://… stands for a Service named metrics-server: not meant for us.
    return None if text.startswith("tcp://") else f"127.0.0.1:{text.strip()}"


def _zap_level(text: str) -> str:
    return {"warn": "warning", "dpanic": "error", "panic": "error", "fatal": "error"}.get(text.lower(), text)


_DAY_S = 86_400

CONFIG: Option[Path] = Option(
    "config",
    values.path,
    metavar="FILE",
    in_file=False,
    shown_default="/etc/kiptail/kiptail.toml, if it is there",
    help="TOML file with settings; its keys are these options' names without the dashes in front.",
)
KUBECONFIG: Option[Path] = Option(
    "kubeconfig",
    values.path,
    metavar="FILE",
    shown_default="$CREDENTIALS_DIRECTORY/kubeconfig, $KUBECONFIG, /etc/kiptail/kubeconfig",
    help="Kubeconfig file that says how to reach the cluster and as whom.",
)
CONTEXT: Option[str] = Option(
    "context",
    values.context,
    metavar="NAME",
    shown_default="the kubeconfig's current context",
    help="Which of the kubeconfig's contexts to use.",
)
SERVER: Option[str] = Option(
    "server",
    values.server_url,
    metavar="URL",
    peer=Peer("KUBE_API_SERVER"),
    shown_default="the kubeconfig's",
    help="Address of the API server, such as https://10.0.0.1:6443.",
)
NODE_NAME: Option[str] = Option(
    "node-name",
    values.node_name,
    metavar="NAME",
    shown_default="the NAME of a system:node:NAME credential, else the host name in lower case",
    help="Name under which this machine is a node of the cluster.",
)
PREFIX: Option[PrefixRule] = Option(
    "prefix",
    values.prefix,
    metavar="TEXT",
    repeatable=True,
    peer=Peer("IPTABLES_LOG_PREFIX"),
    help="Log prefix of the firewall rules whose lines stand for dropped packets, such as 'calico-drop:'. Can"
    " be given several times. `kiptail check` helps to find out which prefixes this node logs with.",
)
PROFILE: Option[str] = Option(
    "profile",
    str,
    metavar="NAME",
    repeatable=True,
    help="Add the log prefixes of this firewall, such as antrea or firewalld, with their verdicts. Can be given several"
    " times. `kiptail profiles` lists them; your own are in /etc/kiptail/profiles.",
)
NFLOG_GROUP: Option[int] = Option(
    "nflog-group",
    values.nflog_group,
    metavar="NUMBER",
    repeatable=True,
    number=True,
    help="Read what kiptail-ulogd@NUMBER.service writes about the packets of this NFLOG group. Can be given several"
    " times. What a packet without a log prefix stands for is said in a table [[nflog]] of the configuration file.",
)
ULOGD_UNIT: Option[str] = Option(
    "ulogd-unit",
    values.unit_name,
    metavar="UNIT",
    repeatable=True,
    help="Read what ulogd2 writes to the journal in this unit of your own, such as ulogd2.service. Can be given several"
    " times.",
)
IGNORE: Option[Filter] = Option(
    "ignore",
    filter_of_text,
    metavar="FILTER",
    repeatable=True,
    help="Make no Events of packets for which all of this holds, such as 'src=198.51.100.0/24 port=22', or what is"
    " known as noise: replies, multicast or probes. Can be given several times. The configuration file has tables"
    " [[ignore]] with the same keys: see kiptail.toml(5).",
)
JOURNAL_DIRECTORY: Option[Path] = Option(
    "journal-directory",
    values.path,
    metavar="DIRECTORY",
    peer=Peer("JOURNAL_DIRECTORY"),
    shown_default="this machine's journal",
    help="Follow the journal in this directory.",
)
JOURNAL_FILE: Option[Path] = Option(
    "journal-file",
    values.path,
    metavar="FILE",
    repeatable=True,
    help="Read this journal file in place of the machine's journal; a position stored by an earlier run is"
    " not used. Can be given several times.",
)
SINCE: Option[values.Moment] = Option(
    "since",
    values.moment,
    metavar="TIME",
    shown_default="-10m; with --no-follow: the journal's start",
    help="Where to start in the journal when no earlier run has stored how far it read: now, -10m (ten"
    " minutes ago), @1700000000 (seconds since 1970), or ISO 8601 such as 2026-01-31T12:00:00.",
)
NO_FOLLOW: Option[bool] = Option(
    "no-follow",
    values.boolean,
    switch=True,
    help="Stop at the journal's end instead of waiting for more.",
)
STATE_DIRECTORY: Option[Path] = Option(
    "state-directory",
    values.path,
    metavar="DIRECTORY",
    shown_default="$STATE_DIRECTORY, /var/lib/kiptail",
    help="Where kiptail keeps how far it has read, and which Events are still to be sent.",
)
POD_INDEX: Option[PodIndex] = Option(
    "pod-index",
    values.choice("node", "cluster"),
    metavar="node|cluster",
    default="node",
    help="Which pods to keep in memory. node: this node's; a pod at the other end of a flow is looked up. cluster:"
    " those of all nodes, for clusters of a few hundred nodes at most.",
)
POD_CIDR: Option[values.Network] = Option(
    "pod-cidr",
    values.network,
    metavar="RANGE",
    repeatable=True,
    shown_default="private ranges, and those in which pods and nodes are",
    help="Addresses that pods can have, such as 10.244.0.0/16: an address outside of all ranges given is not"
    " looked up as a pod's. Can be given several times.",
)
PODS: Option[Path] = Option(
    "pods",
    values.path,
    metavar="FILE",
    help="Take the pods from this file, written by `kubectl get pods -A -o json`, and contact no cluster; nodes and"
    " Services in it give names to their addresses. Only with --dry-run, and for `kiptail report`.",
)
OUTPUT: Option[Output] = Option(
    "output",
    values.choice("text", "json"),
    metavar="text|json",
    default="text",
    help="How --dry-run prints Events, and `kiptail check` its findings: as text, or as JSON (one object per line for"
    " Events).",
)
EXPIRE_AFTER: Option[float] = Option(
    "expire-after",
    partial(values.duration, most_s=365 * _DAY_S),
    metavar="DURATION",
    peer=Peer("PACKET_DROP_EXPIRATION_MINUTES", _minutes),
    default="60m",
    shown_default="60m; with --no-follow: nothing is too old",
    help="Ignore packet drops that are older than this when they are read: 30s, 10m, 2h, 7d.",
)
REPEAT_INTERVAL: Option[float] = Option(
    "repeat-interval",
    partial(values.duration, most_s=_DAY_S),
    metavar="DURATION",
    peer=Peer("REPEATED_EVENTS_INTERVAL_MINUTES", _minutes),
    default="2m",
    help="Shortest time between two updates of the same Event while its packets keep being dropped.",
)
GIVE_UP_AFTER: Option[float] = Option(
    "give-up-after",
    partial(values.duration, most_s=30 * _DAY_S),
    metavar="DURATION",
    default="24h",
    shown_default="24h; with --no-follow: never",
    help="Give up an Event that could not be delivered within this time after its flow's last packet, or after the boot"
    " if that was later.",
)
FLOWS_PER_ADDRESS: Option[int] = Option(
    "flows-per-address",
    partial(values.whole_number, least=1, most=1_000),
    metavar="NUMBER",
    number=True,
    default="20",
    help="How many different flows of one address and direction have Events of their own within the budget"
    " window; the packets of further ones are counted in one Event. One sender has at most twenty times as many open"
    " flows.",
)
NEW_ADDRESSES: Option[int] = Option(
    "new-addresses",
    partial(values.whole_number, least=1, most=100_000),
    metavar="NUMBER",
    number=True,
    default="500",
    help="How many senders that have no flow yet may begin one within the budget window: to one address, and twice as"
    " many to all addresses together. Packets of further senders are reported at their other end only.",
)
BUDGET_WINDOW: Option[float] = Option(
    "budget-window",
    partial(values.duration, most_s=_DAY_S),
    metavar="DURATION",
    default="10m",
    help="The time for which --flows-per-address and --new-addresses count.",
)
MAX_FLOWS: Option[int] = Option(
    "max-flows",
    partial(values.whole_number, least=100, most=1_000_000),
    metavar="NUMBER",
    number=True,
    default="20000",
    help="How many flows may be open at a time; beyond that, those that were quiet longest are ended. As many flows"
    " that have ended may wait for the cluster; beyond that, the oldest are given up.",
)
POD_IDENTIFIER: Option[PodIdentifier] = Option(
    "pod-identifier",
    values.choice("name_with_namespace", "namespace", "name", "label", "workload"),
    metavar="name_with_namespace|namespace|name|label|workload",
    peer=Peer("POD_IDENTIFIER"),
    default="name_with_namespace",
    help="How an Event's text names the pod at the other end. workload: by what made it, as team-a/deploy/web.",
)
POD_IDENTIFIER_LABEL: Option[str] = Option(
    "pod-identifier-label",
    values.label_key,
    metavar="KEY",
    peer=Peer("POD_IDENTIFIER_LABEL"),
    help="The label whose value names a pod with --pod-identifier label.",
)
EXPLAIN: Option[Switch] = Option(
    "explain",
    values.choice("on", "off"),
    metavar="on|off",
    default="on",
    help="Whether Events say which NetworkPolicies are in a packet's way. on: the policies of the namespaces of dropped"
    " packets are asked for, as far as the credential may. off: they are not, and no labels of pods are kept.",
)
NODE_EVENTS: Option[bool] = Option(
    "node-events",
    values.boolean,
    switch=True,
    help="Post Events to the Node, too, for drops that concern no pod: at most 20 begin in an hour, each of one log"
    " prefix, port and direction.",
)
EVENT_REASON: Option[str] = Option(
    "event-reason",
    values.event_reason,
    metavar="REASON",
    peer=Peer("KUBE_EVENT_DISPLAY_REASON"),
    default="PacketDrop",
    help="The Events' reason, as `kubectl describe pod` shows it.",
)
EVENT_COMPONENT: Option[str] = Option(
    "event-component",
    values.event_component,
    metavar="NAME",
    peer=Peer("KUBE_EVENT_SOURCE_COMPONENT_NAME"),
    default="kiptail",
    help="Who the Events are from, as `kubectl describe pod` shows it.",
)
METRICS_ADDRESS: Option[tuple[str, int] | None] = Option(
    "metrics-address",
    values.address,
    metavar="HOST:PORT|off",
    peer=Peer("METRICS_SERVER_PORT", _port),
    default="127.0.0.1:9877",
    help="Where Prometheus can fetch metrics, or off.",
)
METRICS_LABELS: Option[MetricsLabels] = Option(
    "metrics-labels",
    values.choice("namespace", "workload"),
    metavar="namespace|workload",
    default="namespace",
    help="By what kiptail_pod_drops_total tells pods apart. workload: also by src_workload and dst_workload, such as"
    " deploy/web, within the same 1,000 label sets.",
)
LOG_DROPS: Option[bool] = Option(
    "log-drops",
    values.boolean,
    switch=True,
    help="Write a log line for each packet drop that counts.",
)
LOG_LEVEL: Option[LogLevel] = Option(
    "log-level",
    values.choice("debug", "info", "warning", "error"),
    metavar="debug|info|warning|error",
    peer=Peer("LOG_LEVEL", _zap_level),
    default="info",
    help="The least important messages to log.",
)
LOG_FORMAT: Option[LogFormat] = Option(
    "log-format",
    values.choice("auto", "text", "json"),
    metavar="auto|text|json",
    default="auto",
    help="How to log. auto: to journald with fields under systemd, else lines of text.",
)
DRY_RUN: Option[bool] = Option(
    "dry-run",
    values.boolean,
    switch=True,
    help="Write nothing to the cluster: print each Event that would be created or updated.",
)

#: In the order in which the help shows them.
OPTIONS: tuple[Option[Any], ...] = (
    CONFIG,
    PREFIX,
    PROFILE,
    NFLOG_GROUP,
    ULOGD_UNIT,
    IGNORE,
    DRY_RUN,
    OUTPUT,
    PODS,
    KUBECONFIG,
    CONTEXT,
    SERVER,
    NODE_NAME,
    JOURNAL_DIRECTORY,
    JOURNAL_FILE,
    SINCE,
    NO_FOLLOW,
    EXPIRE_AFTER,
    REPEAT_INTERVAL,
    GIVE_UP_AFTER,
    FLOWS_PER_ADDRESS,
    NEW_ADDRESSES,
    BUDGET_WINDOW,
    MAX_FLOWS,
    POD_INDEX,
    POD_CIDR,
    POD_IDENTIFIER,
    POD_IDENTIFIER_LABEL,
    EXPLAIN,
    NODE_EVENTS,
    EVENT_REASON,
    EVENT_COMPONENT,
    STATE_DIRECTORY,
    METRICS_ADDRESS,
    METRICS_LABELS,
    LOG_DROPS,
    LOG_LEVEL,
    LOG_FORMAT,
)
