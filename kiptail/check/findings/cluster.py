"""Findings about the cluster (pure): kubeconfig, server, credential, clocks, rights, this node's pods."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from kiptail.check.facts import Answer, ClusterFacts, Finding, Level, Life, Need
from kiptail.clock.dates import minute
from kiptail.credentials.identity import Identity, grant_remedy
from kiptail.kube.rights import what_grants
from kiptail.text import ago, plural, span

__all__ = ["cluster_findings"]

#: A credential that ends sooner is worth a word, in seconds.
_SOON = 86_400.0
#: Clocks that differ by more make Events look old or new, and certificates not valid yet, in seconds …
_SKEWED = 30.0
#: … and by more than this, Events have wrong times.
_WRONG = 300.0

_MAKE = "`kiptail kubeconfig` writes one, run with an administrator's kubeconfig"
_RENEW = "renew it: `kiptail kubeconfig`, run with an administrator's kubeconfig, writes another"
#: A kubelet's credential is the kubelet's to renew; ``kiptail kubeconfig`` makes none of that kind.
_RENEW_KUBELET = (
    "name the certificate that the kubelet renews in the kubeconfig (kubeadm:"
    " /var/lib/kubelet/pki/kubelet-client-current.pem); if it is there already, `journalctl -u kubelet` says why it is"
    " not renewed"
)
_AGAIN = "run `kiptail check` again; if it stays, see the API server's log"
_ENDS = {
    "untrusted": "check the API server's certificate and the CA in the kubeconfig",
    "unreachable": "check the address, firewalls and the proxy; --server overrides the kubeconfig's address",
    "refused": "the API server's log may say more",
}


def cluster_findings(facts: ClusterFacts, *, now: float) -> Iterator[Finding]:
    """One line each. ``now`` is in seconds since the epoch."""
    if not facts.kubeconfig:
        yield Finding("kubeconfig", Level.PROBLEM, "no kubeconfig is configured", f"{_MAKE}; see --kubeconfig")
        return
    if facts.refusal:
        yield Finding("kubeconfig", Level.PROBLEM, facts.refusal, facts.refusal_remedy or _MAKE)
        return
    yield Finding("kubeconfig", Level.OK, f"{facts.kubeconfig} can be used")
    if not facts.verified:
        yield Finding(
            "server",
            Level.WARNING,
            f"insecure-skip-tls-verify: anybody between here and {facts.server} can read the credential",
            "put certificate-authority-data into the kubeconfig instead",
        )
    if facts.life is not None:
        yield _life(facts.life, now, _renewal(facts.identity))
    answer = facts.answer
    if answer is None:
        return
    if answer.kind != "ok":
        remedy = answer.remedy or _ENDS.get(answer.kind, "")
        if answer.kind == "unauthorized":
            remedy = _renewal(facts.identity)
        if facts.life is not None and facts.life.ends is not None and facts.life.ends <= now:
            if answer.kind == "unauthorized":
                return  # which is said already
            remedy = "renew the credential, then run `kiptail check` again"
        yield Finding("server", Level.PROBLEM, f"{facts.server}: {answer.text}", remedy)
        return
    user = f", as {facts.identity.user}" if facts.identity.user else ""
    yield Finding("server", Level.OK, f"{facts.server} answers{user} ({answer.text})")
    yield _clock(answer)
    yield from _rights(facts)
    yield from _node(facts)


def _renewal(identity: Identity) -> str:
    return _RENEW_KUBELET if identity.node else _RENEW


def _life(life: Life, now: float, renewal: str) -> Finding:
    topic = "credential"
    if life.begins is not None and life.begins > now + _SKEWED:
        text = f"the {life.kind} is not valid before {minute(life.begins)}, {ago(life.begins, now)}"
        return Finding(topic, Level.PROBLEM, text, "set this host's clock right (timedatectl), or renew the credential")
    if life.ends is None:
        return Finding(topic, Level.OK, f"the {life.kind} does not say when it expires")
    if life.ends <= now:
        text = f"the {life.kind} expired {ago(life.ends, now)}, {minute(life.ends)}"
        return Finding(topic, Level.PROBLEM, text, renewal)
    text = f"the {life.kind} expires {ago(life.ends, now)}, {minute(life.ends)}"
    if life.ends - now < _SOON and life.kind != "token":
        return Finding(topic, Level.WARNING, text, renewal)
    return Finding(topic, Level.OK, text)


def _clock(answer: Answer) -> Finding:
    topic = "clock"
    if answer.skew is None:
        return Finding(topic, Level.OK, "the API server's answer has no date, so the clocks were not compared")
    beyond = max(0.0, abs(answer.skew) - answer.margin)
    if beyond <= _SKEWED:
        return Finding(topic, Level.OK, f"this host's clock and the API server's agree within {span(_SKEWED)}")
    direction = "behind" if answer.skew > 0 else "ahead of"
    text = f"this host's clock is {span(answer.skew)} {direction} the API server's"
    level = Level.PROBLEM if beyond > _WRONG else Level.WARNING
    remedy = "set this host's clock: `timedatectl set-ntp true`; if that is on, check its NTP server"
    return Finding(topic, level, text, remedy)


def _rights(facts: ClusterFacts) -> Iterator[Finding]:
    topic = "rights"
    granted = [need for need in facts.needs if need.allowed]
    unknown = [need for need in facts.needs if need.allowed is None and not need.trouble]
    unanswered = [need for need in facts.needs if need.allowed is None and need.trouble]
    if granted:
        yield Finding(topic, Level.OK, f"may {_names(granted)}")
    if unknown:
        text = f"may not ask whether it may {_names(unknown)}"
        remedy = "let it create selfsubjectaccessreviews, as the ClusterRole system:basic-user does"
        yield Finding(topic, Level.WARNING, text, remedy)
    if unanswered:
        text = f"no answer to whether it may {_names(unanswered)}: {unanswered[0].trouble}"
        yield Finding(topic, Level.WARNING, text, _AGAIN)
    for need in facts.needs:
        if need.allowed is False and not _is_of_another_node(facts, need):
            right = need.wanted.right
            level = Level.WARNING if right.optional else Level.PROBLEM
            text = f"may not {right.name}, {right.without}"
            yield Finding(topic, level, text, what_grants(facts.identity, need.wanted))


def _names(needs: Iterable[Need]) -> str:
    return ", ".join(need.wanted.right.name for need in needs)


def _is_of_another_node(facts: ClusterFacts, need: Need) -> bool:
    """Whether the node's name is what is wrong: :func:`_node` says that, once for all such rights."""
    return bool(facts.identity.node) and need.wanted.node not in (None, facts.identity.node)


def _node(facts: ClusterFacts) -> Iterator[Finding]:
    topic, own = "node", facts.identity.node
    if own and own != facts.node_name:
        needs = [need for need in facts.needs if need.allowed is False and _is_of_another_node(facts, need)]
        text = f"the node is called {facts.node_name} here, and the credential is that of {own}'s kubelet"
        if needs:
            verbs = " or ".join(need.wanted.right.verb for need in needs)
            text += f", which may not {verbs} the pods of {facts.node_name}"
            yield Finding(topic, Level.PROBLEM, text, _grant_node(facts))
        else:
            level = Level.WARNING if facts.node_pods else Level.PROBLEM
            yield Finding(topic, level, text, f"use {own} (--node-name {own}), if that is this machine")
    elif facts.node_pods is None:
        if facts.node_forbidden and any(need.allowed is False and _lists_pods(need) for need in facts.needs):
            return  # which is said already
        text = f"the pods of node {facts.node_name} could not be listed: {facts.node_trouble}"
        yield Finding(topic, Level.WARNING, text, _grant_node(facts) if facts.node_forbidden else _AGAIN)
    elif facts.node_pods == 0:
        yield Finding(
            topic,
            Level.PROBLEM,
            f"no pod runs on a node named {facts.node_name}",
            "if `kubectl get nodes` shows this machine under another name, set --node-name",
        )
    else:
        verb = "runs" if facts.node_pods == 1 else "run"
        yield Finding(topic, Level.OK, f"{plural(facts.node_pods, 'pod')} {verb} on node {facts.node_name}")


def _lists_pods(need: Need) -> bool:
    right = need.wanted.right
    return (right.verb, right.resource) == ("list", "pods")


def _grant_node(facts: ClusterFacts) -> str:
    return grant_remedy(facts.identity, "list", "pods", node=facts.node_name)
