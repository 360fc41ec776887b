"""Random rule sets, as nft and iptables-restore take them.

Rules that log and drop with the same, fewer or more matches stand near each other, so that much is decided, and much
nearly so.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from tests.firewalls.world import GROUP

__all__ = ["Load", "rule_set"]

_HOOKS = ("prerouting", "input", "forward", "output", "postrouting")
_PRIORITIES = (-300, -150, -10, 0, 0, 0, 10, 50, 225)
#: What a prefix may look like: options, negations, statements, quoted text.
_DECORATIONS = ("{}", "-- {} ", "--{}", "! {}", "-j {}", "{}:  x", "-m {} -j DROP")
_ODD_COMMENTS = ("!", "-j ACCEPT", 'a \\"quoted\\" one', "--log-prefix x", "! -s 10.1.0.2", "it's")


@dataclass(slots=True)
class Load:
    """How a rule set is loaded: programs, each with what it reads."""

    programs: list[tuple[tuple[str, ...], str]] = field(default_factory=list)


class _Maker:
    def __init__(self, rng: random.Random, numbers: Iterator[int]) -> None:
        self.rng = rng
        #: What prefixes are made of: the old interface's rules stay, and so no two may be the same.
        self.numbers = numbers

    def chance(self, probability: float) -> bool:
        return self.rng.random() < probability

    def prefix(self) -> str:
        return self.rng.choice(_DECORATIONS).format(f"r{next(self.numbers)}")

    def rules(
        self,
        conditions: Callable[[], str],
        acts: Callable[[], str],
        decide: Callable[[], str],
        log: Callable[[], str],
        join: Callable[[Sequence[str], str, str], Sequence[str]],
    ) -> list[str]:
        """A chain's rules; ``join`` makes one of conditions, what logs or changes something, and what decides."""
        rules = list[str]()
        matches = list[str]()
        for _ in range(self.rng.choice((0, 1, 2, 3, 4, 5))):
            kind = self.rng.random()
            if kind < 0.35:
                # Those of the rule before, or one more, or one less.
                change = self.rng.random()
                if change < 0.25:
                    matches = [*matches, conditions()]
                elif change < 0.4:
                    matches = matches[:-1]
            else:
                matches = [conditions() for _ in range(self.rng.choice((0, 0, 1, 1, 2)))]
            act = log() if self.chance(0.45) else acts() if self.chance(0.2) else ""
            verdict = decide() if not act or self.chance(0.35) else ""
            rules += join(matches, act, verdict)
            if act and self.chance(0.5):
                rules += join(matches, "", self.rng.choice((decide(), "drop", "drop")))
        return rules


# -- nftables ---------------------------------------------------------------------------------------------------


class _Nft(_Maker):
    def table(self, family: str, name: str) -> str:
        inner = [f"u{n}" for n in range(self.rng.choice((0, 1, 2, 3)))]
        lines = [f"table {family} {name} {{"]
        if self.chance(0.05):
            lines.append("flags dormant")
        if family != "netdev":
            kind, element = ("ipv6_addr", "fd01::2") if family == "ip6" else ("ipv4_addr", "10.1.0.2")
            lines += [f"set s {{\ntype {kind}\nelements = {{ {element} }}\n}}"]
            lines += [f"set d {{\ntype {kind}\nsize 1\nflags dynamic\n}}"]
            lines += ["map m {\ntype inet_service : verdict\nelements = { 22 : drop, 53 : accept, 80 : return }\n}"]
        for number in reversed(range(len(inner))):
            lines += [f"chain {inner[number]} {{", *self._chain(family, "", inner[number + 1 :]), "}"]
        for number in range(1 if family == "netdev" else self.rng.choice((1, 1, 2, 3))):
            lines += self._base_chain(family, f"c{number}", inner)
        return "\n".join([*lines, "}", ""])

    def rules_of(self, family: str) -> list[str]:
        """Rules for a chain of iptables', of what that has no words for."""
        near = "ip6 saddr fd01::2" if family == "ip6" else "ip saddr 10.1.0.2"
        conditions = ["tcp dport { 22, 80 }", near, "meta l4proto { tcp, udp }", "ct state { new, established }", ""]
        conditions += ["meta length < 60", "th dport 53", "meta cpu 0", "tcp dport 20-60", 'iifname "t*"']
        conditions += ["numgen inc mod 2 == 0"]
        rules = [f"{self.rng.choice(conditions)} {self._log()} {self.rng.choice(('drop', ''))}"]
        return [*rules, f"{self.rng.choice(conditions)} {self.rng.choice(('drop', 'accept'))}"]

    def _base_chain(self, family: str, name: str, inner: Sequence[str]) -> list[str]:
        hook, device, kind = self.rng.choice((*_HOOKS, "forward", "forward")), "", "filter"
        priority = self.rng.choice(_PRIORITIES)
        if family == "netdev":
            hook, device = self.rng.choice((("ingress", " device t0"), ("egress", " device t1")))
        elif family == "inet" and self.chance(0.05):
            hook, device = "ingress", " device t0"
        elif hook != "forward" and self.chance(0.15):
            kind, priority = "nat", self.rng.choice((-100, 0, 100))
        policy = "drop" if self.chance(0.2) else "accept"
        head = f"type {kind} hook {hook}{device} priority {priority}; policy {policy};"
        return [f"chain {name} {{", head, *self._chain(family, f"{kind} {hook}", inner), "}"]

    def _chain(self, family: str, place: str, inner: Sequence[str]) -> list[str]:
        def join(matches: Sequence[str], act: str, verdict: str) -> list[str]:
            if verdict.startswith("reject") and place.rsplit(" ", maxsplit=1)[-1] not in ("input", "forward", "output"):
                verdict = "drop"
            if verdict == "nat":
                verdict = self._nat(family, place)
            parts = [*matches, *(["counter"] if self.chance(0.2) else []), act]
            if act.startswith("log") and self.chance(0.1):
                parts.append("limit rate 1/hour burst 1 packets")
            return [" ".join(_consistent([*parts, verdict])) or "counter"]

        def decide() -> str:
            return self._decide(family, inner)

        return self.rules(lambda: self._condition(family), lambda: self._act(family), decide, self._log, join)

    def _nat(self, family: str, place: str) -> str:
        if not place.startswith("nat"):
            return "accept"
        address = "ip6 to fd02::3" if family == "ip6" else "ip to 10.2.0.3"
        if place.endswith(("prerouting", "output")):
            if family == "ip" and self.chance(0.3):
                return "dnat to tcp dport map { 22 : 10.2.0.3 }"
            return f"dnat {address}" if family == "inet" else f"dnat to {address.rsplit(' ', maxsplit=1)[-1]}"
        return "masquerade" if place.endswith("postrouting") else "accept"

    def _log(self) -> str:
        return f'log prefix "{self.prefix()}" group {GROUP}'

    def _decide(self, family: str, inner: Sequence[str]) -> str:
        choices = ["accept", "accept", "drop", "drop", "return", "reject", "continue"]
        choices += ["tcp dport vmap { 22 : drop, 80 : accept }", "meta l4proto vmap { tcp : accept, udp : drop }"]
        if family != "netdev":
            choices += ["reject with tcp reset"]
            if family == "inet":
                choices += ["reject with icmp type port-unreachable", "reject with icmpv6 type no-route"]
            choices += ["nat", "nat", "tcp dport vmap @m", "ct state vmap { new : drop, established : accept }"]
        choices += [f"{self.rng.choice(('jump', 'jump', 'goto'))} {chain}" for chain in inner]
        choices += [f"tcp dport vmap {{ 22 : jump {chain}, 80 : goto {chain} }}" for chain in inner[:1]]
        return self.rng.choice(choices)

    def _act(self, family: str) -> str:
        choices = ["meta mark set 1", "meta mark set 2", "counter"]
        if family != "netdev":
            choices += ["ct mark set 1", "notrack" if self.chance(0.2) else "counter"]
        if family == "ip6":
            choices += ["ip6 hoplimit set 33", "add @d { ip6 saddr }"]
        elif family != "netdev":
            choices += ["ip ttl set 33", "ip dscp set cs1", "add @d { ip saddr }"]
            choices += ["update @d { ip saddr limit rate 1/hour burst 1 packets }"]
        return self.rng.choice(choices)

    def _condition(self, family: str) -> str:
        choices = ["meta l4proto tcp", "meta l4proto udp", "meta l4proto != tcp", "tcp dport 22", "tcp dport != 22"]
        choices += ["udp dport 53", "th dport { 22, 53 }", "meta mark 1", "meta mark != 1", "tcp flags syn"]
        choices += ['iifname "t0"', 'iifname != "t0"', "numgen inc mod 2 == 0", "limit rate 1/hour burst 2 packets"]
        choices += ["limit rate over 1/hour burst 2 packets"]
        if family != "netdev":
            choices += ['oifname "t1"', 'oifname != "t1"', "ct state new", "ct state established", "ct mark 1"]
            choices += ["ct state established,related", "ct state != new", "ct direction original"]
        if family == "ip6":
            choices += ["ip6 saddr fd01::2", "ip6 saddr != fd01::2", "ip6 daddr fd02::/64", "ip6 saddr @s"]
        else:
            choices += ["ip saddr 10.1.0.2", "ip saddr != 10.1.0.2", "ip daddr 10.2.0.0/24", "ip ttl 33"]
            choices += ["ip protocol icmp"]
        if family in ("ip", "inet"):
            choices += ["ip saddr @s", "ip saddr @d", "ip dscp cs1"]
        if family == "inet":
            choices += ["meta nfproto ipv4", "meta nfproto ipv6", "ip6 saddr fd01::2"]
        return self.rng.choice(choices)


def _consistent(parts: Sequence[str]) -> list[str]:
    """Without what nft refuses beside an earlier part: another protocol at the same place."""
    taken = dict.fromkeys(_PROTOCOLS, "")
    kept = []
    for part in filter(None, parts):
        found = {name: next((p for p in known if re.search(known[p], part)), "") for name, known in _PROTOCOLS.items()}
        if all(taken[name] in ("", found[name]) or not found[name] for name in taken):
            taken = {name: taken[name] or found[name] for name in taken}
            kept.append(part)
    return kept


#: By layer, what shows that a part is about a protocol.
_PROTOCOLS = {
    "internet": {"ip": r"\bip |ipv4|with icmp ", "ip6": r"\bip6 |ipv6|icmpv6"},
    "transport": {
        "tcp": r"\btcp (?!:)|l4proto tcp",
        "udp": r"\budp (?!:)|l4proto udp",
        "icmp": r"icmp",
        "th": r"\bth ",
    },
}


# -- iptables ---------------------------------------------------------------------------------------------------

_TABLES = {
    "raw": ("PREROUTING", "OUTPUT"),
    "mangle": ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"),
    "nat": ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"),
    "filter": ("INPUT", "FORWARD", "OUTPUT"),
    "security": ("INPUT", "FORWARD", "OUTPUT"),
}


class _Iptables(_Maker):
    def __init__(self, rng: random.Random, numbers: Iterator[int], family: str) -> None:
        super().__init__(rng, numbers)
        self.six = family == "ip6"

    def text(self) -> str:
        used = set(self.rng.sample(sorted(_TABLES), self.rng.choice((0, 1, 1, 2)))) | {"filter"}
        return "".join(self._table(table, empty=table not in used) for table in _TABLES)

    def _table(self, table: str, *, empty: bool) -> str:
        inner = [] if empty else [f"U{n}" for n in range(self.rng.choice((0, 1, 2, 3)))]
        lines = [f"*{table}"]
        for chain in _TABLES[table]:
            drops = not empty and table != "nat" and self.chance(0.2)
            lines.append(f":{chain} {'DROP' if drops else 'ACCEPT'} [0:0]")
        lines += [f":{chain} - [0:0]" for chain in inner]
        for number, chain in [*((0, chain) for chain in _TABLES[table]), *enumerate(inner, 1)]:
            lines += [] if empty else self._chain(table, chain, inner[number:])
        return "\n".join([*lines, "COMMIT", ""])

    def _chain(self, table: str, chain: str, inner: Sequence[str]) -> list[str]:
        def join(matches: Sequence[str], act: str, verdict: str) -> list[str]:
            once: dict[str, str] = {}
            for match in matches:
                # An option, and a module, can be given once in a rule.
                words = match.removeprefix("! ").split(" ")
                once.setdefault(words[1] if words[0] == "-m" else words[0], match)
            # A rule has one target: what nft does in one takes two.
            verdict = self._target(table, chain, verdict)
            targets = [f"-j {target}" if target[0] != "-" else target for target in (act, verdict) if target]
            return [" ".join([f"-A {chain}", *once.values(), target]) for target in targets]

        return self.rules(
            lambda: self._condition(chain), lambda: self._act(table), lambda: self._decide(inner), self._log, join
        )

    def _log(self) -> str:
        return f'NFLOG --nflog-prefix "{self.prefix()}" --nflog-group {GROUP}'

    def _target(self, table: str, chain: str, verdict: str) -> str:
        if table == "nat" and verdict in ("drop", "reject"):
            # iptables has no DROP in nat.
            to = "fd02::3" if self.six else "10.2.0.3"
            natting = {"PREROUTING": f"DNAT --to-destination {to}", "POSTROUTING": "MASQUERADE"}
            return natting.get(chain, "ACCEPT")
        if verdict == "reject":
            return "REJECT" if table == "filter" else "DROP"
        return {"drop": "DROP", "accept": "ACCEPT", "return": "RETURN"}.get(verdict, verdict)

    def _decide(self, inner: Sequence[str]) -> str:
        choices = ["accept", "accept", "drop", "drop", "reject", "return"]
        choices += ["NFQUEUE --queue-num 9", "NFQUEUE --queue-num 9 --queue-bypass"] if self.chance(0.1) else []
        choices += [f"{self.rng.choice(('-j', '-j', '-g'))} {chain}" for chain in inner]
        return self.rng.choice(choices)

    def _act(self, table: str) -> str:
        choices = {
            "raw": ["CT --notrack"] if self.chance(0.3) else [""],
            "mangle": ["MARK --set-xmark 0x1/0xffffffff", "MARK --set-xmark 0x2/0x2", "TOS --set-tos 0x20/0xff"],
        }
        return self.rng.choice([*choices.get(table, [""]), "CONNMARK --set-xmark 0x1/0xffffffff"])

    def _condition(self, chain: str) -> str:
        near, far = ("fd01::2/128", "fd02::/64") if self.six else ("10.1.0.2/32", "10.2.0.0/24")
        choices = ["-p tcp", "-p udp", "! -p tcp", "-p tcp -m tcp --dport 22", "-p tcp -m tcp ! --dport 22"]
        choices += ["-p udp -m udp --dport 53", "-p tcp -m multiport --dports 22,80"]
        choices += [f"-s {near}", f"! -s {near}", f"-d {far}", "-m mark --mark 0x1", "-m mark ! --mark 0x1"]
        choices += ["-m conntrack --ctstate NEW", "-m conntrack ! --ctstate NEW", "-m connmark --mark 0x1"]
        choices += ["-m conntrack --ctstate RELATED,ESTABLISHED", "-m conntrack --ctstate INVALID"]
        choices += ["-m limit --limit 1/hour --limit-burst 2", "-m statistic --mode nth --every 2 --packet 0"]
        choices += [f'-m comment --comment "{self.rng.choice(_ODD_COMMENTS)}"', "-m length --length 0:40"]
        if chain in ("PREROUTING", "INPUT", "FORWARD"):
            choices += ["-i t0", "! -i t0"]
        if chain in ("FORWARD", "OUTPUT", "POSTROUTING"):
            choices += ["-o t1", "! -o t1"]
        return self.rng.choice(choices)


def rule_set(rng: random.Random, numbers: Iterator[int], *, legacy: bool) -> Load:
    """One rule set. Each begins with an empty machine, but for the tables of the old iptables interface.

    ``legacy``: these are used; they stay as long as the network namespace does.
    """
    load = Load()
    nft, kind = _Nft(rng, numbers), rng.random()
    parts = ["flush ruleset"]
    if legacy or kind < 0.6:
        for number in range(rng.choice((1, 1, 2))):
            parts.append(nft.table(rng.choice(("inet", "inet", "ip", "ip6")), f"t{number}"))
        if rng.random() < 0.1:
            parts.append(nft.table("netdev", "n"))
    load.programs.append((("nft", "-f", "-"), "\n".join(parts) + "\n"))
    if legacy or kind > 0.45:
        family = rng.choice(("ip", "ip", "ip6"))
        tool = "ip6tables" if family == "ip6" else "iptables"
        interface = "legacy" if legacy and rng.random() < 0.8 else "nft"
        load.programs.append(((f"{tool}-{interface}-restore",), _Iptables(rng, numbers, family).text()))
        if interface == "nft" and rng.random() < 0.1:
            more = [f"add rule {family} filter FORWARD {rule}" for rule in nft.rules_of(family)]
            load.programs.append((("nft", "-f", "-"), "\n".join(more) + "\n"))
    return load
