"""The least rule that would admit a connection, tried out by evaluating it (pure).

A rule is added to a policy that isolates just the workload in question, else it gets a policy of its own. What it would
open or isolate beyond that, because labels do not tell pods apart, is named.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import ip_network
from typing import Any

from kiptail.policies.ends import Connection, End, Pod, shown
from kiptail.policies.evaluate import Case, Direction, Verdict, passes, verdicts
from kiptail.policies.manifest import Json, new_manifest, with_rule
from kiptail.policies.misses import port_text
from kiptail.policies.opened import Addition, opened
from kiptail.policies.policy import METADATA_NAME, Block, Peer, Policy, Port, Rule
from kiptail.policies.selector import Requirement, Selector, listed
from kiptail.policies.workload import Identity, identify, same_workload, short_name
from kiptail.text import one_line

__all__ = ["Suggestion", "suggest"]

_MOST_NAME = 200
_MOST_COMMENT = 500


@dataclass(frozen=True, slots=True)
class Suggestion:
    """What to apply."""

    #: In the order of the connection's ends.
    manifests: list[Json] = field(default_factory=list)
    #: For each of them what it does, a line for each end.
    comments: list[list[str]] = field(default_factory=list)
    #: What it opens beyond the connection.
    notes: list[str] = field(default_factory=list)


def suggest(case: Case, pods: Iterable[Pod], originals: Mapping[str, Mapping[str, Any]]) -> Suggestion:
    """What would admit a connection that is denied.

    ``pods`` are all that are known of the ends' namespaces; ``originals`` the objects of the policies, by
    ``NAMESPACE/NAME``.
    """
    draft = _Draft(case, pods, originals)
    for verdict in verdicts(case):
        if verdict.allowed:
            continue
        rule = draft.rule(verdict.direction)
        if rule is None:
            return Suggestion(
                notes=["no rule is suggested: the peer has no address, and is no pod that one can select"]
            )
        draft.add(verdict, rule)
    if not passes(Case(case.connection, draft.rules, case.family)):
        return Suggestion(notes=["no rule is suggested: none was found that admits the connection when it is tried"])
    return draft.finished()


class _Draft:
    """The rules that are added, one for each end that lacks one."""

    def __init__(self, case: Case, pods: Iterable[Pod], originals: Mapping[str, Mapping[str, Any]]) -> None:
        self._case = case
        #: Those that a rule can select.
        self._pods = [pod for pod in pods if not pod.finished and not pod.host_network]
        self._manifests = dict(originals)
        self._added: list[Addition] = []
        #: What each policy that was added or changed is for.
        self._comments: dict[str, list[str]] = {}
        self._notes: list[str] = []
        #: With what was added so far.
        self.rules = case.rules

    def rule(self, direction: Direction) -> Rule | None:
        """What admits just this connection at one end; None where nothing can name the peer."""
        connection, peer = self._case.connection, self._case.peer(direction)
        ports = () if connection.protocol is None else (Port(connection.protocol, connection.port),)
        if isinstance(peer, Pod) and not peer.host_network:
            selector = self._identity(peer).selector
            own = connection.source if direction == "egress" else connection.destination
            near = isinstance(own, Pod) and own.namespace == peer.namespace
            by_name = Selector((Requirement(METADATA_NAME, "In", (peer.namespace,)),))
            return Rule((Peer(selector, None if near else by_name),), ports)
        address = self._case.address(direction)
        return None if address is None else Rule((Peer(block=Block(ip_network(address))),), ports)

    def add(self, verdict: Verdict, rule: Rule) -> None:
        """Put the rule into a policy that is there and fits, else into a new one."""
        direction, pod = verdict.direction, verdict.pod
        peer = self._case.peer(direction)
        opens = _opens(pod, direction, peer, rule, self._case.connection)
        policy = self._fitting(verdict)
        if policy is not None:
            number = len(policy.rules(direction) or ())
            grown = _grown(policy, rule, direction)
            manifest = with_rule(self._manifests[policy.ref], rule, direction)
            comment = f"Adds {direction} rule {number} to NetworkPolicy {policy.ref}: {opens}"
        else:
            grown = _grown(self._new_policy(pod, direction), rule, direction)
            manifest = new_manifest(grown, direction)
            comment = opens[0].upper() + opens[1:]
        self._comments.setdefault(grown.ref, []).append(one_line(comment, _MOST_COMMENT))
        self._manifests[grown.ref] = manifest
        self._added.append(Addition(direction, grown, rule.peers[0], pod, peer))
        self.rules = self.rules.with_policies([grown])

    def finished(self) -> Suggestion:
        """All of it; where both ends' rules are in one policy, its manifest has both."""
        return Suggestion(
            manifests=[dict(self._manifests[ref]) for ref in self._comments],
            comments=list(self._comments.values()),
            notes=[*self._notes, *opened(self._added, self._case, self.rules, self._pods)],
        )

    def _identity(self, pod: Pod, more: Iterable[Pod] = ()) -> Identity:
        """What selects the pod's workload, and also none of ``more``, if that can be."""
        others = {each.ref: each for each in self._neighbours(pod) if not same_workload(each, pod)}
        return identify(pod, (others | {each.ref: each for each in more}).values())

    def _neighbours(self, pod: Pod) -> Sequence[Pod]:
        return [each for each in self._pods if each.namespace == pod.namespace]

    def _fitting(self, verdict: Verdict) -> Policy | None:
        """The first of the isolating policies that selects pods of this workload and no others."""
        neighbours = self._neighbours(verdict.pod)
        for policy in self.rules.isolating(verdict.pod, verdict.direction):
            selected = (each for each in neighbours if policy.selects.matches(each.labels))
            alone = all(same_workload(each, verdict.pod) for each in selected)
            if alone and policy.selects.requirements and policy.ref in self._manifests:
                return policy
        return None

    def _new_policy(self, pod: Pod, direction: Direction) -> Policy:
        """One for the pod's workload, without rules."""
        # A pod that no policy selects yet would be isolated by it.
        unselected = [each for each in self._neighbours(pod) if not self.rules.isolating(each, direction)]
        identity = self._identity(pod, unselected)
        if isolated := [each.ref for each in identity.also if not self.rules.isolating(each, direction)]:
            self._notes.append(
                f"the new policy isolates {listed(isolated)} for {direction} as well, which none does now: labels do"
                " not tell them apart"
            )
        if not identity.selector.requirements:
            self._notes.append(f"{pod.ref} has no label that lasts: the new policy is for every pod of {pod.namespace}")
        taken = {policy.name for policy in self.rules.policies(pod.namespace)}
        name = _name(pod, direction, self._case, taken)
        return Policy(pod.namespace, name, identity.selector, ingress=None, egress=None)


def _grown(policy: Policy, rule: Rule, direction: Direction) -> Policy:
    grown = (*(policy.rules(direction) or ()), rule)
    return replace(policy, ingress=grown) if direction == "ingress" else replace(policy, egress=grown)


def _opens(pod: Pod, direction: Direction, peer: End, rule: Rule, connection: Connection) -> str:
    """What a rule opens, in words."""
    what = port_text(connection) or "everything (a rule cannot admit ICMP alone)"
    if isinstance(peer, Pod) and not peer.host_network:
        requirements = (rule.peers[0].pods or Selector()).requirements
        labels = " and ".join(requirement.wanted() for requirement in requirements)
        who = f"pods of {peer.namespace} with {labels}" if labels else f"every pod of {peer.namespace}"
    else:
        who = " or ".join(shown(each.block.network.network_address) for each in rule.peers if each.block)
    if direction == "egress":
        return f"opens {what} from {short_name(pod)} to {who}"
    return f"opens {what} to {short_name(pod)} from {who}"


def _name(pod: Pod, direction: Direction, case: Case, taken: set[str]) -> str:
    """A name for a new policy that none has: ``web-from-client-8080``."""
    peer, connection = case.peer(direction), case.connection
    who = short_name(peer) if isinstance(peer, Pod) else shown(peer.address)
    parts = [short_name(pod), "to" if direction == "egress" else "from", who]
    if connection.protocol is not None:
        parts.append(str(connection.port))
        parts += [connection.protocol.lower()] * (connection.protocol != "TCP")
    text = re.sub("[^a-z0-9]+", "-", "-".join(parts).lower())[:_MOST_NAME].strip("-") or "allow"
    names = itertools.chain([text], (f"{text}-{number}" for number in itertools.count(2)))
    return next(name for name in names if name not in taken)
