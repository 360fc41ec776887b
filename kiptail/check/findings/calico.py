"""Findings about Calico's data planes, one of which writes nothing into the kernel log (pure)."""

from __future__ import annotations

from collections.abc import Iterator

from kiptail.check.facts import CalicoFacts, Finding, Level, RuleFacts
from kiptail.text import plural

__all__ = ["calico_findings"]


def calico_findings(calico: CalicoFacts, rules: RuleFacts) -> Iterator[Finding]:
    """A warning where pods have Calico's interfaces, and no rule that was read is for any of them.

    With its iptables and nftables data planes each pod has chains of its own. Felix writes a few chains in eBPF mode
    too, so those for single pods are what tells the two apart.
    """
    if not calico.interfaces or rules.calico_chains or not rules.read or rules.refusals:
        return
    has = "has" if calico.interfaces == 1 else "have"
    text = f"{plural(calico.interfaces, 'interface')} of Calico's {has} no chains in iptables or nftables"
    if calico.bpf_maps:
        text += ", and maps of its eBPF data plane are there: that one logs into its own trace and not the kernel log"
        remedy = "what it drops is not seen here; Calico's iptables or nftables data plane has rules that log"
    else:
        text += ": its eBPF data plane, which logs nothing into the kernel log, may be in use; or calico-node is down"
        remedy = "look with `kubectl get felixconfigurations.projectcalico.org default -o yaml` for bpfEnabled"
    yield Finding("rules", Level.WARNING, text, remedy)
