"""What ``kiptail check`` has found out, and what it says of it (pure): facts as values, findings as lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from kiptail.check.firewall.log_rules import LogRule
from kiptail.config.profile import Profile
from kiptail.credentials.identity import NOBODY, Identity
from kiptail.kube.rights import Wanted
from kiptail.netfilter.prefixes import PrefixRule, Verdict

__all__ = [
    "NEEDS_ROOT",
    "NOT_INSTALLED",
    "Answer",
    "CalicoFacts",
    "ClusterFacts",
    "FilterFacts",
    "FilterTried",
    "Finding",
    "HostFacts",
    "JournalFacts",
    "Level",
    "Life",
    "Need",
    "NflogFacts",
    "RuleFacts",
    "StateFacts",
]

#: Why a firewall's rules could not be read, where that says what to do.
NEEDS_ROOT, NOT_INSTALLED = "needs root", "not installed"


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    #: kiptail works; somebody should know.
    WARNING = "warning"
    #: kiptail does not do its work until this is mended.
    PROBLEM = "problem"


class Finding(NamedTuple):
    """One line of the screen."""

    topic: str
    level: Level
    text: str
    #: What to do; "" where there is nothing.
    remedy: str = ""


class Life(NamedTuple):
    """From when until when a credential is good, in seconds since the epoch; None: not said."""

    #: ``token`` or ``client certificate``.
    kind: str
    begins: float | None
    ends: float | None


@dataclass(frozen=True, slots=True)
class JournalFacts:
    """What the journal holds."""

    #: As an error names it.
    source: str
    #: Why it cannot be read, and what to do; "" when it can.
    refusal: str = ""
    persistent: bool = False
    runtime: bool = False
    #: When the kernel's last line was received; None when there is none.
    last_kernel_at: float | None = None
    #: Trusted netfilter lines of the last hour (of the last day for `kiptail setup`) by the text before their ``IN=``.
    prefixes: Mapping[str, int] = field(default_factory=dict)
    #: Lines of that hour with a configured prefix that are not counted, by the reason.
    uncounted: Mapping[str, int] = field(default_factory=dict)
    #: Kernel messages of that hour that journald missed.
    missed: int = 0
    #: The hour holds more than was read.
    incomplete: bool = False
    #: The effective settings of journald.conf(5).
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RuleFacts:
    """What the firewall's rules say."""

    rules: tuple[LogRule, ...] = ()
    #: The tools whose rules were read.
    read: tuple[str, ...] = ()
    #: Why others were not, by tool.
    refusals: Mapping[str, str] = field(default_factory=dict)
    #: Calico's policies for single pods are among them.
    calico_chains: bool = False


class NflogFacts(NamedTuple):
    """A unit that runs ulogd2, of those that are configured."""

    unit: str
    #: ``NFLOG group 100``.
    name: str
    #: None where only the unit's own configuration says it.
    group: int | None = None
    #: What packets without a prefix are configured to stand for; None: they do not count.
    verdict: Verdict | None = None
    #: systemd's ActiveState; "" when not known.
    state: str = ""
    #: ulogd2 is there.
    installed: bool = True
    #: The program that listens to the group; "" where that is nobody, or not known.
    listener: str = ""
    #: Lines of the last hour, and those of them that do not count.
    counted: int = 0
    uncounted: int = 0
    #: Times that ulogd2 lost packets, and lines that journald left out.
    overruns: int = 0
    suppressed: int = 0


class FilterTried(NamedTuple):
    """A configured filter, and for how many packets it holds."""

    text: str
    packets: int


class FilterFacts(NamedTuple):
    """Filters, and the packets of the last day that they were tried on."""

    #: Those that log lines can decide.
    tried: tuple[FilterTried, ...]
    packets: int = 0
    #: How many others there are.
    untried: int = 0
    #: There were more packets.
    incomplete: bool = False


class CalicoFacts(NamedTuple):
    """What Calico leaves on a node, of either data plane."""

    #: Interfaces of pods that have its name for them.
    interfaces: int = 0
    #: Maps of its eBPF programs are there.
    bpf_maps: bool = False


_NO_CALICO = CalicoFacts()


@dataclass(frozen=True, slots=True)
class StateFacts:
    """The state directory."""

    path: str
    #: It is there, and may be looked into.
    exists: bool = False
    #: Why it cannot be used; "" when nothing is known against it.
    refusal: str = ""
    #: This user may not look into it.
    hidden: bool = False
    #: A running kiptail holds its lock.
    in_use: bool = False
    #: Bytes that are free in its file system (or where it will be made); None when not known.
    free: int | None = None


@dataclass(frozen=True, slots=True)
class HostFacts:
    """All but the cluster."""

    #: Configured prefixes with their verdicts, those of the profiles included.
    prefixes: tuple[PrefixRule, ...]
    journal: JournalFacts
    rules: RuleFacts
    state: StateFacts
    calico: CalicoFacts = _NO_CALICO
    #: None where no filter is configured.
    filters: FilterFacts | None = None
    #: Configured units of ulogd2.
    nflog: tuple[NflogFacts, ...] = ()
    #: Configured profiles.
    profiles: tuple[Profile, ...] = ()
    #: Of every profile that there is, by its name, its prefixes.
    known_profiles: Mapping[str, Sequence[PrefixRule]] = field(default_factory=dict)
    #: net.netfilter.nf_log_all_netns; None where there is no such setting.
    all_netns: bool | None = None
    #: The console's level, of kernel.printk; None when not known.
    console_level: int | None = None
    versions: Mapping[str, str] = field(default_factory=dict)


class Need(NamedTuple):
    """A right that kiptail needs, and whether it has it."""

    wanted: Wanted
    #: None: that could not be found out.
    allowed: bool | None
    #: Why it could not be found out; "" where the server does not let this user ask.
    trouble: str = ""


class Answer(NamedTuple):
    """How the API server answered at all."""

    #: ``ok``, ``untrusted``, ``unauthorized``, ``unreachable`` or ``refused``.
    kind: str
    #: The error's text, or the server's version.
    text: str = ""
    #: Its clock less this host's, in seconds, and how far that can be wrong; None when it did not say.
    skew: float | None = None
    margin: float = 0.0
    #: What to do, where the error itself knows.
    remedy: str = ""


# More than 12 attributes: one for each thing that a finding is made of, or for why it is not known.
@dataclass(frozen=True, slots=True)
class ClusterFacts:
    """The cluster."""

    #: "" when none is configured.
    kubeconfig: str = ""
    #: Why the kubeconfig cannot be used; "" when it can.
    refusal: str = ""
    #: What to do about that, where the error knows.
    refusal_remedy: str = ""
    server: str = ""
    #: Whom the server takes this for; while it has not said, whom the credential says.
    identity: Identity = NOBODY
    verified: bool = True
    life: Life | None = None
    #: None when it was not asked.
    answer: Answer | None = None
    needs: tuple[Need, ...] = ()
    node_name: str = ""
    #: Pods on a node of this name; None when it could not be found out.
    node_pods: int | None = None
    #: Why not, and whether that was for want of the right.
    node_trouble: str = ""
    node_forbidden: bool = False
