"""Try rule sets, in network namespaces of its own: `python -m tests.firewalls SEED COUNT`, as root.

Prints one line of JSON: how many were tried, what was said of logging rules that packets came to, and what was wrong.
"""

from __future__ import annotations

import itertools
import json
import random
import sys
from collections.abc import Iterator

from kiptail.check.probes.rules import gather_rules
from tests.firewalls.judge import Tally, judge
from tests.firewalls.maker import Load, rule_set
from tests.firewalls.packets import packets
from tests.firewalls.world import World, run

#: So many share a namespace, for its table of connections fills up.
_SETS_IN_A_WORLD = 50
#: Every third world has rules of the old iptables as well, and they stay, for its tables cannot be taken away.
_LEGACY = 3


def main(seed: str, count: int) -> Tally:
    """Try ``count`` rule sets."""
    tally = Tally()
    numbers, prefixes = itertools.count(1), itertools.count(1)
    world, worlds = None, 0
    for number in range(count):
        if number % _SETS_IN_A_WORLD == 0:
            if world is not None:
                world.close()
            world, worlds = World(), worlds + 1
            sent = [packet for version in (4, 6) for packet in packets(version, numbers)]
            arrived, _ = world.send(sent)
            assert arrived == {packet.number for packet in sent}, "without rules, all packets arrive"
        assert world is not None
        load = _loaded(random.Random(f"{seed} {number}"), prefixes, tally, legacy=worlds % _LEGACY == 0)
        sent = [packet for version in (4, 6) for packet in packets(version, numbers)]
        arrived, logged = world.send(sent)
        judge(gather_rules(), arrived, logged, tally, name=f"{seed} {number}", load=load)
    if world is not None:
        world.close()
    return tally


def _loaded(rng: random.Random, prefixes: Iterator[int], tally: Tally, *, legacy: bool) -> Load:
    """A rule set that the tools take; a few are drawn that they refuse."""
    while True:
        load = rule_set(rng, prefixes, legacy=legacy)
        try:
            for command, text in load.programs:
                run(*command, stdin=text)
        except RuntimeError as error:
            tally.refused += 1
            tally.refusal = str(error)[:300]
            assert tally.refused < 10 + tally.sets / 4, tally.refusal
        else:
            return load


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(sys.argv[1], int(sys.argv[2])).as_dict()) + "\n")
