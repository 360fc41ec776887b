"""Single parts of the hot path, in this process."""

from __future__ import annotations

import time
from collections.abc import Sequence

from bench.programs import BenchError
from kiptail.flows.budget import Limits
from kiptail.flows.flow import flow_key
from kiptail.flows.ledger import Ledger
from kiptail.netfilter.parser import PacketDrop, Unparsed, parse
from kiptail.netfilter.prefixes import PrefixMatch, Verdict
from tests.corpus import samples

__all__ = ["count_drops", "drops_of", "parse_lines", "real_lines"]

#: The corpus' files with lines as a kernel wrote them; the others are made up to be hard.
_REAL = ("netfilter.txt:", "published.txt:")


def real_lines() -> list[str]:
    """The corpus' real log lines, all of which say which packet was dropped."""
    return [sample.line for sample in samples() if sample.where.startswith(_REAL)]


def parse_lines(lines: Sequence[str], rounds: int) -> float:
    """Lines a second; raises BenchError when one is not understood."""
    begin = time.perf_counter()
    for _ in range(rounds):
        for line in lines:
            parse(line)
    seconds = time.perf_counter() - begin
    if any(isinstance(parse(line), Unparsed) for line in lines):
        raise BenchError("a real line of the corpus is not understood")
    return rounds * len(lines) / seconds


def drops_of(flows: int, drops: int) -> list[PacketDrop]:
    """``drops`` drops, each flow's turn after the other's; as from the parser, none is the same object twice."""
    return [
        PacketDrop(
            "calico-drop:", "cali1", "eth0", f"10.{244 + flow // 62_500}.{flow // 250 % 250}.{2 + flow % 250}",
            f"192.0.2.{1 + flow % 50}", "TCP", 32_768 + drop % 28_000, 8_080, None, None, tcp_ack=False,
        )
        for drop in range(drops)
        for flow in (drop % flows,)
    ]  # fmt: skip


def count_drops(drops: Sequence[PacketDrop]) -> float:
    """Drops a second from the parser's reading to the flow's count; raises BenchError when the counts do not add up."""
    # Budgets that are not reached: what is measured is counting, not folding.
    ledger = Ledger(limits=Limits(flows_per_address=1_000, new_addresses=100_000))
    prefix = PrefixMatch("calico-drop:", Verdict.DROP, limited=False)
    begin = time.perf_counter()
    for time_us, drop in enumerate(drops):
        ledger.add(flow_key(drop, prefix), time_us)
    seconds = time.perf_counter() - begin
    if sum(flow.count for flow in ledger.changes().flows) != len(drops):
        raise BenchError("the ledger's counts do not add up")
    return len(drops) / seconds
