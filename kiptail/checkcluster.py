"""Findings about the cluster (pure): kubeconfig, server, credential, clocks, rights, this node's pods."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from kiptail.checkfacts import Answer, ClusterFacts, Finding, Level, Life, ago, span

__all__ = ["cluster_findings"]

#: A credential that ends sooner is worth a word, in seconds.
_SOON = 86_400.0
#: Clocks that differ by more make Events look old or new, and certificates not valid yet, in seconds …
_SKEWED = 30.0
#: … and by more than this, drops are told at wrong times.
_WRONG = 300.0

_ENDS = {
    "untrusted": ("put the cluster's CA into the kubeconfig, or use the name that is in the server's certificate"),
    "unauthorized": "renew the token or certificate: `kiptail kubeconfig`, run with an administrator's kubeconfig",
    "unreachable": "see to address, firewall and proxy; the kubeconfig's server can be overridden with --server",
    "refused": "see the API server's message",
}


def cluster_findings(facts: ClusterFacts, *, now: float) -> Iterator[Finding]:
    """One line each. ``now`` is in seconds since the epoch."""
    if facts.refusal or not facts.kubeconfig:
        text = facts.refusal or "no kubeconfig is configured"
        remedy = "`kiptail kubeconfig` writes one, run with an administrator's kubeconfig; see --kubeconfig"
        yield Finding("kubeconfig", Level.PROBLEM, text, remedy)
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
        yield _life(facts.life, now)
    answer = facts.answer
    if answer is None:
        return
    if answer.kind != "ok":
        remedy = _ENDS.get(answer.kind, "")
        if facts.life is not None and facts.life.ends is not None and facts.life.ends <= now:
            if answer.kind == "unauthorized":
                return  # which is said already
            remedy = "renew the credential, then look again"
        yield Finding("server", Level.PROBLEM, f"{facts.server}: {answer.text}", remedy)
        return
    user = f", as {facts.user}" if facts.user else ""
    yield Finding("server", Level.OK, f"{facts.server} answers{user} ({answer.text})")
    yield _clock(answer)
    yield from _rights(facts)
    yield _node(facts)


def _life(life: Life, now: float) -> Finding:
    topic, renew = (
        "credential",
        "renew it: `kiptail kubeconfig`, run with an administrator's kubeconfig, writes another",
    )
    if life.begins is not None and life.begins > now + _SKEWED:
        text = f"the {life.kind} is not valid before {_moment(life.begins)}, {ago(life.begins, now)}"
        return Finding(topic, Level.PROBLEM, text, "set this host's clock right (timedatectl), or renew the credential")
    if life.ends is None:
        return Finding(topic, Level.OK, f"the {life.kind} does not say when it expires")
    if life.ends <= now:
        text = f"the {life.kind} expired {ago(life.ends, now)}, {_moment(life.ends)}"
        return Finding(topic, Level.PROBLEM, text, renew)
    text = f"the {life.kind} expires {ago(life.ends, now)}, {_moment(life.ends)}"
    if life.ends - now < _SOON and life.kind != "token":
        return Finding(topic, Level.WARNING, text, renew)
    return Finding(topic, Level.OK, text)


def _clock(answer: Answer) -> Finding:
    topic = "clock"
    if answer.skew is None:
        return Finding(topic, Level.OK, "the API server does not tell its time")
    beyond = max(0.0, abs(answer.skew) - answer.margin)
    if beyond <= _SKEWED:
        return Finding(topic, Level.OK, f"this host's clock and the API server's agree within {_SKEWED:.0f} s")
    direction = "behind" if answer.skew > 0 else "ahead of"
    text = f"this host's clock is {span(answer.skew)} {direction} the API server's"
    level = Level.PROBLEM if beyond > _WRONG else Level.WARNING
    return Finding(topic, level, text, "set the clock: `timedatectl set-ntp true`, or see to the NTP server")


def _rights(facts: ClusterFacts) -> Iterator[Finding]:
    topic = "rights"
    granted = [need.right for need in facts.needs if need.allowed]
    unknown = [need.right for need in facts.needs if need.allowed is None]
    if granted:
        yield Finding(topic, Level.OK, f"may {', '.join(granted)}")
    if unknown:
        text = f"may not ask whether it may {', '.join(unknown)}"
        yield Finding(topic, Level.WARNING, text, "let it create selfsubjectaccessreviews (system:basic-user does)")
    for need in facts.needs:
        if need.allowed is False:
            remedy = "`kiptail manifests | kubectl apply -f -` grants it"
            level = Level.WARNING if need.optional else Level.PROBLEM
            yield Finding(topic, level, f"may not {need.right}, {need.purpose}", remedy)


def _node(facts: ClusterFacts) -> Finding:
    topic = "node"
    if facts.node_pods is None:
        text = f"the pods of node {facts.node_name} could not be listed: {facts.node_trouble or 'no right to'}"
        return Finding(topic, Level.WARNING, text, "grant the right to list pods, then look again")
    if facts.node_pods == 0:
        return Finding(
            topic,
            Level.PROBLEM,
            f"no pod runs on a node named {facts.node_name}",
            "if `kubectl get nodes` shows this machine under another name, set --node-name",
        )
    pods = "1 pod runs" if facts.node_pods == 1 else f"{facts.node_pods} pods run"
    return Finding(topic, Level.OK, f"{pods} on node {facts.node_name}")


def _moment(seconds: float) -> str:
    # A certificate may say 9999; a token may say anything.
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")
    except (ValueError, OverflowError, OSError):
        return "at no time that a calendar has"
