"""What rules say of logging, and of what becomes of a packet that was logged."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kiptail.check.firewall.combined import combined
from kiptail.check.firewall.iptables import legacy_or_nft, parse_iptables, refused_tables
from kiptail.check.firewall.log_rules import Fate, LogRule, log_rules
from kiptail.check.firewall.nftables import parse_nft
from kiptail.check.firewall.rulesets import opaque_tables
from tests.support.fuzzing import cases, source


def iptables(rules: str, *, policy: str = "ACCEPT", chains: str = "") -> list[LogRule]:
    text = f"*filter\n:FORWARD {policy} [0:0]\n{chains}{rules}\nCOMMIT\n"
    return log_rules(parse_iptables(text, family="ip"))


LOG = '-j LOG --log-prefix "x: " --log-level 4'

FATES = [
    ("directly before a drop", f"-A FORWARD {LOG}\n-A FORWARD -j DROP", Fate.DROP),
    ("before a reject", f"-A FORWARD {LOG}\n-A FORWARD -j REJECT --reject-with icmp-port-unreachable", Fate.REJECT),
    (
        "limited, the drop is not",
        f"-A FORWARD -s 10.0.0.0/8 -m limit --limit 5/min {LOG}\n-A FORWARD -s 10.0.0.0/8 -j DROP",
        Fate.DROP,
    ),
    ("nothing follows", f"-A FORWARD {LOG}", Fate.ACCEPT),
    ("it is accepted", f"-A FORWARD {LOG}\n-A FORWARD -j ACCEPT\n-A FORWARD -j DROP", Fate.ACCEPT),
    ("only packets of another kind are dropped", f"-A FORWARD -p tcp {LOG}\n-A FORWARD -p udp -j DROP", Fate.ACCEPT),
    ("some of them are dropped", f"-A FORWARD -p tcp {LOG}\n-A FORWARD -i eth0 -j DROP", Fate.MIXED),
    (
        "some are accepted before",
        f"-A FORWARD {LOG}\n-A FORWARD -p tcp -m tcp --dport 22 -j ACCEPT\n-A FORWARD -j DROP",
        Fate.MIXED,
    ),
    ("marks do not decide", f"-A FORWARD {LOG}\n-A FORWARD -j MARK --set-xmark 0x1/0x1\n-A FORWARD -j DROP", Fate.DROP),
    ("a negation counts as such", f"-A FORWARD ! -s 10.0.0.1/32 {LOG}\n-A FORWARD -s 10.0.0.1/32 -j DROP", Fate.ACCEPT),
    ("a queue", f"-A FORWARD {LOG}\n-A FORWARD -j NFQUEUE --queue-num 1\n-A FORWARD -j ACCEPT", Fate.UNKNOWN),
    ("a queue that may be passed by", f"-A FORWARD {LOG}\n-A FORWARD -j NFQUEUE --queue-bypass", Fate.UNKNOWN),
    ("a queue without options", f"-A FORWARD {LOG}\n-A FORWARD -j QUEUE", Fate.UNKNOWN),
    ("a socket or none", f"-A FORWARD {LOG}\n-A FORWARD -p tcp -j TPROXY --on-port 1 --on-ip 0.0.0.0", Fate.UNKNOWN),
    ("a target of another program", f"-A FORWARD {LOG}\n-A FORWARD -j TARPIT --tarpit\n", Fate.UNKNOWN),
    ("an unknown target before a drop", f"-A FORWARD {LOG}\n-A FORWARD -j ODD\n-A FORWARD -j DROP", Fate.MIXED),
    ("one that only notes", f"-A FORWARD {LOG}\n-A FORWARD -j TRACE\n-A FORWARD -j DROP", Fate.DROP),
    ("some return", f"-A FORWARD -p tcp {LOG}\n-A FORWARD -i a -j RETURN\n-A FORWARD -j DROP", Fate.MIXED),
    ("all return", f"-A FORWARD -p tcp {LOG}\n-A FORWARD -p tcp -j RETURN\n-A FORWARD -j DROP", Fate.ACCEPT),
    ("some go elsewhere", f"-A FORWARD {LOG}\n-A FORWARD -i a -g U\n-A FORWARD -j DROP", Fate.MIXED),
    ("all go elsewhere, and to the policy", f"-A FORWARD {LOG}\n-A FORWARD -g U\n-A FORWARD -j DROP", Fate.ACCEPT),
    ("all come back", f"-A FORWARD {LOG}\n-A FORWARD -j U\n-A FORWARD -j DROP", Fate.DROP),
    ("a limited drop", f"-A FORWARD {LOG}\n-A FORWARD -m limit --limit 5/sec -j DROP", Fate.MIXED),
    (
        "a limit of its own",
        f"-A FORWARD -m limit --limit 5/sec {LOG}\n-A FORWARD -m limit --limit 5/sec -j DROP",
        Fate.MIXED,
    ),
    (
        "chance",
        "".join(f"-A FORWARD -m statistic --mode random --probability 0.5 {t}\n" for t in (LOG, "-j DROP")),
        Fate.MIXED,
    ),
    ("what came lately", "".join(f"-A FORWARD -m recent --update {t}\n" for t in (LOG, "-j DROP")), Fate.MIXED),
    (
        "a mark that is changed between",
        f"-A FORWARD -m mark --mark 0x1 {LOG}\n-A FORWARD -j MARK --set-xmark 0x2/0x2\n"
        "-A FORWARD -m mark --mark 0x1 -j DROP",
        Fate.MIXED,
    ),
    (
        "a mark, and the packet is changed between",
        f"-A FORWARD -m mark --mark 0x1 {LOG}\n-A FORWARD -j TTL --ttl-set 3\n-A FORWARD -m mark --mark 0x1 -j DROP",
        Fate.DROP,
    ),
    (
        "a set that is changed between",
        f"-A FORWARD -m set --match-set a src {LOG}\n-A FORWARD -j SET --del-set a src\n"
        "-A FORWARD -m set --match-set a src -j DROP",
        Fate.MIXED,
    ),
    ("a set", "".join(f"-A FORWARD -m set --match-set a src {t}\n" for t in (LOG, "-j DROP")), Fate.DROP),
    ("the other mark", f"-A FORWARD -m mark --mark 0x1 {LOG}\n-A FORWARD -m mark ! --mark 0x1 -j DROP", Fate.ACCEPT),
    ("no options at all", f"-A FORWARD -p tcp {LOG}\n-A FORWARD -p tcp -m tcp -j DROP", Fate.MIXED),
    (
        "a comment that is an exclamation mark",
        f'-A FORWARD -m comment --comment "!" {LOG}\n-A FORWARD -j DROP',
        Fate.DROP,
    ),
    ("comments differ", f'-A FORWARD {LOG}\n-A FORWARD -m comment --comment "-j ACCEPT" -j DROP', Fate.DROP),
    ("with counters", f"[1:60] -A FORWARD {LOG}\n[0:0] -A FORWARD -j DROP", Fate.DROP),
    ("what this iptables does not know", f"-A FORWARD {LOG}\n-A FORWARD -j [unsupported revision]", Fate.UNKNOWN),
]


@pytest.mark.parametrize(("rules", "fate"), [row[1:] for row in FATES], ids=[row[0] for row in FATES])
def test_what_becomes_of_a_logged_packet(rules: str, fate: Fate) -> None:
    (rule,) = iptables(rules, chains=":U - [0:0]\n")
    assert rule.fate is fate
    assert rule.prefix == "x: "


#: Rules of several tables, by table and chain, the first of which logs; and what becomes of its packets.
LATER = [
    ("a later table drops", "ip", ("filter FORWARD ACCEPT", "security FORWARD DROP"), Fate.DROP),
    ("an earlier table drops", "ip", ("filter FORWARD ACCEPT", "mangle FORWARD DROP"), Fate.ACCEPT),
    ("a later hook drops", "ip", ("filter FORWARD ACCEPT", "mangle POSTROUTING DROP"), Fate.DROP),
    ("an earlier hook drops", "ip", ("filter FORWARD ACCEPT", "mangle PREROUTING DROP"), Fate.ACCEPT),
    ("another hook drops", "ip", ("filter FORWARD ACCEPT", "filter INPUT DROP"), Fate.ACCEPT),
    ("one of two ways", "ip", ("raw PREROUTING ACCEPT", "filter INPUT DROP"), Fate.MIXED),
    ("both ways", "ip", ("raw PREROUTING ACCEPT", "filter INPUT DROP", "filter FORWARD DROP"), Fate.DROP),
    ("to itself", "ip", ("filter OUTPUT ACCEPT", "filter INPUT DROP"), Fate.MIXED),
    ("out of itself", "ip", ("filter OUTPUT ACCEPT", "filter FORWARD DROP"), Fate.ACCEPT),
    ("a connection's first packets", "ip", ("filter OUTPUT ACCEPT", "nat POSTROUTING DROP"), Fate.MIXED),
]


@pytest.mark.parametrize(("family", "chains", "fate"), [row[1:] for row in LATER], ids=[row[0] for row in LATER])
def test_an_accept_is_final_for_its_own_base_chain_only(family: str, chains: tuple[str, ...], fate: Fate) -> None:
    texts = []
    for number, chain in enumerate(chains):
        table, name, policy = chain.split(" ")
        log = f"-A {name} {LOG}\n" if number == 0 else ""
        texts.append(f"*{table}\n:{name} {policy} [0:0]\n{log}COMMIT\n")
    (rule,) = log_rules(parse_iptables("".join(texts), family=family))
    assert rule.fate is fate


def test_both_interfaces_of_iptables_decide() -> None:
    """A machine can have a filter table in each; which is called first is not known."""
    logs = parse_iptables(f"*filter\n:FORWARD ACCEPT [0:0]\n-A FORWARD {LOG}\nCOMMIT\n", family="ip")
    drops = parse_iptables("*filter\n:FORWARD DROP [0:0]\nCOMMIT\n", family="ip", interface="legacy")
    other = parse_iptables("*filter\n:FORWARD DROP [0:0]\nCOMMIT\n", family="ip6", interface="legacy")
    assert [rule.fate for rule in log_rules({**logs, **drops})] == [Fate.MIXED]
    assert [rule.fate for rule in log_rules({**logs, **other})] == [Fate.ACCEPT]


def test_what_could_not_be_read_may_drop() -> None:
    chains = parse_iptables(f"*filter\n:FORWARD ACCEPT [0:0]\n-A FORWARD {LOG}\nCOMMIT\n", family="ip")
    assert [rule.fate for rule in log_rules(chains, complete=False)] == [Fate.UNKNOWN]


CALLERS = [
    ("all drop", "-A FORWARD -p tcp -j U\n-A FORWARD -p udp -j U\n-A FORWARD -j DROP", Fate.DROP),
    ("one drops", "-A FORWARD -p tcp -j U\n-A FORWARD -p tcp -j DROP\n-A FORWARD -p udp -j U", Fate.MIXED),
    ("none drops", "-A FORWARD -p tcp -j U\n-A FORWARD -p udp -j U", Fate.ACCEPT),
    ("one that nobody calls", "-A FORWARD -p tcp -j U\n-A FORWARD -p tcp -j DROP\n-A V -j U", Fate.DROP),
    ("none is called", "-A V -j U\n-A V -j DROP", Fate.DROP),
    ("none is called, and none drops", "-A V -j U", Fate.UNKNOWN),
    ("none is called, and one accepts", "-A V -j U\n-A V -j ACCEPT", Fate.UNKNOWN),
    ("the mark is changed", "-A FORWARD -m mark --mark 0x1 -j U\n-A FORWARD -m mark --mark 0x1 -j DROP", Fate.MIXED),
]  # fmt: skip


@pytest.mark.parametrize(("rules", "fate"), [row[1:] for row in CALLERS], ids=[row[0] for row in CALLERS])
def test_a_chain_that_logs_and_is_reached_from_several_places(rules: str, fate: Fate) -> None:
    marks = "-A U -j MARK --set-xmark 0x0/0xffffffff\n" if "mark" in rules else ""
    (rule,) = iptables(f"{rules}\n{marks}-A U {LOG}", chains=":U - [0:0]\n:V - [0:0]\n")
    assert rule.fate is fate


def test_a_limit_on_the_jump_limits_what_is_logged() -> None:
    chains = ":U - [0:0]\n"
    limited = "-A FORWARD -m limit --limit 5/sec -j U\n"
    above = "-A FORWARD -m hashlimit --hashlimit-above 5/sec --hashlimit-name a -j U\n"
    assert [rule.limited for rule in iptables(f"{limited}-A U {LOG}", chains=chains)] == [True]
    assert [rule.limited for rule in iptables(f"{limited}-A FORWARD -j U\n-A U {LOG}", chains=chains)] == [False]
    assert [rule.limited for rule in iptables(f"{above}-A U {LOG}", chains=chains)] == [False]


#: What looks like an option, a negation or a quotation mark, and is none.
ARGUMENTS = [
    ("dashes", '-j LOG --log-prefix "-- FW -- DROP "', "-- FW -- DROP "),
    ("dashes without quotation marks", "-j LOG --log-prefix --IN--BLOCK", "--IN--BLOCK"),
    ("another option's name", '-j LOG --log-prefix "--log-level" --log-level 7', "--log-level"),
    ("a target", '-j LOG --log-prefix "-j ACCEPT "', "-j ACCEPT "),
    ("an exclamation mark", '-j LOG --log-prefix "!"', "!"),
    ("a negation", '-j LOG --log-prefix "! -s 1.2.3.4 "', "! -s 1.2.3.4 "),
    ("quotation marks", '-j LOG --log-prefix "[a \\"b\\" \\\\ c\\\'] "', '[a "b" \\ c\'] '),
    ("a bare word", "-j LOG --log-prefix bare", "bare"),
    ("a lone dash", "-j LOG --log-prefix -", "-"),
    ("nothing", '-j LOG --log-prefix ""', ""),
    ("NFLOG", '-j NFLOG --nflog-prefix "-- x" --nflog-group 5', "-- x"),
    ("a group that is none", '-j NFLOG --nflog-prefix "-- x" --nflog-group x', "-- x"),
    ("a comment with !", '-m comment --comment "!" -j LOG --log-prefix "x"', "x"),
    ("a comment with a bare !", '-m comment --comment ! -j LOG --log-prefix "x"', "x"),
    ("a comment like a target", '-m comment --comment "-j DROP" -j LOG --log-prefix "x"', "x"),
    ("a comment of two lines", '-m comment --comment "a\nb \\" -j DROP" -j LOG --log-prefix "x"', "x"),
    ("a comment like a rule", '-m comment --comment "-A FORWARD -j DROP" -j LOG --log-prefix "x"', "x"),
    ("a text that is looked for", '-m string ! --string "-j DROP" --algo bm --to 65535 -j LOG --log-prefix "x"', "x"),
    ("a list's name", "-m recent --set --name -j --rsource -j LOG --log-prefix x", "x"),
    ("a device's name", "! -i -x -o ! -j LOG --log-prefix x", "x"),
    ("a device that is a quotation mark", '-i " -j LOG --log-prefix "x y"', "x y"),
]


@pytest.mark.parametrize(("rule", "prefix"), [row[1:] for row in ARGUMENTS], ids=[row[0] for row in ARGUMENTS])
def test_an_argument_is_an_argument(rule: str, prefix: str) -> None:
    (found,) = iptables(f"-A FORWARD {rule}\n-A FORWARD -j ACCEPT\n-A FORWARD -j DROP")
    assert (found.prefix, found.fate) == (prefix, Fate.ACCEPT)


@pytest.mark.parametrize("name", ['"', "a'b", "!", "[0:0]", "*filter", "\u2028", "x" * 500])
def test_a_chain_of_any_name(name: str) -> None:
    rules = f"-A FORWARD -j {name}\n-A FORWARD -j DROP\n-A {name} {LOG}"
    (rule,) = iptables(rules, chains=f":{name} - [0:0]\n")
    assert (rule.prefix, rule.fate, rule.place) == ("x: ", Fate.DROP, f"filter {name}")


def test_tables_that_only_nft_can_show_are_named() -> None:
    text = (
        "# Table `filter' is incompatible, use 'nft' tool.\n"
        "# Table `a b' contains incompatible base-chains, use 'nft' tool to list them.\n*nat\nCOMMIT\n"
    )
    assert refused_tables(text) == ["filter", "a b"]


def test_the_policy_decides_at_a_chains_end() -> None:
    (rule,) = iptables(f"-A FORWARD {LOG}", policy="DROP")
    assert rule.fate is Fate.DROP


def test_a_chain_that_logs_and_drops_is_followed() -> None:
    (rule,) = iptables(
        f"-A FORWARD -s 1.2.3.4/32 -j LOGDROP\n-A LOGDROP {LOG}\n-A LOGDROP -j DROP", chains=":LOGDROP - [0:0]\n"
    )
    assert (rule.fate, rule.place) == (Fate.DROP, "filter LOGDROP")


def test_a_chain_that_only_logs_returns_to_where_it_was_jumped_from() -> None:
    """As ufw does: ufw-logging-deny logs, and the caller drops."""
    chains = ":ufw-logging-deny - [0:0]\n:other - [0:0]\n"
    jumps = "-A FORWARD -s 1.2.3.4/32 -j ufw-logging-deny\n-A FORWARD -s 1.2.3.4/32 -j DROP\n"
    (rule,) = iptables(f"{jumps}-A ufw-logging-deny -m limit --limit 3/min {LOG}", chains=chains)
    assert (rule.fate, rule.limited) == (Fate.DROP, True)


def test_calicos_marks_and_chains() -> None:
    rules = """\
-A FORWARD -j cali-FORWARD
-A cali-FORWARD -i cali+ -j cali-from-wl-dispatch
-A cali-from-wl-dispatch -g cali-fw-1
-A cali-fw-1 -m comment --comment "cali:abc" -j cali-po-1
-A cali-fw-1 -m comment --comment "cali:def" -m comment --comment "Drop if no policies passed packet" -j DROP
-A cali-po-1 -p tcp -j LOG --log-prefix "calico-drop: "
-A cali-po-1 -p tcp -j DROP"""
    names = ("cali-FORWARD", "cali-from-wl-dispatch", "cali-fw-1", "cali-po-1")
    (rule,) = iptables(rules, chains="".join(f":{name} - [0:0]\n" for name in names))
    assert rule.fate is Fate.DROP


def test_jumps_in_a_circle_come_to_an_end() -> None:
    (rule,) = iptables(f"-A a -j b\n-A b {LOG}\n-A b -j a", chains=":a - [0:0]\n:b - [0:0]\n")
    assert rule.fate in (Fate.UNKNOWN, Fate.ACCEPT)


def test_nflog_is_told_from_log() -> None:
    (rule,) = iptables("-A FORWARD -j NFLOG --nflog-prefix hi --nflog-group 5\n-A FORWARD -j DROP")
    assert (rule.group, rule.prefix) == (5, "hi")


def test_which_iptables_wrote_it() -> None:
    assert legacy_or_nft("# Generated by iptables-save v1.8.9 (nf_tables) on Mon\n*filter\n") == "nf_tables"
    assert legacy_or_nft("# Generated by ip6tables-save v1.8.9 on Mon\n*filter\n") == "legacy"
    assert legacy_or_nft("") == ""


MATCH: dict[str, Any] = {"match": {"op": "==", "left": {"payload": {"protocol": "tcp", "field": "dport"}}, "right": 80}}
NFT_LOG: dict[str, Any] = {"log": {"prefix": "x: "}}
LIMIT: dict[str, Any] = {"limit": {"rate": 5, "per": "second"}}
DROP: dict[str, Any] = {"drop": None}


def nft(*rules: list[dict[str, Any]], policy: str = "accept", more: tuple[dict[str, Any], ...] = ()) -> list[LogRule]:
    base = {"family": "inet", "table": "filter"}
    chain = {"chain": {**base, "name": "forward", "hook": "forward", "policy": policy}}
    items: list[dict[str, Any]] = [{"metainfo": {}}, chain, *more]
    items += [{"rule": {**base, "chain": "forward", "expr": expr}} for expr in rules]
    return log_rules(parse_nft(json.dumps({"nftables": items})))


def meta(key: str, value: Any, op: str = "==") -> dict[str, Any]:
    return {"match": {"op": op, "left": {"meta": {"key": key}}, "right": value}}


def limit(**more: Any) -> dict[str, Any]:
    return {"limit": {"rate": 5, "burst": 5, "per": "second", **more}}


SADDR = {"payload": {"protocol": "ip", "field": "saddr"}}
IN_SET: dict[str, Any] = {"match": {"op": "==", "left": SADDR, "right": "@s"}}
ACCEPT: dict[str, Any] = {"accept": None}
SET_MARK: dict[str, Any] = {"mangle": {"key": {"meta": {"key": "mark"}}, "value": 2}}
NUMGEN: dict[str, Any] = {"match": {"op": "==", "left": {"numgen": {"mode": "inc", "mod": 2}}, "right": 0}}
VMAP: dict[str, Any] = {"vmap": {"key": MATCH["match"]["left"], "data": {"set": [[22, DROP], [23, ACCEPT]]}}}
NFT_FATES: list[tuple[str, tuple[list[dict[str, Any]], ...], Fate, bool]] = [
    ("in one rule", ([MATCH, NFT_LOG, DROP],), Fate.DROP, False),
    ("in one rule with a counter", ([MATCH, {"counter": {"bytes": 0}}, NFT_LOG, DROP],), Fate.DROP, False),
    ("in one rule with a limit", ([LIMIT, NFT_LOG, DROP],), Fate.DROP, True),
    ("in two rules", ([MATCH, LIMIT, NFT_LOG], [MATCH, DROP]), Fate.DROP, True),
    ("limited behind the log", ([NFT_LOG, LIMIT, DROP],), Fate.MIXED, False),
    ("limited each", ([LIMIT, NFT_LOG], [LIMIT, DROP]), Fate.MIXED, True),
    ("over a limit", ([limit(inv=True), NFT_LOG, DROP],), Fate.DROP, False),
    ("a limit of a set's", ([{"set": {"op": "update", "elem": SADDR, "set": "@s", "stmt": [LIMIT]}}, NFT_LOG, DROP],),
     Fate.DROP, True),
    ("chance, twice", ([NUMGEN, NFT_LOG], [NUMGEN, DROP]), Fate.MIXED, False),
    ("the reject is REJECT", ([NFT_LOG, {"reject": {"type": "icmpx"}}],), Fate.REJECT, False),
    ("a reject of TCP's", ([NFT_LOG, {"reject": {"type": "tcp reset"}}],), Fate.MIXED, False),
    ("a reject of TCP's for TCP", ([MATCH, NFT_LOG, {"reject": {"type": "tcp reset"}}],), Fate.REJECT, False),
    ("a reject of TCP's behind the rule", ([MATCH, NFT_LOG], [{"reject": {"type": "tcp reset"}}]), Fate.MIXED, False),
    ("a reject of IPv4", ([NFT_LOG, {"reject": {"type": "icmp", "expr": "host-unreachable"}}],), Fate.MIXED, False),
    ("a reject of IPv4 for IPv4", ([meta("nfproto", "ipv4"), NFT_LOG, {"reject": {"type": "icmp"}}],),
     Fate.REJECT, False),
    ("accepted in the same rule", ([NFT_LOG, ACCEPT], [DROP]), Fate.ACCEPT, False),
    ("another's drop", ([NFT_LOG], [MATCH, DROP]), Fate.MIXED, False),
    ("another protocol's drop", ([meta("l4proto", "udp"), NFT_LOG], [MATCH, DROP]), Fate.ACCEPT, False),
    ("all but those are dropped", ([meta("mark", 1), NFT_LOG], [meta("mark", 1, "!="), DROP]), Fate.ACCEPT, False),
    ("a mark that is set between", ([meta("mark", 1), NFT_LOG, SET_MARK], [meta("mark", 1), DROP]), Fate.MIXED, False),
    ("a set that is changed between", ([IN_SET, NFT_LOG], [{"set": {"op": "add", "elem": SADDR, "set": "@s"}}],
                                       [IN_SET, DROP]), Fate.MIXED, False),
    ("a set", ([IN_SET, NFT_LOG], [IN_SET, DROP]), Fate.DROP, False),
    ("a queue", ([NFT_LOG, {"queue": {"num": 1, "flags": "bypass"}}], [ACCEPT]), Fate.UNKNOWN, False),
    ("a translation", ([NFT_LOG, {"dnat": {"addr": "10.0.0.1"}}], [DROP]), Fate.ACCEPT, False),
    ("a translation of IPv4", ([NFT_LOG, {"dnat": {"family": "ip", "addr": "10.0.0.1"}}], [DROP]), Fate.MIXED, False),
    ("a socket or none", ([NFT_LOG, {"tproxy": {"port": 1}}, ACCEPT], [DROP]), Fate.MIXED, False),
    ("sent elsewhere", ([NFT_LOG, {"fwd": {"dev": "lo"}}], [DROP]), Fate.MIXED, False),
    ("a statement of a later nft", ([NFT_LOG, {"teleport": None}, ACCEPT], [DROP]), Fate.MIXED, False),
    ("a verdict map", ([NFT_LOG, VMAP], [DROP]), Fate.MIXED, False),
    ("a verdict map of drops", ([NFT_LOG, {"vmap": {"key": 1, "data": "@drops"}}], [DROP]), Fate.DROP, False),
    ("a verdict map that is not there", ([NFT_LOG, {"vmap": {"key": 1, "data": "@gone"}}],), Fate.UNKNOWN, False),
    ("a verdict map of another form", ([NFT_LOG], [{"vmap": {"key": {}, "data": {}}}]), Fate.UNKNOWN, False),
    ("what JSON does not show", ([NFT_LOG, {"xt": None}],), Fate.UNKNOWN, False),
    ("a target of iptables'", ([NFT_LOG, {"xt": {"type": "target", "name": "REJECT"}}],), Fate.REJECT, False),
    ("a match of iptables'", ([NFT_LOG, {"xt": {"type": "match", "name": "recent"}}, DROP],), Fate.MIXED, False),
    ("a comment of iptables'", ([NFT_LOG, {"xt": {"type": "match", "name": "comment"}}, DROP],), Fate.DROP, False),
]  # fmt: skip
MAPS = ({"map": {"family": "inet", "table": "filter", "name": "drops", "elem": [[1, DROP], [2, {"drop": None}]]}},)


@pytest.mark.parametrize(("rules", "fate", "limited"), [r[1:] for r in NFT_FATES], ids=[r[0] for r in NFT_FATES])
def test_nft_rules(rules: tuple[list[dict[str, Any]], ...], fate: Fate, limited: bool) -> None:
    (rule,) = nft(*rules, more=MAPS)
    assert (rule.fate, rule.limited) == (fate, limited)
    assert (rule.tool, rule.place) == ("nftables", "inet filter forward")


def base_chain(family: str, hook: str, priority: int, policy: str = "accept", **more: Any) -> dict[str, Any]:
    base = {"family": family, "table": f"t{priority}", "name": hook, "type": "filter", "hook": hook, "prio": priority}
    return {"chain": {**base, "policy": policy, **more}}


#: Another base chain that drops all: what becomes of a packet that ``inet filter forward``, priority 0, has accepted.
BESIDE: list[tuple[str, dict[str, Any], Fate]] = [
    ("later", base_chain("inet", "forward", 10, "drop"), Fate.DROP),
    ("earlier", base_chain("inet", "forward", -10, "drop"), Fate.ACCEPT),
    ("at the same place", base_chain("inet", "forward", 0, "drop"), Fate.MIXED),
    ("later, for IPv4 only", base_chain("ip", "forward", 10, "drop"), Fate.MIXED),
    ("the next hook", base_chain("inet", "postrouting", -300, "drop"), Fate.DROP),
    ("another way", base_chain("inet", "input", 10, "drop"), Fate.ACCEPT),
    ("on a device", base_chain("netdev", "egress", 0, "drop", dev="eth0"), Fate.MIXED),
    ("on a bridge", base_chain("bridge", "postrouting", 0, "drop"), Fate.MIXED),
    ("for ARP", base_chain("arp", "output", 0, "drop"), Fate.ACCEPT),
    ("for a connection's first packet", base_chain("inet", "postrouting", 0, "drop", type="nat"), Fate.MIXED),
    ("in a hook of a later kernel", base_chain("inet", "teleport", 10, "drop"), Fate.MIXED),
]


@pytest.mark.parametrize(("chain", "fate"), [row[1:] for row in BESIDE], ids=[row[0] for row in BESIDE])
def test_what_one_base_chain_accepts_another_may_drop(chain: dict[str, Any], fate: Fate) -> None:
    (rule,) = nft([NFT_LOG, ACCEPT], more=(chain,))
    assert rule.fate is fate


def test_a_chain_of_type_nat_has_the_kernels_place_and_not_its_own() -> None:
    late = base_chain("inet", "forward", 0)["chain"] | {"hook": "input", "name": "forward", "table": "filter"}
    nat = base_chain("inet", "input", -100, "drop", type="nat")
    rule = {"rule": {"family": "inet", "table": "filter", "chain": "forward", "expr": [NFT_LOG]}}
    chains = parse_nft(json.dumps({"nftables": [{"chain": late}, nat, rule]}))
    assert [found.fate for found in log_rules(chains)] == [Fate.MIXED]


@pytest.mark.parametrize("flags", ["dormant", ["dormant"], ["owner", "dormant"], "inet"])
def test_of_a_table_that_may_be_switched_off_nothing_is_known(flags: object) -> None:
    items = [
        {"table": {"family": "inet", "name": "filter", "flags": flags}},
        {"chain": {"family": "inet", "table": "filter", "name": "forward", "hook": "forward", "policy": "drop"}},
        {"rule": {"family": "inet", "table": "filter", "chain": "forward", "expr": [NFT_LOG, DROP]}},
    ]
    assert [rule.fate for rule in log_rules(parse_nft(json.dumps({"nftables": items})))] == [Fate.UNKNOWN]


def test_what_goes_to_a_program_or_to_the_audit_log_is_not_in_the_kernel_log() -> None:
    assert [rule.group for rule in nft([{"log": {"prefix": "x", "group": 3, "queue-threshold": 5}}, DROP])] == [3]
    assert [rule.group for rule in nft([{"log": {"prefix": "x", "level": "debug", "flags": "all"}}, DROP])] == [None]
    assert nft([{"log": {"level": "audit"}}, DROP]) == []


def of_iptables(*rules: tuple[int, list[dict[str, Any]]]) -> str:
    """As nft prints a chain that iptables made."""
    base = {"family": "ip", "table": "filter"}
    items: list[dict[str, Any]] = [{"chain": {**base, "name": "FORWARD", "hook": "forward", "prio": 0}}]
    items += [{"rule": {**base, "chain": "FORWARD", "handle": handle, "expr": expr}} for handle, expr in rules]
    return json.dumps({"nftables": items})


XT_LOG = {"xt": {"type": "target", "name": "LOG"}}


@pytest.mark.parametrize("body", [XT_LOG, {"xt": None}])
def test_what_json_does_not_show_of_a_log_rule_is_looked_up_in_the_plain_list(body: dict[str, Any]) -> None:
    """As nft 1.0.6 prints them, with xtables; the prefix is printed as it is."""
    listed = (
        "table ip filter { # handle 1\n\tchain FORWARD { # handle 1\n\t\ttype filter hook forward priority filter;\n"
        '\t\tcounter packets 0 bytes 0 log prefix "a "b" -- level 4" level debug # handle 2\n'
        "\t\tmeta l4proto tcp counter packets 0 bytes 0 log # handle 3\n"
        "\t\tcounter packets 0 bytes 0 drop # handle 4\n\t}\n}\n"
    )
    text = of_iptables((2, [body]), (3, [meta("l4proto", "tcp"), body]), (4, [DROP]))
    chains = parse_nft(text, listed=listed)
    assert [(rule.prefix, rule.fate) for rule in log_rules(chains)] == [
        ('a "b" -- level 4', Fate.DROP),
        ("", Fate.DROP),
    ]
    assert not opaque_tables(chains)


@pytest.mark.parametrize("body", [XT_LOG, {"xt": None}, {"xt": {"type": "watcher", "name": "log"}}, {"xt": 1}])
def test_a_rule_that_may_log_and_is_not_shown_is_noted(body: dict[str, Any]) -> None:
    assert opaque_tables(parse_nft(of_iptables((2, [body])))) == {("ip", "filter")}


def test_a_chain_that_both_tools_print_is_told_by_the_better_one() -> None:
    saved = (
        "*filter\n:FORWARD ACCEPT [0:0]\n-A FORWARD -p tcp -m comment --comment c -j LOG --log-prefix x\n"
        # Of the second, iptables-save 1.8.9 leaves out the log, of the third the set.
        "-A FORWARD -s 1.2.3.4/32 -j DROP\n-A FORWARD -p tcp -j DROP\nCOMMIT\n"
    )
    lookup = {"match": {"op": "==", "left": MATCH["match"]["left"], "right": {"set": [22, 23]}}}
    saddr = {"match": {"op": "==", "left": SADDR, "right": "1.2.3.4"}}
    text = of_iptables(
        (2, [meta("l4proto", "tcp"), XT_LOG]), (3, [saddr, {"log": {"prefix": "y"}}, DROP]), (4, [lookup, DROP])
    )
    chains = combined(parse_iptables(saved, family="ip"), parse_nft(text))
    assert [(rule.tool, rule.prefix, rule.fate) for rule in log_rules(chains)] == [
        ("iptables", "x", Fate.MIXED),
        ("iptables", "y", Fate.DROP),
    ]


def test_a_reject_in_a_table_of_one_family_needs_no_other_sign() -> None:
    chains = parse_nft(of_iptables((2, [{"log": {"prefix": "x"}}, {"reject": {"type": "icmp"}}])))
    assert [rule.fate for rule in log_rules(chains)] == [Fate.REJECT]


@pytest.mark.parametrize(("interface", "fate"), [("nf_tables", Fate.DROP), ("legacy", Fate.ACCEPT)])
def test_in_nftables_the_security_table_has_a_priority_of_its_own(interface: str, fate: Fate) -> None:
    """150 and not 50: iptables-nft 1.8.9, as the kernel showed."""
    late = base_chain("ip", "forward", 100)
    rule = {"rule": {"family": "ip", "table": "t100", "chain": "forward", "expr": [NFT_LOG, ACCEPT]}}
    by_nft = parse_nft(json.dumps({"nftables": [late, rule]}))
    saved = parse_iptables("*security\n:FORWARD DROP [0:0]\nCOMMIT\n", family="ip", interface=interface)
    assert [found.fate for found in log_rules(combined(saved, by_nft))] == [fate]


def test_a_base_chains_priority_is_what_nft_prints() -> None:
    saved = parse_iptables(f"*filter\n:FORWARD ACCEPT [0:0]\n-A FORWARD {LOG}\nCOMMIT\n", family="ip")
    chain = {"family": "ip", "table": "filter", "name": "FORWARD", "hook": "forward", "prio": -5}
    rule = {"rule": {"family": "ip", "table": "filter", "chain": "FORWARD", "expr": [XT_LOG]}}
    items = [{"chain": chain}, rule, base_chain("ip", "forward", 0, "drop")]
    chains = combined(saved, parse_nft(json.dumps({"nftables": items})))
    assert [found.fate for found in log_rules(chains)] == [Fate.DROP]


def test_where_the_tools_do_not_agree_on_the_number_of_rules_nft_is_believed() -> None:
    saved = f"*filter\n:FORWARD ACCEPT [0:0]\n-A FORWARD {LOG}\n-A FORWARD -j DROP\nCOMMIT\n"
    chains = combined(parse_iptables(saved, family="ip"), parse_nft(of_iptables((2, [{"log": {"prefix": "x"}}]))))
    assert [rule.fate for rule in log_rules(chains)] == [Fate.ACCEPT]


@pytest.mark.fuzz
def test_what_nft_prints_is_read_with_anything_in_any_place() -> None:
    rng, seed = source("nft")
    whole = [[*rules, *more] for _, rules, _, _ in NFT_FATES for more in ([], [[VMAP, XT_LOG]])]
    odd = [
        "null",
        "true",
        "-1",
        "1e999",
        "10000000000000000000000",
        '""',
        '"@s"',
        '"x"',
        "[]",
        "{}",
        "[1]",
        "[[]]",
        '{"x": 1}',
    ]
    odd += ['{"set": [[1]]}', '{"xt": null}', "[{}, 1]"]
    for _ in range(cases(1_000)):
        items = [*MAPS, *(row[1] for row in BESIDE), {"table": {"family": "inet", "name": "filter", "flags": []}}]
        base = {"family": "inet", "table": "filter", "chain": "forward", "handle": 3}
        items += [{"rule": {**base, "expr": expr}} for expr in rng.choice(whole)]
        document = json.loads(json.dumps({"nftables": items}))
        for _ in range(rng.choice((1, 2, 5))):
            holder, key = rng.choice([*places(document)])
            holder[key] = json.loads(rng.choice(odd))
        text = json.dumps(document)
        try:
            log_rules(parse_nft(text, listed=text))
        except ValueError as error:
            if "is not what nft -j prints" not in str(error):
                raise AssertionError(f"{seed}: {text}") from error
        except Exception as error:
            raise AssertionError(f"{seed}: {text}") from error


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every place in a JSON document."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield value, key
        yield from places(value[key])


@given(st.text(max_size=200))
def test_any_plain_list_is_read(listed: str) -> None:
    parse_nft(of_iptables((2, [XT_LOG])), listed=f"table ip filter {{ # handle 1\n{listed} # handle 2\n")


WORDS = st.sampled_from([
    "-A FORWARD", "-A U", "-j", "-g", "-m", "!", '"', '"a b"', "\\", "LOG", "U", "--log-prefix", "--nflog-group",
    "NFLOG", "-m comment --comment", "\n", ":U - [0:0]", "*filter", "-i", "x", "-", "--", "[1:2]",
    "# Table `x' is incompatible",
])  # fmt: skip


@given(st.lists(WORDS, max_size=40), st.sampled_from([" ", "\n", ""]))
def test_any_words_are_read(words: list[str], between: str) -> None:
    text = between.join(words)
    log_rules(parse_iptables(f"*filter\n:FORWARD DROP [0:0]\n{text}", family="ip"))
    refused_tables(text)
    legacy_or_nft(text)


@given(st.text(max_size=200) | st.from_regex(r"(\*filter\n)?(:[A-Z]+ (ACCEPT|-) \n)?(-A [A-Zab] .{0,40}\n)*"))
def test_any_text_is_read(text: str) -> None:
    log_rules(parse_iptables(text, family="ip"))


KEYS = st.sampled_from(["expr", "log", "drop", "jump", "target", "limit", "x"])
leaves = st.none() | st.booleans() | st.integers() | st.text(max_size=8)
shallow = leaves | st.dictionaries(KEYS, leaves, max_size=3) | st.lists(leaves, max_size=3)
deep = shallow | st.dictionaries(KEYS, shallow, max_size=3) | st.lists(shallow, max_size=3)
json_values = deep | st.dictionaries(KEYS, deep, max_size=3)


@given(
    st.lists(st.dictionaries(st.sampled_from(["chain", "rule", "table", "map"]), json_values, max_size=1), max_size=5)
)
def test_any_json_is_read(items: list[Any]) -> None:
    log_rules(parse_nft(json.dumps({"nftables": items})))


def test_a_hundred_thousand_rules_are_read_in_seconds() -> None:
    """As on a node with many policies, each chain of which logs and drops, or returns to where it is jumped from."""
    chains = [f"cali-pi-{n}" for n in range(2_000)]
    rules = [f"-A FORWARD -s 10.0.0.{n % 250}/32 -j {chain}" for n, chain in enumerate(chains)]
    for chain in chains:
        comment = '-m comment --comment "cali:abcdefgh"'
        rules += [f"-A {chain} {comment} -p tcp -m tcp --dport {port} -j ACCEPT" for port in range(48)]
        rules += [f"-A {chain} {comment} {LOG}"]
    began = time.monotonic()
    found = iptables("\n".join(rules), policy="DROP", chains="".join(f":{chain} - [0:0]\n" for chain in chains[:1]))
    assert len(found) == 2_000
    assert time.monotonic() - began < 30
