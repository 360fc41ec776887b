"""What the targets of iptables-extensions(8) do with a packet (pure)."""

from __future__ import annotations

from kiptail.check.firewall.rulesets import CHANGEABLE, Change, Decision, Fork, Step

__all__ = ["ABOUT_CT", "ABOUT_MARK", "ABOUT_PACKET", "ABOUT_SET", "LOGGING", "steps_of_target"]

ABOUT_PACKET, ABOUT_CT = frozenset(("packet",)), frozenset(("ct",))
ABOUT_MARK, ABOUT_SET = frozenset(("mark",)), frozenset(("set",))

#: Those that log, of which LOG alone writes into the kernel log.
LOGGING = ("LOG", "NFLOG", "ULOG")
_VERDICTS = ("ACCEPT", "DROP", "REJECT", "RETURN")
#: They end the way through the table and let the packet pass.
_TRANSLATING = ("DNAT", "SNAT", "MASQUERADE", "REDIRECT", "NETMAP", "SAME")
#: After these the next rule goes on; what they change.
_GO_ON = {
    **dict.fromkeys(("MARK", "HMARK"), ABOUT_MARK),
    **dict.fromkeys(("CT", "NOTRACK"), ABOUT_CT),
    **dict.fromkeys(("CONNMARK", "CONNSECMARK"), CHANGEABLE),
    **dict.fromkeys(("DSCP", "TOS", "ECN", "TTL", "HL", "TCPMSS", "TCPOPTSTRIP", "CLASSIFY", "SECMARK"), ABOUT_PACKET),
    **dict.fromkeys(("DNPT", "SNPT"), ABOUT_PACKET),
    "SET": ABOUT_SET,
    **dict.fromkeys(("AUDIT", "CHECKSUM", "IDLETIMER", "LED", "RATEEST", "TEE", "TRACE"), frozenset[str]()),
}


def steps_of_target(name: str) -> Step:
    """What a target does, other than :data:`LOGGING` ones."""
    if name in _VERDICTS:
        return Decision(name.lower())
    if name in _TRANSLATING:
        return Decision("accept")
    if name in _GO_ON:
        return Change(_GO_ON[name])
    # NFQUEUE, QUEUE, TPROXY, SYNPROXY, TARPIT, …: a program, or the state of things, decides.
    return Fork((Decision("unknown"),))
