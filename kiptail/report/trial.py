"""Which flows other NetworkPolicies would admit: a dry run of a change, by what was recorded (pure)."""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

from kiptail.addresses import canonical
from kiptail.policies.cluster import Objects, other_policies
from kiptail.policies.denial import deny, namespaces_that_matter
from kiptail.policies.ends import Connection, End, Outside, Pod
from kiptail.policies.policy import PROTOCOLS, Network
from kiptail.report import ends
from kiptail.report.tally import Flow, FlowId
from kiptail.text import plural

__all__ = ["Outcome", "Trial", "in_words", "sentence"]

#: Of ICMP, only these begin anything that policies look at.
_ECHO_REQUESTS = (("ICMP", 8), ("ICMPv6", 128))
#: Addresses this near to a pod's may have been another pod's.
_NEAR = {4: 24, 6: 64}


class Outcome(NamedTuple):
    """What would become of a flow."""

    verdict: Literal["admitted", "denied", "unknown"]
    #: Which policies are in its way, or why nobody can say; "" where it is admitted.
    why: str = ""


class _Unknown(Exception):
    """It cannot be said, and why."""


@dataclass(slots=True)
class Trial:
    """Asks policies, pods and namespaces, as they were given, about flows."""

    objects: Objects
    #: Addresses that pods can have, as far as they are configured.
    pod_cidrs: Iterable[Network] = ()
    _near: set[Network] = field(default_factory=set)

    def __post_init__(self) -> None:
        for pod in self.objects.pods.values():
            for address in () if pod.host_network else pod.addresses:
                self._near.add(ipaddress.ip_network((address, _NEAR[address.version]), strict=False))

    def outcomes(self, flows: Iterable[FlowId]) -> Mapping[FlowId, Outcome]:
        """Of each flow."""
        rules = self.objects.rules()
        found = {}
        for flow in flows:
            try:
                connection = self._connection(flow)
                unknown = namespaces_that_matter(connection, rules) - self.objects.namespaces.keys()
                if unknown:
                    raise _Unknown(f"the labels of namespace {min(unknown)} are not known")
                denial = deny(connection, rules)
            except _Unknown as error:
                found[flow] = Outcome("unknown", str(error))
                continue
            names = dict.fromkeys(f"{policy.namespace}/{policy.name}" for policy in (*denial.egress, *denial.ingress))
            found[flow] = Outcome("denied", ", ".join(names)) if names else Outcome("admitted")
        return found

    def remarks(self) -> list[str]:
        """What the answers hang on, in words."""
        said = self.objects.refusals()
        if not self.objects.policies:
            said.append("no NetworkPolicy is in the files of --policies: nothing is isolated")
        if others := other_policies(self.objects.other_groups):
            said.append(f"policies of other kinds are not looked at, and may count as well: {', '.join(others)}")
        return said

    def _connection(self, one: FlowId) -> Connection:
        if one.reply:
            raise _Unknown("replies: policies are about connections")
        if one.icmp_type is not None and (one.protocol, one.icmp_type) not in _ECHO_REQUESTS:
            raise _Unknown("ICMP messages that begin nothing: policies are about connections")
        source, destination = self._end(one.src), self._end(one.dst)
        if isinstance(source, Outside) and isinstance(destination, Outside):
            raise _Unknown("neither end is a pod: no NetworkPolicy has a say")
        if one.port is None or one.protocol not in PROTOCOLS:
            return Connection(source, destination)
        return Connection(source, destination, one.protocol, one.port)

    def _end(self, end: ends.End) -> End:
        text = canonical(end.address)
        if not text or (not end.pod and (end.namespace or " or " in end.name)):
            raise _Unknown("one of several pods or addresses is at an end")
        address = ipaddress.ip_address(text)
        if end.pod:
            pod: Pod | None = self.objects.pods.get(f"{end.namespace}/{end.pod}")
            if pod is None:
                raise _Unknown("a pod's labels are not known: it is not among the pods that are there")
            # The connection was over this address, whatever others the pod has by now.
            return replace(pod, addresses=(address,))
        if end.name.startswith("service "):
            raise _Unknown("a Service's address is at an end: policies see the pod behind it")
        if not end.name and self._is_near(address):
            raise _Unknown("an address of the pods' range is no known pod's: whose it was is not known")
        return Outside(address)

    def _is_near(self, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
        if ipaddress.ip_network((address, _NEAR[address.version]), strict=False) in self._near:
            return True
        return any(address in network for network in self.pod_cidrs)


def sentence(flows: Iterable[Flow], trial: Mapping[FlowId, Outcome]) -> str:
    """What would become of all flows, added up."""
    packets, number = Counter[str](), Counter[str]()
    for flow in flows:
        verdict = trial[flow.id].verdict
        packets[verdict] += flow.count
        number[verdict] += 1
    admitted, denied, unknown = (
        f"{plural(packets[verdict], 'packet')} in {plural(number[verdict], 'flow')}"
        for verdict in ("admitted", "denied", "unknown")
    )
    return f"with these policies: {admitted} would be admitted, {denied} still denied; of {unknown} it cannot be said"


def in_words(outcome: Outcome) -> str:
    """``admitted``, ``denied by team-a/deny``, ``unknown: …``."""
    match outcome.verdict:
        case "denied":
            return f"denied by {outcome.why}"
        case "unknown":
            return f"unknown: {outcome.why}"
    return outcome.verdict
