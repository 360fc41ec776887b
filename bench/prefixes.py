"""The prefixes of a node on which any of a dozen firewalls may log, as patterns."""

from __future__ import annotations

__all__ = ["PATTERNS"]

#: By the firewalls' own ways to write them; the journals' lines match one that has a hole.
PATTERNS = (
    # Calico, and Calico Enterprise
    "calico-packet:",
    "calico-packet {kind}:{policy}:",
    "calico-{verdict}:",
    "cd {kind} {namespace}/{name}:",
    "cr {kind} {namespace}/{name}:",
    "ct {tier} {kind} {namespace}/{name}:",
    # Antrea
    "Antrea:{direction}:{verdict}:{label?}:",
    # firewalld, with nftables and with iptables
    "STATE_INVALID_{verdict}:",
    "FINAL_{verdict}:",
    "rpfilter_{verdict}:",
    "RFC3964_IPv4_{verdict}:",
    "filter_{direction}_{zone}_{verdict}:",
    "filter_{direction}_policy_{name}_{verdict}:",
    "filter_{chain}_ICMP_BLOCK:",
    "{direction}_{zone}_{verdict}:",
    "{direction}_policy_{name}_{verdict}:",
    "{chain}_ICMP_BLOCK:",
    # ufw
    "[UFW BLOCK]",
    "[UFW LIMIT BLOCK]",
    "[UFW LIMIT]",
    "[UFW ALLOW]",
    "[UFW AUDIT]",
    "[UFW AUDIT INVALID]",
    # shorewall
    "Shorewall:{chain}:{verdict}:",
    "Shorewall6:{chain}:{verdict}:",
    "{zone}-fw {verdict}",
    "fw-{zone} {verdict}",
    "net-{zone} {verdict}",
    "{zone}2{_} {verdict}",
    # VyOS
    *(f"[{family}-{{chain}}-{{rule}}-{letter}]" for family in ("ipv4", "ipv6", "bri") for letter in "ADR"),
    "[STATE-POLICY-{rule}-D]",
    "[STATE-POLICY-{rule}-R]",
    # OpenWrt
    "{verdict} {zone} in:",
    "{verdict} {zone} out:",
    "{verdict} {zone} forward:",
    # kube-router and k3s
    "DROP by policy {policy}",
    "REJECT by policy {policy}",
    # Proxmox
    ":{_}:{_}:{chain}: {verdict}:",
    ":{_}:{_}:{chain}: policy {verdict}:",
    # Docker's and Podman's users
    "[DOCKER-USER {verdict}]",
    "docker-user {verdict}:",
    "netavark {zone} {verdict}:",
    # ferm, CSF and fwbuilder
    "ferm {chain} {verdict}:",
    "Firewall: *{chain} Blocked* ",
    "RULE {rule} -- {verdict}",
    # rule sets of one's own
    "-- FW -- {verdict}",
    "--IN--BLOCK",
    "--OUT--BLOCK",
    "[FW {verdict}]",
    "iptables denied:",
    "ip6tables denied:",
    "nft {chain} {verdict}:",
    "kube-deny {namespace}/{name}:",
)
