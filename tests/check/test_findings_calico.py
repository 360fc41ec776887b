"""Where Calico's data plane can log, and where it cannot."""

from __future__ import annotations

import pytest

from kiptail.check.facts import CalicoFacts, Level, RuleFacts
from kiptail.check.findings.calico import calico_findings

READ = RuleFacts((), ("iptables", "nft"))


def test_interfaces_without_chains_and_with_maps_are_its_ebpf_data_plane() -> None:
    (finding,) = calico_findings(CalicoFacts(3, bpf_maps=True), READ)
    assert finding.level is Level.WARNING
    assert finding.text.startswith(
        "3 interfaces of Calico's have no chains in iptables or nftables, and maps of its eBPF"
    )


def test_without_maps_it_may_be_something_else() -> None:
    (finding,) = calico_findings(CalicoFacts(1), READ)
    assert "1 interface of Calico's has no chains" in finding.text
    assert "may be in use; or calico-node is down" in finding.text
    assert "bpfEnabled" in finding.remedy


@pytest.mark.parametrize(
    ("calico", "rules"),
    [
        pytest.param(CalicoFacts(), READ, id="no Calico"),
        pytest.param(CalicoFacts(0, bpf_maps=True), READ, id="maps that were left behind"),
        pytest.param(CalicoFacts(2), RuleFacts((), ("nft",), {}, True), id="chains"),
        pytest.param(CalicoFacts(2), RuleFacts((), ("nft",), {"iptables": "needs root"}), id="not all rules were read"),
        pytest.param(CalicoFacts(2), RuleFacts(), id="no rules were read"),
    ],
)
def test_nothing_is_said_of_what_is_not_known(calico: CalicoFacts, rules: RuleFacts) -> None:
    assert list(calico_findings(calico, rules)) == []
