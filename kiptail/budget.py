"""How many flows an address may have for itself, and a node altogether (pure).

A port scan, or a pod with a hundred unhappy clients, would be hundreds of Events. So an address has its own
flows for each direction only up to a budget; what is beyond is folded into one. And as senders can be spoofed,
only so many new addresses a node are taken notice of. Both are decided by the order of the journal and the time
of its drops alone, and are stored with the ledger: reading the same entries again decides the same. What an owner of an
address has used up is not held against the next one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import NamedTuple

from kiptail.flow import SIDES, FlowKey

__all__ = ["Admission", "BudgetState", "Budgets", "Limits", "NodeWindow", "Window"]

#: Bytes of a flow's digest.
DIGEST = 8

#: So many addresses are remembered with when they changed hands.
MAX_OWNERS = 65_536


@dataclass(frozen=True, slots=True)
class Limits:
    """All of them are settings."""

    #: Different flows of one address and direction in a window; further ones are folded.
    flows_per_address: int = 20
    #: Addresses in a window that had no flow before; whoever comes later is told of at the other end only.
    new_addresses: int = 500
    #: How long a window lasts, in µs of event time.
    window_us: int = 600 * 1_000_000
    #: So many flows may be open; beyond, those that were quiet longest end early.
    open_flows: int = 20_000


@dataclass(slots=True)
class Window:
    """One address and side: the flows that were admitted since the window began."""

    address: str
    side: str
    since_us: int
    #: Digests of the flows' keys: one that comes back has its place already.
    flows: set[bytes]


class NodeWindow(NamedTuple):
    """The new addresses that were admitted since the window began."""

    since_us: int = 0
    #: Those whose peer was known.
    addresses: int = 0
    #: Pairs that were both new, counted apart: senders that are made up must not use up what these need.
    pairs: int = 0


@dataclass(frozen=True, slots=True)
class BudgetState:
    """What is stored of budgets: windows that are new or differ, and those that are over."""

    windows: tuple[Window, ...] = ()
    node: NodeWindow = field(default_factory=NodeWindow)
    #: Windows that began before it are over.
    over_us: int = 0


class Admission(NamedTuple):
    """What a flow gets: at each side its own Event, a part in the folded one, or nothing."""

    own: tuple[str, ...]
    folded: tuple[str, ...]


class Budgets:
    """Keeps the windows. ``now_us`` is the ledger's watermark, which never goes back."""

    def __init__(self, limits: Limits, state: BudgetState) -> None:
        self._limits = limits
        self._windows = {(window.address, window.side): window for window in state.windows}
        self._changed: dict[tuple[str, str], Window] = {}
        self._node = state.node
        self._over_us = 0
        #: When the address began to be somebody else's, or may have, within the last window or later.
        self._owners: dict[str, tuple[int, ...]] = {}

    def hand_over(self, address: str, at_us: Iterable[int], now_us: int) -> None:
        """The address was given, or given back, at these times, in place of what was known of it."""
        times = tuple(us for us in at_us if us > now_us - self._limits.window_us)
        if times and (address in self._owners or len(self._owners) < MAX_OWNERS):
            self._owners[address] = times
        else:
            self._owners.pop(address, None)

    def admit(self, key: FlowKey, told: Mapping[str, int], now_us: int, time_us: int) -> Admission:
        """Decide on a flow whose first drop was at ``time_us``; ``told``: addresses that have open flows."""
        known = [side for side in SIDES if self.knows(key.address(side), told, now_us)]
        if len(known) < len(SIDES) and self._takes(len(SIDES) - len(known), now_us):
            known = [*SIDES]
        own = tuple(side for side in known if self.charge(key, side, now_us, time_us))
        return Admission(own, tuple(side for side in known if side not in own))

    def knows(self, address: str, told: Mapping[str, int], now_us: int) -> bool:
        """Whether the address was taken notice of and still is."""
        if told.get(address):
            return True
        windows = (self._windows.get((address, side)) for side in SIDES)
        return any(window is not None and self._lasts(window.since_us, now_us) for window in windows)

    def forget(self, now_us: int) -> None:
        """Let windows go that are over; deciding makes no difference between them and none."""
        self._over_us = now_us - self._limits.window_us
        for register in (self._windows, self._changed):
            for place in [place for place, window in register.items() if window.since_us < self._over_us]:
                del register[place]
        for address in [address for address, times in self._owners.items() if times[-1] < self._over_us]:
            del self._owners[address]

    def changes(self) -> BudgetState:
        """What is not stored yet."""
        return BudgetState(tuple(self._changed.values()), self._node, self._over_us)

    def committed(self) -> None:
        """The latest :meth:`changes` are stored."""
        self._changed = {}

    def _takes(self, strangers: int, now_us: int) -> bool:
        """Whether one new address (with a known peer), or a pair of them, finds room."""
        node = self._node
        if not self._lasts(node.since_us, now_us):
            node = NodeWindow(now_us)
        if strangers == 1:
            takes, node = node.addresses < self._limits.new_addresses, node._replace(addresses=node.addresses + 1)
        else:
            takes, node = node.pairs < self._limits.new_addresses, node._replace(pairs=node.pairs + 1)
        if takes:
            self._node = node
        return takes

    def charge(self, key: FlowKey, side: str, now_us: int, time_us: int) -> bool:
        """Whether the flow, opened at ``time_us``, has a place in the window of its address, or gets one."""
        place = (key.address(side), side)
        digest = blake2b(key.identity(), digest_size=DIGEST).digest()
        owner_us = max((at_us for at_us in self._owners.get(place[0], ()) if at_us <= time_us), default=0)
        window = self._windows.get(place)
        if window is None or window.since_us < owner_us or not self._lasts(window.since_us, now_us):
            window = Window(*place, now_us, set())
        if digest in window.flows:
            return True
        if len(window.flows) >= self._limits.flows_per_address:
            return False
        window.flows.add(digest)
        self._windows[place] = self._changed[place] = window
        return True

    def _lasts(self, since_us: int, now_us: int) -> bool:
        return now_us - since_us <= self._limits.window_us
