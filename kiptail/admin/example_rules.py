"""LOG rules for several firewalls (pure), as text with comments on where they go and how to undo them.

All of them log directly before a drop that is there already, at a limited rate, and neither drop nor accept a packet
themselves: whoever takes them away again is where they were. What the text cannot know, the user's own chain and
matches, stands in it as a place to fill in; what stands there as it is can be loaded.
"""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["FIREWALLS", "FIXED_PREFIX", "PREFIX", "LongPrefixError", "rules_for"]

#: What the rules log with by default.
PREFIX = "kiptail-drop:"
#: iptables cuts a longer prefix, in bytes, the blank at its end included.
_IPTABLES_PREFIX = 29
_NFT_PREFIX = 127


class LongPrefixError(ValueError):
    """The firewall would cut this prefix; the text completes "PREFIX …"."""


def _nftables(prefix: str) -> str:
    return f"""\
# LOG rules for nftables. They log and decide nothing: no packet is dropped or accepted by them.
#
# Load:  kiptail rules --for nftables | nft -f -
# Undo:  nft delete rule inet filter forward handle N   for each jump (nft -a list ruleset shows N), then
#        nft delete chain inet filter kiptail-log
# Tell:  prefix = ["{prefix}"] in /etc/kiptail/kiptail.toml
#
# This makes a chain that logs and returns. It has to be in the table of your drop: change "inet filter" if yours is
# another. Nothing jumps to it yet: put a jump directly before your drop, with the same matches, HANDLE being that of
# the dropping rule (nft -a list chain inet filter forward):
#     nft insert rule inet filter forward position HANDLE MATCHES jump kiptail-log
# Where the drop is the chain's policy, add it as the last rule: nft add rule inet filter forward jump kiptail-log
# In /etc/nftables.conf, write MATCHES jump kiptail-log into the line above MATCHES drop. Do not put limit and drop into
# one rule: packets above the limit would not be dropped.
table inet filter {{
	chain kiptail-log {{
		limit rate 20/second burst 100 packets log prefix "{prefix} "
	}}
}}
"""


def _iptables(prefix: str) -> str:
    return f"""\
# LOG rules for iptables. They log and decide nothing: no packet is dropped or accepted by them.
#
# Load:  kiptail rules --for iptables | iptables-restore --noflush     (and ip6tables-restore for IPv6)
# Undo:  iptables -D CHAIN MATCHES -j KIPTAIL-LOG   for each jump, then
#        iptables -F KIPTAIL-LOG && iptables -X KIPTAIL-LOG
# Tell:  prefix = ["{prefix}"] in /etc/kiptail/kiptail.toml
#
# This makes a chain that logs and returns. Nothing jumps to it yet: put a jump directly before your drop, with the same
# matches, N being the number of the dropping rule (iptables -L FORWARD --line-numbers):
#     iptables -I FORWARD N MATCHES -j KIPTAIL-LOG
# Where the drop is the chain's policy, append it as the last rule: iptables -A FORWARD -j KIPTAIL-LOG
*filter
:KIPTAIL-LOG - [0:0]
-A KIPTAIL-LOG -m limit --limit 20/second --limit-burst 100 -j LOG --log-prefix "{prefix} "
COMMIT
"""


def _calico(prefix: str) -> str:
    name = prefix.rstrip(":")
    # With the policy's name behind it, each byte of 29 counts.
    stem = "cd" if prefix == PREFIX else name
    return f"""\
# Calico: log what a policy drops. The action Log decides nothing and goes on with the next rule.
#
# Where: in each policy that denies, directly before the Deny, with the same source, destination and protocol:
#
#     ingress:
#       - action: Allow
#         source: {{selector: app == 'client'}}
#       - action: Log          # this is new
#       - action: Deny
#
# Undo:  remove the Log rules from the policies again.
# Prefix: one for all Log rules, in FelixConfiguration ("calico-packet" unless set); Felix adds ": ":
#     kubectl patch felixconfigurations.projectcalico.org default --type merge \\
#         -p '{{"spec":{{"logPrefix":"{name}"}}}}'
# Tell:  prefix = ["{name}:"] in /etc/kiptail/kiptail.toml
#
# To have the policy named, from Calico 3.30.6, 3.31.4 and 3.32.0 on: a short stem, a blank, and %k %p, which stand for
# the policy's kind and its namespace and name. It is the policy that has the Log rule, and Events name it. iptables
# cuts all of it at 29 bytes, and a name that is cut ends with an ellipsis.
#     kubectl patch felixconfigurations.projectcalico.org default --type merge \\
#         -p '{{"spec":{{"logPrefix":"{stem} %k %p"}}}}'
# Tell:  the pattern that reads it, if each Log rule stands directly before a Deny:
#     [[prefixes]]
#     text = "{stem} {{kind}} {{policy}}:"
#     verdict = "drop"
#        without the profile calico, which takes the same lines for ones that only log.
# Newer versions limit the rate of Log rules with logActionRateLimit in FelixConfiguration (say 20/second); then add
# limited = true. Older ones log every packet.
#
# Calico's eBPF data plane (bpfEnabled in FelixConfiguration) writes nothing of this into the kernel log: what its Log
# rules log is in the trace pipe of the kernel, and kiptail sees none of it.
#
# Kubernetes NetworkPolicies cannot log, and what they do not allow is dropped by the end of Calico's tier. For pods
# that such policies isolate already, a GlobalNetworkPolicy with a high order and "- action: Log" as its only rule logs
# that drop. Mind what its selector and types select: a pod or direction that no policy isolates yet becomes isolated
# by it. Never end it with Allow or Pass: it would let through what the tier's end drops.
"""


def _ufw(prefix: str) -> str:
    del prefix  # ufw has its own
    return """\
# ufw logs what it blocks by itself, rate-limited, directly before the drop:
#     ufw logging low
# Undo:  ufw logging off     (before: ufw status verbose | grep Logging)
# Tell:  prefix = ["[UFW BLOCK]"] in /etc/kiptail/kiptail.toml
#
# "low" logs packets that the default policy blocks, and those of rules with "log". Forwarded packets, which are those
# of pods, are among them when the policy of "routed" is deny (ufw status verbose). Higher levels log allowed packets
# too, with other prefixes ([UFW ALLOW], [UFW AUDIT]): kiptail leaves those out.
# A rule of your own that blocks with a log line:  ufw route deny log from 192.0.2.0/24
"""


def _firewalld(prefix: str) -> str:
    del prefix  # firewalld has its own
    return """\
# firewalld logs what it rejects or drops by itself, directly before it does:
#     firewall-cmd --set-log-denied=all
# Undo:  firewall-cmd --set-log-denied=off     (before: firewall-cmd --get-log-denied)
# It writes LogDenied into /etc/firewalld/firewalld.conf and reloads the rules; connections stay.
#
# Tell:  profile = ["firewalld"] in /etc/kiptail/kiptail.toml. The prefixes hang on zones and policies, and the profile
#        reads them all; `kiptail setup`, run as root, shows those that are in force.
#
# LogDenied has no rate limit. --set-log-denied=unicast leaves broadcasts and multicasts out, which are most of them.
"""


def _nflog(name: str, logged: str) -> str:
    return f"""\
# {name} logs what its network policies reject by itself, by NFLOG to group 100, and not to the kernel log:
# {logged}
#
# Load:  apt-get install ulogd2; systemctl enable --now kiptail-ulogd@100
#        which writes them to the journal. Debian's own ulogd2.service listens to group 0, and is not needed.
# Undo:  systemctl disable --now kiptail-ulogd@100
# Tell:  in /etc/kiptail/kiptail.toml
#     [[nflog]]
#     group = 100
#     profile = "{name}"
#
# It logs 10 packets a minute for each pod, after a burst of 10, so that there are more packets than lines. A group has
# one listener in a network namespace: `kiptail check` says who that is.
"""


def _kube_router(prefix: str) -> str:
    del prefix  # it has none
    return _nflog("kube-router", "a line for each packet, without a prefix.")


def _k3s(prefix: str) -> str:
    del prefix  # it has its own
    return _nflog("k3s", "a line with each policy that did not allow a packet, then one without a prefix, the reject.")


_TEXTS: dict[str, Callable[[str], str]] = {
    "calico": _calico,
    "nftables": _nftables,
    "iptables": _iptables,
    "ufw": _ufw,
    "firewalld": _firewalld,
    "kube-router": _kube_router,
    "k3s": _k3s,
}
FIREWALLS = tuple(_TEXTS)
#: These choose what they log with.
FIXED_PREFIX = ("ufw", "firewalld", "kube-router", "k3s")


def rules_for(firewall: str, prefix: str = PREFIX) -> str:
    """The text for one of :data:`FIREWALLS`. Raises :class:`LongPrefixError`, and for ``"`` and the like ValueError."""
    most = _IPTABLES_PREFIX if firewall in ("iptables", "calico") else _NFT_PREFIX
    if len(prefix.encode()) > most - 1:
        raise LongPrefixError(f"is longer than the {most - 1} bytes that {firewall} takes")
    if any(c in "\"'\\`$" for c in prefix):
        raise ValueError("holds quotation marks, a backslash or a dollar sign, which the rules could not hold safely")
    return _TEXTS[firewall](prefix)
