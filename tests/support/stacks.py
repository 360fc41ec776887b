"""The rules that kube-router and k3s write for a pod's network policies, as iptables-save prints them.

From their sources, kube-router v2.5 pkg/controllers/netpol (pod.go, policy.go) and k3s' fork of it: a mark says that a
policy allows the packet. Policies' sets of addresses are left out, as ipset is not everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

__all__ = ["kube_router"]

_POD = "KUBE-POD-FW-QIXNXTXFJHSCDGMY"
_POLICY = "KUBE-NWPLCY-RHJGAHBDUZKJRYG"
_LOG = "-m mark ! --mark 0x10000/0x10000 -m limit --limit 10/min --limit-burst 10 -j NFLOG --nflog-group 100"


def kube_router(pod: str, policies: Mapping[str, Sequence[int]], *, k3s: bool = False) -> str:
    """Of a pod with this address, which is selected by ``policies``: TCP ports that each allows, by ``namespace/name``.

    ``k3s``: with its lines for policies that did not allow a packet.
    """
    chains = {name: f"{_POLICY}{number}" for number, name in enumerate(policies)}
    names = ["KUBE-ROUTER-FORWARD", _POD, *chains.values()]
    lines = ["*filter", ":INPUT ACCEPT [0:0]", ":FORWARD ACCEPT [0:0]", ":OUTPUT ACCEPT [0:0]"]
    lines += [f":{name} - [0:0]" for name in names]
    lines.append('-A FORWARD -m comment --comment "kube-router netpol - TEMCG2JMHZYE7H7T" -j KUBE-ROUTER-FORWARD')
    for name, chain in chains.items():
        for port in policies[name]:
            match = f"-A {chain} -d {pod}/32 -p tcp -m tcp --dport {port}"
            lines.append(f"{match} -j MARK --set-xmark 0x10000/0x10000")
            lines.append(f"{match} -m mark --mark 0x10000/0x10000 -j RETURN")
        if k3s:
            lines.append(f'-A {chain} {_LOG} --nflog-prefix "DROP by policy {name}"')
    comment = f"-A {_POD} -m comment --comment"
    lines.append(f'{comment} "rule for stateful firewall for pod" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT')
    lines += [
        f'-A {_POD} -d {pod}/32 -m comment --comment "run through nw policy {name}" -j {chain}'
        for name, chain in chains.items()
    ]
    lines += [
        f'{comment} "rule to log dropped traffic POD name:web-0 namespace: team-a" {_LOG}',
        f'{comment} "rule to REJECT traffic destined for POD name:web-0 namespace: team-a"'
        " -m mark ! --mark 0x10000/0x10000 -j REJECT --reject-with icmp-port-unreachable",
        f"-A {_POD} -j MARK --set-xmark 0x0/0x10000",
        f'{comment} "set mark to ACCEPT traffic that comply to network policies" -j MARK --set-xmark 0x20000/0x20000',
        f'-A KUBE-ROUTER-FORWARD -d {pod}/32 -m comment --comment "rule to jump traffic destined to POD" -j {_POD}',
        '-A KUBE-ROUTER-FORWARD -m comment --comment "rule to explicitly ACCEPT traffic that comply to policies"'
        " -m mark --mark 0x20000/0x20000 -j ACCEPT",
        "COMMIT",
    ]
    return "".join(f"{line}\n" for line in lines)
